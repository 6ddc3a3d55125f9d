-- Changes of organisations' zones that not all of their schedules have followed yet, by the versions of their documents.
CREATE TABLE zone_changes (
    organisation TEXT NOT NULL,
    version BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- The zone up to then, and the zone since then.
    zone_before TEXT NOT NULL,
    zone_after TEXT NOT NULL,
    -- The schedules in places up to this one follow it.
    place BIGINT NOT NULL,
    PRIMARY KEY (organisation, version)
);
