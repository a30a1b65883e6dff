//! Names by number, wire identities, and single values, as they are stored.

use super::{Fail, SqliteStore};
use crate::ledger::codes::{followers, follows, signed, type_code, unsigned};
use crate::ledger::row::Identity;
use crate::ledger::store::{Identities, Names};
use crate::ledger::{Carried, LedgerError, Progress};
use amie_usage::UsageType;
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Names for SqliteStore {
    fn id(&self, text: &str) -> Result<i64, Fail> {
        if let Some(id) = self.known_id(text)? {
            return Ok(id);
        }
        self.connection.prepare_cached("INSERT INTO name (text) VALUES (?1)")?.execute([text])?;
        let id = self.connection.last_insert_rowid();
        self.names.borrow_mut().remember(id, text.into());
        Ok(id)
    }

    fn known_id(&self, text: &str) -> Result<Option<i64>, Fail> {
        if let Some(id) = self.names.borrow().id(text) {
            return Ok(Some(id));
        }
        let sql = "SELECT id FROM name WHERE text = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([text], |row| row.get(0)).optional()?;
        if let Some(id) = found {
            self.names.borrow_mut().remember(id, text.into());
        }
        Ok(found)
    }

    fn name(&self, id: i64) -> Result<Arc<str>, Fail> {
        if let Some(text) = self.names.borrow().text(id) {
            return Ok(text);
        }
        let sql = "SELECT text FROM name WHERE id = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
        let text: Arc<str> = found.ok_or_else(|| LedgerError::Inconsistent(format!("no name {id}")))?;
        self.names.borrow_mut().remember(id, Arc::clone(&text));
        Ok(text)
    }

    fn meta(&self, name: &str) -> Result<Option<String>, Fail> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?)
    }

    fn set_meta(&self, name: &str, value: &str) -> Result<(), Fail> {
        let sql =
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
        self.connection.prepare_cached(sql)?.execute((name, value))?;
        Ok(())
    }

    fn progress(&self, source: &str, path: &str) -> Result<Option<Progress>, Fail> {
        let Some(source) = self.known_id(source)? else { return Ok(None) };
        let sql = "SELECT offset, frames, complete FROM progress WHERE source = ?1 AND path = ?2";
        let found = self.connection.prepare_cached(sql)?.query_row((source, path), |row| {
            Ok(Progress {
                path: path.to_owned(),
                offset: unsigned(row.get(0)?),
                frames: unsigned(row.get(1)?),
                complete: row.get(2)?,
            })
        });
        Ok(found.optional()?)
    }

    fn set_progress(&self, source: &str, progress: &Progress, now: i64) -> Result<(), Fail> {
        let sql = "INSERT INTO progress (source, path, offset, frames, complete, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE \
                   SET offset = ?3, frames = ?4, complete = ?5, at = ?6";
        self.connection.prepare_cached(sql)?.execute((
            self.id(source)?,
            &progress.path,
            signed(progress.offset),
            signed(progress.frames),
            progress.complete,
            now,
        ))?;
        Ok(())
    }

    fn forget_progress(&self, before: i64) -> Result<u64, Fail> {
        let sql = "DELETE FROM progress WHERE at < ?1";
        Ok(self.connection.prepare_cached(sql)?.execute([before])? as u64)
    }

    fn carried(&self, source: &str, point: &str) -> Result<Option<Carried>, Fail> {
        let Some(source) = self.known_id(source)? else { return Ok(None) };
        let sql = "SELECT after, state FROM carried WHERE source = ?1 AND point = ?2";
        let found = self.connection.prepare_cached(sql)?.query_row((source, point), |row| {
            Ok(Carried { point: point.to_owned(), after: row.get(0)?, state: row.get(1)? })
        });
        Ok(found.optional()?)
    }

    fn set_carried(&self, source: &str, carried: &Carried, now: i64) -> Result<(), Fail> {
        // Most nights it is what it was, and writing it again every week is enough to see that it is still wanted.
        let sql = "INSERT INTO carried (source, point, after, at, state) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET after = ?3, at = ?4, state = ?5 \
                   WHERE state <> ?5 OR after <> ?3 OR at < ?4 - 604800";
        let Carried { point, after, state } = carried;
        self.connection.prepare_cached(sql)?.execute((self.id(source)?, point, after, now, state))?;
        Ok(())
    }

    fn drop_carried(&self, source: &str, before: i64) -> Result<(), Fail> {
        let sql = "DELETE FROM carried WHERE source = ?1 AND at < ?2";
        self.connection.prepare_cached(sql)?.execute((self.id(source)?, before))?;
        Ok(())
    }
}

impl Identities for SqliteStore {
    fn owner(&self, usage_type: UsageType, identity: &Identity) -> Result<Option<String>, Fail> {
        let Some(resource) = self.known_id(&identity.resource)? else { return Ok(None) };
        let sql = "SELECT key FROM identity \
                   WHERE usage_type = ?1 AND resource = ?2 AND local_record_id = ?3 AND submit = ?4";
        let wanted = (type_code(usage_type), resource, &identity.local_record_id, identity.submit);
        Ok(self.connection.prepare_cached(sql)?.query_row(wanted, |row| row.get(0)).optional()?)
    }

    fn give(&self, usage_type: UsageType, identity: &Identity, key: &str) -> Result<(), Fail> {
        let sql = "INSERT INTO identity (usage_type, resource, local_record_id, submit, key) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute((
            type_code(usage_type),
            self.id(&identity.resource)?,
            &identity.local_record_id,
            identity.submit,
            key,
        ))?;
        Ok(())
    }

    fn take(&self, usage_type: UsageType, identity: &Identity) -> Result<(), Fail> {
        let sql = "DELETE FROM identity \
                   WHERE usage_type = ?1 AND resource = ?2 AND local_record_id = ?3 AND submit = ?4";
        self.connection.prepare_cached(sql)?.execute((
            type_code(usage_type),
            self.id(&identity.resource)?,
            &identity.local_record_id,
            identity.submit,
        ))?;
        Ok(())
    }

    fn shown(
        &self,
        usage_type: UsageType,
        resource: &str,
        local_record_id: &str,
        submit: Option<i64>,
    ) -> Result<Vec<String>, Fail> {
        let Some(resource) = self.known_id(resource)? else { return Ok(Vec::new()) };
        let sql = "SELECT key FROM identity WHERE usage_type = ?1 AND resource = ?2 AND local_record_id = ?3 \
                   AND (?4 IS NULL OR submit = ?4) ORDER BY submit LIMIT 1000";
        let mut statement = self.connection.prepare_cached(sql)?;
        let wanted = (type_code(usage_type), resource, local_record_id, submit);
        let found = statement.query_map(wanted, |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn with_record_id(&self, id: &str, prefix: bool, limit: usize) -> Result<BTreeSet<String>, Fail> {
        let most = signed(limit as u64);
        let sql = "SELECT key FROM identity WHERE local_record_id = ?1 LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut keys: BTreeSet<String> =
            statement.query_map((id, most), |row| row.get(0))?.collect::<Result<_, _>>()?;
        let ranges = if prefix { followers(id).to_vec() } else { Vec::new() };
        let sql = "SELECT local_record_id, key FROM identity WHERE local_record_id >= ?1 AND local_record_id < ?2 \
                   ORDER BY local_record_id LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (from, to) in ranges {
            let mut found = statement.query((from, to, most))?;
            while let Some(row) = found.next()? {
                if follows(&row.get::<_, String>(0)?, id) {
                    keys.insert(row.get(1)?);
                }
            }
        }
        Ok(keys.into_iter().take(limit).collect())
    }

    fn identities(&self) -> Result<i64, Fail> {
        self.number("SELECT count(*) FROM identity")
    }
}
