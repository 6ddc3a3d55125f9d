-- Users that runs may not act as any more, as the organisations' documents say.
CREATE TABLE revoked_users (
    organisation TEXT NOT NULL,
    username TEXT NOT NULL,
    PRIMARY KEY (organisation, username)
);
