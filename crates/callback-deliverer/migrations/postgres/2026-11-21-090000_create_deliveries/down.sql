DROP TABLE delivery_attempts;
DROP TABLE delivery_bodies;
DROP TABLE deliveries;
DROP TABLE endpoints;
DROP TABLE installation;
