-- A follower of errors is shown what the newest of them put out: found without walking past all that succeeded. The
-- state is in it, for else SQLite takes the larger index that has it.
CREATE INDEX logs_failed_by_agent ON logs (agent_id, requested_at, id, state) WHERE state = 'error';
