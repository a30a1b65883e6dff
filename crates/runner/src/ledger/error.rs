//! What can go wrong with a ledger, and what to do about it.

use super::{Binding, IllegalEvent};
use crate::clock;
use std::fmt;
use std::path::PathBuf;

/// A failure of the ledger. Wherever one is returned, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another runner has it.
    #[error("{path}: another amie-runner is working with this ledger; wait for it, then run again")]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// It speaks for another service or site.
    #[error(
        "{path}: this ledger belongs to site {} at {}, not to site {} at {}; sent records of the one say nothing \
         about the other. Name another `ledger` path in the configuration, or put the old site and endpoint back",
        bound.site, bound.endpoint, wanted.site, wanted.endpoint
    )]
    OtherBinding {
        /// The ledger.
        path: PathBuf,
        /// What it was created for.
        bound: Box<Binding>,
        /// What it was opened for.
        wanted: Box<Binding>,
    },
    /// A newer program made it.
    #[error(
        "{path}: this ledger has schema version {found}, and this program knows versions up to {known}; use the \
         newer amie-runner that made it (a ledger never goes back)"
    )]
    NewerSchema {
        /// The ledger.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known version.
        known: i64,
    },
    /// An older program made it, and nobody has opened it to change it since.
    #[error(
        "{path}: this ledger has schema version {found}, and this program asks ledgers of version {known} alone: \
         `amie-runner check` brings it up to date, as the next run would; older programs refuse it from then on"
    )]
    OlderSchema {
        /// The ledger.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known version.
        known: i64,
    },
    /// A database of something else.
    #[error(
        "{path}: this is not a ledger of amie-runner, or no longer one; name another path, or restore a backup if it was one"
    )]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// The ledger was moved away from its log.
    #[error(
        "{log}: this write-ahead log belongs to a ledger that is not beside it, and holds what was changed last: put the \
         ledger back beside it as {path}; to begin a new one, move the log and its -shm away", log = log.display(), path = path.display()
    )]
    LogAlone {
        /// Where the ledger was.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// Locks and write-ahead logs are not safe there.
    #[error(
        "{path}: the ledger is on a {kind} file system, where locks and durable writes cannot be relied on; move it \
         to a local disk"
    )]
    NetworkFileSystem {
        /// The directory.
        path: PathBuf,
        /// Its type.
        kind: &'static str,
    },
    /// It was put back from a backup, or from anywhere else where it had not come so far.
    #[error(transparent)]
    Older(Box<Older>),
    /// Its witness is there, and it is not.
    #[error(
        "{path}: the ledger is not here, and {witness} says that it was, with {seen}. A new one would know nothing of what \
         was sent and decided, and all of it would be sent again. Put the newest ledger back, or a backup (docs/ledger.md, \
         \"Backup\"); where a new one is meant, remove the witness first"
    )]
    Vanished {
        /// The ledger.
        path: PathBuf,
        /// Its witness.
        witness: PathBuf,
        /// The last event that was seen of it, for people.
        seen: String,
    },
    /// No space.
    #[error("{path}: no space left for the ledger; free some, then run again (nothing is lost)")]
    DiskFull {
        /// The ledger.
        path: PathBuf,
    },
    /// The system does not write, and it is not said that the disk is full: a quota that is used up, a failing disk.
    #[error(
        "{path}: the ledger could not be written ({detail}); see whether a quota is used up or the disk fails, then run \
         again (nothing is lost)"
    )]
    NotWritten {
        /// The ledger.
        path: PathBuf,
        /// What the database said.
        detail: String,
    },
    /// No permission to write.
    #[error("{path}: the ledger cannot be written; check owner and mode of the file and its directory")]
    ReadOnly {
        /// The ledger.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "{path}: the ledger file is damaged ({detail}); stop, keep the file, and restore a backup; a SQLite file is \
         moved away together with its -wal and -shm, for a log that belongs to another file would damage the backup"
    )]
    Corrupt {
        /// The ledger.
        path: PathBuf,
        /// What the database said.
        detail: String,
    },
    /// What is stored contradicts itself.
    #[error("the ledger contradicts itself: {0}; run `ledger verify` and keep the file")]
    Inconsistent(String),
    /// Opening or locking failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No runner has made it yet.
    #[error("{place}: there is no ledger yet; `amie-runner run` makes it")]
    Missing {
        /// The address.
        place: String,
    },
    /// The server is not there, or went away.
    #[error(
        "{place}: the ledger's database cannot be reached ({detail}); nothing is lost, run again when it can"
    )]
    Unreachable {
        /// The address.
        place: String,
        /// Why.
        detail: String,
    },
    /// The server does not let us in, or we cannot be sure of it.
    #[error(
        "{place}: the ledger's database lets nobody in like this ({detail}); check role, database, rights, password \
         file and certificates"
    )]
    Refused {
        /// The address.
        place: String,
        /// Why.
        detail: String,
    },
    /// Anything else that the database said.
    #[error("{path}: {source}")]
    Database {
        /// The ledger.
        path: PathBuf,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chunk that contradicts itself.
    #[error("this chunk cannot be taken in: {0}")]
    BadChunk(String),
    /// No such batch.
    #[error(
        "there is no batch {0}: this answer belongs to another ledger; nothing was changed, and what was on the wire is \
         taken for unknown by the next run"
    )]
    NoSuchBatch(i64),
    /// The batch has its answer already.
    #[error(
        "batch {0} was settled before: its lease was over, and another runner took it over; nothing is to be done, for \
         its records are seen to there"
    )]
    SettledBefore(i64),
    /// Not one outcome a record.
    #[error(
        "batch {batch} has {records} records, but {outcomes} outcomes were given; nothing was changed, and the next run \
         takes them for unknown. This is a fault of amie-runner: please report it"
    )]
    OutcomeCount {
        /// The batch.
        batch: i64,
        /// Its records.
        records: usize,
        /// Given outcomes.
        outcomes: usize,
    },
    /// No such row.
    #[error(
        "there is no ledger row with key \"{0}\"; `amie-runner explain ID` shows the keys of a job, `amie-runner held` \
         those that wait"
    )]
    NoSuchKey(String),
    /// No open hold (or no waived one, where a waiver is taken back).
    #[error("\"{key}\" has no {wanted} hold")]
    NoSuchHold {
        /// The key.
        key: String,
        /// `open` or `waived`.
        wanted: &'static str,
    },
    /// A hold that no approval can end.
    #[error("\"{key}\" is held as {reason}, which cannot be approved: {advice}")]
    CannotApprove {
        /// The key.
        key: String,
        /// Why it is held.
        reason: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// A record on its way to another identity, which nobody can approve or waive.
    #[error(
        "\"{0}\" is on its way from one identity to another: zero was sent under the old one, and the charge follows \
         under the new one when that is settled, by itself. Where the zero was refused or could not be loaded, put right what the \
         service names, then `amie-runner held retry KEY`; to charge it otherwise, restate its period again"
    )]
    Moving(String),
    /// An adjustment that cannot be taken in.
    #[error("\"{key}\": {why}")]
    CannotAdjust {
        /// The key of the adjustment.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// An adjustment that cannot be given up.
    #[error("\"{key}\" cannot be withdrawn: {why}")]
    CannotWithdraw {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// A sum of charges beyond 38 digits.
    #[error("a sum of charges has more than 38 digits")]
    ChargeOverflow,
    /// An event that cannot happen.
    #[error(
        "\"{key}\": {source}; nothing was changed. `amie-runner explain` with this key shows what happened to it"
    )]
    Illegal {
        /// The key.
        key: String,
        /// The state and the event.
        source: IllegalEvent,
    },
}

/// A ledger that is older than what was seen of it. `Display` says to people what that means and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Older {
    /// The ledger.
    pub path: PathBuf,
    /// Its last event.
    pub event: i64,
    /// When that was, epoch seconds.
    pub at: i64,
    /// The last event that was seen of it.
    pub seen: i64,
    /// When that was, epoch seconds.
    pub seen_at: i64,
}

impl fmt::Display for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, event, at, seen, seen_at } = self;
        let (path, seen_at) = (path.display(), clock::show(*seen_at));
        let last = match event {
            0 => "it has no event".to_owned(),
            event => format!("its last event is {event} of {}", clock::show(*at)),
        };
        write!(
            f,
            "{path}: this ledger is older than the one that was here, or a copy that went another way: {last}, and event \
             {seen} of {seen_at} was seen. Whatever was sent and decided since is not in it, and would be sent again. Put \
             the newest ledger back; where there is none, `amie-runner ledger restored --reason '...'` accepts this one and \
             holds what the service might add up (docs/ledger.md, \"Backup\")"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Event, State};

    #[test]
    fn what_names_a_key_or_a_batch_says_what_to_do_next() {
        let key = "slurm/c1/0000000001/5".to_owned();
        let source = IllegalEvent { state: Some(State::Loaded), event: Event::Retried };
        let said = [
            (LedgerError::NoSuchKey(key.clone()), "amie-runner explain"),
            (LedgerError::Illegal { key, source }, "amie-runner explain"),
            (LedgerError::NoSuchBatch(7), "nothing was changed"),
            (LedgerError::SettledBefore(7), "nothing is to be done"),
            (LedgerError::OutcomeCount { batch: 7, records: 2, outcomes: 1 }, "report it"),
        ];
        for (error, advice) in said {
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
