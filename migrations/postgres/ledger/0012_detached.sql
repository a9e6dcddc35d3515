-- The events from 2 to `last` are away, in an export; there is a row only while some are.
CREATE TABLE detached (
    one         BIGINT PRIMARY KEY CHECK (one = 1),
    last        BIGINT NOT NULL CHECK (last >= 2),
    -- When the last of them was recorded.
    recorded_at BIGINT NOT NULL,
    -- The name of its folder.
    export      TEXT NOT NULL
);

-- The streams whose beginnings are away: where each begins, and how many versions it lacks here.
CREATE TABLE detached_streams (
    stream      TEXT PRIMARY KEY,
    first       BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE UNIQUE INDEX detached_streams_first ON detached_streams (first);

-- There is a row only inside the transaction that detaches: what it may remove.
CREATE TABLE detaching (
    one   BIGINT PRIMARY KEY CHECK (one = 1),
    first BIGINT NOT NULL CHECK (first >= 2),
    last  BIGINT NOT NULL
);

-- What is sealed, and noted as away, may be detached; nothing else is ever removed.
DROP TRIGGER events_are_never_removed ON events;
CREATE TRIGGER events_are_never_truncated BEFORE TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();
CREATE FUNCTION events_are_only_detached() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM detaching WHERE OLD.position BETWEEN first AND last)
        AND EXISTS (SELECT 1 FROM detached WHERE last >= OLD.position)
        AND EXISTS (SELECT 1 FROM checkpoints WHERE size >= OLD.position)
        AND EXISTS (SELECT 1 FROM detached_streams
                    WHERE stream = OLD.stream AND version >= OLD.version)
    THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'events are append-only';
END $$;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
FOR EACH ROW EXECUTE FUNCTION events_are_only_detached();
