//! Runs act as the user who created their agent, while that user has the role and nobody revoked it.

use std::time::Duration;

use bus::Queue;
use model::document::{Document, Subject};
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{Answer, App, ORG, USER, World, document_where, path};

/// The users of the organisation that runs may not act as, if this is its document.
fn revoked(document: &Document) -> Option<Vec<&str>> {
    let Subject::Organisation(organisation) = &document.subject else { return None };
    Some(organisation.revoked_users.iter().map(String::as_str).collect())
}

/// An agent of [`USER`], as a path.
async fn agent(app: &App<'_>) -> String {
    let mentor = app.mentor().await;
    format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"])
}

fn root(world: &World) -> String {
    format!("Bearer {}", world.token("root", None, Role::PlatformAdmin))
}

/// What a platform administrator is answered who runs this agent.
async fn run(app: &App<'_>, agent: &str) -> Answer {
    app.call_as(&root(app.world), "POST", &path(&format!("{agent}run/")), Some(json!({}))).await
}

async fn audit_log(app: &App<'_>, query: &str) -> Value {
    let place = format!("/api/core/orgs/{ORG}/audit-log/?{query}");
    app.call_as(&root(app.world), "GET", &place, None).await.ok(200)
}

async fn set(app: &App<'_>, authorization: &str, verb: &str) -> Answer {
    app.call_as(authorization, "POST", &format!("/api/core/orgs/{ORG}/users/{USER}/{verb}/"), None).await
}

#[tokio::test]
async fn the_newest_token_of_a_creator_says_whether_runs_may_act_as_him() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent(&app).await;
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    app.advance(1).await;
    let before = format!("Bearer {}", world.admin_token());
    app.advance(1).await;
    let without = format!("Bearer {}", world.token(USER, Some(ORG), Role::None));
    app.call_as(&without, "GET", &path("periodic-agents/"), None).await.ok(403);
    document_where(&mut queue, |document| revoked(document) == Some(vec![USER])).await;
    let refused = run(&app, &agent).await.ok(409);
    assert_eq!(refused["code"], "creator_not_allowed");
    assert!(refused["detail"].as_str().unwrap().contains(USER), "{refused}");

    // A token from before is still good for requests, and says nothing new; no more does one of the same second.
    for said_less in [before, format!("Bearer {}", world.admin_token())] {
        app.call_as(&said_less, "GET", &path(&agent), None).await.ok(200);
        run(&app, &agent).await.ok(409);
    }
    app.advance(1).await;
    app.get(&agent).await.ok(200);
    document_where(&mut queue, |document| revoked(document) == Some(Vec::new())).await;
    run(&app, &agent).await.ok(202);
    let changes = audit_log(&app, "action=user.role_changed").await;
    assert_eq!((&changes["count"], &changes["results"][0]["fields"]), (&json!(2), &json!(["role"])));
}

#[tokio::test]
async fn another_replica_and_the_next_process_know_the_newest_token_too() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent(&app).await;
    app.advance(1).await;
    let before = format!("Bearer {}", world.admin_token());
    app.advance(1).await;
    let without = format!("Bearer {}", world.token(USER, Some(ORG), Role::None));
    app.call_as(&without, "GET", &path(&agent), None).await.ok(403);
    let other = world.open().await;
    other.call_as(&before, "GET", &path(&agent), None).await.ok(200);
    run(&other, &agent).await.ok(409);
    app.stop().await;
    other.advance(1).await;
    other.get(&agent).await.ok(200);
    run(&other, &agent).await.ok(202);
}

#[tokio::test]
async fn who_has_no_role_and_created_nothing_is_not_remembered() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let key = app.api_key(&world.admin_token(), ORG, "key", json!({})).await;
    let visitor = format!("Bearer {}", world.token("visitor", Some(ORG), Role::None));
    app.call_as(&visitor, "GET", &path("periodic-agents/"), None).await.ok(403);
    app.agent(&mentor, json!({})).await;
    app.call_as(&key, "GET", &path("periodic-agents/"), None).await.ok(200);
    assert_eq!(world.rows("users"), 1, "the administrator alone");
}

#[tokio::test]
async fn a_token_of_an_organisation_that_does_not_live_writes_nothing() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    app.organisation(Some(json!({}))).await.ok(200);
    let admin = format!("Bearer {}", world.admin_token());
    app.call_as(&admin, "DELETE", &format!("/api/core/orgs/{ORG}/"), None).await.ok(202);
    // While somebody else writes there, who writes has to wait.
    let _writer = world.keep_open("BEGIN; SELECT FROM organisations FOR UPDATE", "BEGIN IMMEDIATE");
    let ask = async {
        for (organisation, status) in [(ORG, 200), ("nowhere", 404)] {
            for user in ["a", "b", "c", "d", "e"] {
                let token = format!("Bearer {}", world.token(user, Some(organisation), Role::TenantAdmin));
                app.call_as(&token, "GET", &format!("/api/core/orgs/{organisation}/"), None).await.ok(status);
            }
        }
    };
    // Each that waits would wait for five seconds on SQLite, for thirty on PostgreSQL.
    tokio::time::timeout(Duration::from_secs(25), ask).await.expect("a request waited for the writer");
}

#[tokio::test]
async fn a_user_of_an_organisation_that_begins_anew_is_known_by_the_same_token() {
    let world = World::new().await;
    let app = world.open().await;
    let (admin, place) = (format!("Bearer {}", world.admin_token()), format!("/api/core/orgs/{ORG}/"));
    app.mentor().await;
    app.call_as(&admin, "GET", &path(""), None).await.ok(200);
    assert_eq!(world.rows("users"), 1);
    app.call_as(&admin, "DELETE", &place, None).await.ok(202);
    world.until_rows("organisations", 0).await;
    assert_eq!(world.rows("users"), 0);

    app.call_as(&admin, "PATCH", &place, Some(json!({}))).await.ok(200);
    app.advance(60).await;
    app.call_as(&admin, "GET", &path(""), None).await.ok(200);
    assert_eq!(world.rows("users"), 1);
}

#[tokio::test]
async fn an_operator_revokes_and_restores_and_the_dispatcher_knows_before_the_answer() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent(&app).await;
    let key = app.api_key(&world.admin_token(), ORG, "key", json!({})).await;
    let colleague = format!("Bearer {}", world.token("ben", Some(ORG), Role::TenantAdmin));
    app.world.dispatcher.take_handed_over();
    let view = set(&app, &colleague, "revoke").await.ok(200);
    assert_eq!(view, json!({ "username": USER, "role": "tenant_admin", "revoked": true, "allowed": false }));
    assert!(app.world.dispatcher.take_handed_over().iter().any(|document| revoked(document) == Some(vec![USER])));
    assert_eq!(run(&app, &agent).await.ok(409)["code"], "creator_not_allowed");

    // Neither a newer token nor a key, nor the user alone, brings back what was revoked.
    app.advance(120).await;
    app.get(&agent).await.ok(200);
    app.call_as(&key, "GET", &path(&agent), None).await.ok(200);
    let own = format!("Bearer {}", world.admin_token());
    assert_eq!(set(&app, &own, "restore").await.ok(403)["code"], "own_rights");
    assert_eq!(set(&app, &key, "restore").await.ok(403)["code"], "own_rights");
    run(&app, &agent).await.ok(409);

    set(&app, &root(&world), "revoke").await.ok(200);
    let view = set(&app, &root(&world), "restore").await.ok(200);
    assert_eq!((&view["revoked"], &view["allowed"]), (&json!(false), &json!(true)));
    run(&app, &agent).await.ok(202);
    let changes = audit_log(&app, &format!("subject=user:{USER}")).await;
    let said = |at: usize, name: &str| -> Value { changes["results"][at][name].clone() };
    assert_eq!((said(0, "action"), said(0, "username")), (json!("user.restored"), json!("root")));
    assert_eq!((said(1, "action"), said(1, "username")), (json!("user.revoked"), json!("ben")));
    assert_eq!(changes["count"], 2, "what changes nothing is no change");
}

#[tokio::test]
async fn with_the_dispatcher_away_it_is_revoked_all_the_same_and_asking_again_is_answered() {
    let world = World::new().await;
    let app = world.open().await;
    agent(&app).await;
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    app.world.dispatcher.set_away(true);
    assert_eq!(set(&app, &root(&world), "revoke").await.ok(503)["code"], "dispatcher_unavailable");
    document_where(&mut queue, |document| revoked(document) == Some(vec![USER])).await;
    app.world.dispatcher.set_away(false);
    set(&app, &root(&world), "revoke").await.ok(200);
}
