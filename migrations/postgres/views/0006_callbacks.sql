-- callbacks: each that was not answered at its first call. Those that were are only counted.
-- `outcome` is 0 answered, 1 postponed, 2 given up.
CREATE TABLE callbacks (
    receiver TEXT NOT NULL,
    position BIGINT NOT NULL,
    app      TEXT NOT NULL,
    kind     TEXT NOT NULL,
    outcome  BIGINT NOT NULL,
    calls    BIGINT NOT NULL,
    reason   TEXT,
    status   BIGINT,
    due_at   BIGINT,
    at       BIGINT NOT NULL,
    PRIMARY KEY (receiver, position)
);
CREATE INDEX callbacks_due ON callbacks (receiver, due_at, position) WHERE outcome = 1;
CREATE INDEX callbacks_app ON callbacks (app, outcome, position);

-- How many callbacks of each receiver stand where.
CREATE TABLE callback_counts (
    receiver  TEXT NOT NULL,
    outcome   BIGINT NOT NULL,
    app       TEXT NOT NULL,
    kind      TEXT NOT NULL,
    callbacks BIGINT NOT NULL,
    PRIMARY KEY (receiver, outcome)
);
CREATE INDEX callback_counts_app ON callback_counts (app);
