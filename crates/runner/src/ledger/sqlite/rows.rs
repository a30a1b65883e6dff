//! Rows as they are stored, one at a time and in lists, and what they add up to.

use super::packed::{Course, Packed, damaged, digests};
use super::writing::waiting_since;
use super::{Fail, SqliteStore};
use crate::ledger::codes::{charge, signed, state, state_code, type_code, usage_type};
use crate::ledger::flags::Flags;
use crate::ledger::store::{Fresh, Glance, Names, Past, Place, Rows};
use crate::ledger::{Group, LedgerError, List, Row, State};
use amie_usage::{Decimal, UsageType};
use rusqlite::{ErrorCode, OptionalExtension};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Rows of one state and type in key order, by a partial index: the state is part of the text, so that it is seen to fit.
pub(super) fn ready(state: State) -> String {
    format!(
        "FROM record WHERE state = {} AND usage_type = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        state_code(state)
    )
}

/// Rows whose newer version has waited for long enough.
pub(super) const QUIET: &str =
    "FROM record WHERE waiting IS NOT NULL AND usage_type = ?1 AND waiting <= ?2 ORDER BY key LIMIT ?3";

/// All columns of `record`, in the order that [`SqliteStore::read`] expects.
pub(super) const COLUMNS: &str = "key, state, usage_type, flags, charge, waiting, body, course, error";

static SELECT: LazyLock<String> = LazyLock::new(|| format!("SELECT {COLUMNS} FROM record WHERE key = ?1"));

impl SqliteStore {
    /// Reads a row of [`COLUMNS`]: by their places, since looking them up by name costs twenty times as much.
    pub(super) fn read(&self, row: &rusqlite::Row<'_>) -> Result<Row, Fail> {
        let text = |at: usize| row.get_ref(at)?.as_str_or_null().map_err(rusqlite::Error::from);
        let key: String = row.get(0)?;
        let body = row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?;
        let packed = Packed::read(&key, body)?;
        let sum = text(4)?.map(charge).transpose()?;
        let mut read = packed.row(key, usage_type(row.get(2)?)?, sum, |id| self.name(id))?;
        let course = row.get_ref(7)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        if let Some(course) = course {
            Course::read(course, &mut read)?;
        }
        let flags = Flags(row.get(3)?);
        let read = Row {
            state: state(row.get(1)?)?,
            resend: flags.resend(),
            taken: flags.taken(),
            drifted: flags.drifted(),
            on_hold: flags.on_hold(),
            error: row.get(8)?,
            ..read
        };
        // By this it is found, so that it is not to say anything else.
        if row.get::<_, Option<i64>>(5)? != waiting_since(&read) {
            return Err(damaged(&read.key).into());
        }
        Ok(read)
    }

    fn rows_of(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Row>, Fail> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(values)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(self.read(row)?);
        }
        Ok(rows)
    }
}

impl Rows for SqliteStore {
    // Few looks for what is known.
    const TOGETHER: usize = 1_000;

    fn row(&self, key: &str) -> Result<Option<Row>, Fail> {
        let mut statement = self.connection.prepare_cached(&SELECT)?;
        let mut rows = statement.query([key])?;
        rows.next()?.map(|row| self.read(row)).transpose()
    }

    fn glances(
        &self,
        ranges: &[(&str, String)],
        limit: usize,
        mut each: impl FnMut(&str, Glance),
    ) -> Result<bool, Fail> {
        // The limit is part of the text: SQLite compiles a statement anew for each other value of a limit that is bound.
        let sql = format!(
            "SELECT key, body, state, flags FROM record WHERE key BETWEEN ?1 AND ?2 \
             ORDER BY key LIMIT {}",
            signed(limit as u64).saturating_add(1)
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut complete = true;
        for (first, last) in ranges {
            let mut found = statement.query((first, last))?;
            let mut rows = 0;
            while let Some(row) = found.next()? {
                rows += 1;
                if rows > limit {
                    complete = false;
                    break;
                }
                let key = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                let body = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                let (source_digest, digest) = digests(key, body)?;
                let (state, flags) = (state(row.get(2)?)?, Flags(row.get(3)?));
                let (on_hold, drifted) = (flags.on_hold(), flags.drifted());
                each(key, Glance { digest, source_digest, state, on_hold, drifted });
            }
        }
        Ok(complete)
    }

    fn insert_fresh(&self, fresh: &[Fresh<'_>]) -> Result<bool, Fail> {
        let run = |sql: &str| self.connection.prepare_cached(sql)?.execute([]);
        run("SAVEPOINT fresh")?;
        match self.insert_together(fresh) {
            Ok(()) => {
                run("RELEASE fresh")?;
                Ok(true)
            }
            Err(Fail::Sql(error)) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                run("ROLLBACK TO fresh")?;
                run("RELEASE fresh")?;
                Ok(false)
            }
            Err(fail) => Err(fail),
        }
    }

    fn put(&self, before: Option<&Row>, after: &Row) -> Result<(), Fail> {
        self.write_row(before, after)
    }

    fn keep_past(&self, key: &str, kind: Past, id: i64) -> Result<(), Fail> {
        let sql = "INSERT OR IGNORE INTO past (key, kind, id) VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((key, past_code(kind), id))?;
        Ok(())
    }

    fn past(&self, key: &str, kind: Past) -> Result<Vec<i64>, Fail> {
        let sql = "SELECT id FROM past WHERE key = ?1 AND kind = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map((key, past_code(kind)), |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn in_state(
        &self,
        state: State,
        usage_type: UsageType,
        after: &str,
        limit: usize,
        mut take: impl FnMut(Row) -> bool,
    ) -> Result<(), Fail> {
        let sql = format!("SELECT {COLUMNS} {}", ready(state));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query((type_code(usage_type), after, signed(limit as u64)))?;
        while let Some(row) = found.next()? {
            if !take(self.read(row)?) {
                break;
            }
        }
        Ok(())
    }

    fn quiet(&self, usage_type: UsageType, since: i64, limit: usize) -> Result<Vec<Row>, Fail> {
        let sql = format!("SELECT {COLUMNS} {QUIET}");
        self.rows_of(&sql, (type_code(usage_type), since, signed(limit as u64)))
    }

    fn keys_with_error(&self, state: State, error: Option<&str>) -> Result<Vec<String>, Fail> {
        let sql = format!(
            "SELECT key FROM record WHERE state = {} AND (?1 IS NULL OR error = ?1) ORDER BY usage_type, key",
            state_code(state)
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map([error], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn rows_after(&self, project: Option<i64>, after: &str, limit: usize) -> Result<Vec<Row>, Fail> {
        let project = project.map(|id| self.name(id)).transpose()?;
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM record WHERE key > ?1 ORDER BY key"))?;
        let mut found = statement.query([after])?;
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(row) = found.next()?
        {
            let row = self.read(row)?;
            if project.is_none() || row.wanted.as_ref().map(|wanted| &wanted.project) == project.as_ref() {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn rows_of_job(&self, after: &str, before: &str, limit: usize) -> Result<Vec<Row>, Fail> {
        let sql =
            format!("SELECT {COLUMNS} FROM record WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT {limit}");
        self.rows_of(&sql, (after, before))
    }

    fn every_row(&self, mut each: impl FnMut(Row) -> Result<bool, Fail>) -> Result<(), Fail> {
        let sql = format!("SELECT {COLUMNS} FROM record ORDER BY key");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !each(self.read(row)?)? {
                break;
            }
        }
        Ok(())
    }

    fn row_groups(&self, list: List, examples: usize) -> Result<Vec<Group>, Fail> {
        let state = state_code(match list {
            List::Failed => State::Failed,
            List::Unknown => State::Unknown,
            List::Rejected | List::Holds | List::Quarantine => State::Rejected,
        });
        let rows = format!("FROM record WHERE state = {state}");
        if list == List::Unknown {
            return self.groups(
                &format!(
                    "SELECT CASE usage_type WHEN 0 THEN 'Compute' WHEN 1 THEN 'Storage' ELSE 'Adjustment' END, \
                     count(*), usage_type {rows} GROUP BY usage_type"
                ),
                &format!("SELECT key {rows} AND usage_type = ?1 ORDER BY key LIMIT ?2"),
                examples,
            );
        }
        self.groups(
            &format!("SELECT coalesce(error, ''), count(*), coalesce(error, '') {rows} GROUP BY 1"),
            &format!("SELECT key {rows} AND coalesce(error, '') = ?1 ORDER BY key LIMIT ?2"),
            examples,
        )
    }

    fn tallies(&self) -> Result<BTreeMap<Place, (i64, Decimal)>, Fail> {
        let sql = "SELECT usage_type, resource, project, state, records, charge FROM tally \
                   WHERE records <> 0 OR charge <> '0'";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([])?;
        let mut tallies = BTreeMap::new();
        while let Some(row) = found.next()? {
            let place = (usage_type(row.get(0)?)?, row.get(1)?, row.get(2)?, state(row.get(3)?)?);
            let sum = charge(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?)?;
            tallies.insert(place, (row.get(4)?, sum));
        }
        Ok(tallies)
    }

    fn add_to_tallies(&self, changes: &BTreeMap<Place, (i64, Decimal)>) -> Result<(), Fail> {
        let select = "SELECT records, charge FROM tally \
                      WHERE usage_type = ?1 AND resource = ?2 AND project = ?3 AND state = ?4";
        let write = "INSERT INTO tally (usage_type, resource, project, state, records, charge) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET records = ?5, charge = ?6";
        let mut select = self.connection.prepare_cached(select)?;
        let mut write = self.connection.prepare_cached(write)?;
        for ((usage_type, resource, project, state), (records, sum)) in changes {
            let (usage_type, state) = (type_code(*usage_type), state_code(*state));
            let found: Option<(i64, String)> = select
                .query_row((usage_type, resource, project, state), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (before, sum_before) = match &found {
                Some((records, text)) => (*records, charge(text)?),
                None => (0, Decimal::ZERO),
            };
            let sum = sum_before.checked_add(*sum).ok_or(LedgerError::ChargeOverflow)?;
            write.execute((
                usage_type,
                resource,
                project,
                state,
                before.saturating_add(*records),
                sum.to_string(),
            ))?;
        }
        Ok(())
    }
}

/// Kinds of references in `past`.
const fn past_code(kind: Past) -> i64 {
    match kind {
        Past::Batch => 0,
        Past::Confirm => 1,
        Past::Source => 2,
    }
}
