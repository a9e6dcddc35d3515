-- The Merkle tree over all leaves (RFC 6962), in tiles of 256 hashes: level 0 holds leaves, each
-- level above the roots of the tiles below. The last tile of a level grows until it is full.
CREATE TABLE tiles (
    level  BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (level, number)
);
-- Hashes do not compress.
ALTER TABLE tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- What was signed: a size of the tree, its root, and the note that says so.
CREATE TABLE checkpoints (
    size      BIGINT PRIMARY KEY,
    root      BYTEA NOT NULL,
    note      TEXT NOT NULL,
    signed_at BIGINT NOT NULL
);

-- The keys that sign, each from a size on. A key that signs no more keeps its public half alone.
CREATE TABLE audit_keys (
    number     BIGINT PRIMARY KEY,
    public_key BYTEA NOT NULL,
    sealed     BYTEA,
    from_size  BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Why effects wait, if they do: until an operator says that this ledger is the one to go on.
CREATE TABLE paused (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    reason TEXT NOT NULL,
    since  BIGINT NOT NULL
);

-- The hash of what was private in an event, once that is erased: its leaf can still be checked.
-- Without the salt, which goes too, it tells nothing.
CREATE TABLE erased (
    position BIGINT PRIMARY KEY,
    digest   BYTEA NOT NULL
);

-- There is a row only inside the transaction that erases.
CREATE TABLE erasing (
    one BIGINT PRIMARY KEY CHECK (one = 1)
);

-- What is private may be blanked, by an erasure; nothing else ever changes.
DROP TRIGGER events_are_never_changed ON events;
CREATE TRIGGER events_are_never_removed BEFORE DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();
CREATE FUNCTION events_are_only_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.private IS NULL AND NEW.private_salt IS NULL
        AND EXISTS (SELECT 1 FROM erasing)
        AND EXISTS (SELECT 1 FROM erased WHERE position = OLD.position)
        AND (NEW.position, NEW.app, NEW.stream, NEW.version, NEW.type, NEW.schema,
             NEW.recorded_at, NEW.event_id, NEW.metadata, NEW.body, NEW.leaf)
        IS NOT DISTINCT FROM
            (OLD.position, OLD.app, OLD.stream, OLD.version, OLD.type, OLD.schema,
             OLD.recorded_at, OLD.event_id, OLD.metadata, OLD.body, OLD.leaf)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'events are append-only';
END $$;
CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
FOR EACH ROW EXECUTE FUNCTION events_are_only_erased();
