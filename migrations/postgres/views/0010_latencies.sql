-- How long the steps of deliveries took, in buckets that add up: by the quarter of an hour in which
-- they were accepted, and by task. Every view is made again from the ledger.
CREATE TABLE delivery_latencies (
    app        TEXT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    way        TEXT NOT NULL,
    step       TEXT NOT NULL,
    millis     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, bucket_at, protocol, way, step, millis)
);
-- The same by hours and by days of UTC (`grain`, in µs).
CREATE TABLE delivery_rollups (
    app        TEXT NOT NULL,
    grain      BIGINT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, grain, bucket_at, protocol, way, stage, ended)
);
CREATE TABLE latency_rollups (
    app        TEXT NOT NULL,
    grain      BIGINT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    way        TEXT NOT NULL,
    step       TEXT NOT NULL,
    millis     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, grain, bucket_at, protocol, way, step, millis)
);
DROP TABLE task_latencies;
CREATE TABLE task_latencies (
    task       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    step       TEXT NOT NULL,
    millis     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (task, way, step, millis)
);
-- For each delivery of a chunk when it got to its stage, no longer only when it was handed over.
ALTER TABLE task_chunks RENAME COLUMN handed TO reached;
-- A task's deliveries are accepted when it starts.
CREATE INDEX task_statistics_started ON task_statistics (app, started_at);

-- uplinks: where each message from a device or a phone is in the ledger.
CREATE TABLE uplinks (
    position    BIGINT PRIMARY KEY,
    app         TEXT NOT NULL,
    device      BIGINT,
    received_at BIGINT NOT NULL,
    written_at  BIGINT NOT NULL
);
CREATE INDEX uplinks_app ON uplinks (app, position);

DELETE FROM messages;
DELETE FROM deliveries;
DELETE FROM pending;
DELETE FROM task_statistics;
DELETE FROM task_deliveries;
DELETE FROM task_chunks;
DELETE FROM delivery_stats;
DELETE FROM callbacks;
DELETE FROM callback_counts;
DELETE FROM chat_messages;
DELETE FROM set_aside;
UPDATE checkpoint SET position = 0, event_id = NULL;
