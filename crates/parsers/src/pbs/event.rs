//! What the records of a block say to the fold: compact, owned, in their order.

use super::counts::Allocation;
use super::job::{Ended, Part, Started, part, started};
use super::key::Order;
use super::message::GpuNames;
use super::record::{self, Record, Subject};
use super::value::date_of;
use crate::run::{Finding, Kind};
use bstr::ByteSlice;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// What the records of one block say to [`super::Fold`]; made by [`super::Reader::frames`], next to the frames.
///
/// It holds nothing of the text but the ids of jobs, about a tenth of the block's size.
#[derive(Debug, Clone, Default)]
pub struct Events {
    list: Vec<Event>,
    /// The ids of all events, one behind the other.
    ids: Vec<u8>,
    frames: usize,
}

/// What one record says.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The number of its frame in the block.
    pub(super) frame: usize,
    id: Range<usize>,
    /// The leading date: seconds on the server's wall clock.
    pub(super) date: i64,
    /// Digest of the whole record.
    pub(super) fingerprint: u64,
    pub(super) said: Said,
}

/// What is said.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// `S`: a run began.
    Started(Started),
    /// `s`: it lost nodes before it began.
    Pruned(Started),
    /// `u`: nodes were released; what it had until then.
    Released(Box<Part>),
    /// `c`: what it goes on with.
    Continued(Box<Part>),
    /// `e`: what it had at its end.
    Last(Box<Part>),
    /// `z`.
    Suspended,
    /// `r`.
    Resumed,
    /// `C`: checkpointed and held.
    Checkpointed,
    /// `T`: started again from its checkpoint.
    Restarted,
    /// `D` or `A`.
    Deleted {
        /// The server gave it up because its node is down.
        node_down: bool,
    },
    /// `M`: it is another server's from now on.
    Moved,
    /// TORQUE's `R`, which says nothing of what was used.
    RanWithoutRecord,
    /// `E` or `R`.
    Ran(Ran),
    /// A record of this job could not be read; of any job, where the id is empty.
    Torn,
}

/// What an `E` or `R` says, as far as it can change by other records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ran {
    /// `R`.
    pub(super) rerun: bool,
    pub(super) submit: Option<i64>,
    /// 0: it never started.
    pub(super) start: i64,
    pub(super) end: i64,
    /// `run_count` or `start_count`.
    pub(super) number: Option<u32>,
    pub(super) walltime: Option<u64>,
    pub(super) placed: u64,
    pub(super) may_release: bool,
    pub(super) allocation: Allocation,
    /// What is wrong with the record by itself.
    pub(super) finding: Option<Finding>,
}

impl Ran {
    fn of(ended: &Ended<'_>) -> Self {
        let run = &ended.run;
        Self {
            rerun: run.state_text == "R",
            submit: run.submit,
            start: run.start.unwrap_or(0),
            end: run.end.unwrap_or(0),
            number: run.run_count,
            walltime: ended.walltime,
            placed: ended.placed,
            may_release: ended.may_release,
            allocation: Allocation {
                cores: run.cores,
                nodes: run.nodes,
                gpus: run.gpus,
                mem_bytes: run.mem_bytes,
            },
            finding: run.finding,
        }
    }
}

impl Events {
    /// Forgets all, to be used for another block.
    pub fn clear(&mut self) {
        self.list.clear();
        self.ids.clear();
        self.frames = 0;
    }

    /// How many frames the block has.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// How many records say something to the fold.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if no record does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The events with their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Event)> {
        self.list.iter().map(|event| (self.ids.get(event.id.clone()).unwrap_or_default(), event))
    }

    /// One more frame, and what it says.
    pub(super) fn push(&mut self, text: &[u8], said: Option<(&[u8], i64, Said)>) {
        if let Some((id, date, said)) = said {
            let start = self.ids.len();
            self.ids.extend_from_slice(id);
            let id = start..self.ids.len();
            self.list.push(Event { frame: self.frames, id, date, fingerprint: xxh3_64(text), said });
        }
        self.frames = self.frames.saturating_add(1);
    }
}

/// Id, date and what is said by an `E` or `R` that is a run.
pub(super) fn of_run<'a>(ended: &Ended<'a>) -> Option<(&'a [u8], i64, Said)> {
    (ended.run.kind == Kind::Run).then(|| {
        let id: &'a [u8] = ended.run.job_id;
        (id, ended.date, Said::Ran(Ran::of(ended)))
    })
}

/// The same of a text that is set aside.
pub(super) fn of_torn(text: &[u8]) -> Option<(&[u8], i64, Said)> {
    let Ok((_, record)) = record::record(text) else { return Some((b"", 0, Said::Torn)) };
    match record::subject(record.id) {
        // What `Q` says does not matter here.
        Some(Subject::Job(Kind::Run, _)) if record.letter != b'Q' => {
            Some((record.id, date_of(record.date).unwrap_or(0), Said::Torn))
        }
        Some(_) => None,
        None => Some((b"", 0, Said::Torn)),
    }
}

/// The same of a record that is no run. `beside_torn`: the record before it is torn, so that it may be a user's text.
pub(super) fn of_letter<'a>(
    record: &Record<'a>,
    beside_torn: impl Fn() -> bool,
    gpus: &GpuNames,
    with_assigned: bool,
) -> Option<(&'a [u8], i64, Said)> {
    if !matches!(
        record.letter,
        b'S' | b's' | b'u' | b'c' | b'e' | b'z' | b'r' | b'C' | b'T' | b'D' | b'A' | b'M' | b'R'
    ) {
        return None;
    }
    let Some(Subject::Job(Kind::Run, _)) = record::subject(record.id) else { return None };
    let Some(date) = date_of(record.date) else { return Some((record.id, 0, Said::Torn)) };
    let message = record.message;
    let parted =
        |order, said: fn(Box<Part>) -> Said| part(message, order, gpus).ok().map(|part| said(Box::new(part)));
    let said = match record.letter {
        // Whoever imitates one of these would change what is charged for a run that is under way.
        b's' | b'u' | b'c' | b'e' | b'z' | b'r' | b'C' | b'T' if beside_torn() => None,
        b'S' => started(message, gpus, with_assigned).ok().map(Said::Started),
        b's' => started(message, gpus, with_assigned).ok().map(Said::Pruned),
        b'u' => parted(Order::Part, Said::Released),
        b'c' => parted(Order::Run, Said::Continued),
        b'e' => parted(Order::Part, Said::Last),
        b'z' => Some(Said::Suspended),
        b'r' => Some(Said::Resumed),
        b'C' => Some(Said::Checkpointed),
        b'T' => Some(Said::Restarted),
        b'M' => Some(Said::Moved),
        b'R' => Some(Said::RanWithoutRecord),
        _ => Some(Said::Deleted { node_down: message.contains_str("execution node") }),
    };
    Some((record.id, date, said.unwrap_or(Said::Torn)))
}
