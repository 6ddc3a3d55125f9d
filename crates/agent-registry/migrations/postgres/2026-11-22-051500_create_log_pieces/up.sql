-- What of a log's texts is beyond their beginnings in log_bodies: in pieces, since a text of megabytes in one column is
-- read whole whatever part of it is asked for.
CREATE TABLE log_pieces (
    log_id BIGINT NOT NULL REFERENCES log_bodies (log_id) ON DELETE CASCADE,
    -- `prompt`, `output` or `content`.
    field TEXT NOT NULL,
    -- From 1.
    sequence INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (log_id, field, sequence)
);

-- Whole contents, for searches: what is searched for may begin in one piece and end in the next.
CREATE VIEW log_contents AS
SELECT log_id,
    CASE WHEN content_pieces = 0 THEN content ELSE content || COALESCE((
        SELECT string_agg(text, '' ORDER BY sequence) FROM log_pieces
        WHERE log_pieces.log_id = log_bodies.log_id AND field = 'content' AND sequence <= content_pieces
    ), '') END AS content
FROM log_bodies;
