-- The first format. Times are nanoseconds since 1970 (INTEGER); JSON is TEXT; ids never come back (AUTOINCREMENT),
-- because generic ids are remembered by clients.

CREATE TABLE dag (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Fence of the DAG's only writer; grows by one with every append.
    revision            INTEGER NOT NULL,
    -- The last event that concerned it, log lines included: what a watcher compares.
    last_event          INTEGER NOT NULL,
    name                TEXT    NOT NULL,
    flow                TEXT    NOT NULL,
    definition          TEXT    NOT NULL,
    main_dag            TEXT,
    is_maintenance      INTEGER NOT NULL,
    state               TEXT    NOT NULL,
    heading             TEXT    NOT NULL,
    operator            TEXT    NOT NULL,
    holds_lock          INTEGER NOT NULL,
    signals             TEXT    NOT NULL,
    is_finished         INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    started_at          INTEGER,
    ended_at            INTEGER,
    actor               TEXT    NOT NULL,
    request_key         TEXT UNIQUE,
    request_fingerprint TEXT
) STRICT;

CREATE INDEX dag_unfinished  ON dag (id) WHERE is_finished = 0;
CREATE INDEX dag_finished    ON dag (ended_at) WHERE is_finished = 1;
CREATE INDEX dag_main        ON dag (main_dag) WHERE main_dag IS NOT NULL;
CREATE INDEX dag_maintenance ON dag (id) WHERE is_maintenance = 1;

CREATE TABLE node (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    dag_id   INTEGER NOT NULL REFERENCES dag (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    operator TEXT    NOT NULL,
    UNIQUE (dag_id, position)
) STRICT;

CREATE TABLE sub_task (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id       INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
    dag_id        INTEGER NOT NULL REFERENCES dag (id) ON DELETE CASCADE,
    position      INTEGER NOT NULL,
    agent         TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    operator      TEXT    NOT NULL,
    execute_times INTEGER NOT NULL,
    started_at    INTEGER,
    ended_at      INTEGER,
    output        TEXT,
    note          TEXT,
    failure       TEXT,
    UNIQUE (node_id, position)
) STRICT;

CREATE INDEX sub_task_of_dag ON sub_task (dag_id);

-- Everything that happened, in order: transitions, log lines, audit entries, what was seen of the database process.
-- Appended only; pruning removes what belongs to pruned DAGs, and old entries that belong to none.
CREATE TABLE event (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    dag_id      INTEGER,
    node_id     INTEGER,
    sub_task_id INTEGER,
    attempt     INTEGER,
    actor       TEXT    NOT NULL,
    body        TEXT    NOT NULL
) STRICT;

CREATE INDEX event_of_dag ON event (dag_id, id) WHERE dag_id IS NOT NULL;
CREATE INDEX event_log    ON event (sub_task_id, id) WHERE kind = 'log';
CREATE INDEX event_free   ON event (at) WHERE dag_id IS NULL;

CREATE TRIGGER event_is_append_only BEFORE UPDATE ON event
BEGIN
    SELECT RAISE (ABORT, 'the event table is append-only');
END;

-- A lock names its holder; releasing is conditional on it (W2).
CREATE TABLE lock (
    name     TEXT    PRIMARY KEY,
    dag_id   INTEGER NOT NULL REFERENCES dag (id),
    dag_name TEXT    NOT NULL,
    main_dag TEXT,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the agent knows about itself and its cluster: one typed document per name.
CREATE TABLE ledger (
    name       TEXT    PRIMARY KEY,
    body       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Sealed with the key in the vault's file, which is not in this one.
CREATE TABLE secret (
    name       TEXT    PRIMARY KEY,
    sealed     BLOB    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Header blocks of accepted requests that changed something, until they expire: a replay after a restart is refused too.
CREATE TABLE seen_block (
    hash       BLOB    PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX seen_block_expiry ON seen_block (expires_at);
