DROP VIEW log_contents;
DROP TABLE log_pieces;
