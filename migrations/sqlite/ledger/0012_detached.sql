-- The events from 2 to `last` are away, in an export; there is a row only while some are.
CREATE TABLE detached (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    last        INTEGER NOT NULL CHECK (last >= 2),
    -- When the last of them was recorded.
    recorded_at INTEGER NOT NULL,
    -- The name of its folder.
    export      TEXT NOT NULL
) STRICT;

-- The streams whose beginnings are away: where each begins, and how many versions it lacks here.
CREATE TABLE detached_streams (
    stream      TEXT PRIMARY KEY,
    first       INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    version     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX detached_streams_first ON detached_streams (first);

-- There is a row only inside the transaction that detaches: what it may remove.
CREATE TABLE detaching (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    first INTEGER NOT NULL CHECK (first >= 2),
    last  INTEGER NOT NULL
) STRICT;

-- What is sealed, and noted as away, may be detached; nothing else is ever removed.
DROP TRIGGER events_are_never_deleted;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM detaching WHERE OLD.position BETWEEN first AND last)
    OR NOT EXISTS (SELECT 1 FROM detached WHERE last >= OLD.position)
    OR NOT EXISTS (SELECT 1 FROM checkpoints WHERE size >= OLD.position)
    OR NOT EXISTS (SELECT 1 FROM detached_streams
                   WHERE stream = OLD.stream AND version >= OLD.version)
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
