//! Reading and writing rows, with everything that follows from a change: tallies, wire identities, references to
//! payloads, what a batch still waits for. No other file writes to `record`.

use super::Fail;
use super::codes::{charge, digest, signed, small, state, state_code, type_code, unsigned, usage_type};
use crate::ledger::row::{Identity, PayloadRef, Sent, Wanted};
use crate::ledger::{Event, IllegalEvent, LedgerError, Row, SourceFacts, State, What};
use amie_usage::{Decimal, UsageType};
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use xxhash_rust::xxh3::xxh3_128;

/// Names by id and ids by name, as far as they were used lately.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, i64>,
    texts: HashMap<i64, Arc<str>>,
}

/// Beyond so many cached names the cache starts over: memory does not grow with the input.
const MOST_NAMES: usize = 100_000;

impl Names {
    fn remember(&mut self, id: i64, text: Arc<str>) {
        if self.ids.len() >= MOST_NAMES {
            *self = Self::default();
        }
        self.texts.insert(id, Arc::clone(&text));
        self.ids.insert(text, id);
    }
}

/// Unpacked payloads of the chunks that were read last, 32 MiB of them at most (but at least one).
#[derive(Debug, Default)]
pub(super) struct Blobs {
    recent: VecDeque<(i64, Arc<Vec<u8>>)>,
}

const MOST_BLOB_BYTES: usize = 32 * 1024 * 1024;

/// One transaction on the ledger.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) connection: &'a Connection,
    names: &'a RefCell<Names>,
    blobs: &'a RefCell<Blobs>,
    effects: Effects,
}

/// What the changes of one transaction add up to; written by [`Session::flush`].
#[derive(Debug, Default)]
struct Effects {
    tally: BTreeMap<(i64, i64, i64, i64), (i64, Decimal)>,
    chunks: BTreeMap<i64, i64>,
    batches: BTreeMap<i64, i64>,
}

/// An event to be noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewEvent<'a> {
    pub(super) at: i64,
    pub(super) what: What,
    pub(super) key: Option<&'a str>,
    pub(super) version: Option<u32>,
    pub(super) chunk: Option<i64>,
    pub(super) batch: Option<i64>,
    pub(super) detail: &'a str,
    pub(super) person: Option<&'a str>,
}

impl<'a> NewEvent<'a> {
    /// About a whole chunk, batch or reconciliation.
    pub(super) fn moved(at: i64, event: Event) -> Self {
        Self {
            at,
            what: What::Moved(event),
            key: None,
            version: None,
            chunk: None,
            batch: None,
            detail: "",
            person: None,
        }
    }

    /// About one row.
    pub(super) fn of(at: i64, what: What, row: &'a Row, detail: &'a str) -> Self {
        Self {
            what,
            key: Some(&row.key),
            version: (row.version > 0).then_some(row.version),
            detail,
            ..Self::moved(at, Event::Recorded)
        }
    }
}

/// All columns of `record`, in the order that [`Session::read`] expects.
pub(super) const COLUMNS: &str = "key, state, usage_type, version, source_digest, flags, file, line, resource, \
    local_record_id, submit, username, project, charge, digest, start, end, elapsed, requeued, chunk, offset, len, born, \
    sent_version, sent_charge, sent_first, sent_last, sent_chunk, sent_offset, sent_len, before_version, before_charge, \
    before_first, before_last, batch, confirm, loaded_at, loaded_charge, error";

const RESEND: i64 = 1;
const TAKEN: i64 = 2;
const DRIFTED: i64 = 4;
const ON_HOLD: i64 = 8;

/// Kinds of references in `past`.
pub(super) const PAST_BATCH: i64 = 0;
pub(super) const PAST_CONFIRM: i64 = 1;

/// A digest of bytes, as stored for payloads and quarantined texts.
pub(super) fn digest_of(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// Names the row in an illegal event.
pub(super) fn illegal(key: &str) -> impl FnOnce(IllegalEvent) -> Fail {
    let key = key.to_owned();
    |source| LedgerError::Illegal { key, source }.into()
}

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

impl<'a> Session<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        names: &'a RefCell<Names>,
        blobs: &'a RefCell<Blobs>,
    ) -> Self {
        Self { connection, names, blobs, effects: Effects::default() }
    }

    /// The id of a name, which is stored where it is new.
    pub(super) fn id(&self, text: &str) -> Result<i64, Fail> {
        if let Some(id) = self.known_id(text)? {
            return Ok(id);
        }
        self.connection.prepare_cached("INSERT INTO name (text) VALUES (?1)")?.execute([text])?;
        let id = self.connection.last_insert_rowid();
        self.names.borrow_mut().remember(id, text.into());
        Ok(id)
    }

    /// The id of a name that may not be stored.
    pub(super) fn known_id(&self, text: &str) -> Result<Option<i64>, Fail> {
        if let Some(id) = self.names.borrow().ids.get(text) {
            return Ok(Some(*id));
        }
        let sql = "SELECT id FROM name WHERE text = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([text], |row| row.get(0)).optional()?;
        if let Some(id) = found {
            self.names.borrow_mut().remember(id, text.into());
        }
        Ok(found)
    }

    /// The name of an id.
    pub(super) fn name(&self, id: i64) -> Result<Arc<str>, Fail> {
        if let Some(text) = self.names.borrow().texts.get(&id) {
            return Ok(Arc::clone(text));
        }
        let sql = "SELECT text FROM name WHERE id = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
        let text: Arc<str> = found.ok_or_else(|| LedgerError::Inconsistent(format!("no name {id}")))?;
        self.names.borrow_mut().remember(id, Arc::clone(&text));
        Ok(text)
    }

    /// The row of a key.
    pub(super) fn row(&self, key: &str) -> Result<Option<Row>, Fail> {
        let mut statement = self.connection.prepare_cached(&SELECT)?;
        let mut rows = statement.query([key])?;
        rows.next()?.map(|row| self.read(row)).transpose()
    }

    /// The row of a key that must be there.
    pub(super) fn existing(&self, key: &str) -> Result<Row, Fail> {
        self.row(key)?.ok_or_else(|| LedgerError::NoSuchKey(key.to_owned()).into())
    }

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

    /// Who has a wire identity.
    pub(super) fn identity_owner(
        &self,
        usage_type: UsageType,
        identity: &Identity,
    ) -> Result<Option<String>, Fail> {
        let Some(resource) = self.known_id(&identity.resource)? else { return Ok(None) };
        let sql = "SELECT key FROM identity \
                   WHERE usage_type = ?1 AND resource = ?2 AND local_record_id = ?3 AND submit = ?4";
        let wanted = (type_code(usage_type), resource, &identity.local_record_id, identity.submit);
        Ok(self.connection.prepare_cached(sql)?.query_row(wanted, |row| row.get(0)).optional()?)
    }

    /// Writes a row as it is now. `before` is what was stored, or `None` for a new one.
    pub(super) fn save(&mut self, before: Option<&Row>, after: &Row) -> Result<(), Fail> {
        self.move_identity(before, after)?;
        if let Some(before) = before {
            self.keep_past(before.batch, after.batch, PAST_BATCH, &after.key)?;
            self.keep_past(before.confirm, after.confirm, PAST_CONFIRM, &after.key)?;
            self.count(before, -1)?;
        }
        self.count(after, 1)?;
        let wanted = after.wanted.as_ref();
        let id = |text: Option<&Arc<str>>| text.map(|text| self.id(text)).transpose();
        let payload = wanted.and_then(|wanted| wanted.payload);
        let flag = |set: bool, flag: i64| if set { flag } else { 0 };
        let sql: &str = if before.is_some() { &UPDATE } else { &INSERT };
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

    fn keep_past(&self, before: Option<i64>, after: Option<i64>, kind: i64, key: &str) -> Result<(), Fail> {
        if let Some(id) = before
            && after != before
        {
            let sql = "INSERT OR IGNORE INTO past (key, kind, id) VALUES (?1, ?2, ?3)";
            self.connection.prepare_cached(sql)?.execute((key, kind, id))?;
        }
        Ok(())
    }

    fn move_identity(&self, before: Option<&Row>, after: &Row) -> Result<(), Fail> {
        fn owned(row: &Row) -> Option<&Identity> {
            row.wanted.as_ref().map(|wanted| &wanted.identity).filter(|_| row.owns_identity())
        }
        let (old, new) = (before.and_then(owned), owned(after));
        if old == new {
            return Ok(());
        }
        if let Some(old) = old {
            let sql = "DELETE FROM identity \
                       WHERE usage_type = ?1 AND resource = ?2 AND local_record_id = ?3 AND submit = ?4";
            self.connection.prepare_cached(sql)?.execute((
                type_code(after.usage_type),
                self.id(&old.resource)?,
                &old.local_record_id,
                old.submit,
            ))?;
        }
        if let Some(new) = new {
            let sql = "INSERT INTO identity (usage_type, resource, local_record_id, submit, key) \
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            self.connection.prepare_cached(sql)?.execute((
                type_code(after.usage_type),
                self.id(&new.resource)?,
                &new.local_record_id,
                new.submit,
                &after.key,
            ))?;
        }
        Ok(())
    }

    /// Adds a row to everything that is counted, or takes it away.
    pub(super) fn count(&mut self, row: &Row, sign: i64) -> Result<(), Fail> {
        let (resource, project) = match &row.wanted {
            None => (0, 0),
            Some(wanted) => (self.id(&wanted.identity.resource)?, self.id(&wanted.project)?),
        };
        let charge = row.charge().unwrap_or(Decimal::ZERO);
        let place = (type_code(row.usage_type), resource, project, state_code(row.state));
        self.count_at(place, sign, charge)?;
        let newest = row.wanted.as_ref().and_then(|wanted| wanted.payload);
        for payload in newest.into_iter().chain(row.sent_payload) {
            *self.effects.chunks.entry(payload.chunk).or_default() += sign;
        }
        if let Some(batch) = row.batch
            && matches!(row.state, State::Accepted | State::Unknown)
        {
            *self.effects.batches.entry(batch).or_default() += sign;
        }
        Ok(())
    }

    /// Counts one row at (usage type, resource, project, state).
    pub(super) fn count_at(
        &mut self,
        place: (i64, i64, i64, i64),
        sign: i64,
        charge: Decimal,
    ) -> Result<(), Fail> {
        let (records, sum) = self.effects.tally.entry(place).or_default();
        *records += sign;
        let signed_charge = if sign < 0 { Decimal::new(-charge.units(), charge.places()) } else { charge };
        *sum = sum.checked_add(signed_charge).ok_or(LedgerError::ChargeOverflow)?;
        Ok(())
    }

    /// Counts references to the payloads of a chunk.
    pub(super) fn count_payloads(&mut self, chunk: i64, references: i64) {
        *self.effects.chunks.entry(chunk).or_default() += references;
    }

    /// True where rows refer to the payloads of a chunk that was made in this transaction.
    pub(super) fn refers_to(&self, chunk: i64) -> bool {
        self.effects.chunks.get(&chunk).is_some_and(|references| *references > 0)
    }

    /// Writes what the changes add up to. Nothing may be changed after it.
    pub(super) fn flush(&mut self) -> Result<(), Fail> {
        let effects = std::mem::take(&mut self.effects);
        for ((usage_type, resource, project, state), (records, sum)) in effects.tally {
            let place = (usage_type, resource, project, state);
            if records == 0 && sum.is_zero() {
                continue;
            }
            let sql = "SELECT records, charge FROM tally \
                       WHERE usage_type = ?1 AND resource = ?2 AND project = ?3 AND state = ?4";
            let mut select = self.connection.prepare_cached(sql)?;
            let found: Option<(i64, String)> =
                select.query_row(place, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let (before, sum_before) = match &found {
                Some((records, text)) => (*records, charge(text)?),
                None => (0, Decimal::ZERO),
            };
            let sum = sum_before.checked_add(sum).ok_or(LedgerError::ChargeOverflow)?;
            let sql = "INSERT INTO tally (usage_type, resource, project, state, records, charge) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET records = ?5, charge = ?6";
            self.connection.prepare_cached(sql)?.execute((
                usage_type,
                resource,
                project,
                state,
                before + records,
                sum.to_string(),
            ))?;
        }
        for (chunk, references) in effects.chunks.into_iter().filter(|(_, references)| *references != 0) {
            let sql = "UPDATE chunk SET live = live + ?2 WHERE id = ?1 RETURNING live";
            let live: i64 =
                self.connection.prepare_cached(sql)?.query_row((chunk, references), |row| row.get(0))?;
            if live == 0 {
                self.connection.prepare_cached("DELETE FROM payload WHERE chunk = ?1")?.execute([chunk])?;
            }
        }
        for (batch, rows) in effects.batches.into_iter().filter(|(_, rows)| *rows != 0) {
            let sql = "UPDATE batch SET waiting = waiting + ?2 WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute((batch, rows))?;
        }
        Ok(())
    }

    /// Notes an event and answers its number.
    pub(super) fn note(&self, event: &NewEvent<'_>) -> Result<i64, Fail> {
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
        Ok(self.connection.last_insert_rowid())
    }

    /// A new chunk, still without payloads.
    pub(super) fn new_chunk(&self, source: &str, rules_digest: u128, now: i64) -> Result<i64, Fail> {
        let sql = "INSERT INTO chunk (at, source, rules_digest, live) VALUES (?1, ?2, ?3, 0)";
        let values = (now, self.id(source)?, rules_digest.to_be_bytes());
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Stores the payloads of a chunk.
    pub(super) fn store_payloads(&self, chunk: i64, bytes: &[u8]) -> Result<(), Fail> {
        // Level 1: payloads are gone within days, and writing them is on the path of every first import.
        let data = zstd::bulk::compress(bytes, 1)
            .map_err(|error| LedgerError::Inconsistent(format!("payloads could not be packed: {error}")))?;
        let sql = "INSERT INTO payload (chunk, bytes, data) VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute((chunk, signed(bytes.len() as u64), data))?;
        Ok(())
    }

    /// The bytes of a payload.
    pub(super) fn payload(&self, payload: PayloadRef) -> Result<Vec<u8>, Fail> {
        let blob = self.blob(payload.chunk)?;
        let start = payload.offset as usize;
        let bytes = start.checked_add(payload.len as usize).and_then(|end| blob.get(start..end));
        let beyond =
            || LedgerError::Inconsistent(format!("a payload beyond the end of chunk {}", payload.chunk));
        Ok(bytes.ok_or_else(beyond)?.to_vec())
    }

    fn blob(&self, chunk: i64) -> Result<Arc<Vec<u8>>, Fail> {
        let mut blobs = self.blobs.borrow_mut();
        if let Some((_, blob)) = blobs.recent.iter().find(|(id, _)| *id == chunk) {
            return Ok(Arc::clone(blob));
        }
        let sql = "SELECT bytes, data FROM payload WHERE chunk = ?1";
        let found: Option<(i64, Vec<u8>)> = self
            .connection
            .prepare_cached(sql)?
            .query_row([chunk], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let damaged = |why: String| LedgerError::Inconsistent(format!("payloads of chunk {chunk}: {why}"));
        let (bytes, data) = found.ok_or_else(|| damaged("not there".into()))?;
        let capacity = usize::try_from(bytes).map_err(|error| damaged(error.to_string()))?;
        let blob = zstd::bulk::decompress(&data, capacity).map_err(|error| damaged(error.to_string()))?;
        let blob = Arc::new(blob);
        blobs.recent.push_front((chunk, Arc::clone(&blob)));
        let mut kept = 0;
        blobs.recent.retain(|(id, blob)| {
            kept += blob.len();
            *id == chunk || kept <= MOST_BLOB_BYTES
        });
        Ok(blob)
    }
}
