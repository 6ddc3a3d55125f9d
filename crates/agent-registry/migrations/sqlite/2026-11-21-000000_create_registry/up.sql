-- Tenants. One exists from the first authorised write by a token that names it.
CREATE TABLE organisations (
    key TEXT NOT NULL PRIMARY KEY,
    timezone TEXT NOT NULL,
    paused BOOLEAN NOT NULL DEFAULT FALSE,
    paused_note TEXT NOT NULL DEFAULT '',
    -- Of the last resume: what becomes of the ticks in between.
    resumed_with TEXT,
    default_provider TEXT NOT NULL DEFAULT '',
    -- Limits and retention: NULL is none, and as the configuration says.
    agents_max INTEGER,
    runs_in_flight_max INTEGER,
    callbacks_in_flight_max INTEGER,
    requests_per_minute INTEGER,
    logs_days INTEGER,
    ticks_days INTEGER,
    deliveries_days INTEGER,
    alert_url TEXT NOT NULL DEFAULT '',
    sealed_alert_secret BLOB,
    -- Since when everything of it is being erased.
    erasing_since INTEGER,
    created_at INTEGER NOT NULL
);
CREATE INDEX organisations_erasing ON organisations (key) WHERE erasing_since IS NOT NULL;

-- AI agents that can be asked. `provider` is what its owner wrote, without the API key.
CREATE TABLE mentors (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    unique_id TEXT NOT NULL UNIQUE,
    organisation TEXT NOT NULL REFERENCES organisations (key),
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    system_prompt TEXT NOT NULL,
    llm_provider TEXT NOT NULL,
    llm_name TEXT NOT NULL,
    llm_temperature DOUBLE,
    metadata TEXT,
    provider TEXT,
    sealed_api_key BLOB,
    service_groups TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- Its agents still show it; nothing else does.
    deleted_at INTEGER
);
CREATE UNIQUE INDEX mentors_by_slug ON mentors (organisation, slug) WHERE deleted_at IS NULL;
CREATE INDEX mentors_by_name ON mentors (organisation, name);

-- Periodic agents. What changes at every run stands in agent_activity.
CREATE TABLE agents (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    organisation TEXT NOT NULL REFERENCES organisations (key),
    mentor_id INTEGER NOT NULL REFERENCES mentors (id),
    title TEXT NOT NULL,
    username TEXT NOT NULL,
    last_editor TEXT NOT NULL,
    description TEXT NOT NULL,
    prompt TEXT NOT NULL,
    minute TEXT NOT NULL,
    hour TEXT NOT NULL,
    day_of_month TEXT NOT NULL,
    month_of_year TEXT NOT NULL,
    day_of_week TEXT NOT NULL,
    timezone TEXT,
    one_off BOOLEAN NOT NULL,
    start_time INTEGER,
    enabled BOOLEAN NOT NULL,
    pathway TEXT NOT NULL,
    callback_url TEXT NOT NULL,
    sealed_callback_secret BLOB,
    parent_session_id TEXT NOT NULL,
    parent_mentor_id INTEGER,
    previous_agent_id INTEGER REFERENCES agents (id),
    previous_agent_status TEXT NOT NULL,
    -- Title, description and prompt in lower case: what `search` looks in.
    search_text TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    -- The document version of the last change of timing.
    timing_version INTEGER NOT NULL,
    end_time INTEGER,
    jitter_seconds INTEGER NOT NULL,
    overlap_policy TEXT NOT NULL,
    catch_up TEXT NOT NULL,
    -- Without one the default holds, unless nothing is caught up at all.
    catch_up_window_seconds INTEGER,
    max_attempts INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    callback_on_runs BOOLEAN NOT NULL,
    callback_on_skipped BOOLEAN NOT NULL,
    callback_encrypt BOOLEAN NOT NULL,
    callback_signature_only_hub BOOLEAN NOT NULL,
    -- The secret before the last rotation, and until when receivers may still use it.
    sealed_previous_secret BLOB,
    previous_secret_until INTEGER,
    -- By an operator; what the last resume said about the ticks in between.
    paused BOOLEAN NOT NULL,
    paused_note TEXT NOT NULL,
    resumed_with TEXT
);
CREATE INDEX agents_by_organisation ON agents (organisation, created_at, id);
CREATE INDEX agents_by_mentor ON agents (mentor_id);
CREATE INDEX agents_by_previous_agent ON agents (previous_agent_id) WHERE previous_agent_id IS NOT NULL;

-- One narrow row for each agent.
CREATE TABLE agent_activity (
    agent_id INTEGER NOT NULL PRIMARY KEY REFERENCES agents (id) ON DELETE CASCADE,
    -- The default is for upserts, whose row is there already.
    organisation TEXT NOT NULL DEFAULT '',
    latest_run_id INTEGER,
    latest_status TEXT,
    next_fire_time INTEGER,
    -- When the dispatcher said so: later words win.
    next_fire_time_as_of INTEGER NOT NULL,
    -- How callbacks fare: `ok`, `failing`, `disabled`.
    callback_state TEXT NOT NULL DEFAULT 'ok',
    failing_since INTEGER,
    -- The last warning of them in the audit log: since when they were failing, and how far that had come, in percent.
    callbacks_warned_since INTEGER,
    callbacks_warned_percent INTEGER NOT NULL DEFAULT 0
);

-- Runs as the dispatcher recorded them. Of an agent that is gone they wait to be swept.
CREATE TABLE logs (
    id INTEGER NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL,
    agent_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    made_by TEXT NOT NULL,
    fire_time INTEGER NOT NULL,
    nominal_time INTEGER NOT NULL,
    requested_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    sequence INTEGER NOT NULL,
    run_attempt INTEGER NOT NULL,
    reason TEXT,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    session_id TEXT NOT NULL
);
CREATE INDEX logs_by_organisation ON logs (organisation, requested_at, id);
CREATE INDEX logs_by_agent ON logs (agent_id, requested_at, id);

CREATE TABLE log_bodies (
    log_id INTEGER NOT NULL PRIMARY KEY REFERENCES logs (id) ON DELETE CASCADE,
    -- The beginning of each; of what is beyond, so many pieces stand in log_pieces.
    prompt TEXT NOT NULL,
    output TEXT NOT NULL,
    content TEXT NOT NULL,
    prompt_pieces INTEGER NOT NULL DEFAULT 0,
    output_pieces INTEGER NOT NULL DEFAULT 0,
    content_pieces INTEGER NOT NULL DEFAULT 0
);

-- Agents that were deleted and may still have logs to sweep.
CREATE TABLE deleted_agents (
    agent_id INTEGER NOT NULL PRIMARY KEY
);

-- The outbox: each document in its newest version, and the version that each receiver holds.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    organisation TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted BOOLEAN NOT NULL,
    body BLOB NOT NULL,
    dispatcher_held_version INTEGER NOT NULL,
    deliverer_held_version INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX documents_unheld ON documents (version)
    WHERE version > dispatcher_held_version OR version > deliverer_held_version;
CREATE INDEX documents_deleted ON documents (version) WHERE deleted;
