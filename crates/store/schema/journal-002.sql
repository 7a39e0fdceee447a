-- Ends of the journal, signed by the host key: a truncation back to before the last one is found. One may be written
-- twice for the same seq, by a journal that lost its end; the earlier one must stay as a witness.
CREATE TABLE heads (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    seq       INTEGER NOT NULL,
    at_ms     INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    key       BLOB    NOT NULL,
    signature BLOB    NOT NULL
) STRICT;

CREATE INDEX heads_by_seq ON heads (seq);

-- What the rows up to `seq` added up to, signed, behind which those up to `from_seq` are dropped.
CREATE TABLE checkpoint (
    only          INTEGER PRIMARY KEY CHECK (only = 1),
    from_seq      INTEGER NOT NULL,
    from_hash     BLOB    NOT NULL,
    from_at_ms    INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    hash          BLOB    NOT NULL,
    at_ms         INTEGER NOT NULL,
    state_version INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    key           BLOB    NOT NULL,
    signature     BLOB    NOT NULL
) STRICT;
