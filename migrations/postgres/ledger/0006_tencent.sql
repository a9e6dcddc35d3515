-- An account may get an address in one more protocol, so it has an interval of positions for each
-- set of addresses, like everything else here.
ALTER TABLE accounts ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE accounts ADD COLUMN tencent TEXT;
ALTER TABLE accounts DROP CONSTRAINT accounts_pkey;
ALTER TABLE accounts ADD PRIMARY KEY (account, from_position);
CREATE UNIQUE INDEX accounts_tencent ON accounts (app, tencent) WHERE to_position IS NULL;

-- A device of another protocol may get an Antelope number beside its own address.
ALTER TABLE devices ADD COLUMN linked_cid TEXT;
ALTER TABLE devices ADD COLUMN cid TEXT GENERATED ALWAYS AS
    (CASE WHEN protocol = 'antelope' THEN client_id ELSE linked_cid END) STORED;
DROP INDEX devices_cid;
DROP INDEX devices_antelope;
CREATE UNIQUE INDEX devices_cid ON devices (app, cid) WHERE to_position IS NULL;
CREATE INDEX devices_antelope ON devices (app, number) WHERE cid IS NOT NULL AND to_position IS NULL;
CREATE UNIQUE INDEX devices_terminal ON devices (account, client_id)
    WHERE protocol = 'tencent' AND to_position IS NULL;
