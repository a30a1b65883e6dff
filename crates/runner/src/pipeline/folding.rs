//! What one pass over the logs of a PBS source carries from record to record: the fold, and the points where it can be taken up again.
//!
//! A run's records may lie days apart, in several files, and files are rotated away. So what is carried over the beginning of
//! each file is kept (see [`Carried`]): the files from there on are then read as if those before them were still there.
//! What is carried over a point depends on nothing but the files before it, so that reading them again changes nothing.

use super::File;
use super::format::{FileReader, Format};
use crate::ledger::Carried;
use crate::tally::Tally;
use chrono::NaiveDate;
use parsers::pbs::{Change, Changed, Counts, Events, Fold, FoldOptions, OpenRun, OpenState};
use parsers::{Frame, Note, NoteKind};
use std::collections::HashSet;
use std::path::Path;

/// The fold of one pass.
#[derive(Debug)]
pub struct Folding {
    fold: Fold,
    changes: Vec<Change>,
    /// The name of the file that was read last.
    last: Option<String>,
    /// True where what is carried is wanted.
    keep: bool,
    /// Points that were passed: a copy of a file is not the place to take up again.
    passed: HashSet<u128>,
}

/// What a pass leaves.
#[derive(Debug)]
pub struct Folded {
    /// What was counted.
    pub counts: Counts,
    /// Runs without an end in the log, in order of their ids.
    pub open: Vec<OpenRun>,
    /// What is carried over the end of the last file.
    pub carried: Option<Carried>,
}

impl Folding {
    /// A fold that has seen nothing; `None` for a format without one. `keep`: what is carried over each file's beginning is wanted.
    #[must_use]
    pub fn new(format: &Format, keep: bool) -> Option<Self> {
        matches!(format, Format::Pbs { .. }).then(|| Self::of(Fold::new(&options()), keep))
    }

    /// The fold as it was carried over a point.
    ///
    /// # Errors
    /// In words: what was carried cannot be read.
    pub fn resume(format: &Format, carried: &Carried, keep: bool) -> Result<Option<Self>, String> {
        if !matches!(format, Format::Pbs { .. }) {
            return Ok(None);
        }
        let saved = zstd::decode_all(carried.state.as_slice()).map_err(|error| error.to_string())?;
        let fold = Fold::load(&saved, &options()).map_err(|error| error.to_string())?;
        Ok(Some(Self { last: Some(carried.after.clone()), ..Self::of(fold, keep) }))
    }

    fn of(fold: Fold, keep: bool) -> Self {
        Self { fold, changes: Vec::new(), last: None, keep, passed: HashSet::new() }
    }

    /// A file begins. Answers what is carried over its beginning, where that is wanted.
    pub(super) fn begin(&mut self, file: &File) -> Option<Carried> {
        let FileReader::Pbs { head, .. } = &file.reader else { return None };
        let name = name_of(&file.path);
        if self.last.as_deref().is_some_and(|last| is_gap(last, name)) {
            self.fold.interrupted();
        }
        let after = self.last.replace(name.to_owned()).unwrap_or_default();
        let wanted = self.keep && *head != NO_LINE && self.passed.insert(*head);
        wanted.then(|| self.carried(point(*head), after)).flatten()
    }

    /// Puts right what the records of a block say by what came before them.
    pub(super) fn block(&mut self, file: &File, events: &Events, frames: &mut [Frame<'_>]) {
        let FileReader::Pbs { head, .. } = &file.reader else { return };
        // Tells files apart, and is the same for a file every night.
        let number = u64::try_from(*head & u128::from(u64::MAX)).unwrap_or(0);
        self.changes.clear();
        self.fold.block(number, events, &mut self.changes);
        for change in &self.changes {
            let Some(frame) = frames.get_mut(change.frame) else { continue };
            match (&change.what, frame) {
                (Changed::Amended(amendment), Frame::Run(run)) => amendment.apply(run),
                (Changed::Repeated { .. }, frame) => {
                    let (text, place) = match frame {
                        Frame::Run(run) => (run.text, run.place),
                        Frame::Note(note) => (note.text, note.place),
                        Frame::Quarantined(_) => continue,
                    };
                    *frame = Frame::Note(Note { kind: NoteKind::Repeated, text, place });
                }
                (Changed::Amended(_), _) => {}
            }
        }
    }

    /// The end of the last file.
    #[must_use]
    pub fn finish(self) -> Folded {
        let after = self.last.clone().unwrap_or_default();
        let carried =
            if self.keep && !after.is_empty() { self.carried(Carried::END.to_owned(), after) } else { None };
        Folded { counts: *self.fold.counts(), open: self.fold.open_runs(), carried }
    }

    fn carried(&self, point: String, after: String) -> Option<Carried> {
        // Compressing into memory cannot fail.
        let state = zstd::encode_all(self.fold.save().as_slice(), 3).ok()?;
        Some(Carried { point, after, state })
    }
}

impl Folded {
    /// Counts what the log says beside the runs that ended.
    pub fn observe(&self, tally: &mut Tally) {
        let counts = &self.counts;
        let open = |state| self.open.iter().filter(|run| run.state == state).count() as u64;
        for (what, count) in [
            ("no-start-seen", counts.no_start_seen),
            ("in-phases", counts.in_phases),
            ("after-releases", counts.after_releases),
            ("suspended", counts.suspended),
            ("server-restart", counts.server_restarts),
            ("from-checkpoint", counts.from_checkpoint),
            ("without-record", counts.without_record),
            ("lost", counts.lost + open(OpenState::Lost)),
            ("running", open(OpenState::Running)),
            ("to-be-deleted", open(OpenState::Deleted)),
            ("deleted-without-start", counts.deleted_without_start),
            ("forgotten", counts.forgotten),
            ("torn", counts.torn),
        ] {
            tally.observe(what, count);
        }
    }
}

/// How much a fold remembers. Of runs that ended less than it could: it is kept for each file, about 25 bytes a run, and a log that is
/// there twice is known by the ledger too.
fn options() -> FoldOptions {
    let mut options = FoldOptions::default();
    options.ended_runs = 1 << 14;
    options
}

/// Digest of the first line of a file: it stays when the file is compressed, moved or grows.
#[must_use]
pub fn head_of(first_line: &[u8]) -> u128 {
    if first_line.is_empty() { NO_LINE } else { xxhash_rust::xxh3::xxh3_128(first_line) }
}

/// The head of a file without a line.
const NO_LINE: u128 = 0;

/// The point before the file with this head.
#[must_use]
pub fn point(head: u128) -> String {
    format!("{head:032x}")
}

/// The name of a file without its folder and what compression adds to it.
#[must_use]
pub fn name_of(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    [".gz", ".zst", ".bz2", ".xz"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// True where both names are days and one at least is missing in between.
fn is_gap(last: &str, next: &str) -> bool {
    let day = |name: &str| NaiveDate::parse_from_str(name, "%Y%m%d").ok();
    match (day(last), day(next)) {
        (Some(last), Some(next)) => next > last && last.succ_opt() != Some(next),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_folder_and_compression() {
        for (path, name) in [
            ("/a/b/20261123", "20261123"),
            ("20261123.gz", "20261123"),
            ("a/20261123.zst", "20261123"),
            ("a/acct.log", "acct.log"),
        ] {
            assert_eq!(name_of(path), name);
        }
    }

    #[test]
    fn a_missing_day_is_a_gap() {
        for (last, next, gap) in [
            ("20261130", "20261201", false),
            ("20261130", "20261202", true),
            ("20261130", "20261130", false),
            ("20261130", "20261129", false),
            ("acct.1", "acct.2", false),
            ("20261130", "acct", false),
        ] {
            assert_eq!(is_gap(last, next), gap, "{last} {next}");
        }
    }
}
