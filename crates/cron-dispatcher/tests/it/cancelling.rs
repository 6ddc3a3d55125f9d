//! A run that is cancelled ends at once.

use model::run::{RunReason, RunState};

use crate::harness::{House, agent};

#[tokio::test]
async fn a_cancelled_run_ends_at_once_is_called_back_and_its_answer_comes_too_late() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(7, "*", "*", version)]).await;
    let mut broadcasts = house.subscribe().await;
    house.advance(60);
    let request = house.requested().await;
    house.started(&request).await;
    house.recorded().await;

    let cancelled = house.cancel(request.run.id).await.unwrap();
    let reason = cancelled.result.as_ref().unwrap().reason;
    assert_eq!((cancelled.state, reason), (RunState::Error, Some(RunReason::Cancelled)));
    assert_eq!(house.finished().await[0].run.id, request.run.id);
    assert_eq!(house.recorded().await[0].state, RunState::Error);
    let told = broadcasts.next().await.unwrap();
    assert_eq!(told.kind, model::event::EventKind::RunCancel);

    house.answer(&request, "too late").await;
    let again = house.cancel(request.run.id).await.unwrap();
    assert_eq!(again, cancelled, "to cancel it again changes nothing");
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn a_run_that_nobody_knows_cannot_be_cancelled() {
    let house = House::start("2026-01-01T10:00:00Z").await;
    assert_eq!(house.cancel(model::id::RunId(4)).await, None);
}
