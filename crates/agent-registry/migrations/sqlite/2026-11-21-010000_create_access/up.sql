-- API keys: each is one user's, in one organisation. Of the key itself only its SHA-256 is kept.
CREATE TABLE api_keys (
    organisation TEXT NOT NULL REFERENCES organisations (key),
    name TEXT NOT NULL,
    username TEXT NOT NULL,
    key_hash BLOB NOT NULL UNIQUE,
    read_only BOOLEAN NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (organisation, name)
);

-- Who changed what, written in the transaction of the change.
CREATE TABLE audit_log (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    organisation TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- Who asked, and as whom.
    username TEXT NOT NULL,
    acting_as TEXT NOT NULL,
    credential TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_key TEXT NOT NULL,
    -- The names of the fields that changed, never what they hold.
    fields TEXT NOT NULL
);
CREATE INDEX audit_log_by_organisation ON audit_log (organisation, at, id);
