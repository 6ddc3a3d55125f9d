//! Who may do what: every caller, every operation, and what each is answered.

use std::collections::BTreeSet;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{App, ORG, USER, World};

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Everyone.
    Open,
    /// Administrators of the organisation, and its keys.
    Read,
    /// The same without keys that may only read.
    Write,
    /// Every administrator, of what is theirs.
    Own,
    /// Platform administrators with a token.
    Operate,
}
use Rule::{Open, Operate, Own, Read, Write};

const P: &str = "/api/ai-mentor/orgs/{org}/users/{user_id}";

/// Every operation: who may do it, and what they are answered in a world where nothing is but the organisation. A path
/// that begins with a slash is under no user.
const TABLE: [(&str, &str, Rule, u16); 49] = [
    ("GET", "/.well-known/jwks.json", Open, 200),
    ("POST", "mentor-with-settings/", Write, 400),
    ("GET", "available-template-mentors/", Read, 200),
    ("GET", "mentors/{mentor}/", Read, 404),
    ("GET", "periodic-agents/", Read, 200),
    ("POST", "periodic-agents/", Write, 400),
    ("GET", "periodic-agents/statistics/", Read, 200),
    ("GET", "periodic-agents/{id}/", Read, 404),
    ("PUT", "periodic-agents/{id}/", Write, 404),
    ("PATCH", "periodic-agents/{id}/", Write, 404),
    ("DELETE", "periodic-agents/{id}/", Write, 404),
    ("POST", "periodic-agents/{id}/run/", Write, 404),
    ("POST", "periodic-agents/{id}/rotate-secret/", Write, 404),
    ("POST", "periodic-agents/{id}/pause/", Write, 404),
    ("POST", "periodic-agents/{id}/resume/", Write, 404),
    ("GET", "periodic-agents/{id}/ticks/", Read, 404),
    ("GET", "periodic-agents/{id}/upcoming/", Read, 404),
    ("POST", "crontab/preview/", Write, 400),
    ("GET", "periodic-agent-logs/", Read, 200),
    ("GET", "periodic-agent-logs/{id}/", Read, 404),
    ("POST", "periodic-agent-logs/{id}/cancel/", Write, 404),
    ("POST", "create-mentor-wizard/", Write, 400),
    ("GET", "{mentor}/", Read, 404),
    ("PUT", "{mentor}/", Write, 404),
    ("PATCH", "{mentor}/", Write, 404),
    ("DELETE", "{mentor}/", Write, 404),
    ("GET", "", Read, 200),
    ("POST", "", Write, 400),
    // Open to whoever has the link, which this is not.
    ("GET", "/api/callbacks/orgs/{org}/logs/{id}/", Open, 404),
    ("GET", "/api/callbacks/orgs/{org}/deliveries/", Read, 200),
    ("GET", "/api/callbacks/orgs/{org}/deliveries/{id}/", Read, 200),
    ("POST", "/api/callbacks/orgs/{org}/deliveries/{id}/replay/", Write, 200),
    ("POST", "/api/callbacks/orgs/{org}/replays/", Write, 400),
    ("GET", "/api/callbacks/orgs/{org}/replays/{id}/", Read, 200),
    ("GET", "/api/callbacks/orgs/{org}/endpoints/{id}/", Read, 200),
    ("POST", "/api/callbacks/orgs/{org}/endpoints/{id}/test/", Write, 200),
    ("POST", "/api/callbacks/orgs/{org}/endpoints/{id}/enable/", Write, 200),
    ("GET", "/api/core/platform/api-tokens/", Read, 200),
    ("POST", "/api/core/platform/api-tokens/", Write, 400),
    ("DELETE", "/api/core/platform/api-tokens/{name}/", Write, 404),
    ("GET", "/api/core/orgs/", Own, 200),
    ("GET", "/api/core/orgs/{org}/", Read, 200),
    ("PATCH", "/api/core/orgs/{org}/", Write, 200),
    ("GET", "/api/core/orgs/{org}/audit-log/", Read, 200),
    ("POST", "/api/core/orgs/{org}/users/{name}/revoke/", Write, 200),
    ("POST", "/api/core/orgs/{org}/users/{name}/restore/", Write, 200),
    ("POST", "/api/core/pause/", Operate, 200),
    ("POST", "/api/core/resume/", Operate, 200),
    // The last, for afterwards nothing is as it was.
    ("DELETE", "/api/core/orgs/{org}/", Write, 202),
];

/// The table with whole paths.
fn table() -> impl Iterator<Item = (&'static str, String, Rule, u16)> {
    let whole = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("{P}/{path}") };
    TABLE.iter().map(move |(method, path, rule, status)| (*method, whole(path), *rule, *status))
}

#[test]
fn the_table_has_every_operation_that_exists_and_no_other() {
    let mounted: BTreeSet<(String, String)> =
        agent_registry::operations().into_iter().map(|(method, path)| (method.to_string(), path)).collect();
    let listed: BTreeSet<(String, String)> = table().map(|(method, path, ..)| (method.to_owned(), path)).collect();
    assert_eq!(mounted.difference(&listed).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not in the table");
    assert_eq!(listed.difference(&mounted).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not mounted");
}

/// Somebody who asks, and what a rule says to them: a status, or that they are let in (0). The second is for paths that
/// name the user [`USER`].
struct Caller {
    name: &'static str,
    authorization: Option<String>,
    answers: fn(Rule, bool) -> u16,
}

async fn callers(app: &App<'_>) -> Vec<Caller> {
    let world = app.world;
    let token = |user: &str, org: Option<&str>, role: Role| world.token(user, org, role);
    let own = token(USER, Some(ORG), Role::TenantAdmin);
    let foreign = token("eve", Some("other"), Role::TenantAdmin);
    let colleague = token("ben", Some(ORG), Role::TenantAdmin);
    let exp = world.clock.now().timestamp() + 3600;
    let session = json!({
        "sub": USER, "org": ORG, "roles": ["tenant_admin"], "iss": "tests", "aud": "carillon", "exp": exp,
        "act": { "sub": "carillon" },
    });
    let secret = EncodingKey::from_secret(world.auth.jwt_secret.expose().as_bytes());
    let session = jsonwebtoken::encode(&Header::default(), &session, &secret).unwrap();
    let key = app.api_key(&own, ORG, "key", json!({})).await;
    let reader = app.api_key(&own, ORG, "reader", json!({ "read_only": true })).await;
    let colleagues_key = app.api_key(&colleague, ORG, "ben", json!({})).await;
    let foreign_key = app.api_key(&foreign, "other", "eve", json!({})).await;
    let expired = app.api_key(&own, ORG, "expired", json!({ "expires_in": "1" })).await;
    app.advance(2).await;
    let bearer = |token: String| Some(format!("Bearer {token}"));

    let caller = |name, authorization, answers| Caller { name, authorization, answers };
    let unknown = |rule, _| if rule == Open { 0 } else { 401 };
    let without_right = |rule, _| if rule == Open { 0 } else { 403 };
    vec![
        caller("nobody", None, unknown),
        caller("an unknown scheme", Some("Basic YTpi".to_owned()), unknown),
        caller("an unknown key", Some(format!("Api-Token {}", "0".repeat(64))), unknown),
        caller("an expired key", Some(expired), unknown),
        caller("the session of a run", bearer(session), without_right),
        caller("a token without a role", bearer(token(USER, Some(ORG), Role::None)), without_right),
        caller("a tenant of no organisation", bearer(token(USER, None, Role::TenantAdmin)), without_right),
        caller("the administrator", bearer(own), |rule, _| if rule == Operate { 403 } else { 0 }),
        caller("another administrator", bearer(colleague), |rule, user| match rule {
            Operate => 403,
            _ if user => 403,
            _ => 0,
        }),
        caller("another organisation", bearer(foreign), |rule, _| if matches!(rule, Open | Own) { 0 } else { 403 }),
        caller("a platform administrator", bearer(token("root", None, Role::PlatformAdmin)), |_, _| 0),
        caller("a key", Some(key), |rule, _| if rule == Operate { 403 } else { 0 }),
        caller(
            "a key that may only read",
            Some(reader),
            |rule, _| if matches!(rule, Operate | Write) { 403 } else { 0 },
        ),
        caller("another user's key", Some(colleagues_key), |rule, user| match rule {
            Operate => 403,
            _ if user => 401,
            _ => 0,
        }),
        caller("another organisation's key", Some(foreign_key), |rule, _| match rule {
            Open | Own => 0,
            Operate => 403,
            Read | Write => 401,
        }),
    ]
}

fn place(path: &str) -> String {
    let path = path.replace("{org}", ORG).replace("{user_id}", USER).replace("{mentor}", "nobody");
    let path = path.replace("{id}", "999").replace("{name}", "nothing");
    if path.contains("api-tokens") { format!("{path}?platform_key={ORG}") } else { path }
}

/// What is sent: nothing that could succeed, and for keys where it is to be.
fn body(method: &str, path: &str) -> Option<Value> {
    let is_write = matches!(method, "POST" | "PUT" | "PATCH");
    is_write.then(|| if path.contains("api-tokens") { json!({ "platform_key": ORG }) } else { json!({}) })
}

#[tokio::test]
async fn every_caller_is_answered_as_the_table_says_by_every_operation() {
    let callers_count = {
        let world = World::new().await;
        let app = world.open_with(false).await;
        callers(&app).await.len()
    };
    for nth in 0..callers_count {
        // A world for each: the last operation leaves nothing as it was.
        let world = World::new().await;
        let app = world.open_with(false).await;
        let Caller { name, authorization, answers } = callers(&app).await.remove(nth);
        for (method, path, rule, status) in table() {
            let refused = answers(rule, path.contains("{user_id}"));
            let expected = if refused == 0 { status } else { refused };
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
            let sent = body(method, &path).map(|body| body.to_string().into_bytes()).unwrap_or_default();
            let answer = app.send(method, &place(&path), &headers, sent).await;
            assert_eq!(answer.status.as_u16(), expected, "{name}: {method} {path}: {}", answer.text);
            if matches!(expected, 401 | 403) {
                assert!(answer.body["detail"].is_string() && answer.body["code"].is_string(), "{}", answer.text);
            }
            assert_eq!(answer.headers.contains_key("www-authenticate"), expected == 401, "{name}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn other_methods_and_paths_tell_strangers_nothing() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let foreign = format!("Bearer {}", world.token("eve", Some("other"), Role::TenantAdmin));
    for (_, path, rule, _) in table().filter(|row| !matches!(row.2, Open | Operate | Own)) {
        for method in ["OPTIONS", "PROPFIND"] {
            app.send(method, &place(&path), &[], Vec::new()).await.ok(401);
            if path.contains("{org}") {
                let answer = app.call_as(&foreign, method, &place(&path), None).await;
                assert_eq!(answer.status.as_u16(), 403, "{method} {path} {rule:?}");
            }
        }
    }
}
