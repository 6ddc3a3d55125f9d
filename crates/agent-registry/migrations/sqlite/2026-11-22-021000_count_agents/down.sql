DROP INDEX agent_activity_not_well;
DROP TRIGGER agents_counted_when_removed;
DROP TRIGGER agents_counted_when_changed;
DROP TRIGGER agents_counted_when_new;
DROP TABLE agent_counts;
