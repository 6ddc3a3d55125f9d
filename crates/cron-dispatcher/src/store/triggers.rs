//! Triggers that may be repeated: whoever asks again with the same key is answered as the first time.
//!
//! The answer is kept whole, since the run itself may be forgotten before its key is.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use model::run::RunRecord;
use model::wire::Wire;
use service_kit::database::{DbConnection, Timestamp};

use super::read_wire;

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    triggers (key) {
        key -> Text,
        made_at -> SqlTimestamp,
        answer -> Binary,
    }
}

/// How a trigger with this key was answered.
pub(crate) fn find(conn: &mut DbConnection, key: &str) -> QueryResult<Option<RunRecord>> {
    let answer: Option<Vec<u8>> = triggers::table.find(key).select(triggers::answer).first(conn).optional()?;
    answer.map(|answer| read_wire(&answer)).transpose()
}

/// Keeps the answer to a trigger.
pub(crate) fn insert(conn: &mut DbConnection, key: &str, record: &RunRecord, now: DateTime<Utc>) -> QueryResult<()> {
    let row = (
        triggers::key.eq(key),
        triggers::made_at.eq(Timestamp::from(now)),
        triggers::answer.eq(record.encode().to_vec()),
    );
    diesel::insert_into(triggers::table).values(row).execute(conn).map(|_| ())
}

/// Forgets up to `limit` answers from before `until`. Returns how many.
pub(crate) fn sweep(conn: &mut DbConnection, until: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let old: Vec<String> = triggers::table
        .filter(triggers::made_at.lt(Timestamp::from(until)))
        .order(triggers::made_at)
        .select(triggers::key)
        .limit(limit)
        .load(conn)?;
    diesel::delete(triggers::table.filter(triggers::key.eq_any(old))).execute(conn)
}
