-- Of runs that have not ended it is looked at however long ago they were let go; there are few, and of those that ended
-- more with every day.
CREATE INDEX runs_let_go_unfinished ON runs (let_go_at) WHERE let_go_at IS NOT NULL AND ended_at IS NULL;
