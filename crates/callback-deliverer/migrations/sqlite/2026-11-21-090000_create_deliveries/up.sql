-- Names this installation in webhook ids: one row, made once.
CREATE TABLE installation (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    uuid TEXT NOT NULL
);

-- Where each agent's results go, in the highest version held.
CREATE TABLE endpoints (
    agent_id INTEGER PRIMARY KEY NOT NULL,
    organisation TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- NULL: the agent has no callback.
    url TEXT,
    -- Empty: callbacks are not signed.
    sealed_secret BLOB NOT NULL,
    -- A tombstone.
    deleted BOOLEAN NOT NULL,
    updated_at INTEGER NOT NULL
);

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    webhook_id TEXT NOT NULL UNIQUE,
    organisation TEXT NOT NULL,
    agent_id INTEGER NOT NULL,
    -- NULL: not about a run.
    log_id INTEGER,
    event TEXT NOT NULL,
    status TEXT NOT NULL,
    -- Why it was discarded.
    reason TEXT,
    delivery_attempts_made INTEGER NOT NULL,
    -- When somebody has to look at it next: at the next delivery attempt, or, while leased, when the lease ends.
    -- NULL: never, it is final; or, while pending, not before its endpoint is held.
    due_at INTEGER,
    -- The process that makes a delivery attempt now.
    lease_owner TEXT,
    created_at INTEGER NOT NULL,
    settled_at INTEGER
);
CREATE INDEX deliveries_due ON deliveries (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_by_agent ON deliveries (agent_id, id);
CREATE INDEX deliveries_undelivered ON deliveries (agent_id) WHERE status IN ('pending', 'exhausted');

-- The plaintext bodies, apart from what changes.
CREATE TABLE delivery_bodies (
    delivery_id INTEGER PRIMARY KEY NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    body TEXT NOT NULL
);

CREATE TABLE delivery_attempts (
    delivery_id INTEGER NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    http_status INTEGER,
    error TEXT,
    response_excerpt TEXT,
    PRIMARY KEY (delivery_id, number)
) WITHOUT ROWID;
