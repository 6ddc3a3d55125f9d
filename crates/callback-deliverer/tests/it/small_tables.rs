//! How PostgreSQL reads tables that are small. It keeps the plans that it made then until it analyses the table, up to a
//! minute later: one that reads an empty table from end to end would read it so while a burst fills it.

use test_kit::{all_scans, scans};

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, next_held, run};

/// More often than a statement is planned for the values that it is given.
const RUNS: i64 = 12;
const GROWING: [&str; 4] = ["deliveries", "delivery_attempts", "delivery_bodies", "endpoints"];

#[tokio::test]
async fn what_grows_is_read_by_index_from_the_first_row_on() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let before = scans(stage.database.expose(), &GROWING);
    let mut held = stage.runs_held().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    for log in 0..RUNS {
        stage.finish([run(7, log)]).await;
        next_held(&mut held).await;
        running.settled(log, "delivered").await;
    }
    running.stop().await;

    assert_eq!(before, all_scans(stage.database.expose(), &GROWING).await);
}
