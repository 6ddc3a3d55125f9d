-- What keeps runs from the window: a row only for those that are paused, or limited. The scope is an organisation
-- (`acme/`), one of its mentors (`acme/m1`) or one of its agents (`acme/a7`).
CREATE TABLE limits (
    scope TEXT NOT NULL PRIMARY KEY,
    in_flight_max BIGINT,
    paused BOOLEAN NOT NULL
);

-- Whether everything is paused: one row, or none if it never was.
CREATE TABLE everything (
    id INTEGER NOT NULL PRIMARY KEY,
    paused BOOLEAN NOT NULL,
    note TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- Which timing an agent's ticks had, later than effective_from and up to the next row's. None: it had no ticks.
CREATE TABLE schedule_history (
    agent_id BIGINT NOT NULL,
    effective_from BIGINT NOT NULL,
    timing_version BIGINT NOT NULL,
    tzdb TEXT NOT NULL,
    crontab TEXT,
    timezone TEXT NOT NULL,
    one_off BOOLEAN NOT NULL,
    start_time BIGINT,
    end_time BIGINT,
    PRIMARY KEY (agent_id, effective_from)
);
CREATE INDEX schedule_history_age ON schedule_history (effective_from);
