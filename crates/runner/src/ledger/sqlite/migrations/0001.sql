-- Schema 1. Times are epoch seconds, digests 16 bytes, charges plain decimal texts (binary floating point never touches
-- a charge). States and usage types are the codes in `codes.rs`.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Resources, users, projects, sources and files: few of them, and they repeat.
CREATE TABLE name (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

-- One row a run. Keys are natural and ordered: hashed ones cost nine to sixteen times as much.
CREATE TABLE record (
    key             TEXT PRIMARY KEY,
    state           INTEGER NOT NULL,
    usage_type      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    source_digest   BLOB NOT NULL,
    flags           INTEGER NOT NULL,      -- 1 sent again, 2 taken, 4 drifted, 8 on hold
    file            INTEGER NOT NULL,
    line            INTEGER NOT NULL,
    -- The newest version.
    resource        INTEGER,
    local_record_id TEXT,
    submit          INTEGER,
    username        INTEGER,
    project         INTEGER,
    charge          TEXT,
    digest          BLOB,
    start           INTEGER,
    end             INTEGER,
    elapsed         INTEGER,
    requeued        INTEGER,
    chunk           INTEGER,
    offset          INTEGER,
    len             INTEGER,
    born            INTEGER,
    -- The version that was sent last.
    sent_version    INTEGER,
    sent_charge     TEXT,
    sent_first      INTEGER,
    sent_last       INTEGER,
    sent_chunk      INTEGER,
    sent_offset     INTEGER,
    sent_len        INTEGER,
    before_version  INTEGER,
    before_charge   TEXT,
    before_first    INTEGER,
    before_last     INTEGER,
    batch           INTEGER,
    confirm         INTEGER,
    loaded_at       INTEGER,
    loaded_charge   TEXT,
    error           TEXT
) STRICT, WITHOUT ROWID;

-- What is to be sent, and what needs a person: pending, unknown, rejected, failed.
CREATE INDEX record_by_state ON record (state, usage_type, key) WHERE state IN (1, 3, 5, 7);
-- A newer version waits behind an accepted one.
CREATE INDEX record_waiting ON record (usage_type, key) WHERE state = 4 AND version > sent_version;

-- Who holds which wire identity. A table of its own, so that a change of state does not touch it.
CREATE TABLE identity (
    usage_type      INTEGER NOT NULL,
    resource        INTEGER NOT NULL,
    local_record_id TEXT NOT NULL,
    submit          INTEGER NOT NULL,
    key             TEXT NOT NULL,
    PRIMARY KEY (usage_type, resource, local_record_id, submit)
) STRICT, WITHOUT ROWID;

-- A piece of input that was taken in; `live` counts the references to its payloads.
CREATE TABLE chunk (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    source       INTEGER NOT NULL,
    rules_digest BLOB NOT NULL,
    live         INTEGER NOT NULL
) STRICT;

-- Its payloads, one behind the other, as one zstd frame, until nothing refers to them. Apart from `chunk`, because
-- counting would write the blob again.
CREATE TABLE payload (
    chunk INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL,
    data  BLOB NOT NULL
) STRICT;

CREATE TABLE batch (
    id          INTEGER PRIMARY KEY,
    usage_type  INTEGER NOT NULL,
    records     INTEGER NOT NULL,
    leased_at   INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    earliest    INTEGER NOT NULL,      -- first send of any of its records
    members     TEXT,                  -- keys in order, as JSON; dropped when settled
    settled_at  INTEGER,
    waiting     INTEGER NOT NULL       -- its rows that are accepted or unknown
) STRICT;
CREATE INDEX batch_open ON batch (id) WHERE settled_at IS NULL;
CREATE INDEX batch_waiting ON batch (usage_type, earliest) WHERE waiting > 0;

-- What happened. Without a key it is about every row of a chunk, batch or reconciliation that has no event of its own
-- about the same thing.
CREATE TABLE event (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    what    TEXT NOT NULL,
    key     TEXT,
    version INTEGER,
    chunk   INTEGER,
    batch   INTEGER,
    detail  TEXT NOT NULL,
    person  TEXT
) STRICT;
CREATE INDEX event_key ON event (key) WHERE key IS NOT NULL;
CREATE INDEX event_batch ON event (batch) WHERE key IS NULL AND batch IS NOT NULL;
CREATE INDEX event_chunk ON event (chunk) WHERE key IS NULL AND chunk IS NOT NULL;
CREATE TRIGGER event_is_not_changed BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events are only added'); END;
CREATE TRIGGER event_is_not_deleted BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'events are only added'); END;

-- Batches (0) and reconciliations (1) that a row no longer refers to.
CREATE TABLE past (
    key  TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id   INTEGER NOT NULL,
    PRIMARY KEY (key, kind, id)
) STRICT, WITHOUT ROWID;

-- Counts and exact sums, kept by every change.
CREATE TABLE tally (
    usage_type INTEGER NOT NULL,
    resource   INTEGER NOT NULL,       -- 0: not known yet
    project    INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    records    INTEGER NOT NULL,
    charge     TEXT NOT NULL,
    PRIMARY KEY (usage_type, resource, project, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
    key           TEXT PRIMARY KEY,
    usage_type    INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    detail        TEXT NOT NULL,
    run           TEXT NOT NULL,
    source_digest BLOB NOT NULL,
    rules_digest  BLOB NOT NULL,
    first_seen    INTEGER NOT NULL,
    last_seen     INTEGER NOT NULL,
    file          INTEGER NOT NULL,
    line          INTEGER NOT NULL,
    candidate     TEXT,                -- what an approval would want, as JSON
    payload       BLOB,                -- and its bytes
    closed_at     INTEGER,
    closed_how    TEXT,
    closed_by     TEXT,
    closed_why    TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_open ON hold (reason, key) WHERE closed_at IS NULL;

CREATE TABLE quarantine (
    id         INTEGER PRIMARY KEY,
    source     INTEGER NOT NULL,
    digest     BLOB NOT NULL,
    reason     TEXT NOT NULL,
    detail     TEXT NOT NULL,
    text       BLOB NOT NULL,
    file       INTEGER NOT NULL,
    line       INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    closed_at  INTEGER,
    closed_by  TEXT,
    closed_why TEXT,
    UNIQUE (source, digest)
) STRICT;
CREATE INDEX quarantine_open ON quarantine (reason, id) WHERE closed_at IS NULL;

-- Failures of the service that were seen, by its own ids: it repeats them until somebody acknowledges them.
CREATE TABLE failure (
    key TEXT NOT NULL,
    id  TEXT NOT NULL,
    PRIMARY KEY (key, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    source   INTEGER NOT NULL,
    path     TEXT NOT NULL,
    offset   INTEGER NOT NULL,
    frames   INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (source, path)
) STRICT, WITHOUT ROWID;
