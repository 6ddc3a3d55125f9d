-- Lists of a million agents and ten million logs answer with an exact count. Every filter of the agents has an index in
-- the default order, from which its count is read without the table.
DROP INDEX agents_by_mentor;
CREATE INDEX agents_by_mentor ON agents (mentor_id, organisation, created_at, id);
CREATE INDEX agents_by_enabled ON agents (organisation, enabled, created_at, id);
CREATE INDEX agents_by_title ON agents (organisation, title, created_at, id);
CREATE INDEX agents_by_username ON agents (organisation, username, created_at, id);
CREATE INDEX agents_by_parent_session ON agents (organisation, parent_session_id, created_at, id);
CREATE INDEX agents_by_parent_mentor ON agents (organisation, parent_mentor_id, created_at, id);
CREATE INDEX agents_by_previous_status ON agents (organisation, previous_agent_status, created_at, id);
CREATE INDEX agent_activity_by_status ON agent_activity (organisation, latest_status, agent_id);

-- What is rare is found without walking past all that succeeded.
CREATE INDEX logs_not_successful ON logs (organisation, state, requested_at, id) WHERE state <> 'success';
DROP INDEX logs_by_agent;
CREATE INDEX logs_by_agent ON logs (agent_id, requested_at, id, state);

-- How many logs there are, of agents that exist: the sum of what the triggers below add. Rows are only added, so that
-- nobody waits for another's; the sweeper merges them.
CREATE TABLE log_counts (
    organisation TEXT NOT NULL,
    username TEXT NOT NULL,
    state TEXT NOT NULL,
    count BIGINT NOT NULL
);
CREATE INDEX log_counts_by_organisation ON log_counts (organisation, username, state);

CREATE FUNCTION count_new_logs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_counts (organisation, username, state, count)
    SELECT agents.organisation, agents.username, new_logs.state, count(*)
    FROM new_logs JOIN agents ON agents.id = new_logs.agent_id
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

CREATE FUNCTION count_changed_logs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_counts (organisation, username, state, count)
    SELECT agents.organisation, agents.username, changed.state, sum(changed.change)
    FROM (
        SELECT agent_id, state, 1 AS change FROM new_logs
        UNION ALL
        SELECT agent_id, state, -1 FROM old_logs
    ) AS changed JOIN agents ON agents.id = changed.agent_id
    GROUP BY 1, 2, 3
    HAVING sum(changed.change) <> 0;
    RETURN NULL;
END $$;

CREATE FUNCTION count_removed_logs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_counts (organisation, username, state, count)
    SELECT agents.organisation, agents.username, old_logs.state, -count(*)
    FROM old_logs JOIN agents ON agents.id = old_logs.agent_id
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

-- Of an agent that is gone nothing counts any more, although its logs wait to be swept.
CREATE FUNCTION count_logs_of_removed_agents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_counts (organisation, username, state, count)
    SELECT old_agents.organisation, old_agents.username, logs.state, -count(*)
    FROM old_agents JOIN logs ON logs.agent_id = old_agents.id
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

CREATE TRIGGER logs_counted_when_new AFTER INSERT ON logs
    REFERENCING NEW TABLE AS new_logs FOR EACH STATEMENT EXECUTE FUNCTION count_new_logs();
CREATE TRIGGER logs_counted_when_changed AFTER UPDATE ON logs
    REFERENCING OLD TABLE AS old_logs NEW TABLE AS new_logs FOR EACH STATEMENT EXECUTE FUNCTION count_changed_logs();
CREATE TRIGGER logs_counted_when_removed AFTER DELETE ON logs
    REFERENCING OLD TABLE AS old_logs FOR EACH STATEMENT EXECUTE FUNCTION count_removed_logs();
CREATE TRIGGER logs_counted_when_agents_removed AFTER DELETE ON agents
    REFERENCING OLD TABLE AS old_agents FOR EACH STATEMENT EXECUTE FUNCTION count_logs_of_removed_agents();
