-- What the sweep looks for.
CREATE INDEX deliveries_settled ON deliveries (settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX endpoints_tombstones ON endpoints (updated_at) WHERE deleted;
