//! The tables, as Diesel sees them on both back ends; the migrations say what each is for.

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    organisations (key) {
        key -> Text,
        timezone -> Text,
        paused -> Bool,
        paused_note -> Text,
        resumed_with -> Nullable<Text>,
        default_provider -> Text,
        agents_max -> Nullable<Integer>,
        runs_in_flight_max -> Nullable<Integer>,
        callbacks_in_flight_max -> Nullable<Integer>,
        requests_per_minute -> Nullable<Integer>,
        logs_days -> Nullable<Integer>,
        ticks_days -> Nullable<Integer>,
        deliveries_days -> Nullable<Integer>,
        alert_url -> Text,
        sealed_alert_secret -> Nullable<Binary>,
        erasing_since -> Nullable<SqlTimestamp>,
        created_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    users (organisation, username) {
        organisation -> Text,
        username -> Text,
        role -> Nullable<Text>,
        token_issued_at -> Nullable<SqlTimestamp>,
        revoked_at -> Nullable<SqlTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    api_keys (organisation, name) {
        organisation -> Text,
        name -> Text,
        username -> Text,
        key_hash -> Binary,
        read_only -> Bool,
        created_at -> SqlTimestamp,
        expires_at -> Nullable<SqlTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlJson, SqlTimestamp};

    audit_log (id) {
        id -> BigInt,
        organisation -> Text,
        at -> SqlTimestamp,
        username -> Text,
        acting_as -> Text,
        credential -> Text,
        action -> Text,
        subject -> Text,
        subject_key -> Text,
        fields -> SqlJson,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::{SqlJson, SqlTimestamp, SqlUuid};

    mentors (id) {
        id -> BigInt,
        unique_id -> SqlUuid,
        organisation -> Text,
        name -> Text,
        slug -> Text,
        display_name -> Text,
        description -> Text,
        system_prompt -> Text,
        llm_provider -> Text,
        llm_name -> Text,
        llm_temperature -> Nullable<Double>,
        metadata -> Nullable<SqlJson>,
        provider -> Nullable<SqlJson>,
        sealed_api_key -> Nullable<Binary>,
        service_groups -> SqlJson,
        created_by -> Text,
        created_at -> SqlTimestamp,
        updated_at -> SqlTimestamp,
        deleted_at -> Nullable<SqlTimestamp>,
        text_bytes -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    agents (id) {
        id -> BigInt,
        organisation -> Text,
        mentor_id -> BigInt,
        title -> Text,
        username -> Text,
        last_editor -> Text,
        description -> Text,
        prompt -> Text,
        minute -> Text,
        hour -> Text,
        day_of_month -> Text,
        month_of_year -> Text,
        day_of_week -> Text,
        timezone -> Nullable<Text>,
        one_off -> Bool,
        start_time -> Nullable<SqlTimestamp>,
        enabled -> Bool,
        pathway -> Text,
        callback_url -> Text,
        sealed_callback_secret -> Nullable<Binary>,
        parent_session_id -> Text,
        parent_mentor_id -> Nullable<BigInt>,
        previous_agent_id -> Nullable<BigInt>,
        previous_agent_status -> Text,
        search_text -> Text,
        created_at -> SqlTimestamp,
        modified_at -> SqlTimestamp,
        timing_version -> BigInt,
        end_time -> Nullable<SqlTimestamp>,
        jitter_seconds -> Integer,
        overlap_policy -> Text,
        catch_up -> Text,
        catch_up_window_seconds -> Nullable<Integer>,
        max_attempts -> Integer,
        timeout_seconds -> Integer,
        callback_on_runs -> Bool,
        callback_on_skipped -> Bool,
        callback_encrypt -> Bool,
        callback_signature_only_hub -> Bool,
        sealed_previous_secret -> Nullable<Binary>,
        previous_secret_until -> Nullable<SqlTimestamp>,
        paused -> Bool,
        paused_note -> Text,
        resumed_with -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    agent_activity (agent_id) {
        agent_id -> BigInt,
        organisation -> Text,
        latest_run_id -> Nullable<BigInt>,
        latest_status -> Nullable<Text>,
        next_fire_time -> Nullable<SqlTimestamp>,
        next_fire_time_as_of -> SqlTimestamp,
        callback_state -> Text,
        failing_since -> Nullable<SqlTimestamp>,
        callbacks_warned_since -> Nullable<SqlTimestamp>,
        callbacks_warned_percent -> Integer,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    logs (id) {
        id -> BigInt,
        organisation -> Text,
        agent_id -> BigInt,
        state -> Text,
        made_by -> Text,
        fire_time -> SqlTimestamp,
        nominal_time -> SqlTimestamp,
        requested_at -> SqlTimestamp,
        started_at -> Nullable<SqlTimestamp>,
        ended_at -> Nullable<SqlTimestamp>,
        sequence -> BigInt,
        run_attempt -> Integer,
        reason -> Nullable<Text>,
        prompt_tokens -> BigInt,
        completion_tokens -> BigInt,
        session_id -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    log_bodies (log_id) {
        log_id -> BigInt,
        prompt -> Text,
        output -> Text,
        content -> Text,
        prompt_pieces -> Integer,
        output_pieces -> Integer,
        content_pieces -> Integer,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    log_pieces (log_id, field, sequence) {
        log_id -> BigInt,
        field -> Text,
        sequence -> Integer,
        text -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    // A view: whole contents.
    log_contents (log_id) {
        log_id -> BigInt,
        content -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    // Diesel wants a key; on PostgreSQL there may be several rows with this one.
    log_counts (organisation, username, state) {
        organisation -> Text,
        username -> Text,
        state -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    // As above.
    agent_counts (organisation, status) {
        organisation -> Text,
        status -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    deleted_agents (agent_id) {
        agent_id -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    idempotency_keys (organisation, username, operation, key) {
        organisation -> Text,
        username -> Text,
        operation -> Text,
        key -> Text,
        fingerprint -> Binary,
        created_at -> SqlTimestamp,
        sealed_answer -> Nullable<Binary>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    documents (kind, key) {
        kind -> Text,
        key -> Text,
        organisation -> Text,
        version -> BigInt,
        deleted -> Bool,
        body -> Binary,
        dispatcher_held_version -> BigInt,
        deliverer_held_version -> BigInt,
    }
}

diesel::joinable!(agents -> mentors (mentor_id));
diesel::joinable!(agent_activity -> agents (agent_id));
diesel::joinable!(logs -> agents (agent_id));
diesel::joinable!(log_bodies -> logs (log_id));
diesel::allow_tables_to_appear_in_same_query!(
    agents,
    agent_activity,
    mentors,
    logs,
    log_bodies,
    log_pieces,
    log_contents,
);
