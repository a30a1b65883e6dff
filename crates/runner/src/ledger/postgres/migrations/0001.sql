-- Schema 1. Times are epoch seconds, digests 16 bytes, charges plain decimal texts (binary floating point never touches
-- a charge). States and usage types are the codes in `codes.rs`. Texts that are compared are compared by their bytes.
-- Numbers are given out under the lock on `change`, so that they grow in the order of commits; no sequences.

CREATE TABLE meta (
    name  text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

-- Locked by every change, so that there is one at a time; a runner's last change that is durable.
CREATE TABLE change (
    runner text COLLATE "C" PRIMARY KEY,
    number bigint NOT NULL,
    at     bigint NOT NULL
);

-- Resources, users, projects, sources and files: few of them, and they repeat.
CREATE TABLE name (
    id   bigint PRIMARY KEY,
    text text COLLATE "C" NOT NULL UNIQUE
);

-- One row a run.
CREATE TABLE record (
    key             text COLLATE "C" PRIMARY KEY,
    state           smallint NOT NULL,
    usage_type      smallint NOT NULL,
    version         bigint NOT NULL,
    source_digest   bytea NOT NULL,
    flags           smallint NOT NULL,     -- 1 sent again, 2 taken, 4 drifted, 8 on hold
    file            bigint NOT NULL,
    line            bigint NOT NULL,
    -- The newest version.
    resource        bigint,
    local_record_id text COLLATE "C",
    submit          bigint,
    username        bigint,
    project         bigint,
    charge          text,
    digest          bytea,
    start_at        bigint,
    end_at          bigint,
    elapsed         bigint,
    requeued        boolean,
    chunk           bigint,
    chunk_offset    bigint,
    chunk_len       bigint,
    born            bigint,
    -- The version that was sent last.
    sent_version    bigint,
    sent_charge     text,
    sent_first      bigint,
    sent_last       bigint,
    sent_chunk      bigint,
    sent_offset     bigint,
    sent_len        bigint,
    before_version  bigint,
    before_charge   text,
    before_first    bigint,
    before_last     bigint,
    batch           bigint,
    confirm         bigint,
    loaded_at       bigint,
    loaded_charge   text,
    error           text
) WITH (fillfactor = 85);

-- What is to be sent, and what needs a person: pending, unknown, rejected, failed.
CREATE INDEX record_by_state ON record (state, usage_type, key) WHERE state IN (1, 3, 5, 7);
-- A newer version waits behind an accepted one.
CREATE INDEX record_waiting ON record (usage_type, key) WHERE state = 4 AND version > sent_version;

-- Who holds which wire identity.
CREATE TABLE identity (
    usage_type      smallint NOT NULL,
    resource        bigint NOT NULL,
    local_record_id text COLLATE "C" NOT NULL,
    submit          bigint NOT NULL,
    key             text COLLATE "C" NOT NULL,
    PRIMARY KEY (usage_type, resource, local_record_id, submit)
);

-- A piece of input that was taken in; `live` counts the references to its payloads.
CREATE TABLE chunk (
    id           bigint PRIMARY KEY,
    at           bigint NOT NULL,
    source       bigint NOT NULL,
    rules_digest bytea NOT NULL,
    live         bigint NOT NULL
);

-- Its payloads, one behind the other, as one zstd frame, until nothing refers to them.
CREATE TABLE payload (
    chunk bigint PRIMARY KEY,
    bytes bigint NOT NULL,
    data  bytea NOT NULL
);
-- They are packed already.
ALTER TABLE payload ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE batch (
    id          bigint PRIMARY KEY,
    usage_type  smallint NOT NULL,
    records     bigint NOT NULL,
    leased_at   bigint NOT NULL,
    lease_until bigint NOT NULL,       -- by the clock of the database
    earliest    bigint NOT NULL,       -- first send of any of its records
    members     text,                  -- keys in order, as JSON; dropped when settled
    settled_at  bigint,
    waiting     bigint NOT NULL,       -- its rows that are accepted or unknown
    runner      text NOT NULL          -- who leased it
);
CREATE INDEX batch_open ON batch (id) WHERE settled_at IS NULL;
CREATE INDEX batch_waiting ON batch (usage_type, earliest) WHERE waiting > 0;

-- What happened. Without a key it is about every row of a chunk, batch or reconciliation that has no event of its own
-- about the same thing.
CREATE TABLE event (
    id      bigint PRIMARY KEY,
    at      bigint NOT NULL,
    what    text NOT NULL,
    key     text COLLATE "C",
    version bigint,
    chunk   bigint,
    batch   bigint,
    detail  text NOT NULL,
    person  text
);
CREATE INDEX event_key ON event (key) WHERE key IS NOT NULL;
CREATE INDEX event_batch ON event (batch) WHERE key IS NULL AND batch IS NOT NULL;
CREATE INDEX event_chunk ON event (chunk) WHERE key IS NULL AND chunk IS NOT NULL;
CREATE FUNCTION events_are_only_added() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'events are only added'; END $$;
CREATE TRIGGER event_is_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_only_added();

-- Batches (0) and reconciliations (1) that a row no longer refers to.
CREATE TABLE past (
    key  text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    id   bigint NOT NULL,
    PRIMARY KEY (key, kind, id)
);

-- Counts and exact sums, kept by every change.
CREATE TABLE tally (
    usage_type smallint NOT NULL,
    resource   bigint NOT NULL,        -- 0: not known yet
    project    bigint NOT NULL,
    state      smallint NOT NULL,
    records    bigint NOT NULL,
    charge     text NOT NULL,
    PRIMARY KEY (usage_type, resource, project, state)
);

CREATE TABLE hold (
    key           text COLLATE "C" PRIMARY KEY,
    usage_type    smallint NOT NULL,
    reason        text COLLATE "C" NOT NULL,
    detail        text NOT NULL,
    run           text NOT NULL,
    source_digest bytea NOT NULL,
    rules_digest  bytea NOT NULL,
    first_seen    bigint NOT NULL,
    last_seen     bigint NOT NULL,
    file          bigint NOT NULL,
    line          bigint NOT NULL,
    job_id        text COLLATE "C",    -- of the run, to find it by
    raw_id        text COLLATE "C",
    candidate     text,                -- what an approval would want, as JSON
    payload       bytea,               -- and its bytes
    closed_at     bigint,
    closed_how    text,
    closed_by     text,
    closed_why    text
);
CREATE INDEX hold_open ON hold (reason, key) WHERE closed_at IS NULL;
CREATE INDEX hold_job ON hold (job_id);
CREATE INDEX hold_raw ON hold (raw_id);

CREATE TABLE quarantine (
    id         bigint PRIMARY KEY,
    source     bigint NOT NULL,
    digest     bytea NOT NULL,
    reason     text COLLATE "C" NOT NULL,
    detail     text NOT NULL,
    text       bytea NOT NULL,
    file       bigint NOT NULL,
    line       bigint NOT NULL,
    first_seen bigint NOT NULL,
    last_seen  bigint NOT NULL,
    closed_at  bigint,
    closed_by  text,
    closed_why text,
    UNIQUE (source, digest)
);
CREATE INDEX quarantine_open ON quarantine (reason, id) WHERE closed_at IS NULL;

-- Failures of the service that were seen, by its own ids: it repeats them until somebody acknowledges them.
CREATE TABLE failure (
    key text COLLATE "C" NOT NULL,
    id  text COLLATE "C" NOT NULL,
    PRIMARY KEY (key, id)
);

CREATE TABLE progress (
    source        bigint NOT NULL,
    path          text COLLATE "C" NOT NULL,
    bytes_read    bigint NOT NULL,
    frames        bigint NOT NULL,
    complete      boolean NOT NULL,
    at            bigint NOT NULL,
    PRIMARY KEY (source, path)
);

-- What the reading of a source carries from one file into the next: runs that are open there. `point` is the digest of the
-- first line of the file that comes next, in hexadecimal, or `end`.
CREATE TABLE carried (
    source     bigint NOT NULL,
    point      text COLLATE "C" NOT NULL,
    after_file text NOT NULL,             -- the file read before
    at         bigint NOT NULL,
    state      bytea NOT NULL,
    PRIMARY KEY (source, point)
);
