-- How far the views have read, and the id of the event there: another id means another ledger.
CREATE TABLE checkpoint (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL,
    event_id BYTEA
);
INSERT INTO checkpoint VALUES (1, 0, NULL);

-- Events that no view could fold, for a replay after a fix.
CREATE TABLE set_aside (
    position BIGINT PRIMARY KEY,
    error    TEXT NOT NULL
);

-- message_status: every message and every delivery as it is now.
CREATE TABLE messages (
    message     BIGINT PRIMARY KEY,
    app         TEXT NOT NULL,
    position    BIGINT NOT NULL,
    protocol    TEXT NOT NULL,
    sender      TEXT NOT NULL,
    account     TEXT,
    accepted_at BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    targets     BIGINT NOT NULL,
    unresolved  BIGINT NOT NULL
);
CREATE INDEX messages_app ON messages (app, position);
CREATE TABLE deliveries (
    message         BIGINT NOT NULL,
    device          BIGINT NOT NULL,
    account         TEXT,
    stage           BIGINT NOT NULL,
    ended           TEXT,
    recall_op       TEXT,
    recall_result   TEXT,
    reported        BIGINT,
    sent_at         BIGINT,
    received_at     BIGINT,
    displayed_at    BIGINT,
    acknowledged_at BIGINT,
    ended_at        BIGINT,
    PRIMARY KEY (message, device)
);

-- pending: what a device still has to get, in order of acceptance; `op` is '' for the message
-- itself, else the recall that the device has not answered.
CREATE TABLE pending (
    device     BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    op         TEXT NOT NULL,
    app        TEXT NOT NULL,
    message    BIGINT NOT NULL,
    account    TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (device, position, op)
);
CREATE INDEX pending_expiry ON pending (expires_at);
