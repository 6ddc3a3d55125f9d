//! The tables, as Diesel sees them on both back ends; the migrations say what each is for.

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlJson, SqlTimestamp, SqlUuid};

    services (id) {
        id -> SqlUuid,
        organisation -> Text,
        username -> Text,
        agent -> Text,
        name -> Text,
        description -> Text,
        category -> Nullable<Text>,
        location -> Nullable<Text>,
        protocol_digest -> Text,
        model_digest -> Text,
        model_name -> Text,
        fields -> SqlJson,
        task_type -> Text,
        endpoint -> Nullable<Text>,
        search_text -> Text,
        created_at -> SqlTimestamp,
        updated_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlTimestamp, SqlUuid};

    service_groups (id) {
        id -> SqlUuid,
        organisation -> Text,
        username -> Text,
        name -> Text,
        is_private -> Bool,
        created_at -> SqlTimestamp,
        updated_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlTimestamp, SqlUuid};

    service_connections (group_id, service_id) {
        group_id -> SqlUuid,
        service_id -> SqlUuid,
        created_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlTimestamp, SqlUuid};

    service_hours (service_id, hour) {
        service_id -> SqlUuid,
        hour -> SqlTimestamp,
        offered -> BigInt,
        succeeded -> BigInt,
        failed -> BigInt,
        probes_succeeded -> BigInt,
        probes_failed -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlUuid;

    service_conversions (service_id) {
        service_id -> SqlUuid,
        conversions -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlTimestamp, SqlUuid};

    service_invocations (run_id, run_attempt, service_id) {
        run_id -> BigInt,
        run_attempt -> BigInt,
        service_id -> SqlUuid,
        counted_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlTimestamp, SqlUuid};

    service_probes (service_id) {
        service_id -> SqlUuid,
        endpoint -> Text,
        origin -> Text,
        due_at -> SqlTimestamp,
        failures -> BigInt,
    }
}

diesel::joinable!(service_connections -> service_groups (group_id));
diesel::joinable!(service_connections -> services (service_id));
diesel::allow_tables_to_appear_in_same_query!(services, service_groups, service_connections);
