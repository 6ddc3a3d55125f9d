DROP TABLE service_connections;
DROP TABLE service_groups;
DROP TABLE services;
