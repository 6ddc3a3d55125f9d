CREATE TABLE notes (
    id text PRIMARY KEY NOT NULL,
    body text NOT NULL UNIQUE,
    detail text NOT NULL,
    written_at integer NOT NULL,
    answers text REFERENCES notes (id)
) STRICT;
