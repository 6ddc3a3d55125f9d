//! Two transactions at once, on PostgreSQL: the test holds a row that the one waits for, until the other is done.

use std::cell::Cell;
use std::time::Duration;

use cron_dispatcher::DispatcherConfig;
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{PgConnection, QueryableByName, RunQueryDsl};
use model::document::{Agent, CatchUp, Document, Organisation, OverlapPolicy, Pause, Previous, Subject};
use model::event::DocumentChanged;
use model::id::AgentId;
use model::internal::TriggerRequest;
use model::run::RunState;
use serde_json::json;
use test_kit::until;

use crate::harness::{House, agent, at, document, organisation};

const PATIENCE: Duration = Duration::from_secs(60);
const BLOCKED: &str = "SELECT count(*) AS number FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn count(conn: &mut PgConnection, query: &str) -> i64 {
    diesel::sql_query(query).get_result::<Count>(conn).expect("a count").number
}

#[tokio::test]
async fn a_run_that_ends_while_it_enters_the_window_stays_ended() {
    let config = DispatcherConfig { window: 1, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let (Some(mut cancelling), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version), agent(8, "1", "10", version)]).await;
    house.advance(60);
    let first = house.requested().await;
    cancelling.batch_execute("BEGIN; SELECT id FROM runs WHERE stage = 'queued' FOR UPDATE").unwrap();
    house.answer(&first, "done").await;
    until("the other is about to enter", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(())).await;
    let cancel = "UPDATE runs SET stage = 'error', ended_at = now(), check_at = NULL WHERE stage = 'queued'; COMMIT";
    cancelling.batch_execute(cancel).unwrap();
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn who_begins_to_wait_for_a_pause_while_it_ends_does_not_wait_for_ever() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let (Some(mut holding), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    let pause = |house: &House, pause: Pause| {
        let settings = Organisation { pause, ..Organisation::default() };
        Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
    };
    house.settle_in(vec![agent(7, "*", "*", house.version())]).await;
    house.advance(60);
    let first = house.requested().await;
    house.answer(&first, "done").await;
    house.finished().await;
    house.advance(1);
    house.announce(vec![pause(&house, Pause { paused: true, resumed_with: None })]).await;
    // Whoever fires locks the turns once it has looked for pauses.
    holding.batch_execute("BEGIN; SELECT last_turn FROM turns FOR UPDATE").unwrap();
    house.advance(60);
    until("it is about to wait", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(())).await;

    let resumed = pause(&house, Pause { paused: false, resumed_with: Some(CatchUp::Latest) });
    house.publish(&DocumentChanged { documents: vec![resumed] }).await;
    let resuming = async || {
        let has_resumed = count(&mut looking, "SELECT count(*) AS number FROM limits WHERE paused") == 0;
        (has_resumed || count(&mut looking, BLOCKED) == 2).then_some(())
    };
    until("the pause ends, or waits for those that begin to wait", PATIENCE, resuming).await;
    holding.batch_execute("COMMIT").unwrap();
    assert_eq!(house.requested().await.run.nominal_time, at("2026-01-01T10:02:00Z"));
}

#[tokio::test]
async fn who_waits_for_a_pause_of_everything_that_is_ended_as_it_begins_does_not_wait_for_ever() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let (Some(mut holding), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    house.settle_in(vec![agent(7, "1", "10", house.version())]).await;
    // From now on there is a row of it.
    house.pause_everything(json!({"paused": false})).await;
    holding.batch_execute("BEGIN; SELECT id FROM everything FOR UPDATE").unwrap();
    let pausing = house.pause_everything(json!({"paused": true}));
    let resuming = async {
        until("the pause begins", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(())).await;
        tokio::join!(house.pause_everything(json!({"paused": false, "catch_up": "latest"})), async {
            until("the other ends it", PATIENCE, async || (count(&mut looking, BLOCKED) == 2).then_some(())).await;
            // As a fire does in between.
            let wait = "UPDATE schedules SET waits_for = 'paused', waits_since = next_fire_at, next_fire_at = NULL, \
                        nominal_at = NULL; COMMIT";
            holding.batch_execute(wait).unwrap();
        })
    };
    tokio::join!(pausing, resuming);
    assert_eq!(house.paused().await["paused"], false);
    house.advance(60);
    assert_eq!(house.requested().await.run.nominal_time, at("2026-01-01T10:01:00Z"));
}

#[tokio::test]
async fn runs_that_end_along_a_chain_lock_its_schedules_in_one_order() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let (Some(mut holding), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    let version = house.version();
    let follows = |id, previous| {
        let previous = Some(Previous { agent_id: AgentId(previous), status: RunState::Success });
        let mut agent = Agent { previous, ..agent(id, "0", "0", version) };
        agent.schedule.overlap = OverlapPolicy::QueueOne;
        agent
    };
    let by_eve = |agent| Agent { username: "eve".into(), ..agent };
    // The last follows the third, the third and the first follow the second.
    let second = by_eve(agent(2, "0", "0", version));
    house.settle_in(vec![follows(1, 2), second, follows(3, 2), by_eve(follows(4, 3))]).await;
    let mut runs = Vec::new();
    for id in 2..=4 {
        let (agent_id, documents, prompt, nominal_time) = (AgentId(id), Vec::new(), None, None);
        let asked = TriggerRequest { documents, agent_id, prompt, nominal_time, idempotency_key: String::new() };
        runs.push(house.trigger(&asked).await.expect("a run").run.id);
        house.requested().await;
    }
    holding.batch_execute("BEGIN; SELECT agent_id FROM schedules WHERE agent_id = 1 FOR UPDATE").unwrap();
    house.advance(1);
    let settings = Organisation { revoked_users: ["eve".to_owned()].into(), ..Organisation::default() };
    let revoked = Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) };
    // Ends the runs of the second and the last.
    let revoking = house.apply(vec![revoked]);
    let is_cancelled = Cell::new(false);
    let cancelling = async {
        until("those runs are about to end", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(()))
            .await;
        let cancel = async {
            house.cancel(runs[1]).await;
            is_cancelled.set(true);
        };
        tokio::join!(cancel, async {
            let goes_on = async || (is_cancelled.get() || count(&mut looking, BLOCKED) == 2).then_some(());
            until("the run between them ends, or waits", PATIENCE, goes_on).await;
            holding.batch_execute("COMMIT").unwrap();
        })
    };
    tokio::join!(revoking, cancelling);
    for id in runs {
        assert_eq!(house.run(id).await.unwrap().state, RunState::Error);
    }
}

#[tokio::test]
async fn a_pause_of_more_than_one_batch_and_a_fire_do_not_wait_for_each_other() {
    let config = DispatcherConfig { fire_batch: 1, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let (Some(mut firing), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    let version = house.version();
    house.settle_in(vec![agent(1, "1,2", "10", version), agent(2, "1,2", "10", version)]).await;
    house.advance(60);
    house.requested_many(2).await;
    // Who fires from now on is this test: schedules first, then the turns of their organisations.
    house.crash().await;
    firing.batch_execute("BEGIN; SELECT agent_id FROM schedules WHERE agent_id = 2 FOR UPDATE").unwrap();
    house.advance(60);
    let pausing = house.pause_everything(json!({"paused": true}));
    tokio::join!(pausing, async {
        let waits = async || (count(&mut looking, BLOCKED) == 1).then_some(());
        until("the pause waits for what is being fired", PATIENCE, waits).await;
        firing.batch_execute("SELECT last_turn FROM turns FOR UPDATE; COMMIT").unwrap();
    });
    assert_eq!((house.ticks(1).await.len(), house.ticks(2).await.len()), (2, 2));
}

fn pausing(house: &House, paused: bool) -> Document {
    let pause = Pause { paused, resumed_with: None };
    let settings = Organisation { pause, ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
}

/// Agents 8 and 7, in this order, whose ticks wait for the end of this pause.
async fn wait_for_a_pause(house: &mut House, pause: impl AsyncFnOnce(&House)) {
    let version = house.version();
    house.settle_in(vec![agent(8, "1", "10", version), agent(7, "1", "10", version)]).await;
    house.advance(1);
    pause(house).await;
    house.advance(60);
    house.until_fired().await;
}

/// While it waits for the schedule of agent 7, nothing is locked yet that comes after that.
const OF_SEVEN: &str = "BEGIN; SELECT agent_id FROM schedules WHERE agent_id = 7 FOR UPDATE";
const OF_EIGHT: &str = "SELECT agent_id FROM schedules WHERE agent_id = 8 FOR UPDATE NOWAIT";

#[tokio::test]
async fn who_resumes_everything_locks_schedules_in_key_order_and_before_it_is_resumed() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let (Some(mut holding), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    wait_for_a_pause(&mut house, async |house| drop(house.pause_everything(json!({"paused": true})).await)).await;
    holding.batch_execute(OF_SEVEN).unwrap();
    tokio::join!(house.pause_everything(json!({"paused": false})), async {
        until("it waits", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(())).await;
        holding.batch_execute(OF_EIGHT).unwrap();
        holding.batch_execute("SELECT id FROM everything FOR SHARE NOWAIT; COMMIT").unwrap();
    });
    house.requested_many(2).await;
}

#[tokio::test]
async fn who_resumes_an_organisation_locks_its_schedules_before_its_document() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let (Some(mut holding), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    wait_for_a_pause(&mut house, async |house| drop(house.apply(vec![pausing(house, true)]).await)).await;
    holding.batch_execute(OF_SEVEN).unwrap();
    tokio::join!(house.apply(vec![pausing(&house, false)]), async {
        until("it waits", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(())).await;
        holding.batch_execute(OF_EIGHT).unwrap();
        let document = "SELECT version FROM documents WHERE kind = 'organisation' FOR SHARE NOWAIT; COMMIT";
        holding.batch_execute(document).unwrap();
    });
    house.requested_many(2).await;
}

#[tokio::test]
async fn edits_that_come_with_a_pause_lock_their_schedules_before_the_window() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let (Some(mut holding), Some(mut looking)) = (house.postgres(), house.postgres()) else { return };
    let version = house.version();
    house.settle_in(vec![agent(7, "1", "10", version)]).await;
    house.advance(1);
    holding.batch_execute(OF_SEVEN).unwrap();
    let edited = document("acme", agent(7, "2", "10", house.version()));
    tokio::join!(house.apply(vec![pausing(&house, true), edited]), async {
        until("it waits", PATIENCE, async || (count(&mut looking, BLOCKED) == 1).then_some(())).await;
        let windows = "SELECT count(*) AS number FROM pg_locks JOIN pg_database ON pg_database.oid = database \
                       WHERE datname = current_database() AND locktype = 'advisory' AND objid = 7262745";
        assert_eq!(count(&mut looking, windows), 0);
        holding.batch_execute("COMMIT").unwrap();
    });
}
