//! The brake on a whole night: what a resource is usually charged a day, and what is held where a night goes far beyond.
//!
//! Usual is the median of the days on which the service accepted anything, kept for the last [`KEPT_DAYS`] of them;
//! below [`FEWEST_DAYS`] nothing is known and nothing is held. A night may charge so many usual days as were missed.

use super::hold::hold_pending;
use super::session::Session;
use crate::ledger::restate::{NIGHT, OTHER_TIMES};
use crate::ledger::store::Store;
use crate::ledger::{Braked, HoldEnd, LedgerError, Row, State};
use amie_usage::{Decimal, UsageType};
use std::collections::BTreeMap;

/// Days with accepted charges that are remembered.
const KEPT_DAYS: usize = 60;

/// Days with accepted charges that it takes to know what is usual.
const FEWEST_DAYS: usize = 7;

const DAY: i64 = 86_400;

/// Rows that are read together.
const PAGE: usize = 500;

/// Days since 1970 -> charge accepted on that day for the first time.
type Days = BTreeMap<i64, Decimal>;

fn name(resource: &str) -> String {
    format!("accepted-by-day/{resource}")
}

fn days<S: Store>(session: &Session<'_, S>, resource: &str) -> Result<Days, S::Fail> {
    let Some(text) = session.store.meta(&name(resource))? else { return Ok(Days::new()) };
    let damaged =
        |error: serde_json::Error| LedgerError::Inconsistent(format!("days of {resource}: {error}"));
    Ok(serde_json::from_str(&text).map_err(damaged)?)
}

/// Remembers what was accepted for the first time, by resource.
pub(super) fn accepted<S: Store>(
    session: &Session<'_, S>,
    charges: &BTreeMap<String, Decimal>,
    now: i64,
) -> Result<(), S::Fail> {
    for (resource, charge) in charges {
        let mut days = days(session, resource)?;
        let day = days.entry(now.div_euclid(DAY)).or_insert(Decimal::ZERO);
        *day = day.checked_add(*charge).ok_or(LedgerError::ChargeOverflow)?;
        while days.len() > KEPT_DAYS {
            days.pop_first();
        }
        let text = serde_json::to_string(&days)
            .map_err(|error| LedgerError::Inconsistent(format!("days of {resource}: {error}")))?;
        session.store.set_meta(&name(resource), &text)?;
    }
    Ok(())
}

/// What is usual on one day before today, and how many days passed since the last of those.
fn usual(days: &Days, today: i64) -> Option<(Decimal, u32)> {
    let mut past: Vec<Decimal> = days.range(..today).map(|(_, charge)| *charge).collect();
    if past.len() < FEWEST_DAYS {
        return None;
    }
    past.sort_unstable();
    let (last, _) = days.range(..today).next_back()?;
    let missed = u32::try_from(today.saturating_sub(*last)).unwrap_or(1).max(1);
    // Of an even number of days, the larger one of the two in the middle.
    past.get(past.len() / 2).map(|median| (*median, missed))
}

fn times(charge: Decimal, factor: u32) -> Option<Decimal> {
    charge.units().checked_mul(i128::from(factor)).map(|units| Decimal::new(units, charge.places()))
}

/// Holds the new records of every resource that is about to charge more than `factor` usual days for each day since
/// the last.
pub(in crate::ledger) fn brake_night<S: Store>(
    session: &mut Session<'_, S>,
    factor: u32,
    now: i64,
) -> Result<Vec<Braked>, S::Fail> {
    let today = now.div_euclid(DAY);
    let mut pending: BTreeMap<i64, Decimal> = BTreeMap::new();
    for ((usage_type, resource, _, state), (_, charge)) in session.store.tallies()? {
        if usage_type == UsageType::Compute && state == State::Pending {
            let sum = pending.entry(resource).or_insert(Decimal::ZERO);
            *sum = sum.checked_add(charge).ok_or(LedgerError::ChargeOverflow)?;
        }
    }
    let mut braked = Vec::new();
    for (resource, pending) in pending {
        let resource = session.store.name(resource)?;
        let days = days(session, &resource)?;
        let Some((usual, missed)) = usual(&days, today) else { continue };
        let Some(allowed) = times(usual, factor).and_then(|charge| times(charge, missed)) else { continue };
        // Most nights end here: all that is pending, whatever for, is no more than usual.
        let sent_today = days.get(&today).copied().unwrap_or(Decimal::ZERO);
        if pending.checked_add(sent_today).is_some_and(|sum| sum <= allowed) {
            continue;
        }
        let (mut records, mut charge) = (0, sent_today);
        each_new(session, &resource, |_, row| {
            records += 1;
            let more = row.wanted.as_ref().map_or(Decimal::ZERO, |wanted| wanted.charge);
            charge = charge.checked_add(more).ok_or(LedgerError::ChargeOverflow)?;
            Ok(())
        })?;
        if charge <= allowed || records == 0 {
            continue;
        }
        let found = Braked { resource, records, charge, usual, allowed };
        let detail = found.to_string();
        let name = std::sync::Arc::clone(&found.resource);
        each_new(session, &name, |session, row| hold_pending(session, row, NIGHT, &detail, now))?;
        braked.push(found);
    }
    Ok(braked)
}

/// Pending rows of a resource that were never sent and that no person has let pass before, in key order.
fn each_new<S: Store>(
    session: &mut Session<'_, S>,
    resource: &str,
    mut each: impl FnMut(&mut Session<'_, S>, Row) -> Result<(), S::Fail>,
) -> Result<(), S::Fail> {
    let mut after = String::new();
    loop {
        let mut page = Vec::new();
        let mut last = None;
        session.store.in_state(State::Pending, UsageType::Compute, &after, PAGE, |row| {
            last = Some(row.key.clone());
            let ours = row.wanted.as_ref().is_some_and(|wanted| *wanted.identity.resource == *resource);
            if ours && row.sent.is_none() && !row.taken {
                page.push(row);
            }
            true
        })?;
        let Some(last) = last else { return Ok(()) };
        after = last;
        for row in page {
            let hold = session.store.hold(&row.key)?;
            let passed = hold.is_some_and(|hold| {
                // What is also known by other times was asked about instead, and let pass.
                let asked = hold.reason == NIGHT || hold.reason == OTHER_TIMES;
                asked && hold.closed.is_some_and(|end| end.how == HoldEnd::Approved.as_str())
            });
            if !passed {
                each(session, row)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn of(charges: &[&str]) -> Days {
        (0..).zip(charges).map(|(day, text)| (day, charge(text))).collect()
    }

    #[test]
    fn the_usual_day_is_the_median_of_the_days_before() {
        let week = of(&["10", "12", "11", "9", "400", "10.5", "11"]);
        assert_eq!(usual(&week, 7), Some((charge("11"), 1)), "one outlier does not change what is usual");
        assert_eq!(usual(&week, 10), Some((charge("11"), 4)), "missed nights are caught up");
        assert_eq!(usual(&week, 6), None, "today's own charge is no history, and six days are too few");
        let even = of(&["1", "2", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(usual(&even, 8), Some((charge("5"), 1)));
    }

    #[test]
    fn a_product_is_exact_or_none() {
        assert_eq!(times(charge("0.123456"), 30), Some(charge("3.70368")));
        assert_eq!(times(Decimal::new(i128::MAX / 2, 0), 3), None);
    }
}
