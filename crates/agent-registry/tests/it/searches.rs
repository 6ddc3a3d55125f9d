//! What may stand in `search`.

use serde_json::json;

use crate::harness::World;

#[tokio::test]
async fn a_search_of_nothing_but_quotes_costs_no_more_than_its_length() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    app.agent(&mentor, json!({ "title": "a" })).await;
    // A list has three seconds.
    let search = format!("a{}", "%22".repeat(20_000));
    assert_eq!(app.get(&format!("periodic-agents/?search={search}")).await.ok(200)["count"], 1);
    assert_eq!(app.get(&format!("periodic-agent-logs/?search={search}")).await.ok(200)["count"], 0);
}
