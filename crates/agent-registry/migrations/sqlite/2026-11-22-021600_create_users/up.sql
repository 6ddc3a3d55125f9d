-- What is known of users: the role in the newest token that was seen of each, and what operators revoked.
CREATE TABLE users (
    organisation TEXT NOT NULL REFERENCES organisations (key),
    username TEXT NOT NULL,
    -- None: no token of theirs was seen.
    role TEXT,
    token_issued_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (organisation, username)
);
