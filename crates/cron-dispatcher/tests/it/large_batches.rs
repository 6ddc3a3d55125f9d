//! What is due at one instant may be more than fits into memory.

use std::ops::RangeInclusive;

use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl};
use model::document::{Agent, Previous};
use model::id::AgentId;
use model::run::{RunRequest, RunState};

use crate::harness::{House, agent, document};

/// In how many transactions the runs of these agents were made; none on SQLite, which does not say.
fn transactions(house: &House, agents: RangeInclusive<i64>) -> Option<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let mut postgres = house.postgres()?;
    let count = diesel::sql_query(
        "SELECT count(DISTINCT CAST(run_bodies.xmin AS TEXT)) AS count FROM run_bodies JOIN runs ON id = run_id
         WHERE agent_id BETWEEN $1 AND $2",
    );
    let count = count.bind::<BigInt, _>(*agents.start()).bind::<BigInt, _>(*agents.end());
    Some(count.get_result::<Count>(&mut postgres).expect("a count").count)
}

fn agents_of(requests: &[RunRequest]) -> Vec<i64> {
    let mut agents: Vec<i64> = requests.iter().map(|request| request.run.agent_id.0).collect();
    agents.sort_unstable();
    agents
}

#[tokio::test]
async fn followers_of_a_large_output_fire_once_each_and_not_all_at_once() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let previous = Some(Previous { agent_id: AgentId(1), status: RunState::Success });
    let followers = (2..=21).map(|id| Agent { previous, ..agent(id, "*", "*", version) });
    house.settle_in([agent(1, "1", "10", version)].into_iter().chain(followers).collect()).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer_together(&[first], &[&"x".repeat(8 << 20)]).await;
    let requests = house.requested_many(20).await;
    assert_eq!(agents_of(&requests), (2..=21).collect::<Vec<_>>());
    for request in &requests {
        // Four megabytes of a prompt.
        assert!(request.prompt.contains("xxx") && request.prompt.ends_with(" bytes cut]"));
    }
    house.assert_nothing_requested().await;
    // Four of them are what fits.
    assert_eq!(transactions(&house, 2..=21).unwrap_or(5), 5);
}

#[tokio::test]
async fn agents_with_large_prompts_fire_once_each_and_not_all_at_once() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let large = |id| Agent { prompt: "x".repeat(450_000), ..agent(id, "1", "10", version) };
    house.settle_in((1..=20).map(large).collect()).await;
    house.announce((21..=40).map(|id| document("acme", large(id))).collect()).await;
    house.advance(60);
    let requests = house.requested_many(40).await;
    assert_eq!(agents_of(&requests), (1..=40).collect::<Vec<_>>());
    house.assert_nothing_requested().await;
    assert_eq!(transactions(&house, 1..=40).unwrap_or(2), 2);
}
