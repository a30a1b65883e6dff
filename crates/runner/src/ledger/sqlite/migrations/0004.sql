-- Schema 4. A row in few columns. SQLite takes steps for every column of every row that is written, and for every column of every
-- row that is changed, also for empty ones: 39 of them cost more than the three indexes. What is looked for, and the charge, are
-- columns; the rest of what is known at first is one body, and what became of the row since it was sent one course (`packed_body` and
-- `packed_course`, functions of the program: `packed.rs` says what is in them).
CREATE TABLE packed_record (
    key        TEXT PRIMARY KEY,
    state      INTEGER NOT NULL,
    usage_type INTEGER NOT NULL,
    flags      INTEGER NOT NULL,      -- 1 sent again, 2 taken, 4 drifted, 8 on hold
    charge     TEXT,                  -- of the newest version
    waiting    INTEGER,               -- accepted while a newer version waits: when it was sent last
    body       BLOB NOT NULL,
    course     BLOB,                  -- nothing where it was never sent
    error      TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO packed_record
SELECT key, state, usage_type, flags, charge,
    CASE WHEN state = 4 AND version > sent_version THEN sent_last END,
    packed_body(source_digest, digest, version, file, line, resource, local_record_id, submit, username, project, start, end,
        elapsed, requeued, chunk, offset, len, born),
    packed_course(sent_version, sent_charge, sent_first, sent_last, sent_chunk, sent_offset, sent_len, before_version, before_charge,
        before_first, before_last, batch, confirm, loaded_at, loaded_charge),
    error
FROM record ORDER BY key;
DROP TABLE record;
ALTER TABLE packed_record RENAME TO record;

-- What is to be sent, and what needs a person: pending, unknown, rejected, failed.
CREATE INDEX record_by_state ON record (state, usage_type, key)
    WHERE state = 1 OR state = 3 OR state = 5 OR state = 7;
-- A newer version waits behind an accepted one.
CREATE INDEX record_waiting ON record (usage_type, key) WHERE waiting IS NOT NULL;
