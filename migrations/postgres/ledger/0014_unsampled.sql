-- PostgreSQL samples what is in columns, for its plans, and takes no sample of a table without rows:
-- the last one stays, with values that an erasure removed. So columns that are private and that no
-- statement looks for have no samples; giving a column its own type drops those that it has. What
-- is looked for by name is in tables that an erasure never empties (accounts, devices, owners).
ALTER TABLE events ALTER COLUMN private SET STATISTICS 0, ALTER COLUMN private TYPE TEXT,
    ALTER COLUMN private_salt SET STATISTICS 0, ALTER COLUMN private_salt TYPE BYTEA;
ALTER TABLE accounts ALTER COLUMN nickname SET STATISTICS 0, ALTER COLUMN nickname TYPE TEXT;
ALTER TABLE devices ALTER COLUMN details SET STATISTICS 0, ALTER COLUMN details TYPE TEXT;
ALTER TABLE owners ALTER COLUMN bind_key SET STATISTICS 0, ALTER COLUMN bind_key TYPE TEXT;
ALTER TABLE access_tokens ALTER COLUMN ums_user SET STATISTICS 0, ALTER COLUMN ums_user TYPE TEXT,
    ALTER COLUMN client_id SET STATISTICS 0, ALTER COLUMN client_id TYPE TEXT;
ALTER TABLE easemob_tokens ALTER COLUMN username SET STATISTICS 0, ALTER COLUMN username TYPE TEXT;
ALTER TABLE easemob_passwords ALTER COLUMN hash SET STATISTICS 0, ALTER COLUMN hash TYPE TEXT;
ALTER TABLE views_rebuild ALTER COLUMN reason SET STATISTICS 0, ALTER COLUMN reason TYPE TEXT;
