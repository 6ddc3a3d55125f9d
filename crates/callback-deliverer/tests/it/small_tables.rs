//! How PostgreSQL reads tables that are small. It keeps the plans that it made then until it analyses the table, up to a
//! minute later: one that reads an empty table from end to end would read it so while a burst fills it.

use chrono::TimeDelta;
use test_kit::Scans;

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, next_held, run};

/// More often than a statement is planned for the values that it is given.
const RUNS: i64 = 12;
const GROWING: [&str; 4] = ["deliveries", "delivery_attempts", "delivery_bodies", "endpoints"];

#[tokio::test]
async fn what_grows_is_read_by_index_from_the_first_row_on() {
    let (stage, receiver) = (Stage::new().await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    let before = Scans::so_far(stage.database.expose(), &GROWING);
    let mut held = stage.runs_held().await;
    stage.announce(7, 1, &receiver.url, Some(SECRET)).await;
    for log in 0..RUNS {
        stage.finish([run(7, log)]).await;
        next_held(&mut held).await;
        running.settled(log, "delivered").await;
    }
    // A body is only read for what is tried again.
    receiver.answer(Answer::Status(500));
    stage.finish([run(7, RUNS)]).await;
    running.attempted(RUNS, 1).await;
    receiver.answer(Answer::Status(200));
    stage.clock.advance(TimeDelta::seconds(6));
    running.settled(RUNS, "delivered").await;
    running.stop().await;

    Scans::assert_by_index(before, stage.database.expose()).await;
}
