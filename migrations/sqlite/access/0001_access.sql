-- Who read what belongs to people, and which calls were refused. It lies apart from the ledger: it
-- has a retention, and is no fact. A row stands for one call, or for some of the same kind.
CREATE TABLE accesses (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
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
    records   INTEGER,
    calls     INTEGER NOT NULL,
    code      TEXT
) STRICT;
CREATE INDEX accesses_last_at ON accesses (last_at);
CREATE INDEX accesses_app ON accesses (app, number);
CREATE INDEX accesses_caller ON accesses (caller, number);

-- There is a row only inside the transaction that removes what is older than that.
CREATE TABLE expiring (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    before INTEGER NOT NULL
) STRICT;

CREATE TRIGGER accesses_are_never_updated BEFORE UPDATE ON accesses
BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
CREATE TRIGGER accesses_go_by_age_alone BEFORE DELETE ON accesses
WHEN NOT EXISTS (SELECT 1 FROM expiring WHERE OLD.last_at < before)
BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
