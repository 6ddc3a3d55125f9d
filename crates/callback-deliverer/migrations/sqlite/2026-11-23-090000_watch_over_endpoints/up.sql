-- What is held of organisations, in the highest version.
CREATE TABLE organisations (
    organisation TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    callbacks_in_flight_max INTEGER,
    deliveries_days INTEGER,
    alert_url TEXT,
    alert_sealed_secret BLOB NOT NULL
);

-- Endpoints that are not well. One that is has no row.
CREATE TABLE endpoint_states (
    agent_id INTEGER PRIMARY KEY NOT NULL,
    organisation TEXT NOT NULL,
    -- Nothing arrived since then.
    failing_since INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    last_failure_at INTEGER NOT NULL,
    last_outcome TEXT NOT NULL,
    -- The last warning that was given: 50, 70 or 90 % of the time until it is disabled.
    warned_percent INTEGER NOT NULL,
    -- NULL: it is failing, and tried on.
    disabled_at INTEGER,
    disabled_reason TEXT
);

-- The processes that make delivery attempts. One whose heart does not beat leaves its leases to the others.
CREATE TABLE replicas (
    id TEXT PRIMARY KEY NOT NULL,
    beat_at INTEGER NOT NULL
);

-- Replays of many deliveries, as jobs.
CREATE TABLE replays (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    organisation TEXT NOT NULL,
    -- NULL: of every agent.
    agent_id INTEGER,
    status TEXT NOT NULL,
    since INTEGER NOT NULL,
    -- Deliveries in all, those looked at (the id of the last), and those replayed.
    total INTEGER NOT NULL,
    up_to INTEGER NOT NULL,
    position INTEGER NOT NULL,
    replayed INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX replays_unfinished ON replays (id) WHERE finished_at IS NULL;
CREATE INDEX deliveries_held ON deliveries (agent_id, id) WHERE status = 'held';
