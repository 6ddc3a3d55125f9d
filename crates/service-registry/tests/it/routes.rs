//! Every path of the API answers in its shape, also those that lead nowhere.

use serde_json::json;

use crate::harness::World;

#[tokio::test]
async fn a_path_that_leads_nowhere_is_not_found() {
    let world = World::new();
    let app = world.open().await;
    for path in [
        "",
        "/",
        "/service",
        "/services//",
        "/services/service-sg/a/b/c",
        "/services/a/b",
        "/service-groups/public/services/x",
        "/function-groups/5e7a6a0b-1c11-4a53-8f2c-111111111111/services/x",
        "/functions/a/b/c",
        "/engine/credit/info",
        "/..%2fservices",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = app.call_as(&world.ann(), method, path, None).await;
            assert_eq!(answer.headers["content-type"], "application/json", "{method} {path}");
            assert_eq!(answer.ok(404), json!({ "detail": "Not Found", "code": "not_found" }), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn another_method_is_refused_and_told_which_there_are() {
    let world = World::new();
    let app = world.open().await;
    let id = "5e7a6a0b-1c11-4a53-8f2c-111111111111";
    for (path, methods) in [
        ("/services".to_owned(), "GET, POST, PUT, HEAD"),
        ("/services/service-sg".to_owned(), "POST"),
        (format!("/services/service-sg/{id}/{id}"), "DELETE"),
        (format!("/services/{id}"), "GET, DELETE, HEAD"),
        (format!("/services/{id}/groups"), "GET, HEAD"),
        ("/functions".to_owned(), "GET, HEAD"),
        ("/service-groups".to_owned(), "GET, POST, HEAD"),
        ("/function-groups/public".to_owned(), "GET, HEAD"),
        (format!("/service-groups/{id}"), "GET, PUT, DELETE, HEAD"),
        (format!("/function-groups/{id}/functions"), "GET, HEAD"),
    ] {
        for path in [path.clone(), format!("{path}/")] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
                if methods.split(", ").any(|known| known == method) {
                    continue;
                }
                let answer = app.call_as(&world.ann(), method, &path, None).await;
                let allowed: Vec<&str> = answer.headers["allow"].to_str().unwrap().split(", ").collect();
                let mut expected: Vec<&str> = methods.split(", ").collect();
                expected.sort_unstable();
                let mut sorted = allowed.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, expected, "{method} {path}");
                assert_eq!(
                    answer.ok(405),
                    json!({ "detail": "Method Not Allowed", "code": "method_not_allowed" }),
                    "{method} {path}"
                );
            }
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let world = World::new();
    let app = world.open().await;
    let answer = app.call_as(&world.ann(), "HEAD", "/services/", None).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}
