//! How PostgreSQL reads the tables for each filter of the lists: never from end to end. SQLite serves too few to tell.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use service_kit::auth::Role;
use test_kit::Scans;

use crate::harness::{World, path_in};

/// The data of `make bench-lists`, which measures the same at its true size.
const LOAD: &str = include_str!("../../../bench/src/lists/load.sql");
const AGENTS: &str = "10000";
const ORGANISATION: &str = "half";
const READ: [&str; 4] = ["agent_activity", "agents", "log_bodies", "logs"];

/// Each filter, alone, and first pages without one. `{…}` stands for something that exists.
const LISTS: [&str; 25] = [
    "periodic-agents/?",
    "periodic-agents/?page=20",
    "periodic-agents/?enabled=true",
    "periodic-agents/?enabled=false",
    "periodic-agents/?mentor_id={mentor}",
    "periodic-agents/?parent_mentor_id=7",
    "periodic-agents/?parent_session_id=session-7",
    "periodic-agents/?previous_agent={previous}",
    "periodic-agents/?previous_agent_status=error",
    "periodic-agents/?status=success",
    "periodic-agents/?status=error",
    "periodic-agents/?status=running",
    "periodic-agents/?status=pending",
    "periodic-agents/?title=Agent 4711",
    "periodic-agents/?username=user-7",
    "periodic-agents/statistics/?",
    "periodic-agent-logs/?",
    "periodic-agent-logs/?mentor_id={mentor}",
    "periodic-agent-logs/?parent_mentor_id=7",
    "periodic-agent-logs/?parent_session_id=session-7",
    "periodic-agent-logs/?periodic_agent={previous}",
    "periodic-agent-logs/?status=success",
    "periodic-agent-logs/?status=error",
    "periodic-agent-logs/?status=running",
    "periodic-agent-logs/?username=user-7",
];

#[tokio::test]
async fn no_filter_of_a_list_reads_a_table_from_end_to_end() {
    let world = World::new().await;
    let Some(url) = world.postgres() else { return };
    world.open_with(false).await.stop().await;
    let mut connection = PgConnection::establish(url).unwrap();
    connection.batch_execute(&LOAD.replace(":agents", AGENTS)).unwrap();
    // As autovacuum does by and by.
    connection.batch_execute("VACUUM ANALYZE").unwrap();
    drop(connection);
    let before = Scans::of_all(url, &READ).await;

    let app = world.open_with(false).await;
    let token = format!("Bearer {}", world.token("user-1", Some(ORGANISATION), Role::TenantAdmin));
    let get = async |list: &str| app.call_as(&token, "GET", &path_in(ORGANISATION, "user-1", list), None).await.ok(200);
    let some = get("periodic-agents/?previous_agent_status=error&page_size=1").await;
    let mentor = some["results"][0]["mentor"]["unique_id"].as_str().unwrap();
    for list in LISTS {
        // Of those that others follow, by the load.
        let found = get(&list.replace("{mentor}", mentor).replace("{previous}", "97")).await;
        assert!(found["count"].as_i64().or(found["total_tasks"].as_i64()).unwrap() > 0, "{list} finds nothing");
    }
    app.stop().await;

    Scans::assert_by_index(before, url).await;
}
