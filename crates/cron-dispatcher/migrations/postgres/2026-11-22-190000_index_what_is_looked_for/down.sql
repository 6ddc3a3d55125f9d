CREATE INDEX schedule_history_age ON schedule_history (effective_from);
DROP INDEX runs_waiting_of;
DROP INDEX skipped_ticks_until;
