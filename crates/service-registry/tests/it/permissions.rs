//! Who may do what: every caller, every operation, and what each is answered. Whose things one sees is in `access`.

use std::collections::BTreeSet;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use service_kit::auth::Role;

use crate::harness::World;

const UNKNOWN: &str = "5e7a6a0b-1c11-4a53-8f2c-111111111111";

/// Every operation, and what somebody who is let in is answered where nothing is registered.
const TABLE: [(&str, &str, u16); 24] = [
    ("GET", "/services", 200),
    ("POST", "/services", 422),
    ("PUT", "/services", 422),
    ("POST", "/services/service-sg", 422),
    ("DELETE", "/services/service-sg/{service_id}/{group_id}", 404),
    ("GET", "/services/{service_id}", 404),
    ("DELETE", "/services/{service_id}", 404),
    ("GET", "/functions", 200),
    ("GET", "/services/{service_id}/groups", 404),
    ("GET", "/function/{service_id}/groups", 404),
    ("GET", "/service-groups", 200),
    ("POST", "/service-groups", 422),
    ("GET", "/function-groups", 200),
    ("POST", "/function-groups", 422),
    ("GET", "/service-groups/public", 200),
    ("GET", "/function-groups/public", 200),
    ("GET", "/service-groups/{group_id}", 404),
    ("PUT", "/service-groups/{group_id}", 422),
    ("DELETE", "/service-groups/{group_id}", 404),
    ("GET", "/function-groups/{group_id}", 404),
    ("PUT", "/function-groups/{group_id}", 422),
    ("DELETE", "/function-groups/{group_id}", 404),
    ("GET", "/service-groups/{group_id}/services", 404),
    ("GET", "/function-groups/{group_id}/functions", 404),
];

#[test]
fn the_table_has_every_operation_that_exists_and_no_other() {
    let operations = service_registry::operations();
    let mounted: BTreeSet<(&str, &str)> =
        operations.iter().map(|(method, path)| (method.as_str(), path.strip_prefix("/v1beta1").unwrap())).collect();
    assert_eq!(mounted, TABLE.into_iter().map(|(method, path, _)| (method, path)).collect());
}

#[tokio::test]
async fn every_caller_is_answered_as_the_table_says_by_every_operation() {
    let world = World::new();
    let app = world.open().await;
    let exp = world.clock.now().timestamp() + 3600;
    let session = json!({ "sub": "ann", "org": "acme", "exp": exp, "act": { "sub": "carillon" } });
    let secret = EncodingKey::from_secret(world.auth.jwt_secret.expose().as_bytes());
    let session = jsonwebtoken::encode(&Header::default(), &session, &secret).unwrap();
    let let_in = |org: Option<&str>, role: Role| (Some(format!("Bearer {}", world.token("ann", org, role))), None);
    let callers = [
        (None, Some(401)),
        (Some("Basic YTpi".to_owned()), Some(401)),
        (Some(format!("Api-Token {}", "0".repeat(64))), Some(401)),
        (Some("Bearer eyJ.e30.x".to_owned()), Some(401)),
        (Some(format!("Bearer {session}")), Some(403)),
        let_in(Some("acme"), Role::None),
        let_in(Some("acme"), Role::TenantAdmin),
        let_in(None, Role::None),
        let_in(None, Role::PlatformAdmin),
    ];
    for (nth, (authorization, refused)) in callers.into_iter().enumerate() {
        for (method, path, status) in TABLE.into_iter() {
            let place = path.replace("{service_id}", UNKNOWN).replace("{group_id}", UNKNOWN);
            let headers: Vec<_> = authorization.as_deref().map(|value| ("authorization", value)).into_iter().collect();
            let body = if matches!(method, "POST" | "PUT") { b"{}".to_vec() } else { Vec::new() };
            let answer = app.send(method, &place, &headers, body).await;
            assert_eq!(answer.status.as_u16(), refused.unwrap_or(status), "{nth}: {method} {path}: {}", answer.text);
        }
    }
}
