//! What people decide: approvals, waivers, retries, fates of what may have arrived.

use super::Fail;
use super::codes::{state_code, type_code};
use super::store::{NewEvent, Session, illegal};
use crate::ledger::restate::{COLLISION, Suspicion};
use crate::ledger::row::PayloadRef;
use crate::ledger::{Event, HoldEnd, LedgerError, Note, Person, Retry, Row, State, What};
use amie_usage::UsageType;

/// Notes an event of one row with the person behind it.
fn note(
    session: &Session<'_>,
    row: &Row,
    what: What,
    person: Person<'_>,
    chunk: Option<i64>,
    now: i64,
) -> Result<(), Fail> {
    let event = NewEvent { person: Some(person.by), chunk, ..NewEvent::of(now, what, row, person.why) };
    session.note(&event)?;
    Ok(())
}

pub(super) fn resolve_unknown(
    session: &mut Session<'_>,
    key: &str,
    arrived: bool,
    person: Person<'_>,
    now: i64,
) -> Result<(), Fail> {
    let before = session.existing(key)?;
    let mut row = before.clone();
    let events = row.resolve(arrived).map_err(illegal(key))?;
    session.save(Some(&before), &row)?;
    events.into_iter().try_for_each(|event| note(session, &row, What::Moved(event), person, None, now))
}

pub(super) fn retry(
    session: &mut Session<'_>,
    which: &Retry,
    person: Person<'_>,
    now: i64,
) -> Result<u64, Fail> {
    let keys = match which {
        Retry::Keys(keys) => keys.clone(),
        Retry::Rejected(error) => keys_in(session, State::Rejected, error.as_deref())?,
        Retry::Failed(error) => keys_in(session, State::Failed, error.as_deref())?,
    };
    for key in &keys {
        let before = session.existing(key)?;
        let mut row = before.clone();
        row.step(Event::Retried).map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        note(session, &row, What::Moved(Event::Retried), person, None, now)?;
    }
    Ok(keys.len() as u64)
}

fn keys_in(session: &Session<'_>, state: State, error: Option<&str>) -> Result<Vec<String>, Fail> {
    let sql = "SELECT key FROM record WHERE state IN (1, 3, 5, 7) AND state = ?1 AND usage_type = ?2 \
               AND (?3 IS NULL OR error = ?3)";
    let mut statement = session.connection.prepare_cached(sql)?;
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

pub(super) fn approve(
    session: &mut Session<'_>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
) -> Result<u64, Fail> {
    // One chunk for each set of rules, so that a row still tells what it was priced by.
    let mut chunk: Option<(i64, u128, Vec<u8>)> = None;
    for key in keys {
        let hold = session.hold(key)?.filter(|hold| hold.closed.is_none());
        let hold = hold.ok_or_else(|| LedgerError::NoSuchHold { key: key.clone(), wanted: "open" })?;
        let refuse = |advice| -> Fail {
            LedgerError::CannotApprove { key: key.clone(), reason: hold.reason.clone(), advice }.into()
        };
        if hold.reason == COLLISION {
            return Err(refuse("its record would overwrite another one; change the id template"));
        }
        if hold.reason == Suspicion::IdentityChanged.reason() {
            return Err(refuse("put the mapping back, or restate it"));
        }
        let (Some(candidate), Some(bytes)) = (session.candidate(key)?, &hold.candidate) else {
            return Err(refuse("mapping made no record of it; mend the tables, and it is mapped again"));
        };
        let before = session.existing(key)?;
        let mut wanted = candidate.wanted(bytes);
        if before.frozen() && before.wanted.as_ref().is_some_and(|old| old.identity != wanted.identity) {
            return Err(refuse("its identity would change after it was sent"));
        }
        if session.identity_owner(before.usage_type, &wanted.identity)?.is_some_and(|owner| owner != *key) {
            return Err(refuse("its record would overwrite another one"));
        }
        if let Some((id, _, kept)) = chunk.take_if(|(_, rules, _)| *rules != hold.rules_digest)
            && session.refers_to(id)
        {
            session.store_payloads(id, &kept)?;
        }
        if chunk.is_none() {
            chunk =
                Some((session.new_chunk("approved", hold.rules_digest, now)?, hold.rules_digest, Vec::new()));
        }
        let Some((id, _, kept)) = chunk.as_mut() else { continue };
        let place = u32::try_from(kept.len()).ok().zip(u32::try_from(bytes.len()).ok());
        let (offset, len) = place.ok_or_else(|| refuse("too many at once: approve fewer"))?;
        kept.extend_from_slice(bytes);
        wanted.payload = Some(PayloadRef { chunk: *id, offset, len });
        let event = if before.state == State::Held { Event::Released } else { Event::Restated };
        let mut row = before.clone();
        row.want(event, wanted, hold.source_digest).map_err(illegal(key))?;
        row.on_hold = false;
        session.close_hold(key, HoldEnd::Approved, Some(person), now)?;
        session.save(Some(&before), &row)?;
        note(session, &row, What::Moved(event), person, Some(*id), now)?;
    }
    if let Some((id, _, kept)) = chunk
        && session.refers_to(id)
    {
        session.store_payloads(id, &kept)?;
    }
    Ok(keys.len() as u64)
}

pub(super) fn close_holds(
    session: &mut Session<'_>,
    keys: &[String],
    end: HoldEnd,
    person: Person<'_>,
    now: i64,
) -> Result<u64, Fail> {
    for key in keys {
        if !session.close_hold(key, end, Some(person), now)? {
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

pub(super) fn reopen_hold(
    session: &mut Session<'_>,
    key: &str,
    person: Person<'_>,
    now: i64,
) -> Result<(), Fail> {
    let sql = "UPDATE hold SET closed_at = NULL, closed_how = NULL, closed_by = NULL, closed_why = NULL \
               WHERE key = ?1 AND closed_how = ?2";
    if session.connection.prepare_cached(sql)?.execute((key, HoldEnd::Waived.as_str()))? == 0 {
        return Err(LedgerError::NoSuchHold { key: key.to_owned(), wanted: "waived" }.into());
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
    note(session, &row, what, person, None, now)
}

pub(super) fn close_quarantine(
    session: &mut Session<'_>,
    ids: &[i64],
    person: Person<'_>,
    now: i64,
) -> Result<u64, Fail> {
    let sql = "UPDATE quarantine SET closed_at = ?2, closed_by = ?3, closed_why = ?4 \
               WHERE id = ?1 AND closed_at IS NULL";
    let mut statement = session.connection.prepare_cached(sql)?;
    let mut closed = 0;
    for id in ids {
        closed += statement.execute((id, now, person.by, person.why))? as u64;
    }
    Ok(closed)
}
