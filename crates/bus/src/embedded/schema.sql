-- The file of the embedded bus, format 1. Times are microseconds since 1970.

-- One row for each queue that a message is in; the id is its place in the order.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY NOT NULL,
    queue TEXT NOT NULL,
    message_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    time_us INTEGER NOT NULL,
    traceparent TEXT,
    failures INTEGER NOT NULL,
    -- Waits until then; null: ready at once.
    available_at_us INTEGER,
    -- Last, so that nothing else is behind its overflow pages.
    body BLOB NOT NULL
) STRICT;

-- Messages that were given up, for an operator to look at.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY NOT NULL,
    queue TEXT NOT NULL,
    message_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    time_us INTEGER NOT NULL,
    traceparent TEXT,
    failures INTEGER NOT NULL,
    reason TEXT NOT NULL,
    dead_at_us INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX dead_letters_by_queue ON dead_letters (queue, id);

PRAGMA user_version = 1;
