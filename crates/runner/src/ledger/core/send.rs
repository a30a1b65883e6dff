//! Onto the wire and off it: lease, settle, recover.

use super::news::NEWS;
use super::session::{Session, digest_of, illegal};
use super::{brake, go_live};
use crate::ledger::store::{Ahead, NewBatch, NewEvent, Store};
use crate::ledger::{
    BatchId, Event, LeaseRequest, Leased, LeasedRecord, LedgerError, RecordOutcome, Recovered, Row, Settled,
    State, What, envelope_bytes,
};
use amie_usage::{Decimal, UsageType};
use std::collections::BTreeMap;

pub(in crate::ledger) fn lease<S: Store>(
    session: &mut Session<'_, S>,
    request: &LeaseRequest,
) -> Result<Option<Leased>, S::Fail> {
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
            None => return Err(damaged(&row.key, "has no payload to send").into()),
        };
        let newest = row.wanted.as_ref().filter(|_| leasing.version == row.version);
        if newest.is_some_and(|wanted| wanted.digest != digest_of(&payload)) {
            return Err(damaged(&row.key, "has a payload that is not what was ingested").into());
        }
        earliest = earliest.min(row.sent.map_or(request.now, |sent| sent.first_at));
        session.save(Some(&before), &row)?;
        records.push(LeasedRecord { key: row.key, version: leasing.version, payload });
    }
    session.store.set_earliest(batch, earliest)?;
    session.store.note(&NewEvent { batch: Some(batch), ..NewEvent::moved(request.now, Event::Leased) })?;
    Ok(Some(Leased { batch: BatchId(batch), usage_type: request.usage_type, records }))
}

fn damaged(key: &str, what: &str) -> LedgerError {
    LedgerError::Inconsistent(format!("\"{key}\" {what}"))
}

/// Newer versions whose predecessors have been accepted for long enough get their turn.
fn promote_quiet<S: Store>(session: &mut Session<'_, S>, request: &LeaseRequest) -> Result<(), S::Fail> {
    let quiet_since = request.now.saturating_sub(i64::from(request.quiet_seconds));
    let rows = session.store.quiet(request.usage_type, quiet_since, request.max_records)?;
    for before in rows.into_iter().filter(told_apart) {
        let mut row = before.clone();
        row.step(Event::Promoted).map_err(illegal(&row.key))?;
        let detail = "the version before was accepted and stayed quiet";
        session.store.note(&NewEvent::of(request.now, What::Moved(Event::Promoted), &row, detail))?;
        session.save(Some(&before), &row)?;
    }
    Ok(())
}

/// True where a load of the version that was sent cannot be taken for one of the newer version: the service shows charges, and
/// neither projects nor users. Else the newer one waits for that load, or for a person.
fn told_apart(row: &Row) -> bool {
    row.sent.map(|sent| sent.charge) != row.wanted.as_ref().map(|wanted| wanted.charge)
}

/// Rows for a message, in key order: pending ones, and those of unknown fate where sending again overwrites.
fn choose<S: Store>(session: &Session<'_, S>, request: &LeaseRequest) -> Result<Vec<Row>, S::Fail> {
    let unknown_too = request.resend_unknown && request.usage_type == UsageType::Compute;
    let states: &[State] = if unknown_too { &[State::Pending, State::Unknown] } else { &[State::Pending] };
    let mut rows = Vec::new();
    for state in states {
        // No state alone can fill more than one message, so that reading stops where one is full.
        let mut room = Room::new(request);
        session.store.in_state(*state, request.usage_type, "", request.max_records, |row| {
            let fits = room.take(&row);
            if fits {
                rows.push(row);
            }
            fits
        })?;
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

fn open_batch<S: Store>(
    session: &Session<'_, S>,
    request: &LeaseRequest,
    rows: &[Row],
) -> Result<Option<i64>, S::Fail> {
    if rows.is_empty() {
        return Ok(None);
    }
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let members = serde_json::to_string(&keys)
        .map_err(|error| LedgerError::Inconsistent(format!("keys of a batch: {error}")))?;
    let until = session.store.lease_clock(request.now)?.saturating_add(i64::from(request.lease_seconds));
    let batch = session.store.open_batch(&NewBatch {
        usage_type: request.usage_type,
        records: rows.len(),
        leased_at: request.now,
        lease_until: until,
        members: &members,
    })?;
    Ok(Some(batch))
}

/// The keys of a batch that has no answer yet.
fn members<S: Store>(session: &Session<'_, S>, batch: i64) -> Result<Vec<String>, S::Fail> {
    let found = session.store.batch(batch)?.ok_or(LedgerError::NoSuchBatch(batch))?;
    let members = found.members.ok_or(LedgerError::SettledBefore(batch))?;
    let keys: Vec<String> = serde_json::from_str(&members)
        .map_err(|error| LedgerError::Inconsistent(format!("keys of batch {batch}: {error}")))?;
    let ahead: Vec<&str> = keys.iter().map(String::as_str).collect();
    session.store.ahead(Ahead::Keys(&ahead))?;
    Ok(keys)
}

pub(in crate::ledger) fn settle<S: Store>(
    session: &mut Session<'_, S>,
    batch: BatchId,
    outcomes: &[RecordOutcome],
    note: &str,
    now: i64,
) -> Result<Settled, S::Fail> {
    let keys = members(session, batch.0)?;
    if keys.len() != outcomes.len() {
        let (records, outcomes) = (keys.len(), outcomes.len());
        return Err(LedgerError::OutcomeCount { batch: batch.0, records, outcomes }.into());
    }
    // What most records share becomes the event of the batch; the others get events of their own.
    let mut settled = Settled::default();
    let mut moves = Vec::with_capacity(keys.len());
    let mut shared: BTreeMap<(Event, &str), usize> = BTreeMap::new();
    let mut first: BTreeMap<String, Decimal> = BTreeMap::new();
    let mut returned = Vec::new();
    for (key, outcome) in keys.iter().zip(outcomes) {
        let before = session.existing(key)?;
        let mut row = before.clone();
        let events = row.settle(outcome).map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        if let (RecordOutcome::Accepted, false, UsageType::Compute) = (outcome, before.taken, row.usage_type)
            && let (Some(wanted), Some(sent)) = (&row.wanted, row.sent)
        {
            let sum = first.entry(wanted.identity.resource.to_string()).or_insert(Decimal::ZERO);
            *sum = sum.checked_add(sent.charge).ok_or(LedgerError::ChargeOverflow)?;
        }
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
        if row.state == State::Pending {
            returned.push(row);
        }
    }
    brake::accepted(session, &first, now)?;
    // What a person is to know of is counted by its rows: it is never what all share.
    shared.retain(|(event, _), _| !NEWS.contains(&What::Moved(*event)));
    let common = shared.iter().max_by_key(|(_, count)| **count).map(|(common, _)| *common);
    let with_note =
        |text| [note, text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    if let Some((event, text)) = common {
        let detail = with_note(text);
        let event = NewEvent { batch: Some(batch.0), detail: &detail, ..NewEvent::moved(now, event) };
        session.store.note(&event)?;
    }
    for (key, event, text) in &moves {
        if common != Some((*event, text)) {
            let detail = if common.is_none() { &with_note(text) } else { *text };
            let event =
                NewEvent { key: Some(key), batch: Some(batch.0), detail, ..NewEvent::moved(now, *event) };
            session.store.note(&event)?;
        }
    }
    session.store.close_batch(batch.0, now)?;
    // Go-live may have passed it meanwhile.
    for row in returned {
        go_live::withhold_early(session, &row, row.wanted.as_ref(), None, now)?;
    }
    Ok(settled)
}

pub(in crate::ledger) fn recover<S: Store>(
    session: &mut Session<'_, S>,
    now: i64,
) -> Result<Recovered, S::Fail> {
    let expired_at = if session.store.alone() { None } else { Some(session.store.lease_clock(now)?) };
    let open = session.store.open_batches(expired_at)?;
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
        session.store.note(&NewEvent { batch: Some(batch), detail, ..NewEvent::moved(now, Event::Lost) })?;
        session.store.close_batch(batch, now)?;
        recovered.batches += 1;
    }
    Ok(recovered)
}
