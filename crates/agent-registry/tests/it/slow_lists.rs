//! Lists that would take too long, of tables that a test makes slow.

use serde_json::json;

use crate::harness::{ORG, World};

/// Puts a view in the place of a table, which has these columns and takes very long to read: on PostgreSQL it sleeps, on
/// SQLite it has very many rows.
fn slow_down(world: &World, table: &str, columns: &[&str]) {
    let away = format!("ALTER TABLE {table} RENAME TO kept;");
    // Materialized, so that no filter gets beneath it.
    let slept = "WITH slept AS MATERIALIZED (SELECT kept.* FROM kept, pg_sleep(20)) SELECT * FROM slept";
    let sleeps = format!("CREATE VIEW {table} AS {slept}");
    let columns = columns.iter().map(|column| format!(", (SELECT {column} FROM kept) AS {column}"));
    let many = format!(
        "CREATE VIEW {table} AS
         WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 100000000)
         SELECT n AS id{} FROM many",
        columns.collect::<String>()
    );
    world.execute(&[away.as_str(), &sleeps].concat(), &[away.as_str(), &many].concat());
}

#[tokio::test]
async fn a_list_of_mentors_that_takes_too_long_is_given_up() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    app.post("", json!({ "name": "Ada", "metadata": { "team": "a" } })).await.ok(201);
    slow_down(&world, "mentors", &["organisation", "deleted_at", "metadata"]);
    for list in ["?metadata_key=team&metadata_value=b", "?is_featured=true"] {
        let error = app.get(list).await.ok(400);
        assert!(error["detail"].as_str().unwrap().contains("longer than 3 seconds"), "{error}");
    }
}

#[tokio::test]
async fn an_audit_log_that_takes_too_long_is_given_up() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    app.mentor().await;
    slow_down(&world, "audit_log", &["organisation", "username", "action", "subject", "subject_key"]);
    let admin = format!("Bearer {}", world.admin_token());
    for filter in ["username=nobody", "action=agent.deleted", "subject=agent:7"] {
        let list = format!("/api/core/orgs/{ORG}/audit-log/?{filter}");
        let error = app.call_as(&admin, "GET", &list, None).await.ok(400);
        assert!(error["detail"].as_str().unwrap().contains("from and to"), "{error}");
    }
}
