-- Skipped ticks of all who do not say for themselves how long they are kept, oldest first.
CREATE INDEX skipped_ticks_until ON skipped_ticks (until);
-- How many of an organisation wait, whatever limit keeps them.
CREATE INDEX runs_waiting_of ON runs (organisation) WHERE stage = 'waiting';
-- The history is walked agent by agent: nothing looks for its oldest.
DROP INDEX schedule_history_age;
