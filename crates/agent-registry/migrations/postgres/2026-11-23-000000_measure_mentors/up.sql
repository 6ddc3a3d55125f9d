-- How many bytes of texts a mentor is shown with, about: lists are cut by it. Its default is for replicas of the version
-- before, which do not know it.
ALTER TABLE mentors ADD COLUMN text_bytes BIGINT NOT NULL DEFAULT 0;
UPDATE mentors SET text_bytes = octet_length(description) + octet_length(system_prompt)
    + octet_length(COALESCE(CAST(metadata AS TEXT), ''))
    + octet_length(COALESCE(CAST(provider AS TEXT), ''))
    + octet_length(CAST(service_groups AS TEXT));
