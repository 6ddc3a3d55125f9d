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

-- How many logs there are, of agents that exist: kept by the triggers below.
CREATE TABLE log_counts (
    organisation TEXT NOT NULL,
    username TEXT NOT NULL,
    state TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (organisation, username, state)
) WITHOUT ROWID;

CREATE TRIGGER logs_counted_when_new AFTER INSERT ON logs BEGIN
    INSERT INTO log_counts (organisation, username, state, count)
    SELECT organisation, username, NEW.state, 1 FROM agents WHERE id = NEW.agent_id
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER logs_counted_when_changed AFTER UPDATE OF state ON logs WHEN OLD.state <> NEW.state BEGIN
    UPDATE log_counts SET count = count - 1
    WHERE state = OLD.state
      AND (organisation, username) = (SELECT organisation, username FROM agents WHERE id = NEW.agent_id);
    INSERT INTO log_counts (organisation, username, state, count)
    SELECT organisation, username, NEW.state, 1 FROM agents WHERE id = NEW.agent_id
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER logs_counted_when_removed AFTER DELETE ON logs BEGIN
    UPDATE log_counts SET count = count - 1
    WHERE state = OLD.state
      AND (organisation, username) = (SELECT organisation, username FROM agents WHERE id = OLD.agent_id);
END;
-- Of an agent that is gone nothing counts any more, although its logs wait to be swept.
CREATE TRIGGER logs_counted_when_agents_removed AFTER DELETE ON agents BEGIN
    UPDATE log_counts
    SET count = count - (SELECT count(*) FROM logs WHERE agent_id = OLD.id AND state = log_counts.state)
    WHERE organisation = OLD.organisation AND username = OLD.username;
END;
