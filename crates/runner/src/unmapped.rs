//! Who is not mapped: accounts, users and owners that no table knows, by what they used, each with the row to add.
//!
//! What they would be charged is found by rules that take everybody for known; nothing made by those is ever sent.

use crate::config::{Assume, Config, ConfigError, SourceKind};
use crate::engine::{each_block, job_rules};
use crate::input::InputError;
use crate::input::blocks::{Block, TooLong};
use crate::pipeline::format::Format;
use crate::pipeline::mapping::{At, Collector, HeldEntry, Record};
use crate::pipeline::parsing::Unreadable;
use crate::pipeline::{self, Emitted, File, Frames, Work};
use crate::plan::Planned;
use amie_usage::Decimal;
use bstr::{BStr, ByteSlice};
use mapper::{HoldReason, Keys, Mapper, Outcome, Rules, SourceRules};
use parsers::{Frame, Kind, Run};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;

/// What is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A scheduler account (PBS: whatever `project_from` says), of which no project is known.
    Account,
    /// A scheduler user, of whom no login is known.
    User,
    /// An owner of storage.
    Owner,
}

/// An account, user or owner that is not mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmapped {
    /// What it is.
    pub what: What,
    /// Its name; `None` where the source gives none, so that no table can know it.
    pub name: Option<String>,
    /// Slurm cluster or PBS server.
    pub cluster: Option<String>,
    /// Name of the source.
    pub source: String,
    /// Runs, or readings, that are held for it.
    pub runs: u64,
    /// Cores times seconds of those runs whose cores and time are known.
    pub core_seconds: u128,
    /// The same in hours, rounded down to three places.
    pub core_hours: Decimal,
    /// What those runs would be charged if it were known: resource -> charge.
    pub charge: BTreeMap<String, Decimal>,
    /// Runs whose charge is not known all the same: no resource, no rate, a quantity that is not there.
    pub runs_without_charge: u64,
    /// Earliest and latest submit time, epoch seconds.
    pub submitted: Option<(i64, i64)>,
    /// The table that the row belongs into; `None` where none is configured.
    pub table: Option<PathBuf>,
    /// The table's header.
    pub header: String,
    /// The row to add, with `<...>` for what only a person knows; `None` where no row can help.
    pub row: Option<String>,
}

/// All of them.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// By core-hours, then runs, the most first.
    pub unmapped: Vec<Unmapped>,
    /// Runs of further names, beyond the most that are kept apart.
    pub others: u64,
    /// Files that could not be read.
    #[serde(skip)]
    pub problems: Vec<InputError>,
}

/// Names that are kept apart: names are made by users, and there is no end to them.
const MOST_NAMES: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Who {
    what: What,
    name: Option<Vec<u8>>,
    cluster: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
struct Used {
    runs: u64,
    core_seconds: u128,
    charge: BTreeMap<String, Decimal>,
    uncharged: u64,
    submitted: Option<(i64, i64)>,
}

impl Used {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.core_seconds = self.core_seconds.saturating_add(other.core_seconds);
        self.uncharged += other.uncharged;
        for (resource, charge) in &other.charge {
            self.charge(resource, *charge);
        }
        self.submitted = match (self.submitted, other.submitted) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (one, other) => one.or(other),
        };
    }

    fn charge(&mut self, resource: &str, charge: Decimal) {
        let sum = self.charge.get(resource).copied().unwrap_or(Decimal::ZERO);
        match sum.checked_add(charge) {
            Some(sum) => {
                self.charge.insert(resource.to_owned(), sum);
            }
            None => self.uncharged += 1,
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    used: HashMap<Who, Used>,
    others: u64,
}

impl Found {
    fn add(&mut self, who: Who, used: &Used) {
        if self.used.len() >= MOST_NAMES && !self.used.contains_key(&who) {
            self.others += used.runs;
        } else {
            self.used.entry(who).or_default().add(used);
        }
    }

    fn merge(&mut self, other: Self) {
        self.others += other.others;
        let mut names: Vec<_> = other.used.into_iter().collect();
        // Which names are the first to fill the room must not depend on a hash.
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (who, used) in names {
            self.add(who, &used);
        }
    }
}

struct Seek<'r> {
    rules: &'r Rules,
    /// Takes every account for known.
    accounts_known: &'r Rules,
    /// Takes every account and every user for known.
    all_known: &'r Rules,
    source: &'r SourceRules,
    safe: &'r SourceRules,
}

impl Seek<'_> {
    fn run(&self, mappers: &mut [Mapper<'_>; 3], source: &SourceRules, run: &Run<'_>, found: &mut Found) {
        let [real, accounts_known, all_known] = mappers;
        let Some(reason) = held(&real.map(run)) else { return };
        let account = matches!(reason, HoldReason::UnknownProject | HoldReason::NoAccount);
        let is_user = |reason| matches!(reason, HoldReason::UnknownUser | HoldReason::NoUser);
        let user = is_user(reason) || account && held(&accounts_known.map(run)).is_some_and(is_user);
        if !account && !user {
            return;
        }
        let core_seconds = run.cores.zip(run.elapsed).map(|(cores, seconds)| {
            u128::from(cores) * u128::from(seconds) // 64 bits each: cannot overflow
        });
        let mut used = Used {
            runs: 1,
            core_seconds: core_seconds.unwrap_or(0),
            submitted: run.submit.map(|submit| (submit, submit)),
            ..Used::default()
        };
        match all_known.map(run) {
            Outcome::Mapped(mapped) | Outcome::Zero(mapped) | Outcome::HeldForApproval(mapped, _) => {
                used.charge(&mapped.record.resource, mapped.record.charge);
            }
            Outcome::Skipped(_) | Outcome::Held(_) => used.uncharged += 1,
        }
        let keys = Keys::of(run, source);
        let name = |name: Option<&BStr>| name.map(|name| name.to_vec());
        if account {
            let who = Who { what: What::Account, name: name(keys.account), cluster: name(keys.cluster) };
            found.add(who, &used);
        }
        if user {
            found.add(Who { what: What::User, name: name(keys.user), cluster: name(keys.cluster) }, &used);
        }
    }
}

fn held(outcome: &Outcome<'_>) -> Option<HoldReason> {
    match outcome {
        Outcome::Held(hold) => Some(hold.reason),
        _ => None,
    }
}

impl Work for Seek<'_> {
    type Output = Found;

    fn block(&self, file: &File, _: &Block, frames: Frames<'_>) -> Found {
        let mut found = Found::default();
        let source = if file.reader.user_written_columns().is_empty() { self.safe } else { self.source };
        let mut mappers =
            [self.rules, self.accounts_known, self.all_known].map(|rules| Mapper::new(rules, source));
        frames.visit(|frame| {
            if let Frame::Run(run) = frame
                && run.kind == Kind::Run
            {
                self.run(&mut mappers, source, &run, &mut found);
            }
        });
        found
    }

    fn too_long(&self, _: &File, _: &TooLong) -> Found {
        Found::default()
    }
}

/// Keeps the readings of owners that are not known.
#[derive(Debug, Default)]
struct Owners(Found);

impl Collector for Owners {
    fn record(&mut self, _: &Record<'_>, _: bool, _: At<'_>) {}

    fn held(&mut self, held: &HeldEntry<'_>, _: At<'_>) {
        if held.reason != HoldReason::UnknownOwner.code() {
            return;
        }
        let stored: serde_json::Value = serde_json::from_str(&(held.stored)()).unwrap_or_default();
        let name =
            stored.get("owner").and_then(|owner| owner.as_str()).map(|owner| owner.as_bytes().to_vec());
        let at = stored.get("collected_at").and_then(serde_json::Value::as_i64);
        let used = Used { runs: 1, uncharged: 1, submitted: at.map(|at| (at, at)), ..Used::default() };
        self.0.add(Who { what: What::Owner, name, cluster: None }, &used);
    }

    fn quarantined(&mut self, _: Unreadable, _: u32) {}
}

/// Reads the sources and lists whom the tables do not know.
///
/// # Errors
/// Where the configuration cannot be read a second time.
pub fn unmapped(config: &Config, planned: &[Planned<'_>]) -> Result<Report, ConfigError> {
    let accounts_known = Config::load_assuming(&config.path, Assume { projects: true, users: false })?.rules;
    let all_known = Config::load_assuming(&config.path, Assume { projects: true, users: true })?.rules;
    let tables = Tables::of(config);
    let mut report = Report::default();
    for planned in planned {
        let mut found = Found::default();
        let name = &planned.source.name;
        match (Format::of(planned.source), job_rules(planned.source)) {
            (Some(format), Some(source)) => {
                let safe = source.for_safe_text();
                let work = Seek {
                    rules: &config.rules,
                    accounts_known: &accounts_known,
                    all_known: &all_known,
                    source,
                    safe: &safe,
                };
                let Ok(remarks) =
                    pipeline::run(&format, &planned.files.files, None, None, &work, |emitted| {
                        if let Emitted::Output(_, block, _) = emitted {
                            found.merge(block);
                        }
                        Ok::<_, Infallible>(())
                    });
                report.problems.extend(remarks.problems);
            }
            _ if matches!(planned.source.kind, SourceKind::Quota { .. }) => {
                let Ok(collected) = each_block(config, planned, None, Owners::default, |block: Owners| {
                    found.merge(block.0);
                    Ok::<_, Infallible>(())
                });
                report.problems.extend(collected.remarks.problems);
            }
            _ => {}
        }
        report.others += found.others;
        report.unmapped.extend(found.used.into_iter().map(|(who, used)| tables.entry(name, who, used)));
    }
    report.unmapped.sort_by(|one, other| {
        let order = |entry: &Unmapped| (entry.core_seconds, entry.runs);
        order(other).cmp(&order(one)).then_with(|| (one.what, &one.name).cmp(&(other.what, &other.name)))
    });
    Ok(report)
}

/// The tables with their headers, so that a row has the columns in the table's own order.
struct Tables(Vec<(What, Option<PathBuf>, Vec<String>)>);

impl Tables {
    fn of(config: &Config) -> Self {
        let kinds = [
            (What::Account, "projects.table", &["account", "project"][..]),
            (What::User, "users.table", &["user", "username"][..]),
            (What::Owner, "storage.owners", &["owner", "project", "username"][..]),
        ];
        Self(
            kinds
                .into_iter()
                .map(|(what, key, usual)| {
                    let mut named = config.tables.iter().filter(|table| table.key == key);
                    // Of several tables of owners nobody can tell which one a reading's is.
                    let table =
                        named.next().filter(|_| named.next().is_none()).map(|table| table.path.clone());
                    let own = table.as_ref().and_then(|path| {
                        let mut reader = csv::Reader::from_path(path).ok()?;
                        let header = reader.headers().ok()?;
                        Some(
                            header
                                .iter()
                                .map(|name| name.trim().trim_start_matches('\u{feff}').to_owned())
                                .collect(),
                        )
                    });
                    let header = own.unwrap_or_else(|| usual.iter().map(|name| (*name).to_owned()).collect());
                    (what, table, header)
                })
                .collect(),
        )
    }

    fn entry(&self, source: &str, who: Who, used: Used) -> Unmapped {
        let text = |bytes: Vec<u8>| bytes.to_str_lossy().into_owned();
        let Who { what, name, cluster } = who;
        let (name, cluster) = (name.map(text), cluster.map(text));
        let found = self.0.iter().find(|(known, _, _)| *known == what);
        let (table, header) =
            found.map(|(_, table, header)| (table.clone(), header.as_slice())).unwrap_or_default();
        let row = name.as_deref().map(|name| {
            csv_line(header.iter().map(|column| match column.to_ascii_lowercase().as_str() {
                "account" | "user" | "owner" if is_key(what, column) => name,
                "project" => "<LocalProjectID>",
                "username" => "<Username>",
                "cluster" => cluster.as_deref().unwrap_or(""),
                _ => "",
            }))
        });
        let thousandths = i128::try_from(used.core_seconds.saturating_mul(1000) / 3600).unwrap_or(i128::MAX);
        Unmapped {
            what,
            name,
            cluster,
            source: source.to_owned(),
            runs: used.runs,
            core_seconds: used.core_seconds,
            core_hours: Decimal::new(thousandths, 3),
            charge: used.charge,
            runs_without_charge: used.uncharged,
            submitted: used.submitted,
            table,
            header: csv_line(header.iter().map(String::as_str)),
            row,
        }
    }
}

/// True for the column that holds the name itself: a table of accounts may have a column `user` for a condition.
fn is_key(what: What, column: &str) -> bool {
    let key = match what {
        What::Account => "account",
        What::User => "user",
        What::Owner => "owner",
    };
    column.eq_ignore_ascii_case(key)
}

/// One line of CSV, quoted where it must be, without its end.
fn csv_line<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(fields).ok().and_then(|()| writer.into_inner().ok());
    String::from_utf8_lossy(&written.unwrap_or_default()).trim_end_matches('\n').to_owned()
}
