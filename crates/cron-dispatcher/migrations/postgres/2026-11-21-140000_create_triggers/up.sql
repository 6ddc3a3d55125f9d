-- Triggers that may be repeated, by their keys, and the record that each was answered with.
CREATE TABLE triggers (
    key TEXT NOT NULL PRIMARY KEY,
    made_at TIMESTAMPTZ NOT NULL,
    answer BYTEA NOT NULL
);
CREATE INDEX triggers_by_age ON triggers (made_at);
