//! Rows as they are stored: read, written, fifty new ones at a time; lists of them, and what they add up to.

use super::{Fail, SqliteStore};
use crate::ledger::codes::{
    charge, digest, signed, small, state, state_code, type_code, unsigned, usage_type,
};
use crate::ledger::row::{Identity, PayloadRef, Sent, Wanted};
use crate::ledger::store::{Fresh, Incoming, Names, Past, Place, Rows};
use crate::ledger::{Group, LedgerError, List, Row, SourceFacts, State};
use amie_usage::{Decimal, UsageType};
use rusqlite::{ErrorCode, OptionalExtension, params};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Rows a statement: measured 371 ns a row against 652 with one.
const GROUP: usize = 50;

/// Rows of one state in key order, by a partial index.
pub(super) const READY: &str = "FROM record WHERE state IN (1, 3, 5, 7) AND state = ?1 AND usage_type = ?2 \
    AND key > ?3 ORDER BY key LIMIT ?4";

/// Rows whose newer version has waited for long enough.
pub(super) const QUIET: &str = "FROM record WHERE state = 4 AND version > sent_version AND usage_type = ?1 \
    AND sent_last <= ?2 ORDER BY key LIMIT ?3";

/// All columns of `record`, in the order that [`SqliteStore::read`] expects.
pub(super) const COLUMNS: &str = "key, state, usage_type, version, source_digest, flags, file, line, resource, \
    local_record_id, submit, username, project, charge, digest, start, end, elapsed, requeued, chunk, offset, len, born, \
    sent_version, sent_charge, sent_first, sent_last, sent_chunk, sent_offset, sent_len, before_version, before_charge, \
    before_first, before_last, batch, confirm, loaded_at, loaded_charge, error";

const RESEND: i64 = 1;
const TAKEN: i64 = 2;
const DRIFTED: i64 = 4;
const ON_HOLD: i64 = 8;

/// The columns of a row, one after the other: looking them up by name costs twenty times as much.
struct Columns<'r, 's> {
    row: &'r rusqlite::Row<'s>,
    at: usize,
}

impl<'r> Columns<'r, '_> {
    fn next<T: rusqlite::types::FromSql>(&mut self) -> Result<T, Fail> {
        self.at += 1;
        Ok(self.row.get(self.at - 1)?)
    }

    fn skip(&mut self, columns: usize) {
        self.at += columns;
    }

    fn text(&mut self) -> Result<&'r str, Fail> {
        self.at += 1;
        Ok(self.row.get_ref(self.at - 1)?.as_str().map_err(rusqlite::Error::from)?)
    }

    fn blob(&mut self) -> Result<&'r [u8], Fail> {
        self.at += 1;
        Ok(self.row.get_ref(self.at - 1)?.as_blob().map_err(rusqlite::Error::from)?)
    }

    /// Chunk, offset, length; nothing where there is no chunk.
    fn payload(&mut self) -> Result<Option<PayloadRef>, Fail> {
        let Some(chunk) = self.next()? else {
            self.skip(2);
            return Ok(None);
        };
        Ok(Some(PayloadRef { chunk, offset: small(self.next()?)?, len: small(self.next()?)? }))
    }

    /// Version, charge, first and last time; nothing where there is no version.
    fn sent(&mut self) -> Result<Option<Sent>, Fail> {
        let Some(version) = self.next()? else {
            self.skip(3);
            return Ok(None);
        };
        let (version, charge) = (small(version)?, charge(self.text()?)?);
        Ok(Some(Sent { version, charge, first_at: self.next()?, last_at: self.next()? }))
    }

    /// Time and charge of a load.
    fn loaded(&mut self) -> Result<Option<(i64, Decimal)>, Fail> {
        let Some(at) = self.next()? else {
            self.skip(1);
            return Ok(None);
        };
        Ok(Some((at, charge(self.text()?)?)))
    }
}

/// Statements over all columns, made once.
static SELECT: LazyLock<String> = LazyLock::new(|| format!("SELECT {COLUMNS} FROM record WHERE key = ?1"));
static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let assignments: Vec<String> =
        (1..).zip(COLUMNS.split(',')).skip(1).map(|(at, name)| format!("{name} = ?{at}")).collect();
    format!("UPDATE record SET {} WHERE key = ?1", assignments.join(", "))
});
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let values = vec!["?"; COLUMNS.split(',').count()].join(", ");
    format!("INSERT INTO record ({COLUMNS}) VALUES ({values})")
});

/// A multi-row INSERT: the one of the usual size is made once.
struct GroupInsert {
    head: &'static str,
    values: &'static str,
    usual: LazyLock<String>,
}

enum Statement<'a> {
    Usual(&'a str),
    Other(String),
}

impl GroupInsert {
    fn sql(&self, rows: usize) -> Statement<'_> {
        if rows == GROUP {
            Statement::Usual(&self.usual)
        } else {
            Statement::Other(build(self.head, self.values, rows))
        }
    }
}

fn build(head: &str, values: &str, rows: usize) -> String {
    format!("{head} VALUES {}", vec![values; rows].join(", "))
}

const RECORD_HEAD: &str = "INSERT INTO record (key, state, usage_type, version, source_digest, flags, file, line, \
    resource, local_record_id, submit, username, project, charge, digest, start, end, elapsed, requeued, chunk, offset, \
    len, born)";
const RECORD_VALUES: &str = "(?, 1, ?, 1, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const IDENTITY_HEAD: &str = "INSERT INTO identity (usage_type, resource, local_record_id, submit, key)";
const IDENTITY_VALUES: &str = "(?, ?, ?, ?, ?)";

static RECORDS: GroupInsert = GroupInsert {
    head: RECORD_HEAD,
    values: RECORD_VALUES,
    usual: LazyLock::new(|| build(RECORD_HEAD, RECORD_VALUES, GROUP)),
};
static IDENTITIES: GroupInsert = GroupInsert {
    head: IDENTITY_HEAD,
    values: IDENTITY_VALUES,
    usual: LazyLock::new(|| build(IDENTITY_HEAD, IDENTITY_VALUES, GROUP)),
};

impl SqliteStore {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(&self, row: &rusqlite::Row<'_>) -> Result<Row, Fail> {
        let mut columns = Columns { row, at: 0 };
        let key: String = columns.next()?;
        let missing =
            || -> Fail { LedgerError::Inconsistent(format!("\"{key}\" lacks a part of itself")).into() };
        let state = state(columns.next()?)?;
        let usage_type = usage_type(columns.next()?)?;
        let version = small(columns.next()?)?;
        let source_digest = digest(columns.blob()?)?;
        let flags: i64 = columns.next()?;
        let file = self.name(columns.next()?)?;
        let line = unsigned(columns.next()?);
        let wanted = if version == 0 {
            columns.skip(11);
            let payload = columns.payload()?;
            payload.map_or(Ok(None), |_| Err(missing()))?
        } else {
            Some(Wanted {
                identity: Identity {
                    resource: self.name(columns.next()?)?,
                    local_record_id: columns.next()?,
                    submit: columns.next()?,
                },
                username: self.name(columns.next()?)?,
                project: self.name(columns.next()?)?,
                charge: charge(columns.text()?)?,
                digest: digest(columns.blob()?)?,
                facts: SourceFacts {
                    start: columns.next()?,
                    end: columns.next()?,
                    elapsed: unsigned(columns.next()?),
                    requeued: columns.next()?,
                },
                payload: columns.payload()?,
            })
        };
        Ok(Row {
            usage_type,
            state,
            version,
            wanted,
            source_digest,
            born: columns.next()?,
            sent: columns.sent()?,
            sent_payload: columns.payload()?,
            before: columns.sent()?,
            resend: flags & RESEND != 0,
            taken: flags & TAKEN != 0,
            drifted: flags & DRIFTED != 0,
            on_hold: flags & ON_HOLD != 0,
            batch: columns.next()?,
            confirm: columns.next()?,
            loaded: columns.loaded()?,
            error: columns.next()?,
            file,
            line,
            key,
        })
    }

    /// True where the ledger has no key from `first` to `last`.
    fn none_between(&self, first: &str, last: &str) -> Result<bool, Fail> {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM record WHERE key BETWEEN ?1 AND ?2)";
        Ok(self.connection.prepare_cached(sql)?.query_row((first, last), |row| row.get(0))?)
    }

    /// Takes the wire identities of new records; false where one is taken (the statement then did nothing at all).
    fn insert_identities(&self, fresh: &[Fresh<'_>]) -> Result<bool, Fail> {
        let sql = IDENTITIES.sql(fresh.len());
        let mut statement = match &sql {
            Statement::Usual(sql) => self.connection.prepare_cached(sql)?,
            Statement::Other(sql) => self.connection.prepare_cached(sql)?,
        };
        let mut at = 0;
        for Fresh { incoming, resource, .. } in fresh {
            let candidate = incoming.candidate;
            let mut bind = |value: &dyn rusqlite::ToSql| {
                at += 1;
                statement.raw_bind_parameter(at, value)
            };
            bind(&type_code(candidate.usage_type))?;
            bind(resource)?;
            bind(&candidate.local_record_id)?;
            bind(&candidate.submit)?;
            bind(&candidate.key)?;
        }
        match statement.raw_execute() {
            Ok(_) => Ok(true),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Rows for SqliteStore {
    const TOGETHER: usize = GROUP;

    fn row(&self, key: &str) -> Result<Option<Row>, Fail> {
        let mut statement = self.connection.prepare_cached(&SELECT)?;
        let mut rows = statement.query([key])?;
        rows.next()?.map(|row| self.read(row)).transpose()
    }

    fn same_as_before(&self, incoming: Incoming<'_>) -> Result<bool, Fail> {
        // 0 and 8 are held and superseded; flag 8 is an open hold.
        let sql = "SELECT digest = ?2 AND source_digest = ?3 AND state NOT IN (0, 8) AND flags & 8 = 0 \
                   FROM record WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let Incoming { candidate, digest } = incoming;
        let wanted = (&candidate.key, digest.to_be_bytes(), candidate.source_digest.to_be_bytes());
        Ok(statement.query_row(wanted, |row| row.get::<_, Option<bool>>(0)).optional()?.flatten()
            == Some(true))
    }

    fn insert_fresh(&self, first: &str, last: &str, fresh: &[Fresh<'_>]) -> Result<bool, Fail> {
        if !self.none_between(first, last)? {
            return Ok(false);
        }
        if fresh.is_empty() {
            return Ok(true);
        }
        if !self.insert_identities(fresh)? {
            return Ok(false);
        }
        let sql = RECORDS.sql(fresh.len());
        let mut statement = match &sql {
            Statement::Usual(sql) => self.connection.prepare_cached(sql)?,
            Statement::Other(sql) => self.connection.prepare_cached(sql)?,
        };
        let mut at = 0;
        for Fresh { incoming, payload, file, resource, username, project } in fresh {
            let Incoming { candidate, digest } = incoming;
            let mut bind = |value: &dyn rusqlite::ToSql| {
                at += 1;
                statement.raw_bind_parameter(at, value)
            };
            bind(&candidate.key)?;
            bind(&type_code(candidate.usage_type))?;
            bind(&candidate.source_digest.to_be_bytes())?;
            bind(file)?;
            bind(&signed(candidate.line))?;
            bind(resource)?;
            bind(&candidate.local_record_id)?;
            bind(&candidate.submit)?;
            bind(username)?;
            bind(project)?;
            bind(&candidate.charge.to_string())?;
            bind(&digest.to_be_bytes())?;
            bind(&candidate.facts.start)?;
            bind(&candidate.facts.end)?;
            bind(&signed(candidate.facts.elapsed))?;
            bind(&candidate.facts.requeued)?;
            bind(&payload.chunk)?;
            bind(&payload.offset)?;
            bind(&payload.len)?;
            bind(&payload.chunk)?;
        }
        statement.raw_execute()?;
        Ok(true)
    }

    fn put(&self, after: &Row, new: bool) -> Result<(), Fail> {
        let wanted = after.wanted.as_ref();
        let id = |text: Option<&Arc<str>>| text.map(|text| self.id(text)).transpose();
        let payload = wanted.and_then(|wanted| wanted.payload);
        let flag = |set: bool, flag: i64| if set { flag } else { 0 };
        let sql: &str = if new { &INSERT } else { &UPDATE };
        // In the order of the columns.
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![
            after.key,
            state_code(after.state),
            type_code(after.usage_type),
            after.version,
            after.source_digest.to_be_bytes().as_slice(),
            flag(after.resend, RESEND)
                | flag(after.taken, TAKEN)
                | flag(after.drifted, DRIFTED)
                | flag(after.on_hold, ON_HOLD),
            self.id(&after.file)?,
            signed(after.line),
            id(wanted.map(|wanted| &wanted.identity.resource))?,
            wanted.map(|wanted| &wanted.identity.local_record_id),
            wanted.map(|wanted| wanted.identity.submit),
            id(wanted.map(|wanted| &wanted.username))?,
            id(wanted.map(|wanted| &wanted.project))?,
            wanted.map(|wanted| wanted.charge.to_string()),
            wanted.map(|wanted| wanted.digest.to_be_bytes()),
            wanted.map(|wanted| wanted.facts.start),
            wanted.map(|wanted| wanted.facts.end),
            wanted.map(|wanted| signed(wanted.facts.elapsed)),
            wanted.map(|wanted| wanted.facts.requeued),
            payload.map(|payload| payload.chunk),
            payload.map(|payload| payload.offset),
            payload.map(|payload| payload.len),
            after.born,
            after.sent.map(|sent| sent.version),
            after.sent.map(|sent| sent.charge.to_string()),
            after.sent.map(|sent| sent.first_at),
            after.sent.map(|sent| sent.last_at),
            after.sent_payload.map(|payload| payload.chunk),
            after.sent_payload.map(|payload| payload.offset),
            after.sent_payload.map(|payload| payload.len),
            after.before.map(|sent| sent.version),
            after.before.map(|sent| sent.charge.to_string()),
            after.before.map(|sent| sent.first_at),
            after.before.map(|sent| sent.last_at),
            after.batch,
            after.confirm,
            after.loaded.map(|(at, _)| at),
            after.loaded.map(|(_, charge)| charge.to_string()),
            after.error,
        ])?;
        Ok(())
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
        static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {COLUMNS} {READY}"));
        let mut statement = self.connection.prepare_cached(&SQL)?;
        let wanted = (state_code(state), type_code(usage_type), after, signed(limit as u64));
        let mut found = statement.query(wanted)?;
        while let Some(row) = found.next()? {
            if !take(self.read(row)?) {
                break;
            }
        }
        Ok(())
    }

    fn quiet(&self, usage_type: UsageType, since: i64, limit: usize) -> Result<Vec<Row>, Fail> {
        let sql = format!("SELECT {COLUMNS} {QUIET}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query((type_code(usage_type), since, signed(limit as u64)))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(self.read(row)?);
        }
        Ok(rows)
    }

    fn keys_with_error(&self, state: State, error: Option<&str>) -> Result<Vec<String>, Fail> {
        let sql = "SELECT key FROM record WHERE state IN (1, 3, 5, 7) AND state = ?1 AND usage_type = ?2 \
                   AND (?3 IS NULL OR error = ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut keys = Vec::new();
        for usage_type in UsageType::ALL {
            let found =
                statement.query_map((state_code(state), type_code(usage_type), error), |row| row.get(0))?;
            for key in found {
                keys.push(key?);
            }
        }
        Ok(keys)
    }

    fn rows_after(&self, project: Option<i64>, after: &str, limit: usize) -> Result<Vec<Row>, Fail> {
        let sql = format!(
            "SELECT {COLUMNS} FROM record WHERE key > ?1 AND (?2 IS NULL OR project = ?2) ORDER BY key LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query((after, project, signed(limit as u64)))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(self.read(row)?);
        }
        Ok(rows)
    }

    fn rows_of_job(&self, job: &str, after: &str, before: &str, limit: usize) -> Result<Vec<Row>, Fail> {
        let rows = self.rows_after(None, after, limit)?;
        Ok(rows.into_iter().take_while(|row| row.key.starts_with(job) && *row.key < *before).collect())
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
        let rows = format!("FROM record WHERE state IN (1, 3, 5, 7) AND state = {state}");
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
