//! SIGSTOP between POST and commit, for longer than twice a lease, then SIGCONT.
//!
//! On PostgreSQL one of two deliverers, whose work the other one does; on SQLite the only one. What the frozen process
//! heard, or did not hear, changes nothing; nothing is lost, and no receiver is blamed.

use std::path::Path;
use std::time::Duration;

use diesel::sql_types::BigInt;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection};
use test_kit::{Backends, until};
use tokio::process::{Child, Command};

use crate::receiver::{Answer, Receiver};
use crate::{command, feed, logs};

const RUNS: i64 = 40;
/// Long enough for all to arrive before the process is frozen.
const DEADLINE: Duration = Duration::from_secs(10);
/// Twice a lease, which is ten seconds longer than the deadline, and some more.
const FROZEN: Duration = Duration::from_secs(42);
const PATIENCE: Duration = Duration::from_secs(60);

fn start(database: &str, bus: &Path) -> Child {
    let deadline = DEADLINE.as_millis().to_string();
    command(database, bus).env("CARILLON__CALLBACKS__DEADLINE_MS", deadline).spawn().unwrap()
}

async fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.id().unwrap().to_string()]).status().await;
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_deliverer_says_late_changes_nothing() {
    let (backends, receiver) = (Backends::of_environment(), Receiver::answering(Answer::Never).await);
    let database = backends.database("freeze");
    let (bus, other_bus) = (backends.folder().join("bus.db"), backends.folder().join("other-bus.db"));
    feed(&bus, 1..=RUNS, &receiver.url).await;
    let frozen = start(&database, &bus);
    let runs = usize::try_from(RUNS).unwrap();
    until("all are on their way", PATIENCE, async || (receiver.count() >= runs).then_some(())).await;
    signal(&frozen, "STOP").await;
    receiver.answer(Answer::Status(200));
    let other = backends.is_postgres().then(|| start(&database, &other_bus));
    let began = tokio::time::Instant::now();
    if other.is_some() {
        all_delivered(&database).await;
        println!("the other one has delivered what the frozen one held after {:?}", began.elapsed());
    }
    tokio::time::sleep_until(began + FROZEN).await;
    signal(&frozen, "CONT").await;

    // What it does next, alone, it does after it has said everything that it had to say.
    if let Some(mut other) = other {
        other.kill().await.unwrap();
        let replay =
            "UPDATE deliveries SET status = 'pending', due_at = created_at, settled_at = NULL WHERE log_id = 1";
        backends.execute(&database, replay);
    }
    let replayed = i64::from(backends.is_postgres());
    let made = "SELECT count(*) AS value FROM delivery_attempts";
    until("it works again", PATIENCE, async || (count(&database, made) == RUNS + replayed).then_some(())).await;
    all_delivered(&database).await;

    let failed = "SELECT count(*) AS value FROM delivery_attempts WHERE outcome <> 'delivered'";
    assert_eq!((count(&database, failed), count(&database, made)), (0, RUNS + replayed));
    assert_eq!(count(&database, "SELECT count(*) AS value FROM endpoint_states"), 0);
    let logs = logs(&receiver, 0).await;
    assert_eq!(logs.len(), runs);
    assert!(logs.values().all(|ids| ids.len() == 1), "a log came under several ids");
    println!("{RUNS} frozen on their way for {FROZEN:?}: 0 lost, {} repeats, 0 late outcomes", receiver.count() - runs);
}

async fn all_delivered(database: &str) {
    let delivered = "SELECT count(*) AS value FROM deliveries WHERE status = 'delivered'";
    until("all are delivered", PATIENCE, async || (count(database, delivered) == RUNS).then_some(())).await;
}

/// The one number that a statement finds.
fn count(database: &str, statement: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        value: i64,
    }
    let query = diesel::sql_query(statement);
    let row: Result<Row, _> = match database.strip_prefix("sqlite:") {
        Some(file) => query.get_result(&mut SqliteConnection::establish(file).unwrap()),
        None => query.get_result(&mut PgConnection::establish(database).unwrap()),
    };
    row.unwrap().value
}
