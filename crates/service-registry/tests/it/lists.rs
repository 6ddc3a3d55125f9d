//! Lists: searched, filtered, in parts.

use serde_json::json;

use crate::harness::{App, OTHER_AGENT, World, names};

async fn listed(app: &App<'_>, query: &str) -> Vec<String> {
    let list = app.get(&format!("/services?{query}")).await.ok(200);
    names(&list).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn search_finds_every_word_in_name_or_description_whatever_its_case() {
    let world = World::new();
    let app = world.open().await;
    app.register(json!({ "name": "Stock price", "description": "Prices of SHARES, 100% exact" })).await;
    app.register(json!({ "name": "Zürich flights", "description": "Offers by_date" })).await;
    for (search, found) in [
        ("stock", vec!["Stock price"]),
        ("STOCK+shares", vec!["Stock price"]),
        ("stock+flights", vec![]),
        ("Z%C3%9CRICH", vec!["Zürich flights"]),
        ("100%25", vec!["Stock price"]),
        ("%25", vec!["Stock price"]),
        ("_", vec!["Zürich flights"]),
        ("%5C", vec![]),
        ("'", vec![]),
        ("", vec!["Zürich flights", "Stock price"]),
        ("++", vec!["Zürich flights", "Stock price"]),
    ] {
        world.advance(1);
        let mut expected: Vec<&str> = found;
        let mut actual = listed(&app, &format!("search={search}")).await;
        expected.sort_unstable();
        actual.sort_unstable();
        assert_eq!(actual, expected, "{search}");
    }
    assert_eq!(listed(&app, &format!("search={}", "e+".repeat(127))).await.len(), 2, "many words");
}

#[tokio::test]
async fn filters_narrow_together() {
    let world = World::new();
    let app = world.open().await;
    let a = app.register(json!({ "name": "A" })).await;
    let b = app.register(json!({ "name": "B", "taskType": "subtask" })).await;
    app.register(json!({ "name": "C", "agent": OTHER_AGENT })).await;
    let group = app.group("G", true).await;
    app.connect(&a, &group).await;
    app.connect(&b, &group).await;
    let mut both = listed(&app, &format!("group={group}")).await;
    both.sort_unstable();
    assert_eq!(both, ["A", "B"]);
    assert_eq!(listed(&app, &format!("group={group}&taskType=subtask")).await, ["B"]);
    assert_eq!(listed(&app, &format!("agent={OTHER_AGENT}")).await, ["C"]);
    assert_eq!(listed(&app, &format!("agent={OTHER_AGENT}&group={group}")).await, [""; 0]);
    assert_eq!(listed(&app, &format!("group={a}")).await, [""; 0], "no such group");
    assert_eq!(listed(&app, "unknown=x&group=&taskType=&agent=&limit=&offset=").await.len(), 3);
}

#[tokio::test]
async fn parts_of_a_list_meet_without_a_gap() {
    let world = World::new();
    let app = world.open().await;
    for name in ["one", "two", "three", "four", "five"] {
        app.register(json!({ "name": name })).await;
        app.group(name, false).await;
        world.advance(1);
    }
    for path in ["/services", "/functions", "/service-groups", "/service-groups/public", "/function-groups/public/"] {
        let mut all = Vec::new();
        for offset in [0, 2, 4, 6] {
            let part = app.get(&format!("{path}?limit=2&offset={offset}")).await.ok(200);
            all.extend(names(&part).into_iter().map(str::to_owned));
        }
        assert_eq!(all, ["five", "four", "three", "two", "one"], "{path}");
        let far = app.get(&format!("{path}?offset=9223372036854775807")).await.ok(200);
        assert_eq!(far, json!([]), "{path}");
    }
}
