-- Which devices are connected, and to which node. A hint: it may be lost at any time, so it is not
-- logged, and a crash of the database empties it.
CREATE UNLOGGED TABLE nodes (
    node  TEXT PRIMARY KEY,
    until BIGINT NOT NULL
);

CREATE UNLOGGED TABLE connections (
    device   BIGINT NOT NULL,
    node     TEXT NOT NULL,
    number   BIGINT NOT NULL,
    since    BIGINT NOT NULL,
    replaced BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (device, node)
);
CREATE INDEX connections_node ON connections (node, replaced);
