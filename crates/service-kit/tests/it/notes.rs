//! A table such as a microservice would have, with every column type of the kit.

use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use service_kit::database::{Db, DbConnection, Json, Migrations, SqlJson, SqlTimestamp, SqlUuid, Timestamp, Uid};
use service_kit::per_backend;
use uuid::Uuid;

diesel::table! {
    use diesel::sql_types::*;
    use super::{SqlJson, SqlTimestamp, SqlUuid};

    notes (id) {
        id -> SqlUuid,
        body -> Text,
        detail -> SqlJson,
        written_at -> SqlTimestamp,
        answers -> Nullable<SqlUuid>,
    }
}

#[derive(Debug, Clone, PartialEq, Insertable, Queryable, Selectable)]
#[diesel(table_name = notes, treat_none_as_default_value = false)]
pub(crate) struct Note {
    pub(crate) id: Uid,
    pub(crate) body: String,
    pub(crate) detail: Json,
    pub(crate) written_at: Timestamp,
    pub(crate) answers: Option<Uid>,
}

pub(crate) const MIGRATIONS: Migrations = Migrations {
    postgres: embed_migrations!("tests/migrations/postgres"),
    sqlite: embed_migrations!("tests/migrations/sqlite"),
};

/// What a program of the version before this table would bring.
pub(crate) const NO_MIGRATIONS: Migrations =
    Migrations { postgres: EmbeddedMigrations::new(&[]), sqlite: EmbeddedMigrations::new(&[]) };

pub(crate) fn note(body: &str) -> Note {
    Note {
        id: Uuid::new_v4().into(),
        body: body.to_owned(),
        detail: serde_json::json!({ "words": ["ü", null, 1.5], "body": body }).into(),
        written_at: "2026-03-01T12:00:00.123456789Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap().into(),
        answers: None,
    }
}

pub(crate) fn insert(connection: &mut DbConnection, notes: &[Note]) -> QueryResult<usize> {
    per_backend!(connection, c => diesel::insert_into(notes::table).values(notes).execute(c))
}

pub(crate) fn all(connection: &mut DbConnection) -> QueryResult<Vec<Note>> {
    notes::table.select(Note::as_select()).order((notes::written_at, notes::body)).load(connection)
}

pub(crate) async fn bodies(db: &Db) -> Vec<String> {
    let notes = db.read::<_, service_kit::database::DatabaseError, _>(|connection| Ok(all(connection)?)).await;
    notes.unwrap().into_iter().map(|note| note.body).collect()
}
