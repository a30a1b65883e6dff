//! What the service shows, held against what was sent.

use super::left::{self, Left, LeftVerdict};
use super::session::{Session, illegal};
use crate::ledger::sight::{
    Failure, FailureVerdict, Load, LoadVerdict, judge_failure, judge_load, places_kept,
};
use crate::ledger::store::{Ahead, NewEvent, Store};
use crate::ledger::{Confirmed, Event, LedgerError, Note, Row, Sighting, What};
use amie_usage::{Decimal, UsageType};

/// The most places of a charge that the service was ever seen to keep.
const PLACES: &str = "charge_places";

fn known_places<S: Store>(session: &Session<'_, S>) -> Result<u8, S::Fail> {
    let Some(text) = session.store.meta(PLACES)? else { return Ok(0) };
    let places = text.parse();
    Ok(places.map_err(|_| LedgerError::Inconsistent(format!("{PLACES} is \"{text}\"")))?)
}

/// Set when the service first showed a load.
const SHOWS_LOADS: &str = "shows_loads";

/// True where the service was ever seen to list what it has loaded.
pub(super) fn shows_loads<S: Store>(session: &Session<'_, S>) -> Result<bool, S::Fail> {
    Ok(session.store.meta(SHOWS_LOADS)?.is_some())
}

pub(in crate::ledger) fn confirm<S: Store>(
    session: &mut Session<'_, S>,
    sightings: &[Sighting],
    now: i64,
) -> Result<Confirmed, S::Fail> {
    let mut report = Confirmed::default();
    let mut reconciliation = None;
    let known = known_places(session)?;
    let mut places = known;
    let any_left = left::any(session)?;
    if sightings.iter().any(|sighting| matches!(sighting, Sighting::Loaded { .. })) && !shows_loads(session)?
    {
        session.store.set_meta(SHOWS_LOADS, "1")?;
    }
    session.store.ahead(Ahead::Sightings(sightings))?;
    for sighting in sightings {
        match sighting {
            Sighting::Loaded {
                usage_type,
                resource,
                local_record_id,
                submit,
                charge,
                charge_places,
                loaded_at,
            } => {
                let row = match shown(session, *usage_type, resource, local_record_id, *submit, None)? {
                    Shown::Row(row) => row,
                    Shown::Foreign if any_left => {
                        let left = left::by(session, *usage_type, resource, local_record_id, *submit)?;
                        let at = loaded_at.map_or_else(String::new, |at| format!(", loaded at {at}"));
                        let charge_shown =
                            charge.map_or_else(|| "a charge".to_owned(), |charge| charge.to_string());
                        let what = format!("{charge_shown} under {local_record_id} of {resource}{at}");
                        let verdict = left.as_ref().map(|left| left.load(*charge, *loaded_at));
                        count_left(session, left.zip(verdict), &what, &mut report, now)?;
                        continue;
                    }
                    other => {
                        other.count(&mut report);
                        continue;
                    }
                };
                let load = Load { charge: *charge, charge_places: *charge_places, loaded_at: *loaded_at };
                places = places.max(places_kept(&row, &load).unwrap_or(0));
                let load = Load { charge_places: Some(places.max(charge_places.unwrap_or(0))), ..load };
                loaded(session, *row, &load, &mut reconciliation, &mut report, now)?;
            }
            Sighting::Failed {
                usage_type,
                resource,
                local_record_id,
                submit,
                error,
                failed_id,
                local_reference,
                processed_at,
            } => {
                let key = local_reference.as_deref();
                let row = match shown(session, *usage_type, resource, local_record_id, *submit, key)? {
                    Shown::Row(row) => row,
                    Shown::Foreign if any_left => {
                        let left = left::by(session, *usage_type, resource, local_record_id, *submit)?;
                        let verdict = match &left {
                            Some(left) => Some(left_failed(session, left, failed_id.as_deref())?),
                            None => None,
                        };
                        let what = format!("a failure under {local_record_id} of {resource}: {error}");
                        count_left(session, left.zip(verdict), &what, &mut report, now)?;
                        continue;
                    }
                    other => {
                        other.count(&mut report);
                        continue;
                    }
                };
                failed(session, *row, error, failed_id.as_deref(), *processed_at, &mut report, now)?;
                // A load of the same row in this list is later than its failure: it needs a later event.
                reconciliation = None;
            }
        }
    }
    if places > known {
        session.store.set_meta(PLACES, &places.to_string())?;
    }
    Ok(report)
}

/// Whom a sighting is about.
enum Shown {
    Row(Box<Row>),
    /// Another row of ours, from when the identity was its own: what became of that row is known.
    Former,
    Foreign,
    Incomplete,
}

impl Shown {
    fn count(&self, report: &mut Confirmed) {
        match self {
            Self::Former => report.stale += 1,
            Self::Incomplete => report.incomplete += 1,
            Self::Foreign | Self::Row(_) => report.foreign += 1,
        }
    }
}

/// The row with an identity. Without the submit time it takes our own key, echoed, or that only one row can be meant;
/// and then only where the sighting has a key to echo at all (a failure).
fn shown<S: Store>(
    session: &Session<'_, S>,
    usage_type: UsageType,
    resource: &str,
    local_record_id: &str,
    submit: Option<i64>,
    reference: Option<&str>,
) -> Result<Shown, S::Fail> {
    let keys = session.store.shown(usage_type, resource, local_record_id, submit)?;
    let key = match (submit, reference, keys.as_slice()) {
        (_, _, []) => return Ok(Shown::Foreign),
        (Some(_), Some(reference), [key, ..])
            if reference != key && session.store.row(reference)?.is_some() =>
        {
            return Ok(Shown::Former);
        }
        (Some(_), _, [key, ..]) => key,
        (None, Some(reference), keys) => match keys.iter().find(|key| *key == reference) {
            Some(key) => key,
            None => return Ok(Shown::Incomplete),
        },
        (None, None, _) => return Ok(Shown::Incomplete),
    };
    Ok(Shown::Row(Box::new(session.existing(key)?)))
}

/// Counts what is shown of nobody's record, or of one whose row went on under another identity, and notes an alarm.
fn count_left<S: Store>(
    session: &Session<'_, S>,
    left: Option<(Left, LeftVerdict)>,
    shown: &str,
    report: &mut Confirmed,
    now: i64,
) -> Result<(), S::Fail> {
    match left {
        None => report.foreign += 1,
        Some((_, LeftVerdict::Known)) => report.again += 1,
        Some((left, LeftVerdict::Charged)) => {
            report.mismatched += 1;
            let detail = format!("the service shows {shown}; this record left that identity, with zero");
            note_once(session, &session.existing(&left.key)?, &detail, now)?;
        }
    }
    Ok(())
}

/// A failure of an earlier send, which the service repeats, is known; so is any where the zero was seen loaded.
fn left_failed<S: Store>(
    session: &Session<'_, S>,
    left: &Left,
    failed_id: Option<&str>,
) -> Result<LeftVerdict, S::Fail> {
    match failed_id {
        Some(id) if session.store.failure_known(&left.key, id)? => Ok(LeftVerdict::Known),
        _ => Ok(left.failure()),
    }
}

fn loaded<S: Store>(
    session: &mut Session<'_, S>,
    before: Row,
    load: &Load,
    reconciliation: &mut Option<i64>,
    report: &mut Confirmed,
    now: i64,
) -> Result<(), S::Fail> {
    match judge_load(&before, load) {
        LoadVerdict::Again => report.again += 1,
        LoadVerdict::Stale => report.stale += 1,
        LoadVerdict::Incomplete => report.incomplete += 1,
        LoadVerdict::NotNow => report.not_now += 1,
        LoadVerdict::Mismatch => {
            report.mismatched += 1;
            note_mismatch(session, &before, load, now)?;
        }
        LoadVerdict::Confirms { at, charge } => {
            report.loaded += 1;
            let event = match *reconciliation {
                Some(event) => event,
                None => session.store.note(&NewEvent::moved(now, Event::Loaded))?,
            };
            *reconciliation = Some(event);
            let mut row = before.clone();
            let events = row.load(event, at, charge).map_err(illegal(&row.key))?;
            session.save(Some(&before), &row)?;
            note_promotion(session, &row, &events, now)?;
        }
    }
    Ok(())
}

/// Notes an alarm, once for each load however often it is seen.
fn note_mismatch<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    load: &Load,
    now: i64,
) -> Result<(), S::Fail> {
    let shown = load.charge.unwrap_or(Decimal::ZERO);
    let sent = row.sent.map_or(Decimal::ZERO, |sent| sent.charge);
    let detail = format!(
        "the service shows {shown}, loaded at {}; version {} was sent with {sent}",
        load.loaded_at.unwrap_or_default(),
        row.sent.map_or(0, |sent| sent.version)
    );
    note_once(session, row, &detail, now)
}

fn note_once<S: Store>(session: &Session<'_, S>, row: &Row, detail: &str, now: i64) -> Result<(), S::Fail> {
    let what = What::Noted(Note::Mismatched);
    if !session.store.noted(&row.key, what, detail)? {
        session.store.note(&NewEvent::of(now, what, row, detail))?;
    }
    Ok(())
}

fn note_promotion<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    events: &[Event],
    now: i64,
) -> Result<(), S::Fail> {
    for event in events.iter().filter(|event| **event == Event::Promoted) {
        session.store.note(&NewEvent::of(now, What::Moved(*event), row, "the version before is settled"))?;
    }
    Ok(())
}

fn failed<S: Store>(
    session: &mut Session<'_, S>,
    before: Row,
    error: &str,
    failed_id: Option<&str>,
    processed_at: Option<i64>,
    report: &mut Confirmed,
    now: i64,
) -> Result<(), S::Fail> {
    let new_id = match failed_id {
        None => None,
        Some(id) => Some(!session.store.failure_known(&before.key, id)?),
    };
    let verdict = judge_failure(&before, &Failure { error, new_id, processed_at });
    // Once it was judged it is an old one, whatever is sent later.
    if let Some(id) = failed_id
        && verdict != FailureVerdict::NotNow
    {
        session.store.remember_failure(&before.key, id)?;
    }
    match verdict {
        FailureVerdict::Stale => report.stale += 1,
        FailureVerdict::NotNow => report.not_now += 1,
        FailureVerdict::Fails => {
            report.failed += 1;
            let mut row = before.clone();
            let events = row.fail(error).map_err(illegal(&row.key))?;
            session.save(Some(&before), &row)?;
            session.store.note(&NewEvent::of(now, What::Moved(Event::Failed), &before, error))?;
            note_promotion(session, &row, &events, now)?;
        }
    }
    Ok(())
}
