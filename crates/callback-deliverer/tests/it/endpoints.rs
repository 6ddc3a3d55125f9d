//! Endpoints that come late, go away, or cannot be signed for.

use std::time::Duration;

use chrono::TimeDelta;
use model::document::Subject;
use model::event::DocumentChanged;
use model::id::AgentId;
use model::run::RunRecord;
use test_kit::until;

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, agent, document, next_documents_held, next_held, noon, run, version_at};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_result_waits_for_an_endpoint_that_is_on_its_way() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let mut held = stage.runs_held().await;
    stage.finish([run(7, 41)]).await;
    next_held(&mut held).await;
    let waiting = running.settled(41, "pending").await;
    assert!(waiting["next_delivery_attempt_at"].is_null());
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    running.settled(41, "delivered").await;
}

#[tokio::test]
async fn a_result_waits_for_the_version_in_which_its_agent_got_a_url() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let before = version_at(noon() - TimeDelta::hours(1));
    let mut documents = stage.documents_held().await;
    stage.publish(&DocumentChanged { documents: vec![agent(7, before, None), agent(8, before, None)] }).await;
    next_documents_held(&mut documents).await;
    stage.finish([run(7, 41), run(8, 42)]).await;
    running.settled(42, "pending").await;
    stage.announce(7, before + 1, &receiver.url, None).await;
    running.settled(41, "delivered").await;

    // For agent 8 no such version comes: the URL was removed before the dispatcher knew.
    stage.clock.advance(TimeDelta::hours(1));
    assert_eq!(running.settled(42, "discarded").await["reason"], "callback_removed");
}

#[tokio::test]
async fn a_result_that_waits_for_a_later_version_is_not_discarded_by_one_without_a_url() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let (mut documents, mut runs) = (stage.documents_held().await, stage.runs_held().await);
    let runs_of_3 = [run(7, 41), run(8, 42), run(9, 43)].map(|run| RunRecord { agent_version: Some(3), ..run });
    stage.finish(runs_of_3).await;
    next_held(&mut runs).await;
    let gone = document(2, Subject::AgentDeleted(AgentId(9)));
    stage.publish(&DocumentChanged { documents: vec![agent(7, 2, None), agent(8, 2, None), gone] }).await;
    next_documents_held(&mut documents).await;
    assert_eq!(running.settled(43, "discarded").await["reason"], "agent_deleted");
    assert_eq!(running.get("deliveries?status=pending").await.1["count"], 2);
    stage.publish(&DocumentChanged { documents: vec![agent(8, 3, None)] }).await;
    assert_eq!(running.settled(42, "discarded").await["reason"], "callback_removed");
    stage.announce(7, 3, &receiver.url, None).await;
    running.settled(41, "delivered").await;
}

#[tokio::test]
async fn what_nobody_will_receive_is_discarded_and_says_why() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(500)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.announce(8, 1, &receiver.url, None).await;
    stage.finish([run(7, 41), run(8, 42)]).await;
    running.attempted(41, 1).await;
    running.attempted(42, 1).await;

    let removed = version_at(noon());
    let documents = vec![agent(7, removed, None), document(2, Subject::AgentDeleted(AgentId(8)))];
    stage.publish(&DocumentChanged { documents }).await;
    assert_eq!(running.settled(41, "discarded").await["reason"], "callback_removed");
    assert_eq!(running.settled(42, "discarded").await["reason"], "agent_deleted");

    stage.finish([run(7, 43), run(8, 44)]).await;
    assert_eq!(running.settled(43, "discarded").await["reason"], "callback_removed");
    assert_eq!(running.settled(44, "discarded").await["reason"], "agent_deleted");
    stage.clock.advance(TimeDelta::days(1));
    assert_eq!(running.get("deliveries?status=pending").await.1["count"], 0);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_missing_key_counts_against_nobody_and_delivery_goes_on_when_it_is_there() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start_with(crate::stage::other_keys()).await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    running.readiness(|readiness| readiness.unmet().contains_key("callback-deliverer.keys")).await;
    let why = running.readiness.unmet()["callback-deliverer.keys"].clone();
    assert!(why.contains("`k1`"), "{why}");
    let waiting = running.settled(41, "pending").await;
    assert_eq!((waiting["delivery_attempts_made"].as_i64(), receiver.count()), (Some(0), 0));
    running.stop().await;

    let running = stage.start_with(crate::stage::all_keys()).await;
    stage.clock.advance(TimeDelta::seconds(10));
    let delivered = running.settled(41, "delivered").await;
    assert_eq!(delivered["delivery_attempts_made"], 1);
    running.readiness(service_kit::admin::Readiness::is_ready).await;
}

#[tokio::test]
async fn another_secret_makes_up_for_a_missing_key() {
    let (mut stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start_with(crate::stage::other_keys()).await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    running.readiness(|readiness| readiness.unmet().contains_key("callback-deliverer.keys")).await;
    stage.keys = crate::stage::other_keys();
    stage.announce(7, 2, &receiver.url, Some(SECRET)).await;
    running.settled(41, "delivered").await;
    running.readiness(service_kit::admin::Readiness::is_ready).await;
}

#[tokio::test]
async fn a_replica_that_missed_a_key_is_ready_again_once_another_one_has_delivered() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    if !stage.is_shared() {
        return;
    }
    let without = stage.start_with(crate::stage::other_keys()).await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    without.readiness(|readiness| readiness.unmet().contains_key("callback-deliverer.keys")).await;
    let with = stage.start_with(crate::stage::all_keys()).await;
    until("the other one has delivered", PATIENCE, async || {
        stage.clock.advance(TimeDelta::seconds(10));
        (receiver.count() > 0).then_some(())
    })
    .await;
    until("it is ready again", PATIENCE, async || {
        stage.clock.advance(TimeDelta::seconds(10));
        without.readiness.is_ready().then_some(())
    })
    .await;
    with.stop().await;
}
