//! The ledger: what was charged, sent, answered and loaded, durable at every step.
//!
//! # One row a run
//!
//! A row belongs to a run key (or reading key) and says how far that run is on its way to the service's books.
//!
//! ```text
//!            ingest                lease             settle                     confirm
//!  mapping ─────────▶ pending ─────────────▶ sending ───────▶ accepted ───────────────────────▶ loaded
//!     │                 ▲  ▲                  │  │  │            │  ▲
//!     │ a person        │  │  certainly        │  │  └─▶ rejected │  │ a person or a sighting
//!     │ must look       │  └─ never left ──────┘  │               ▼  │
//!     └─────▶ held ─────┘                         └─▶ unknown ──▶ failed
//!               │ waived, skipped, zero               (may have arrived)
//!               └─────▶ superseded
//! ```
//!
//! Every arrow, also those that a person makes, is one arm of [`State::next`]; any other pair of state and event is
//! an error that changes nothing. Who moves a row: `ingest` (held, pending, superseded, and the newest version of any
//! row), `lease` (onto the wire), `settle` and `recover` (off the wire), `confirm` (what the service shows), and people
//! (`approve`, `close_holds`, `reopen_holds`, `retry`, `withdraw`, `resolve_unknown`, `resolve_accepted`, `adjust`, `accept_restored`),
//! `brake_night` and `finish_moves`. Nobody else.
//!
//! # Versions
//!
//! `version` counts what mapping wanted of a run; `sent` is the version that was sent last. An event speaks of the
//! version that was sent: accepting version 1 never settles version 2. While version 1 is on the wire, of unknown fate
//! or accepted, version 2 waits; it becomes pending when version 1 is loaded, failed or rejected, or has been accepted
//! for [`LeaseRequest::quiet_seconds`] (that only where its charge is another: the service shows no projects, and a load of
//! version 1 would be taken for one of version 2). After an unknown outcome it is version 1, byte for byte, that is sent again.
//! A load that the service shows is believed by charge and time, and only where it is later than the one that was noted
//! of the version before.
//! The API has no fencing: a late load of an older version is seen by [`Ledger::confirm`] and counted as `mismatched`. So that
//! somebody looks, all loads are looked at for two weeks after a restatement ([`Ledger::watched_since`]).
//!
//! What a source said of a run before it said something else is *outdated*: sources are read whole, and an older file is read
//! again beside the one that has it changed. A row remembers the digests that it has left, and such a record changes nothing,
//! unless a person restates it.
//!
//! A person may approve that a record goes on under another wire identity. Then version 2 is zero under the old one, a
//! hold (`moving`) keeps the record itself, and when that zero is settled the row becomes pending with version 3 under
//! the new identity ([`Ledger::finish_moves`]): at no moment are there two charges. Where the service was ever seen to list
//! loads, settled is loaded. What it shows later under an identity that was left counts as `mismatched`.
//!
//! From the moment that the service may hold something of a row (`taken`, or `sending`) its wire identity is frozen,
//! and what differs later has a [`Cause`](restate::Cause): the source restates, rules and tables only drift. What the
//! service *refused* is not held by it: such a row may change in any way. No two live rows share a wire identity; the
//! later one is held as `collision`.
//!
//! # Transactions, and what a crash between any two of them leaves
//!
//! Each method of [`Ledger`] is one transaction, durable before it returns. So there are only these gaps:
//!
//! | the process dies | what is left | what the next run does |
//! | --- | --- | --- |
//! | before `ingest` returns | neither rows nor progress | reads that input again |
//! | after `ingest` | rows and progress | goes on behind them; what overlaps is `unchanged` |
//! | before `lease` returns | `pending`, or `sending` that nobody saw | `recover` calls the latter `unknown` |
//! | between `lease` and the answer | `sending` | `recover`: `unknown`, for it may have arrived |
//! | between the answer and `settle` | `sending` | the same: the answer is lost, not the record |
//! | after `settle` | what the service said | reconciles |
//! | before `confirm` returns | `accepted` | asks the service again |
//!
//! `unknown` compute records are leased again: the same bytes under the same identity overwrite. For storage and
//! adjustment records nobody knows whether the service overwrites, so they wait for a sighting or a person.
//!
//! # Leases
//!
//! A lease is a batch with a deadline. In SQLite the lock file proves that no other runner lives, so whatever is
//! `sending` when the ledger is opened belongs to the dead: [`Ledger::recover`] settles it, and must run before the first
//! lease. In PostgreSQL, which several hosts may share, a lease is recovered when its deadline has passed by the clock of the
//! database, and not before, also where its runner is known to be dead: its POST may still be on its way. A runner that
//! wakes after that finds its batch settled ([`LedgerError::SettledBefore`]) and changes nothing. Changes are made one
//! at a time there, so that what is proved of one runner holds for several.
//!
//! # Holds, quarantine, history
//!
//! A hold is a question to a person with what it takes to answer it. A run that was never taken becomes `held`; beside
//! a row that the service may hold, a hold leaves the row alone (false restatements, changed identities). A hold ends
//! *released* (it maps now), *approved*, *waived* (and stays so while reason and source are the same) or *skipped*.
//! Quarantined texts are known by their content, so that reading a file again does not count them again.
//!
//! Events are only ever added. On the happy path there is one event for a chunk, a batch or a reconciliation, and a
//! row refers to it; whatever is not the happy path has an event of its own. [`Ledger::history`] puts them together and
//! [`Ledger::verify`] replays them.
//!
//! # Go-live
//!
//! What ended before its resource's go-live is recorded as *superseded*, by an event `withheld`, and never owed. The date
//! in force is kept here: the configuration moves it forward only, a person moves it back. What was refused is not with the
//! service, and is withheld as well when it is read again or would be sent; so is what comes back from the wire unsent.
//!
//! # What another program sent
//!
//! [`Ledger::import_sent`] keeps it as *loaded* under keys of its own, `imported/...`, which hold the wire identities. The first
//! run that maps to such an identity takes it over (`imported`), and the other row is superseded (`adopted`). A run that was
//! read before, and of which the service holds nothing from here, takes it over at once.
//!
//! # An older ledger
//!
//! A ledger that was put back from a backup is sound, and has forgotten what was sent since. A file beside it, the witness,
//! remembers its last event, and `open` refuses a ledger that lacks it. When a person accepts it
//! ([`Ledger::accept_restored`]), what the service might add up is held as `restored`, also where it is taken in later.
//!
//! # Time
//!
//! Nothing in here reads a clock: `now` is epoch seconds from the caller. Only leases in PostgreSQL go by the clock of the
//! database.

pub mod restate;
pub mod row;
pub mod sight;

mod book;
mod codes;
mod core;
mod error;
mod flags;
mod gather;
mod location;
mod migrate;
mod names;
mod postgres;
mod sqlite;
mod state;
mod store;

pub use book::Book;
pub use error::{LedgerError, Older};
pub use location::{Location, Rehearsal};
pub use postgres::{Address, AddressError, PasswordSource, PostgresLedger, Protection};
pub use row::{Identity, RecordOutcome, Row};
pub use sqlite::SqliteLedger;
pub use state::{Event, IllegalEvent, State, transition_table};

use amie_usage::{Decimal, UsageType};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One usage record that mapping made, offered to the ledger.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The run key (or reading key): natural, ordered, stable for ever.
    pub key: String,
    /// The type of record.
    pub usage_type: UsageType,
    /// Wire identity, first part: AMIE resource name.
    pub resource: Arc<str>,
    /// Wire identity, second part.
    pub local_record_id: String,
    /// Wire identity, third part: submit time (storage: collection time; adjustment: start time), epoch seconds.
    pub submit: i64,
    /// AMIE login.
    pub username: Arc<str>,
    /// AMIE project.
    pub project: Arc<str>,
    /// The charge, already rounded.
    pub charge: Decimal,
    /// The rendered JSON of the record, as a range of [`Chunk::payloads`].
    pub payload: Range<usize>,
    /// Digest of what the source said (not of rules or tables): tells a source change from a rule change.
    pub source_digest: u128,
    /// The facts that the two known false source changes are recognised by.
    pub facts: SourceFacts,
    /// A zero charge: ignored, unless this run was sent before with another charge.
    pub only_if_sent: bool,
    /// Input file, as an index into [`Chunk::files`].
    pub file: u32,
    /// First line of the record in that file, from 1.
    pub line: u64,
}

impl Candidate {
    /// What the service will know it by.
    pub(in crate::ledger) fn identity(&self) -> Identity {
        Identity {
            resource: Arc::clone(&self.resource),
            local_record_id: self.local_record_id.clone(),
            submit: self.submit,
        }
    }
}

/// What the source said of a run, as far as restatements are judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceFacts {
    /// Start, epoch seconds.
    pub start: i64,
    /// End, epoch seconds.
    pub end: i64,
    /// Elapsed seconds.
    pub elapsed: u64,
    /// True where the state says that the run was requeued (`REQUEUED`).
    pub requeued: bool,
}

/// A run (or reading) that mapping holds for a person.
#[derive(Debug, Clone)]
pub struct HeldRun {
    /// The run key.
    pub key: String,
    /// The type of record it would become.
    pub usage_type: UsageType,
    /// Reason code: `unknown-project`, `unknown-user`, ...
    pub reason: String,
    /// What exactly, and what to do: for people.
    pub detail: String,
    /// The normalised run as JSON: enough to map it again when the input is gone.
    pub run: String,
    /// Digest of what the source said.
    pub source_digest: u128,
    /// The record it would become, where only an approval is missing (a brake).
    pub candidate: Option<Candidate>,
    /// Input file, as an index into [`Chunk::files`].
    pub file: u32,
    /// First line, from 1.
    pub line: u64,
}

/// A text that could not be read.
#[derive(Debug, Clone)]
pub struct QuarantinedText {
    /// Reason code.
    pub reason: String,
    /// Reason in words.
    pub detail: String,
    /// The text, at most 64 KiB of it.
    pub text: Vec<u8>,
    /// Input file, as an index into [`Chunk::files`].
    pub file: u32,
    /// First line, from 1.
    pub line: u64,
}

/// A piece of input, to be taken in as one transaction together with the progress it makes.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Source name in the configuration.
    pub source: String,
    /// Input files that the entries refer to.
    pub files: Vec<Arc<str>>,
    /// Digest of rules and tables that the records were made with.
    pub rules_digest: u128,
    /// Records.
    pub records: Vec<Candidate>,
    /// Rendered JSON of all records, one behind the other.
    pub payloads: Vec<u8>,
    /// Held runs.
    pub held: Vec<HeldRun>,
    /// Quarantined texts.
    pub quarantined: Vec<QuarantinedText>,
    /// How far the input has been read after this chunk.
    pub progress: Option<Progress>,
    /// What the reading carried over the points that it passed.
    pub carried: Vec<Carried>,
}

/// What the reading of a source carries from one file into the next, so that the next can be read alone one day: in PBS logs a run
/// begins in one file and ends in another. Kept as long as a reading passes the point once in [`CARRIED_DAYS`] days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Where: a name for the file that comes next, or [`Carried::END`].
    pub point: String,
    /// The file that was read before.
    pub after: String,
    /// What: bytes that mean something to the reader alone.
    pub state: Vec<u8>,
}

impl Carried {
    /// Behind the last file.
    pub const END: &str = "end";
}

/// Days after which what was carried over a point that no reading passes any more is forgotten.
pub const CARRIED_DAYS: i64 = 100;

/// What needs a person and has not been reported: rows (and texts) by what happened to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// Newly held.
    pub held: u64,
    /// Refused by the service.
    pub refused: u64,
    /// Taken by the service and not loaded.
    pub failed: u64,
    /// Shown by the service with another charge.
    pub mismatched: u64,
    /// Sent, and charged otherwise by newer rules or tables.
    pub drifted: u64,
    /// Quarantined.
    pub quarantined: u64,
    /// The newest event that was looked at.
    pub last_event: i64,
    /// The newest quarantined text that was looked at.
    pub last_quarantined: i64,
}

impl News {
    /// True where there is nothing new.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { held, refused, failed, mismatched, drifted, quarantined, .. } = *self;
        [held, refused, failed, mismatched, drifted, quarantined] == [0; 6]
    }
}

/// How far one input file has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The file, as in the configuration's paths.
    pub path: String,
    /// Decompressed bytes read.
    pub offset: u64,
    /// Frames read.
    pub frames: u64,
    /// True when the file was read to its end.
    pub complete: bool,
}

/// A store of ledger rows. Each method is one transaction that is durable when the method returns.
///
/// ```
/// use runner::ledger::{Binding, Chunk, Ledger, LeaseRequest, SqliteLedger};
/// use amie_usage::UsageType;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("ledger.db");
/// let binding = Binding { endpoint: "https://usage.example/api/v1".into(), site: "EXAMPLE".into() };
/// let mut ledger: Box<dyn Ledger> = Box::new(SqliteLedger::open(&path, &binding, 1_700_000_000)?);
/// ledger.recover(1_700_000_000)?;
/// let report = ledger.ingest(&Chunk { source: "slurm".into(), ..Chunk::default() }, 1_700_000_000)?;
/// assert_eq!(report.inserted, 0);
/// assert!(ledger.lease(&LeaseRequest::new(UsageType::Compute, 1_700_000_000))?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Ledger: Send {
    /// The service and site that this ledger speaks for.
    fn binding(&self) -> &Binding;

    /// What it lacks of what was seen of it, where it is older. Such a ledger is opened for questions, to be rehearsed on, and
    /// to be accepted.
    fn older(&self) -> Option<&Older>;

    /// Takes in a chunk together with the progress it makes.
    ///
    /// # Errors
    /// Where the chunk contradicts itself or the store fails; then neither rows nor progress were stored.
    fn ingest(&mut self, chunk: &Chunk, now: i64) -> Result<Ingested, LedgerError>;

    /// The same, but changes of rules and mapping are sent too: a person has approved them.
    ///
    /// # Errors
    /// As [`ingest`](Self::ingest).
    fn restate(&mut self, chunk: &Chunk, person: Person<'_>, now: i64) -> Result<Ingested, LedgerError>;

    /// Settles what a dead process left as `sending`: it may have arrived. To be called before the first lease.
    ///
    /// # Errors
    /// Where the store fails.
    fn recover(&mut self, now: i64) -> Result<Recovered, LedgerError>;

    /// Hands records to a sender, in key order; `None` where there are none. The intent is durable on return.
    ///
    /// # Errors
    /// Where the store fails or a payload is not what was ingested.
    fn lease(&mut self, request: &LeaseRequest) -> Result<Option<Leased>, LedgerError>;

    /// Notes what became of a batch: one outcome for each leased record, in the same order. `note` is kept for the
    /// history (HTTP status, request id).
    ///
    /// # Errors
    /// Where there is no such batch, it was settled before, or the number of outcomes is another; nothing changes.
    fn settle(
        &mut self,
        batch: BatchId,
        outcomes: &[RecordOutcome],
        note: &str,
        now: i64,
    ) -> Result<Settled, LedgerError>;

    /// Takes in what the service shows.
    ///
    /// # Errors
    /// Where the store fails.
    fn confirm(&mut self, sightings: &[Sighting], now: i64) -> Result<Confirmed, LedgerError>;

    /// A person says whether records of unknown fate arrived. One that did not, and ended before its resource's go-live, is not sent.
    ///
    /// # Errors
    /// Where a key has no row, or one whose fate is not unknown; then nothing changes.
    fn resolve_unknown(
        &mut self,
        keys: &[String],
        arrived: bool,
        person: Person<'_>,
        now: i64,
    ) -> Result<Decided, LedgerError>;

    /// A person says whether records that the service took were loaded, or lost and to be sent again, where the service
    /// itself does not say so. A record of unknown fate can be said to be loaded, too.
    ///
    /// # Errors
    /// Where a key has no row, or one that is not awaited; then nothing changes.
    fn resolve_accepted(
        &mut self,
        keys: &[String],
        loaded: bool,
        person: Person<'_>,
        now: i64,
    ) -> Result<Decided, LedgerError>;

    /// Lets records on their way to another identity go on where zero under the old one is loaded, or, where the service
    /// never showed a load, was accepted `quiet_seconds` ago. Answers how many became pending under the new one.
    ///
    /// # Errors
    /// Where the store fails.
    fn finish_moves(&mut self, quiet_seconds: u32, now: i64) -> Result<u64, LedgerError>;

    /// Holds the new records of each resource that is about to charge more than `factor` usual days at once (for each
    /// day since the last one). Nothing is held while too few days are known.
    ///
    /// # Errors
    /// Where the store fails.
    fn brake_night(&mut self, factor: u32, now: i64) -> Result<Vec<Braked>, LedgerError>;

    /// What would become of adjustments, one verdict each, in their order.
    ///
    /// # Errors
    /// Where the store fails.
    fn judge_adjustments(&self, adjustments: &[Adjustment]) -> Result<Vec<AdjustmentVerdict>, LedgerError>;

    /// Takes in new adjustments, to be sent; those that are known already are left as they are. Answers how many are new.
    ///
    /// # Errors
    /// Where one of them cannot be taken in (a refund beyond its charge, an id that is taken); then none is.
    fn adjust(
        &mut self,
        adjustments: &[Adjustment],
        person: Person<'_>,
        now: i64,
    ) -> Result<u64, LedgerError>;

    /// Gives up adjustments that the service refused or could not load: they are not sent again, and count against no charge.
    /// Answers how many.
    ///
    /// # Errors
    /// Where a key has no row, one that is no adjustment, or one that the service may hold; then nothing changes.
    fn withdraw(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<u64, LedgerError>;

    /// Makes rejected or failed rows pending again, as they are; those that the service never took and that ended before
    /// their resource's go-live are withheld instead.
    ///
    /// # Errors
    /// Where a named key has no row, or one that is neither rejected nor failed; then nothing changes.
    fn retry(&mut self, which: &Retry, person: Person<'_>, now: i64) -> Result<Decided, LedgerError>;

    /// Approves held records that only lack an approval. One that is held for something else, and is known by other times or
    /// would be charged less than was refunded, is not sent: that is asked instead. One that ended before its resource's go-live is withheld.
    ///
    /// # Errors
    /// Where a key has no open hold or its hold has nothing to approve; then nothing changes.
    fn approve(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<Decided, LedgerError>;

    /// Ends holds without a record: waived by a person, or skipped by rules. Answers how many.
    ///
    /// # Errors
    /// Where a key has no open hold; then nothing changes.
    fn close_holds(
        &mut self,
        keys: &[String],
        end: HoldEnd,
        person: Person<'_>,
        now: i64,
    ) -> Result<u64, LedgerError>;

    /// Takes back waivers; one is over, and cannot be taken back, once the source says something newer. Answers how many.
    ///
    /// # Errors
    /// Where a key has no waived hold; then nothing changes.
    fn reopen_holds(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<u64, LedgerError>;

    /// Closes quarantined texts that a person has looked at, for good; or, for the reason [`NOT_THERE_ANY_MORE`], until they are
    /// seen again. Answers how many were open.
    ///
    /// # Errors
    /// Where the store fails.
    fn close_quarantine(&mut self, ids: &[i64], person: Person<'_>, now: i64) -> Result<u64, LedgerError>;

    /// Takes over from when on the runs of each resource are sent, where that is later than what was said before (an
    /// earlier time is left to [`set_go_live`](Self::set_go_live)); pending records of earlier runs are withheld.
    /// Answers what is in force.
    ///
    /// # Errors
    /// Where the store fails.
    fn keep_go_live(
        &mut self,
        configured: &BTreeMap<String, i64>,
        now: i64,
    ) -> Result<Vec<GoLive>, LedgerError>;

    /// A person says from when on the runs of a resource are sent; `None`: all of them. Where that is earlier than before, what
    /// was withheld is sent when its source is read again; where it is later, pending records of earlier runs are withheld.
    ///
    /// # Errors
    /// Where the store fails.
    fn set_go_live(
        &mut self,
        resource: &str,
        from: Option<i64>,
        person: Person<'_>,
        now: i64,
    ) -> Result<(), LedgerError>;

    /// From when on the runs of a resource are sent, epoch seconds; `None` where nothing was ever said.
    ///
    /// # Errors
    /// Where the store fails.
    fn go_live(&self, resource: &str) -> Result<Option<i64>, LedgerError>;

    /// A person accepts that this ledger is older than what was sent. Of the types that the service might add up, what is
    /// pending is held as `restored` (or, where the service has something of it already, becomes unknown), and what ended
    /// until now is held too when it is taken in as new: it may have been sent.
    ///
    /// # Errors
    /// Where the store fails.
    fn accept_restored(
        &mut self,
        might_add: &[UsageType],
        person: Person<'_>,
        now: i64,
    ) -> Result<Restored, LedgerError>;

    /// Lets go of what only closed questions needed, where they were closed before a time, and of how far files were read that
    /// were last read before it; and gives unused space back.
    /// Rows, identities, digests and events stay for ever.
    ///
    /// # Errors
    /// Where the store fails; what was forgotten by then stays so.
    fn compact(&mut self, before: i64) -> Result<Compacted, LedgerError>;

    /// Takes over what another program sent: it counts as loaded, and a run that maps to its identity is not sent again,
    /// also where it was read before and waits, or was refused. `origin` says where this is known from.
    ///
    /// # Errors
    /// Where the store fails.
    fn import_sent(
        &mut self,
        records: &[SentRecord],
        origin: &str,
        person: Person<'_>,
        now: i64,
    ) -> Result<Imported, LedgerError>;

    /// What happened that needs a person, and that no run has reported yet: also what a run that died had found.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn news(&self) -> Result<News, LedgerError>;

    /// This has been reported to a person; what happened since it was asked for has not.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn mark_reported(&mut self, news: &News) -> Result<(), LedgerError>;

    /// How far a file was read.
    ///
    /// # Errors
    /// Where the store fails.
    fn progress(&self, source: &str, path: &str) -> Result<Option<Progress>, LedgerError>;

    /// What the reading of a source carried over a point.
    ///
    /// # Errors
    /// Where the store fails.
    fn carried(&self, source: &str, point: &str) -> Result<Option<Carried>, LedgerError>;

    /// Counts and exact sums; costs nothing that grows with the number of rows.
    ///
    /// # Errors
    /// Where the store fails.
    fn totals(&self) -> Result<Totals, LedgerError>;

    /// What was sent and is not settled yet, by usage type: when to ask the service from.
    ///
    /// # Errors
    /// Where the store fails.
    fn awaiting(&self) -> Result<Vec<Awaiting>, LedgerError>;

    /// Since when the service's loads must be looked at although nothing is awaited, because something was restated
    /// lately: an older version may load after the newer one. Epoch seconds; `None` where there is no need.
    ///
    /// # Errors
    /// Where the store fails.
    fn watched_since(&self, now: i64) -> Result<Option<i64>, LedgerError>;

    /// All loads up to this time were shown to [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// Where the store fails.
    fn looked_at_loads(&mut self, at: i64) -> Result<(), LedgerError>;

    /// Rows by key, record id or job id, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    fn find(&self, what: &Find, limit: usize) -> Result<Vec<Row>, LedgerError>;

    /// Rows in key order, after a key, at most `limit`: all of them, or those that are charged to a project.
    ///
    /// # Errors
    /// Where the store fails.
    fn rows(&self, project: Option<&str>, after: &str, limit: usize) -> Result<Vec<Row>, LedgerError>;

    /// True where the source said this of a run before, and something else since.
    ///
    /// # Errors
    /// Where the store fails.
    fn outdated(&self, row: &Row, source_digest: u128) -> Result<bool, LedgerError>;

    /// Everything that happened to a row, oldest first.
    ///
    /// # Errors
    /// Where the store fails.
    fn history(&self, key: &str) -> Result<Vec<Entry>, LedgerError>;

    /// The bytes that were ingested as the newest version, while they are kept.
    ///
    /// # Errors
    /// Where the store fails or they are not what was ingested.
    fn payload(&self, key: &str) -> Result<Option<Vec<u8>>, LedgerError>;

    /// What needs a person, counted by reason, with up to `examples` keys (quarantine: `file:line`) each.
    ///
    /// # Errors
    /// Where the store fails.
    fn groups(&self, list: List, examples: usize) -> Result<Vec<Group>, LedgerError>;

    /// The hold of a key, open or closed.
    ///
    /// # Errors
    /// Where the store fails.
    fn hold(&self, key: &str) -> Result<Option<Hold>, LedgerError>;

    /// Open holds in key order, after a key, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    fn holds(&self, reason: Option<&str>, after: &str, limit: usize) -> Result<Vec<Hold>, LedgerError>;

    /// Open holds that other rules or tables made than those of `rules_digest`: to be mapped again.
    ///
    /// # Errors
    /// Where the store fails.
    fn open_holds_with_other_rules(
        &self,
        rules_digest: u128,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Hold>, LedgerError>;

    /// Rejected, failed or unknown rows in key order, after a key, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    fn troubled(&self, state: State, after: &str, limit: usize) -> Result<Vec<Row>, LedgerError>;

    /// Open quarantined texts in order of arrival, after an id, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    fn quarantined(&self, after: i64, limit: usize) -> Result<Vec<Quarantined>, LedgerError>;

    /// Events in their order, after a number, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    fn events(&self, after: i64, limit: usize) -> Result<Vec<Logged>, LedgerError>;

    /// Quarantined texts in order of arrival, closed ones too, after an id, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    fn texts(&self, after: i64, limit: usize) -> Result<Vec<Reviewed>, LedgerError>;

    /// Checks every invariant on every row and replays every history; empty where all is well, at most 1,000 faults.
    ///
    /// # Errors
    /// Where the store fails.
    fn verify(&self) -> Result<Vec<Fault>, LedgerError>;
}

/// Why [`close_quarantine`](Ledger::close_quarantine) closes a text that is in its file no more. Such a text is a new question
/// when it is seen again: only what a person dismissed stays closed.
pub const NOT_THERE_ANY_MORE: &str = "its file was read again, and does not have it any more";

/// Keys of adjustments begin so.
pub const ADJUSTMENTS: &str = "adjust/";

/// Keys of refunds begin so; the key of the refunded run follows, and the refund's own id.
pub const REFUNDS: &str = "adjust/refund/";

/// An adjustment that a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Its key: `adjust/<type>/...`, the same for the same adjustment, however often it is asked for.
    pub key: String,
    /// AMIE resource name.
    pub resource: Arc<str>,
    /// The site's record id: unique among the adjustments of the resource.
    pub local_record_id: String,
    /// What selects the allocation; of a refund the run's submit time. Epoch seconds.
    pub start: i64,
    /// AMIE login.
    pub username: Arc<str>,
    /// AMIE project.
    pub project: Arc<str>,
    /// How much, above 0.
    pub charge: Decimal,
    /// The rendered JSON.
    pub payload: Vec<u8>,
    /// The key of the run that is refunded.
    pub refunds: Option<String>,
    /// Where it was asked for: a file, or nothing.
    pub file: Arc<str>,
    /// Line in that file, from 1.
    pub line: u64,
}

/// What would become of an adjustment. `Display` says it to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdjustmentVerdict {
    /// New: it would be sent.
    New,
    /// Asked for before, and in this state: nothing happens.
    Known(State),
    /// The same once more among those that are asked for now.
    Repeated,
    /// Its key is known with something else in it.
    Differs,
    /// Another adjustment of the resource has its record id.
    Collides {
        /// Its key.
        owner: String,
    },
    /// The run that it refunds is not known, or was not charged.
    NotCharged(Option<State>),
    /// With it, more would be refunded than was charged.
    BeyondCharge {
        /// What the run was charged.
        charged: Decimal,
        /// What other refunds give back, also unconfirmed ones.
        refunded: Decimal,
    },
}

impl AdjustmentVerdict {
    /// True where nothing stands against it: it is new, or known as it is.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::New | Self::Known(_))
    }

    /// The word for it in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Known(_) => "known",
            Self::Repeated => "repeated",
            Self::Differs => "differs",
            Self::Collides { .. } => "collides",
            Self::NotCharged(_) => "not-charged",
            Self::BeyondCharge { .. } => "beyond-charge",
        }
    }
}

impl fmt::Display for AdjustmentVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Known(state) => write!(f, "known, {state}"),
            Self::Repeated => f.write_str(
                "is asked for twice here; where two equal adjustments are meant, give each an id of its own",
            ),
            Self::Differs => f.write_str(
                "was asked for before with another charge, project, user, resource or time; an adjustment is never \
                 changed: make another one, with an id of its own",
            ),
            Self::Collides { owner } => {
                write!(f, "its id on this resource belongs to \"{owner}\": give it another id")
            }
            Self::NotCharged(None) => f.write_str("the run that it refunds is not in the ledger"),
            Self::NotCharged(Some(state)) => {
                write!(f, "the run that it refunds is {state}: the service holds no charge of it")
            }
            Self::BeyondCharge { charged, refunded } => write!(
                f,
                "the run was charged {charged}, and {refunded} of that is refunded already: this would be more than all"
            ),
        }
    }
}

/// A resource whose new records were held, because they charge far more than usual. `Display` says it to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Braked {
    /// AMIE resource.
    pub resource: Arc<str>,
    /// Records that were held.
    pub records: u64,
    /// Their charge, with what was accepted earlier today.
    pub charge: Decimal,
    /// The charge of a usual day.
    pub usual: Decimal,
    /// The charge that would have passed.
    pub allowed: Decimal,
}

impl fmt::Display for Braked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, charge, usual, allowed, .. } = self;
        write!(
            f,
            "this night charges {charge} on {resource}, where {usual} a day is usual and {allowed} would have passed: look \
             at the rates and at the largest jobs, then approve or waive"
        )
    }
}

/// What a ledger speaks for: stored when it is created, and never another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Base URL of the service.
    pub endpoint: String,
    /// Site name (`XA-SITE`).
    pub site: String,
}

/// Who decided, and why: kept in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person<'a> {
    /// Login.
    pub by: &'a str,
    /// In their words.
    pub why: &'a str,
}

/// What a ledger has let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Closed holds whose run and record were forgotten.
    pub holds: u64,
    /// Closed quarantined texts whose bytes were forgotten.
    pub texts: u64,
    /// Files of which it was forgotten how far they were read.
    pub files: u64,
}

/// What became of what an older ledger was about to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Rows that are held.
    pub held: u64,
    /// Rows that may have arrived.
    pub unknown: u64,
}

/// A record that another program sent, and that is with the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRecord {
    /// Its type.
    pub usage_type: UsageType,
    /// Wire identity, first part: AMIE resource name.
    pub resource: String,
    /// Wire identity, second part.
    pub local_record_id: String,
    /// Wire identity, third part, epoch seconds.
    pub submit: i64,
    /// The charge that was sent.
    pub charge: Decimal,
    /// Digits behind its point as it was written: `12.00` has two, and is not 12.4 rounded.
    pub charge_places: u8,
    /// AMIE login; empty where it is not known.
    pub username: String,
    /// AMIE project; empty where it is not known.
    pub project: String,
    /// When it was loaded, epoch seconds.
    pub loaded_at: Option<i64>,
    /// Where it was found: its line, from 1.
    pub line: u64,
}

/// What became of records that another program sent. Each is in exactly one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Taken over: never sent again.
    pub imported: u64,
    /// They were taken over before, or the service may hold them from here.
    pub known: u64,
}

/// From when on the runs of a resource are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoLive {
    /// AMIE resource name.
    pub resource: String,
    /// What the configuration says, epoch seconds.
    pub configured: i64,
    /// What the ledger goes by: that, or a later time that was configured before.
    pub in_force: i64,
}

/// A batch of leased records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub i64);

/// What became of a chunk. Every record, held run and quarantined text is in exactly one of its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ingested {
    /// New rows, pending.
    pub inserted: u64,
    /// The same as before.
    pub unchanged: u64,
    /// Zero charges of what was never taken.
    pub ignored: u64,
    /// Newer versions of what was never taken.
    pub replaced: u64,
    /// Rows that are zero now and were never taken.
    pub superseded: u64,
    /// Rows that nothing was wanted of, wanted again.
    pub revived: u64,
    /// Held rows that map now.
    pub released: u64,
    /// Newer versions of what was sent.
    pub restated: u64,
    /// Sent rows that rules or mapping would price otherwise now.
    pub drifted: u64,
    /// Of those, the ones noted for the first time.
    pub drifted_first: u64,
    /// Newly held, by mapping or by the ledger itself.
    pub held: u64,
    /// Held before and still.
    pub held_again: u64,
    /// Waived by a person.
    pub waived: u64,
    /// An older version of what is known: the source said so before, and something else since.
    pub outdated: u64,
    /// New rows of what another program had sent: nothing to send.
    pub adopted: u64,
    /// Recorded and not to be sent: they ended before their resource's go-live.
    pub withheld: u64,
    /// Texts quarantined for the first time, or again after they were closed because they were there no more.
    pub quarantined: u64,
    /// Texts that were quarantined before.
    pub quarantined_again: u64,
}

/// What a dead process had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Batches without an answer.
    pub batches: u64,
    /// Their rows: `unknown` now.
    pub records: u64,
}

/// What a sender wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// All records of a message are of one type.
    pub usage_type: UsageType,
    /// At most so many records.
    pub max_records: usize,
    /// At most so many bytes of body, envelope and commas included. A single record that is larger goes alone.
    pub max_bytes: usize,
    /// Until when nobody else may take them.
    pub lease_seconds: u32,
    /// Epoch seconds.
    pub now: i64,
    /// Also compute records of unknown fate. (Storage and adjustment records never are.)
    pub resend_unknown: bool,
    /// A newer version may go when the one before has been accepted for so long without being loaded.
    pub quiet_seconds: u32,
}

impl LeaseRequest {
    /// 1,000 records, 192 KiB, 15 minutes, with what is of unknown fate, and a day and a half of quiet.
    #[must_use]
    pub fn new(usage_type: UsageType, now: i64) -> Self {
        Self {
            usage_type,
            max_records: 1_000,
            max_bytes: 192 * 1024,
            lease_seconds: 900,
            now,
            resend_unknown: true,
            quiet_seconds: 36 * 3600,
        }
    }
}

/// Bytes of a message around its records: `{"UsageType":"Compute","Records":[]}`. Between two records is one comma.
#[must_use]
pub fn envelope_bytes(usage_type: UsageType) -> usize {
    r#"{"UsageType":"","Records":[]}"#.len() + usage_type.as_str().len()
}

/// Records handed to a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// To be settled.
    pub batch: BatchId,
    /// Their type.
    pub usage_type: UsageType,
    /// The records, in key order; never empty.
    pub records: Vec<LeasedRecord>,
}

/// One record handed to a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedRecord {
    /// The run key.
    pub key: String,
    /// The version.
    pub version: u32,
    /// The bytes that were ingested.
    pub payload: Vec<u8>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Queued by the service.
    pub accepted: u64,
    /// Refused by the service.
    pub rejected: u64,
    /// May have arrived.
    pub unknown: u64,
    /// Pending again: never left.
    pub not_sent: u64,
}

/// A record as the service shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// Among the loaded ones.
    Loaded {
        /// Its type.
        usage_type: UsageType,
        /// AMIE resource name.
        resource: String,
        /// The site's record id.
        local_record_id: String,
        /// Submit time, epoch seconds.
        submit: Option<i64>,
        /// The charge shown.
        charge: Option<Decimal>,
        /// Digits behind the point as written, where known (`12.50` has two).
        charge_places: Option<u8>,
        /// When it was loaded, epoch seconds.
        loaded_at: Option<i64>,
    },
    /// Among the failed ones.
    Failed {
        /// Its type.
        usage_type: UsageType,
        /// AMIE resource name.
        resource: String,
        /// The site's record id.
        local_record_id: String,
        /// Submit time, epoch seconds.
        submit: Option<i64>,
        /// The service's words.
        error: String,
        /// `FailedRecordID`.
        failed_id: Option<String>,
        /// Our key, echoed.
        local_reference: Option<String>,
        /// When the service processed it, epoch seconds.
        processed_at: Option<i64>,
    },
}

/// What sightings said. Every sighting is in exactly one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confirmed {
    /// Loaded now.
    pub loaded: u64,
    /// Failed now.
    pub failed: u64,
    /// Newer than what we know and of another charge: an alarm.
    pub mismatched: u64,
    /// Known before.
    pub again: u64,
    /// Of an earlier version or an earlier send.
    pub stale: u64,
    /// Without the submit time, charge or time of loading that it takes.
    pub incomplete: u64,
    /// The row is being sent or waits for its turn: ask again.
    pub not_now: u64,
    /// Not in this ledger.
    pub foreign: u64,
}

/// What became of records that a person decided upon. Each is in exactly one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decided {
    /// As was decided.
    pub done: u64,
    /// Held still, for another reason that nobody was asked about: see their holds.
    pub asked_again: u64,
    /// Not to be sent any more: they ended before their resource's go-live.
    pub withheld: u64,
}

impl Decided {
    /// Counts one that is done, or withheld.
    pub(in crate::ledger) fn count(&mut self, withheld: bool) {
        *if withheld { &mut self.withheld } else { &mut self.done } += 1;
    }
}

/// Which rows to make pending again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// These.
    Keys(Vec<String>),
    /// All rejected ones, or those refused with these words.
    Rejected(Option<String>),
    /// All failed ones, or those failed with these words.
    Failed(Option<String>),
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    /// It maps now.
    Released,
    /// A person approved it.
    Approved,
    /// A person wants it never charged; stays so while reason and source are the same.
    Waived,
    /// Rules skip it now, or its charge is zero.
    Skipped,
}

impl HoldEnd {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Approved => "approved",
            Self::Waived => "waived",
            Self::Skipped => "skipped",
        }
    }
}

/// Counts and sums over the whole ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Rows by state; a state without rows is not in it.
    pub states: BTreeMap<State, u64>,
    /// Open holds, also those beside rows that were sent.
    pub held_total: u64,
    /// Quarantined texts that nobody has looked at.
    pub quarantined_open: u64,
    /// Rows and exact charges.
    pub charges: Vec<ChargeTotal>,
}

impl Totals {
    /// Rows in a state.
    #[must_use]
    pub fn count(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }
}

/// The exact sum of charges of one resource, project and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeTotal {
    /// Type of record.
    pub usage_type: UsageType,
    /// AMIE resource.
    pub resource: Arc<str>,
    /// AMIE project.
    pub project: Arc<str>,
    /// State.
    pub state: State,
    /// Rows.
    pub records: u64,
    /// Sum of the charges that the state speaks of.
    pub charge: Decimal,
}

/// What was sent and is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaiting {
    /// Type of record.
    pub usage_type: UsageType,
    /// Accepted and unknown rows.
    pub records: u64,
    /// When the earliest of them was first sent, epoch seconds (or a little before).
    pub earliest_sent: i64,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// A run key, exactly.
    Key(String),
    /// A wire record id, exactly, on any resource.
    Record(String),
    /// A job: its record id, with or without what follows the number (`91`, `91.pbssrv`, `91_4`).
    Job(String),
}

/// One thing that happened to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Order of events in this ledger.
    pub seq: i64,
    /// When, epoch seconds.
    pub at: i64,
    /// What.
    pub what: What,
    /// The version it speaks of, where it names one.
    pub version: Option<u32>,
    /// The batch it speaks of.
    pub batch: Option<BatchId>,
    /// The chunk it speaks of.
    pub chunk: Option<i64>,
    /// Who decided, where a person did.
    pub by: Option<String>,
    /// More, for people.
    pub detail: String,
}

/// One thing that happened, to a row or to all rows of its chunk, batch or reconciliation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The row; `None` where it is about every row of a chunk, batch or reconciliation.
    pub key: Option<String>,
    /// What happened.
    pub entry: Entry,
}

/// What an [`Entry`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The row moved.
    Moved(Event),
    /// The row stayed, and something is to be known about it.
    Noted(Note),
}

/// What is noted without moving a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A hold was opened, or its question changed.
    HoldOpened,
    /// A hold was closed.
    HoldClosed,
    /// Rules or mapping would price it otherwise.
    Drifted,
    /// The service shows a newer load with another charge.
    Mismatched,
    /// From when on the runs of a resource are sent was set; of no single row.
    GoLive,
    /// A person accepted an older ledger; of no single row.
    Restored,
}

impl What {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moved(event) => event.as_str(),
            Self::Noted(Note::HoldOpened) => "hold-opened",
            Self::Noted(Note::HoldClosed) => "hold-closed",
            Self::Noted(Note::Drifted) => "drifted",
            Self::Noted(Note::Mismatched) => "mismatched",
            Self::Noted(Note::GoLive) => "go-live",
            Self::Noted(Note::Restored) => "restored",
        }
    }

    /// Reads the word back.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let notes = [
            Note::HoldOpened,
            Note::HoldClosed,
            Note::Drifted,
            Note::Mismatched,
            Note::GoLive,
            Note::Restored,
        ];
        let all = Event::ALL.into_iter().map(Self::Moved).chain(notes.into_iter().map(Self::Noted));
        all.into_iter().find(|what| what.as_str() == word)
    }
}

/// What needs a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Open holds, by reason code.
    Holds,
    /// Rejected rows, by the service's words.
    Rejected,
    /// Failed rows, by the service's words.
    Failed,
    /// Rows of unknown fate, by usage type.
    Unknown,
    /// Open quarantined texts, by reason code.
    Quarantine,
}

/// Things with one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The run key.
    pub key: String,
    /// Type of record.
    pub usage_type: UsageType,
    /// Reason code.
    pub reason: String,
    /// What exactly, and what to do.
    pub detail: String,
    /// The normalised run as JSON; empty where the ledger itself holds a record.
    pub run: String,
    /// Digest of what the source said.
    pub source_digest: u128,
    /// Digest of the rules and tables that held it.
    pub rules_digest: u128,
    /// First seen, epoch seconds.
    pub first_seen: i64,
    /// Last seen, epoch seconds.
    pub last_seen: i64,
    /// The rendered record that an approval would send.
    pub candidate: Option<Vec<u8>>,
    /// Input file.
    pub file: String,
    /// First line, from 1.
    pub line: u64,
    /// How it ended; `None` while it is open.
    pub closed: Option<ClosedHold>,
}

/// How a hold ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedHold {
    /// When, epoch seconds.
    pub at: i64,
    /// How: the word of a [`HoldEnd`].
    pub how: String,
    /// Who; empty where the ledger itself did.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A quarantined text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// To close it by.
    pub id: i64,
    /// Source name.
    pub source: String,
    /// Reason code.
    pub reason: String,
    /// Reason in words.
    pub detail: String,
    /// The text.
    pub text: Vec<u8>,
    /// Input file where it was seen first.
    pub file: String,
    /// First line there, from 1.
    pub line: u64,
    /// First seen, epoch seconds.
    pub first_seen: i64,
    /// Last seen, epoch seconds.
    pub last_seen: i64,
}

/// A quarantined text, and whether a person has looked at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// The text.
    pub text: Quarantined,
    /// Who closed it and why; `None` while it is open.
    pub closed: Option<ClosedText>,
}

/// How a quarantined text was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedText {
    /// When, epoch seconds.
    pub at: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, or what else it is about.
    pub about: String,
    /// What is wrong.
    pub what: String,
}
