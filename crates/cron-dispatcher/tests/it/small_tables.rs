//! How PostgreSQL reads tables that are small. It keeps the plans that it made then until it analyses the table, up to a
//! minute later: one that reads an empty table from end to end would read it so while a burst fills it.

use model::document::Receiver;

use crate::harness::{House, agent};

/// More often than a statement is planned for the values that it is given.
const RUNS: usize = 12;
const GROWING: [&str; 4] = ["documents", "run_bodies", "runs", "schedules"];

#[tokio::test]
async fn what_grows_is_read_by_index_from_the_first_row_on() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    // To make an index is to read the table.
    let before = house.scans(&GROWING);
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    for _ in 0..RUNS {
        house.advance(60);
        let request = house.requested().await;
        house.answer(&request, "sunny").await;
        house.finished().await;
        house.recorded().await;
        for receiver in [Receiver::AgentRegistry, Receiver::CallbackDeliverer] {
            house.hold(receiver, vec![request.run.id]).await;
        }
    }

    house.assert_by_index(before).await;
}
