-- How a message travels, and what became of the vendors that it was to go to.
ALTER TABLE messages ADD COLUMN strategy TEXT NOT NULL DEFAULT 'online_else_vendor';
ALTER TABLE messages ADD COLUMN users BIGINT NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN unbound BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN vendor TEXT;
ALTER TABLE deliveries ADD COLUMN failed TEXT;
ALTER TABLE deliveries ADD COLUMN due BIGINT NOT NULL DEFAULT 0;
CREATE INDEX deliveries_due ON deliveries (message) WHERE due = 1;

-- Position from which on a device could have the message.
ALTER TABLE pending ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
UPDATE pending SET since = position;
