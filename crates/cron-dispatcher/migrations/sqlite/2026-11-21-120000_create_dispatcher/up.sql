-- Times are unix microseconds.

-- What the registry announced, in the newest version that arrived. A tombstone keeps its row until it is swept.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    organisation TEXT NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX documents_tombstones ON documents (changed_at) WHERE deleted;

-- What changes at every fire, and nothing else.
CREATE TABLE schedules (
    agent_id BIGINT NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL,
    timing_version BIGINT NOT NULL,
    -- Which edition of the time zone database the next tick was planned with.
    tzdb TEXT NOT NULL,
    next_fire_at BIGINT,
    nominal_at BIGINT,
    fired_through BIGINT NOT NULL,
    finished BOOLEAN NOT NULL,
    calls_back BOOLEAN NOT NULL,
    sequence BIGINT NOT NULL,
    follows BIGINT,
    follows_status TEXT,
    overlap TEXT NOT NULL,
    calls_back_skipped BOOLEAN NOT NULL,
    -- Ticks from waits_since on are not settled while it waits for something: the end of a pause, or of a run.
    waits_for TEXT,
    waits_since BIGINT,
    resumed_with TEXT,
    -- Counts its organisation's schedules as they come: of those due at one instant, each organisation's first fire first.
    place BIGINT NOT NULL DEFAULT 0,
    -- The newest change of its organisation's zone that it follows.
    zone_version BIGINT NOT NULL
);
CREATE INDEX schedules_due ON schedules (next_fire_at, place) WHERE next_fire_at IS NOT NULL;
CREATE INDEX schedules_places ON schedules (organisation, place);
CREATE INDEX schedules_waiting ON schedules (organisation) WHERE waits_for IS NOT NULL;
CREATE INDEX schedules_queue_one ON schedules (agent_id) WHERE overlap = 'queue_one';
CREATE INDEX schedules_followers ON schedules (follows) WHERE follows IS NOT NULL;

-- One row for each run; AUTOINCREMENT so that no id is ever used twice.
CREATE TABLE runs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    agent_id BIGINT NOT NULL,
    mentor_id BIGINT NOT NULL,
    organisation TEXT NOT NULL,
    agent_version BIGINT,
    made_by TEXT NOT NULL,
    fire_time BIGINT NOT NULL,
    nominal_time BIGINT NOT NULL,
    passed_over INTEGER NOT NULL,
    sequence BIGINT NOT NULL,
    run_attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    stage TEXT NOT NULL,
    -- The limit that keeps it from the window.
    waits_for TEXT,
    -- Not ended, and of an agent that does not let its runs overlap.
    exclusive BOOLEAN NOT NULL,
    turn BIGINT NOT NULL,
    sends INTEGER NOT NULL,
    check_at BIGINT,
    -- When runners were told to let it go, until it is requested anew.
    let_go_at BIGINT,
    requested_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    registry_held BOOLEAN NOT NULL,
    deliverer_held BOOLEAN NOT NULL,
    finished_timing_version BIGINT
);
CREATE UNIQUE INDEX runs_tick ON runs (agent_id, nominal_time) WHERE made_by IN ('schedule', 'catch_up');
CREATE INDEX runs_queued ON runs (turn, id) WHERE stage = 'queued';
CREATE INDEX runs_waiting ON runs (waits_for, turn, id) WHERE stage = 'waiting';
CREATE INDEX runs_delayed ON runs (stage, check_at) WHERE stage = 'delayed';
CREATE INDEX runs_window ON runs (organisation) WHERE stage = 'requested';
CREATE INDEX runs_running ON runs (organisation) WHERE stage = 'running';
CREATE INDEX runs_exclusive ON runs (agent_id) WHERE exclusive;
CREATE INDEX runs_to_check ON runs (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX runs_let_go ON runs (let_go_at) WHERE let_go_at IS NOT NULL;
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;

-- The bytes of a run, forgotten once all who need its result hold it.
CREATE TABLE run_bodies (
    run_id BIGINT NOT NULL PRIMARY KEY,
    request BLOB NOT NULL,
    answer BLOB
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
    fire_time BIGINT NOT NULL,
    until BIGINT NOT NULL,
    reason TEXT NOT NULL,
    organisation TEXT NOT NULL,
    agent_version BIGINT,
    -- When the deliverer is told of it again; nobody waits to hear of one without.
    announce_at BIGINT,
    PRIMARY KEY (agent_id, fire_time)
);
CREATE INDEX skipped_ticks_age ON skipped_ticks (organisation, until);
CREATE INDEX skipped_ticks_to_announce ON skipped_ticks (announce_at) WHERE announce_at IS NOT NULL;

-- Whose turn it is to enter the window.
CREATE TABLE turns (
    organisation TEXT NOT NULL PRIMARY KEY,
    last_turn BIGINT NOT NULL
);
CREATE INDEX turns_last ON turns (last_turn);
