//! What a search of the run log finds.

use model::run::{RunResult, RunState};
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{ORG, World};

#[tokio::test]
async fn whatever_letters_a_log_or_a_title_has_it_is_found_as_it_is_written() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let titled = app.agent(&mentor, json!({ "title": "Übersicht ΟΔΟΣ" })).await["id"].as_i64().unwrap();
    let other = app.agent(&mentor, json!({ "title": "Daily" })).await["id"].as_i64().unwrap();
    let now = world.clock.now();
    let mut record = pending_run(7, ORG, other, now);
    (record.state, record.ended_at) = (RunState::Success, Some(now));
    record.result =
        Some(RunResult { log: "Nothing but Ärger in İstanbul: ÖL, ΟΔΟΣ.".into(), ..RunResult::default() });
    world.record(vec![record, pending_run(8, ORG, titled, now)]).await;
    world.until_rows("logs", 2).await;
    for (term, ids) in [
        ("Ärger", vec![7]),
        ("NOTHING but", vec![7]),
        ("İSTANBUL", vec![7]),
        ("ÖL", vec![7]),
        ("ΟΔΟΣ", vec![8, 7]),
        ("Übersicht", vec![8]),
        ("ÜBERSICHT", vec![8]),
        ("Ürger", vec![]),
    ] {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("search", term).finish();
        let page = app.get(&format!("periodic-agent-logs/?{query}")).await.ok(200);
        let found: Vec<i64> =
            page["results"].as_array().unwrap().iter().map(|log| log["id"].as_i64().unwrap()).collect();
        assert_eq!(found, ids, "{term}");
    }
}
