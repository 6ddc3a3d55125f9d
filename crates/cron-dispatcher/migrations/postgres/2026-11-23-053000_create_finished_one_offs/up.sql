-- One-offs that are done without a run, until the registry has turned them off.
CREATE TABLE finished_one_offs (
    agent_id BIGINT NOT NULL PRIMARY KEY,
    timing_version BIGINT NOT NULL,
    -- When the registry is told again.
    tell_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX finished_one_offs_untold ON finished_one_offs (tell_at);
