-- callbacks: each that was not answered at its first call. Those that were are only counted.
-- `outcome` is 0 answered, 1 postponed, 2 given up.
CREATE TABLE callbacks (
    receiver TEXT NOT NULL,
    position INTEGER NOT NULL,
    app      TEXT NOT NULL,
    kind     TEXT NOT NULL,
    outcome  INTEGER NOT NULL,
    calls    INTEGER NOT NULL,
    reason   TEXT,
    status   INTEGER,
    due_at   INTEGER,
    at       INTEGER NOT NULL,
    PRIMARY KEY (receiver, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX callbacks_due ON callbacks (receiver, due_at, position) WHERE outcome = 1;
CREATE INDEX callbacks_app ON callbacks (app, outcome, position);

-- How many callbacks of each receiver stand where.
CREATE TABLE callback_counts (
    receiver  TEXT NOT NULL,
    outcome   INTEGER NOT NULL,
    app       TEXT NOT NULL,
    kind      TEXT NOT NULL,
    callbacks INTEGER NOT NULL,
    PRIMARY KEY (receiver, outcome)
) STRICT, WITHOUT ROWID;
CREATE INDEX callback_counts_app ON callback_counts (app);
