//! Documents: announced until they are held, whole, in rising versions; timing in versions of its own.

use bus::Queue;
use model::document::{Agent, Document, DocumentKind, Receiver, Subject};
use serde_json::json;

use crate::dispatcher_peer::pending_run;
use crate::harness::{World, document_where, documents_in};

fn is_agent(document: &Document) -> bool {
    document.kind() == DocumentKind::Agent
}

fn agent_of(document: &Document) -> &Agent {
    match &document.subject {
        Subject::Agent(agent) => agent,
        other => panic!("no agent: {other:?}"),
    }
}

#[tokio::test]
async fn a_first_write_announces_organisation_mentor_and_agent_to_both_receivers() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let task = json!({ "crontab": { "minute": "5", "timezone": "Europe/Berlin" }, "start_time": "2027-01-01" });
    let fields = json!({ "prompt": "p", "task": task, "callback_url": "https://example.com/x", "pathway": "docs" });
    let created = app.agent(&mentor, fields).await;
    for queue in [Queue::CronDispatcherDocuments, Queue::CallbackDelivererDocuments] {
        let mut queue = world.consume(queue).await;
        let mut seen = Vec::new();
        while !seen.iter().any(is_agent) {
            seen.extend(documents_in(&mut queue).await);
        }
        let kinds: Vec<_> = seen.iter().map(Document::kind).collect();
        assert_eq!(kinds, [DocumentKind::Organisation, DocumentKind::Mentor, DocumentKind::Agent]);
        assert!(seen.iter().all(|document| document.organisation.as_str() == "acme"));
        let agent = agent_of(&seen[2]);
        assert_eq!(agent.id.0, created["id"].as_i64().unwrap());
        assert_eq!((agent.prompt.as_str(), agent.pathway.as_str()), ("p", "docs"));
        assert_eq!(agent.schedule.timing_version, seen[2].version);
        assert_eq!(agent.schedule.crontab.minute, "5");
        assert_eq!(agent.schedule.timezone.map(|zone| zone.name()), Some("Europe/Berlin"));
        assert_eq!(agent.endpoint.as_ref().unwrap().url, "https://example.com/x");
    }
}

#[tokio::test]
async fn timing_gets_a_new_version_only_when_timing_changes() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    let mut queue = world.consume(Queue::CronDispatcherDocuments).await;
    let mut before = document_where(&mut queue, is_agent).await;
    for (change, timing) in [
        (json!({ "title": "Another" }), false),
        (json!({ "prompt": "Another" }), false),
        (json!({ "task": { "enabled": false } }), false),
        (json!({ "task": { "enabled": true } }), true),
        (json!({ "task": { "crontab": { "hour": "5" } } }), true),
        (json!({ "task": { "crontab": { "timezone": "Asia/Tokyo" } } }), true),
        (json!({ "task": { "one_off": true } }), true),
        (json!({ "task": { "start_time": "2027-01-01" } }), true),
        (json!({ "task": { "start_time": "2027-01-01T00:00:00Z", "crontab": { "hour": 5 } }, "title": "T" }), false),
    ] {
        app.patch(&place, change.clone()).await.ok(200);
        let after = document_where(&mut queue, is_agent).await;
        assert!(after.version > before.version, "{change}");
        let (was, is) = (agent_of(&before).schedule.timing_version, agent_of(&after).schedule.timing_version);
        assert_eq!(is, if timing { after.version } else { was }, "{change}");
        before = after;
    }
}

#[tokio::test]
async fn what_was_written_before_a_crash_is_announced_after_it_until_it_is_held() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let mentor = app.mentor().await;
    app.agent(&mentor, json!({})).await;
    app.stop().await;
    assert_eq!(
        world.bus.depth(Queue::CronDispatcherDocuments).await.unwrap().ready,
        0,
        "it crashed before it published"
    );

    let app = world.open().await;
    let mut dispatcher = world.consume(Queue::CronDispatcherDocuments).await;
    let mut deliverer = world.consume(Queue::CallbackDelivererDocuments).await;
    let agent = document_where(&mut dispatcher, is_agent).await;
    document_where(&mut deliverer, is_agent).await;

    // The messages are taken and nobody says held, as if the bus had lost them: announced again when overdue.
    for _ in 0..2 {
        app.advance(6).await;
        app.advance(1).await;
    }
    let again = announced_again(&world, &mut dispatcher).await;
    assert_eq!(again, agent);
}

/// Lets time pass until an agent is announced once more.
async fn announced_again(world: &World, queue: &mut bus::Consumer) -> Document {
    for _ in 0..600 {
        world.clock.advance(chrono::TimeDelta::seconds(1));
        // Not a wait for something to happen: the announcer looks when the clock says so.
        let taken = tokio::time::timeout(std::time::Duration::from_millis(100), documents_in(queue)).await;
        if let Some(document) = taken.ok().and_then(|documents| documents.into_iter().find(is_agent)) {
            return document;
        }
    }
    panic!("not announced again");
}

#[tokio::test]
async fn what_everyone_holds_is_not_announced_again() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let agent = app.agent(&mentor, json!({})).await;
    let mut dispatcher = world.consume(Queue::CronDispatcherDocuments).await;
    let mut held = Vec::new();
    while !held.iter().any(is_agent) {
        held.extend(documents_in(&mut dispatcher).await);
    }
    let next = "2026-11-21T13:00:00Z".parse().unwrap();
    app.advance(1).await;
    for document in &held {
        world.hold(Receiver::CallbackDeliverer, document, None).await;
        world.hold(Receiver::CronDispatcher, document, Some(next)).await;
    }
    let place = format!("periodic-agents/{}/", agent["id"]);
    app.eventually(&place, |agent| agent["next_fire_time"] == "2026-11-21T13:00:00Z").await;
    app.stop().await;

    // A new start announces all that is not held: nothing.
    let app = world.open().await;
    app.advance(600).await;
    app.patch(&place, json!({ "title": "New" })).await.ok(200);
    let documents = documents_in(&mut dispatcher).await;
    assert_eq!(documents.len(), 1, "only the new version: {documents:?}");
    assert!(documents[0].version > held.iter().find(|document| is_agent(document)).unwrap().version);
}

#[tokio::test]
async fn a_receiver_that_is_only_slow_is_not_sent_the_same_again() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    for title in ["a", "b", "c"] {
        app.advance(60).await;
        // Each write wakes the announcer, which finds the earlier ones overdue and their queues full.
        app.patch(&place, json!({ "title": title })).await.ok(200);
    }
    let mut dispatcher = world.consume(Queue::CronDispatcherDocuments).await;
    let (mut versions, mut seen_last) = (Vec::new(), false);
    while !seen_last {
        for document in documents_in(&mut dispatcher).await.iter().filter(|document| is_agent(document)) {
            seen_last = agent_of(document).title == "c";
            versions.push(document.version);
        }
    }
    let count = versions.len();
    versions.dedup();
    assert_eq!(versions.len(), count, "some version came twice");
}

#[tokio::test]
async fn an_older_version_that_is_held_changes_nothing() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let place = format!("periodic-agents/{}/", app.agent(&mentor, json!({})).await["id"]);
    let mut dispatcher = world.consume(Queue::CronDispatcherDocuments).await;
    let first = document_where(&mut dispatcher, is_agent).await;
    app.patch(&place, json!({ "title": "New" })).await.ok(200);
    let second = document_where(&mut dispatcher, is_agent).await;
    let time = |text: &str| Some(text.parse().unwrap());
    app.advance(1).await;
    world.hold(Receiver::CronDispatcher, &second, time("2026-11-21T14:00:00Z")).await;
    app.eventually(&place, |agent| agent["next_fire_time"] == "2026-11-21T14:00:00Z").await;
    world.hold(Receiver::CronDispatcher, &first, time("2026-11-21T15:00:00Z")).await;
    app.eventually(&place, |agent| agent["next_fire_time"] == "2026-11-21T15:00:00Z").await;
    app.stop().await;

    // The deliverer holds nothing, so that both are announced again, but only in their newest versions.
    let _app = world.open().await;
    assert_eq!(document_where(&mut dispatcher, is_agent).await, second);
}

#[tokio::test]
async fn a_deleted_agent_is_announced_as_gone_until_everyone_knows() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let mut dispatcher = world.consume(Queue::CronDispatcherDocuments).await;
    let alive = document_where(&mut dispatcher, is_agent).await;
    app.delete(&format!("periodic-agents/{id}/")).await;
    let gone = document_where(&mut dispatcher, Document::is_deleted).await;
    assert_eq!(gone.key(), id.to_string());
    assert!(gone.version > alive.version);
    app.stop().await;

    let _app = world.open().await;
    let again = document_where(&mut dispatcher, Document::is_deleted).await;
    assert_eq!(again, gone, "a tombstone is announced until it is held, too");
}

#[tokio::test]
async fn a_deleted_agent_leaves_no_logs_and_after_a_month_nothing_at_all() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    world.record((1..=3).map(|run| pending_run(run, "acme", id, world.clock.now())).collect()).await;
    world.until_rows("logs", 3).await;
    app.delete(&format!("periodic-agents/{id}/")).await;
    for table in ["logs", "log_bodies", "agent_activity", "deleted_agents"] {
        world.until_rows(table, 0).await;
    }
    let mut dispatcher = world.consume(Queue::CronDispatcherDocuments).await;
    let gone = document_where(&mut dispatcher, Document::is_deleted).await;
    world.hold(Receiver::CronDispatcher, &gone, None).await;
    world.hold(Receiver::CallbackDeliverer, &gone, None).await;
    world.until_rows("documents WHERE deleted AND version = dispatcher_held_version", 1).await;
    world.until_rows("documents WHERE deleted AND version = deliverer_held_version", 1).await;
    for _ in 0..29 {
        app.advance(86_400).await;
    }
    world.until_rows("documents WHERE deleted", 1).await;
    app.advance(2 * 86_400).await;
    world.until_rows("documents WHERE deleted", 0).await;
    world.until_rows("documents", 2).await;
}
