//! The API's document and the page that shows it.

use serde_json::json;

use crate::harness::{ORG, USER, World};

#[tokio::test]
async fn the_document_and_its_page_are_open_to_everyone_and_come_from_nowhere_else() {
    let world = World::new().await;
    let app = world.open().await;
    let document = app.send("GET", "/openapi.json", &[], Vec::new()).await.ok(200);
    assert_eq!(document["openapi"], "3.1.0");
    let refused = app.send("TRACE", "/.well-known/jwks.json", &[], Vec::new()).await;
    assert_eq!((refused.status.as_u16(), &refused.headers["allow"]), (405, &"GET, HEAD".parse().unwrap()));
    let page = app.send("GET", "/docs", &[], Vec::new()).await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    assert!(!page.text.contains("//"), "nothing is loaded from elsewhere: {}", page.text);
    let files: Vec<&str> = page.text.split('"').filter(|text| text.starts_with("/docs/")).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let answer = app.send("GET", file, &[], Vec::new()).await;
        assert_eq!((answer.status.as_u16(), answer.text.is_empty()), (200, false), "{file}");
    }
}

#[tokio::test]
async fn what_an_organisation_that_is_being_erased_refuses_is_in_the_document() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    app.organisation(Some(json!({}))).await.ok(200);
    let admin = format!("Bearer {}", world.admin_token());
    app.call_as(&admin, "DELETE", &format!("/api/core/orgs/{ORG}/"), None).await.ok(202);
    let document = app.send("GET", "/openapi.json", &[], Vec::new()).await.ok(200);
    let of_user = "/api/ai-mentor/orgs/{org}/users/{user_id}/";
    let revoked = "/api/core/orgs/{org}/users/{name}/";
    for (method, path, body) in [
        ("POST", format!("{of_user}periodic-agents/"), json!({ "mentor": 1, "title": "T", "task": { "crontab": {} } })),
        ("POST", of_user.to_owned(), json!({ "name": "Ada" })),
        (
            "POST",
            format!("{of_user}mentor-with-settings/"),
            json!({ "template_name": "ai-mentor", "new_mentor_name": "Ada" }),
        ),
        (
            "POST",
            format!("{of_user}create-mentor-wizard/"),
            json!({ "name": "Ada", "description": "Explains the weather of the week." }),
        ),
        ("PATCH", "/api/core/orgs/{org}/".to_owned(), json!({})),
        ("POST", format!("{revoked}revoke/"), json!({})),
        ("POST", format!("{revoked}restore/"), json!({})),
        ("POST", "/api/core/platform/api-tokens/".to_owned(), json!({ "name": "n", "platform_key": ORG })),
    ] {
        let place = path.replace("{org}", ORG).replace("{user_id}", USER).replace("{name}", "ann");
        let refused = app.call_as(&admin, method, &place, Some(body)).await.ok(409);
        let documented = &document["paths"][&path][method.to_lowercase()]["responses"]["409"];
        let example = &documented["content"]["application/json"]["example"];
        assert_eq!(*example, refused, "{method} {path}");
    }
}
