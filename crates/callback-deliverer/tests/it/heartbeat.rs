//! A heart that stands still for a moment, as nothing is sent then that others may have taken over.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use serde_json::Value;
use test_kit::until;

use crate::receiver::{Answer, Receiver};
use crate::stage::{Stage, run};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn what_is_given_back_while_no_beat_is_written_is_delivered_after_the_next() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    // In a SQLite file nothing beats.
    if !stage.is_shared() {
        return;
    }
    let mut other = PgConnection::establish(stage.database.expose()).unwrap();
    let running = stage.start().await;
    stage.announce(7, 1, &receiver.url, None).await;
    stage.finish([run(7, 1)]).await;
    running.settled(1, "delivered").await;

    other.batch_execute("BEGIN; LOCK TABLE replicas IN EXCLUSIVE MODE").unwrap();
    let mut log = 1;
    let given_back = until("one is given back", PATIENCE, async || {
        log += 1;
        stage.finish([run(7, log)]).await;
        let delivered = |delivery: &Value| delivery["status"] == "delivered";
        let due = |delivery: &Value| delivery["next_delivery_attempt_at"].is_string();
        let shown = running.delivery(log, |delivery| delivered(delivery) || due(delivery)).await;
        (!delivered(&shown)).then_some(log)
    });
    let given_back = given_back.await;
    other.batch_execute("ROLLBACK").unwrap();
    running.settled(given_back, "delivered").await;
}
