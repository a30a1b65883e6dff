-- Schema 3.

-- What is to be sent, and what needs a person: pending, unknown, rejected, failed. Not `state IN (...)`: for that SQLite makes a
-- table in memory for every row that is written, and another for every row that is changed (EXPLAIN: OpenEphemeral), which cost
-- more than the index itself.
DROP INDEX record_by_state;
CREATE INDEX record_by_state ON record (state, usage_type, key)
    WHERE state = 1 OR state = 3 OR state = 5 OR state = 7;

-- Who holds which wire identity: found by what tells them apart first, also without their resource.
CREATE TABLE identity_by_id (
    local_record_id TEXT NOT NULL,
    submit          INTEGER NOT NULL,
    resource        INTEGER NOT NULL,
    usage_type      INTEGER NOT NULL,
    key             TEXT NOT NULL,
    PRIMARY KEY (local_record_id, submit, resource, usage_type)
) STRICT, WITHOUT ROWID;
INSERT INTO identity_by_id SELECT local_record_id, submit, resource, usage_type, key FROM identity ORDER BY 1, 2, 3, 4;
DROP TABLE identity;
ALTER TABLE identity_by_id RENAME TO identity;

-- Open questions in the order of their keys.
CREATE INDEX hold_open_by_key ON hold (key) WHERE closed_at IS NULL;
