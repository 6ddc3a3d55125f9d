DROP TABLE documents;
DROP TABLE deleted_agents;
DROP TABLE log_bodies;
DROP TABLE logs;
DROP TABLE agent_activity;
DROP TABLE agents;
DROP TABLE mentors;
DROP TABLE organisations;
