-- A follower of errors is shown what the newest of them put out: found without walking past all that succeeded.
CREATE INDEX logs_failed_by_agent ON logs (agent_id, requested_at, id) WHERE state = 'error';
