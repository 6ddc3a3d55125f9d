//! Column types that both databases have, each in its own best form.
//!
//! | in Rust | PostgreSQL | SQLite |
//! |---|---|---|
//! | [`Timestamp`] | `timestamptz` | `integer`, microseconds since 1970 |
//! | [`Uid`] | `uuid` | `text` |
//! | [`Json`] | `jsonb` | `text` |
//!
//! In `diesel::table!` these columns are [`SqlTimestamp`], [`SqlUuid`] and [`SqlJson`]. The SQL types are ours because
//! the compiler refuses a foreign type with a foreign SQL type for a backend that is neither.

use chrono::{DateTime, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, HasSqlType, Jsonb, SqlOrd, SqlType, Text, Timestamptz};
use diesel::sqlite::Sqlite;
use serde::{Deserialize, Serialize};

use super::MultiBackend;
use crate::clock::to_microseconds;

/// A moment as a column: whole microseconds, UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow, Serialize, Deserialize,
)]
#[diesel(sql_type = SqlTimestamp)]
#[serde(transparent)]
pub struct Timestamp(DateTime<Utc>);

/// The SQL type of [`Timestamp`].
#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Long"))]
pub struct SqlTimestamp;

/// A UUID as a column.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow, Serialize, Deserialize,
)]
#[diesel(sql_type = SqlUuid)]
#[serde(transparent)]
pub struct Uid(uuid::Uuid);

/// The SQL type of [`Uid`].
#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Text"))]
pub struct SqlUuid;

/// JSON as a column. As text in SQLite: its own binary form cannot be read by older shells.
#[derive(Debug, Clone, Default, PartialEq, AsExpression, FromSqlRow, Serialize, Deserialize)]
#[diesel(sql_type = SqlJson)]
#[serde(transparent)]
pub struct Json(serde_json::Value);

/// The SQL type of [`Json`].
#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 3802, array_oid = 3807))]
#[diesel(sqlite_type(name = "Text"))]
pub struct SqlJson;

impl SqlOrd for SqlTimestamp {}

impl From<DateTime<Utc>> for Timestamp {
    /// Cuts off what is finer than a microsecond, so that what is read equals what was written.
    fn from(time: DateTime<Utc>) -> Self {
        Self(to_microseconds(time))
    }
}

impl From<uuid::Uuid> for Uid {
    fn from(uuid: uuid::Uuid) -> Self {
        Self(uuid)
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value)
    }
}

/// What a column type needs beyond its declaration: the way back, and the glue for each backend.
macro_rules! portable {
    (
        $new:ident($inner:ty) as $sql:ident,
        postgres: $pg:ty,
        sqlite: $lite:ty as $lite_sql:ty, |$to:ident| $to_lite:expr, |$from:ident| $from_lite:expr
    ) => {
        impl From<$new> for $inner {
            fn from(column: $new) -> Self {
                column.0
            }
        }

        impl std::ops::Deref for $new {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl HasSqlType<$sql> for MultiBackend {
            fn metadata(lookup: &mut Self::MetadataLookup) -> Self::TypeMetadata {
                MultiBackend::lookup_sql_type::<$sql>(lookup)
            }
        }

        impl FromSql<$sql, MultiBackend> for $new {
            fn from_sql(value: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                value.from_sql::<$new, $sql>()
            }
        }

        impl ToSql<$sql, MultiBackend> for $new {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
                out.set_value(($sql, self));
                Ok(IsNull::No)
            }
        }

        impl FromSql<$sql, Pg> for $new {
            fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                Ok(Self(FromSql::<$pg, Pg>::from_sql(value)?))
            }
        }

        impl ToSql<$sql, Pg> for $new {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                ToSql::<$pg, Pg>::to_sql(&self.0, out)
            }
        }

        impl FromSql<$sql, Sqlite> for $new {
            fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                let $from = <$lite as FromSql<$lite_sql, Sqlite>>::from_sql(value)?;
                Ok(Self($from_lite))
            }
        }

        impl ToSql<$sql, Sqlite> for $new {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                let $to = &self.0;
                out.set_value($to_lite);
                Ok(IsNull::No)
            }
        }
    };
}

portable!(
    Timestamp(DateTime<Utc>) as SqlTimestamp,
    postgres: Timestamptz,
    sqlite: i64 as BigInt,
    |time| time.timestamp_micros(),
    |micros| DateTime::from_timestamp_micros(micros).ok_or("a time out of range")?
);

portable!(
    Uid(uuid::Uuid) as SqlUuid,
    postgres: diesel::sql_types::Uuid,
    sqlite: String as Text,
    |uuid| uuid.to_string(),
    |text| text.parse()?
);

portable!(
    Json(serde_json::Value) as SqlJson,
    postgres: Jsonb,
    sqlite: String as Text,
    |value| value.to_string(),
    |text| serde_json::from_str(&text)?
);
