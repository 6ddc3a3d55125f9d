ALTER TABLE mentors DROP COLUMN text_bytes;
