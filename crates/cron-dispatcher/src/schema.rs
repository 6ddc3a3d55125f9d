//! The tables, as Diesel sees them on both back ends; the migrations say what each is for.

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    documents (kind, key) {
        kind -> Text,
        key -> Text,
        organisation -> Text,
        version -> BigInt,
        deleted -> Bool,
        changed_at -> SqlTimestamp,
        body -> Binary,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    schedules (agent_id) {
        agent_id -> BigInt,
        organisation -> Text,
        timing_version -> BigInt,
        tzdb -> Text,
        next_fire_at -> Nullable<SqlTimestamp>,
        nominal_at -> Nullable<SqlTimestamp>,
        fired_through -> SqlTimestamp,
        finished -> Bool,
        calls_back -> Bool,
        sequence -> BigInt,
        follows -> Nullable<BigInt>,
        follows_status -> Nullable<Text>,
        overlap -> Text,
        calls_back_skipped -> Bool,
        waits_for -> Nullable<Text>,
        waits_since -> Nullable<SqlTimestamp>,
        resumed_with -> Nullable<Text>,
        place -> BigInt,
        zone_version -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    arrivals (agent_id) {
        agent_id -> BigInt,
        previous_run_id -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    runs (id) {
        id -> BigInt,
        agent_id -> BigInt,
        mentor_id -> BigInt,
        organisation -> Text,
        agent_version -> Nullable<BigInt>,
        made_by -> Text,
        fire_time -> SqlTimestamp,
        nominal_time -> SqlTimestamp,
        passed_over -> Integer,
        sequence -> BigInt,
        run_attempt -> Integer,
        max_attempts -> Integer,
        stage -> Text,
        waits_for -> Nullable<Text>,
        exclusive -> Bool,
        turn -> BigInt,
        sends -> Integer,
        check_at -> Nullable<SqlTimestamp>,
        let_go_at -> Nullable<SqlTimestamp>,
        requested_at -> SqlTimestamp,
        started_at -> Nullable<SqlTimestamp>,
        ended_at -> Nullable<SqlTimestamp>,
        registry_held -> Bool,
        deliverer_held -> Bool,
        finished_timing_version -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    run_bodies (run_id) {
        run_id -> BigInt,
        request -> Binary,
        answer -> Nullable<Binary>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    skipped_ticks (agent_id, fire_time) {
        agent_id -> BigInt,
        fire_time -> SqlTimestamp,
        until -> SqlTimestamp,
        reason -> Text,
        organisation -> Text,
        agent_version -> Nullable<BigInt>,
        announce_at -> Nullable<SqlTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    turns (organisation) {
        organisation -> Text,
        last_turn -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    limits (scope) {
        scope -> Text,
        in_flight_max -> Nullable<BigInt>,
        paused -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    everything (id) {
        id -> Integer,
        paused -> Bool,
        note -> Text,
        changed_at -> SqlTimestamp,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    schedule_history (agent_id, effective_from) {
        agent_id -> BigInt,
        effective_from -> SqlTimestamp,
        timing_version -> BigInt,
        tzdb -> Text,
        crontab -> Nullable<Text>,
        timezone -> Text,
        one_off -> Bool,
        start_time -> Nullable<SqlTimestamp>,
        end_time -> Nullable<SqlTimestamp>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    revoked_users (organisation, username) {
        organisation -> Text,
        username -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    zone_changes (organisation, version) {
        organisation -> Text,
        version -> BigInt,
        changed_at -> SqlTimestamp,
        zone_before -> Text,
        zone_after -> Text,
        place -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use service_kit::database::SqlTimestamp;

    finished_one_offs (agent_id) {
        agent_id -> BigInt,
        timing_version -> BigInt,
        tell_at -> SqlTimestamp,
    }
}

diesel::joinable!(run_bodies -> runs (run_id));
diesel::joinable!(arrivals -> run_bodies (previous_run_id));
diesel::allow_tables_to_appear_in_same_query!(arrivals, run_bodies, runs, schedules);
diesel::allow_tables_to_appear_in_same_query!(finished_one_offs, schedules);
