DROP TABLE turns;
DROP TABLE skipped_ticks;
DROP TABLE arrivals;
DROP TABLE run_bodies;
DROP TABLE runs;
DROP TABLE schedules;
DROP TABLE documents;
