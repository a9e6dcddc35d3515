-- Each of these has the rows that have such a name alone: what else is registered costs them
-- nothing, and no statement takes one of them for a way to all rows of an app.
DROP INDEX accounts_ums_user;
CREATE UNIQUE INDEX accounts_ums_user ON accounts (app, ums_user)
    WHERE ums_user IS NOT NULL AND to_position IS NULL;
DROP INDEX accounts_username;
CREATE UNIQUE INDEX accounts_username ON accounts (app, username)
    WHERE username IS NOT NULL AND to_position IS NULL;
DROP INDEX accounts_tencent;
CREATE UNIQUE INDEX accounts_tencent ON accounts (app, tencent)
    WHERE tencent IS NOT NULL AND to_position IS NULL;
DROP INDEX devices_cid;
CREATE UNIQUE INDEX devices_cid ON devices (app, cid) WHERE cid IS NOT NULL AND to_position IS NULL;
DROP INDEX devices_hardware;
CREATE INDEX devices_hardware ON devices (app, hardware_id)
    WHERE hardware_id IS NOT NULL AND to_position IS NULL;
