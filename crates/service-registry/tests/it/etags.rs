//! `ETag` and `If-None-Match`.

use reqwest::header::ETAG;
use serde_json::json;

use crate::harness::{Answer, App, World};

async fn get_with(app: &App<'_>, path: &str, if_none_match: &str) -> Answer {
    let authorization = format!("Bearer {}", app.world.ann());
    app.send("GET", path, &[("authorization", &authorization), ("if-none-match", if_none_match)], Vec::new()).await
}

#[tokio::test]
async fn whatever_is_read_is_not_sent_again_to_who_has_it_until_it_changes() {
    let world = World::new();
    let app = world.open().await;
    let service = app.register(json!({ "name": "S" })).await;
    let group = app.group("G", false).await;
    app.connect(&service, &group).await;
    let (service, group) = (format!("/services/{service}"), format!("/service-groups/{group}"));
    for path in [
        "/services",
        "/services?search=S",
        "/functions",
        &service,
        &format!("{service}/groups"),
        "/service-groups",
        "/service-groups/public",
        &group,
        &format!("{group}/services"),
    ] {
        let first = app.get(path).await;
        let tag = first.headers[ETAG].to_str().unwrap().to_owned();
        let body = first.ok(200);
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = get_with(&app, path, &known).await;
            assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path} {known}");
            assert_eq!(again.headers[ETAG].to_str().unwrap(), tag);
        }
        for other in ["\"other\"", "no tag", ""] {
            assert_eq!(get_with(&app, path, other).await.ok(200), body, "{path} {other}");
        }
    }
    let tag = app.get(&group).await.headers[ETAG].to_str().unwrap().to_owned();
    app.put(&group, json!({ "name": "H", "isPrivate": false })).await.ok(200);
    assert_eq!(get_with(&app, &group, &tag).await.ok(200)["name"], "H");
}

#[tokio::test]
async fn what_is_not_ones_own_is_404_whatever_one_has() {
    let world = World::new();
    let app = world.open().await;
    let unknown = "5e7a6a0b-1c11-4a53-8f2c-111111111111";
    get_with(&app, &format!("/services/{unknown}"), "*").await.ok(404);
    get_with(&app, &format!("/service-groups/{unknown}"), "*").await.ok(404);
}
