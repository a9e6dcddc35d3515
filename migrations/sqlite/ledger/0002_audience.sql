-- The audience: users of Easemob with their names, labels, and devices that are bound to vendors.
CREATE TABLE accounts_2 (
    account       TEXT PRIMARY KEY,
    app           TEXT NOT NULL,
    ums_user      TEXT,
    username      TEXT,
    nickname      TEXT,
    opened_at     INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    to_position   INTEGER
) STRICT;
INSERT INTO accounts_2 (account, app, ums_user, opened_at, from_position)
    SELECT a.account, a.app, a.ums_user, e.recorded_at, a.from_position
    FROM accounts a JOIN events e ON e.position = a.from_position;
DROP TABLE accounts;
ALTER TABLE accounts_2 RENAME TO accounts;
CREATE UNIQUE INDEX accounts_ums_user ON accounts (app, ums_user) WHERE to_position IS NULL;
CREATE UNIQUE INDEX accounts_username ON accounts (app, username) WHERE to_position IS NULL;
CREATE INDEX accounts_app ON accounts (app, from_position) WHERE username IS NOT NULL;

ALTER TABLE devices ADD COLUMN protocol TEXT NOT NULL DEFAULT 'ums';
DROP INDEX devices_address;
CREATE UNIQUE INDEX devices_address ON devices (app, client_id, app_package)
    WHERE protocol = 'ums' AND to_position IS NULL;
CREATE UNIQUE INDEX devices_endpoint ON devices (account, client_id)
    WHERE protocol = 'easemob' AND to_position IS NULL;
CREATE INDEX devices_app ON devices (app, number);

-- The number of members is counted, so that joining costs one row.
CREATE TABLE labels (
    label         TEXT PRIMARY KEY,
    app           TEXT NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    to_position   INTEGER
) STRICT;
CREATE UNIQUE INDEX labels_name ON labels (app, name) WHERE to_position IS NULL;
CREATE INDEX labels_app ON labels (app, from_position);
CREATE TABLE label_members (
    label         TEXT NOT NULL,
    account       TEXT NOT NULL,
    joined_at     INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    to_position   INTEGER,
    PRIMARY KEY (label, from_position, account)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX label_members_account ON label_members (account, label) WHERE to_position IS NULL;
