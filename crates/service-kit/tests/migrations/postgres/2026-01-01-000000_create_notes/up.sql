CREATE TABLE notes (
    id uuid PRIMARY KEY,
    body text NOT NULL UNIQUE,
    detail jsonb NOT NULL,
    written_at timestamptz NOT NULL,
    answers uuid REFERENCES notes (id)
);
