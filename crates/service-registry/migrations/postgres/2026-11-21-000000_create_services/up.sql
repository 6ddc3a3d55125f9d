-- What can be called. `organisation` is `org:<organisation>`, or `sub:<user>` of a token that names none.
CREATE TABLE services (
    id UUID NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL,
    username TEXT NOT NULL,
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    category TEXT,
    location TEXT,
    protocol_digest TEXT NOT NULL,
    model_digest TEXT NOT NULL,
    model_name TEXT NOT NULL,
    -- [{name, required, field_type, description}]
    fields JSONB NOT NULL,
    task_type TEXT NOT NULL,
    -- Where a run calls it, if it may.
    endpoint TEXT,
    -- Name and description in lower case: what `search` looks in.
    search_text TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX services_by_owner ON services (organisation, username, created_at, id);

-- Services that are offered together: to their owner alone, or (public) to the owner's organisation.
CREATE TABLE service_groups (
    id UUID NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    is_private BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX service_groups_by_owner ON service_groups (organisation, username, created_at, id);
CREATE INDEX service_groups_public ON service_groups (organisation, created_at, id) WHERE NOT is_private;

-- Which service is in which group; both have the same owner.
CREATE TABLE service_connections (
    group_id UUID NOT NULL REFERENCES service_groups (id) ON DELETE CASCADE,
    service_id UUID NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_id, service_id)
);
CREATE INDEX service_connections_by_service ON service_connections (service_id);
