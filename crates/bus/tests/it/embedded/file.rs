//! The file of the embedded bus: its lock, damage, outages, and the order that it keeps.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::embedded::EmbeddedBus;
use bus::{Bus, BusError, Delivery, Depth, PublishError};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tokio::sync::Semaphore;

use super::open;
use crate::contract::handler::{NOT_HERE, Running, becomes_true, options};
use crate::contract::outage::Gated;
use crate::contract::{ANY_BYTES, QUEUE, depth_becomes, messages, numbers, run_requested, runs_requested, soon, take};

fn opening_error(path: &Path) -> BusError {
    EmbeddedBus::open(path).map(drop).unwrap_err()
}

fn execute(path: &Path, sql: &str) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute(&format!("PRAGMA busy_timeout = 60000; {sql}")).unwrap();
    conn
}

#[tokio::test]
async fn a_file_belongs_to_one_bus_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let bus = EmbeddedBus::open(&path).unwrap();
    let error = opening_error(&path);
    assert!(matches!(error, BusError::InUse { .. }), "{error}");
    assert!(error.to_string().starts_with("another carillon uses the bus `/"), "{error}");

    bus.close().await;
    open(&path).await;
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(&directory.path().join("bus.sqlite")).unwrap();
    bus.publish(runs_requested(1)).await.unwrap();
    let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap());
    let mut found: Vec<(String, u32)> = files
        .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    found.sort();
    let owner_only = |name: &str| (name.to_owned(), 0o600);
    let names = ["bus.sqlite", "bus.sqlite-shm", "bus.sqlite-wal", "bus.sqlite.lock"];
    assert_eq!(found, names.map(owner_only));
}

#[tokio::test]
async fn a_bus_that_nobody_has_any_more_lets_go_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let bus = EmbeddedBus::open(&path).unwrap();
    let mut consumer = bus.consume(QUEUE, 1).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(10), consumer.next_batch(1, ANY_BYTES)).await.is_err());
    drop((bus, consumer));
    soon(async {
        while EmbeddedBus::open(&path).is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let error = opening_error(Path::new("/nowhere/at/all/bus.sqlite"));
    assert!(matches!(error, BusError::Open { .. }), "{error}");
    assert!(error.to_string().contains("/nowhere/at/all/bus.sqlite"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_reported_as_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    std::fs::write(&path, "this was never a database, ".repeat(1000)).unwrap();
    let error = opening_error(&path);
    assert!(matches!(error, BusError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_reported_at_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let bus = EmbeddedBus::open(&path).unwrap();
    bus.publish(runs_requested(2000)).await.unwrap();
    bus.close().await;

    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(20_000)).unwrap();
    file.write_all(&[0xA5; 30_000]).unwrap();
    let error = opening_error(&path);
    assert!(matches!(error, BusError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    execute(&path, "CREATE TABLE messages (id INTEGER); PRAGMA user_version = 7;");
    let error = opening_error(&path);
    assert!(matches!(error, BusError::Newer { found: 7, .. }), "{error}");
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent-registry.sqlite");
    execute(&path, "CREATE TABLE agents (id INTEGER);");
    let error = opening_error(&path);
    assert!(matches!(error, BusError::Open { .. }), "{error}");
}

/// Another tool that holds the file stands for whatever keeps a commit from happening.
#[tokio::test]
async fn while_the_file_cannot_be_written_nothing_is_confirmed_and_later_it_works_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let bus = EmbeddedBus::open(&path).unwrap();
    bus.publish(vec![run_requested(1)]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let in_hand = take(&mut consumer, 1).await.remove(0);

    let intruder = execute(&path, "BEGIN IMMEDIATE;");
    let (published, acknowledged) = tokio::join!(bus.publish(vec![run_requested(2)]), in_hand.ack());
    assert!(matches!(published, Err(PublishError::Unavailable(_))), "{published:?}");
    assert!(matches!(acknowledged, Err(BusError::Unavailable(_))), "{acknowledged:?}");
    drop(intruder);

    bus.publish(vec![run_requested(3)]).await.unwrap();
    let taken = take(&mut consumer, 2).await;
    assert_eq!(numbers(&messages(&taken)), [1, 3]);
    Delivery::ack_all(taken).await.unwrap();
    depth_becomes(&bus, QUEUE, Depth::default()).await;
}

#[tokio::test]
async fn a_consumer_that_could_not_acknowledge_is_ready_again_though_another_has_the_message() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(&path).unwrap());
    bus.publish(vec![run_requested(1)]).await.unwrap();
    let (entered, may_finish) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let handler = Gated { entered: Arc::clone(&entered), may_finish: Arc::clone(&may_finish) };
    let running = Running::start_handler(&bus, options(NOT_HERE), handler);
    soon(entered.acquire()).await.unwrap().forget();

    let mut other = bus.consume(QUEUE, 10).await.unwrap();
    let mut next = Box::pin(other.next_batch(10, ANY_BYTES));
    assert!(futures::poll!(&mut next).is_pending());
    let intruder = execute(&path, "BEGIN IMMEDIATE;");
    may_finish.add_permits(1);
    let taken = soon(next).await.unwrap();
    drop(intruder);
    becomes_true(|| async { *running.ready.lock().unwrap() == [true, false, true] }).await;
    Delivery::ack_all(taken).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn what_comes_back_takes_its_old_place() {
    let directory = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(&directory.path().join("bus.sqlite")).unwrap();
    bus.publish(runs_requested(6)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let mut taken = take(&mut consumer, 4).await;
    taken.remove(1).release().await.unwrap();
    drop(taken.remove(1));
    assert_eq!(numbers(&messages(&take(&mut consumer, 4).await)), [1, 2, 4, 5]);
}

#[tokio::test]
async fn a_retry_waits_on_after_the_file_was_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let bus = EmbeddedBus::open(&path).unwrap();
    bus.publish(runs_requested(2)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let mut taken = take(&mut consumer, 2).await;
    taken.remove(0).retry_later(Duration::from_secs(60), "a mentor was asleep").await.unwrap();
    taken.remove(0).retry_later(Duration::from_millis(1), "a mentor was asleep").await.unwrap();
    drop(consumer);
    bus.close().await;

    let bus = open(&path).await;
    depth_becomes(&bus, QUEUE, Depth { ready: 1, unacknowledged: 0, delayed: 1 }).await;
}
