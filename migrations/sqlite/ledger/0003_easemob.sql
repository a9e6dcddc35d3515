-- What Easemob's callers prove themselves with. Tokens are hashed; a token is an app's, with the
-- fingerprint of the secret that asked for it, or a user's. They are not facts.
CREATE TABLE easemob_tokens (
    hash       TEXT PRIMARY KEY,
    app        TEXT NOT NULL,
    secret     TEXT,
    account    TEXT,
    username   TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX easemob_tokens_expiry ON easemob_tokens (expires_at);
CREATE INDEX easemob_tokens_account ON easemob_tokens (account) WHERE account IS NOT NULL;

-- Passwords of users, each as the text of an argon2id hash.
CREATE TABLE easemob_passwords (
    account TEXT PRIMARY KEY,
    hash    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
