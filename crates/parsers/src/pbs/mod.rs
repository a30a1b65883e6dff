//! Reads the accounting logs of OpenPBS, PBS Pro and TORQUE (`server_priv/accounting/YYYYMMDD`).
//!
//! A log is a sequence of records, `MM/DD/YYYY HH:MM:SS;L;id;message`. `E` (a run ended) and `R` (a run ended, and the job is to run
//! again) become a [`Run`]; the other letters are counted as [`Note`]s. What the formats do not say and the reader must
//! know is in the files beside this one: `frame` (where a record ends), `message` and `key` (where a value ends), `allocation` and
//! `counts` (what a job was given), `event` and `fold` (what other records say of a run: without them an `E` may not be charged).
//!
//! # Forgery
//!
//! The servers escape nothing, and users choose the account (`-A`), newlines included. Caught are: keys imitated in a value; a whole
//! record imitated behind a newline, where the record torn by it does not itself look complete. **Not caught**, because the bytes are
//! those of honest records: an account that completes its own record, adds others and begins one more for the rest; the
//! second of several imitated records. What prevents those is a submit filter (a `queuejob` hook) that refuses newlines in accounts.
//!
//! # Example
//!
//! ```
//! use parsers::pbs::{Events, Fold, FoldOptions, Reader};
//! use parsers::Frame;
//!
//! let log = b"11/23/2026 02:29:41;E;0.pbssrv;user=alice group=physics account=\"proj-42\" project=_pbs_project_default \
//!     jobname=plain queue=workq ctime=1795426177 qtime=1795426177 etime=1795426177 start=1795426177 exec_host=n01/0*2 \
//!     exec_vnode=(n01:ncpus=2) Resource_List.ncpus=2 session=26052 end=1795426181 Exit_status=0 \
//!     resources_used.walltime=00:00:03 run_count=1\n";
//! let (mut events, mut core_seconds) = (Events::default(), 0);
//! Reader::default().frames(log, 0..log.len(), true, &mut events, &mut |frame| {
//!     if let Frame::Run(run) = frame {
//!         core_seconds += run.cores.unwrap() * run.elapsed.unwrap();
//!     }
//! });
//! assert_eq!(core_seconds, 6);
//! let mut changes = Vec::new();
//! Fold::new(&FoldOptions::default()).block(1, &events, &mut changes);
//! assert!(changes.is_empty(), "the run is what its record says");
//! ```

mod allocation;
mod counts;
mod event;
mod fold;
mod frame;
mod job;
mod key;
mod message;
mod record;
mod value;

pub use event::Events;
pub use fold::{Amendment, Change, Changed, Counts, Fold, FoldOptions, LoadError, OpenRun, OpenState};

use crate::run::{Frame, Note, NoteKind, Place, Quarantined, Reason, Run, bounded};
use bstr::ByteSlice;
use frame::{Framed, Frames, MAX_RECORD, Piece};
use job::Ended;
use message::GpuNames;
use record::{Record, Subject};
use std::borrow::Cow;
use std::ops::Range;

/// Length of the part of `text` that consists of whole records: everything before the last line that begins one, since that record
/// may continue over lines that are not read yet. 0 if there is only one. At the end of a file the caller takes the rest too.
///
/// Lines that no record can own (in front of the first, or more than 1 MiB behind the start of the last) are whole when another one begins.
///
/// ```
/// let text = b"11/23/2026 02:31:29;D;1.s;requestor=a\n11/23/2026 02:31:30;D;2.s;req";
/// assert_eq!(parsers::pbs::cut(text), 38);
/// assert_eq!(parsers::pbs::cut(&text[38..]), 0);
/// ```
#[must_use]
pub fn cut(text: &[u8]) -> usize {
    frame::cut(text)
}

/// Start of the last record of a block: what of it to put in front of the next one, for [`Reader::frames`] to look at.
///
/// ```
/// let block = b"11/23/2026 02:31:29;D;1.s;requestor=a\n11/23/2026 02:31:30;D;2.s;requestor=a\n\n";
/// assert_eq!(parsers::pbs::last_record(block), 38);
/// ```
#[must_use]
pub fn last_record(block: &[u8]) -> usize {
    frame::last_piece(block).map_or(block.len(), |(start, _)| start)
}

/// See [`Run::resource`].
pub(crate) fn resource<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    message::resource(list, name)
}

/// See [`Run::resource_size`].
pub(crate) fn size(text: &[u8]) -> Option<u64> {
    value::whole("Resource_List", text, value::size, "a size like 10gb").ok()
}

/// How an accounting log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The names of the resources that count GPUs: `ngpus`, or what a site has in its place (`gpus`, `naccelerators`). Their
    /// numbers are added. TORQUE's are in its `nodes` requests.
    pub gpu_resources: Vec<String>,
    /// Read what exclusive placement takes from other jobs ([`Run::assigned`]): only where a formula names it, since then every
    /// run is amended whose start was seen.
    pub assigned: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { gpu_resources: vec!["ngpus".to_owned()], assigned: false }
    }
}

/// Reads blocks of an accounting log.
#[derive(Debug, Clone)]
pub struct Reader {
    gpus: GpuNames,
    assigned: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(&Options::default())
    }
}

impl Reader {
    /// A reader with these options.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let names = options.gpu_resources.iter().map(|name| name.as_bytes().into());
        Self { gpus: GpuNames(names.collect()), assigned: options.assigned }
    }

    /// Reads the records in `text[body]` and hands each to `visit`, in their order. Nothing is left out: the texts of the frames and
    /// the newlines behind them are `text[body]`. A `body` outside of `text` has no frames.
    ///
    /// - `text[body]` consists of whole records, as [`cut`] gives them; `text[..body.start]` is the record before it (see [`last_record`]), or
    ///   more of the log from some record's start on. It is looked at only to see whether that record is torn. Nothing after `body` is needed.
    /// - `last` says that `body` ends at the end of the file: a record that is not complete there is [`Reason::CutOff`], to be read
    ///   when the file has grown. That is a line without its newline, or an open quote (a newline in an account, half written).
    /// - `events` is cleared, and filled with what the records say to [`Fold::block`].
    ///
    /// Places are counted from `body.start`. Each `E` and `R` is read by itself: what other records say of the run, only the fold
    /// knows.
    pub fn frames<'a>(
        &self,
        text: &'a [u8],
        body: Range<usize>,
        last: bool,
        events: &mut Events,
        visit: &mut dyn FnMut(Frame<'a>),
    ) {
        events.clear();
        let before = text.get(..body.start).and_then(frame::last_piece).map(|(_, framed)| framed);
        let body = text.get(body).unwrap_or_default();
        let mut previous = before.map_or(Neighbour::Whole, |framed| neighbour(&self.understand(framed)));
        for framed in Frames::new(body) {
            let understood = self.understand(framed);
            if framed.piece == Piece::Blank {
                events.push(framed.text, None);
                visit(frame(framed, understood, Neighbour::Whole, false));
                continue;
            }
            let before = previous;
            if !was_cut_by_the_server(framed) {
                previous = neighbour(&understood);
            }
            let end = framed.offset.saturating_add(framed.text.len());
            let at_end = last && end.saturating_add(1) >= body.len();
            let said = match &understood {
                Ok(Understood::Run(ended)) => event::of_run(ended),
                Ok(Understood::Letter(record)) => {
                    event::of_letter(record, || before.is_torn(), &self.gpus, self.assigned)
                }
                Ok(Understood::Other(_)) | Err(_) => None,
            };
            let frame = frame(framed, understood, before, at_end);
            events.push(
                framed.text,
                match &frame {
                    // It is read again when the file has grown.
                    Frame::Quarantined(Quarantined { reason: Reason::CutOff, .. }) => None,
                    Frame::Quarantined(_) => event::of_torn(framed.text),
                    _ => said,
                },
            );
            visit(frame);
        }
    }

    /// The run of one `E` or `R` once more, by its text, as [`Reader::frames`] gave it: to amend it.
    #[must_use]
    pub fn run<'a>(&self, text: &'a [u8], place: Place) -> Option<Run<'a>> {
        let Place { offset, line, .. } = place;
        let framed = Framed { piece: Piece::Record, text, offset, line, terminated: true };
        match self.understand(framed) {
            Ok(Understood::Run(ended)) => Some(ended.run),
            _ => None,
        }
    }

    /// Reads one piece, whatever stands beside it.
    fn understand<'a>(&self, framed: Framed<'a>) -> Result<Understood<'a>, Reason> {
        let text = framed.text;
        match framed.piece {
            Piece::Blank => return Ok(Understood::Other(NoteKind::Blank)),
            _ if text.len() > MAX_RECORD => return Err(Reason::TooLong),
            Piece::Stray | Piece::Fragment => return Err(Reason::NotARecord),
            Piece::Torn => {
                let tail = text.get(text.len().saturating_sub(32)..).unwrap_or_default();
                return Err(Reason::Value {
                    field: Cow::Borrowed(TWO_RECORDS),
                    found: bounded(tail),
                    expected: "its end: another record begins behind it on its line, as after a crash",
                });
            }
            Piece::Record => {}
        }
        let (_, record) = record::record(text).map_err(|_| Reason::Missing { field: "id" })?;
        if !matches!(record.letter, b'E' | b'R') {
            return Ok(Understood::Letter(record));
        }
        let is_empty = record.message.is_empty();
        match record::subject(record.id) {
            Some(Subject::Reservation) => Ok(Understood::Other(NoteKind::Reservation)),
            Some(Subject::Job(..)) if is_empty && record.letter == b'R' => Ok(Understood::Letter(record)),
            Some(Subject::Job(..)) if is_empty => Err(Reason::Missing { field: "user" }),
            Some(Subject::Job(kind, server)) => {
                job::run(&record, kind, server, text, place(framed), &self.gpus).map(Understood::Run)
            }
            None => Err(value::refused("id", record.id, "a job's id, like 123.server or 123[4].server")),
        }
    }
}

/// A piece that was understood.
#[derive(Debug)]
enum Understood<'a> {
    Run(Ended<'a>),
    /// Another letter than `E` and `R`, or an `R` without a message.
    Letter(Record<'a>),
    Other(NoteKind),
}

/// What the piece before an `E` or `R` says of it.
#[derive(Debug, Clone, Copy)]
enum Neighbour<'a> {
    Whole,
    Torn,
    /// Judged only if an `E` or `R` follows.
    Letter(Record<'a>),
}

impl Neighbour<'_> {
    fn is_torn(self) -> bool {
        match self {
            Self::Whole => false,
            Self::Torn => true,
            Self::Letter(record) => record::is_torn(&record),
        }
    }
}

fn neighbour<'a>(understood: &Result<Understood<'a>, Reason>) -> Neighbour<'a> {
    match understood {
        Ok(Understood::Letter(record)) => Neighbour::Letter(*record),
        Err(reason) if is_tear(reason) => Neighbour::Torn,
        Ok(_) | Err(_) => Neighbour::Whole,
    }
}

/// True for a piece behind which, on its line, no text of a user can begin: the record stops before any of it. Behind the
/// beginning of an account a user can imitate all: the start of another record, of which the rest of the real one is the end.
///
/// What follows is judged by the piece before this one, of which this one may itself be a part.
fn was_cut_by_the_server(framed: Framed<'_>) -> bool {
    if framed.piece != Piece::Torn {
        return framed.piece == Piece::Fragment;
    }
    let written_by_users: [&[u8]; 5] =
        [b"gridname=", b"account=", b"project=", b"accounting_id=", b"jobname="];
    match record::record(framed.text) {
        Err(_) => true, // in the middle of date, letter or id
        Ok((_, record)) => match record.letter {
            b'C' | b'T' | b'r' | b'D' | b'L' => true,
            b'Q' | b'S' | b's' | b'E' | b'R' | b'u' | b'c' | b'e' => {
                written_by_users.iter().all(|key| !record.message.contains_str(key))
            }
            _ => false,
        },
    }
}

/// Makes the frame of a piece, with what stands before it and behind it.
fn frame<'a>(
    framed: Framed<'a>,
    understood: Result<Understood<'a>, Reason>,
    before: Neighbour<'a>,
    at_end: bool,
) -> Frame<'a> {
    let (text, place) = (framed.text.as_bstr(), place(framed));
    let note = |kind| Frame::Note(Note { kind, text, place });
    let reason = match understood {
        Err(Reason::TooLong) => Reason::TooLong,
        _ if at_end && (!framed.terminated || may_go_on(&understood)) => Reason::CutOff,
        Ok(Understood::Run(_)) if before.is_torn() => Reason::BesideTorn,
        Ok(Understood::Run(ended)) => return Frame::Run(ended.run),
        Ok(Understood::Letter(Record { letter: b'R', .. })) => return note(NoteKind::EmptyRerun),
        Ok(Understood::Letter(record)) => return note(NoteKind::Letter(record.letter)),
        Ok(Understood::Other(kind)) => return note(kind),
        Err(reason) => reason,
    };
    Frame::Quarantined(Quarantined { reason, text, place })
}

fn place(framed: Framed<'_>) -> Place {
    Place { offset: framed.offset, len: framed.text.len(), line: framed.line }
}

/// True for a record, the file's last, whose next line may not be written yet: it ends inside of a user's text.
fn may_go_on(understood: &Result<Understood<'_>, Reason>) -> bool {
    match understood {
        Ok(Understood::Letter(record)) => record::is_torn(record),
        Err(Reason::OpenQuote { .. }) => true,
        Err(Reason::Missing { field }) => matches!(*field, "queue" | "start" | "end"),
        Ok(_) | Err(_) => false,
    }
}

/// True for the reasons which say that the text goes on elsewhere, or that another record's text stands in it.
fn is_tear(reason: &Reason) -> bool {
    match reason {
        Reason::NotARecord | Reason::TooLong | Reason::OpenQuote { .. } | Reason::Missing { .. } => true,
        Reason::Value { field, .. } => field == TWO_RECORDS,
        _ => false,
    }
}

/// The field of a reason that says that a record stops where another one begins.
const TWO_RECORDS: &str = "record";
