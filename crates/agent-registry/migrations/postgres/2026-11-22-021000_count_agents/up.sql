-- How many agents have which status, that of their newest log (`pending` without any): the sum of what the triggers
-- below add. As with log_counts, rows are only added, and merged later.
CREATE TABLE agent_counts (
    organisation TEXT NOT NULL,
    status TEXT NOT NULL,
    count BIGINT NOT NULL
);
CREATE INDEX agent_counts_by_organisation ON agent_counts (organisation, status);

INSERT INTO agent_counts (organisation, status, count)
SELECT organisation, COALESCE(latest_status, 'pending'), count(*) FROM agent_activity GROUP BY 1, 2;

CREATE FUNCTION count_new_agents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_counts (organisation, status, count)
    SELECT organisation, COALESCE(latest_status, 'pending'), count(*) FROM new_agents GROUP BY 1, 2;
    RETURN NULL;
END $$;

CREATE FUNCTION count_changed_agents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_counts (organisation, status, count)
    SELECT organisation, COALESCE(latest_status, 'pending'), sum(change)
    FROM (
        SELECT organisation, latest_status, 1 AS change FROM new_agents
        UNION ALL
        SELECT organisation, latest_status, -1 FROM old_agents
    ) AS changed
    GROUP BY 1, 2
    HAVING sum(change) <> 0;
    RETURN NULL;
END $$;

CREATE FUNCTION count_removed_agents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_counts (organisation, status, count)
    SELECT organisation, COALESCE(latest_status, 'pending'), -count(*) FROM old_agents GROUP BY 1, 2;
    RETURN NULL;
END $$;

CREATE TRIGGER agents_counted_when_new AFTER INSERT ON agent_activity
    REFERENCING NEW TABLE AS new_agents FOR EACH STATEMENT EXECUTE FUNCTION count_new_agents();
CREATE TRIGGER agents_counted_when_changed AFTER UPDATE ON agent_activity
    REFERENCING OLD TABLE AS old_agents NEW TABLE AS new_agents FOR EACH STATEMENT EXECUTE FUNCTION count_changed_agents();
CREATE TRIGGER agents_counted_when_removed AFTER DELETE ON agent_activity
    REFERENCING OLD TABLE AS old_agents FOR EACH STATEMENT EXECUTE FUNCTION count_removed_agents();

-- The few whose callbacks do not fare well are looked for every five seconds.
CREATE INDEX agent_activity_not_well ON agent_activity (agent_id) WHERE callback_state <> 'ok';
