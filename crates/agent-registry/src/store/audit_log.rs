//! Who changed what.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use service_kit::database::{DbConnection, Json, Timestamp, in_time};

use super::schema::audit_log;
use super::{Window, insert_all, is_sqlite};

/// One change.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_log, treat_none_as_default_value = false)]
pub(crate) struct AuditRow {
    /// Given by the database.
    #[diesel(skip_insertion)]
    pub(crate) id: i64,
    pub(crate) organisation: String,
    pub(crate) at: Timestamp,
    pub(crate) username: String,
    pub(crate) acting_as: String,
    pub(crate) credential: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) subject_key: String,
    pub(crate) fields: Json,
}

/// Which changes are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditFilter {
    pub(crate) organisation: String,
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: Option<DateTime<Utc>>,
    pub(crate) action: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) subject_key: Option<String>,
    pub(crate) username: Option<String>,
}

impl AuditFilter {
    /// Whether every change of its time is looked at: the index has only their times.
    fn is_searched_for(&self) -> bool {
        [&self.action, &self.subject, &self.subject_key, &self.username].into_iter().any(Option::is_some)
    }
}

/// Stores changes.
pub(crate) fn insert(conn: &mut DbConnection, rows: Vec<AuditRow>) -> QueryResult<()> {
    insert_all!(conn, audit_log::table, rows)
}

/// The filter as a query.
macro_rules! filtered {
    ($conn:expr, $filter:expr) => {{
        let AuditFilter { organisation, from, to, action, subject, subject_key, username } = $filter.clone();
        let mut query = audit_log::table.filter(audit_log::organisation.eq(organisation)).into_boxed();
        if is_sqlite($conn) && $filter.is_searched_for() {
            query = query.filter(in_time(audit_log::id));
        }
        if let Some(from) = from {
            query = query.filter(audit_log::at.ge(Timestamp::from(from)));
        }
        if let Some(to) = to {
            query = query.filter(audit_log::at.lt(Timestamp::from(to)));
        }
        if let Some(action) = action {
            query = query.filter(audit_log::action.eq(action));
        }
        if let Some(subject) = subject {
            query = query.filter(audit_log::subject.eq(subject));
        }
        if let Some(key) = subject_key {
            query = query.filter(audit_log::subject_key.eq(key));
        }
        if let Some(username) = username {
            query = query.filter(audit_log::username.eq(username));
        }
        query
    }};
}

/// How many there are.
pub(crate) fn count(conn: &mut DbConnection, filter: &AuditFilter) -> QueryResult<i64> {
    filtered!(conn, filter).count().get_result(conn)
}

/// A page of them, newest first.
pub(crate) fn page(conn: &mut DbConnection, filter: &AuditFilter, window: Window) -> QueryResult<Vec<AuditRow>> {
    filtered!(conn, filter)
        .order((audit_log::at.desc(), audit_log::id.desc()))
        .limit(window.limit)
        .offset(window.offset)
        .select(AuditRow::as_select())
        .load(conn)
}

/// Removes up to `limit` changes of the organisation made before `before`. Returns how many.
pub(crate) fn delete_some(
    conn: &mut DbConnection,
    organisation: &str,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    let ids: Vec<i64> = audit_log::table
        .filter(audit_log::organisation.eq(organisation))
        .filter(audit_log::at.lt(Timestamp::from(before)))
        .order(audit_log::at)
        .limit(limit)
        .select(audit_log::id)
        .load(conn)?;
    diesel::delete(audit_log::table.filter(audit_log::id.eq_any(ids))).execute(conn)
}
