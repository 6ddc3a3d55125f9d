-- How many agents have which status, that of their newest log (`pending` without any): kept by the triggers below.
CREATE TABLE agent_counts (
    organisation TEXT NOT NULL,
    status TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (organisation, status)
) WITHOUT ROWID;

INSERT INTO agent_counts (organisation, status, count)
SELECT organisation, COALESCE(latest_status, 'pending'), count(*) FROM agent_activity GROUP BY 1, 2;

CREATE TRIGGER agents_counted_when_new AFTER INSERT ON agent_activity BEGIN
    INSERT INTO agent_counts (organisation, status, count)
    VALUES (NEW.organisation, COALESCE(NEW.latest_status, 'pending'), 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER agents_counted_when_changed AFTER UPDATE OF latest_status ON agent_activity
WHEN OLD.latest_status IS NOT NEW.latest_status BEGIN
    UPDATE agent_counts SET count = count - 1
    WHERE organisation = OLD.organisation AND status = COALESCE(OLD.latest_status, 'pending');
    INSERT INTO agent_counts (organisation, status, count)
    VALUES (NEW.organisation, COALESCE(NEW.latest_status, 'pending'), 1)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER agents_counted_when_removed AFTER DELETE ON agent_activity BEGIN
    UPDATE agent_counts SET count = count - 1
    WHERE organisation = OLD.organisation AND status = COALESCE(OLD.latest_status, 'pending');
END;

-- The few whose callbacks do not fare well are looked for every five seconds.
CREATE INDEX agent_activity_not_well ON agent_activity (agent_id) WHERE callback_state <> 'ok';
