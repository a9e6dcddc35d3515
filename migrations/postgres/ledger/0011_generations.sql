-- Which generation of the views is read. The first is called as it was when there was no other.
CREATE TABLE views_live (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    generation BIGINT NOT NULL
);
INSERT INTO views_live VALUES (1, 1);

-- The last rebuild that somebody asked for: state is wanted, running, done, cancelled, failed or
-- interrupted. Where it stopped is the position of an event that the views cannot fold.
CREATE TABLE views_rebuild (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    state      TEXT NOT NULL,
    keep_aside BIGINT NOT NULL,
    generation BIGINT,
    position   BIGINT NOT NULL,
    target     BIGINT NOT NULL,
    rate       BIGINT NOT NULL,
    asked_at   BIGINT NOT NULL,
    started_at BIGINT,
    ended_at   BIGINT,
    stopped_at BIGINT,
    reason     TEXT
);

-- Which generation each node reads, so that none is dropped that somebody needs.
CREATE TABLE views_readers (
    node       TEXT PRIMARY KEY,
    generation BIGINT NOT NULL
);
