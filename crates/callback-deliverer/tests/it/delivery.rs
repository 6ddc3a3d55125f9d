//! From `runs.finished` to the receiver.

use std::collections::HashSet;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use model::document::{DocumentKind, Organisation, Receiver as HeldBy, Subject};
use model::event::DocumentChanged;
use model::id::{MentorId, RunId};
use service_kit::config::InternalConfig;
use test_kit::until;

use crate::receiver::{Answer, Receiver, hmac_sha256};
use crate::stage::{SECRET, Stage, agent, document, next_documents_held, next_held, run};

#[tokio::test]
async fn a_result_arrives_signed_and_is_said_to_be_held() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut held = stage.runs_held().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;

    let callback = receiver.received(1).await.remove(0);
    assert_eq!(
        callback.header("x-hub-signature-256"),
        Some(format!("sha256={}", hmac_sha256(SECRET.as_bytes(), &callback.body)).as_str())
    );
    assert_eq!(callback.header("content-type"), Some("application/json"));
    assert!(callback.header("user-agent").unwrap().starts_with("Carillon/"));
    let delivery = running.settled(41, "delivered").await;
    assert_eq!(callback.header("webhook-id"), delivery["webhook_id"].as_str());
    assert!(String::from_utf8(callback.body.clone()).unwrap().starts_with(
        r#"{"timestamp":"2026-03-01T11:59:59.000Z","status":"success","prompt":"Good morning","agent_output":"output 41","log":"asked\nanswered","log_id":41,"event":"run.finished","#
    ));
    assert_eq!(callback.json()["undelivered"], 0);
    let said = next_held(&mut held).await;
    assert_eq!((said.receiver, said.run_ids), (HeldBy::CallbackDeliverer, vec![RunId(41)]));

    assert_eq!(delivery["delivery_attempts"][0]["outcome"], "delivered");
    assert_eq!(delivery["delivery_attempts"][0]["http_status"], 200);
    assert_eq!(delivery["delivery_attempts"][0]["response_excerpt"], "seen");
    assert!(!delivery.to_string().contains("t0ps3cret"), "{delivery}");
    running.readiness(service_kit::admin::Readiness::is_ready).await;
    running.stop().await;
}

#[tokio::test]
async fn without_a_secret_a_callback_is_not_signed() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(204)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    assert_eq!(receiver.received(1).await[0].header("x-hub-signature-256"), None);
    running.settled(41, "delivered").await;
}

#[tokio::test]
async fn a_run_that_comes_again_is_held_again_and_not_delivered_again() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut held = stage.runs_held().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    next_held(&mut held).await;
    running.settled(41, "delivered").await;

    let mut altered = run(7, 41);
    altered.prompt = "something else".into();
    stage.finish([altered.clone(), altered, run(7, 42)]).await;
    assert_eq!(next_held(&mut held).await.run_ids, [RunId(41), RunId(41), RunId(42)]);
    running.settled(42, "delivered").await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(running.get("deliveries").await.1["count"], 2);
}

#[tokio::test]
async fn two_thousand_results_at_once_all_arrive() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    for agent_id in 0..20 {
        stage.announce(agent_id, 1, &receiver.url, Some(SECRET)).await;
    }
    for batch in 0..20 {
        stage.finish((0..100).map(|n| run(n % 20, batch * 100 + n))).await;
    }
    let received = receiver.received(2000).await;
    let logs: HashSet<i64> = received.iter().map(|callback| callback.json()["log_id"].as_i64().unwrap()).collect();
    assert_eq!(logs.len(), 2000);
    running.settled(1999, "delivered").await;
    running.shown("deliveries?status=delivered", |page| page["count"] == 2000).await;
}

#[tokio::test]
async fn nothing_is_said_to_be_held_before_it_is_committed() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut held = stage.runs_held().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    next_held(&mut held).await;
    running.settled(41, "delivered").await;

    // Nothing can be committed while somebody else writes.
    let url = stage.database.expose();
    let mut writer: Box<dyn SimpleConnection> = match url.strip_prefix("sqlite:") {
        Some(file) => Box::new(SqliteConnection::establish(file).unwrap()),
        None => Box::new(PgConnection::establish(url).unwrap()),
    };
    let is_sqlite = url.starts_with("sqlite:");
    // The deliverer may be writing something else just now.
    let begin = "PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE";
    writer.batch_execute(if is_sqlite { begin } else { "BEGIN; LOCK TABLE deliveries" }).unwrap();
    stage.finish([run(7, 42)]).await;
    let early = tokio::time::timeout(Duration::from_millis(300), held.next_batch(1, 1)).await;
    assert!(early.is_err() && receiver.count() == 1);
    writer.batch_execute("ROLLBACK").unwrap();
    assert_eq!(next_held(&mut held).await.run_ids, [RunId(42)]);
    running.settled(42, "delivered").await;
}

#[tokio::test]
async fn agents_and_organisations_are_held_and_mentors_are_not_our_business() {
    let stage = Stage::new().await;
    let _running = stage.start().await;
    let mut held = stage.documents_held().await;
    let organisation = Organisation { timezone: "Europe/Berlin".parse().unwrap(), ..Organisation::default() };
    let documents = vec![
        agent(7, 11, None),
        agent(7, 12, None),
        document(5, Subject::Organisation(organisation)),
        document(9, Subject::MentorDeleted(MentorId(3))),
    ];
    stage.publish(&DocumentChanged { documents }).await;
    let said = next_documents_held(&mut held).await;
    assert_eq!(said.receiver, HeldBy::CallbackDeliverer);
    let mut versions: Vec<_> = said.documents.into_iter().map(|held| (held.kind, held.key, held.version)).collect();
    versions.sort();
    assert_eq!(versions, [(DocumentKind::Organisation, "acme".into(), 5), (DocumentKind::Agent, "7".into(), 12)]);
}

#[tokio::test]
async fn what_never_ended_is_a_dead_letter_and_its_neighbours_are_delivered() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    let mut unfinished = run(7, 41);
    unfinished.result = None;
    stage.finish([unfinished]).await;
    stage.finish([run(7, 42)]).await;
    running.settled(42, "delivered").await;
    let letter = until("it is a dead letter", Duration::from_secs(120), async || {
        stage.bus.dead_letters(bus::Queue::CallbackDelivererRuns, 10).await.unwrap().pop()
    });
    let letter = letter.await;
    assert!(letter.reason.contains("run 41 has not ended"), "{}", letter.reason);
}

#[tokio::test]
async fn deliveries_are_listed_by_agent_log_and_status_for_those_with_an_internal_token() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    for (agent_id, log) in [(7, 41), (7, 42), (8, 43)] {
        stage.announce(agent_id, 1, &receiver.url, None).await;
        stage.finish([run(agent_id, log)]).await;
        running.settled(log, "delivered").await;
    }
    let logs = |page: &serde_json::Value| -> Vec<i64> {
        page["results"].as_array().unwrap().iter().map(|delivery| delivery["log"].as_i64().unwrap()).collect()
    };
    assert_eq!(logs(&running.get("deliveries?periodic_agent=7").await.1), [42, 41]);
    assert_eq!(logs(&running.get("deliveries?log=43&status=").await.1), [43]);
    assert!(logs(&running.get("deliveries?status=pending").await.1).is_empty());
    let (_, page) = running.get("deliveries?page=2&page_size=2").await;
    assert_eq!((page["count"].as_i64(), logs(&page)), (Some(3), vec![41]));

    assert_eq!(running.get("deliveries?page=3&page_size=2").await.0, 404);
    assert_eq!(running.get("deliveries/999").await.0, 404);
    assert_eq!(running.get("deliveries/x").await.0, 404);
    let (status, errors) = running.get("deliveries?log=x&status=lost").await;
    assert_eq!(status, 400);
    assert_eq!(errors["log"][0], "A valid integer is required.");
    assert!(errors["status"][0].as_str().unwrap().contains("lost is not one of"));

    let config = InternalConfig { key: "another-key-that-nobody-knows-here".to_owned().into() };
    let forged = service_kit::auth::InternalSigner::new(&config, "agent-registry");
    let token = forged.sign("callback-deliverer", stage.clock.now()).unwrap();
    assert_eq!(running.get_with("deliveries", &token).await.0, 401);
}
