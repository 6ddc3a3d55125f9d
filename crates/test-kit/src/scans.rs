//! How PostgreSQL reads the tables of a database: what no plan tells, which is made when the statement is prepared.

use std::time::Duration;

use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};

use crate::condition::until;

const PATIENCE: Duration = Duration::from_secs(60);
/// Besides who asks.
const CONNECTED: &str = "SELECT '' AS table, count(*) AS times FROM pg_stat_activity \
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
const SCANS: &str = "SELECT relname AS table, seq_scan AS times FROM pg_stat_user_tables ORDER BY relname";

/// How often a table was read from end to end.
#[derive(Debug, PartialEq, Eq, QueryableByName)]
pub struct Scans {
    /// The table.
    #[diesel(sql_type = Text)]
    pub table: String,
    /// How often, since it was made. To make an index is to read the table.
    #[diesel(sql_type = BigInt)]
    pub times: i64,
}

/// How often each of these tables was read from end to end by connections that are closed: what others did is counted
/// later. None of a database that is not PostgreSQL's.
///
/// # Panics
///
/// The server does not answer.
#[must_use]
pub fn scans(database: &str, tables: &[&str]) -> Option<Vec<Scans>> {
    let mut connection = connect(database)?;
    let mut scans: Vec<Scans> = sql_query(SCANS).load(&mut connection).unwrap_or_else(|error| panic!("{error}"));
    scans.retain(|scanned| tables.contains(&scanned.table.as_str()));
    assert_eq!(scans.len(), tables.len(), "not all of {tables:?} are there");
    Some(scans)
}

/// The same, once every connection is closed.
///
/// # Panics
///
/// Some stay open; the server does not answer.
pub async fn all_scans(database: &str, tables: &[&str]) -> Option<Vec<Scans>> {
    let closed = async || {
        let others: Scans = sql_query(CONNECTED).get_result(&mut connect(database)?).ok()?;
        (others.times == 0).then_some(())
    };
    connect(database)?;
    until("every connection is closed", PATIENCE, closed).await;
    scans(database, tables)
}

fn connect(database: &str) -> Option<PgConnection> {
    let connect = || PgConnection::establish(database).unwrap_or_else(|error| panic!("no connection: {error}"));
    (!database.starts_with("sqlite:")).then(connect)
}
