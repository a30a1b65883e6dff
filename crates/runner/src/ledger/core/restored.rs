//! A ledger that was put back from a backup: what may have been sent since, and is not known here, waits for a person.
//!
//! A record that overwrites is sent again and does no harm. What the service might add up must not be: neither what was
//! pending when the backup was made, nor what this ledger takes for new because it was taken in after that.

use super::hold::hold_pending;
use super::session::Session;
use super::{go_live, import, send, watch};
use crate::clock;
use crate::ledger::restate::RESTORED;
use crate::ledger::row::Identity;
use crate::ledger::store::{Ahead, NewEvent, Store};
use crate::ledger::{
    Candidate, Chunk, Event, HeldRun, LeaseRequest, LedgerError, Note, Person, RecordOutcome, Restored, Row,
    State, What,
};
use amie_usage::UsageType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Until when what ended may have been sent, by usage type, as JSON.
const DOUBTED: &str = "doubted_until";

/// Rows that are read together.
const PAGE: usize = 500;

fn doubts<S: Store>(session: &Session<'_, S>) -> Result<BTreeMap<String, i64>, S::Fail> {
    let Some(text) = session.store.meta(DOUBTED)? else { return Ok(BTreeMap::new()) };
    let damaged = |error| LedgerError::Inconsistent(format!("{DOUBTED} is \"{text}\": {error}"));
    Ok(serde_json::from_str(&text).map_err(damaged)?)
}

/// Notes that a person accepts this ledger, and sees to it that nothing of these types goes again without one.
pub(in crate::ledger) fn accept<S: Store>(
    session: &mut Session<'_, S>,
    might_add: &[UsageType],
    person: Person<'_>,
    now: i64,
) -> Result<Restored, S::Fail> {
    let mut until = doubts(session)?;
    until.extend(might_add.iter().map(|usage_type| (usage_type.as_str().to_owned(), now)));
    let text = serde_json::to_string(&until)
        .map_err(|error| LedgerError::Inconsistent(format!("{DOUBTED}: {error}")))?;
    session.store.set_meta(DOUBTED, &text)?;
    // What was restated since is not known either: the loads of it are looked at.
    watch::forgotten(session, now)?;
    session.store.note(&NewEvent {
        what: What::Noted(Note::Restored),
        detail: person.why,
        person: Some(person.by),
        ..NewEvent::moved(now, Event::Recorded)
    })?;
    let mut report = Restored::default();
    for usage_type in might_add {
        report.held += hold_all(session, *usage_type, now)?;
        report.unknown += doubt_the_rest(session, *usage_type, now)?;
    }
    Ok(report)
}

/// Holds what is pending and was never taken.
fn hold_all<S: Store>(session: &mut Session<'_, S>, usage_type: UsageType, now: i64) -> Result<u64, S::Fail> {
    let (mut after, mut held) = (String::new(), 0);
    loop {
        let mut page: Vec<Row> = Vec::new();
        session.store.in_state(State::Pending, usage_type, &after, PAGE, |row| {
            page.push(row);
            true
        })?;
        let Some(last) = page.last() else { return Ok(held) };
        after.clone_from(&last.key);
        for row in page.into_iter().filter(|row| !row.taken) {
            hold_pending(session, row, RESTORED, &detail(now), now)?;
            held += 1;
        }
    }
}

/// What is pending and was taken before cannot be held: it becomes what it is, of unknown fate, by the same two steps as
/// if it had been sent without an answer.
fn doubt_the_rest<S: Store>(
    session: &mut Session<'_, S>,
    usage_type: UsageType,
    now: i64,
) -> Result<u64, S::Fail> {
    let request =
        LeaseRequest { resend_unknown: false, quiet_seconds: u32::MAX, ..LeaseRequest::new(usage_type, now) };
    let lost = RecordOutcome::Unknown(detail(now));
    let mut unknown = 0;
    while let Some(leased) = send::lease(session, &request)? {
        let outcomes = vec![lost.clone(); leased.records.len()];
        send::settle(session, leased.batch, &outcomes, "not sent by this ledger", now)?;
        unknown += leased.records.len() as u64;
    }
    Ok(unknown)
}

fn detail(until: i64) -> String {
    format!(
        "this ledger was put back from a backup and accepted at {}: the service may have this record already, and might \
         add it up. Waive it where the service has it; approve it where it has not",
        clock::show(until)
    )
}

/// The chunk with what may have been sent before as questions instead of records; nothing where there is no such doubt.
pub(in crate::ledger) fn doubted<S: Store>(
    session: &Session<'_, S>,
    chunk: &Chunk,
) -> Result<Option<Chunk>, S::Fail> {
    let until = doubts(session)?;
    let doubt = |one: &Candidate| {
        let until = until.get(one.usage_type.as_str()).filter(|_| !one.only_if_sent)?;
        (go_live::time_of(one.usage_type, one.facts, one.submit) <= *until).then_some(*until)
    };
    let keys: Vec<&str> =
        chunk.records.iter().filter(|one| doubt(one).is_some()).map(|one| one.key.as_str()).collect();
    if keys.is_empty() {
        return Ok(None);
    }
    session.store.ahead(Ahead::Keys(&keys))?;
    let (mut records, mut held) = (Vec::new(), chunk.held.clone());
    for one in &chunk.records {
        match doubt(one) {
            Some(until) if is_new(session, one)? => held.push(question(one, until)),
            _ => records.push(one.clone()),
        }
    }
    Ok(Some(Chunk { records, held, ..chunk.clone() }))
}

/// True where this ledger would send a record for the first time, and no person has decided about it.
fn is_new<S: Store>(session: &Session<'_, S>, one: &Candidate) -> Result<bool, S::Fail> {
    let undecided = match session.store.row(&one.key)?.map(|row| row.state) {
        None | Some(State::Held) => true,
        Some(State::Superseded) => {
            session.store.waiver(&one.key)?.is_none_or(|(_, source)| source != one.source_digest)
        }
        Some(_) => false,
    };
    if !undecided {
        return Ok(false);
    }
    let identity = Identity {
        resource: Arc::clone(&one.resource),
        local_record_id: one.local_record_id.clone(),
        submit: one.submit,
    };
    // What was imported is known to be with the service.
    let owner = session.store.owner(one.usage_type, &identity)?;
    Ok(!owner.is_some_and(|owner| import::is_imported(&owner)))
}

fn question(one: &Candidate, until: i64) -> HeldRun {
    HeldRun {
        key: one.key.clone(),
        usage_type: one.usage_type,
        reason: RESTORED.to_owned(),
        detail: detail(until),
        run: String::new(),
        source_digest: one.source_digest,
        candidate: Some(one.clone()),
        file: one.file,
        line: one.line,
    }
}
