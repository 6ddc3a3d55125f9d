//! The API's document and the page that shows it.

use crate::harness::World;

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
