-- Statistics tell deliveries apart by what their devices are, and can be asked as of any position.
-- Every view is made again from the ledger.

-- device_kinds: what the devices of an app are, numbered as they came.
CREATE TABLE device_kinds (
    app         TEXT NOT NULL,
    kind        BIGINT NOT NULL,
    device_type TEXT NOT NULL,
    app_package TEXT NOT NULL,
    PRIMARY KEY (app, kind)
);
-- The kind of each device: two bytes for each of 1,024 numbers.
CREATE TABLE device_numbers (
    part  BIGINT PRIMARY KEY,
    kinds BYTEA NOT NULL
);

DROP TABLE delivery_stats;
CREATE TABLE delivery_stats (
    app        TEXT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    kind       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, bucket_at, protocol, kind, way, stage, ended)
);
DROP TABLE delivery_latencies;
CREATE TABLE delivery_latencies (
    app        TEXT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    kind       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    step       TEXT NOT NULL,
    millis     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, bucket_at, protocol, kind, way, step, millis)
);
DROP TABLE delivery_rollups;
CREATE TABLE delivery_rollups (
    app        TEXT NOT NULL,
    grain      BIGINT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    kind       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, grain, bucket_at, protocol, kind, way, stage, ended)
);
DROP TABLE latency_rollups;
CREATE TABLE latency_rollups (
    app        TEXT NOT NULL,
    grain      BIGINT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    kind       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    step       TEXT NOT NULL,
    millis     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, grain, bucket_at, protocol, kind, way, step, millis)
);
DROP TABLE task_deliveries;
CREATE TABLE task_deliveries (
    task       BIGINT NOT NULL,
    kind       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (task, kind, way, stage, ended)
);
DROP TABLE task_latencies;
CREATE TABLE task_latencies (
    task       BIGINT NOT NULL,
    kind       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    step       TEXT NOT NULL,
    millis     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (task, kind, way, step, millis)
);

-- journal: what each event moved among the cells of the statistics, 1,024 positions a row.
CREATE TABLE journal (
    block BIGINT NOT NULL,
    app   TEXT NOT NULL,
    moved BYTEA NOT NULL,
    PRIMARY KEY (block, app)
);
-- The sums of 64 such rows each, once all of them are there; and how many such spans are closed.
CREATE TABLE journal_sums (
    app   TEXT NOT NULL,
    span  BIGINT NOT NULL,
    moved BYTEA NOT NULL,
    PRIMARY KEY (app, span)
);
CREATE TABLE journal_spans (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    closed BIGINT NOT NULL
);

DELETE FROM messages;
DELETE FROM deliveries;
DELETE FROM pending;
DELETE FROM task_statistics;
DELETE FROM task_chunks;
DELETE FROM callbacks;
DELETE FROM callback_counts;
DELETE FROM chat_messages;
DELETE FROM uplinks;
DELETE FROM set_aside;
UPDATE checkpoint SET position = 0, event_id = NULL;
