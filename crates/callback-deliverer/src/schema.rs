//! The tables, as the migrations make them on both back ends.

diesel::table! {
    use diesel::sql_types::Integer;
    use service_kit::database::SqlUuid;

    installation (id) {
        id -> Integer,
        uuid -> SqlUuid,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
    use service_kit::database::SqlTimestamp;

    endpoints (agent_id) {
        agent_id -> BigInt,
        organisation -> Text,
        version -> BigInt,
        url -> Nullable<Text>,
        sealed_secret -> Binary,
        deleted -> Bool,
        updated_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use service_kit::database::{SqlTimestamp, SqlUuid};

    deliveries (id) {
        id -> BigInt,
        webhook_id -> SqlUuid,
        organisation -> Text,
        agent_id -> BigInt,
        log_id -> Nullable<BigInt>,
        event -> Text,
        status -> Text,
        reason -> Nullable<Text>,
        delivery_attempts_made -> Integer,
        due_at -> Nullable<SqlTimestamp>,
        lease_owner -> Nullable<SqlUuid>,
        created_at -> SqlTimestamp,
        settled_at -> Nullable<SqlTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Text};

    delivery_bodies (delivery_id) {
        delivery_id -> BigInt,
        body -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use service_kit::database::SqlTimestamp;

    delivery_attempts (delivery_id, number) {
        delivery_id -> BigInt,
        number -> Integer,
        started_at -> SqlTimestamp,
        duration_ms -> BigInt,
        outcome -> Text,
        http_status -> Nullable<Integer>,
        error -> Nullable<Text>,
        response_excerpt -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(deliveries, delivery_bodies);
