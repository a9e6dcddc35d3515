-- Pushes to large audiences: when each is due, and which are under way.
CREATE TABLE tasks (
    task             INTEGER PRIMARY KEY,
    app              TEXT NOT NULL,
    kind             TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    start_at         INTEGER,
    from_position    INTEGER NOT NULL,
    started_position INTEGER,
    ended            TEXT,
    ended_at         INTEGER
) STRICT;
CREATE INDEX tasks_app ON tasks (app, created_at);
CREATE INDEX tasks_open ON tasks (task) WHERE ended IS NULL;

-- Devices that an account had before, for audiences that are cut at a position.
CREATE INDEX devices_account_then ON devices (account) WHERE to_position IS NOT NULL;
