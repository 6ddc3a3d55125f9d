DROP INDEX logs_failed_by_agent;
