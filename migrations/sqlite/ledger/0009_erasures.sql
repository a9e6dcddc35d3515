-- Who was erased, on whose word and why: the registry's row of each `subject.erased`.
CREATE TABLE erasures (
    position  INTEGER PRIMARY KEY,
    app       TEXT NOT NULL,
    asked_by  TEXT NOT NULL,
    erased_at INTEGER NOT NULL,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX erasures_app ON erasures (app, position);
