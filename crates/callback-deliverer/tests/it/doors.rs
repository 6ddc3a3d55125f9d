//! What receivers can do for themselves: replay, ping; and callbacks about skipped ticks.

use chrono::TimeDelta;
use model::event::TicksSkipped;
use model::id::{AgentId, OrganisationKey};
use model::run::{SkipReason, SkippedTick};
use serde_json::json;

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, next_held, noon, run};

#[tokio::test]
async fn a_delivery_is_replayed_under_its_id() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    let delivered = running.settled(41, "delivered").await;
    let path = format!("deliveries/{}/replay", delivered["id"]);
    assert_eq!(running.post(&format!("{path}?organisation=other"), &json!({})).await.0, 404);
    let (status, replayed) = running.post(&format!("{path}?organisation=acme"), &json!({})).await;
    assert_eq!((status, &replayed["webhook_id"]), (202, &delivered["webhook_id"]));
    let again = running.delivery(41, |it| it["delivery_attempts_made"] == 2 && it["status"] == "delivered").await;
    assert_eq!(again["delivery_attempts"].as_array().unwrap().len(), 2);
    let received = receiver.received(2).await;
    assert_eq!(
        (&received[0].body, received[0].header("webhook-id")),
        (&received[1].body, received[1].header("webhook-id"))
    );
}

#[tokio::test]
async fn times_are_shown_as_everywhere_in_the_api_with_six_digits_of_a_second_or_none() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(503)).await);
    stage.clock.advance(TimeDelta::milliseconds(250));
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 41)]).await;
    let tried = running.delivery(41, |it| it["delivery_attempts_made"] == 1).await;
    let shown = "2026-03-01T12:00:00.250000Z";
    assert_eq!((&tried["created_at"], &tried["delivery_attempts"][0]["started_at"]), (&json!(shown), &json!(shown)));
    assert_eq!(running.get("endpoints/7").await.1["failing_since"], shown);
    let wanted = json!({ "organisation": "acme", "periodic_agent": 7, "since": noon() });
    let (status, job) = running.post("replays", &wanted).await;
    assert_eq!((status, &job["since"], &job["created_at"]), (202, &json!("2026-03-01T12:00:00Z"), &json!(shown)));
}

#[tokio::test]
async fn a_job_replays_what_was_not_received_and_tells_how_far_it_is() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.announce(8, 1, &receiver.url, None).await;
    stage.finish((0..150).map(|log| run(7, 1000 + log))).await;
    stage.finish([run(8, 41)]).await;
    for log in [1000, 1149, 41] {
        running.settled(log, "delivered").await;
    }
    running.shown("deliveries?status=delivered", |page| page["count"] == 151).await;
    let wanted = json!({ "organisation": "acme", "periodic_agent": 7, "since": noon(), "status": "delivered" });
    let (status, job) = running.post("replays", &wanted).await;
    assert_eq!((status, &job["total"], &job["state"]), (202, &json!(150), &json!("running")));
    let path = format!("replays/{}", job["id"]);
    assert_eq!(running.get(&format!("{path}?organisation=other")).await.0, 404);
    running.shown(&path, |job| job["replayed"] == 100).await;
    stage.clock.advance(TimeDelta::seconds(1));
    let done = running.shown(&path, |job| job["state"] == "finished").await;
    assert_eq!(done["replayed"], 150);
    receiver.received(301).await;
    assert_eq!(
        running.post("replays", &json!({ "organisation": "acme", "since": noon(), "status": "held" })).await.0,
        400
    );
}

#[tokio::test]
async fn a_ping_is_made_once_even_to_a_disabled_endpoint_and_says_nothing_of_its_state() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(410)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    running.settled(41, "held").await;
    let (status, ping) = running.post("endpoints/7/test?organisation=acme", &json!({})).await;
    assert_eq!((status, &ping["event"]), (202, &json!("ping")));
    let path = format!("deliveries/{}", ping["id"]);
    let failed = running.shown(&path, |ping| ping["status"] == "exhausted").await;
    assert_eq!(failed["delivery_attempts"][0]["outcome"], "gone");
    receiver.answer(Answer::Status(200));
    let (_, ping) = running.post("endpoints/7/test?organisation=acme", &json!({})).await;
    running.shown(&format!("deliveries/{}", ping["id"]), |ping| ping["status"] == "delivered").await;
    let body = receiver.received(3).await.remove(2).json();
    assert_eq!((&body["event"], &body["log_id"], &body["undelivered"]), (&json!("ping"), &json!(null), &json!(1)));
    assert_eq!(running.get("endpoints/7").await.1["callback_state"], "disabled");
    assert_eq!(running.post("endpoints/9/test", &json!({})).await.0, 404);
}

#[tokio::test]
async fn a_skipped_tick_is_called_back_once_and_said_to_be_held() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut held = stage.runs_held().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    let tick = SkippedTick {
        organisation: OrganisationKey("acme".into()),
        agent_id: AgentId(7),
        fire_time: noon() - TimeDelta::hours(2),
        nominal_time: noon() - TimeDelta::hours(2),
        until: noon() - TimeDelta::hours(1),
        reason: SkipReason::Overlap,
        agent_version: None,
    };
    for _ in 0..2 {
        stage.publish(&TicksSkipped { ticks: vec![tick.clone()] }).await;
        let held = next_held(&mut held).await;
        assert_eq!((held.ticks.len(), held.ticks[0].fire_time, held.run_ids.len()), (1, tick.fire_time, 0));
    }
    stage.finish([run(7, 41)]).await;
    running.settled(41, "delivered").await;
    let received = receiver.received(2).await;
    let skipped: Vec<_> = received.iter().filter(|one| one.json()["event"] == "tick.skipped").collect();
    assert_eq!((received.len(), skipped.len()), (2, 1));
    let body = skipped[0].json();
    assert_eq!(
        (&body["status"], &body["reason"], &body["log_id"]),
        (&json!("skipped"), &json!("overlap"), &json!(null))
    );
}

#[tokio::test]
async fn a_long_log_is_cut_and_its_link_is_signed() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    let mut long = run(7, 41);
    long.result.as_mut().unwrap().log = "x".repeat(300_000);
    stage.finish([long]).await;
    running.settled(41, "delivered").await;
    let body = receiver.received(1).await.remove(0).json();
    assert_eq!((&body["log_bytes"], body["log"].as_str().unwrap().len() < 263_000), (&json!(300_000), true));
    let signature = service_kit::signed_link::sign(&stage.keys, "acme", 41);
    let link = format!("https://carillon.example/api/callbacks/orgs/acme/logs/41/?signature={signature}");
    assert_eq!(body["log_url"], link.as_str());
}
