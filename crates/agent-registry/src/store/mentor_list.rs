//! Mentors in lists: filtered, ordered, counted.

use std::collections::HashMap;

use diesel::dsl::{self, IntoBoxed};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use service_kit::database::{DbConnection, MultiBackend, in_time};

use super::schema::mentors;
use super::{Window, is_sqlite};

/// What a list is narrowed to; absent filters nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct MentorFilter {
    pub(crate) organisation: String,
    /// Whether the metadata says `"featured": true`.
    pub(crate) featured: Option<bool>,
    /// A key of the metadata, and what it holds; without that, anything.
    pub(crate) metadata: Option<(String, Option<String>)>,
}

type Mentors = IntoBoxed<'static, mentors::table, MultiBackend>;

/// How many mentors match.
pub(crate) fn count(conn: &mut DbConnection, filter: MentorFilter) -> QueryResult<i64> {
    filtered(conn, filter).count().get_result(conn)
}

/// The ids of a page of the mentors that match: by name, or the newest first.
pub(crate) fn page(
    conn: &mut DbConnection,
    filter: MentorFilter,
    by_name: bool,
    window: Window,
) -> QueryResult<Vec<i64>> {
    let found = filtered(conn, filter).select(mentors::id);
    let ordered = if by_name {
        found.order((mentors::name.asc(), mentors::id.asc()))
    } else {
        found.order((mentors::created_at.desc(), mentors::id.desc()))
    };
    ordered.limit(window.limit).offset(window.offset).load(conn)
}

/// How many bytes of texts each of these mentors is shown with, by mentor.
pub(crate) fn text_bytes(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<HashMap<i64, i64>> {
    let sizes = mentors::table.filter(mentors::id.eq_any(ids.to_vec()));
    Ok(sizes.select((mentors::id, mentors::text_bytes)).load(conn)?.into_iter().collect())
}

fn filtered(conn: &DbConnection, filter: MentorFilter) -> Mentors {
    let own = mentors::table.filter(mentors::organisation.eq(filter.organisation));
    let mut query = own.filter(mentors::deleted_at.is_null()).into_boxed::<MultiBackend>();
    if is_sqlite(conn) && (filter.featured.is_some() || filter.metadata.is_some()) {
        query = query.filter(in_time(mentors::id));
    }
    if let Some(featured) = filter.featured {
        let says_so = holds(conn, "featured".to_owned(), Some("true".to_owned()));
        query = if featured { query.filter(says_so) } else { query.filter(dsl::not(says_so)) };
    }
    if let Some((key, value)) = filter.metadata {
        query = query.filter(holds(conn, key, value));
    }
    query
}

/// Whether the metadata holds this under a key, as text; false of metadata that is no object.
fn holds(
    conn: &DbConnection,
    key: String,
    value: Option<String>,
) -> Box<dyn BoxableExpression<mentors::table, MultiBackend, SqlType = Bool>> {
    let (before, after, end) = if is_sqlite(conn) {
        (
            "EXISTS (SELECT 1 FROM json_each(metadata) AS entry WHERE entry.key = ",
            " AND CASE entry.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(entry.value AS TEXT) END",
            ")",
        )
    } else {
        ("COALESCE((metadata ->> ", ")", ", FALSE)")
    };
    let held = dsl::sql::<Bool>(before).bind::<Text, _>(key).sql(after);
    match value {
        Some(value) => Box::new(held.sql(" = ").bind::<Text, _>(value).sql(end)),
        None => Box::new(held.sql(" IS NOT NULL").sql(end)),
    }
}
