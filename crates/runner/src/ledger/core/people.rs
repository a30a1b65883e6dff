//! What people decide: approvals, waivers, retries, fates of what may have arrived.

use super::hold::StoredCandidate;
use super::kept::Kept;
use super::session::{Session, illegal};
use crate::ledger::restate::{COLLISION, MOVING, Suspicion};
use crate::ledger::store::{Ahead, NewEvent, Store};
use crate::ledger::{Event, HoldEnd, IllegalEvent, LedgerError, Note, Person, Retry, Row, State, What};

/// Notes an event of one row with the person behind it.
fn note<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    what: What,
    person: Person<'_>,
    chunk: Option<i64>,
    now: i64,
) -> Result<(), S::Fail> {
    let event = NewEvent { person: Some(person.by), chunk, ..NewEvent::of(now, what, row, person.why) };
    session.store.note(&event)?;
    Ok(())
}

fn ahead<S: Store>(session: &Session<'_, S>, keys: &[String]) -> Result<(), S::Fail> {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    session.store.ahead(Ahead::Keys(&keys))
}

pub(in crate::ledger) fn resolve_unknown<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    arrived: bool,
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    decide(session, keys, person, now, |row| row.resolve(arrived))
}

pub(in crate::ledger) fn resolve_accepted<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    loaded: bool,
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    decide(session, keys, person, now, |row| match loaded {
        true => row.seen_loaded(now),
        // What was refused or failed is retried as such: here a person speaks of what the service took.
        false if row.state != State::Accepted => {
            Err(IllegalEvent { state: Some(row.state), event: Event::Absent })
        }
        false => row.step(Event::Retried).map(|()| vec![Event::Retried]),
    })
}

/// Does to each row what a person decided, and notes the events that this answers. Answers how many.
fn decide<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
    decided: impl Fn(&mut Row) -> Result<Vec<Event>, IllegalEvent>,
) -> Result<u64, S::Fail> {
    ahead(session, keys)?;
    for key in keys {
        let before = session.existing(key)?;
        let mut row = before.clone();
        let events = decided(&mut row).map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        for event in events {
            note(session, &row, What::Moved(event), person, None, now)?;
        }
    }
    Ok(keys.len() as u64)
}

pub(in crate::ledger) fn retry<S: Store>(
    session: &mut Session<'_, S>,
    which: &Retry,
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    let keys = match which {
        Retry::Keys(keys) => keys.clone(),
        Retry::Rejected(error) => session.store.keys_with_error(State::Rejected, error.as_deref())?,
        Retry::Failed(error) => session.store.keys_with_error(State::Failed, error.as_deref())?,
    };
    ahead(session, &keys)?;
    for key in &keys {
        let before = session.existing(key)?;
        let mut row = before.clone();
        row.step(Event::Retried).map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        note(session, &row, What::Moved(Event::Retried), person, None, now)?;
    }
    Ok(keys.len() as u64)
}

pub(in crate::ledger) fn approve<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    let mut kept = Kept::new("approved");
    ahead(session, keys)?;
    for key in keys {
        let hold = session.store.hold(key)?.filter(|hold| hold.closed.is_none());
        let hold = hold.ok_or_else(|| LedgerError::NoSuchHold { key: key.clone(), wanted: "open" })?;
        let refuse =
            |advice| LedgerError::CannotApprove { key: key.clone(), reason: hold.reason.clone(), advice };
        if hold.reason == COLLISION {
            return Err(refuse("its record would overwrite another one; change the id template").into());
        }
        if hold.reason == Suspicion::IdentityChanged.reason() {
            return Err(refuse("put the mapping back, or restate it").into());
        }
        if hold.reason == MOVING {
            return Err(LedgerError::Moving(key.clone()).into());
        }
        let (Some(candidate), Some(bytes)) = (session.store.hold_candidate(key)?, &hold.candidate) else {
            let advice = "mapping made no record of it; mend the tables, and it is mapped again";
            return Err(refuse(advice).into());
        };
        let before = session.existing(key)?;
        let mut wanted = StoredCandidate::from_json(key, &candidate)?.wanted(bytes);
        if before.frozen() && before.wanted.as_ref().is_some_and(|old| old.identity != wanted.identity) {
            return Err(refuse("its identity would change after it was sent").into());
        }
        if session.store.owner(before.usage_type, &wanted.identity)?.is_some_and(|owner| owner != *key) {
            return Err(refuse("its record would overwrite another one").into());
        }
        let payload = kept.place(session, hold.rules_digest, bytes, now)?;
        wanted.payload = Some(payload);
        let event = if before.state == State::Held { Event::Released } else { Event::Restated };
        let mut row = before.clone();
        row.want(event, wanted, hold.source_digest).map_err(illegal(key))?;
        row.on_hold = false;
        session.store.close_hold(key, HoldEnd::Approved, Some(person), now)?;
        session.save(Some(&before), &row)?;
        note(session, &row, What::Moved(event), person, Some(payload.chunk), now)?;
    }
    kept.finish(session)?;
    Ok(keys.len() as u64)
}

pub(in crate::ledger) fn close_holds<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    end: HoldEnd,
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    ahead(session, keys)?;
    for key in keys {
        let hold = session.store.hold(key)?;
        if hold.is_some_and(|hold| hold.closed.is_none() && hold.reason == MOVING) {
            return Err(LedgerError::Moving(key.clone()).into());
        }
        if !session.store.close_hold(key, end, Some(person), now)? {
            return Err(LedgerError::NoSuchHold { key: key.clone(), wanted: "open" }.into());
        }
        let before = session.existing(key)?;
        let mut row = Row { on_hold: false, ..before.clone() };
        let what = if row.state == State::Held {
            row.step(Event::Dropped).map_err(illegal(key))?;
            What::Moved(Event::Dropped)
        } else {
            What::Noted(Note::HoldClosed)
        };
        session.save(Some(&before), &row)?;
        note(session, &row, what, person, None, now)?;
    }
    Ok(keys.len() as u64)
}

pub(in crate::ledger) fn reopen_holds<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    ahead(session, keys)?;
    for key in keys {
        if !session.store.unwaive(key)? {
            return Err(LedgerError::NoSuchHold { key: key.clone(), wanted: "waived" }.into());
        }
        let before = session.existing(key)?;
        let mut row = Row { on_hold: true, ..before.clone() };
        let what = if row.state == State::Superseded {
            row.step(Event::Held).map_err(illegal(key))?;
            What::Moved(Event::Held)
        } else {
            What::Noted(Note::HoldOpened)
        };
        session.save(Some(&before), &row)?;
        note(session, &row, what, person, None, now)?;
    }
    Ok(keys.len() as u64)
}

pub(in crate::ledger) fn close_quarantine<S: Store>(
    session: &mut Session<'_, S>,
    ids: &[i64],
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    let mut closed = 0;
    for id in ids {
        closed += u64::from(session.store.close_text(*id, person, now)?);
    }
    Ok(closed)
}
