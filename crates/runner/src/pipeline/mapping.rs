//! Frames to usage records: each block's runs are mapped on the core that read them.
//!
//! What is kept of them depends on the command, and is decided by a [`Collector`]: rows for the ledger, JSON lines
//! for `transform`, nothing but counts for its `--bench`.

use super::parsing::{Unreadable, too_long};
use super::{File, Frames, Work};
use crate::input::blocks::{Block, TooLong};
use crate::ledger::{Candidate, Chunk, HeldRun, QuarantinedText, SourceFacts};
use crate::stored::StoredRun;
use crate::tally::Tally;
use amie_usage::{Decimal, UsageType, wire};
use mapper::{MappedRun, Mapper, Outcome, Rules, SkipReason, SourceRules};
use parsers::{Frame, Kind, NoteKind, Quarantined, Run};
use std::collections::HashMap;
use std::sync::Arc;

/// Where a frame stands, for messages and the ledger.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The file, as it is shown.
    pub path: &'a str,
    /// Its number among the source's files, from 0.
    pub index: u32,
    /// First line, from 1.
    pub line: u64,
}

/// What a source said of a run or reading; its digest is made only where it is wanted.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// Of a run.
    Run(&'a Run<'a>),
    /// Of a reading, already digested.
    Reading(u128),
}

impl Said<'_> {
    /// The digest that the ledger keeps.
    #[must_use]
    pub fn digest(self) -> u128 {
        match self {
            Self::Run(run) => mapper::source_digest(run),
            Self::Reading(digest) => digest,
        }
    }
}

/// A usage record, rendered.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its type.
    pub usage_type: UsageType,
    /// The ledger's key.
    pub key: &'a str,
    /// Wire identity: resource.
    pub resource: &'a str,
    /// Wire identity: record id.
    pub local_record_id: &'a str,
    /// Wire identity: submit time (storage: collection time), epoch seconds.
    pub submit: i64,
    /// AMIE login.
    pub username: &'a str,
    /// AMIE project.
    pub project: &'a str,
    /// The charge.
    pub charge: Decimal,
    /// What the source said.
    pub said: Said<'a>,
    /// What restatements are judged by.
    pub facts: SourceFacts,
    /// The record's JSON, as it is sent.
    pub payload: &'a [u8],
}

/// A run or reading that waits for a person.
pub struct HeldEntry<'a> {
    /// The type of record that it would become.
    pub usage_type: UsageType,
    /// The ledger's key.
    pub key: &'a str,
    /// Reason code.
    pub reason: &'static str,
    /// What exactly, and what to do.
    pub detail: &'a str,
    /// What the source said.
    pub said: Said<'a>,
    /// What is kept of it, as JSON; made only where it is wanted.
    pub stored: &'a dyn Fn() -> String,
    /// What it becomes when approved.
    pub record: Option<Record<'a>>,
}

/// A run that is not reported, on purpose.
pub struct SkippedRun<'a, 'r> {
    /// The run.
    pub run: &'a Run<'r>,
    /// Why it is not.
    pub reason: SkipReason,
    /// The ledger's key; made only where it is wanted.
    pub key: &'a dyn Fn() -> String,
}

/// Keeps what a command needs. One collector serves one block.
pub trait Collector: Send {
    /// A usage record. `only_if_sent`: its charge is zero, it is sent only to overwrite an earlier charge.
    fn record(&mut self, record: &Record<'_>, only_if_sent: bool, at: At<'_>);
    /// A run or reading that waits for a person.
    fn held(&mut self, held: &HeldEntry<'_>, at: At<'_>);
    /// A run that is not reported.
    fn skipped(&mut self, _skipped: &SkippedRun<'_, '_>, _at: At<'_>) {}
    /// A text that could not be read.
    fn quarantined(&mut self, unreadable: Unreadable, file: u32);
}

/// Maps the runs of one source.
pub struct MapWork<'r, C, F: Fn() -> C> {
    /// Rules.
    pub rules: &'r Rules,
    /// The source's own, for texts in which users could have forged rows.
    pub source: &'r SourceRules,
    /// The same for texts in which nobody could.
    pub safe: &'r SourceRules,
    /// Makes a collector for a block.
    pub collector: F,
}

/// What the mapping of one block gives.
#[derive(Debug)]
pub struct MappedBlock<C> {
    /// Counts.
    pub tally: Tally,
    /// What the command keeps.
    pub kept: C,
}

impl<C: Collector, F: Fn() -> C + Sync> Work for MapWork<'_, C, F> {
    type Output = MappedBlock<C>;

    fn block(&self, file: &File, block: &Block, frames: Frames<'_>) -> MappedBlock<C> {
        let mut kept = (self.collector)();
        let forgeable = !file.reader.user_written_columns().is_empty();
        let source = if forgeable { self.source } else { self.safe };
        let mut mapping = Mapping {
            mapper: Mapper::new(self.rules, source),
            source: source.name(),
            counts: Counts::default(),
            payload: Vec::with_capacity(512),
        };
        let at = |line: usize| At { path: &file.path, index: file.index, line: block.line + line as u64 + 1 };
        frames.visit(|frame| {
            mapping.counts.tally.frames += 1;
            match frame {
                Frame::Run(run) => mapping.run(&run, at(run.place.line), &mut kept),
                Frame::Note(note) => mapping.counts.inform(note.kind),
                Frame::Quarantined(bad) => {
                    mapping.counts.tally.quarantine(bad.reason.code());
                    kept.quarantined(unreadable(&bad, at(bad.place.line)), file.index);
                }
            }
        });
        MappedBlock { tally: mapping.counts.finish(), kept }
    }

    fn too_long(&self, file: &File, skipped: &TooLong) -> MappedBlock<C> {
        let mut kept = (self.collector)();
        let unreadable = too_long(file, skipped);
        let mut tally = Tally { frames: 1, ..Tally::default() };
        tally.quarantine(&unreadable.code);
        kept.quarantined(unreadable, file.index);
        MappedBlock { tally, kept }
    }
}

/// What the mapping of a block needs.
struct Mapping<'r> {
    mapper: Mapper<'r>,
    source: &'r str,
    counts: Counts,
    /// Where records are rendered, one after the other.
    payload: Vec<u8>,
}

/// The hold of a record whose times JSON cannot say.
const TIME_OUT_OF_RANGE: &str =
    "a time of this run lies outside the years 0 to 9999; look at the source, then waive the run";

impl Mapping<'_> {
    fn run<C: Collector>(&mut self, run: &Run<'_>, at: At<'_>, kept: &mut C) {
        match run.kind {
            Kind::Run => {}
            Kind::Step => return self.counts.inform(NoteKind::Step),
            Kind::Parent => return self.counts.inform(NoteKind::Parent),
            Kind::Other => return self.counts.inform(NoteKind::Reservation),
        }
        self.counts.tally.contributing += 1;
        self.counts.tally.runs += 1;
        let (mapped, hold, zero) = match self.mapper.map(run) {
            Outcome::Mapped(mapped) => (mapped, None, false),
            Outcome::Zero(mapped) => (mapped, None, true),
            Outcome::HeldForApproval(mapped, hold) => (mapped, Some(hold), false),
            Outcome::Skipped(skip) => {
                self.counts.tally.skip(skip.reason.code());
                let mapper = &self.mapper;
                let key = || mapper.key(run).into_string();
                return kept.skipped(&SkippedRun { run, reason: skip.reason, key: &key }, at);
            }
            Outcome::Held(hold) => return self.hold(run, hold.reason.code(), &hold.detail, at, kept),
        };
        self.payload.clear();
        if wire::render_compute(&mapped.record, &mut self.payload).is_err() {
            return self.hold(run, "no-time", TIME_OUT_OF_RANGE, at, kept);
        }
        let record = record_of(run, &mapped, &self.payload);
        if let Some(hold) = hold {
            self.counts.tally.hold(hold.reason.code());
            let held = HeldEntry {
                usage_type: UsageType::Compute,
                key: mapped.key.as_str(),
                reason: hold.reason.code(),
                detail: &hold.detail,
                said: Said::Run(run),
                stored: &|| stored(self.source, run, at),
                record: Some(record),
            };
            return kept.held(&held, at);
        }
        if zero {
            self.counts.tally.skip("zero-charge");
        } else {
            self.counts.charge(record.resource, record.project, record.charge);
        }
        kept.record(&record, zero, at);
    }

    /// Keeps a run for which there is no record.
    fn hold<C: Collector>(
        &mut self,
        run: &Run<'_>,
        reason: &'static str,
        detail: &str,
        at: At<'_>,
        kept: &mut C,
    ) {
        self.counts.tally.hold(reason);
        let key = self.mapper.key(run);
        let held = HeldEntry {
            usage_type: UsageType::Compute,
            key: key.as_str(),
            reason,
            detail,
            said: Said::Run(run),
            stored: &|| stored(self.source, run, at),
            record: None,
        };
        kept.held(&held, at);
    }
}

/// What the ledger keeps of a held run.
fn stored(source: &str, run: &Run<'_>, at: At<'_>) -> String {
    serde_json::to_string(&StoredRun::of(source, run, at.path, at.line)).unwrap_or_default()
}

fn record_of<'a>(run: &'a Run<'a>, mapped: &'a MappedRun<'_>, payload: &'a [u8]) -> Record<'a> {
    let record = &mapped.record;
    Record {
        usage_type: UsageType::Compute,
        key: mapped.key.as_str(),
        resource: &record.resource,
        local_record_id: &record.local_record_id,
        submit: record.submit_time,
        username: &record.username,
        project: &record.local_project_id,
        charge: record.charge,
        said: Said::Run(run),
        facts: SourceFacts {
            start: mapped.facts.start,
            end: mapped.facts.end,
            elapsed: mapped.facts.elapsed.unwrap_or(0),
            requeued: mapped.facts.requeued,
        },
        payload,
    }
}

/// What became of a stored run that was mapped again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remapped {
    /// It is a record, or is held again: in the rows.
    Kept,
    /// The rules now skip it.
    Skipped,
}

/// Maps a stored run with the rules of today. `file` is the index of its file in the rows' chunk.
pub fn remap(
    rules: &Rules,
    source: &SourceRules,
    stored: &StoredRun,
    file: u32,
    rows: &mut Rows,
) -> Remapped {
    let mut mapping = Mapping {
        mapper: Mapper::new(rules, source),
        source: &stored.source,
        counts: Counts::default(),
        payload: Vec::new(),
    };
    let before = rows.chunk.rows();
    mapping.run(&stored.run(), At { path: &stored.file, index: file, line: stored.line }, rows);
    if rows.chunk.rows() == before { Remapped::Skipped } else { Remapped::Kept }
}

/// Counts of a block: the two that grow with every row are kept out of maps keyed by text.
#[derive(Default)]
struct Counts {
    tally: Tally,
    notes: Vec<(NoteKind, u64)>,
    /// Resource, project, their sum, how many.
    charges: Vec<(String, String, Decimal, u64)>,
    /// Where the last charge went: neighbours often share it.
    last: usize,
}

impl Counts {
    fn inform(&mut self, kind: NoteKind) {
        match self.notes.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.notes.push((kind, 1)),
        }
    }

    fn charge(&mut self, resource: &str, project: &str, charge: Decimal) {
        let fits = |entry: &(String, String, Decimal, u64)| entry.1 == project && entry.0 == resource;
        if !self.charges.get(self.last).is_some_and(fits) {
            self.last = self.charges.iter().position(fits).unwrap_or_else(|| {
                self.charges.push((resource.to_owned(), project.to_owned(), Decimal::ZERO, 0));
                self.charges.len() - 1
            });
        }
        if let Some((_, _, sum, count)) = self.charges.get_mut(self.last) {
            *count += 1;
            match sum.checked_add(charge) {
                Some(more) => *sum = more,
                None => self.tally.overflow = true,
            }
        }
    }

    fn finish(mut self) -> Tally {
        for (kind, count) in self.notes {
            self.tally.inform(&kind.to_string(), count);
        }
        for (resource, project, sum, count) in self.charges {
            self.tally.charge(&resource, &project, sum);
            self.tally.mapped += count - 1;
        }
        self.tally
    }
}

/// Keeps nothing: for counting and for measuring.
#[derive(Debug, Default)]
pub struct CountOnly;

impl Collector for CountOnly {
    fn record(&mut self, _: &Record<'_>, _: bool, _: At<'_>) {}
    fn held(&mut self, _: &HeldEntry<'_>, _: At<'_>) {}
    fn quarantined(&mut self, _: Unreadable, _: u32) {}
}

/// A held run, as `transform` reports it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct HeldLine {
    /// The file.
    pub file: String,
    /// First line, from 1.
    pub line: u64,
    /// The ledger's key.
    pub key: String,
    /// Reason code.
    pub reason: String,
    /// What exactly, and what to do.
    pub detail: String,
}

/// Keeps records as the lines of `transform`.
#[derive(Debug, Default)]
pub struct Lines {
    /// `{"UsageType": ..., "Record": ..., "Source": ...}`, one a line.
    pub lines: Vec<u8>,
    /// Held runs.
    pub held: Vec<HeldLine>,
    /// Texts that could not be read.
    pub quarantined: Vec<Unreadable>,
}

/// The text and reason of a quarantined frame.
fn unreadable(bad: &Quarantined<'_>, at: At<'_>) -> Unreadable {
    Unreadable::new(bad, at.path, at.line)
}

impl Collector for Lines {
    fn record(&mut self, record: &Record<'_>, only_if_sent: bool, at: At<'_>) {
        if only_if_sent {
            return;
        }
        let out = &mut self.lines;
        out.extend_from_slice(b"{\"UsageType\":\"");
        out.extend_from_slice(record.usage_type.as_str().as_bytes());
        out.extend_from_slice(b"\",\"Record\":");
        out.extend_from_slice(record.payload);
        out.extend_from_slice(b",\"Source\":{\"file\":");
        if serde_json::to_writer(&mut *out, at.path).is_err() {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"line\":");
        out.extend_from_slice(itoa::Buffer::new().format(at.line).as_bytes());
        out.extend_from_slice(b"}}\n");
    }

    fn held(&mut self, held: &HeldEntry<'_>, at: At<'_>) {
        self.held.push(HeldLine {
            file: at.path.to_owned(),
            line: at.line,
            key: held.key.to_owned(),
            reason: held.reason.to_owned(),
            detail: held.detail.to_owned(),
        });
    }

    fn quarantined(&mut self, unreadable: Unreadable, _: u32) {
        self.quarantined.push(unreadable);
    }
}

/// Keeps rows for the ledger.
#[derive(Debug)]
pub struct Rows {
    /// The rows of one block; `files` and `progress` are filled in by whoever ingests them.
    pub chunk: Chunk,
    /// Names that repeat are kept once.
    names: HashMap<String, Arc<str>>,
}

impl Rows {
    /// An empty chunk of a source, mapped with rules of this digest.
    #[must_use]
    pub fn new(source: &str, rules_digest: u128) -> Self {
        let chunk = Chunk { source: source.to_owned(), rules_digest, ..Chunk::default() };
        Self { chunk, names: HashMap::new() }
    }

    fn name(&mut self, text: &str) -> Arc<str> {
        match self.names.get(text) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = Arc::from(text);
                self.names.insert(text.to_owned(), Arc::clone(&name));
                name
            }
        }
    }

    fn candidate(&mut self, record: &Record<'_>, only_if_sent: bool, at: At<'_>) -> Candidate {
        let start = self.chunk.payloads.len();
        self.chunk.payloads.extend_from_slice(record.payload);
        Candidate {
            key: record.key.to_owned(),
            usage_type: record.usage_type,
            resource: self.name(record.resource),
            local_record_id: record.local_record_id.to_owned(),
            submit: record.submit,
            username: self.name(record.username),
            project: self.name(record.project),
            charge: record.charge,
            payload: start..self.chunk.payloads.len(),
            source_digest: record.said.digest(),
            facts: record.facts,
            only_if_sent,
            file: at.index,
            line: at.line,
        }
    }
}

impl Collector for Rows {
    fn record(&mut self, record: &Record<'_>, only_if_sent: bool, at: At<'_>) {
        let candidate = self.candidate(record, only_if_sent, at);
        self.chunk.records.push(candidate);
    }

    fn held(&mut self, held: &HeldEntry<'_>, at: At<'_>) {
        let candidate = held.record.as_ref().map(|record| self.candidate(record, false, at));
        self.chunk.held.push(HeldRun {
            key: held.key.to_owned(),
            usage_type: held.usage_type,
            reason: held.reason.to_owned(),
            detail: held.detail.to_owned(),
            run: (held.stored)(),
            source_digest: held.said.digest(),
            candidate,
            file: at.index,
            line: at.line,
        });
    }

    fn quarantined(&mut self, unreadable: Unreadable, file: u32) {
        self.chunk.quarantined.push(QuarantinedText {
            reason: unreadable.code,
            detail: unreadable.reason,
            text: unreadable.text.into_bytes(),
            file,
            line: unreadable.line,
        });
    }
}
