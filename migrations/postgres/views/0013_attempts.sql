-- callbacks: the calls so far of each, as JSON: when, how long, status, reason. Filled for what was
-- called from this migration on.
ALTER TABLE callbacks ADD COLUMN attempts TEXT;
