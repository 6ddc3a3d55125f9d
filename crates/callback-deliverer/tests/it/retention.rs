//! What is kept, and for how long.

use std::time::Duration;

use chrono::TimeDelta;
use model::event::DocumentChanged;
use test_kit::until;

use crate::receiver::{Answer, Receiver};
use crate::stage::{Stage, agent, noon, run, version_at};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn what_is_settled_is_forgotten_after_its_days_and_what_is_pending_is_not() {
    let mut stage = Stage::new().await;
    stage.config.deliveries_days = 7;
    let receiver = Receiver::answering(Answer::Status(200)).await;
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.publish(&DocumentChanged { documents: vec![agent(8, version_at(noon()), None)] }).await;
    // Delivered, discarded, and waiting for an endpoint.
    stage.finish([run(7, 41), run(8, 42), run(9, 43)]).await;
    running.settled(41, "delivered").await;
    let discarded = running.settled(42, "discarded").await;
    running.settled(43, "pending").await;

    stage.clock.advance(TimeDelta::days(6));
    stage.finish([run(7, 44)]).await;
    running.settled(44, "delivered").await;
    assert_eq!(running.get("deliveries").await.1["count"], 4);

    stage.clock.advance(TimeDelta::days(1));
    let left = until("the sweep", PATIENCE, async || {
        let (_, page) = running.get("deliveries").await;
        (page["count"] == 2).then_some(page)
    });
    let left = left.await;
    let logs: Vec<_> = left["results"].as_array().unwrap().iter().map(|delivery| delivery["log"].clone()).collect();
    assert_eq!(logs, [44, 43]);
    let (status, _) = running.get(&format!("deliveries/{}", discarded["id"])).await;
    assert_eq!(status, 404);
    running.stop().await;
}
