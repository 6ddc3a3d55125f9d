-- What runs did with services, by the hour, and what probes found: `conversion_rate` and `uptime` are read from the
-- last day's rows, at most 24 of a service.
CREATE TABLE service_hours (
    service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    -- The beginning of the hour.
    hour INTEGER NOT NULL,
    -- Run attempts that it was offered to.
    offered INTEGER NOT NULL,
    -- Calls that brought an answer, and calls that failed through the service.
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    -- Probes; one that failed counts as many as it stands for.
    probes_succeeded INTEGER NOT NULL,
    probes_failed INTEGER NOT NULL,
    PRIMARY KEY (service_id, hour)
);
CREATE INDEX service_hours_by_hour ON service_hours (hour);

-- `num_conversions`: successful calls since the service was registered.
CREATE TABLE service_conversions (
    service_id TEXT NOT NULL PRIMARY KEY REFERENCES services (id) ON DELETE CASCADE,
    conversions INTEGER NOT NULL
);

-- What was counted already, so that a message that comes twice is counted once.
CREATE TABLE service_invocations (
    run_id INTEGER NOT NULL,
    run_attempt INTEGER NOT NULL,
    service_id TEXT NOT NULL,
    counted_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, run_attempt, service_id)
);
CREATE INDEX service_invocations_by_counted_at ON service_invocations (counted_at);

-- Endpoints that are probed: one row for each service that has one.
CREATE TABLE service_probes (
    service_id TEXT NOT NULL PRIMARY KEY REFERENCES services (id) ON DELETE CASCADE,
    endpoint TEXT NOT NULL,
    -- Scheme, host and port of the endpoint.
    origin TEXT NOT NULL,
    -- The next moment at which somebody has to look at it: while it is probed, when the probe is taken for lost.
    due_at INTEGER NOT NULL,
    -- Probes that failed one after the other until now.
    failures INTEGER NOT NULL
);
CREATE INDEX service_probes_due ON service_probes (due_at);
