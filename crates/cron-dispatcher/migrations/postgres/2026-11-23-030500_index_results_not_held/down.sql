DROP INDEX runs_to_announce;
