-- Which generation of the views is read. The first is called as it was when there was no other.
CREATE TABLE views_live (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO views_live VALUES (1, 1);

-- The last rebuild that somebody asked for: state is wanted, running, done, cancelled, failed or
-- interrupted. Where it stopped is the position of an event that the views cannot fold.
CREATE TABLE views_rebuild (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    state      TEXT NOT NULL,
    keep_aside INTEGER NOT NULL,
    generation INTEGER,
    position   INTEGER NOT NULL,
    target     INTEGER NOT NULL,
    rate       INTEGER NOT NULL,
    asked_at   INTEGER NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER,
    stopped_at INTEGER,
    reason     TEXT
) STRICT;

-- Which generation each node reads, so that none is dropped that somebody needs.
CREATE TABLE views_readers (
    node       TEXT PRIMARY KEY,
    generation INTEGER NOT NULL
) STRICT;
