DROP INDEX endpoints_tombstones;
DROP INDEX deliveries_settled;
