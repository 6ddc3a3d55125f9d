-- Results that not all hold who need them, and when each is announced again: runs that have not ended are looked at by
-- their stage.
CREATE INDEX runs_to_announce ON runs (check_at, id) WHERE check_at IS NOT NULL AND ended_at IS NOT NULL;
