//! Leases: who may record what came of a delivery attempt.

mod many;
mod retention;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use model::id::{AgentId, OrganisationKey, RunId};
use model::run::{Run, RunRecord, RunResult, RunState, Trigger};
use service_kit::config::{ConnectionUrl, DatabaseConfig};
use service_kit::database::{DatabaseError, Db, DbConnection, Timestamp, Uid};
use test_kit::Backends;
use uuid::Uuid;

use super::endpoints::Endpoint;
use super::intake::{Intake, News};
use super::record::{DeliveryAttempt, Entry, Verdict};
use super::{Leased, Lessee, claim, drain, endpoints, intake, listing, record, replicas};
use crate::lanes::{Lanes, Limits};
use crate::log_link::LogLinks;
use crate::schema;
use crate::words::{OutcomeClass, Status};

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn lessee(owner: u128, now: DateTime<Utc>) -> Lessee {
    let until = Timestamp::from(now + TimeDelta::seconds(25));
    Lessee { owner: Uid::from(Uuid::from_u128(owner)), now: now.into(), until }
}

fn entry(delivery: &Leased, outcome: OutcomeClass, verdict: Verdict) -> Entry {
    let delivery_attempt = DeliveryAttempt {
        delivery_id: delivery.id,
        number: delivery.number,
        started_at: noon().into(),
        duration_ms: 1,
        outcome,
        http_status: None,
        error: None,
        response_excerpt: None,
    };
    let (owner, target) = (lessee(1, noon()).owner, delivery.target.clone());
    Entry { owner, delivery_attempt, verdict, agent_id: 7, organisation: "acme".into(), target, counts: true }
}

fn lanes() -> Arc<Lanes> {
    let lanes = Lanes::new(Limits { in_flight_max: 10, body_bytes_max: 1 << 20 });
    lanes.begin_claim();
    lanes
}

fn ids(recorded: QueryResult<record::Recorded>) -> usize {
    recorded.unwrap().ids.len()
}

fn record(connection: &mut DbConnection, entries: &[Entry]) -> QueryResult<record::Recorded> {
    record::record(connection, noon().into(), Uuid::nil(), entries)
}

fn ended_run() -> RunRecord {
    RunRecord {
        run: Run {
            id: RunId(41),
            organisation: OrganisationKey("acme".into()),
            agent_id: AgentId(7),
            trigger: Trigger::Manual,
            fire_time: noon(),
            nominal_time: noon(),
            sequence: 1,
            run_attempt: 1,
            passed_over: 0,
        },
        state: RunState::Success,
        prompt: String::new(),
        requested_at: noon(),
        started_at: None,
        ended_at: Some(noon()),
        result: Some(RunResult::default()),
        next_fire_time: None,
        finished_timing_version: None,
        agent_version: None,
    }
}

/// An agent's endpoint, held since noon.
fn endpoint(agent_id: i64, url: &str) -> Endpoint {
    Endpoint {
        agent_id,
        organisation: "acme".into(),
        version: 1,
        url: Some(url.to_owned()),
        sealed_secret: Vec::new(),
        previous_sealed_secret: None,
        previous_until: None,
        encrypt: false,
        signature_only_hub: false,
        deleted: false,
        updated_at: noon().into(),
    }
}

/// One delivery, leased to owner 1 at noon.
fn leased(connection: &mut DbConnection) -> Leased {
    leased_in(connection, &lanes())
}

/// The same, with its slot in these lanes.
fn leased_in(connection: &mut DbConnection, lanes: &Arc<Lanes>) -> Leased {
    endpoints::apply(connection, &[endpoint(7, "https://a.example/")], noon().into()).unwrap();
    let news = [News::Run(Box::new(ended_run()))];
    let intake = Intake { installation: Uuid::nil(), lessee: lessee(1, noon()), lanes, links: &LogLinks::none() };
    let taken = intake::take_in(connection, &news, &intake).unwrap();
    taken.leased.into_iter().next().unwrap()
}

async fn database(backends: &Backends) -> Db {
    let url = ConnectionUrl::new(backends.database("deliverer"));
    Db::open(&DatabaseConfig { url, ..DatabaseConfig::default() }, super::migrations()).await.unwrap()
}

async fn in_a_database(test: impl FnOnce(&mut DbConnection) + Send + 'static) {
    let backends = Backends::of_environment();
    database(&backends)
        .await
        .write(move |connection| {
            test(connection);
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
}

fn status(connection: &mut DbConnection, id: i64) -> (Status, i32, usize) {
    let (row, made) = listing::find(connection, id).unwrap().unwrap();
    (row.status, row.delivery_attempts_made, made.len())
}

#[tokio::test]
async fn only_the_owner_of_the_lease_records_and_only_once() {
    in_a_database(|connection| {
        let delivery = leased(connection);
        let delivered = [entry(&delivery, OutcomeClass::Delivered, Verdict::Delivered)];
        let strangers = [Entry { owner: lessee(2, noon()).owner, ..delivered[0].clone() }];
        assert_eq!(ids(record(connection, &strangers)), 0);
        assert_eq!(status(connection, delivery.id), (Status::Pending, 0, 0));
        assert_eq!(ids(record(connection, &delivered)), 1);
        assert_eq!(ids(record(connection, &delivered)), 0);
        assert_eq!(status(connection, delivery.id), (Status::Delivered, 1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_ran_out_passes_on_and_what_its_owner_says_later_changes_nothing() {
    in_a_database(|connection| {
        let late = leased(connection);
        let early = lessee(2, noon() + TimeDelta::seconds(24));
        assert!(claim::claim(connection, &early, &lanes()).unwrap().leased.is_empty());
        let second = lessee(2, noon() + TimeDelta::seconds(25));
        let delivery = claim::claim(connection, &second, &lanes()).unwrap().leased.remove(0);
        assert_eq!((delivery.number, &delivery.body, delivery.webhook_id), (1, &late.body, late.webhook_id));

        let retry_at = Verdict::RetryAt((noon() + TimeDelta::minutes(1)).into());
        let failed = [Entry { owner: second.owner, ..entry(&delivery, OutcomeClass::Timeout, retry_at) }];
        assert_eq!(ids(record(connection, &failed)), 1);
        for verdict in [Verdict::Delivered, Verdict::Exhausted, retry_at, Verdict::Postponed(noon().into())] {
            let entry = entry(&late, OutcomeClass::Delivered, verdict);
            assert_eq!(ids(record(connection, &[entry])), 0);
        }
        assert_eq!(status(connection, delivery.id), (Status::Pending, 1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_postponed_delivery_counts_nothing_and_an_exhausted_one_is_never_due() {
    in_a_database(|connection| {
        let delivery = leased(connection);
        let postponed = Verdict::Postponed((noon() + TimeDelta::seconds(10)).into());
        let entries = [entry(&delivery, OutcomeClass::SecretUnreadable, postponed)];
        assert!(!record(connection, &entries).unwrap().due);
        assert_eq!(status(connection, delivery.id), (Status::Pending, 0, 0));

        let again =
            claim::claim(connection, &lessee(1, noon() + TimeDelta::seconds(10)), &lanes()).unwrap().leased.remove(0);
        let entries = [entry(&again, OutcomeClass::Timeout, Verdict::Exhausted)];
        record(connection, &entries).unwrap();
        assert_eq!(status(connection, delivery.id), (Status::Exhausted, 1, 1));
        assert_eq!(claim::next_due(connection).unwrap(), None);
    })
    .await;
}

#[test]
fn a_verdict_is_told_in_words() {
    let told = |verdict: Verdict| verdict.to_string();
    assert_eq!(told(Verdict::RetryAt(noon().into())), "is tried again at 2026-03-01T12:00:00.000Z");
    assert_eq!(told(Verdict::Exhausted), "exhausted, is not tried again");
    assert_eq!(
        told(Verdict::Postponed(noon().into())),
        "could not be tried, is looked at again at 2026-03-01T12:00:00.000Z"
    );
}

#[tokio::test]
async fn whoever_opens_the_file_next_gets_the_leases_of_the_last_process() {
    in_a_database(|connection| {
        leased(connection);
        assert_eq!(replicas::release_all(connection).unwrap(), 1);
        assert_eq!(claim::claim(connection, &lessee(2, noon()), &lanes()).unwrap().leased.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_a_process_has_in_hand_it_leases_anew_and_does_not_send_again() {
    in_a_database(|connection| {
        let lanes = lanes();
        let delivery = leased_in(connection, &lanes);
        let later = noon() + TimeDelta::seconds(60);
        assert!(claim::claim(connection, &lessee(1, later), &lanes).unwrap().leased.is_empty());
        assert_eq!(claim::next_due(connection).unwrap(), Some((later + TimeDelta::seconds(25)).into()));
        let delivered = [entry(&delivery, OutcomeClass::Delivered, Verdict::Delivered)];
        assert_eq!(ids(record(connection, &delivered)), 1);
    })
    .await;
}

/// As when an outcome was just committed, or a result comes again that a dead replica had leased.
#[tokio::test]
async fn what_is_in_hand_without_a_lease_stays_due_and_is_claimed_once_it_is_out_of_hand() {
    in_a_database(|connection| {
        let lanes = lanes();
        let delivery = leased_in(connection, &lanes);
        let postponed = [entry(&delivery, OutcomeClass::Timeout, Verdict::Postponed(noon().into()))];
        // Somebody has to be told of what is due at once.
        assert!(record(connection, &postponed).unwrap().due);
        assert!(claim::claim(connection, &lessee(1, noon()), &lanes).unwrap().leased.is_empty());
        assert_eq!(claim::next_due(connection).unwrap(), Some(noon().into()));
        drop(delivery);
        assert_eq!(claim::claim(connection, &lessee(1, noon()), &lanes).unwrap().leased.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_replayed_when_not_even_a_tombstone_of_its_agent_is_left_is_discarded() {
    in_a_database(|connection| {
        let delivery = leased(connection);
        let exhausted = [entry(&delivery, OutcomeClass::Timeout, Verdict::Exhausted)];
        record(connection, &exhausted).unwrap();
        diesel::delete(schema::endpoints::table).execute(connection).unwrap();
        drain::make_due(connection, &[delivery.id], &[Status::Exhausted], noon().into()).unwrap();
        let claimed = claim::claim(connection, &lessee(1, noon()), &lanes()).unwrap();
        assert_eq!((claimed.leased.len(), claimed.discarded), (0, 1));
        assert_eq!(status(connection, delivery.id), (Status::Discarded, 1, 1));
    })
    .await;
}

#[tokio::test]
async fn each_delivery_that_is_discarded_is_counted_once_wherever_it_is_decided() {
    in_a_database(|connection| {
        let gone = |version| Endpoint { version, url: None, deleted: true, ..endpoint(7, "") };
        let delivery = leased(connection);
        record(connection, &[entry(&delivery, OutcomeClass::Timeout, Verdict::RetryAt(noon().into()))]).unwrap();
        let next = endpoint(7, "").version + 1;
        assert_eq!(endpoints::apply(connection, &[gone(next)], noon().into()).unwrap().discarded, 1);
        assert_eq!(endpoints::apply(connection, &[gone(next + 1)], noon().into()).unwrap().discarded, 0);
        assert_eq!(status(connection, delivery.id).0, Status::Discarded);

        let news = [News::Run(Box::new(RunRecord { run: Run { id: RunId(4_711), ..ended_run().run }, ..ended_run() }))];
        let lanes = lanes();
        let links = LogLinks::none();
        let intake = Intake { installation: Uuid::nil(), lessee: lessee(1, noon()), lanes: &lanes, links: &links };
        let taken = intake::take_in(connection, &news, &intake).unwrap();
        assert_eq!((taken.new, taken.discarded), (1, 1));
        assert_eq!(intake::take_in(connection, &news, &intake).unwrap().discarded, 0);
    })
    .await;
}
