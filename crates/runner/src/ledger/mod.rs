//! The ledger: what was charged, sent, answered and loaded, durable at every step.

use amie_usage::{Decimal, UsageType};
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
#[derive(Debug, Default)]
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
