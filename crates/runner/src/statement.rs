//! A project's statement, for a complaint: every run with its charge and state, what was given back, and exact sums.
//!
//! It is made from the ledger alone, in key order, and holds one page of rows at a time.

use crate::ledger::{ADJUSTMENTS, Find, Hold, Ledger, LedgerError, REFUNDS, Row, State};
use crate::restating::Period;
use amie_usage::{AdjustmentType, Decimal, UsageType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the statement is about.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// AMIE project.
    pub project: &'a str,
    /// Only of this AMIE login.
    pub user: Option<&'a str>,
    /// Only what was submitted in it (storage: collected; adjustments: their start).
    pub period: Option<Period>,
}

/// One line of a statement.
#[derive(Debug)]
pub struct Line {
    /// The row.
    pub row: Row,
    /// Of an adjustment, what it does.
    pub adjustment: Option<AdjustmentType>,
    /// What the service holds of it by now; `None` where nothing, as far as is known.
    pub charged: Option<Decimal>,
    /// What was given back of it, refused and failed refunds left out.
    pub refunded: Decimal,
    /// The open question about it.
    pub hold: Option<Hold>,
}

/// Records and their charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sum {
    /// How many.
    pub records: u64,
    /// Their charge, exactly.
    pub charge: Decimal,
}

impl Sum {
    fn add(&mut self, charge: Decimal) -> Result<(), LedgerError> {
        self.records += 1;
        self.charge = self.charge.checked_add(charge).ok_or(LedgerError::ChargeOverflow)?;
        Ok(())
    }
}

/// What a statement adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Usage that the service holds, by resource.
    pub charged: BTreeMap<String, Sum>,
    /// Usage by state: in the words of the ledger.
    pub states: BTreeMap<&'static str, Sum>,
    /// Adjustments that the service holds, by type.
    pub adjustments: BTreeMap<&'static str, Sum>,
    /// Adjustments that it does not hold, or not surely, by state.
    pub open_adjustments: BTreeMap<&'static str, Sum>,
    /// Runs that only lack an approval, by the reason that they are held for.
    pub held: BTreeMap<String, Sum>,
    /// All usage that the service holds, with debits, less credits.
    pub net: Decimal,
}

impl Totals {
    fn add(&mut self, line: &Line) -> Result<(), LedgerError> {
        let Some(wanted) = &line.row.wanted else { return Ok(()) };
        let charge = line.row.charge().unwrap_or(Decimal::ZERO);
        let state = line.row.state.as_str();
        let signed = match (line.adjustment, line.charged) {
            (None, charged) => {
                self.states.entry(state).or_default().add(charge)?;
                if let Some(charged) = charged {
                    self.charged.entry(wanted.identity.resource.to_string()).or_default().add(charged)?;
                }
                charged.unwrap_or(Decimal::ZERO)
            }
            (Some(_), None) => {
                self.open_adjustments.entry(state).or_default().add(charge)?;
                Decimal::ZERO
            }
            (Some(kind), Some(charged)) => {
                self.adjustments.entry(kind.as_str()).or_default().add(charged)?;
                if gives_back(kind) { Decimal::new(-charged.units(), charged.places()) } else { charged }
            }
        };
        self.net = self.net.checked_add(signed).ok_or(LedgerError::ChargeOverflow)?;
        Ok(())
    }
}

/// True where an adjustment makes a project's usage less.
#[must_use]
pub fn gives_back(kind: AdjustmentType) -> bool {
    match kind {
        AdjustmentType::Credit | AdjustmentType::Refund | AdjustmentType::StorageCredit => true,
        AdjustmentType::Debit | AdjustmentType::Reservation | AdjustmentType::StorageDebit => false,
    }
}

/// What the service holds of a row: the version that it took last.
fn charged(row: &Row) -> Option<Decimal> {
    let sent = row.sent.filter(|_| row.taken)?;
    match row.state {
        State::Accepted | State::Loaded => Some(sent.charge),
        // A newer version waits or is on its way: until it is taken, the one before counts.
        State::Pending if row.usage_type != UsageType::Adjustment => Some(sent.charge),
        State::Sending | State::Unknown if row.usage_type != UsageType::Adjustment => {
            row.before.map(|before| before.charge)
        }
        _ => None,
    }
}

fn adjustment_type(row: &Row) -> Option<AdjustmentType> {
    let word = row.key.strip_prefix(ADJUSTMENTS)?.split('/').next()?;
    AdjustmentType::ALL.into_iter().find(|kind| kind.as_str() == word)
}

/// Rows that are read together.
const PAGE: usize = 1000;

/// Hands out the lines of a statement in key order (adjustments first), and answers what they add up to.
///
/// # Errors
/// Where the ledger cannot be read, a sum has more than 38 digits, or whatever `each` answers.
pub fn statement<E: From<LedgerError>>(
    ledger: &dyn Ledger,
    query: &Query<'_>,
    mut each: impl FnMut(&Line) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut totals = Totals::default();
    let mut after = String::new();
    let any_refunds =
        ledger.rows(Some(query.project), REFUNDS, 1)?.iter().any(|row| row.key.starts_with(REFUNDS));
    loop {
        let rows = ledger.rows(Some(query.project), &after, PAGE)?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.key);
        for row in rows.into_iter().filter(|row| is_meant(row, query)) {
            let refunded = if any_refunds { refunded(ledger, &row.key)? } else { Decimal::ZERO };
            let hold = if row.on_hold { ledger.hold(&row.key)? } else { None };
            let line =
                Line { adjustment: adjustment_type(&row), charged: charged(&row), refunded, hold, row };
            totals.add(&line)?;
            each(&line)?;
        }
    }
    totals.held = held(ledger, query)?;
    Ok(totals)
}

/// The record that a held run would become, as far as a statement asks.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Waiting {
    username: String,
    #[serde(rename = "LocalProjectID")]
    local_project_id: String,
    #[serde(alias = "CollectionTime")]
    submit_time: String,
    charge: Decimal,
}

/// Runs of a project that were never sent and wait for an approval. What mapping made no record of has no project.
fn held(ledger: &dyn Ledger, query: &Query<'_>) -> Result<BTreeMap<String, Sum>, LedgerError> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let holds = ledger.holds(None, &after, PAGE)?;
        let Some(last) = holds.last() else { return Ok(sums) };
        after.clone_from(&last.key);
        for hold in holds {
            let Some(record) = hold.candidate.as_deref() else { continue };
            let Ok(record) = serde_json::from_slice::<Waiting>(record) else { continue };
            let submit = amie_usage::wire::parse_time(&record.submit_time);
            let meant = record.local_project_id == query.project
                && query.user.is_none_or(|user| record.username == user)
                && query.period.is_none_or(|period| submit.is_some_and(|submit| period.contains(submit)));
            // Beside a row that was sent, the row itself is in the statement.
            if meant && ledger.find(&Find::Key(hold.key.clone()), 1)?.iter().all(|row| row.wanted.is_none()) {
                sums.entry(hold.reason).or_default().add(record.charge)?;
            }
        }
    }
}

fn is_meant(row: &Row, query: &Query<'_>) -> bool {
    let Some(wanted) = &row.wanted else { return false };
    query.user.is_none_or(|user| *wanted.username == *user)
        && query.period.is_none_or(|period| period.contains(wanted.identity.submit))
}

fn refunded(ledger: &dyn Ledger, run: &str) -> Result<Decimal, LedgerError> {
    let mut sum = Decimal::ZERO;
    for refund in crate::adjusting::refunds(ledger, run)? {
        let given_up = matches!(refund.state, State::Superseded | State::Rejected | State::Failed);
        if let Some(charge) = refund.charge().filter(|_| !given_up) {
            sum = sum.checked_add(charge).ok_or(LedgerError::ChargeOverflow)?;
        }
    }
    Ok(sum)
}
