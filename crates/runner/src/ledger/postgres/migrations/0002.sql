-- Schema 2. Identities are found by what tells them apart first, also without their resource; open questions in the order
-- of their keys.
ALTER TABLE identity DROP CONSTRAINT identity_pkey;
ALTER TABLE identity ADD PRIMARY KEY (local_record_id, submit, resource, usage_type);
CREATE INDEX hold_open_by_key ON hold (key) WHERE closed_at IS NULL;
