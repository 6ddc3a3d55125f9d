//! `Db`: opening, migrating, refusing, reading and writing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use diesel::dsl::max;
use diesel::prelude::*;
use service_kit::admin::Readiness;
use service_kit::clock::Clock;
use service_kit::config::{ConnectionUrl, DatabaseConfig};
use service_kit::database::{Backend, DatabaseError, Db, DbConnection, Timestamp};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::notes::{self, MIGRATIONS, NO_MIGRATIONS, Note, all, bodies, insert, note};

fn config(path: &Path) -> DatabaseConfig {
    DatabaseConfig { url: ConnectionUrl::new(format!("sqlite:{}", path.display())), ..DatabaseConfig::default() }
}

async fn open(folder: &TempDir) -> Result<Db, DatabaseError> {
    Db::open(&config(&folder.path().join("data/notes.db")), MIGRATIONS).await
}

async fn opened() -> (Db, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder).await.unwrap();
    (db, folder)
}

/// Everything that is the same on both databases.
pub(crate) async fn columns_and_statements(db: &Db) {
    let written: Vec<Note> = vec![note("a"), note("b"), note("c")];
    let read = db
        .write::<_, DatabaseError, _>({
            let written = written.clone();
            move |connection| {
                assert_eq!(insert(connection, &written)?, 3);
                Ok(all(connection)?)
            }
        })
        .await
        .unwrap();
    assert_eq!(read, written);

    let (first, latest) = db
        .read::<_, DatabaseError, _>({
            let written = written.clone();
            move |connection| {
                use notes::notes::dsl;
                let ids: Vec<_> = written.iter().take(2).map(|note| note.id).collect();
                let first: Vec<Note> = dsl::notes
                    .filter(dsl::id.eq_any(ids))
                    .filter(dsl::written_at.le(written[0].written_at))
                    .order(dsl::body)
                    .load(connection)?;
                let latest: Option<Timestamp> = dsl::notes.select(max(dsl::written_at)).first(connection)?;
                Ok((first, latest))
            }
        })
        .await
        .unwrap();
    assert_eq!(first, written[..2]);
    assert_eq!(latest, Some(written[0].written_at));

    let twice = db.write(|connection| Ok::<_, DatabaseError>(insert(connection, &[note("a")])?)).await.unwrap_err();
    assert!(!twice.is_unavailable(), "{twice:?}");
    let dangling = Note { answers: Some(uuid::Uuid::new_v4().into()), ..note("d") };
    let dangling = db.write(move |connection| Ok::<_, DatabaseError>(insert(connection, &[dangling])?)).await;
    assert!(!dangling.unwrap_err().is_unavailable());
    db.ping().await.unwrap();
}

#[tokio::test]
async fn every_column_type_comes_back_as_it_went_in() {
    let (db, _folder) = opened().await;
    assert_eq!(db.backend(), Backend::Sqlite);
    columns_and_statements(&db).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let (db, folder) = opened().await;
    db.write::<_, DatabaseError, _>(|connection| Ok(insert(connection, &[note("kept")])?)).await.unwrap();
    drop(db);
    assert_eq!(bodies(&open(&folder).await.unwrap()).await, ["kept"]);
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_behind() {
    let (db, _folder) = opened().await;
    let outcome = db
        .write(|connection| {
            insert(connection, &[note("lost")]).map_err(DatabaseError::from)?;
            Err::<(), _>(DatabaseError::from(diesel::result::Error::NotFound))
        })
        .await;
    assert!(outcome.is_err());
    assert!(bodies(&db).await.is_empty());
}

#[tokio::test]
async fn a_panic_in_a_write_is_undone_and_the_next_write_succeeds() {
    let (db, _folder) = opened().await;
    let panicking = tokio::spawn({
        let db = db.clone();
        async move {
            db.write::<(), DatabaseError, _>(|connection| {
                insert(connection, &[note("lost")])?;
                panic!("by intent")
            })
            .await
        }
    });
    assert!(panicking.await.unwrap_err().is_panic());
    db.write::<_, DatabaseError, _>(|connection| Ok(insert(connection, &[note("next")])?)).await.unwrap();
    assert_eq!(bodies(&db).await, ["next"]);
}

#[tokio::test]
async fn many_writers_at_once_all_succeed() {
    let (db, _folder) = opened().await;
    let writers: Vec<_> = (0..64)
        .map(|number| {
            let db = db.clone();
            tokio::spawn(async move {
                db.write::<_, DatabaseError, _>(move |connection| {
                    // A read first: without the right to write from the start, this would fail halfway.
                    let before = all(connection)?.len();
                    insert(connection, &[note(&format!("{number}"))])?;
                    Ok(before)
                })
                .await
            })
        })
        .collect();
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.await.unwrap().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..64).collect::<Vec<_>>(), "one after another, each saw what came before");
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_any_more_still_ends_before_the_next_begins() {
    let (db, _folder) = opened().await;
    let (begun, go_on) = (Arc::new(Notify::new()), std::sync::mpsc::channel::<()>());
    let abandoned = tokio::spawn({
        let (db, begun, held) = (db.clone(), Arc::clone(&begun), go_on.1);
        async move {
            db.write::<_, DatabaseError, _>(move |connection| {
                begun.notify_one();
                let _ = held.recv();
                Ok(insert(connection, &[note("first")])?)
            })
            .await
        }
    });
    begun.notified().await;
    abandoned.abort();
    let next = tokio::spawn({
        let db = db.clone();
        async move { db.write::<_, DatabaseError, _>(|connection| Ok(all(connection)?.len())).await }
    });
    tokio::task::yield_now().await;
    go_on.0.send(()).unwrap();
    assert_eq!(next.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let (db, _folder) = opened().await;
    let (begun, go_on) = (Arc::new(Notify::new()), std::sync::mpsc::channel::<()>());
    let writing = tokio::spawn({
        let (db, begun, held) = (db.clone(), Arc::clone(&begun), go_on.1);
        async move {
            db.write::<_, DatabaseError, _>(move |connection| {
                insert(connection, &[note("unseen")])?;
                begun.notify_one();
                let _ = held.recv();
                Ok(())
            })
            .await
        }
    });
    begun.notified().await;
    assert!(bodies(&db).await.is_empty());
    go_on.0.send(()).unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(bodies(&db).await, ["unseen"]);
}

#[tokio::test]
async fn a_statement_that_asks_for_the_time_is_given_up_when_it_is_over() {
    #[derive(diesel::QueryableByName)]
    struct Rows {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        rows: i64,
    }
    let (db, _folder) = opened().await;
    let counted = async |up_to: i64, limit: Duration| {
        db.read_within::<_, DatabaseError, _>(limit, move |connection| {
            let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ";
            let query = format!("{numbers}{up_to}) SELECT count(*) AS rows FROM n WHERE in_time(i)");
            Ok(diesel::sql_query(query).get_result::<Rows>(connection)?.rows)
        })
        .await
    };
    let error = counted(i64::MAX, Duration::from_millis(20)).await.unwrap_err();
    assert!(error.is_too_slow() && !error.is_unavailable(), "{error:?}");
    assert_eq!(counted(1_000, Duration::from_secs(600)).await.unwrap(), 1_000);
    let all = db.read(|connection| {
        let query = diesel::sql_query("SELECT count(*) AS rows FROM (SELECT 1 AS i) WHERE in_time(i)");
        Ok::<_, DatabaseError>(query.get_result::<Rows>(connection)?.rows)
    });
    assert_eq!(all.await.unwrap(), 1, "elsewhere there is no time to be over");
}

/// Many times, since SQLite refuses the second of two that make a file theirs only within a few microseconds.
#[tokio::test]
async fn several_that_open_a_new_database_at_once_all_succeed() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let opened = tokio::join!(open(&folder), open(&folder), open(&folder), open(&folder));
        let (one, all) = (opened.0.unwrap(), [opened.1.unwrap(), opened.2.unwrap(), opened.3.unwrap()]);
        one.write_exclusively::<_, DatabaseError, _>(|c| Ok(insert(c, &[note("a")])?)).await.unwrap();
        for db in &all {
            assert_eq!(bodies(db).await, ["a"]);
        }
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (db, folder) = opened().await;
    drop(db);
    let error = Db::open(&config(&folder.path().join("data/notes.db")), NO_MIGRATIONS).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Newer { version, .. } if version == "20260101000000"), "{error}");
    assert!(error.to_string().contains("start the newer version"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.db");
    std::fs::write(&path, "this was once a database, long ago".repeat(100)).unwrap();
    let error = Db::open(&config(&path), MIGRATIONS).await.unwrap_err().to_string();
    assert!(error.contains("notes.db is damaged") && error.contains("restore a backup or move it away"), "{error}");
}

#[tokio::test]
async fn a_file_damaged_in_the_middle_is_refused_too() {
    let (db, folder) = opened().await;
    let many: Vec<Note> = (0..2_000).map(|number| note(&format!("{number:0>200}"))).collect();
    for notes in many.chunks(200) {
        let notes = notes.to_vec();
        db.write::<_, DatabaseError, _>(move |connection| Ok(insert(connection, &notes)?)).await.unwrap();
    }
    drop(db);
    let path = folder.path().join("data/notes.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = open(&folder).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for path in [folder.path().join("file/notes.db"), folder.path().to_owned()] {
        let error = Db::open(&config(&path), MIGRATIONS).await.unwrap_err();
        assert!(matches!(error, DatabaseError::File { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_outage_and_its_password_stays_hidden() {
    let url = ConnectionUrl::new("postgres://carillon:s3cret@127.0.0.1:1/registry");
    let error = Db::open(&DatabaseConfig { url, ..DatabaseConfig::default() }, MIGRATIONS).await.unwrap_err();
    assert!(error.is_unavailable());
    let text = format!("{error} {error:?}");
    assert!(text.contains("carillon:****@127.0.0.1:1") && !text.contains("s3cret"), "{text}");
}

async fn soon(holds: impl Fn() -> bool) {
    let held = tokio::time::timeout(Duration::from_secs(120), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(held.await.is_ok(), "it never came to hold");
}

/// What SQLite says of a full disk, said by a trigger.
const FULL_DISK: &str = "CREATE TRIGGER full BEFORE INSERT ON notes BEGIN \
                         SELECT RAISE(ABORT, 'database or disk is full'); END";

#[tokio::test]
async fn a_disk_that_is_full_is_a_condition_not_met_until_something_can_be_written() {
    let (db, _folder) = opened().await;
    let (clock, readiness, stop) = (Clock::manual(DateTime::UNIX_EPOCH), Readiness::new(), CancellationToken::new());
    let condition = readiness.condition("notes.database");
    let watching = tokio::spawn({
        let (db, clock, stop) = (db.clone(), clock.clone(), stop.clone());
        async move { db.watch(condition, clock, stop).await }
    });
    soon(|| readiness.is_ready()).await;

    let write = |statement: &'static str| {
        db.write(move |connection| Ok::<_, DatabaseError>(diesel::sql_query(statement).execute(connection)?))
    };
    write(FULL_DISK).await.unwrap();
    for _ in 0..2 {
        let refused = db.write(|connection| Ok::<_, DatabaseError>(insert(connection, &[note("a")])?)).await;
        assert!(refused.unwrap_err().is_unavailable());
    }
    soon(|| !readiness.is_ready()).await;
    assert_eq!(readiness.unmet()["notes.database"], "it cannot be written: is its disk full?");

    clock.advance(TimeDelta::seconds(1));
    soon(|| readiness.is_ready()).await;
    stop.cancel();
    watching.await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_user_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let (_db, folder) = opened().await;
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/notes.db")), (0o700, 0o600));
}

#[tokio::test]
async fn a_failed_statement_fails_its_transaction_even_if_the_work_goes_on() {
    let (db, _folder) = opened().await;
    swallowed_errors(&db).await;
}

pub(crate) async fn swallowed_errors(db: &Db) {
    let insert_twice = |connection: &mut DbConnection| insert(connection, &[note("same"), note("same")]);
    let outcome = db
        .write::<_, DatabaseError, _>(move |connection| {
            insert(connection, &[note("lost")])?;
            assert!(insert_twice(connection).is_err());
            Ok(())
        })
        .await;
    assert!(matches!(outcome, Err(DatabaseError::Swallowed)), "{outcome:?}");
    assert!(!bodies(db).await.contains(&"lost".to_owned()));

    let outcome = db
        .write::<_, DatabaseError, _>(move |connection| {
            insert(connection, &[note("kept")])?;
            assert!(connection.transaction(insert_twice).is_err());
            Ok(())
        })
        .await;
    outcome.unwrap();
    assert!(bodies(db).await.contains(&"kept".to_owned()));

    let nothing_found = db.write::<_, DatabaseError, _>(|connection| {
        use notes::notes::dsl;
        insert(connection, &[note("kept too")])?;
        Ok(dsl::notes.filter(dsl::body.eq("nowhere")).select(dsl::body).first::<String>(connection).optional()?)
    });
    assert_eq!(nothing_found.await.unwrap(), None);
    assert!(bodies(db).await.contains(&"kept too".to_owned()));
}

#[tokio::test]
async fn a_second_process_that_writes_too_is_waited_for() {
    let (db, folder) = opened().await;
    // Its own pool and its own queue of writers, as another process would have.
    let other = open(&folder).await.unwrap();
    let writers = (0..20).map(|number| {
        let db = if number % 2 == 0 { db.clone() } else { other.clone() };
        let body = format!("{number}");
        tokio::spawn(async move { db.write::<_, DatabaseError, _>(move |c| Ok(insert(c, &[note(&body)])?)).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(bodies(&db).await.len(), 20);
}
