-- task_statistics: each push to a large audience, what became of its deliveries, and how long the
-- steps took.
CREATE TABLE task_statistics (
    task             BIGINT PRIMARY KEY,
    app              TEXT NOT NULL,
    position         BIGINT NOT NULL,
    kind             TEXT NOT NULL,
    label            TEXT,
    protocol         TEXT NOT NULL,
    strategy         TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    start_at         BIGINT,
    started_position BIGINT,
    started_at       BIGINT,
    expires_at       BIGINT,
    ended_at         BIGINT,
    ended            TEXT,
    users            BIGINT,
    unbound          BIGINT,
    unresolved       BIGINT NOT NULL
);
CREATE INDEX task_statistics_app ON task_statistics (app, position);
CREATE TABLE task_deliveries (
    task       BIGINT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (task, way, stage, ended)
);
CREATE INDEX task_deliveries_none ON task_deliveries (task) WHERE deliveries = 0;
CREATE TABLE task_latencies (
    task       BIGINT NOT NULL,
    step       TEXT NOT NULL,
    bucket     BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (task, step, bucket)
);

-- task_chunks: deliveries by the thousand, two bytes each in `states`, and in `handed` four for
-- when it was handed over, in ms after the start and one.
CREATE TABLE task_chunks (
    task       BIGINT NOT NULL,
    chunk      BIGINT NOT NULL,
    app        TEXT NOT NULL,
    first      BIGINT NOT NULL,
    last       BIGINT NOT NULL,
    started    BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    attempt    BIGINT NOT NULL,
    since      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    open       BIGINT NOT NULL,
    unsent     BIGINT NOT NULL,
    kept       BIGINT NOT NULL,
    devices    BYTEA NOT NULL,
    states     BYTEA NOT NULL,
    handed     BYTEA NOT NULL,
    PRIMARY KEY (task, chunk)
);
CREATE INDEX task_chunks_kept ON task_chunks (app, last, first) WHERE kept > 0;
CREATE INDEX task_chunks_open ON task_chunks (expires_at) WHERE open > 0;
CREATE INDEX task_chunks_unsent ON task_chunks (task, chunk) WHERE unsent > 0;

-- delivery_stats: deliveries by the quarter of an hour in which they were accepted.
CREATE TABLE delivery_stats (
    app        TEXT NOT NULL,
    bucket_at  BIGINT NOT NULL,
    protocol   TEXT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (app, bucket_at, protocol, way, stage, ended)
);
CREATE INDEX delivery_stats_none ON delivery_stats (app) WHERE deliveries = 0;
