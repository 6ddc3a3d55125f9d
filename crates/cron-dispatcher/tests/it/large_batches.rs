//! What is due at one instant may be more than fits into memory.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bus::{Bus, Message, PublishError};
use cron_dispatcher::DispatcherConfig;
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl};
use model::document::{Agent, Document, Organisation, Previous, Subject};
use model::id::AgentId;
use model::run::{RunReason, RunRecord, RunRequest, RunState};
use test_kit::{Gate, GatedBus};

use crate::harness::{House, agent, at, document, organisation};

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

/// How many bytes the largest publish had.
#[derive(Clone, Default)]
struct Largest(Arc<AtomicUsize>);

#[async_trait]
impl Gate for Largest {
    async fn enter(&self, messages: &[Message]) -> Result<(), PublishError> {
        self.0.fetch_max(messages.iter().map(|message| message.body.len()).sum(), Ordering::SeqCst);
        Ok(())
    }
}

/// A house in which twenty runs are requested that are asked four megabytes each, of agents 2 to 21.
async fn house_with_large_requests() -> (House, Largest, Vec<RunRequest>) {
    let largest = Largest::default();
    let gate = largest.clone();
    let wrap = |inner| -> Arc<dyn Bus> { Arc::new(GatedBus { gate, inner }) };
    let mut house = House::with_bus("2026-01-01T10:00:00Z", DispatcherConfig::default(), wrap).await;
    let version = house.version();
    let previous = Some(Previous { agent_id: AgentId(1), status: RunState::Success });
    let followers = (2..=21).map(|id| {
        let mut follower = Agent { previous, ..agent(id, "*", "*", version) };
        follower.schedule.timeout = std::time::Duration::from_secs(30);
        follower
    });
    house.settle_in([agent(1, "1", "10", version)].into_iter().chain(followers).collect()).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer_together(&[first], &[&"x".repeat(8 << 20)]).await;
    assert_eq!(house.finished().await.len(), 1);
    let requests = house.requested_many(20).await;
    (house, largest, requests)
}

/// What was published at once was not all of them: a piece of 16 MiB, to the registry and to the deliverer.
fn assert_announced_in_pieces(largest: &Largest, ended: &[RunRecord], reason: RunReason) {
    let agents: BTreeSet<i64> = ended.iter().map(|one| one.run.agent_id.0).collect();
    assert_eq!(agents, (2..=21).collect());
    let is_as_said = |one: &RunRecord| one.result.as_ref().is_some_and(|result| result.reason == Some(reason));
    assert!(ended.iter().all(is_as_said));
    let bytes = largest.0.load(Ordering::SeqCst);
    assert!(bytes <= 33 << 20, "{bytes} bytes were published at once");
}

#[tokio::test]
async fn large_runs_that_start_and_end_together_are_announced_in_pieces() {
    let (mut house, largest, requests) = house_with_large_requests().await;
    for request in &requests {
        house.started(request).await;
    }
    for request in &requests {
        house.reached(request.run.id, RunState::Running).await;
    }
    // The run's time-out and the dispatcher's grace.
    house.advance(41);
    let mut ended = Vec::new();
    while ended.len() < 20 {
        ended.extend(house.until_finished().await);
    }
    assert_announced_in_pieces(&largest, &ended, RunReason::TimedOut);
}

#[tokio::test]
async fn large_runs_that_may_not_begin_any_more_are_announced_in_pieces() {
    let (mut house, largest, _) = house_with_large_requests().await;
    house.advance(1);
    let settings = Organisation { revoked_users: BTreeSet::from(["admin".to_owned()]), ..Organisation::default() };
    let revoked = Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) };
    house.announce(vec![revoked]).await;
    let mut ended = Vec::new();
    while ended.len() < 20 {
        ended.extend(house.finished().await);
    }
    assert_announced_in_pieces(&largest, &ended, RunReason::CreatorNotAllowed);
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

#[tokio::test]
async fn followers_with_large_prompts_are_made_ready_once_each_and_follow_a_new_zone() {
    let mut house = House::start("2026-07-01T00:00:00Z").await;
    let version = house.version();
    let previous = Some(Previous { agent_id: AgentId(1), status: RunState::Success });
    let large = |id| Agent { prompt: "x".repeat(450_000), ..agent(id, "*", "*", version) };
    house.settle_in(vec![agent(1, "1", "0", version)]).await;
    for piece in [2..=21, 22..=41] {
        let followers = piece.map(|id| document("acme", Agent { previous, ..large(id) }));
        house.announce(followers.collect()).await;
    }
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "done").await;
    let requests = house.requested_many(40).await;
    assert_eq!(agents_of(&requests), (2..=41).collect::<Vec<_>>());
    house.answer_together(&requests, &["done"]).await;
    for request in &requests {
        house.reached(request.run.id, RunState::Success).await;
    }

    for piece in [52..=71, 72..=91] {
        let daily = |id| document("acme", Agent { prompt: large(id).prompt, ..agent(id, "0", "9", version) });
        house.announce(piece.map(daily).collect()).await;
    }
    house.advance(60);
    let settings = Organisation { timezone: chrono_tz::Europe::Berlin, ..Organisation::default() };
    let berlin = Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) };
    house.announce(vec![berlin]).await;
    house.assert_nothing_requested().await;
    house.clock.advance(at("2026-07-01T07:00:00Z") - house.clock.now());
    let requests = house.requested_many(40).await;
    assert_eq!(agents_of(&requests), (52..=91).collect::<Vec<_>>());
    house.assert_ledger_is_clean().await;
}

/// An agent that is asked half a megabyte, so that a piece has 37 of its kind.
fn large(id: i64, minute: &str, version: i64) -> Agent {
    Agent { prompt: "x".repeat(450_000), ..agent(id, minute, "10", version) }
}

/// Announces agents 2 to 41 of their kind, each of which is due in this minute; the even ones by somebody else.
async fn announce_large(house: &mut House, minute: &str) {
    let version = house.version();
    for piece in [2..=21, 22..=41] {
        let by = |id| if id % 2 == 0 { "eve" } else { "admin" };
        let announced =
            piece.map(|id| document("acme", Agent { username: by(id).into(), ..large(id, minute, version) }));
        house.announce(announced.collect()).await;
    }
}

#[tokio::test]
async fn large_runs_that_waited_enter_in_their_order_but_for_those_that_may_not() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![agent(1, "1", "10", version)]).await;
    announce_large(&mut house, "2").await;
    house.advance(1);
    let settings = |house: &House, settings| Document {
        subject: Subject::Organisation(settings),
        ..organisation("acme", house.version())
    };
    let limited = Organisation { runs_in_flight_max: NonZeroU32::new(1), ..Organisation::default() };
    house.announce(vec![settings(&house, limited)]).await;
    house.advance(60);
    assert_eq!(house.requested().await.run.agent_id, AgentId(1));
    house.advance(60);
    house.until_fired().await;

    let revoked = Organisation { revoked_users: BTreeSet::from(["eve".to_owned()]), ..Organisation::default() };
    house.announce(vec![settings(&house, revoked)]).await;
    let mut entered = Vec::new();
    while entered.len() < 20 {
        // The one that was in their way may be taken for lost meanwhile.
        entered.extend(Some(house.requested().await.run.agent_id.0).filter(|agent_id| *agent_id != 1));
    }
    assert_eq!(entered, (2..=41).filter(|id| id % 2 == 1).collect::<Vec<_>>());
    let mut ended = Vec::new();
    while ended.len() < 20 {
        ended.extend(house.finished().await);
    }
    let barred = |one: &RunRecord| {
        let reason = one.result.as_ref().and_then(|result| result.reason);
        (reason == Some(RunReason::CreatorNotAllowed)).then_some(one.run.agent_id.0)
    };
    let barred: BTreeSet<i64> = ended.iter().filter_map(barred).collect();
    assert_eq!(barred, (2..=41).filter(|id| id % 2 == 0).collect());
}

#[tokio::test]
async fn large_requests_that_were_lost_together_are_sent_again_in_pieces_and_in_their_order() {
    let largest = Largest::default();
    let gate = largest.clone();
    let wrap = |inner| -> Arc<dyn Bus> { Arc::new(GatedBus { gate, inner }) };
    let mut house = House::with_bus("2026-01-01T10:00:00Z", DispatcherConfig::default(), wrap).await;
    house.settle_in(Vec::new()).await;
    announce_large(&mut house, "1").await;
    house.advance(60);
    let requests = house.requested_many(40).await;
    assert_eq!(agents_of(&requests), (2..=41).collect::<Vec<_>>());
    let mut again = vec![house.until_requested().await.run.agent_id.0];
    let rest = house.requested_many(39).await;
    again.extend(rest.iter().map(|request| request.run.agent_id.0));
    assert_eq!(again, (2..=41).collect::<Vec<_>>());
    let bytes = largest.0.load(Ordering::SeqCst);
    // What is fired at once has one more than fits.
    assert!(bytes <= 18 << 20, "{bytes} bytes were published at once");
}
