DROP INDEX agent_activity_not_well;
DROP TRIGGER agents_counted_when_removed ON agent_activity;
DROP TRIGGER agents_counted_when_changed ON agent_activity;
DROP TRIGGER agents_counted_when_new ON agent_activity;
DROP FUNCTION count_removed_agents;
DROP FUNCTION count_changed_agents;
DROP FUNCTION count_new_agents;
DROP TABLE agent_counts;
