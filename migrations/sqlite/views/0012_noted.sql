-- noted_presence: devices of which the ledger said last that they are connected. Filled for what was
-- said before this migration by `views rebuild`.
CREATE TABLE noted_presence (
    device   INTEGER PRIMARY KEY,
    app      TEXT NOT NULL,
    position INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX noted_presence_app ON noted_presence (app);
