//! The audit log: who changed what, by which credential.

use bus::Message;
use model::document::Receiver;
use model::event::{DocumentsHeld, Event, Replanned};
use model::id::OrganisationKey;
use model::wire::Wire;
use serde_json::{Value, json};
use service_kit::auth::Role;

use crate::harness::{App, ORG, PATIENCE, USER, World, path, path_in};

async fn changes(app: &App<'_>, query: &str) -> Vec<Value> {
    let admin = format!("Bearer {}", app.world.admin_token());
    let place = format!("/api/core/orgs/{ORG}/audit-log/{query}");
    app.call_as(&admin, "GET", &place, None).await.ok(200)["results"].as_array().unwrap().clone()
}

fn actions(changes: &[Value]) -> Vec<&str> {
    changes.iter().map(|change| change["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_edit_is_told_with_who_did_it_and_which_fields_and_never_what_they_hold() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let next = app.agent(&mentor, json!({ "previous_agent": first })).await["id"].as_i64().unwrap();
    let key = app.api_key(&world.admin_token(), ORG, "ci", json!({})).await;
    let change = json!({ "title": "Renamed", "callback_url": "https://r.example.com/", "callback_secret": "hush-hush",
        "task": { "crontab": { "hour": "3" } } });
    app.advance(60).await;
    app.call_as(&key, "PATCH", &path(&format!("periodic-agents/{first}/")), Some(change)).await.ok(200);
    let root = format!("Bearer {}", world.token("root", None, Role::PlatformAdmin));
    let as_alice = path_in(ORG, "alice", &format!("periodic-agents/{first}/"));
    app.advance(60).await;
    assert_eq!(app.call_as(&root, "DELETE", &as_alice, None).await.status, 204);
    app.organisation(Some(json!({ "timezone": "Asia/Tokyo", "limits": { "agents_max": 9 } }))).await.ok(200);

    let all = changes(&app, "").await;
    assert_eq!(
        actions(&all),
        [
            "organisation.changed",
            "agent.deleted",
            "agent.disabled",
            "agent.changed",
            "api_key.created",
            "agent.created",
            "agent.created",
            "mentor.created",
            "organisation.created",
        ]
    );
    assert!(!json!(all).to_string().contains("hush-hush"));
    let changed = &all[3];
    assert_eq!(changed["fields"], json!(["title", "task.crontab.hour", "callback_url", "callback_secret"]));
    assert_eq!((&changed["credential"], &changed["username"]), (&json!("api_key"), &json!(USER)));
    assert_eq!(
        (&changed["subject"], &changed["at"]),
        (&json!(format!("agent:{first}")), &json!("2026-11-21T12:01:00Z"))
    );
    let disabled = &all[2];
    assert_eq!(
        (&disabled["subject"], &disabled["fields"]),
        (&json!(format!("agent:{next}")), &json!(["previous_agent", "task.enabled"]))
    );
    assert_eq!(
        (&disabled["username"], &disabled["acting_as"], &disabled["credential"]),
        (&json!("root"), &json!("alice"), &json!("token"))
    );
    assert_eq!(all[0]["fields"], json!(["timezone", "limits.agents_max"]));

    assert_eq!(actions(&changes(&app, "?action=agent.created").await).len(), 2);
    assert_eq!(actions(&changes(&app, &format!("?subject=agent:{first}&username=root")).await), ["agent.deleted"]);
    assert_eq!(actions(&changes(&app, "?subject=mentor").await), ["mentor.created"]);
    assert_eq!(actions(&changes(&app, "?from=2026-11-21T12:01:00Z&to=2026-11-21T12:02:00Z").await), ["agent.changed"]);
    assert_eq!(changes(&app, "?page_size=2&page=2").await[0]["action"], "agent.disabled");
    let admin = format!("Bearer {}", world.admin_token());
    let bad = app.call_as(&admin, "GET", &format!("/api/core/orgs/{ORG}/audit-log/?from=soon"), None).await;
    assert_eq!(bad.ok(400), json!({ "from": ["Enter a valid date/time."] }));
}

#[tokio::test]
async fn an_edit_that_was_refused_is_no_edit() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let before = changes(&app, "").await;
    app.patch(&format!("periodic-agents/{}/", agent["id"]), json!({ "title": "" })).await.ok(400);
    app.organisation(Some(json!({ "timezone": "x" }))).await.ok(400);
    app.post("", json!({})).await.ok(400);
    assert_eq!(changes(&app, "").await, before);
}

#[tokio::test]
async fn that_agents_were_planned_anew_is_in_the_audit_log_once_for_each_edition() {
    let world = World::new().await;
    let app = world.open().await;
    app.organisation(Some(json!({}))).await.ok(200);
    let said = ["2026a", "2026a", "2026b"].map(|tzdb| {
        let of =
            |organisation: &str| Replanned { organisation: OrganisationKey(organisation.into()), tzdb: tzdb.into() };
        let replanned = vec![of("nobody"), of(ORG)];
        let event = DocumentsHeld { receiver: Receiver::CronDispatcher, documents: Vec::new(), replanned };
        Message::new(DocumentsHeld::KIND, "cron-dispatcher", world.clock.now(), event.encode())
    });
    world.bus.publish(said.to_vec()).await.unwrap();
    let told = async {
        loop {
            let changes = changes(&app, "?action=schedules.replanned").await;
            if changes.iter().any(|change| change["subject"] == "schedules:2026b") {
                return changes;
            }
            tokio::task::yield_now().await;
        }
    };
    let changes = tokio::time::timeout(PATIENCE, told).await.unwrap();
    let subjects: Vec<_> = changes.iter().map(|change| &change["subject"]).collect();
    assert_eq!(subjects, ["schedules:2026b", "schedules:2026a"]);
    assert_eq!(changes[0]["username"], "cron-dispatcher");
}
