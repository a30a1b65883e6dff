//! From when on the ledger sends: what ended before a resource's go-live was reported by other means, or never will be.
//!
//! The date in force is the ledger's, and the configuration only ever moves it forward: what was recorded as too early is
//! not sent because somebody changes a line. Moving it back takes a person and a reason.

use super::session::{Session, illegal};
use crate::ledger::row::Wanted;
use crate::ledger::store::{NewEvent, Store};
use crate::ledger::{Event, GoLive, HoldEnd, LedgerError, Note, Person, Row, SourceFacts, State, What};
use amie_usage::UsageType;
use std::collections::BTreeMap;

fn name(resource: &str) -> String {
    format!("go-live/{resource}")
}

/// The time in force for a resource, epoch seconds: looked up once in a transaction.
pub(in crate::ledger) fn in_force<S: Store>(
    session: &Session<'_, S>,
    resource: &str,
) -> Result<Option<i64>, S::Fail> {
    if let Some(known) = session.go_live.borrow().get(resource) {
        return Ok(*known);
    }
    let damaged = |text| LedgerError::Inconsistent(format!("go-live of {resource}: \"{text}\""));
    let time = match session.store.meta(&name(resource))? {
        Some(text) => Some(text.parse().map_err(|_| damaged(text))?),
        None => None,
    };
    session.go_live.borrow_mut().insert(resource.to_owned(), time);
    Ok(time)
}

/// The time that go-live is held against: when a run ended, or when a reading was taken.
pub(in crate::ledger) fn time_of(usage_type: UsageType, facts: SourceFacts, submit: i64) -> i64 {
    match usage_type {
        UsageType::Compute => facts.end,
        UsageType::Storage | UsageType::Adjustment => submit,
    }
}

/// True where what ended (or was read) at a time is before its resource's go-live.
pub(super) fn is_too_early<S: Store>(
    session: &Session<'_, S>,
    resource: &str,
    time: i64,
) -> Result<bool, S::Fail> {
    Ok(in_force(session, resource)?.is_some_and(|from| time < from))
}

/// Takes over what is configured, where it is later than what is in force. Answers what is in force.
pub(in crate::ledger) fn keep<S: Store>(
    session: &mut Session<'_, S>,
    configured: &BTreeMap<String, i64>,
    now: i64,
) -> Result<Vec<GoLive>, S::Fail> {
    let mut all = Vec::new();
    for (resource, at) in configured {
        let before = in_force(session, resource)?;
        let in_force = before.map_or(*at, |before| before.max(*at));
        if before != Some(in_force) {
            set(session, resource, Some(in_force), None, now)?;
        }
        all.push(GoLive { resource: resource.clone(), configured: *at, in_force });
    }
    Ok(all)
}

/// Sets it, whatever it was, and withholds what waits and is too early now.
pub(in crate::ledger) fn set<S: Store>(
    session: &mut Session<'_, S>,
    resource: &str,
    at: Option<i64>,
    person: Option<Person<'_>>,
    now: i64,
) -> Result<(), S::Fail> {
    // Before all time is the same as none.
    let at = at.unwrap_or(i64::MIN);
    session.store.set_meta(&name(resource), &at.to_string())?;
    session.go_live.borrow_mut().insert(resource.to_owned(), Some(at));
    let why = person.map_or("configured", |person| person.why);
    let detail = format!("{resource}: {at}; {why}");
    let event = NewEvent {
        what: What::Noted(Note::GoLive),
        detail: &detail,
        person: person.map(|person| person.by),
        ..NewEvent::moved(now, Event::Recorded)
    };
    session.store.note(&event)?;
    withhold_waiting(session, resource, now)
}

/// Rows that are read together.
const PAGE: usize = 500;

fn withhold_waiting<S: Store>(session: &mut Session<'_, S>, resource: &str, now: i64) -> Result<(), S::Fail> {
    for usage_type in UsageType::ALL {
        let mut after = String::new();
        loop {
            let mut page = Vec::new();
            session.store.in_state(State::Pending, usage_type, &after, PAGE, |row| {
                page.push(row);
                true
            })?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for row in page {
                let wanted = row.wanted.as_ref().filter(|wanted| *wanted.identity.resource == *resource);
                withhold_early(session, &row, wanted, None, now)?;
            }
        }
    }
    Ok(())
}

/// Takes a row out of what is owed, and answers the event that is to be noted of it.
pub(in crate::ledger) fn withhold<S: Store>(
    session: &mut Session<'_, S>,
    before: &Row,
    now: i64,
) -> Result<NewEvent<'static>, S::Fail> {
    let mut row = before.clone();
    row.step(Event::Withheld).map_err(illegal(&row.key))?;
    if row.on_hold {
        row.on_hold = false;
        session.store.close_hold(&row.key, HoldEnd::Skipped, None, now)?;
    }
    session.save(Some(before), &row)?;
    Ok(NewEvent {
        detail: "ended before go-live, and the service holds nothing of it",
        version: (row.version > 0).then_some(row.version),
        ..NewEvent::moved(now, Event::Withheld)
    })
}

/// Withholds a row where what is wanted of it ended before its resource's go-live and the service holds nothing of it: who
/// wants it sent, or sent once more, was not asked that. False where it goes its way.
pub(super) fn withhold_early<S: Store>(
    session: &mut Session<'_, S>,
    row: &Row,
    wanted: Option<&Wanted>,
    person: Option<Person<'_>>,
    now: i64,
) -> Result<bool, S::Fail> {
    let Some(wanted) = wanted.filter(|_| !row.frozen()) else { return Ok(false) };
    let time = time_of(row.usage_type, wanted.facts, wanted.identity.submit);
    if !is_too_early(session, &wanted.identity.resource, time)? {
        return Ok(false);
    }
    let event = withhold(session, row, now)?;
    let person = person.map(|person| person.by);
    session.store.note(&NewEvent { key: Some(&row.key), person, ..event })?;
    Ok(true)
}
