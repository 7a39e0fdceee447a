-- A projection of the journal: whatever is here can be deleted and is made anew by replay. A change of
-- this file raises STATE_VERSION, and the next start replays.
CREATE TABLE applied (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL
) STRICT;

-- A row while agents are taken over because the journal is new.
CREATE TABLE rebuild (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq  INTEGER NOT NULL
) STRICT;

-- `adopted` is the start that ran when the agent was taken over.
CREATE TABLE agents (
    name        TEXT    PRIMARY KEY,
    spec        TEXT    NOT NULL,
    run         TEXT    NOT NULL,
    container   TEXT    UNIQUE,
    created_ms  INTEGER NOT NULL,
    start       TEXT,
    start_pid   INTEGER NOT NULL DEFAULT 0,
    generation  INTEGER NOT NULL DEFAULT 0,
    issued      TEXT,
    ready_start INTEGER,
    sent_start  INTEGER,
    exit        TEXT,
    restarts    TEXT,
    adopted     INTEGER,
    init        TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- `cn` is the canonical name, computed when the row is added: what a leaf's CN is compared with.
CREATE TABLE registry (
    container           TEXT    PRIMARY KEY,
    cn                  TEXT    NOT NULL,
    thumbprint          TEXT    NOT NULL UNIQUE,
    previous_thumbprint TEXT    UNIQUE,
    last_seen_ms        INTEGER NOT NULL,
    entry               TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX registry_by_cn ON registry (cn);

-- Registration tokens that were spent lately, as SHA-256 in hex.
CREATE TABLE burnt_tokens (
    token TEXT    PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Why an agent is contained; `seq` is the journal row that asked, and the order.
CREATE TABLE causes (
    agent  TEXT    NOT NULL,
    by     TEXT    NOT NULL,
    action TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    cause  TEXT    NOT NULL,
    PRIMARY KEY (agent, by, action)
) STRICT, WITHOUT ROWID;

-- Steps that ended, by their key; those with `failed` may be tried again in another start.
CREATE TABLE steps (
    key    TEXT    PRIMARY KEY,
    agent  TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    failed TEXT
) STRICT, WITHOUT ROWID;

-- Effects of steps that haven't ended yet. `tries` is how often each was begun.
CREATE TABLE effects (
    key    TEXT    NOT NULL,
    n      INTEGER NOT NULL,
    agent  TEXT    NOT NULL,
    effect TEXT    NOT NULL,
    result TEXT,
    tries  INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (key, n)
) STRICT, WITHOUT ROWID;

-- A policy's state is that of the code that left it.
CREATE TABLE policy_state (
    policy TEXT NOT NULL,
    agent  TEXT NOT NULL,
    digest TEXT NOT NULL,
    state  TEXT NOT NULL,
    PRIMARY KEY (policy, agent)
) STRICT, WITHOUT ROWID;
