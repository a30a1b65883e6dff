//! Restating a period: its runs mapped again by today's rules, held against what was sent, and re-priced if approved.
//!
//! Rules and tables that change never re-price what was sent; the ledger counts it as drifted. Here a person looks at old
//! and new charges, and approves. The input is read a block at a time: nothing here grows with the period.

use crate::adjusting::refunds;
use crate::clock;
use crate::config::Config;
use crate::engine::{Collected, ROWS_A_TRANSACTION, each_block, job_rules, rules_digest, take_up};
use crate::ledger::restate::{Decision, Offer, Suspicion, decide, zero_record};
use crate::ledger::row::Identity;
use crate::ledger::{Candidate, Chunk, Find, Ingested, Ledger, LedgerError, Person, Row, SourceFacts, State};
use crate::pipeline::mapping::{At, Collector, HeldEntry, Record, Rows, SkippedRun};
use crate::pipeline::parsing::Unreadable;
use crate::plan::Planned;
use crate::stored::StoredRun;
use amie_usage::{ComputeAttributes, ComputeUsageRecord, Decimal, UsageType, wire};
use chrono::NaiveDate;
use chrono_tz::Tz;
use mapper::spec::RateBy;
use mapper::{Rules, SkipReason};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// From a date's midnight, inclusive, until another's, exclusive; epoch seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Period {
    /// First second.
    pub from: i64,
    /// First second after it.
    pub until: i64,
}

impl Period {
    /// From midnight of one date until midnight of another.
    ///
    /// ```
    /// use runner::restating::Period;
    /// let october = Period::of("2026-10-01".parse()?, "2026-11-01".parse()?, chrono_tz::Tz::UTC).unwrap();
    /// assert_eq!(october.until - october.from, 31 * 86_400);
    /// assert!(Period::of("2026-10-01".parse()?, "2026-10-01".parse()?, chrono_tz::Tz::UTC).is_none());
    /// # Ok::<(), chrono::ParseError>(())
    /// ```
    #[must_use]
    pub fn of(from: NaiveDate, until: NaiveDate, zone: Tz) -> Option<Self> {
        let (from, until) = (clock::day_begins(from, zone)?, clock::day_begins(until, zone)?);
        (from < until).then_some(Self { from, until })
    }

    /// True where a time lies in it.
    #[must_use]
    pub fn contains(self, time: i64) -> bool {
        (self.from..self.until).contains(&time)
    }
}

/// What to restate.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Runs whose rate is chosen by a time in it (submit time, unless `rate_by` says otherwise).
    pub period: Period,
    /// Only what is, or would be, charged to this project.
    pub project: Option<&'a str>,
    /// Also what a source said of a run before it said something else: an older version, or a correction that was taken
    /// back.
    pub older: bool,
}

/// Old and new charge of one resource and project. A record that moves from one project to another is old in the one
/// and new in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Change {
    /// Records that are charged here now, and would be otherwise.
    pub records_old: u64,
    /// Their charge now.
    pub old: Decimal,
    /// Records that would be charged here.
    pub records_new: u64,
    /// Their charge then.
    pub new: Decimal,
}

/// One record that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Ledger key.
    pub key: String,
    /// Charge now.
    pub old: Decimal,
    /// Charge then.
    pub new: Decimal,
}

/// What a restatement would change, or has changed.
#[derive(Debug, Default, Serialize)]
pub struct Restatement {
    /// Resource -> project -> old and new charge.
    pub changes: BTreeMap<String, BTreeMap<String, Change>>,
    /// Records that change.
    pub records: u64,
    /// Of those: sent under another identity from then on. Zero goes under the old one first.
    pub identities: u64,
    /// Of those: skipped by today's rules, and so charged zero.
    pub skipped: u64,
    /// Records that stay as they are.
    pub unchanged: u64,
    /// Runs whose record was not taken by the service: they follow the rules by themselves.
    pub not_sent: u64,
    /// Runs that the ledger has never seen: the next `run` takes them in.
    pub new: u64,
    /// Records that stay as they are because today's rules hold their runs, by reason.
    pub held: BTreeMap<String, u64>,
    /// Records that stay as they are because they were refunded, at least in part: charged less, the refund could be
    /// more than the charge.
    pub refunded: u64,
    /// Records whose source says something else than when they were sent: `run` sees to those.
    pub source_changed: u64,
    /// Of those: older versions of what is known, which stay what they are.
    pub outdated: u64,
    /// The first few records that change.
    pub examples: Vec<Example>,
    /// What the ledger made of it, where it was approved.
    #[serde(skip)]
    pub ingested: Option<Ingested>,
    /// What was read.
    #[serde(skip)]
    pub collected: Collected,
}

/// Examples that are kept.
const EXAMPLES: usize = 10;

impl Restatement {
    /// Charges in all: old, new.
    ///
    /// # Errors
    /// Where a sum has more than 38 digits.
    pub fn totals(&self) -> Result<(Decimal, Decimal), LedgerError> {
        let mut sums = (Decimal::ZERO, Decimal::ZERO);
        for change in self.changes.values().flat_map(BTreeMap::values) {
            sums = (sum(sums.0, change.old)?, sum(sums.1, change.new)?);
        }
        Ok(sums)
    }

    fn note(&mut self, row: &Row, candidate: &Candidate) -> Result<(), LedgerError> {
        let Some(wanted) = &row.wanted else { return Ok(()) };
        self.records += 1;
        let from = self.change(&wanted.identity.resource, &wanted.project);
        from.records_old += 1;
        from.old = sum(from.old, wanted.charge)?;
        let to = self.change(&candidate.resource, &candidate.project);
        to.records_new += 1;
        to.new = sum(to.new, candidate.charge)?;
        if self.examples.len() < EXAMPLES {
            let (old, new) = (wanted.charge, candidate.charge);
            self.examples.push(Example { key: row.key.clone(), old, new });
        }
        Ok(())
    }

    fn change(&mut self, resource: &str, project: &str) -> &mut Change {
        self.changes.entry(resource.to_owned()).or_default().entry(project.to_owned()).or_default()
    }
}

/// True where any of these refunds was not given up.
fn refunded(refunds: &[Row]) -> bool {
    refunds.iter().any(|row| row.state != State::Superseded)
}

fn sum(one: Decimal, other: Decimal) -> Result<Decimal, LedgerError> {
    one.checked_add(other).ok_or(LedgerError::ChargeOverflow)
}

/// Keeps what today's rules make of the runs of a period.
struct Offers<'r> {
    rules: &'r Rules,
    period: Period,
    rows: Rows,
    /// Runs that are held now: key and reason.
    held: Vec<(String, &'static str)>,
    /// Runs that are skipped by rule now.
    skipped: Vec<Skipped>,
}

/// A run that is skipped now, with what a record of zero needs.
struct Skipped {
    key: String,
    facts: SourceFacts,
    source_digest: u128,
    /// A record without project, user and identity.
    record: Vec<u8>,
    file: u32,
    line: u64,
}

impl Collector for Offers<'_> {
    fn record(&mut self, record: &Record<'_>, only_if_sent: bool, at: At<'_>) {
        let time = match self.rules.rate_by(record.resource) {
            Some(RateBy::Start) => record.facts.start,
            Some(RateBy::End) => record.facts.end,
            Some(RateBy::Submit) | None => record.submit,
        };
        if self.period.contains(time) {
            self.rows.record(record, only_if_sent, at);
        }
    }

    fn held(&mut self, held: &HeldEntry<'_>, _: At<'_>) {
        let stored: Option<StoredRun> = serde_json::from_str(&(held.stored)()).ok();
        if stored.and_then(|run| run.submit).is_some_and(|submit| self.period.contains(submit)) {
            self.held.push((held.key.to_owned(), held.reason));
        }
    }

    fn skipped(&mut self, skipped: &SkippedRun<'_, '_>, at: At<'_>) {
        let run = skipped.run;
        let (Some(submit), Some(start), Some(end)) = (run.submit, run.start, run.end) else { return };
        if skipped.reason != SkipReason::AccountRule || !self.period.contains(submit) {
            return;
        }
        let key = (skipped.key)();
        let blank = ComputeUsageRecord {
            username: Cow::Borrowed(""),
            local_project_id: Cow::Borrowed(""),
            local_record_id: Cow::Borrowed(""),
            resource: Cow::Borrowed(""),
            submit_time: submit,
            start_time: start,
            end_time: end,
            charge: Decimal::ZERO,
            attributes: ComputeAttributes {
                // Nothing is charged by it: a record of zero needs it only to be complete.
                node_count: run.nodes.unwrap_or(0),
                cpu_core_count: run.cores,
                ..ComputeAttributes::default()
            },
            parent_record_id: None,
            local_reference: Some(Cow::Borrowed(&key)),
        };
        let mut record = Vec::new();
        if wire::render_compute(&blank, &mut record).is_err() {
            return;
        }
        let facts = SourceFacts {
            start,
            end,
            elapsed: run.elapsed.unwrap_or(0),
            requeued: run.state == parsers::State::Requeued,
        };
        let source_digest = mapper::source_digest(run);
        self.skipped.push(Skipped { key, facts, source_digest, record, file: at.index, line: at.line });
    }

    fn quarantined(&mut self, _: Unreadable, _: u32) {}
}

/// Records that change whose keys are remembered, so that a run that stands in two files counts once: 16 MiB of them.
const MOST_REMEMBERED: usize = 1 << 20;

/// A restatement on its way.
struct Restating<'a> {
    scope: Scope<'a>,
    ledger: &'a mut dyn Ledger,
    person: Option<Person<'a>>,
    found: Restatement,
    /// True where the ledger has adjustments at all.
    adjusted: bool,
    /// Keys of records that change, hashed.
    changing: std::collections::HashSet<u64>,
    /// What an approval sends.
    chunk: Chunk,
}

/// Maps a period's runs again and compares them with what was sent; with a `person` who approves it, the ledger takes
/// the new charges, to be sent by the next `run`.
///
/// # Errors
/// Where the ledger cannot be read or written. What was approved before stays approved; the same call goes on.
pub fn restate(
    config: &Config,
    planned: &[Planned<'_>],
    scope: Scope<'_>,
    ledger: &mut dyn Ledger,
    person: Option<Person<'_>>,
) -> Result<Restatement, LedgerError> {
    let found = Restatement { ingested: person.map(|_| Ingested::default()), ..Restatement::default() };
    let adjusted = ledger.totals()?.charges.iter().any(|total| total.usage_type == UsageType::Adjustment);
    let mut work = Restating {
        adjusted,
        scope,
        ledger,
        person,
        found,
        changing: std::collections::HashSet::new(),
        chunk: Chunk::default(),
    };
    for planned in planned {
        if job_rules(planned.source).is_none() {
            continue; // readings of storage: nobody knows whether the service replaces or adds them
        }
        let digest = rules_digest(config, planned.source);
        let files: Vec<Arc<str>> =
            planned.files.files.iter().map(|path| Arc::from(path.to_string_lossy().as_ref())).collect();
        let name = planned.source.name.as_str();
        work.chunk = Chunk { files, ..Rows::new(name, digest).chunk };
        let make = || Offers {
            rules: &config.rules,
            period: scope.period,
            rows: Rows::new(name, digest),
            held: Vec::new(),
            skipped: Vec::new(),
        };
        let folding = take_up(planned, &*work.ledger, false, &mut work.found.collected.remarks)?;
        let read = each_block(config, planned, folding, make, |offers| work.take(offers))?;
        work.flush()?;
        work.found.collected.tally.merge(&read.tally);
        work.found.collected.remarks.problems.extend(read.remarks.problems);
    }
    Ok(work.found)
}

impl Restating<'_> {
    fn take(&mut self, offers: Offers<'_>) -> Result<(), LedgerError> {
        let Chunk { records, payloads, .. } = offers.rows.chunk;
        for candidate in records {
            let payload = payloads.get(candidate.payload.clone()).unwrap_or_default();
            self.offer(candidate, payload)?;
        }
        for skipped in offers.skipped {
            self.skip(skipped)?;
        }
        for (key, reason) in offers.held {
            let sent = self.row(&key)?.is_some_and(|row| row.frozen() && self.in_scope(&row, None));
            if sent {
                *self.found.held.entry(reason.to_owned()).or_default() += 1;
            }
        }
        if self.chunk.records.len() >= ROWS_A_TRANSACTION { self.flush() } else { Ok(()) }
    }

    fn row(&self, key: &str) -> Result<Option<Row>, LedgerError> {
        Ok(self.ledger.find(&Find::Key(key.to_owned()), 1)?.pop())
    }

    fn in_scope(&self, row: &Row, candidate: Option<&Candidate>) -> bool {
        let Some(project) = self.scope.project else { return true };
        row.wanted.as_ref().is_some_and(|wanted| *wanted.project == *project)
            || candidate.is_some_and(|candidate| *candidate.project == *project)
    }

    /// What a record means for its row, without changing it.
    fn offer(&mut self, candidate: Candidate, payload: &[u8]) -> Result<(), LedgerError> {
        let Some(row) = self.row(&candidate.key)? else {
            let in_scope = self.scope.project.is_none_or(|project| *candidate.project == *project);
            self.found.new += u64::from(in_scope && !candidate.only_if_sent);
            return Ok(());
        };
        if !self.in_scope(&row, Some(&candidate)) {
            return Ok(());
        }
        let identity = Identity {
            resource: Arc::clone(&candidate.resource),
            local_record_id: candidate.local_record_id.clone(),
            submit: candidate.submit,
        };
        let offer = Offer {
            identity: &identity,
            username: &candidate.username,
            project: &candidate.project,
            digest: xxhash_rust::xxh3::xxh3_128(payload),
            source_digest: candidate.source_digest,
            facts: candidate.facts,
            only_if_sent: candidate.only_if_sent,
        };
        let decision = decide(Some(&row), None, &offer, false);
        if self.ledger.outdated(&row, candidate.source_digest)? {
            return self.offer_older(&row, decision, candidate, payload);
        }
        match decision {
            Decision::Unchanged { .. } => self.found.unchanged += 1,
            Decision::Drift { .. } => return self.change(&row, candidate, payload, false),
            Decision::Hold(Suspicion::IdentityChanged) if row.usage_type == UsageType::Compute => {
                return self.change(&row, candidate, payload, true);
            }
            Decision::Restate if row.source_digest == candidate.source_digest => self.found.not_sent += 1,
            Decision::Restate | Decision::Hold(_) => self.found.source_changed += 1,
            Decision::Insert
            | Decision::Ignore
            | Decision::Waived
            | Decision::Replace
            | Decision::Zero
            | Decision::Revive
            | Decision::Release => self.found.not_sent += 1,
        }
        Ok(())
    }

    /// What the source said before it said something else: nothing, unless a person asks for just that.
    fn offer_older(
        &mut self,
        row: &Row,
        decision: Decision,
        candidate: Candidate,
        payload: &[u8],
    ) -> Result<(), LedgerError> {
        match decision {
            Decision::Unchanged { .. } => self.found.unchanged += 1,
            Decision::Restate if self.scope.older && row.frozen() => {
                return self.change(row, candidate, payload, false);
            }
            _ => {
                self.found.source_changed += 1;
                self.found.outdated += 1;
            }
        }
        Ok(())
    }

    /// A run that was sent and is skipped by today's rules: charged zero under the identity that it was sent with.
    fn skip(&mut self, skipped: Skipped) -> Result<(), LedgerError> {
        let Some(row) = self.row(&skipped.key)?.filter(|row| row.frozen() && self.in_scope(row, None)) else {
            return Ok(());
        };
        let Some(wanted) = &row.wanted else { return Ok(()) };
        if wanted.charge.is_zero() {
            self.found.unchanged += 1;
            return Ok(());
        }
        if row.source_digest != skipped.source_digest {
            self.found.source_changed += 1;
            return Ok(());
        }
        let Some(payload) = zero_record(wanted, &skipped.record) else { return Ok(()) };
        let candidate = Candidate {
            key: skipped.key,
            usage_type: UsageType::Compute,
            resource: Arc::clone(&wanted.identity.resource),
            local_record_id: wanted.identity.local_record_id.clone(),
            submit: wanted.identity.submit,
            username: Arc::clone(&wanted.username),
            project: Arc::clone(&wanted.project),
            charge: Decimal::ZERO,
            payload: 0..0,
            source_digest: skipped.source_digest,
            facts: skipped.facts,
            only_if_sent: true,
            file: skipped.file,
            line: skipped.line,
        };
        let before = self.found.records;
        self.change(&row, candidate, &payload, false)?;
        self.found.skipped += self.found.records - before;
        Ok(())
    }

    fn change(
        &mut self,
        row: &Row,
        mut candidate: Candidate,
        payload: &[u8],
        moves: bool,
    ) -> Result<(), LedgerError> {
        let hash = xxhash_rust::xxh3::xxh3_64(candidate.key.as_bytes());
        if self.changing.contains(&hash) {
            return Ok(());
        }
        if self.changing.len() < MOST_REMEMBERED {
            self.changing.insert(hash);
        }
        if self.adjusted && refunded(&refunds(self.ledger, &row.key)?) {
            self.found.refunded += 1;
            return Ok(());
        }
        self.found.note(row, &candidate)?;
        self.found.identities += u64::from(moves);
        if self.person.is_some() {
            let start = self.chunk.payloads.len();
            self.chunk.payloads.extend_from_slice(payload);
            candidate.payload = start..self.chunk.payloads.len();
            self.chunk.records.push(candidate);
        }
        Ok(())
    }

    /// Lets the ledger take what was approved.
    fn flush(&mut self) -> Result<(), LedgerError> {
        let Some(person) = self.person.filter(|_| !self.chunk.records.is_empty()) else { return Ok(()) };
        let ingested = self.ledger.restate(&self.chunk, person, clock::now())?;
        crate::crash::point("restated");
        self.chunk.records.clear();
        self.chunk.payloads.clear();
        if let Some(sum) = &mut self.found.ingested {
            sum.merge(&ingested);
        }
        Ok(())
    }
}
