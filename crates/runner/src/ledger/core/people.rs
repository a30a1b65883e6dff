//! What people decide: approvals, waivers, retries, fates of what may have arrived.

use super::go_live::withhold_early;
use super::hold::StoredCandidate;
use super::kept::Kept;
use super::session::{Session, illegal};
use super::twin::Times;
use super::{adjust, twin, watch};
use crate::ledger::restate::{BELOW_REFUND, COLLISION, MOVING, OTHER_TIMES, Suspicion};
use crate::ledger::row::Wanted;
use crate::ledger::store::{Ahead, NewEvent, NewHold, Store};
use crate::ledger::{
    Decided, Event, Hold, HoldEnd, IllegalEvent, LedgerError, Note, Person, Retry, Row, State, What,
};

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
) -> Result<Decided, S::Fail> {
    decide(session, keys, person, now, |row| row.resolve(arrived))
}

pub(in crate::ledger) fn resolve_accepted<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    loaded: bool,
    person: Person<'_>,
    now: i64,
) -> Result<Decided, S::Fail> {
    decide(session, keys, person, now, |row| match loaded {
        true => row.seen_loaded(now),
        // What was refused or failed is retried as such: here a person speaks of what the service took.
        false if row.state != State::Accepted => {
            Err(IllegalEvent { state: Some(row.state), event: Event::Absent })
        }
        false => row.step(Event::Retried).map(|()| vec![Event::Retried]),
    })
}

/// Does to each row what a person decided, and notes the events that this answers. What is to be sent again for it may be too
/// early by now.
fn decide<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
    change: impl Fn(&mut Row) -> Result<Vec<Event>, IllegalEvent>,
) -> Result<Decided, S::Fail> {
    let mut decided = Decided::default();
    ahead(session, keys)?;
    for key in keys {
        let before = session.existing(key)?;
        let mut row = before.clone();
        let events = change(&mut row).map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        for event in events {
            note(session, &row, What::Moved(event), person, None, now)?;
        }
        let again = row.state == State::Pending;
        decided.count(again && withhold_early(session, &row, row.wanted.as_ref(), Some(person), now)?);
    }
    Ok(decided)
}

pub(in crate::ledger) fn retry<S: Store>(
    session: &mut Session<'_, S>,
    which: &Retry,
    person: Person<'_>,
    now: i64,
) -> Result<Decided, S::Fail> {
    let mut decided = Decided::default();
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
        decided.count(withhold_early(session, &row, row.wanted.as_ref(), Some(person), now)?);
    }
    Ok(decided)
}

pub(in crate::ledger) fn approve<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
) -> Result<Decided, S::Fail> {
    let mut kept = Kept::new("approved");
    let mut decided = Decided::default();
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
        if withhold_early(session, &before, Some(&wanted), Some(person), now)? {
            decided.withheld += 1;
            continue;
        }
        if let Some((reason, detail)) = not_asked(session, &before, &hold, &wanted)? {
            let again =
                NewHold { reason, detail: &detail, candidate: Some((candidate, bytes)), ..same(&hold) };
            session.store.open_hold(&again, now)?;
            let what = What::Noted(Note::HoldOpened);
            let event = NewEvent { person: Some(person.by), ..NewEvent::of(now, what, &before, reason) };
            session.store.note(&event)?;
            decided.asked_again += 1;
            continue;
        }
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
        if before.frozen() {
            watch::restated(session, now)?;
        }
        decided.done += 1;
    }
    kept.finish(session)?;
    Ok(decided)
}

/// What else stands against a record, that whoever approves it for the reason of its hold was not asked about.
fn not_asked<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    hold: &Hold,
    wanted: &Wanted,
) -> Result<Option<(&'static str, String)>, S::Fail> {
    // One question after the other: who is asked about a refund knew of the other times.
    if hold.reason == BELOW_REFUND {
        return Ok(None);
    }
    if hold.reason != OTHER_TIMES
        && let Some(known) = twin::known(session, &hold.key, Times::of(wanted))?
    {
        return Ok(Some((OTHER_TIMES, twin::detail(&known, wanted.identity.submit))));
    }
    let Some(refunded) = adjust::above(session, row, wanted.charge)? else { return Ok(None) };
    let charged = row.wanted.as_ref().map_or_else(String::new, |old| old.charge.to_string());
    Ok(Some((BELOW_REFUND, adjust::below_detail(&charged, refunded, wanted.charge))))
}

/// The same question once more.
fn same(hold: &Hold) -> NewHold<'_> {
    NewHold {
        key: &hold.key,
        usage_type: hold.usage_type,
        reason: &hold.reason,
        detail: &hold.detail,
        run: &hold.run,
        source_digest: hold.source_digest,
        rules_digest: hold.rules_digest,
        file: &hold.file,
        line: hold.line,
        candidate: None,
    }
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
