-- The sweep goes from organisation to organisation, each with its own time.
DROP INDEX deliveries_settled;
CREATE INDEX deliveries_settled ON deliveries (organisation, settled_at) WHERE settled_at IS NOT NULL;
