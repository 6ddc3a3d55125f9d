//! The outbox: each document in its newest version, and the versions that its receivers hold.
//!
//! `version > held_version`, one column for each receiver, is all there is to it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use model::document::{Document, DocumentKind, Receiver, Subject};
use model::wire::Wire;
use service_kit::database::DbConnection;
use service_kit::per_backend;

use super::schema::documents;
use super::{insert_all, read_word};

/// How long a tombstone is kept.
const TOMBSTONE_LIFE: TimeDelta = TimeDelta::days(30);

/// Which document. In this order documents are locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DocumentName {
    pub(crate) kind: DocumentKind,
    pub(crate) key: String,
}

impl DocumentName {
    pub(crate) fn of(document: &Document) -> Self {
        Self { kind: document.kind(), key: document.key() }
    }
}

/// What has these ids, all of one kind, in the order of the names of its documents: their keys are text.
pub(crate) fn in_order_of_keys(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_by_key(i64::to_string);
    ids
}

/// A document that some receiver does not hold yet in its newest version.
#[derive(Debug, Clone)]
pub(crate) struct Unheld {
    pub(crate) name: DocumentName,
    pub(crate) version: i64,
    /// Who has yet to hold it.
    pub(crate) receivers: Vec<Receiver>,
}

/// The newest version of a document, which nobody else raises until the transaction ends; 0 if there is none.
pub(crate) fn version(conn: &mut DbConnection, kind: DocumentKind, key: &str) -> QueryResult<i64> {
    let query = documents::table.find((kind.as_str(), key)).select(documents::version);
    let found = match conn {
        DbConnection::Postgres(c) => query.for_update().first(c),
        // A write transaction is alone on SQLite.
        sqlite @ DbConnection::Sqlite(_) => query.first(sqlite),
    };
    Ok(found.optional()?.unwrap_or(0))
}

/// One document.
pub(crate) fn find(conn: &mut DbConnection, kind: DocumentKind, key: &str) -> QueryResult<Option<Document>> {
    let body: Option<Vec<u8>> =
        documents::table.find((kind.as_str(), key)).select(documents::body).first(conn).optional()?;
    body.map(|bytes| decode(&bytes)).transpose()
}

/// Whether the stored document says this already.
pub(crate) fn says(conn: &mut DbConnection, kind: DocumentKind, key: &str, subject: &Subject) -> QueryResult<bool> {
    Ok(find(conn, kind, key)?.is_some_and(|stored| stored.subject == *subject))
}

/// Stores a document in its next version. Returns false, storing nothing, if it says what the stored one says.
pub(crate) fn put(conn: &mut DbConnection, document: &Document) -> QueryResult<bool> {
    let name = DocumentName::of(document);
    if says(conn, name.kind, &name.key, &document.subject)? {
        return Ok(false);
    }
    overwrite(conn, document)?;
    Ok(true)
}

/// What a document says, as it is stored.
#[derive(Debug, Clone, Insertable, AsChangeset)]
#[diesel(table_name = documents)]
struct Said {
    organisation: String,
    version: i64,
    deleted: bool,
    body: Vec<u8>,
}

impl Said {
    fn of(document: &Document) -> Self {
        Self {
            organisation: document.organisation.as_str().to_owned(),
            version: document.version,
            deleted: document.is_deleted(),
            body: document.encode().to_vec(),
        }
    }
}

/// A document that nobody holds yet.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = documents)]
struct NewDocument {
    kind: &'static str,
    key: String,
    dispatcher_held_version: i64,
    deliverer_held_version: i64,
    #[diesel(embed)]
    said: Said,
}

impl NewDocument {
    fn of(document: &Document) -> Self {
        let DocumentName { kind, key } = DocumentName::of(document);
        // The deliverer needs no mentors: it counts as holding all versions there will be.
        let deliverer_held_version = if kind == DocumentKind::Mentor { i64::MAX } else { 0 };
        let said = Said::of(document);
        Self { kind: kind.as_str(), key, dispatcher_held_version: 0, deliverer_held_version, said }
    }
}

/// Stores the first versions of documents.
pub(crate) fn insert(conn: &mut DbConnection, documents: &[Document]) -> QueryResult<()> {
    let new: Vec<NewDocument> = documents.iter().map(NewDocument::of).collect();
    insert_all!(conn, documents::table, new)
}

/// Stores a document, whatever is stored.
pub(crate) fn overwrite(conn: &mut DbConnection, document: &Document) -> QueryResult<()> {
    let new = NewDocument::of(document);
    let said = new.said.clone();
    per_backend!(conn, c => diesel::insert_into(documents::table)
        .values(new)
        .on_conflict((documents::kind, documents::key))
        .do_update()
        .set(said)
        .execute(c))
    .map(|_| ())
}

/// An agent's document, and those that it leans on: all that the dispatcher must hold to know it.
pub(crate) fn load_with_agent(
    conn: &mut DbConnection,
    organisation: String,
    mentor_id: i64,
    agent_id: i64,
) -> QueryResult<Vec<Document>> {
    let name = |kind, key| DocumentName { kind, key };
    let names = [
        name(DocumentKind::Organisation, organisation),
        name(DocumentKind::Mentor, mentor_id.to_string()),
        name(DocumentKind::Agent, agent_id.to_string()),
    ];
    load(conn, &names)
}

/// The documents of these names, in their newest versions.
pub(crate) fn load(conn: &mut DbConnection, names: &[DocumentName]) -> QueryResult<Vec<Document>> {
    let mut found = Vec::with_capacity(names.len());
    for kind in DocumentKind::ALL {
        let keys: Vec<&str> = names.iter().filter(|name| name.kind == *kind).map(|name| name.key.as_str()).collect();
        if keys.is_empty() {
            continue;
        }
        let bodies: Vec<Vec<u8>> = documents::table
            .filter(documents::kind.eq(kind.as_str()))
            .filter(documents::key.eq_any(keys))
            .select(documents::body)
            .load(conn)?;
        for body in bodies {
            found.push(decode(&body)?);
        }
    }
    Ok(found)
}

/// The keys of agents that the dispatcher said that it holds as they are, after this one, in order.
pub(crate) fn held_agent_keys(conn: &mut DbConnection, after: &str, limit: i64) -> QueryResult<Vec<String>> {
    documents::table
        .filter(documents::kind.eq(DocumentKind::Agent.as_str()).and(documents::deleted.eq(false)))
        .filter(documents::version.le(documents::dispatcher_held_version))
        .filter(documents::key.gt(after))
        .order(documents::key)
        .limit(limit)
        .select(documents::key)
        .load(conn)
}

/// All documents that some receiver does not hold, oldest version first.
pub(crate) fn unheld(conn: &mut DbConnection) -> QueryResult<Vec<Unheld>> {
    type Row = (String, String, i64, i64, i64);
    let rows: Vec<Row> = documents::table
        .filter(
            documents::version
                .gt(documents::dispatcher_held_version)
                .or(documents::version.gt(documents::deliverer_held_version)),
        )
        .order(documents::version)
        .select((
            documents::kind,
            documents::key,
            documents::version,
            documents::dispatcher_held_version,
            documents::deliverer_held_version,
        ))
        .load(conn)?;
    let read = |(kind, key, version, dispatcher, deliverer): Row| {
        let held = [(Receiver::CronDispatcher, dispatcher), (Receiver::CallbackDeliverer, deliverer)];
        let receivers = held.into_iter().filter(|(_, held)| version > *held).map(|(receiver, _)| receiver).collect();
        Ok(Unheld { name: DocumentName { kind: read_word(&kind)?, key }, version, receivers })
    };
    rows.into_iter().map(read).collect()
}

/// The versions of a document that receivers said that they hold; 0 is nothing said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeldVersions {
    pub(crate) by_dispatcher: i64,
    pub(crate) by_deliverer: i64,
}

/// The receivers hold these versions, or later ones; what they held before is never lowered.
pub(crate) fn hold(conn: &mut DbConnection, held: &BTreeMap<DocumentName, HeldVersions>) -> QueryResult<()> {
    // Locked in the order of their names, organisations first, as those who write them do: two at once never wait for
    // each other in a circle.
    const HOLD_ALL: &str = "
        WITH locked AS (
            SELECT kind, key, held.dispatcher, held.deliverer
              FROM documents
              JOIN unnest($1, $2, $3, $4) WITH ORDINALITY AS held (kind, key, dispatcher, deliverer, place)
             USING (kind, key)
             WHERE dispatcher_held_version < held.dispatcher OR deliverer_held_version < held.deliverer
             ORDER BY held.place
               FOR NO KEY UPDATE OF documents)
        UPDATE documents
           SET dispatcher_held_version = greatest(dispatcher_held_version, locked.dispatcher),
               deliverer_held_version = greatest(deliverer_held_version, locked.deliverer)
          FROM locked WHERE (documents.kind, documents.key) = (locked.kind, locked.key)";
    const HOLD: &str = "
        UPDATE documents
           SET dispatcher_held_version = max(dispatcher_held_version, $1),
               deliverer_held_version = max(deliverer_held_version, $2)
         WHERE kind = $3 AND key = $4";
    match conn {
        _ if held.is_empty() => {}
        DbConnection::Postgres(c) => {
            let (names, versions): (Vec<&DocumentName>, Vec<&HeldVersions>) = held.iter().unzip();
            diesel::sql_query(HOLD_ALL)
                .bind::<Array<Text>, _>(names.iter().map(|name| name.kind.as_str()).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(names.iter().map(|name| name.key.as_str()).collect::<Vec<_>>())
                .bind::<Array<BigInt>, _>(versions.iter().map(|held| held.by_dispatcher).collect::<Vec<_>>())
                .bind::<Array<BigInt>, _>(versions.iter().map(|held| held.by_deliverer).collect::<Vec<_>>())
                .execute(c)?;
        }
        DbConnection::Sqlite(c) => {
            for (name, held) in held {
                diesel::sql_query(HOLD)
                    .bind::<BigInt, _>(held.by_dispatcher)
                    .bind::<BigInt, _>(held.by_deliverer)
                    .bind::<Text, _>(name.kind.as_str())
                    .bind::<Text, _>(&name.key)
                    .execute(c)?;
            }
        }
    }
    Ok(())
}

/// Forgets who holds what; that the deliverer needs no mentors stays. Returns how many documents there are.
pub(crate) fn forget_holders(conn: &mut DbConnection) -> QueryResult<usize> {
    diesel::update(documents::table.filter(documents::deliverer_held_version.lt(i64::MAX)))
        .set(documents::deliverer_held_version.eq(0))
        .execute(conn)?;
    diesel::update(documents::table).set(documents::dispatcher_held_version.eq(0)).execute(conn)
}

/// Forgets up to `limit` tombstones that everyone has held for long enough. Returns how many.
pub(crate) fn sweep_tombstones(conn: &mut DbConnection, now: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let old: Vec<(String, String)> = documents::table
        .filter(documents::deleted.eq(true))
        .filter(documents::version.lt((now - TOMBSTONE_LIFE).timestamp_micros()))
        .filter(documents::version.le(documents::dispatcher_held_version))
        .filter(documents::version.le(documents::deliverer_held_version))
        .select((documents::kind, documents::key))
        .limit(limit)
        .load(conn)?;
    for (kind, key) in &old {
        diesel::delete(documents::table.find((kind, key))).execute(conn)?;
    }
    Ok(old.len())
}

fn decode(bytes: &[u8]) -> QueryResult<Document> {
    Document::decode(bytes).map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))
}
