-- Who read what belongs to people, and which calls were refused. It lies apart from the ledger: it
-- has a retention, and is no fact. A row stands for one call, or for some of the same kind.
CREATE TABLE accesses (
    number    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        BIGINT NOT NULL,
    last_at   BIGINT NOT NULL,
    outcome   TEXT NOT NULL,
    caller    TEXT NOT NULL,
    role      TEXT,
    address   TEXT,
    request   TEXT,
    via       TEXT NOT NULL,
    operation TEXT NOT NULL,
    app       TEXT,
    fields    TEXT NOT NULL,
    subjects  TEXT NOT NULL,
    records   BIGINT,
    calls     BIGINT NOT NULL,
    code      TEXT
);
CREATE INDEX accesses_last_at ON accesses (last_at);
CREATE INDEX accesses_app ON accesses (app, number);
CREATE INDEX accesses_caller ON accesses (caller, number);

-- There is a row only inside the transaction that removes what is older than that.
CREATE TABLE expiring (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    before BIGINT NOT NULL
);

CREATE FUNCTION accesses_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the access log is append-only';
END $$;
CREATE FUNCTION accesses_go_by_age() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM expiring WHERE OLD.last_at < before) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the access log is append-only';
END $$;
CREATE TRIGGER accesses_are_never_updated BEFORE UPDATE ON accesses
FOR EACH ROW EXECUTE FUNCTION accesses_are_append_only();
CREATE TRIGGER accesses_are_never_emptied BEFORE TRUNCATE ON accesses
FOR EACH STATEMENT EXECUTE FUNCTION accesses_are_append_only();
CREATE TRIGGER accesses_go_by_age_alone BEFORE DELETE ON accesses
FOR EACH ROW EXECUTE FUNCTION accesses_go_by_age();
