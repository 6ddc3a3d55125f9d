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
        previous_sealed_secret -> Nullable<Binary>,
        previous_until -> Nullable<SqlTimestamp>,
        encrypt -> Bool,
        signature_only_hub -> Bool,
        deleted -> Bool,
        updated_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
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
        to_alert_url -> Bool,
        awaits_version -> Nullable<BigInt>,
        delivery_attempts_made -> Integer,
        round_began_at -> SqlTimestamp,
        round_failures -> Integer,
        body_bytes -> BigInt,
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

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};

    organisations (organisation) {
        organisation -> Text,
        version -> BigInt,
        callbacks_in_flight_max -> Nullable<Integer>,
        deliveries_days -> Nullable<Integer>,
        alert_url -> Nullable<Text>,
        alert_sealed_secret -> Binary,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use service_kit::database::SqlTimestamp;

    endpoint_states (agent_id) {
        agent_id -> BigInt,
        organisation -> Text,
        failing_since -> SqlTimestamp,
        failures -> BigInt,
        last_failure_at -> SqlTimestamp,
        last_outcome -> Text,
        warned_percent -> Integer,
        disabled_at -> Nullable<SqlTimestamp>,
        disabled_reason -> Nullable<Text>,
    }
}

diesel::table! {
    use service_kit::database::{SqlTimestamp, SqlUuid};

    replicas (id) {
        id -> SqlUuid,
        beat_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use service_kit::database::SqlTimestamp;

    replays (id) {
        id -> BigInt,
        organisation -> Text,
        agent_id -> Nullable<BigInt>,
        status -> Text,
        since -> SqlTimestamp,
        total -> BigInt,
        up_to -> BigInt,
        position -> BigInt,
        replayed -> BigInt,
        created_at -> SqlTimestamp,
        finished_at -> Nullable<SqlTimestamp>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(deliveries, delivery_bodies, endpoint_states, endpoints);
