//! How PostgreSQL reads the tables of a database: what no plan tells, which is made when the statement is prepared.

use std::time::Duration;

use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};

use crate::condition::until;

const PATIENCE: Duration = Duration::from_secs(60);
/// Besides who asks.
const CONNECTED: &str = "SELECT count(*) AS count FROM pg_stat_activity \
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
const SCANS: &str = "SELECT relname AS table, seq_scan AS from_end_to_end, COALESCE(idx_scan, 0) AS by_index \
                     FROM pg_stat_user_tables ORDER BY relname";

/// How often a table was read which way, since it was made. To make an index is to read the table.
#[derive(Debug, QueryableByName)]
pub struct Scans {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = BigInt)]
    from_end_to_end: i64,
    #[diesel(sql_type = BigInt)]
    by_index: i64,
}

#[derive(QueryableByName)]
struct Connected {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Scans {
    /// Of each of these tables, by connections that are closed: what others did is counted later. None of a database that
    /// is not PostgreSQL's.
    ///
    /// # Panics
    ///
    /// A table is missing, or the server does not answer.
    #[must_use]
    pub fn so_far(database: &str, tables: &[&str]) -> Option<Vec<Self>> {
        let mut connection = connect(database)?;
        let mut scans: Vec<Self> = sql_query(SCANS).load(&mut connection).unwrap_or_else(|error| panic!("{error}"));
        scans.retain(|scanned| tables.contains(&scanned.table.as_str()));
        assert_eq!(scans.len(), tables.len(), "not all of {tables:?} are there");
        Some(scans)
    }

    /// The same, once every connection is closed.
    ///
    /// # Panics
    ///
    /// One stays open; a table is missing; the server does not answer.
    pub async fn of_all(database: &str, tables: &[&str]) -> Option<Vec<Self>> {
        let closed = async || {
            let others: Connected = sql_query(CONNECTED).get_result(&mut connect(database)?).ok()?;
            (others.count == 0).then_some(())
        };
        connect(database)?;
        until("every connection is closed", PATIENCE, closed).await;
        Self::so_far(database, tables)
    }

    /// Once every connection is closed: that each of these tables was read since `before`, and by index alone.
    ///
    /// # Panics
    ///
    /// One was not; a connection stays open; the server does not answer.
    pub async fn assert_by_index(before: Option<Vec<Self>>, database: &str) {
        let Some(before) = before else { return };
        let tables: Vec<&str> = before.iter().map(|scanned| scanned.table.as_str()).collect();
        let after = Self::of_all(database, &tables).await.unwrap_or_default();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.table, after.table);
            assert!(after.by_index > before.by_index, "{} was not read at all", after.table);
            assert_eq!(before.from_end_to_end, after.from_end_to_end, "{} was read from end to end", after.table);
        }
    }
}

fn connect(database: &str) -> Option<PgConnection> {
    let connect = || PgConnection::establish(database).unwrap_or_else(|error| panic!("no connection: {error}"));
    (!database.starts_with("sqlite:")).then(connect)
}
