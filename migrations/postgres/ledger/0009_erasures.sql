-- Who was erased, on whose word and why: the registry's row of each `subject.erased`.
CREATE TABLE erasures (
    position  BIGINT PRIMARY KEY,
    app       TEXT NOT NULL,
    asked_by  TEXT NOT NULL,
    erased_at BIGINT NOT NULL,
    body      TEXT NOT NULL
);
CREATE INDEX erasures_app ON erasures (app, position);
