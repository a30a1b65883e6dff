//! Pieces of input with their payloads, and batches, as they are stored.

use super::{Fail, SqliteStore};
use crate::ledger::Awaiting;
use crate::ledger::codes::{signed, type_code, unsigned, usage_type};
use crate::ledger::store::{Batch, Batches, Names, NewBatch, Pieces};
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;

impl SqliteStore {
    fn numbers(&self, sql: &str) -> Result<BTreeMap<i64, i64>, Fail> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

impl Pieces for SqliteStore {
    fn new_chunk(&self, source: &str, rules_digest: u128, now: i64) -> Result<i64, Fail> {
        let sql = "INSERT INTO chunk (at, source, rules_digest, live) VALUES (?1, ?2, ?3, 0)";
        let values = (now, self.id(source)?, rules_digest.to_be_bytes());
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(self.connection.last_insert_rowid())
    }

    fn drop_chunk(&self, chunk: i64) -> Result<(), Fail> {
        self.connection.prepare_cached("DELETE FROM chunk WHERE id = ?1")?.execute([chunk])?;
        Ok(())
    }

    fn put_payloads(&self, chunk: i64, bytes: i64, packed: &[u8]) -> Result<(), Fail> {
        let sql = "INSERT INTO payload (chunk, bytes, data) VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((chunk, bytes, packed))?;
        Ok(())
    }

    fn packed_payloads(&self, chunk: i64) -> Result<Option<(i64, Vec<u8>)>, Fail> {
        let sql = "SELECT bytes, data FROM payload WHERE chunk = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([chunk], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    fn add_references(&self, changes: &BTreeMap<i64, i64>) -> Result<(), Fail> {
        let sql = "UPDATE chunk SET live = live + ?2 WHERE id = ?1 RETURNING live";
        let mut update = self.connection.prepare_cached(sql)?;
        let mut delete = self.connection.prepare_cached("DELETE FROM payload WHERE chunk = ?1")?;
        for (chunk, references) in changes {
            let live: i64 = update.query_row((chunk, references), |row| row.get(0))?;
            if live == 0 {
                delete.execute([chunk])?;
            }
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

impl Batches for SqliteStore {
    fn open_batch(&self, batch: &NewBatch<'_>) -> Result<i64, Fail> {
        let sql = "INSERT INTO batch (usage_type, records, leased_at, lease_until, earliest, members, waiting) \
                   VALUES (?1, ?2, ?3, ?4, ?3, ?5, 0)";
        self.connection.prepare_cached(sql)?.execute((
            type_code(batch.usage_type),
            signed(batch.records as u64),
            batch.leased_at,
            batch.lease_until,
            batch.members,
        ))?;
        Ok(self.connection.last_insert_rowid())
    }

    fn set_earliest(&self, batch: i64, earliest: i64) -> Result<(), Fail> {
        let sql = "UPDATE batch SET earliest = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((batch, earliest))?;
        Ok(())
    }

    fn close_batch(&self, batch: i64, now: i64) -> Result<(), Fail> {
        let sql = "UPDATE batch SET members = NULL, settled_at = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((batch, now))?;
        Ok(())
    }

    fn batch(&self, batch: i64) -> Result<Option<Batch>, Fail> {
        let sql = "SELECT usage_type, settled_at IS NULL, members FROM batch WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([batch])?;
        let Some(row) = found.next()? else { return Ok(None) };
        let (open, members) = (row.get(1)?, row.get(2)?);
        Ok(Some(Batch { usage_type: usage_type(row.get(0)?)?, open, members }))
    }

    fn open_batches(&self, expired_at: Option<i64>) -> Result<Vec<i64>, Fail> {
        let sql =
            "SELECT id FROM batch WHERE settled_at IS NULL AND (?1 IS NULL OR lease_until <= ?1) ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map([expired_at], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn add_waiting(&self, changes: &BTreeMap<i64, i64>) -> Result<(), Fail> {
        let sql = "UPDATE batch SET waiting = waiting + ?2 WHERE id = ?1";
        let mut update = self.connection.prepare_cached(sql)?;
        for (batch, rows) in changes {
            update.execute((batch, rows))?;
        }
        Ok(())
    }

    fn waiting(&self) -> Result<BTreeMap<i64, i64>, Fail> {
        self.numbers("SELECT id, waiting FROM batch WHERE waiting <> 0")
    }

    fn awaiting(&self) -> Result<Vec<Awaiting>, Fail> {
        let sql = "SELECT usage_type, sum(waiting), min(earliest) FROM batch WHERE waiting > 0 \
                   GROUP BY usage_type ORDER BY usage_type";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([])?;
        let mut awaiting = Vec::new();
        while let Some(row) = found.next()? {
            awaiting.push(Awaiting {
                usage_type: usage_type(row.get(0)?)?,
                records: unsigned(row.get(1)?),
                earliest_sent: row.get(2)?,
            });
        }
        Ok(awaiting)
    }
}
