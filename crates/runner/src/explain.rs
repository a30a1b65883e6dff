//! Finds a job in the sources and says what mapping makes of it, and finds its rows in the ledger.

mod pbs;

use crate::adjusting::refunds;
use crate::config::Config;
use crate::engine::{carried_to, job_rules};
use crate::input::InputError;
use crate::input::blocks::{Block, TooLong};
use crate::ledger::{Entry, Find, Hold, Ledger, LedgerError, Quarantined, Row};
use crate::pipeline::folding::Folding;
use crate::pipeline::format::{FileReader, Format};
use crate::pipeline::{self, Emitted, File, Frames, Work};
use crate::plan::Planned;
use crate::stored::StoredRun;
use mapper::{Explanation, Mapper, Outcome, Rules, SourceRules};
use parsers::{Frame, Kind, NoteKind, Run};
use pbs::{PbsJob, about};
use std::convert::Infallible;

/// A frame of the input that is about the job.
#[derive(Debug)]
pub struct Sighted {
    /// The source's name.
    pub source: String,
    /// The file.
    pub file: String,
    /// First line, from 1.
    pub line: u64,
    /// The source's text, at most 8 KiB of it.
    pub text: String,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Fate {
    /// A run: why it is charged what it is.
    Run(Box<Explanation>),
    /// A step or an array parent: never charged by itself.
    Informational(&'static str),
    /// It could not be read.
    Quarantined(String),
}

/// A row of the ledger with its history.
#[derive(Debug)]
pub struct Known {
    /// The row.
    pub row: Row,
    /// What happened to it.
    pub history: Vec<Entry>,
    /// The question to a person, if there is or was one.
    pub hold: Option<Hold>,
    /// The record as it is (or would be) sent.
    pub payload: Option<Vec<u8>>,
    /// Refunds of it.
    pub refunds: Vec<Row>,
    /// What today's rules make of the run that is kept with the hold: the input may be gone by now.
    pub kept: Option<Explanation>,
}

const MOST_TEXT: usize = 8 << 10;

struct ExplainWork<'a> {
    id: &'a str,
    /// The PBS job that the id is about.
    job: PbsJob<'a>,
    rules: &'a Rules,
    /// For texts in which users could have forged rows, and for texts in which nobody could.
    source: &'a SourceRules,
    safe: &'a SourceRules,
}

impl ExplainWork<'_> {
    /// Whether a run is what the person named: by job id (PBS: with or without the server), raw id, ledger key, or
    /// the record id that mapping gives it.
    fn is_meant(&self, mapper: &mut Mapper<'_>, run: &Run<'_>) -> bool {
        let id = self.id.as_bytes();
        let job = run.job_id.as_ref() as &[u8];
        let short = job.split(|byte| *byte == b'.').next().unwrap_or_default();
        let by_id = job == id || run.raw_id == id || (run.kind != Kind::Step && short == id);
        // Record ids and keys begin with, or contain, the job's number: only such runs are worth mapping.
        let digits = short.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
        let raw = run.raw_id.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
        let may = |number: &[u8]| !number.is_empty() && memchr::memmem::find(id, number).is_some();
        if by_id || run.kind != Kind::Run || !(may(digits) || may(raw)) {
            return by_id;
        }
        if mapper.key(run).as_str() == self.id {
            return true;
        }
        match mapper.map(run) {
            Outcome::Mapped(mapped) | Outcome::Zero(mapped) | Outcome::HeldForApproval(mapped, _) => {
                mapped.record.local_record_id == self.id
            }
            Outcome::Skipped(_) | Outcome::Held(_) => false,
        }
    }
}

impl Work for ExplainWork<'_> {
    type Output = Vec<Sighted>;

    fn block(&self, file: &File, block: &Block, frames: Frames<'_>) -> Vec<Sighted> {
        let mut found = Vec::new();
        let forgeable = !file.reader.user_written_columns().is_empty();
        let mut mapper = Mapper::new(self.rules, if forgeable { self.source } else { self.safe });
        let is_json = matches!(file.reader, FileReader::SacctJson { .. });
        let mut sighted = |line: usize, text: &[u8], fate: Fate| {
            let whole = if is_json { without_steps(text) } else { None };
            let text = whole.as_deref().unwrap_or(text);
            found.push(Sighted {
                source: self.source.name().to_owned(),
                file: file.path.to_string(),
                line: block.line + line as u64 + 1,
                text: String::from_utf8_lossy(text.get(..MOST_TEXT).unwrap_or(text)).into_owned(),
                fate,
            });
        };
        frames.visit(|frame| match frame {
            Frame::Run(run) => {
                if self.is_meant(&mut mapper, &run) {
                    let fate = match run.kind {
                        Kind::Run => Fate::Run(Box::new(mapper.explain(&run))),
                        Kind::Step => {
                            Fate::Informational("a job step: part of its job, never charged beside it")
                        }
                        Kind::Parent => {
                            Fate::Informational("a whole array: its tasks are charged, not the array")
                        }
                        Kind::Other => Fate::Informational("not a job"),
                    };
                    sighted(run.place.line, run.text, fate);
                }
            }
            Frame::Quarantined(bad) => {
                if seems_about(bad.text, self.id) {
                    sighted(bad.place.line, bad.text, Fate::Quarantined(bad.reason.to_string()));
                }
            }
            // What a PBS log says of a run before it ends: its charge may come from there.
            Frame::Note(note) => {
                let letter = match note.kind {
                    NoteKind::Letter(letter) => letter,
                    NoteKind::Repeated => b' ',
                    _ => return,
                };
                if let Some(what) = about(letter).filter(|_| self.job.is_of(note.text)) {
                    sighted(note.place.line, note.text, Fate::Informational(what));
                }
            }
        });
        found
    }

    fn too_long(&self, _: &File, _: &TooLong) -> Vec<Sighted> {
        Vec::new()
    }
}

/// Torn text: what it is about can only be guessed from how it begins, or from where an id usually stands.
fn seems_about(text: &[u8], id: &str) -> bool {
    let begins = text.starts_with(id.as_bytes())
        && text.get(id.len()).is_none_or(|next| !next.is_ascii_alphanumeric());
    let names = |what: String| memchr::memmem::find(text, what.as_bytes()).is_some();
    begins
        || names(format!(";{id};"))
        || [",", "\n"].iter().any(|end| names(format!("\"job_id\": {id}{end}")))
}

/// A job of a JSON document on one line, without its steps, which are no part of what is charged and most of the text.
fn without_steps(element: &[u8]) -> Option<Vec<u8>> {
    let mut keys: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(element).ok()?;
    keys.remove("steps");
    serde_json::to_vec(&keys).ok()
}

/// Reads the sources and finds what they say of a job; and the files that could not be read. `ledger` has what was carried
/// out of files that are no longer there.
#[must_use]
pub fn in_sources(
    config: &Config,
    planned: &[Planned<'_>],
    ledger: Option<&dyn Ledger>,
    id: &str,
) -> (Vec<Sighted>, Vec<InputError>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for planned in planned {
        let (Some(format), Some(source)) = (Format::of(planned.source), job_rules(planned.source)) else {
            continue;
        };
        let safe = source.for_safe_text();
        let job = PbsJob::new(id);
        let work = ExplainWork { id, job, rules: &config.rules, source, safe: &safe };
        // A question is answered as well as it can be: without what was carried a run may be held that was charged.
        let carried = ledger.and_then(|ledger| carried_to(planned, ledger).ok().flatten());
        let mut folding =
            carried.and_then(|carried| Folding::resume(&format, &carried, false).ok().flatten());
        let read = pipeline::run(&format, &planned.files.files, None, folding.as_mut(), &work, |emitted| {
            if let Emitted::Output(_, sighted, _) = emitted {
                found.extend(sighted);
            }
            Ok::<_, Infallible>(())
        });
        match read {
            Ok(remarks) => problems.extend(remarks.problems),
            Err(never) => match never {},
        }
    }
    (found, problems)
}

/// Finds a job's rows in the ledger: by key, by record id, by job id.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn in_ledger(config: &Config, ledger: &dyn Ledger, id: &str) -> Result<Vec<Known>, LedgerError> {
    let mut known: Vec<Known> = Vec::new();
    for what in [Find::Key(id.to_owned()), Find::Record(id.to_owned()), Find::Job(id.to_owned())] {
        for row in ledger.find(&what, 100)? {
            if known.iter().any(|known| known.row.key == row.key) {
                continue;
            }
            let history = ledger.history(&row.key)?;
            let hold = ledger.hold(&row.key)?;
            let payload = ledger.payload(&row.key)?;
            let kept = hold.as_ref().and_then(|hold| of_hold(config, hold));
            let refunds = refunds(ledger, &row.key)?;
            known.push(Known { row, history, hold, payload, refunds, kept });
        }
    }
    Ok(known)
}

/// What today's rules make of the run that is kept with a hold.
fn of_hold(config: &Config, hold: &Hold) -> Option<Explanation> {
    let stored: StoredRun = serde_json::from_str(&hold.run).ok()?;
    let source = config.sources.iter().find(|source| source.name == stored.source)?;
    let rules = job_rules(source)?;
    let safe = rules.for_safe_text();
    let rules = if hold.reason == "forgeable" { rules } else { &safe };
    Some(Mapper::new(&config.rules, rules).explain(&stored.run()))
}

/// Quarantined texts in the ledger that seem to be about a job: the input may be gone by now.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn in_quarantine(ledger: &dyn Ledger, id: &str) -> Result<Vec<Quarantined>, LedgerError> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let texts = ledger.quarantined(after, 1000)?;
        let Some(last) = texts.last() else { return Ok(found) };
        after = last.id;
        found.extend(texts.into_iter().filter(|text| seems_about(&text.text, id)));
    }
}
