//! AI agents that can be asked.

use std::collections::HashMap;

use diesel::dsl::IntoBoxed;
use diesel::prelude::*;
use service_kit::database::{DbConnection, Json, MultiBackend, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use super::schema::mentors;
use crate::validation::reference::MentorReference;

/// A mentor as it is stored.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = mentors, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct MentorRow {
    /// Given by the database.
    #[diesel(skip_insertion, skip_update)]
    pub(crate) id: i64,
    pub(crate) unique_id: Uid,
    pub(crate) organisation: String,
    pub(crate) name: String,
    pub(crate) slug: String,
    pub(crate) display_name: String,
    pub(crate) description: String,
    pub(crate) system_prompt: String,
    pub(crate) llm_provider: String,
    pub(crate) llm_name: String,
    pub(crate) llm_temperature: Option<f64>,
    pub(crate) metadata: Option<Json>,
    /// `ProviderSettings`.
    pub(crate) provider: Option<Json>,
    pub(crate) sealed_api_key: Option<Vec<u8>>,
    /// UUIDs.
    pub(crate) service_groups: Json,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// Of a mentor that only its agents still show.
    pub(crate) deleted_at: Option<Timestamp>,
}

impl MentorRow {
    /// How many bytes of texts it is shown with, about. Stored beside them: to tell the length of JSON, PostgreSQL writes
    /// it out.
    fn text_bytes(&self) -> i64 {
        let json = |value: &Json| value.to_string().len();
        let settings = [&self.metadata, &self.provider].into_iter().flatten().map(json).sum::<usize>();
        let bytes = self.description.len() + self.system_prompt.len() + settings + json(&self.service_groups);
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }
}

/// Inserts a mentor and returns its id; none if its public id or slug was taken in the meantime.
pub(crate) fn insert(conn: &mut DbConnection, row: &MentorRow) -> QueryResult<Option<i64>> {
    per_backend!(conn, c => diesel::insert_into(mentors::table)
        .values((row, mentors::text_bytes.eq(row.text_bytes())))
        .on_conflict_do_nothing()
        .returning(mentors::id)
        .get_result(c)
        .optional())
}

/// Writes every column of a mentor; false if its slug was taken in the meantime.
pub(crate) fn update(conn: &mut DbConnection, row: &MentorRow) -> QueryResult<bool> {
    use diesel::result::DatabaseErrorKind::UniqueViolation;
    use diesel::result::Error::DatabaseError;

    let all = (row, mentors::text_bytes.eq(row.text_bytes()));
    match per_backend!(conn, c => diesel::update(mentors::table.find(row.id)).set(all).execute(c)) {
        Err(DatabaseError(UniqueViolation, _)) => Ok(false),
        written => written.map(|_| true),
    }
}

/// A mentor that is not deleted, kept from other writers until the transaction ends.
pub(crate) fn find_for_update(
    conn: &mut DbConnection,
    organisation: &str,
    name: &str,
) -> QueryResult<Option<MentorRow>> {
    let Some(found) = find_by_any(conn, organisation, name)? else { return Ok(None) };
    // Somebody else may have written it until the lock was had.
    Ok(lock(conn, found.id)?.filter(|mentor| mentor.deleted_at.is_none()))
}

/// A mentor, also a deleted one, kept from other writers until the transaction ends.
pub(crate) fn lock(conn: &mut DbConnection, id: i64) -> QueryResult<Option<MentorRow>> {
    let one = mentors::table.find(id);
    match conn {
        DbConnection::Postgres(c) => one.for_no_key_update().select(MentorRow::as_select()).first(c).optional(),
        // A write transaction is alone on SQLite.
        DbConnection::Sqlite(c) => one.select(MentorRow::as_select()).first(c).optional(),
    }
}

/// Sets the sealed API key: it is sealed for the mentor's id, which only the insert gave.
pub(crate) fn set_api_key(conn: &mut DbConnection, id: i64, sealed: &[u8]) -> QueryResult<()> {
    diesel::update(mentors::table.find(id)).set(mentors::sealed_api_key.eq(Some(sealed))).execute(conn).map(|_| ())
}

/// The organisation's mentor that a request refers to, also a deleted one.
pub(crate) fn find(
    conn: &mut DbConnection,
    organisation: &str,
    reference: MentorReference,
) -> QueryResult<Option<MentorRow>> {
    referred_to(organisation, reference).select(MentorRow::as_select()).first(conn).optional()
}

/// The id of that mentor.
pub(crate) fn find_id(
    conn: &mut DbConnection,
    organisation: &str,
    reference: MentorReference,
) -> QueryResult<Option<i64>> {
    referred_to(organisation, reference).select(mentors::id).first(conn).optional()
}

fn referred_to(organisation: &str, reference: MentorReference) -> IntoBoxed<'static, mentors::table, MultiBackend> {
    let own = mentors::table.filter(mentors::organisation.eq(organisation.to_owned())).into_boxed();
    match reference {
        MentorReference::Id(id) => own.filter(mentors::id.eq(id)),
        MentorReference::UniqueId(id) => own.filter(mentors::unique_id.eq(Uid::from(id))),
    }
}

/// The organisation's mentor with this public id, slug or name, looked for in this order; of several with one name
/// the oldest.
pub(crate) fn find_by_any(conn: &mut DbConnection, organisation: &str, text: &str) -> QueryResult<Option<MentorRow>> {
    if let Ok(unique_id) = Uuid::parse_str(text)
        && let Some(mentor) = find(conn, organisation, MentorReference::UniqueId(unique_id))?
        && mentor.deleted_at.is_none()
    {
        return Ok(Some(mentor));
    }
    let own = || {
        let own = mentors::table.select(MentorRow::as_select()).filter(mentors::organisation.eq(organisation));
        own.filter(mentors::deleted_at.is_null()).order(mentors::id)
    };
    if let Some(mentor) = own().filter(mentors::slug.eq(text)).first(conn).optional()? {
        return Ok(Some(mentor));
    }
    own().filter(mentors::name.eq(text)).first(conn).optional()
}

/// Whether a public id is taken, by any organisation.
pub(crate) fn unique_id_is_taken(conn: &mut DbConnection, unique_id: Uuid) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(mentors::table.filter(mentors::unique_id.eq(Uid::from(unique_id)))))
        .get_result(conn)
}

/// Whether a slug is taken within the organisation.
pub(crate) fn slug_is_taken(conn: &mut DbConnection, organisation: &str, slug: &str) -> QueryResult<bool> {
    let living = mentors::table.filter(mentors::organisation.eq(organisation)).filter(mentors::deleted_at.is_null());
    let taken = living.filter(mentors::slug.eq(slug));
    diesel::select(diesel::dsl::exists(taken)).get_result(conn)
}

/// The mentors with these ids, by id.
pub(crate) fn by_ids(conn: &mut DbConnection, ids: Vec<i64>) -> QueryResult<HashMap<i64, MentorRow>> {
    let rows: Vec<MentorRow> =
        mentors::table.select(MentorRow::as_select()).filter(mentors::id.eq_any(ids)).load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// All mentors of the organisation that say nothing of how they are asked: those that a default provider serves.
pub(crate) fn without_own_provider(conn: &mut DbConnection, organisation: &str) -> QueryResult<Vec<MentorRow>> {
    mentors::table
        .filter(mentors::organisation.eq(organisation))
        .filter(mentors::provider.is_null().and(mentors::deleted_at.is_null()))
        .select(MentorRow::as_select())
        .load(conn)
}

/// The first mentors of the organisation, in the order of their ids.
pub(crate) fn some_of(conn: &mut DbConnection, organisation: &str, limit: i64) -> QueryResult<Vec<i64>> {
    let own = mentors::table.filter(mentors::organisation.eq(organisation));
    own.select(mentors::id).order(mentors::id).limit(limit).load(conn)
}

/// Removes a mentor that no agent asks.
pub(crate) fn delete(conn: &mut DbConnection, id: i64) -> QueryResult<()> {
    diesel::delete(mentors::table.find(id)).execute(conn).map(|_| ())
}
