-- deliveries: those of one message in one row, as JSON: they are read together, and a page that
-- moves some of them writes the row once. `due` counts those that are kept nowhere and wait for
-- their way, or for an answer. Every view is made again from the ledger.
DROP TABLE deliveries;
CREATE TABLE deliveries (
    message BIGINT PRIMARY KEY,
    due     BIGINT NOT NULL,
    packed  TEXT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (message) WHERE due > 0;
TRUNCATE messages, pending, task_statistics, task_deliveries, task_latencies, task_chunks, delivery_stats, callbacks, callback_counts, set_aside;
UPDATE checkpoint SET position = 0, event_id = NULL;
