//! The tables of `schema.sql`, as diesel knows them.

use diesel::sql_types::Binary;

diesel::table! {
    messages (id) {
        id -> BigInt,
        queue -> Text,
        message_id -> Binary,
        kind -> Text,
        source -> Text,
        time_us -> BigInt,
        traceparent -> Nullable<Text>,
        failures -> BigInt,
        available_at_us -> Nullable<BigInt>,
        body -> Binary,
    }
}

diesel::table! {
    dead_letters (id) {
        id -> BigInt,
        queue -> Text,
        message_id -> Binary,
        kind -> Text,
        source -> Text,
        time_us -> BigInt,
        traceparent -> Nullable<Text>,
        failures -> BigInt,
        reason -> Text,
        dead_at_us -> BigInt,
        body -> Binary,
    }
}

diesel::define_sql_function! {
    /// Bytes of a body; SQLite reads only the row's header for it.
    fn length(body: Binary) -> BigInt;
}
