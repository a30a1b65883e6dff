//! From one wire identity to another: zero is settled under the old one, the charge goes on under the new one.

use super::confirm;
use super::hold::StoredCandidate;
use super::kept::Kept;
use super::left::{self, Left};
use super::session::{Session, illegal};
use crate::ledger::restate::{COLLISION, MOVING};
use crate::ledger::store::{Holding, NewEvent, NewHold, Store};
use crate::ledger::{Event, Hold, HoldEnd, Note, Row, State, What};

/// Holds that are looked at together.
const PAGE: usize = 500;

/// Lets every record whose zero is settled go on under its new identity. Answers how many.
pub(in crate::ledger) fn finish_moves<S: Store>(
    session: &mut Session<'_, S>,
    quiet_seconds: u32,
    now: i64,
) -> Result<u64, S::Fail> {
    // Quiet says nothing where loads are shown: the zero may be stuck, and fail when the charge stands elsewhere.
    let quiet_since = match confirm::shows_loads(session)? {
        true => None,
        false => Some(now.saturating_sub(i64::from(quiet_seconds))),
    };
    let (mut after, mut moved) = (String::new(), 0);
    loop {
        let which = Holding { reason: Some(MOVING), other_rules: None };
        let holds = session.store.open_holds(which, &after, PAGE)?;
        let Some(last) = holds.last() else { break };
        after.clone_from(&last.key);
        let mut kept = Kept::new("moved");
        for hold in &holds {
            let before = session.existing(&hold.key)?;
            if settled_at_zero(&before, quiet_since) && finish(session, before, hold, &mut kept, now)? {
                moved += 1;
            }
        }
        kept.finish(session)?;
    }
    if moved > 0 {
        super::watch::restated(session, now)?;
    }
    Ok(moved)
}

/// True where the service holds zero under the row's identity, as far as can be known. Without a time since when it must be
/// quiet, that is where the zero was seen loaded.
fn settled_at_zero(row: &Row, quiet_since: Option<i64>) -> bool {
    let zero = row.sent.is_some_and(|sent| sent.charge.is_zero() && sent.version == row.version);
    let settled = match row.state {
        State::Loaded => true,
        State::Accepted if row.confirm.is_none() => {
            row.sent.zip(quiet_since).is_some_and(|(sent, since)| sent.last_at <= since)
        }
        _ => false,
    };
    zero && settled
}

fn finish<S: Store>(
    session: &mut Session<'_, S>,
    before: Row,
    hold: &Hold,
    kept: &mut Kept,
    now: i64,
) -> Result<bool, S::Fail> {
    let candidate = session.store.hold_candidate(&hold.key)?;
    let (Some(candidate), Some(bytes)) = (candidate, &hold.candidate) else { return Ok(false) };
    let stored = StoredCandidate::from_json(&hold.key, &candidate)?;
    let mut wanted = stored.wanted(bytes);
    let owner = session.store.owner(before.usage_type, &wanted.identity)?;
    if let Some(owner) = owner.filter(|owner| *owner != hold.key) {
        // Somebody else took the new identity meanwhile. The charge is zero until a person has decided.
        let detail = format!(
            "zero was sent under its old identity, but the new one belongs to \"{owner}\" by now: change the id \
             template, then restate its period"
        );
        session.store.open_hold(
            &NewHold {
                key: &hold.key,
                usage_type: hold.usage_type,
                reason: COLLISION,
                detail: &detail,
                run: &hold.run,
                source_digest: hold.source_digest,
                rules_digest: hold.rules_digest,
                file: &hold.file,
                line: hold.line,
                candidate: Some((candidate, bytes)),
            },
            now,
        )?;
        let what = What::Noted(Note::HoldOpened);
        session.store.note(&NewEvent::of(now, what, &before, COLLISION))?;
        return Ok(false);
    }
    let payload = kept.place(session, hold.rules_digest, bytes, now)?;
    wanted.payload = Some(payload);
    let id = &wanted.identity;
    let text =
        format!("zero is settled; now {} under {} of {}", wanted.charge, id.local_record_id, id.resource);
    if let (Some(old), Some(sent)) = (&before.wanted, before.sent) {
        let loaded = before.loaded.filter(|_| before.state == State::Loaded);
        let left = Left::new(&before.key, loaded.map(|(at, _)| at), sent.first_at);
        left::leave(session, before.usage_type, &old.identity, &left)?;
    }
    let mut row = before.clone();
    row.move_to(wanted, hold.source_digest).map_err(illegal(&hold.key))?;
    row.on_hold = false;
    session.store.close_hold(&hold.key, HoldEnd::Released, None, now)?;
    session.save(Some(&before), &row)?;
    let event =
        NewEvent { chunk: Some(payload.chunk), ..NewEvent::of(now, What::Moved(Event::Moved), &row, &text) };
    session.store.note(&event)?;
    Ok(true)
}
