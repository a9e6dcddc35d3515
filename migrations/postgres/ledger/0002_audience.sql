-- The audience: users of Easemob with their names, labels, and devices that are bound to vendors.
ALTER TABLE accounts ALTER COLUMN ums_user DROP NOT NULL;
ALTER TABLE accounts ADD COLUMN username TEXT;
ALTER TABLE accounts ADD COLUMN nickname TEXT;
ALTER TABLE accounts ADD COLUMN opened_at BIGINT;
ALTER TABLE accounts ADD COLUMN to_position BIGINT;
UPDATE accounts SET opened_at = e.recorded_at FROM events e WHERE e.position = from_position;
ALTER TABLE accounts ALTER COLUMN opened_at SET NOT NULL;
DROP INDEX accounts_ums_user;
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
    version       BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    from_position BIGINT NOT NULL,
    to_position   BIGINT
);
CREATE UNIQUE INDEX labels_name ON labels (app, name) WHERE to_position IS NULL;
CREATE INDEX labels_app ON labels (app, from_position);
CREATE TABLE label_members (
    label         TEXT NOT NULL,
    account       TEXT NOT NULL,
    joined_at     BIGINT NOT NULL,
    from_position BIGINT NOT NULL,
    to_position   BIGINT,
    PRIMARY KEY (label, from_position, account)
);
CREATE UNIQUE INDEX label_members_account ON label_members (account, label) WHERE to_position IS NULL;
