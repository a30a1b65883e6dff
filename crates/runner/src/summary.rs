//! `--summary FILE`: one JSON object that scripts and monitoring rely on.

use crate::clock;
use crate::config::{Config, Table};
use crate::ledger::{State, Totals};
use crate::tally::Tally;
use amie_usage::{Decimal, UsageType};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// This invocation's counts, and the ledger's totals afterwards (absent where no ledger is involved).
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)] // the names are the contract; see `Tally` and `Totals`
pub struct Summary {
    pub frames: u64,
    pub informational: BTreeMap<String, u64>,
    pub quarantined: u64,
    pub runs: u64,
    pub mapped: u64,
    pub skipped: BTreeMap<String, u64>,
    pub held: BTreeMap<String, u64>,
    /// What PBS logs say of runs beside their ends; absent where there is nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub observed: BTreeMap<String, u64>,
    pub charge: BTreeMap<String, Decimal>,
    pub charge_by_project: BTreeMap<String, BTreeMap<String, Decimal>>,
    #[serde(flatten)]
    pub ledger: Option<LedgerTotals>,
    /// Adjustments in the ledger, by state.
    pub adjustments: BTreeMap<&'static str, Adjusted>,
    pub tables: Vec<TableAge>,
}

/// Adjustments of one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Adjusted {
    /// How many.
    pub records: u64,
    /// The sum of their charges, whatever their sign.
    pub charge: Decimal,
}

/// Adjustments in the ledger, by state.
#[must_use]
pub fn adjustments(totals: &Totals) -> BTreeMap<&'static str, Adjusted> {
    let mut by_state: BTreeMap<_, Adjusted> = BTreeMap::new();
    for total in totals.charges.iter().filter(|total| total.usage_type == UsageType::Adjustment) {
        let sum = by_state.entry(total.state.as_str()).or_default();
        sum.records += total.records;
        // A sum beyond 38 digits is refused where it is made: in the ledger.
        sum.charge = sum.charge.checked_add(total.charge).unwrap_or(sum.charge);
    }
    by_state
}

/// A table that the configuration names, and how long nobody has changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableAge {
    /// The key that names it: `projects.table`, `users.table`, `storage.owners`.
    pub key: &'static str,
    /// The file.
    pub path: String,
    /// Rows without the header.
    pub rows: usize,
    /// Whole days since it was changed, where the file system says when.
    pub age_days: Option<u64>,
    /// True where that is more than `[tables] max_age_days`.
    pub old: bool,
}

impl TableAge {
    /// The tables of a configuration.
    #[must_use]
    pub fn of(config: &Config, now: i64) -> Vec<Self> {
        let old = |age: Option<u64>| {
            age.zip(config.table_max_age_days).is_some_and(|(days, most)| days > u64::from(most))
        };
        let age = |table: &Table| {
            let age_days = table.age_days(now);
            let path = table.path.display().to_string();
            Self { key: table.key, path, rows: table.rows, age_days, old: old(age_days) }
        };
        config.tables.iter().map(age).collect()
    }
}

/// The ledger after the invocation: rows by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct LedgerTotals {
    pub pending: u64,
    pub sending: u64,
    pub unknown: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub loaded: u64,
    pub failed: u64,
    pub superseded: u64,
    /// Open questions to a person.
    pub held_total: u64,
    /// Texts in quarantine.
    pub quarantined_total: u64,
}

impl From<&Totals> for LedgerTotals {
    fn from(totals: &Totals) -> Self {
        Self {
            pending: totals.count(State::Pending),
            sending: totals.count(State::Sending),
            unknown: totals.count(State::Unknown),
            accepted: totals.count(State::Accepted),
            rejected: totals.count(State::Rejected),
            loaded: totals.count(State::Loaded),
            failed: totals.count(State::Failed),
            superseded: totals.count(State::Superseded),
            held_total: totals.held_total,
            quarantined_total: totals.quarantined_open,
        }
    }
}

impl Summary {
    /// Puts an invocation's counts, the ledger's totals and the age of the tables together.
    #[must_use]
    pub fn new(config: &Config, tally: &Tally, totals: Option<&Totals>) -> Self {
        Self {
            frames: tally.frames,
            informational: tally.informational.clone(),
            quarantined: tally.quarantined,
            runs: tally.runs,
            mapped: tally.mapped,
            skipped: tally.skipped.clone(),
            held: tally.held.clone(),
            observed: tally.observed.clone(),
            charge: tally.charge.clone(),
            charge_by_project: tally.charge_by_project.clone(),
            ledger: totals.map(LedgerTotals::from),
            adjustments: totals.map(adjustments).unwrap_or_default(),
            tables: TableAge::of(config, clock::now()),
        }
    }

    /// As JSON, for people too: indented.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Writes the file in one step: whoever reads it sees the old one or the new one, never a half.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, format!("{}\n", self.json()).as_bytes())
    }
}

/// Writes a file by renaming a finished one into its place. What is no ordinary file (`/dev/stdout`) is written to.
///
/// # Errors
/// Where the file or its folder cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() && !path.is_file() {
        return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = std::fs::File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}
