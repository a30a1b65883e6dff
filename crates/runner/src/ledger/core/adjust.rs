//! Adjustments: judged and taken in together, each once, refunds never beyond what was charged.

use super::kept::Kept;
use super::session::{Session, digest_of, illegal};
use crate::ledger::row::{Identity, Wanted};
use crate::ledger::store::{Ahead, NewEvent, Store};
use crate::ledger::{
    Adjustment, AdjustmentVerdict, Event, LedgerError, Person, REFUNDS, Row, SourceFacts, State, What,
};
use amie_usage::{Decimal, UsageType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows that are read together.
const PAGE: usize = 500;

/// True where anything was ever refunded: most sites never do, and need not be asked run by run.
pub(super) fn any_refunds<S: Store>(session: &Session<'_, S>) -> Result<bool, S::Fail> {
    session.any_begins(REFUNDS)
}

/// What refunds of a run give back, where a charge would be lower than before, and lower than that.
pub(super) fn above<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    charge: Decimal,
) -> Result<Option<Decimal>, S::Fail> {
    let lower = row.frozen() && row.wanted.as_ref().is_some_and(|wanted| charge < wanted.charge);
    if !lower || row.usage_type != UsageType::Compute {
        return Ok(None);
    }
    Ok(Some(refunded(session, &row.key)?).filter(|refunded| charge < *refunded))
}

/// What became of the refunds of one run: how much, in the ledger and before this one.
fn refunded<S: Store>(session: &Session<'_, S>, run: &str) -> Result<Decimal, S::Fail> {
    let prefix = format!("{REFUNDS}{run}/");
    let (mut after, mut sum) = (prefix.clone(), Decimal::ZERO);
    loop {
        let rows = session.store.rows_after(None, &after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(sum) };
        after.clone_from(&last.key);
        for row in &rows {
            if !row.key.starts_with(&prefix) {
                return Ok(sum);
            }
            // Also what is refused or of unknown fate: it may still be sent, or have arrived. Not what was withdrawn.
            if row.state != State::Superseded {
                let charge = row.wanted.as_ref().map_or(Decimal::ZERO, |wanted| wanted.charge);
                sum = sum.checked_add(charge).ok_or(LedgerError::ChargeOverflow)?;
            }
        }
    }
}

/// The question to a person.
pub(super) fn below_detail(charged: &str, refunded: Decimal, charge: Decimal) -> String {
    format!(
        "sent with charge {charged}, of which refunds give back {refunded}; it would be {charge} now, less than that. Approve it \
         and take back what was refunded too much by a debit (`amie-runner adjust`), or waive it and correct the charge by \
         another adjustment"
    )
}

/// What the service holds of a run, at the least: the smaller one of what was sent and what is wanted by now.
fn charged(row: &Row) -> Option<Decimal> {
    let (wanted, sent) = (row.wanted.as_ref()?, row.sent?);
    let holds = match row.state {
        State::Accepted | State::Loaded => row.taken,
        // On its way once more: only what was seen loaded before is surely held. It may have failed, or got lost.
        State::Pending | State::Sending | State::Unknown => row.taken && row.loaded.is_some(),
        State::Held | State::Rejected | State::Failed | State::Superseded => false,
    };
    holds.then_some(sent.charge.min(wanted.charge))
}

fn identity_of(adjustment: &Adjustment) -> Identity {
    Identity {
        resource: Arc::clone(&adjustment.resource),
        local_record_id: adjustment.local_record_id.clone(),
        submit: adjustment.start,
    }
}

/// What would become of adjustments, in their order; nothing is changed.
pub(in crate::ledger) fn judge<S: Store>(
    session: &Session<'_, S>,
    adjustments: &[Adjustment],
) -> Result<Vec<AdjustmentVerdict>, S::Fail> {
    let asked: Vec<&str> = adjustments
        .iter()
        .flat_map(|one| [Some(one.key.as_str()), one.refunds.as_deref()])
        .flatten()
        .collect();
    session.store.ahead(Ahead::Keys(&asked))?;
    let mut keys = BTreeSet::new();
    let mut identities = BTreeMap::new();
    let mut refunds: BTreeMap<&str, Decimal> = BTreeMap::new();
    let mut verdicts = Vec::with_capacity(adjustments.len());
    for adjustment in adjustments {
        let id = identity_of(adjustment);
        if !keys.insert(adjustment.key.as_str()) {
            verdicts.push(AdjustmentVerdict::Repeated);
            continue;
        }
        if let Some(row) = session.store.row(&adjustment.key)? {
            let same = row.wanted.as_ref().is_some_and(|wanted| {
                wanted.identity == id
                    && wanted.charge == adjustment.charge
                    && *wanted.project == *adjustment.project
                    && *wanted.username == *adjustment.username
            });
            verdicts.push(if same {
                AdjustmentVerdict::Known(row.state)
            } else {
                AdjustmentVerdict::Differs
            });
            continue;
        }
        // The service knows an adjustment by its id on a resource, whatever its time.
        let place = (Arc::clone(&adjustment.resource), adjustment.local_record_id.clone());
        let known = session.store.shown(UsageType::Adjustment, &place.0, &place.1, None)?;
        let taken = known.first().cloned().or_else(|| identities.get(&place).cloned());
        if let Some(owner) = taken {
            verdicts.push(AdjustmentVerdict::Collides { owner });
            continue;
        }
        if let Some(run) = adjustment.refunds.as_deref() {
            let row = session.store.row(run)?.filter(|row| row.usage_type == UsageType::Compute);
            let Some(charged) = row.as_ref().and_then(charged) else {
                verdicts.push(AdjustmentVerdict::NotCharged(row.map(|row| row.state)));
                continue;
            };
            let before = match refunds.get(run) {
                Some(sum) => *sum,
                None => refunded(session, run)?,
            };
            let sum = before.checked_add(adjustment.charge).ok_or(LedgerError::ChargeOverflow)?;
            if sum > charged {
                refunds.insert(run, before);
                verdicts.push(AdjustmentVerdict::BeyondCharge { charged, refunded: before });
                continue;
            }
            refunds.insert(run, sum);
        }
        identities.insert(place, adjustment.key.clone());
        verdicts.push(AdjustmentVerdict::New);
    }
    Ok(verdicts)
}

/// Gives up adjustments that the service does not hold. Answers how many.
pub(in crate::ledger) fn withdraw<S: Store>(
    session: &mut Session<'_, S>,
    keys: &[String],
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    for key in keys {
        let before = session.existing(key)?;
        let refuse = |why: &str| LedgerError::CannotWithdraw { key: key.clone(), why: why.to_owned() };
        if before.usage_type != UsageType::Adjustment {
            return Err(refuse("it is no adjustment; a run is waived: `amie-runner held waive`").into());
        }
        let may_be_held = match before.state {
            State::Accepted | State::Loaded | State::Unknown | State::Sending => true,
            // One that was refused at last may have arrived before; one that failed was taken, and then not loaded.
            State::Rejected => before.taken,
            State::Held | State::Pending | State::Failed | State::Superseded => false,
        };
        if may_be_held {
            let why = "the service may hold it; make another one against it (a debit against a refund), or say what became \
                       of it: `amie-runner held settle`";
            return Err(refuse(why).into());
        }
        let mut row = before.clone();
        row.give_up().map_err(illegal(key))?;
        session.save(Some(&before), &row)?;
        session.store.note(&NewEvent {
            person: Some(person.by),
            ..NewEvent::of(now, What::Moved(Event::Dropped), &row, person.why)
        })?;
    }
    Ok(keys.len() as u64)
}

/// Takes in those that are new, all of them or none. Answers how many.
pub(in crate::ledger) fn adjust<S: Store>(
    session: &mut Session<'_, S>,
    adjustments: &[Adjustment],
    person: Person<'_>,
    now: i64,
) -> Result<u64, S::Fail> {
    let verdicts = judge(session, adjustments)?;
    let mut kept = Kept::new("adjust");
    let mut inserted = 0;
    for (adjustment, verdict) in adjustments.iter().zip(verdicts) {
        match verdict {
            AdjustmentVerdict::New => {}
            AdjustmentVerdict::Known(_) => continue,
            fault => {
                let key = adjustment.key.clone();
                return Err(LedgerError::CannotAdjust { key, why: fault.to_string() }.into());
            }
        }
        let payload = kept.place(session, 0, &adjustment.payload, now)?;
        let digest = digest_of(&adjustment.payload);
        let row = Row {
            state: State::begin(Event::Recorded).map_err(illegal(&adjustment.key))?,
            version: 1,
            wanted: Some(Wanted {
                identity: identity_of(adjustment),
                username: Arc::clone(&adjustment.username),
                project: Arc::clone(&adjustment.project),
                charge: adjustment.charge,
                digest,
                facts: SourceFacts {
                    start: adjustment.start,
                    end: adjustment.start,
                    ..SourceFacts::default()
                },
                payload: Some(payload),
            }),
            ..Row::blank(
                adjustment.key.clone(),
                UsageType::Adjustment,
                digest,
                Arc::clone(&adjustment.file),
                adjustment.line,
            )
        };
        session.save(None, &row)?;
        session.store.note(&NewEvent {
            person: Some(person.by),
            chunk: Some(payload.chunk),
            ..NewEvent::of(now, What::Moved(Event::Recorded), &row, person.why)
        })?;
        inserted += 1;
    }
    kept.finish(session)?;
    Ok(inserted)
}
