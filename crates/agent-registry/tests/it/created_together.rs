//! Agents that are created at the same moment are stored together, and each as if it were alone.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{Answer, App, World, path_in};

fn agent(mentor: &Value, title: &str) -> Value {
    json!({ "mentor": mentor["id"], "title": title, "callback_secret": title, "task": { "crontab": { "minute": "5" } } })
}

async fn create(app: &App<'_>, agents: Vec<Value>) -> Vec<Answer> {
    join_all(agents.into_iter().map(async |agent| app.post("periodic-agents/", agent).await)).await
}

async fn count(app: &App<'_>) -> Value {
    app.get("periodic-agents/?page_size=1").await.ok(200)["count"].clone()
}

#[tokio::test]
async fn each_is_there_with_all_that_belongs_to_it() {
    let world = World::new().await;
    let app = world.open().await;
    let (one, other) = (app.mentor().await, app.mentor().await);
    let audited = world.rows("audit_log");
    let wanted = (0..40).map(|n| agent(if n % 2 == 0 { &one } else { &other }, &format!("Agent {n}"))).collect();
    let answers: Vec<Value> = create(&app, wanted).await.into_iter().map(|answer| answer.ok(201)).collect();
    for (n, answer) in answers.iter().enumerate() {
        let title = format!("Agent {n}");
        assert_eq!((&answer["title"], &answer["callback_secret"]), (&json!(title), &json!(title)));
        let stored = app.get(&format!("periodic-agents/{}/", answer["id"])).await.ok(200);
        let mentor = if n % 2 == 0 { &one } else { &other };
        assert_eq!((&stored["title"], &stored["mentor"]["id"]), (&json!(title), &mentor["id"]));
        assert_eq!(stored["next_fire_time"], answer["next_fire_time"]);
        assert!(stored["next_fire_time"].is_string(), "{stored}");
    }
    let ids: HashSet<i64> = answers.iter().map(|answer| answer["id"].as_i64().unwrap()).collect();
    assert_eq!((ids.len(), world.rows("agents"), world.rows("agent_activity")), (40, 40, 40));
    assert_eq!(world.rows("audit_log") - audited, 40);
    if world.postgres().is_some() {
        let transactions: HashSet<Vec<u8>> = world.column("agents", "xmin::text").into_iter().collect();
        assert!(transactions.len() < 40, "each by a transaction of its own");
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_is_told_to_that_one() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    app.organisation(Some(json!({ "limits": { "agents_max": 15 } }))).await.ok(200);
    let mut wanted: Vec<Value> = (0..30).map(|n| agent(&mentor, &format!("Agent {n}"))).collect();
    for n in (0..30).step_by(3) {
        wanted[n]["task"]["crontab"]["minute"] = json!(format!("{}", 60 + n));
    }
    let answers = create(&app, wanted).await;
    let (mut created, mut refused) = (0, 0);
    for (n, answer) in answers.into_iter().enumerate() {
        match answer.status.as_u16() {
            201 => created += 1,
            403 => assert_eq!(answer.ok(403)["code"], "agents_max_reached"),
            _ => {
                let faults = answer.ok(400)["task"]["crontab"]["minute"].to_string();
                assert!(faults.contains(&(60 + n).to_string()), "of {n}: {faults}");
                refused += 1;
            }
        }
    }
    // Who comes when there is no room left is told that, whatever else is wrong.
    assert_eq!(created, 15);
    assert!(refused > 0);
    assert_eq!(count(&app).await, 15);
}

#[tokio::test]
async fn one_that_cannot_be_stored_takes_no_other_with_it() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    world.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no such agent'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON agents FOR EACH ROW WHEN (NEW.title = 'Poison') EXECUTE FUNCTION refuse()",
        "CREATE TRIGGER refuse BEFORE INSERT ON agents WHEN NEW.title = 'Poison'
         BEGIN SELECT RAISE(ABORT, 'no such agent'); END",
    );
    let titles = (0..20).map(|n| if n == 13 { "Poison".to_owned() } else { format!("Agent {n}") });
    let answers = create(&app, titles.map(|title| agent(&mentor, &title)).collect()).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.status.as_u16(), if n == 13 { 500 } else { 201 }, "of {n}");
    }
    assert_eq!(count(&app).await, 19);
    assert_eq!((world.rows("agents"), world.rows("agent_activity")), (19, 19));
}

#[tokio::test]
async fn where_all_are_refused_no_organisation_comes_into_being() {
    let world = World::new().await;
    let app = world.open().await;
    app.mentor().await;
    let organisations = world.rows("organisations");
    let authorization = format!("Bearer {}", world.token("eve", Some("other"), Role::TenantAdmin));
    let path = path_in("other", "eve", "periodic-agents/");
    let wanted = || app.call_as(&authorization, "POST", &path, Some(json!({ "mentor": 1, "task": { "crontab": {} } })));
    for answer in join_all((0..10).map(|_| wanted())).await {
        assert!(answer.ok(400)["mentor"].is_array());
    }
    assert_eq!(world.rows("organisations"), organisations);
}
