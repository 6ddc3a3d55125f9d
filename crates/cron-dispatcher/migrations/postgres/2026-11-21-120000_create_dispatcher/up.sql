-- What the registry announced, in the newest version that arrived. A tombstone keeps its row until it is swept.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    organisation TEXT NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX documents_tombstones ON documents (changed_at) WHERE deleted;

-- What changes at every fire, and nothing else.
CREATE TABLE schedules (
    agent_id BIGINT NOT NULL PRIMARY KEY,
    timing_version BIGINT NOT NULL,
    next_fire_at TIMESTAMPTZ,
    fired_through TIMESTAMPTZ NOT NULL,
    finished BOOLEAN NOT NULL,
    calls_back BOOLEAN NOT NULL,
    sequence BIGINT NOT NULL,
    follows BIGINT,
    follows_status TEXT
);
CREATE INDEX schedules_due ON schedules (next_fire_at) WHERE next_fire_at IS NOT NULL;
CREATE INDEX schedules_followers ON schedules (follows) WHERE follows IS NOT NULL;

CREATE SEQUENCE run_ids;

-- One row for each run.
CREATE TABLE runs (
    id BIGINT NOT NULL PRIMARY KEY DEFAULT nextval('run_ids'),
    agent_id BIGINT NOT NULL,
    organisation TEXT NOT NULL,
    made_by TEXT NOT NULL,
    fire_time TIMESTAMPTZ NOT NULL,
    nominal_time TIMESTAMPTZ NOT NULL,
    sequence BIGINT NOT NULL,
    run_attempt INTEGER NOT NULL,
    stage TEXT NOT NULL,
    turn BIGINT NOT NULL,
    sends INTEGER NOT NULL,
    check_at TIMESTAMPTZ,
    requested_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    registry_held BOOLEAN NOT NULL,
    deliverer_held BOOLEAN NOT NULL,
    finished_timing_version BIGINT
);
CREATE UNIQUE INDEX runs_tick ON runs (agent_id, fire_time) WHERE made_by = 'schedule';
CREATE INDEX runs_queued ON runs (turn, id) WHERE stage = 'queued';
CREATE INDEX runs_window ON runs (id) WHERE stage = 'requested';
CREATE INDEX runs_to_check ON runs (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;

-- The bytes of a run, forgotten once all who need its result hold it.
CREATE TABLE run_bodies (
    run_id BIGINT NOT NULL PRIMARY KEY,
    request BYTEA NOT NULL,
    answer BYTEA
);

-- The newest run of the agent that another follows, until that one's next fire takes it.
CREATE TABLE arrivals (
    agent_id BIGINT NOT NULL PRIMARY KEY,
    previous_run_id BIGINT NOT NULL
);
CREATE INDEX arrivals_run ON arrivals (previous_run_id);

-- Spans of ticks that became no run: from fire_time up to, not including, until.
CREATE TABLE skipped_ticks (
    agent_id BIGINT NOT NULL,
    fire_time TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (agent_id, fire_time)
);
CREATE INDEX skipped_ticks_age ON skipped_ticks (until);

-- Whose turn it is to enter the window.
CREATE TABLE turns (
    organisation TEXT NOT NULL PRIMARY KEY,
    last_turn BIGINT NOT NULL
);
CREATE INDEX turns_last ON turns (last_turn);
