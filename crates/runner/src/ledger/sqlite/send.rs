//! Onto the wire and off it: lease, settle, recover.

use super::Fail;
use super::codes::{signed, state_code, type_code};
use super::store::{COLUMNS, NewEvent, Session, digest_of, illegal};
use crate::ledger::{
    BatchId, Event, LeaseRequest, Leased, LeasedRecord, LedgerError, RecordOutcome, Recovered, Row, Settled,
    State, What, envelope_bytes,
};
use amie_usage::UsageType;
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;

/// Rows of one state in key order, by a partial index.
pub(super) const READY: &str = "FROM record WHERE state IN (1, 3, 5, 7) AND state = ?1 AND usage_type = ?2 \
    ORDER BY key LIMIT ?3";

/// Rows whose newer version has waited for long enough.
pub(super) const QUIET: &str = "FROM record WHERE state = 4 AND version > sent_version AND usage_type = ?1 \
    AND sent_last <= ?2 ORDER BY key LIMIT ?3";

pub(super) fn lease(session: &mut Session<'_>, request: &LeaseRequest) -> Result<Option<Leased>, Fail> {
    promote_quiet(session, request)?;
    let rows = choose(session, request)?;
    let Some(batch) = open_batch(session, request, &rows)? else { return Ok(None) };
    let mut records = Vec::with_capacity(rows.len());
    let mut earliest = request.now;
    for before in rows {
        let mut row = before.clone();
        let leasing = row.lease(batch, request.now).map_err(illegal(&row.key))?;
        let payload = match leasing.payload {
            Some(payload) => session.payload(payload)?,
            None => return Err(damaged(&row.key, "has no payload to send")),
        };
        let newest = row.wanted.as_ref().filter(|_| leasing.version == row.version);
        if newest.is_some_and(|wanted| wanted.digest != digest_of(&payload)) {
            return Err(damaged(&row.key, "has a payload that is not what was ingested"));
        }
        earliest = earliest.min(row.sent.map_or(request.now, |sent| sent.first_at));
        session.save(Some(&before), &row)?;
        records.push(LeasedRecord { key: row.key, version: leasing.version, payload });
    }
    session.connection.execute("UPDATE batch SET earliest = ?2 WHERE id = ?1", (batch, earliest))?;
    session.note(&NewEvent { batch: Some(batch), ..NewEvent::moved(request.now, Event::Leased) })?;
    Ok(Some(Leased { batch: BatchId(batch), usage_type: request.usage_type, records }))
}

fn damaged(key: &str, what: &str) -> Fail {
    LedgerError::Inconsistent(format!("\"{key}\" {what}")).into()
}

/// Newer versions whose predecessors have been accepted for long enough get their turn.
fn promote_quiet(session: &mut Session<'_>, request: &LeaseRequest) -> Result<(), Fail> {
    let rows = {
        let sql = format!("SELECT {COLUMNS} {QUIET}");
        let quiet_since = request.now.saturating_sub(i64::from(request.quiet_seconds));
        let limit = signed(request.max_records as u64);
        let mut statement = session.connection.prepare_cached(&sql)?;
        let mut found = statement.query((type_code(request.usage_type), quiet_since, limit))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(session.read(row)?);
        }
        rows
    };
    for before in rows {
        let mut row = before.clone();
        row.step(Event::Promoted).map_err(illegal(&row.key))?;
        let detail = "the version before was accepted and stayed quiet";
        session.note(&NewEvent::of(request.now, What::Moved(Event::Promoted), &row, detail))?;
        session.save(Some(&before), &row)?;
    }
    Ok(())
}

/// Rows for a message, in key order: pending ones, and those of unknown fate where sending again overwrites.
fn choose(session: &Session<'_>, request: &LeaseRequest) -> Result<Vec<Row>, Fail> {
    let unknown_too = request.resend_unknown && request.usage_type == UsageType::Compute;
    let states: &[State] = if unknown_too { &[State::Pending, State::Unknown] } else { &[State::Pending] };
    let mut rows = Vec::new();
    for state in states {
        let sql = format!("SELECT {COLUMNS} {READY}");
        let mut statement = session.connection.prepare_cached(&sql)?;
        let limit = signed(request.max_records as u64);
        let mut found = statement.query((state_code(*state), type_code(request.usage_type), limit))?;
        // No state alone can fill more than one message, so that reading stops where one is full.
        let mut room = Room::new(request);
        while let Some(row) = found.next()? {
            let row = session.read(row)?;
            if !room.take(&row) {
                break;
            }
            rows.push(row);
        }
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut room = Room::new(request);
    let fitting = rows.iter().take_while(|row| room.take(row)).count();
    rows.truncate(fitting);
    Ok(rows)
}

/// What still fits a message.
struct Room {
    records: usize,
    bytes: usize,
    empty: bool,
}

impl Room {
    fn new(request: &LeaseRequest) -> Self {
        let bytes = request.max_bytes.saturating_sub(envelope_bytes(request.usage_type));
        Self { records: request.max_records, bytes, empty: true }
    }

    /// Takes a row if it fits. The first one always does: the service decides what is too large.
    fn take(&mut self, row: &Row) -> bool {
        let newest = row.wanted.as_ref().and_then(|wanted| wanted.payload);
        let payload = if row.waiting() { row.sent_payload.or(newest) } else { newest };
        let len = payload.map_or(0, |payload| payload.len as usize);
        let needed = if self.empty { len } else { len.saturating_add(1) };
        if self.records == 0 || (!self.empty && needed > self.bytes) {
            return false;
        }
        self.records -= 1;
        self.bytes = self.bytes.saturating_sub(needed);
        self.empty = false;
        true
    }
}

fn open_batch(session: &Session<'_>, request: &LeaseRequest, rows: &[Row]) -> Result<Option<i64>, Fail> {
    if rows.is_empty() {
        return Ok(None);
    }
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let members = serde_json::to_string(&keys)
        .map_err(|error| LedgerError::Inconsistent(format!("keys of a batch: {error}")))?;
    let sql = "INSERT INTO batch (usage_type, records, leased_at, lease_until, earliest, members, waiting) \
               VALUES (?1, ?2, ?3, ?4, ?3, ?5, 0)";
    session.connection.prepare_cached(sql)?.execute((
        type_code(request.usage_type),
        signed(rows.len() as u64),
        request.now,
        request.now.saturating_add(i64::from(request.lease_seconds)),
        members,
    ))?;
    Ok(Some(session.connection.last_insert_rowid()))
}

/// The keys of a batch that has no answer yet.
fn members(session: &Session<'_>, batch: i64) -> Result<Vec<String>, Fail> {
    let sql = "SELECT members FROM batch WHERE id = ?1";
    let found: Option<Option<String>> =
        session.connection.prepare_cached(sql)?.query_row([batch], |row| row.get(0)).optional()?;
    let members = found.ok_or(LedgerError::NoSuchBatch(batch))?.ok_or(LedgerError::SettledBefore(batch))?;
    serde_json::from_str(&members)
        .map_err(|error| LedgerError::Inconsistent(format!("keys of batch {batch}: {error}")).into())
}

pub(super) fn settle(
    session: &mut Session<'_>,
    batch: BatchId,
    outcomes: &[RecordOutcome],
    note: &str,
    now: i64,
) -> Result<Settled, Fail> {
    let keys = members(session, batch.0)?;
    if keys.len() != outcomes.len() {
        let (records, outcomes) = (keys.len(), outcomes.len());
        return Err(LedgerError::OutcomeCount { batch: batch.0, records, outcomes }.into());
    }
    // What most records share becomes the event of the batch; the others get events of their own.
    let mut settled = Settled::default();
    let mut moves = Vec::with_capacity(keys.len());
    let mut shared: BTreeMap<(Event, &str), usize> = BTreeMap::new();
    for (key, outcome) in keys.iter().zip(outcomes) {
        let before = session.existing(key)?;
        let mut row = before.clone();
        let events = row.settle(outcome).map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        let text = match outcome {
            RecordOutcome::Accepted => "",
            RecordOutcome::Refused(text) | RecordOutcome::Unknown(text) | RecordOutcome::NotSent(text) => {
                text
            }
        };
        for event in events {
            match event {
                Event::Accepted => settled.accepted += 1,
                Event::Refused => settled.rejected += 1,
                Event::Lost => settled.unknown += 1,
                Event::NotSent => settled.not_sent += 1,
                _ => {}
            }
            if event != Event::Promoted {
                *shared.entry((event, text)).or_default() += 1;
            }
            moves.push((row.key.clone(), event, text));
        }
    }
    let common = shared.iter().max_by_key(|(_, count)| **count).map(|(common, _)| *common);
    if let Some((event, text)) = common {
        let detail = [note, text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        let event = NewEvent { batch: Some(batch.0), detail: &detail, ..NewEvent::moved(now, event) };
        session.note(&event)?;
    }
    for (key, event, text) in &moves {
        if common != Some((*event, text)) {
            let event = NewEvent {
                key: Some(key),
                batch: Some(batch.0),
                detail: text,
                ..NewEvent::moved(now, *event)
            };
            session.note(&event)?;
        }
    }
    close_batch(session, batch.0, now)?;
    Ok(settled)
}

fn close_batch(session: &Session<'_>, batch: i64, now: i64) -> Result<(), Fail> {
    let sql = "UPDATE batch SET members = NULL, settled_at = ?2 WHERE id = ?1";
    session.connection.prepare_cached(sql)?.execute((batch, now))?;
    Ok(())
}

pub(super) fn recover(session: &mut Session<'_>, now: i64) -> Result<Recovered, Fail> {
    let open: Vec<i64> = {
        let sql = "SELECT id FROM batch WHERE settled_at IS NULL ORDER BY id";
        let mut statement = session.connection.prepare_cached(sql)?;
        let found = statement.query_map([], |row| row.get(0))?;
        found.collect::<Result<_, _>>()?
    };
    let mut recovered = Recovered::default();
    for batch in open {
        let keys = members(session, batch)?;
        let lost = RecordOutcome::Unknown(String::new());
        for key in &keys {
            let before = session.existing(key)?;
            let mut row = before.clone();
            row.settle(&lost).map_err(illegal(key))?;
            session.save(Some(&before), &row)?;
            recovered.records += 1;
        }
        let detail = "the process ended before an answer was noted";
        session.note(&NewEvent { batch: Some(batch), detail, ..NewEvent::moved(now, Event::Lost) })?;
        close_batch(session, batch, now)?;
        recovered.batches += 1;
    }
    Ok(recovered)
}
