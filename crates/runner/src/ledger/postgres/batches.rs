//! Pieces of input with their payloads, and batches, as they are stored.

use super::{Fail, PostgresStore, short};
use crate::ledger::Awaiting;
use crate::ledger::codes::{signed, type_code, unsigned, usage_type};
use crate::ledger::store::{Batch, Batches, Names, NewBatch, Pieces, Purpose};
use std::collections::BTreeMap;

impl PostgresStore {
    fn numbers(&self, sql: &'static str) -> Result<BTreeMap<i64, i64>, Fail> {
        let rows = self.list(sql, &[])?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

impl Pieces for PostgresStore {
    fn new_chunk(&self, source: &str, rules_digest: u128, now: i64) -> Result<i64, Fail> {
        let sql = "INSERT INTO chunk (id, at, source, rules_digest, live) \
                   SELECT coalesce(max(id), 0) + 1, $1, $2, $3, 0 FROM chunk RETURNING id";
        let digest = rules_digest.to_be_bytes();
        let row = self.query_one(sql, &[&now, &self.id(source)?, &digest.as_slice()])?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    fn drop_chunk(&self, chunk: i64) -> Result<(), Fail> {
        self.execute("DELETE FROM chunk WHERE id = $1", &[&chunk])?;
        Ok(())
    }

    fn put_payloads(&self, chunk: i64, bytes: i64, packed: &[u8]) -> Result<(), Fail> {
        self.execute(
            "INSERT INTO payload (chunk, bytes, data) VALUES ($1, $2, $3)",
            &[&chunk, &bytes, &packed],
        )?;
        Ok(())
    }

    fn packed_payloads(&self, chunk: i64) -> Result<Option<(i64, Vec<u8>)>, Fail> {
        let row = self.query_one("SELECT bytes, data FROM payload WHERE chunk = $1", &[&chunk])?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    fn add_references(&self, changes: &BTreeMap<i64, i64>) -> Result<(), Fail> {
        if changes.is_empty() {
            return Ok(());
        }
        let (chunks, more): (Vec<i64>, Vec<i64>) =
            changes.iter().map(|(chunk, more)| (*chunk, *more)).unzip();
        let sql = "UPDATE chunk SET live = live + w.more FROM unnest($1::bigint[], $2::bigint[]) AS w (id, more) \
                   WHERE chunk.id = w.id RETURNING chunk.id, live";
        let mut done = Vec::new();
        for row in self.query(sql, &[&chunks, &more])? {
            if row.try_get::<_, i64>(1)? == 0 {
                done.push(row.try_get::<_, i64>(0)?);
            }
        }
        if !done.is_empty() {
            self.execute("DELETE FROM payload WHERE chunk = ANY($1)", &[&done])?;
        }
        Ok(())
    }

    fn references(&self) -> Result<BTreeMap<i64, i64>, Fail> {
        self.numbers("SELECT id, live FROM chunk WHERE live <> 0")
    }

    fn stored_payloads(&self) -> Result<BTreeMap<i64, i64>, Fail> {
        self.numbers("SELECT payload.chunk, live FROM payload JOIN chunk ON chunk.id = payload.chunk")
    }
}

impl Batches for PostgresStore {
    fn open_batch(&self, batch: &NewBatch<'_>) -> Result<i64, Fail> {
        let sql = "INSERT INTO batch \
                   (id, usage_type, records, leased_at, lease_until, earliest, members, waiting, runner) \
                   SELECT coalesce(max(id), 0) + 1, $1, $2, $3, $4, $3, $5, 0, $6 FROM batch RETURNING id";
        let (kind, records) = (short(type_code(batch.usage_type)), signed(batch.records as u64));
        let members = super::storable(batch.members);
        let runner = self.runner.borrow();
        let values: super::Params<'_> =
            &[&kind, &records, &batch.leased_at, &batch.lease_until, &members.as_ref(), &*runner];
        let row = self.query_one(sql, values)?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    fn set_earliest(&self, batch: i64, earliest: i64) -> Result<(), Fail> {
        self.execute("UPDATE batch SET earliest = $2 WHERE id = $1", &[&batch, &earliest])?;
        Ok(())
    }

    fn close_batch(&self, batch: i64, now: i64) -> Result<(), Fail> {
        self.execute("UPDATE batch SET members = NULL, settled_at = $2 WHERE id = $1", &[&batch, &now])?;
        Ok(())
    }

    fn batch(&self, batch: i64) -> Result<Option<Batch>, Fail> {
        let question = self.purpose.get() == Purpose::Question;
        if question && let Some(found) = self.memory.borrow().batches.get(&batch) {
            return Ok(found.clone());
        }
        let sql = "SELECT usage_type, settled_at IS NULL, members FROM batch WHERE id = $1";
        let found = match self.query_one(sql, &[&batch])? {
            None => None,
            Some(row) => Some(Batch {
                usage_type: usage_type(row.try_get::<_, i16>(0)?.into())?,
                open: row.try_get(1)?,
                members: row.try_get(2)?,
            }),
        };
        if question {
            self.memory.borrow_mut().batches.insert(batch, found.clone());
        }
        Ok(found)
    }

    fn open_batches(&self, expired_at: Option<i64>) -> Result<Vec<i64>, Fail> {
        let sql = "SELECT id FROM batch WHERE settled_at IS NULL AND ($1::bigint IS NULL OR lease_until <= $1) \
                   ORDER BY id";
        let rows = self.list(sql, &[&expired_at])?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    fn add_waiting(&self, changes: &BTreeMap<i64, i64>) -> Result<(), Fail> {
        if changes.is_empty() {
            return Ok(());
        }
        let (batches, more): (Vec<i64>, Vec<i64>) =
            changes.iter().map(|(batch, more)| (*batch, *more)).unzip();
        let sql = "UPDATE batch SET waiting = waiting + w.more FROM unnest($1::bigint[], $2::bigint[]) AS w (id, more) \
                   WHERE batch.id = w.id";
        self.execute(sql, &[&batches, &more])?;
        Ok(())
    }

    fn waiting(&self) -> Result<BTreeMap<i64, i64>, Fail> {
        self.numbers("SELECT id, waiting FROM batch WHERE waiting <> 0")
    }

    fn awaiting(&self) -> Result<Vec<Awaiting>, Fail> {
        let sql = "SELECT usage_type, sum(waiting)::bigint, min(earliest) FROM batch WHERE waiting > 0 \
                   GROUP BY usage_type ORDER BY usage_type";
        let mut awaiting = Vec::new();
        for row in self.list(sql, &[])? {
            awaiting.push(Awaiting {
                usage_type: usage_type(row.try_get::<_, i16>(0)?.into())?,
                records: unsigned(row.try_get(1)?),
                earliest_sent: row.try_get(2)?,
            });
        }
        Ok(awaiting)
    }
}
