-- How far the views have read, and the id of the event there: another id means another ledger.
CREATE TABLE checkpoint (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    event_id BLOB
) STRICT;
INSERT INTO checkpoint VALUES (1, 0, NULL);

-- Events that no view could fold, for a replay after a fix.
CREATE TABLE set_aside (
    position INTEGER PRIMARY KEY,
    error    TEXT NOT NULL
) STRICT;

-- message_status: every message and every delivery as it is now.
CREATE TABLE messages (
    message     INTEGER PRIMARY KEY,
    app         TEXT NOT NULL,
    position    INTEGER NOT NULL,
    protocol    TEXT NOT NULL,
    sender      TEXT NOT NULL,
    account     TEXT,
    accepted_at INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    targets     INTEGER NOT NULL,
    unresolved  INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_app ON messages (app, position);
CREATE TABLE deliveries (
    message         INTEGER NOT NULL,
    device          INTEGER NOT NULL,
    account         TEXT,
    stage           INTEGER NOT NULL,
    ended           TEXT,
    recall_op       TEXT,
    recall_result   TEXT,
    reported        INTEGER,
    sent_at         INTEGER,
    received_at     INTEGER,
    displayed_at    INTEGER,
    acknowledged_at INTEGER,
    ended_at        INTEGER,
    PRIMARY KEY (message, device)
) STRICT, WITHOUT ROWID;

-- pending: what a device still has to get, in order of acceptance; `op` is '' for the message
-- itself, else the recall that the device has not answered.
CREATE TABLE pending (
    device     INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    op         TEXT NOT NULL,
    app        TEXT NOT NULL,
    message    INTEGER NOT NULL,
    account    TEXT,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (device, position, op)
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_expiry ON pending (expires_at);
