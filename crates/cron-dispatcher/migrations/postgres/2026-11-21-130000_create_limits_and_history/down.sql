DROP TABLE schedule_history;
DROP TABLE everything;
DROP TABLE limits;
