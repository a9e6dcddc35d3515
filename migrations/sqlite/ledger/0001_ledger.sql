-- The ledger: facts in one order. Nothing here is ever changed or removed.
CREATE TABLE events (
    position     INTEGER PRIMARY KEY,
    app          TEXT NOT NULL,
    stream       TEXT NOT NULL,
    version      INTEGER NOT NULL,
    type         TEXT NOT NULL,
    schema       INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL,
    event_id     BLOB NOT NULL,
    metadata     TEXT NOT NULL,
    body         TEXT NOT NULL,
    private      TEXT,
    private_salt BLOB,
    leaf         BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_stream ON events (stream, version);

CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- The last position, its time, and the running hash over all leaves. Its lock orders every append.
CREATE TABLE head (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position    INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    chain       BLOB NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, zeroblob(32));

-- An index of idempotency keys; the ledger can rebuild it.
CREATE TABLE idempotency (
    app      TEXT NOT NULL,
    key      TEXT NOT NULL,
    request  TEXT NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;

-- How far each effect has read.
CREATE TABLE subscriptions (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Duties that one node has at a time, and the numbers of the nodes.
CREATE TABLE leases (
    name  TEXT PRIMARY KEY,
    node  TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Credentials: values are sealed, tokens are hashed. They are not facts, so they are not events.
CREATE TABLE secrets (
    reference TEXT PRIMARY KEY,
    app       TEXT NOT NULL,
    sealed    BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE access_tokens (
    hash       TEXT PRIMARY KEY,
    app        TEXT NOT NULL,
    ums_user   TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE operators (
    number     INTEGER PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    app        TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- The registry: who and what there is, kept current by every append. Rows are intervals: a row
-- was true from one position until the next.
CREATE TABLE apps (
    app           TEXT NOT NULL,
    version       INTEGER NOT NULL,
    config        TEXT NOT NULL,
    deleted       INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    to_position   INTEGER,
    PRIMARY KEY (app, from_position)
) STRICT;
CREATE TABLE accounts (
    account       TEXT PRIMARY KEY,
    app           TEXT NOT NULL,
    ums_user      TEXT NOT NULL,
    from_position INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX accounts_ums_user ON accounts (app, ums_user);
CREATE TABLE devices (
    number        INTEGER NOT NULL,
    app           TEXT NOT NULL,
    stream        TEXT NOT NULL,
    version       INTEGER NOT NULL,
    status        INTEGER NOT NULL,
    account       TEXT,
    registered_at INTEGER NOT NULL,
    app_package   TEXT NOT NULL,
    device_type   TEXT NOT NULL,
    channel       INTEGER NOT NULL,
    client_id     TEXT NOT NULL,
    hardware_id   TEXT,
    details       TEXT NOT NULL,
    from_position INTEGER NOT NULL,
    to_position   INTEGER,
    PRIMARY KEY (number, from_position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX devices_address ON devices (app, client_id, app_package) WHERE to_position IS NULL;
CREATE INDEX devices_hardware ON devices (app, hardware_id) WHERE to_position IS NULL;
CREATE INDEX devices_account ON devices (account) WHERE to_position IS NULL;
CREATE INDEX devices_package ON devices (app, app_package);
CREATE TABLE owners (
    stream        TEXT NOT NULL,
    app           TEXT NOT NULL,
    hardware_id   TEXT NOT NULL,
    version       INTEGER NOT NULL,
    account       TEXT,
    bind_key      TEXT,
    from_position INTEGER NOT NULL,
    to_position   INTEGER,
    PRIMARY KEY (stream, from_position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX owners_hardware ON owners (app, hardware_id) WHERE to_position IS NULL;
