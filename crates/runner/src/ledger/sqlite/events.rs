//! Events and the service's failures, as they are stored.

use super::witness::Newest;
use super::{Fail, SqliteStore};
use crate::ledger::codes::{signed, small, unsigned, what};
use crate::ledger::core::news::NEWS;
use crate::ledger::store::{About, Events, NewEvent};
use crate::ledger::{BatchId, Entry, Logged, What};
use rusqlite::{OptionalExtension, ToSql};

const COLUMNS: &str = "id, at, what, version, batch, chunk, person, detail";

/// Reads an event of [`COLUMNS`].
fn entry(row: &rusqlite::Row<'_>) -> Result<Entry, Fail> {
    Ok(Entry {
        seq: row.get(0)?,
        at: row.get(1)?,
        what: what(&row.get::<_, String>(2)?)?,
        version: row.get::<_, Option<i64>>(3)?.map(small).transpose()?,
        batch: row.get::<_, Option<i64>>(4)?.map(BatchId),
        chunk: row.get(5)?,
        by: row.get(6)?,
        detail: row.get(7)?,
    })
}

impl Events for SqliteStore {
    fn note(&self, event: &NewEvent<'_>) -> Result<i64, Fail> {
        let sql = "INSERT INTO event (at, what, key, version, chunk, batch, detail, person) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.connection.prepare_cached(sql)?.execute((
            event.at,
            event.what.as_str(),
            event.key,
            event.version,
            event.chunk,
            event.batch,
            event.detail,
            event.person,
        ))?;
        let number = self.connection.last_insert_rowid();
        self.noted.set(Some(Newest { event: number, at: event.at }));
        Ok(number)
    }

    fn events(&self, about: About<'_>) -> Result<Vec<Entry>, Fail> {
        let (wanted, value): (_, &dyn ToSql) = match &about {
            About::Key(key) => ("key = ?1", key),
            About::Chunk(chunk) => ("key IS NULL AND chunk = ?1", chunk),
            About::Batch(batch) => ("key IS NULL AND batch = ?1", batch),
            About::Event(event) => ("id = ?1", event),
        };
        let sql = format!("SELECT {COLUMNS} FROM event WHERE {wanted} ORDER BY id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query([value])?;
        let mut entries = Vec::new();
        while let Some(row) = found.next()? {
            entries.push(entry(row)?);
        }
        Ok(entries)
    }

    fn events_after(&self, after: i64, limit: usize) -> Result<Vec<Logged>, Fail> {
        let sql = format!("SELECT {COLUMNS}, key FROM event WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query((after, signed(limit as u64)))?;
        let mut events = Vec::new();
        while let Some(row) = found.next()? {
            events.push(Logged { key: row.get("key")?, entry: entry(row)? });
        }
        Ok(events)
    }

    fn noted(&self, key: &str, what: What, detail: &str) -> Result<bool, Fail> {
        let sql = "SELECT 1 FROM event WHERE key = ?1 AND what = ?2 AND detail = ?3";
        Ok(self.connection.prepare_cached(sql)?.exists((key, what.as_str(), detail))?)
    }

    fn news_after(&self, event: i64) -> Result<Vec<(What, u64)>, Fail> {
        let words = NEWS.map(|news| format!("'{}'", news.as_str())).join(", ");
        let sql = format!(
            "SELECT what, count(DISTINCT key) FROM event WHERE id > ?1 AND key IS NOT NULL \
             AND what IN ({words}) GROUP BY what"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query([event])?;
        let mut news = Vec::new();
        while let Some(row) = found.next()? {
            news.push((what(&row.get::<_, String>(0)?)?, unsigned(row.get(1)?)));
        }
        Ok(news)
    }

    fn last_event(&self) -> Result<i64, Fail> {
        self.number("SELECT coalesce(max(id), 0) FROM event")
    }

    fn failure_known(&self, key: &str, id: &str) -> Result<bool, Fail> {
        let sql = "SELECT 1 FROM failure WHERE key = ?1 AND id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found: Option<i64> = statement.query_row((key, id), |row| row.get(0)).optional()?;
        Ok(found.is_some())
    }

    fn remember_failure(&self, key: &str, id: &str) -> Result<(), Fail> {
        let sql = "INSERT OR IGNORE INTO failure (key, id) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute((key, id))?;
        Ok(())
    }
}
