-- noted_presence: devices of which the ledger said last that they are connected. Filled for what was
-- said before this migration by `views rebuild`.
CREATE TABLE noted_presence (
    device   BIGINT PRIMARY KEY,
    app      TEXT NOT NULL,
    position BIGINT NOT NULL,
    at       BIGINT NOT NULL
);
CREATE INDEX noted_presence_app ON noted_presence (app);
