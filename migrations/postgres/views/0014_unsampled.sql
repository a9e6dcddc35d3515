-- Why an event was set aside may quote it, so PostgreSQL keeps no samples of that; giving the column
-- its own type drops those that it has.
ALTER TABLE set_aside ALTER COLUMN error SET STATISTICS 0, ALTER COLUMN error TYPE TEXT;
