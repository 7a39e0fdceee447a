-- The truth: what happened, in order, each row chained to the one before it.
CREATE TABLE journal (
    seq       INTEGER PRIMARY KEY,
    at_ms     INTEGER NOT NULL,
    cp_life   TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    agent     TEXT,
    body      TEXT    NOT NULL,
    prev_hash BLOB    NOT NULL,
    hash      BLOB    NOT NULL
) STRICT;

CREATE INDEX journal_by_agent ON journal (agent, seq) WHERE agent IS NOT NULL;

-- Which journal this is, so that a cursor into another one is noticed.
CREATE TABLE identity (
    id TEXT NOT NULL
) STRICT;

INSERT INTO identity (id) VALUES (lower(hex(randomblob(16))));
