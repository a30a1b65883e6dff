//! What the ledger asks of a database: single rows and short lists, inside one transaction. No judgement lives below
//! these traits, and no SQL above them.
//!
//! Everything by key comes in two forms: a question for one, and before it an [`Ahead`] that says which ones will be
//! asked for. An embedded database ignores the latter. One at the end of a wire fetches them together, answers from
//! memory, keeps what is written until the transaction ends, and writes it together too; a list by anything but its
//! keys is read after what was written before it.

use super::row::{Identity, PayloadRef, Row};
use super::{
    Awaiting, Candidate, Carried, Entry, Group, Hold, HoldEnd, LedgerError, List, Logged, Person, Progress,
    Quarantined, QuarantinedText, Reviewed, Sighting, State, What,
};
use amie_usage::{Decimal, UsageType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything together.
pub trait Store: Names + Rows + Identities + Events + Pieces + Batches + Holds + Texts {}

impl<S: Names + Rows + Identities + Events + Pieces + Batches + Holds + Texts> Store for S {}

/// Its failures and its transactions.
pub trait Transactions {
    /// What can go wrong inside: a failure of the database, or one of the ledger.
    type Fail: From<LedgerError> + std::fmt::Debug;

    /// Begins: nobody else changes the ledger meanwhile (or, for a question, what is read is one moment).
    fn begin(&self, purpose: Purpose) -> Result<(), Self::Fail>;

    /// Ends it, durably.
    fn commit(&self) -> Result<(), Self::Fail>;

    /// Ends it as if nothing had been done; forgets what was remembered of it.
    fn rollback(&self);

    /// True where the same work may succeed another time, and surely nothing of it was done.
    fn worth_repeating(&self, _fail: &Self::Fail, _attempt: u32) -> bool {
        false
    }

    /// A failure for people, with the place.
    fn explain(&self, fail: Self::Fail) -> LedgerError;

    /// The time by which leases are judged: the database's own where several hosts share it, else the caller's.
    fn lease_clock(&self, now: i64) -> Result<i64, Self::Fail>;

    /// True where whatever is on the wire when a runner starts belongs to a dead one.
    fn alone(&self) -> bool;

    /// Gives space that nothing uses back to the system, outside a transaction. A server does that by itself.
    fn shrink(&self) -> Result<(), Self::Fail> {
        Ok(())
    }

    /// What the database itself finds wrong with its files.
    fn self_check(&self) -> Result<Vec<String>, Self::Fail>;
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To change the ledger.
    Change,
    /// To ask it.
    Question,
}

/// Names that repeat (resources, users, projects, sources, files), and other single values.
pub trait Names: Transactions {
    /// The number of a name, which is stored where it is new.
    fn id(&self, text: &str) -> Result<i64, Self::Fail>;

    /// The number of a name that may not be stored.
    fn known_id(&self, text: &str) -> Result<Option<i64>, Self::Fail>;

    /// The name of a number.
    fn name(&self, id: i64) -> Result<Arc<str>, Self::Fail>;

    /// A single value of the ledger.
    fn meta(&self, name: &str) -> Result<Option<String>, Self::Fail>;

    /// Sets it.
    fn set_meta(&self, name: &str, value: &str) -> Result<(), Self::Fail>;

    /// How far a file was read.
    fn progress(&self, source: &str, path: &str) -> Result<Option<Progress>, Self::Fail>;

    /// Sets it.
    fn set_progress(&self, source: &str, progress: &Progress, now: i64) -> Result<(), Self::Fail>;

    /// Forgets how far files were read that were last read before a time, and answers of how many.
    fn forget_progress(&self, before: i64) -> Result<u64, Self::Fail>;

    /// What the reading of a source carried over a point.
    fn carried(&self, source: &str, point: &str) -> Result<Option<Carried>, Self::Fail>;

    /// Sets it, and says that it was seen now.
    fn set_carried(&self, source: &str, carried: &Carried, now: i64) -> Result<(), Self::Fail>;

    /// Forgets what was last seen before a time.
    fn drop_carried(&self, source: &str, before: i64) -> Result<(), Self::Fail>;
}

/// What is going to be asked for.
#[derive(Debug, Clone, Copy)]
pub enum Ahead<'a> {
    /// The numbers of the names in these.
    Names(&'a [Incoming<'a>]),
    /// Rows and holds of these, rows of their jobs, and the owners of their identities.
    Incoming(&'a [Incoming<'a>]),
    /// Rows and holds of these keys.
    Keys(&'a [&'a str]),
    /// Who has these identities.
    Identities(&'a [(UsageType, Identity)]),
    /// Whom these are about, with rows and known failures.
    Sightings(&'a [Sighting]),
    /// Whether these texts were seen before.
    Texts {
        /// Of this source.
        source: &'a str,
        /// By digest.
        digests: &'a [u128],
    },
}

/// A record on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The record.
    pub candidate: &'a Candidate,
    /// Digest of its payload.
    pub digest: u128,
}

/// Enough of a row to tell whether a record is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Digest of the newest version's payload.
    pub digest: Option<u128>,
    /// Digest of what the source said.
    pub source_digest: u128,
    /// Where it stands.
    pub state: State,
    /// There is an open hold.
    pub on_hold: bool,
    /// That rules or mapping would price it otherwise has been noted.
    pub drifted: bool,
}

impl Glance {
    /// True where the newest version is this record, from the same source, and nobody is asked about it: the answer for
    /// most records of most nights.
    pub fn is_same(&self, incoming: Incoming<'_>) -> bool {
        let quiet = !self.on_hold && !self.drifted && !matches!(self.state, State::Held | State::Superseded);
        quiet
            && self.digest == Some(incoming.digest)
            && self.source_digest == incoming.candidate.source_digest
    }
}

/// A record that makes a new row, with everything that is stored as a number.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// The record.
    pub incoming: Incoming<'a>,
    /// Where its bytes will lie.
    pub payload: PayloadRef,
    /// Names by number.
    pub file: i64,
    /// As above.
    pub resource: i64,
    /// As above.
    pub username: i64,
    /// As above.
    pub project: i64,
}

/// Usage type, resource, project and state of rows that are counted together. The names are 0 where nothing was mapped.
pub(super) type Place = (UsageType, i64, i64, State);

/// What a row no longer refers to, and its history still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// A batch.
    Batch,
    /// A reconciliation.
    Confirm,
    /// What its source said before, by [`mark`](super::core::outdated); histories do not tell of it.
    Source,
}

/// Rows of the ledger, and what they add up to.
pub trait Rows: Names {
    /// How many new rows go in together at best.
    const TOGETHER: usize;

    /// Says what will be asked for.
    fn ahead(&self, _what: Ahead<'_>) -> Result<(), Self::Fail> {
        Ok(())
    }

    /// The row of a key.
    fn row(&self, key: &str) -> Result<Option<Row>, Self::Fail>;

    /// Hands out at a glance the rows in each range of keys (both ends are in it), in key order, at most `limit` a range;
    /// false where a range has more. Ranges are in order and do not overlap.
    fn glances(
        &self,
        ranges: &[(&str, String)],
        limit: usize,
        each: impl FnMut(&str, Glance),
    ) -> Result<bool, Self::Fail>;

    /// Inserts pending rows together, whose keys are not there; does nothing and answers false where one of their wire
    /// identities is taken.
    fn insert_fresh(&self, fresh: &[Fresh<'_>]) -> Result<bool, Self::Fail>;

    /// Writes a row as it is now; `before` is what is stored, `None` where there is no row.
    fn put(&self, before: Option<&Row>, after: &Row) -> Result<(), Self::Fail>;

    /// Keeps what a row no longer refers to.
    fn keep_past(&self, key: &str, kind: Past, id: i64) -> Result<(), Self::Fail>;

    /// And what was kept.
    fn past(&self, key: &str, kind: Past) -> Result<Vec<i64>, Self::Fail>;

    /// Hands out rows of one type that are pending, unknown, rejected or failed, in key order, until `enough` says so.
    fn in_state(
        &self,
        state: State,
        usage_type: UsageType,
        after: &str,
        limit: usize,
        take: impl FnMut(Row) -> bool,
    ) -> Result<(), Self::Fail>;

    /// Accepted rows whose newer version has waited since a time, in key order.
    fn quiet(&self, usage_type: UsageType, since: i64, limit: usize) -> Result<Vec<Row>, Self::Fail>;

    /// Keys of rejected or failed rows, of one text where asked.
    fn keys_with_error(&self, state: State, error: Option<&str>) -> Result<Vec<String>, Self::Fail>;

    /// Rows in key order, after a key: all, or those of a project by its number.
    fn rows_after(&self, project: Option<i64>, after: &str, limit: usize) -> Result<Vec<Row>, Self::Fail>;

    /// Rows of a job with keys after one and before another, both of which begin as those of the job do, in key order.
    fn rows_of_job(&self, after: &str, before: &str, limit: usize) -> Result<Vec<Row>, Self::Fail>;

    /// Hands out every row in key order, until `each` says false.
    fn every_row(&self, each: impl FnMut(Row) -> Result<bool, Self::Fail>) -> Result<(), Self::Fail>;

    /// Rejected or failed rows by the service's words, unknown ones by type, with some keys each.
    fn row_groups(&self, list: List, examples: usize) -> Result<Vec<Group>, Self::Fail>;

    /// Counts and exact sums that are kept, without those of nothing.
    fn tallies(&self) -> Result<BTreeMap<Place, (i64, Decimal)>, Self::Fail>;

    /// Adds to them.
    fn add_to_tallies(&self, changes: &BTreeMap<Place, (i64, Decimal)>) -> Result<(), Self::Fail>;
}

/// Who holds which wire identity.
pub trait Identities: Names {
    /// The key that has an identity.
    fn owner(&self, usage_type: UsageType, identity: &Identity) -> Result<Option<String>, Self::Fail>;

    /// Gives an identity that nobody has.
    fn give(&self, usage_type: UsageType, identity: &Identity, key: &str) -> Result<(), Self::Fail>;

    /// Takes it away.
    fn take(&self, usage_type: UsageType, identity: &Identity) -> Result<(), Self::Fail>;

    /// Keys by record id, and submit time where it is known, in order of submission.
    fn shown(
        &self,
        usage_type: UsageType,
        resource: &str,
        local_record_id: &str,
        submit: Option<i64>,
    ) -> Result<Vec<String>, Self::Fail>;

    /// Keys by record id on any resource; with `prefix` also where something other than a letter or digit follows.
    fn with_record_id(&self, id: &str, prefix: bool, limit: usize) -> Result<BTreeSet<String>, Self::Fail>;

    /// How many there are.
    fn identities(&self) -> Result<i64, Self::Fail>;
}

/// An event to be noted.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// When, epoch seconds.
    pub at: i64,
    /// What.
    pub what: What,
    /// The row; without one it is about every row of a chunk, batch or reconciliation.
    pub key: Option<&'a str>,
    /// Its version.
    pub version: Option<u32>,
    /// The chunk.
    pub chunk: Option<i64>,
    /// The batch.
    pub batch: Option<i64>,
    /// More, for people.
    pub detail: &'a str,
    /// Who decided.
    pub person: Option<&'a str>,
}

/// What events are asked about. Chunks and batches: what is about all of their rows.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// A row.
    Key(&'a str),
    /// A chunk.
    Chunk(i64),
    /// A batch.
    Batch(i64),
    /// Itself.
    Event(i64),
}

/// The history; it only grows.
pub trait Events: Names {
    /// Notes an event and answers its number; numbers grow in the order of commits.
    fn note(&self, event: &NewEvent<'_>) -> Result<i64, Self::Fail>;

    /// Events, oldest first.
    fn events(&self, about: About<'_>) -> Result<Vec<Entry>, Self::Fail>;

    /// All events in their order, after a number.
    fn events_after(&self, after: i64, limit: usize) -> Result<Vec<Logged>, Self::Fail>;

    /// True where exactly this was noted before.
    fn noted(&self, key: &str, what: What, detail: &str) -> Result<bool, Self::Fail>;

    /// Rows by what was noted of them after an event, where a person is to know of it.
    fn news_after(&self, event: i64) -> Result<Vec<(What, u64)>, Self::Fail>;

    /// The newest event, 0 where there is none.
    fn last_event(&self) -> Result<i64, Self::Fail>;

    /// True where a failure of the service was seen before.
    fn failure_known(&self, key: &str, id: &str) -> Result<bool, Self::Fail>;

    /// Notes one.
    fn remember_failure(&self, key: &str, id: &str) -> Result<(), Self::Fail>;
}

/// Pieces of input and their payloads.
pub trait Pieces: Names {
    /// A new chunk without payloads.
    fn new_chunk(&self, source: &str, rules_digest: u128, now: i64) -> Result<i64, Self::Fail>;

    /// Forgets a chunk that nothing refers to.
    fn drop_chunk(&self, chunk: i64) -> Result<(), Self::Fail>;

    /// Stores packed payloads, with their size unpacked.
    fn put_payloads(&self, chunk: i64, bytes: i64, packed: &[u8]) -> Result<(), Self::Fail>;

    /// And answers them.
    fn packed_payloads(&self, chunk: i64) -> Result<Option<(i64, Vec<u8>)>, Self::Fail>;

    /// Counts references to payloads, and drops those that nothing refers to any more.
    fn add_references(&self, changes: &BTreeMap<i64, i64>) -> Result<(), Self::Fail>;

    /// References by chunk, where there are any.
    fn references(&self) -> Result<BTreeMap<i64, i64>, Self::Fail>;

    /// The same of those chunks whose payloads are stored.
    fn stored_payloads(&self) -> Result<BTreeMap<i64, i64>, Self::Fail>;
}

/// A batch to be opened.
#[derive(Debug, Clone, Copy)]
pub struct NewBatch<'a> {
    /// Type of its records.
    pub usage_type: UsageType,
    /// How many.
    pub records: usize,
    /// Epoch seconds.
    pub leased_at: i64,
    /// By [`Transactions::lease_clock`].
    pub lease_until: i64,
    /// Its keys in order, as JSON.
    pub members: &'a str,
}

/// A batch as far as others must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Type of its records.
    pub usage_type: UsageType,
    /// True until it is settled.
    pub open: bool,
    /// Its keys in order, as JSON; dropped when it is settled.
    pub members: Option<String>,
}

/// Messages: opened by a lease, closed by what became of them.
pub trait Batches: Names {
    /// Opens one.
    fn open_batch(&self, batch: &NewBatch<'_>) -> Result<i64, Self::Fail>;

    /// Notes when any of its records was sent first.
    fn set_earliest(&self, batch: i64, earliest: i64) -> Result<(), Self::Fail>;

    /// Closes it.
    fn close_batch(&self, batch: i64, now: i64) -> Result<(), Self::Fail>;

    /// A batch.
    fn batch(&self, batch: i64) -> Result<Option<Batch>, Self::Fail>;

    /// Open ones whose lease ended at a time or before; all, where none is given.
    fn open_batches(&self, expired_at: Option<i64>) -> Result<Vec<i64>, Self::Fail>;

    /// Counts their accepted and unknown rows.
    fn add_waiting(&self, changes: &BTreeMap<i64, i64>) -> Result<(), Self::Fail>;

    /// Those counts, where there are any.
    fn waiting(&self) -> Result<BTreeMap<i64, i64>, Self::Fail>;

    /// Their sums by type.
    fn awaiting(&self) -> Result<Vec<Awaiting>, Self::Fail>;
}

/// A question to be put to a person.
#[derive(Debug)]
pub struct NewHold<'a> {
    /// The run key.
    pub key: &'a str,
    /// Type of record.
    pub usage_type: UsageType,
    /// Reason code.
    pub reason: &'a str,
    /// What exactly.
    pub detail: &'a str,
    /// The normalised run as JSON.
    pub run: &'a str,
    /// Digest of what the source said.
    pub source_digest: u128,
    /// Digest of the rules.
    pub rules_digest: u128,
    /// Input file.
    pub file: &'a str,
    /// First line.
    pub line: u64,
    /// What an approval would want, as JSON, and its bytes.
    pub candidate: Option<(String, &'a [u8])>,
}

/// Which open holds are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Holding<'a> {
    /// Of this reason.
    pub reason: Option<&'a str>,
    /// Of other rules than these.
    pub other_rules: Option<u128>,
}

/// Questions to people, one a key.
pub trait Holds: Names {
    /// Opens a hold, or brings an open one up to date.
    fn open_hold(&self, hold: &NewHold<'_>, now: i64) -> Result<(), Self::Fail>;

    /// Closes the open hold of a key; false where there is none. `person` is `None` where the ledger itself does.
    fn close_hold(
        &self,
        key: &str,
        end: HoldEnd,
        person: Option<Person<'_>>,
        now: i64,
    ) -> Result<bool, Self::Fail>;

    /// Forgets runs and records of holds that were closed before a time, but for waived ones, and answers of how many. The
    /// reason, the digests and who closed them stay. (A store may as well keep them.)
    fn forget_closed_holds(&self, _before: i64) -> Result<u64, Self::Fail> {
        Ok(0)
    }

    /// Opens a waived hold again; false where there is none.
    fn unwaive(&self, key: &str) -> Result<bool, Self::Fail>;

    /// The hold of a key, open or closed.
    fn hold(&self, key: &str) -> Result<Option<Hold>, Self::Fail>;

    /// The record that the hold of a key would become, as JSON.
    fn hold_candidate(&self, key: &str) -> Result<Option<String>, Self::Fail>;

    /// The waiver of a key: reason and source digest.
    fn waiver(&self, key: &str) -> Result<Option<(String, u128)>, Self::Fail>;

    /// Open holds in key order.
    fn open_holds(&self, which: Holding<'_>, after: &str, limit: usize) -> Result<Vec<Hold>, Self::Fail>;

    /// Keys of holds whose run says that it is this job.
    fn holds_of_job(&self, job: &str, limit: usize) -> Result<Vec<String>, Self::Fail>;

    /// Open holds by reason.
    fn hold_groups(&self, examples: usize) -> Result<Vec<Group>, Self::Fail>;

    /// How many are open.
    fn open_hold_count(&self) -> Result<i64, Self::Fail>;

    /// How many are open and have a row that says so: a look at each.
    fn matched_hold_count(&self) -> Result<i64, Self::Fail>;
}

/// Texts that could not be read, by their content.
pub trait Texts: Names {
    /// Notes that a text was seen; true where it is new.
    fn quarantine(
        &self,
        source: &str,
        digest: u128,
        text: &QuarantinedText,
        file: &str,
        now: i64,
    ) -> Result<bool, Self::Fail>;

    /// Closes an open one; false where it is not open.
    fn close_text(&self, id: i64, person: Person<'_>, now: i64) -> Result<bool, Self::Fail>;

    /// Forgets the bytes of texts that were closed before a time, and answers of how many. The digest stays, so that they
    /// are known again. (A store may as well keep them.)
    fn forget_closed_texts(&self, _before: i64) -> Result<u64, Self::Fail> {
        Ok(0)
    }

    /// Open ones in order of arrival.
    fn open_texts(&self, after: i64, limit: usize) -> Result<Vec<Quarantined>, Self::Fail>;

    /// All of them in order of arrival.
    fn texts_after(&self, after: i64, limit: usize) -> Result<Vec<Reviewed>, Self::Fail>;

    /// Open ones by reason.
    fn text_groups(&self, examples: usize) -> Result<Vec<Group>, Self::Fail>;

    /// How many open ones came after one.
    fn open_text_count(&self, after: i64) -> Result<u64, Self::Fail>;

    /// The newest one, 0 where there is none.
    fn last_text(&self) -> Result<i64, Self::Fail>;
}
