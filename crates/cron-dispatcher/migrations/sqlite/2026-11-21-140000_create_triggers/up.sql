-- Triggers that may be repeated, by their keys, and the record that each was answered with.
CREATE TABLE triggers (
    key TEXT NOT NULL PRIMARY KEY,
    made_at INTEGER NOT NULL,
    answer BLOB NOT NULL
);
CREATE INDEX triggers_by_age ON triggers (made_at);
