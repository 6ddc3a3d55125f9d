-- What runs did with services, by the hour, and what probes found: `conversion_rate` and `uptime` are read from the
-- last day's rows, at most 24 of a service.
CREATE TABLE service_hours (
    service_id UUID NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    -- The beginning of the hour.
    hour TIMESTAMPTZ NOT NULL,
    -- Run attempts that it was offered to.
    offered BIGINT NOT NULL,
    -- Calls that brought an answer, and calls that failed through the service.
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    -- Probes; one that failed counts as many as it stands for.
    probes_succeeded BIGINT NOT NULL,
    probes_failed BIGINT NOT NULL,
    PRIMARY KEY (service_id, hour)
);
CREATE INDEX service_hours_by_hour ON service_hours (hour);

-- `num_conversions`: successful calls since the service was registered.
CREATE TABLE service_conversions (
    service_id UUID NOT NULL PRIMARY KEY REFERENCES services (id) ON DELETE CASCADE,
    conversions BIGINT NOT NULL
);

-- What was counted already, so that a message that comes twice is counted once.
CREATE TABLE service_invocations (
    run_id BIGINT NOT NULL,
    run_attempt BIGINT NOT NULL,
    service_id UUID NOT NULL,
    counted_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (run_id, run_attempt, service_id)
);
CREATE INDEX service_invocations_by_counted_at ON service_invocations (counted_at);

-- Endpoints that are probed: one row for each service that has one.
CREATE TABLE service_probes (
    service_id UUID NOT NULL PRIMARY KEY REFERENCES services (id) ON DELETE CASCADE,
    endpoint TEXT NOT NULL,
    -- Scheme, host and port of the endpoint.
    origin TEXT NOT NULL,
    -- The next moment at which somebody has to look at it: while it is probed, when the probe is taken for lost.
    due_at TIMESTAMPTZ NOT NULL,
    -- Probes that failed one after the other until now.
    failures BIGINT NOT NULL
);
CREATE INDEX service_probes_due ON service_probes (due_at);
