-- The Merkle tree over all leaves (RFC 6962), in tiles of 256 hashes: level 0 holds leaves, each
-- level above the roots of the tiles below. The last tile of a level grows until it is full.
CREATE TABLE tiles (
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)
) STRICT;

-- What was signed: a size of the tree, its root, and the note that says so.
CREATE TABLE checkpoints (
    size      INTEGER PRIMARY KEY,
    root      BLOB NOT NULL,
    note      TEXT NOT NULL,
    signed_at INTEGER NOT NULL
) STRICT;

-- The keys that sign, each from a size on. A key that signs no more keeps its public half alone.
CREATE TABLE audit_keys (
    number     INTEGER PRIMARY KEY,
    public_key BLOB NOT NULL,
    sealed     BLOB,
    from_size  INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Why effects wait, if they do: until an operator says that this ledger is the one to go on.
CREATE TABLE paused (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    reason TEXT NOT NULL,
    since  INTEGER NOT NULL
) STRICT;

-- The hash of what was private in an event, once that is erased: its leaf can still be checked.
-- Without the salt, which goes too, it tells nothing.
CREATE TABLE erased (
    position INTEGER PRIMARY KEY,
    digest   BLOB NOT NULL
) STRICT;

-- There is a row only inside the transaction that erases.
CREATE TABLE erasing (
    one INTEGER PRIMARY KEY CHECK (one = 1)
) STRICT;

-- What is private may be blanked, by an erasure; nothing else ever changes.
DROP TRIGGER events_are_never_updated;
CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
WHEN NOT EXISTS (SELECT 1 FROM erasing)
    OR NOT EXISTS (SELECT 1 FROM erased WHERE position = OLD.position)
    OR NEW.private IS NOT NULL OR NEW.private_salt IS NOT NULL
    OR (NEW.position, NEW.app, NEW.stream, NEW.version, NEW.type, NEW.schema, NEW.recorded_at,
        NEW.event_id, NEW.metadata, NEW.body, NEW.leaf)
    IS NOT (OLD.position, OLD.app, OLD.stream, OLD.version, OLD.type, OLD.schema, OLD.recorded_at,
        OLD.event_id, OLD.metadata, OLD.body, OLD.leaf)
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
