-- The idempotency key that each call to a vendor carries, noted before the call is made, so that a
-- call that is made again after a crash is known as the same. A hint: it may be lost at any time.
CREATE TABLE vendor_calls (
    call  TEXT PRIMARY KEY,
    key   TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX vendor_calls_since ON vendor_calls (since);
