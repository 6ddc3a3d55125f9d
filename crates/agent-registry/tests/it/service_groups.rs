//! The service groups that a mentor names.

use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test]
async fn a_mentor_names_at_most_a_hundred_service_groups() {
    let world = World::new().await;
    let app = world.open().await;
    let groups = |count: u128| -> Vec<Value> {
        (0..count).map(|number| json!(uuid::Uuid::from_u128(number).to_string())).collect()
    };
    let mentor = app.post("", json!({ "name": "Ada", "service_groups": groups(100) })).await.ok(201);
    assert_eq!(mentor["service_groups"], json!(groups(100)));
    let expected = json!({ "service_groups": ["Ensure this field has no more than 100 elements."] });
    let place = format!("{}/", mentor["slug"].as_str().unwrap());
    assert_eq!(app.patch(&place, json!({ "service_groups": groups(101) })).await.ok(400), expected);
    let whole = json!({ "name": "Ada", "service_groups": groups(101) });
    assert_eq!(app.post("", whole.clone()).await.ok(400), expected);
    assert_eq!(app.put(&place, whole).await.ok(400), expected);
    assert_eq!(app.get(&format!("mentors/{place}")).await.ok(200)["service_groups"], json!(groups(100)));
}
