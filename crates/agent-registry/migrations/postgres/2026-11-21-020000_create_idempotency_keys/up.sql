-- Requests that clients may repeat, and how they were answered. An unanswered one was begun: whoever repeats it ends it.
CREATE TABLE idempotency_keys (
    organisation TEXT NOT NULL,
    username TEXT NOT NULL,
    operation TEXT NOT NULL,
    key TEXT NOT NULL,
    -- SHA-256 of what was asked.
    fingerprint BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    -- The body of the answer, sealed: it may repeat a secret.
    sealed_answer BYTEA,
    PRIMARY KEY (organisation, username, operation, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
