-- task_statistics: each push to a large audience, what became of its deliveries, and how long the
-- steps took.
CREATE TABLE task_statistics (
    task             INTEGER PRIMARY KEY,
    app              TEXT NOT NULL,
    position         INTEGER NOT NULL,
    kind             TEXT NOT NULL,
    label            TEXT,
    protocol         TEXT NOT NULL,
    strategy         TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    start_at         INTEGER,
    started_position INTEGER,
    started_at       INTEGER,
    expires_at       INTEGER,
    ended_at         INTEGER,
    ended            TEXT,
    users            INTEGER,
    unbound          INTEGER,
    unresolved       INTEGER NOT NULL
) STRICT;
CREATE INDEX task_statistics_app ON task_statistics (app, position);
CREATE TABLE task_deliveries (
    task       INTEGER NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (task, way, stage, ended)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_deliveries_none ON task_deliveries (task) WHERE deliveries = 0;
CREATE TABLE task_latencies (
    task       INTEGER NOT NULL,
    step       TEXT NOT NULL,
    bucket     INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (task, step, bucket)
) STRICT, WITHOUT ROWID;

-- task_chunks: deliveries by the thousand, two bytes each in `states`, and in `handed` four for
-- when it was handed over, in ms after the start and one.
CREATE TABLE task_chunks (
    task       INTEGER NOT NULL,
    chunk      INTEGER NOT NULL,
    app        TEXT NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    started    INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    open       INTEGER NOT NULL,
    unsent     INTEGER NOT NULL,
    kept       INTEGER NOT NULL,
    devices    BLOB NOT NULL,
    states     BLOB NOT NULL,
    handed     BLOB NOT NULL,
    PRIMARY KEY (task, chunk)
) STRICT;
CREATE INDEX task_chunks_kept ON task_chunks (app, last, first) WHERE kept > 0;
CREATE INDEX task_chunks_open ON task_chunks (expires_at) WHERE open > 0;
CREATE INDEX task_chunks_unsent ON task_chunks (task, chunk) WHERE unsent > 0;

-- delivery_stats: deliveries by the quarter of an hour in which they were accepted.
CREATE TABLE delivery_stats (
    app        TEXT NOT NULL,
    bucket_at  INTEGER NOT NULL,
    protocol   TEXT NOT NULL,
    way        TEXT NOT NULL,
    stage      TEXT NOT NULL,
    ended      TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (app, bucket_at, protocol, way, stage, ended)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_stats_none ON delivery_stats (app) WHERE deliveries = 0;
