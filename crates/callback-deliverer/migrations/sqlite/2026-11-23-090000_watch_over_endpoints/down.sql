DROP INDEX deliveries_held;
DROP TABLE replays;
DROP TABLE replicas;
DROP TABLE endpoint_states;
DROP TABLE organisations;
