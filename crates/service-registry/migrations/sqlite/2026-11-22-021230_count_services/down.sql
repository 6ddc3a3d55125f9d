DROP TABLE service_probes;
DROP TABLE service_invocations;
DROP TABLE service_conversions;
DROP TABLE service_hours;
