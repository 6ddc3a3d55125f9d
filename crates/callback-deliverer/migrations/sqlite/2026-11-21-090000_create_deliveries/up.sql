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
    -- The secret before the last rotation, while receivers may still use it.
    previous_sealed_secret BLOB,
    previous_until INTEGER,
    encrypt BOOLEAN NOT NULL,
    signature_only_hub BOOLEAN NOT NULL,
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
    -- It goes to the organisation's alert URL, not to the agent's endpoint.
    to_alert_url BOOLEAN NOT NULL,
    -- It waits until the agent's document is held in this version. NULL: not known.
    awaits_version INTEGER,
    delivery_attempts_made INTEGER NOT NULL,
    -- One round is one walk through the schedule; a replay begins another.
    round_began_at INTEGER NOT NULL,
    round_failures INTEGER NOT NULL,
    body_bytes INTEGER NOT NULL,
    -- When somebody has to look at it next: at the next delivery attempt, or, while leased, when the lease ends.
    -- NULL: never, it is final; or not before its endpoint is held (pending) or enabled (held).
    due_at INTEGER,
    -- The replica that makes a delivery attempt now.
    lease_owner TEXT,
    created_at INTEGER NOT NULL,
    settled_at INTEGER
);
CREATE INDEX deliveries_due ON deliveries (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_by_agent ON deliveries (agent_id, id);
CREATE INDEX deliveries_undelivered ON deliveries (agent_id) WHERE status IN ('pending', 'held', 'exhausted');
CREATE INDEX deliveries_leased ON deliveries (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX deliveries_by_organisation ON deliveries (organisation, id);

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
