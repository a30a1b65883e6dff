//! Events and the service's failures, as they are stored.

use super::{Fail, PostgresStore, storable};
use crate::ledger::codes::{signed, small, unsigned, what};
use crate::ledger::core::news::NEWS;
use crate::ledger::store::{About, Events, NewEvent, Purpose};
use crate::ledger::{BatchId, Entry, Logged, Row, What};

const COLUMNS: &str = "id, at, what, version, batch, chunk, person, detail";

fn entry(row: &tokio_postgres::Row) -> Result<Entry, Fail> {
    Ok(Entry {
        seq: row.try_get(0)?,
        at: row.try_get(1)?,
        what: what(row.try_get(2)?)?,
        version: row.try_get::<_, Option<i64>>(3)?.map(small).transpose()?,
        batch: row.try_get::<_, Option<i64>>(4)?.map(BatchId),
        chunk: row.try_get(5)?,
        by: row.try_get(6)?,
        detail: row.try_get(7)?,
    })
}

impl PostgresStore {
    /// Histories of rows, their owners, and everything else that is asked of each row when all are checked.
    pub(super) fn learn_histories(&self, rows: &[Row]) -> Result<(), Fail> {
        let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let sql = format!("SELECT {COLUMNS}, key FROM event WHERE key = ANY($1) ORDER BY id");
        let events = self.query(sql, &[&keys])?;
        let pasts = self.query("SELECT kind, id, key FROM past WHERE key = ANY($1) ORDER BY id", &[&keys])?;
        let mut wires = Vec::new();
        for row in rows.iter().filter(|row| row.owns_identity()) {
            if let Some(wanted) = &row.wanted
                && let Some(resource) = self.names.borrow().id(&wanted.identity.resource)
            {
                wires.push(super::memory::wire(row.usage_type, resource, &wanted.identity));
            }
        }
        self.learn_wires(wires)?;
        let memory = &mut *self.memory.borrow_mut();
        for key in keys {
            memory.histories.insert(key.to_owned(), Vec::new());
            memory.pasts.insert(key.to_owned(), Vec::new());
        }
        for row in &events {
            let entry = entry(row)?;
            memory.histories.entry(row.try_get(8)?).or_default().push(entry);
        }
        for row in &pasts {
            let past = (row.try_get(0)?, row.try_get(1)?);
            memory.pasts.entry(row.try_get(2)?).or_default().push(past);
        }
        Ok(())
    }

    /// Which of these failures were seen before.
    pub(super) fn learn_failures(&self, failures: &[(&str, &str)]) -> Result<(), Fail> {
        if failures.is_empty() {
            return Ok(());
        }
        let pair = |(key, id): &(&str, &str)| (storable(key).into_owned(), storable(id).into_owned());
        let (keys, ids): (Vec<String>, Vec<String>) = failures.iter().map(pair).unzip();
        let found = self.query(
            "SELECT f.key, f.id FROM unnest($1::text[], $2::text[]) AS w (k, i) \
             JOIN failure f ON f.key = w.k AND f.id = w.i",
            &[&keys, &ids],
        )?;
        let memory = &mut *self.memory.borrow_mut();
        memory.failures.extend(keys.into_iter().zip(ids).map(|pair| (pair, false)));
        for row in &found {
            memory.failures.insert((row.try_get(0)?, row.try_get(1)?), true);
        }
        Ok(())
    }

    /// Writes events, and what rows no longer refer to.
    pub(super) fn write_events(&self) -> Result<(), Fail> {
        let (events, past, failures) = {
            let memory = &mut *self.memory.borrow_mut();
            let events = std::mem::take(&mut memory.events);
            (events, std::mem::take(&mut memory.past), std::mem::take(&mut memory.new_failures))
        };
        let sql = "COPY event (id, at, what, key, version, chunk, batch, detail, person) FROM STDIN BINARY";
        self.copy_in(sql, events)?;
        if !past.is_empty() {
            let keys: Vec<&str> = past.iter().map(|(key, _, _)| key.as_str()).collect();
            let kinds: Vec<i16> = past.iter().map(|(_, kind, _)| *kind).collect();
            let ids: Vec<i64> = past.iter().map(|(_, _, id)| *id).collect();
            self.execute(
                "INSERT INTO past (key, kind, id) SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[]) \
                 ON CONFLICT DO NOTHING",
                &[&keys, &kinds, &ids],
            )?;
        }
        if !failures.is_empty() {
            let (keys, ids): (Vec<String>, Vec<String>) = failures.into_iter().unzip();
            let sql = "INSERT INTO failure (key, id) SELECT * FROM unnest($1::text[], $2::text[]) \
                       ON CONFLICT DO NOTHING";
            self.execute(sql, &[&keys, &ids])?;
        }
        Ok(())
    }
}

impl Events for PostgresStore {
    fn note(&self, event: &NewEvent<'_>) -> Result<i64, Fail> {
        let next = self.memory.borrow().next_event;
        let id = match next {
            Some(id) => id,
            None => self.number("SELECT coalesce(max(id), 0) + 1 FROM event")?,
        };
        let memory = &mut *self.memory.borrow_mut();
        memory.next_event = Some(id.saturating_add(1));
        memory
            .events
            .row(9)
            .long(id)
            .long(event.at)
            .text(event.what.as_str())
            .text(event.key)
            .long(event.version.map(i64::from))
            .long(event.chunk)
            .long(event.batch)
            .text(event.detail)
            .text(event.person);
        Ok(id)
    }

    fn events(&self, about: About<'_>) -> Result<Vec<Entry>, Fail> {
        let shared = match &about {
            About::Key(key) => {
                if let Some(entries) = self.memory.borrow().histories.get(*key) {
                    return Ok(entries.clone());
                }
                let sql = format!("SELECT {COLUMNS} FROM event WHERE key = $1 ORDER BY id");
                let rows = self.list(sql, &[&storable(key).as_ref()])?;
                return rows.iter().map(entry).collect();
            }
            About::Chunk(id) => (0, *id),
            About::Batch(id) => (1, *id),
            About::Event(id) => (2, *id),
        };
        // In a question nothing changes, and thousands of rows share them.
        let question = self.purpose.get() == Purpose::Question;
        if question && let Some(entries) = self.memory.borrow().shared.get(&shared) {
            return Ok(entries.clone());
        }
        let wanted = match about {
            About::Chunk(_) => "key IS NULL AND chunk = $1",
            About::Batch(_) => "key IS NULL AND batch = $1",
            About::Event(_) | About::Key(_) => "id = $1",
        };
        let sql = format!("SELECT {COLUMNS} FROM event WHERE {wanted} ORDER BY id");
        let rows = self.list(sql, &[&shared.1])?;
        let entries: Vec<Entry> = rows.iter().map(entry).collect::<Result<_, _>>()?;
        if question {
            self.memory.borrow_mut().shared.insert(shared, entries.clone());
        }
        Ok(entries)
    }

    fn events_after(&self, after: i64, limit: usize) -> Result<Vec<Logged>, Fail> {
        let sql = format!("SELECT {COLUMNS}, key FROM event WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = self.list(sql, &[&after, &signed(limit as u64)])?;
        rows.iter().map(|row| Ok(Logged { key: row.try_get(8)?, entry: entry(row)? })).collect()
    }

    fn noted(&self, key: &str, what: What, detail: &str) -> Result<bool, Fail> {
        let sql = "SELECT 1 FROM event WHERE key = $1 AND what = $2 AND detail = $3 LIMIT 1";
        let (key, detail) = (storable(key), storable(detail));
        Ok(!self.list(sql, &[&key.as_ref(), &what.as_str(), &detail.as_ref()])?.is_empty())
    }

    fn news_after(&self, event: i64) -> Result<Vec<(What, u64)>, Fail> {
        let words = NEWS.map(What::as_str).to_vec();
        let sql = "SELECT what, count(DISTINCT key) FROM event WHERE id > $1 AND key IS NOT NULL \
                   AND what = ANY($2) GROUP BY what";
        let rows = self.list(sql, &[&event, &words])?;
        rows.iter().map(|row| Ok((what(row.try_get(0)?)?, unsigned(row.try_get(1)?)))).collect()
    }

    fn last_event(&self) -> Result<i64, Fail> {
        self.number("SELECT coalesce(max(id), 0) FROM event")
    }

    fn failure_known(&self, key: &str, id: &str) -> Result<bool, Fail> {
        let pair = (storable(key).into_owned(), storable(id).into_owned());
        if let Some(known) = self.memory.borrow().failures.get(&pair) {
            return Ok(*known);
        }
        self.learn_failures(&[(&pair.0, &pair.1)])?;
        Ok(self.memory.borrow().failures.get(&pair) == Some(&true))
    }

    fn remember_failure(&self, key: &str, id: &str) -> Result<(), Fail> {
        let memory = &mut *self.memory.borrow_mut();
        let pair = (storable(key).into_owned(), storable(id).into_owned());
        if memory.failures.insert(pair.clone(), true) != Some(true) {
            memory.new_failures.push(pair);
        }
        Ok(())
    }
}
