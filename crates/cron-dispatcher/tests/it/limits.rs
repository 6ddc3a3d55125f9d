//! Limits: how many runs of an organisation, a mentor or an agent are in flight at once.

use std::num::NonZeroU32;

use model::document::{Agent, Document, Organisation, Subject};
use model::id::MentorId;

use crate::harness::{House, agent, at, document, mentor, organisation};

fn most(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn limited_organisation(key: &str, version: i64, number: u32) -> Document {
    let settings = Organisation { runs_in_flight_max: most(number), ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation(key, version) }
}

fn limited_mentor(version: i64, number: u32) -> Document {
    let mut document = mentor("acme", version);
    if let Subject::Mentor(mentor) = &mut document.subject {
        mentor.runs_in_flight_max = most(number);
    }
    document
}

async fn assert_two_at_a_time(mut house: House, documents: Vec<Document>) {
    house.announce(documents).await;
    house.advance(60);
    for _ in 0..3 {
        let first = house.requested_many(2).await;
        house.assert_nothing_requested().await;
        for request in &first {
            house.answer(request, "done").await;
        }
    }
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn an_organisation_has_no_more_in_flight_than_its_limit() {
    let house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut documents = vec![limited_organisation("acme", version, 2), mentor("acme", version)];
    documents.extend((1..=6).map(|id| document("acme", agent(id, "1", "10", version))));
    assert_two_at_a_time(house, documents).await;
}

#[tokio::test]
async fn a_mentor_has_no_more_in_flight_than_its_limit() {
    let house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut documents = vec![organisation("acme", version), limited_mentor(version, 2)];
    documents.extend((1..=6).map(|id| document("acme", agent(id, "1", "10", version))));
    assert_two_at_a_time(house, documents).await;
}

#[tokio::test]
async fn an_agent_has_no_more_in_flight_than_its_limit_and_holds_up_nobody_else() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let narrow = Agent { runs_in_flight_max: most(1), ..agent(7, "*", "*", version) };
    house.settle_in(vec![narrow, agent(8, "3", "10", version)]).await;
    house.advance(60);
    let first = house.requested().await;
    house.started(&first).await;
    house.recorded().await;
    house.advance(60);
    house.assert_nothing_requested().await;
    house.advance(60);
    assert_eq!(house.requested().await.run.agent_id.0, 8, "another agent does not wait");
    house.answer(&first, "done").await;
    assert_eq!(house.requested().await.run.nominal_time, at("2026-01-01T10:02:00Z"));
    house.assert_ledger_is_clean().await;
}

/// Each look moves a few of them on; a second apart, they would take minutes.
#[tokio::test]
async fn a_free_place_goes_to_whoever_may_have_it_however_many_may_not_before_him() {
    const BEFORE: i64 = 200;
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut other = mentor("acme", version);
    if let Subject::Mentor(mentor) = &mut other.subject {
        mentor.id = MentorId(2);
    }
    let mut documents = vec![limited_organisation("acme", version, 2), limited_mentor(version, 1), other];
    let free = Agent { mentor_id: MentorId(2), ..agent(1, "1,3", "10", version) };
    documents.extend([free, agent(2, "1", "10", version)].map(|agent| document("acme", agent)));
    documents.extend((3..3 + BEFORE).map(|id| document("acme", agent(id, "2", "10", version))));
    house.announce(documents).await;
    house.advance(60);
    let both = house.requested_many(2).await;
    for request in &both {
        house.started(request).await;
        house.recorded().await;
    }
    let first = both.iter().find(|request| request.run.agent_id.0 == 1).unwrap();
    house.advance(60);
    house.assert_nothing_requested().await;
    house.advance(60);
    house.assert_nothing_requested().await;
    house.answer(first, "done").await;
    assert_eq!(house.requested().await.run.agent_id.0, 1);
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_limit_that_is_raised_lets_in_what_waited() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut documents = vec![limited_organisation("acme", version, 1), mentor("acme", version)];
    documents.extend((1..=4).map(|id| document("acme", agent(id, "1", "10", version))));
    house.announce(documents).await;
    house.advance(60);
    house.requested().await;
    house.assert_nothing_requested().await;
    house.announce(vec![organisation("acme", house.version())]).await;
    house.requested_many(3).await;
}
