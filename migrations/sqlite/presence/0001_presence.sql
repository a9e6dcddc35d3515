-- Which devices are connected, and to which node. A hint: it may be lost at any time.
CREATE TABLE nodes (
    node  TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE connections (
    device   INTEGER NOT NULL,
    node     TEXT NOT NULL,
    number   INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    replaced INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX connections_node ON connections (node, replaced);
