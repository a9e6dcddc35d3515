-- An account may get an address in one more protocol, so it has an interval of positions for each
-- set of addresses, like everything else here.
CREATE TABLE accounts_6 (
    account       TEXT NOT NULL,
    app           TEXT NOT NULL,
    version       INTEGER NOT NULL DEFAULT 1,
    ums_user      TEXT,
    username      TEXT,
    tencent       TEXT,
    nickname      TEXT,
    opened_at     INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    to_position   INTEGER,
    PRIMARY KEY (account, from_position)
) STRICT;
INSERT INTO accounts_6 (account, app, ums_user, username, nickname, opened_at, from_position, to_position)
    SELECT account, app, ums_user, username, nickname, opened_at, from_position, to_position
    FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_6 RENAME TO accounts;
CREATE UNIQUE INDEX accounts_ums_user ON accounts (app, ums_user) WHERE to_position IS NULL;
CREATE UNIQUE INDEX accounts_username ON accounts (app, username) WHERE to_position IS NULL;
CREATE UNIQUE INDEX accounts_tencent ON accounts (app, tencent) WHERE to_position IS NULL;
CREATE INDEX accounts_app ON accounts (app, from_position) WHERE username IS NOT NULL;

-- A device of another protocol may get an Antelope number beside its own address.
ALTER TABLE devices ADD COLUMN linked_cid TEXT;
ALTER TABLE devices ADD COLUMN cid TEXT GENERATED ALWAYS AS
    (CASE WHEN protocol = 'antelope' THEN client_id ELSE linked_cid END) VIRTUAL;
DROP INDEX devices_cid;
DROP INDEX devices_antelope;
CREATE UNIQUE INDEX devices_cid ON devices (app, cid) WHERE to_position IS NULL;
CREATE INDEX devices_antelope ON devices (app, number) WHERE cid IS NOT NULL AND to_position IS NULL;
CREATE UNIQUE INDEX devices_terminal ON devices (account, client_id)
    WHERE protocol = 'tencent' AND to_position IS NULL;
