//! What mapping makes of a run or a reading: a record, or a reason why there is none.

use amie_usage::{ComputeUsageRecord, StorageUsageRecord};
use parsers::Finding;
use std::fmt;

use crate::identity::RunKey;

/// What became of a run. Every run is exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'m> {
    /// To be sent.
    Mapped(MappedRun<'m>),
    /// The charge is 0: skipped as [`SkipReason::ZeroCharge`], unless an earlier charge of it was sent.
    Zero(MappedRun<'m>),
    /// Not reported, on purpose.
    Skipped(Skip),
    /// Not reported until a person has done something.
    Held(Hold),
    /// Complete, but so large that a person has to approve it.
    HeldForApproval(MappedRun<'m>, Hold),
}

/// A run with its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedRun<'m> {
    /// The ledger's key.
    pub key: RunKey,
    /// The record as it is sent.
    pub record: ComputeUsageRecord<'m>,
    /// What the ledger compares with what it knows of the run.
    pub facts: RunFacts,
}

/// What the ledger compares with what it knows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunFacts {
    /// Epoch seconds.
    pub start: i64,
    /// Epoch seconds.
    pub end: i64,
    /// Seconds of wall time, where the source says them.
    pub elapsed: Option<u64>,
    /// The run ended by being put back into the queue.
    pub requeued: bool,
}

/// What became of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageOutcome<'m> {
    /// To be sent.
    Mapped(MappedReading<'m>),
    /// The charge is 0: skipped as [`SkipReason::ZeroCharge`], unless an earlier charge of it was sent.
    Zero(MappedReading<'m>),
    /// Not reported, on purpose.
    Skipped(Skip),
    /// Not reported until a person has done something.
    Held(Hold),
    /// Complete, but so large that a person has to approve it.
    HeldForApproval(MappedReading<'m>, Hold),
}

/// A reading with its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedReading<'m> {
    /// The ledger's key.
    pub key: RunKey,
    /// The record as it is sent.
    pub record: StorageUsageRecord<'m>,
    /// Digest of what the report says of this owner.
    pub source_digest: u128,
}

/// Not reported, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
}

/// Why something is not reported. `Display` gives the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SkipReason {
    /// The run goes on, or waits.
    NotEnded,
    /// It never started.
    NothingAllocated,
    /// `projects.skip` names the account.
    AccountRule,
    /// The charge is 0.
    ZeroCharge,
    /// Storage that belongs to nobody: id 0, root.
    Unassigned,
    /// The reading is of another kind of owner than the source takes.
    OtherOwnerKind,
}

impl SkipReason {
    /// The name in summaries.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotEnded => "not-ended",
            Self::NothingAllocated => "nothing-allocated",
            Self::AccountRule => "account-rule",
            Self::ZeroCharge => "zero-charge",
            Self::Unassigned => "unassigned",
            Self::OtherOwnerKind => "other-owner-kind",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Not reported until a person has done something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// What is wrong and what to do about it, for people; text of the source in it is escaped.
    pub detail: String,
}

impl Hold {
    pub(crate) fn new(reason: HoldReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Why something is held. `Display` gives the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HoldReason {
    /// No row, pattern or skip rule covers the account.
    UnknownProject,
    /// The run names no account.
    NoAccount,
    /// The user is not in the table.
    UnknownUser,
    /// The run names no user.
    NoUser,
    /// No resource covers the run.
    UnknownResource,
    /// The resource has no rate at that time.
    NoRate,
    /// What the parser found.
    Finding(Finding),
    /// Times that cannot be.
    Inconsistent,
    /// The state is not one that this version knows.
    UnknownState,
    /// A quantity that the record needs is not in the source.
    MissingQuantity,
    /// Division by zero, a negative charge, or one of more than 38 digits.
    Arithmetic,
    /// The run's allocation changed while it ran, and the formula is not one whose charges for parts of a run add up.
    Phases,
    /// Above `max_charge`.
    AboveMaxCharge,
    /// More cores than `max_cores`.
    AboveMaxCores,
    /// Longer than `max_hours`.
    AboveMaxHours,
    /// The source can be forged, and its configuration says to hold it.
    Forgeable,
    /// A time that the record needs is not in the source.
    NoTime,
    /// A name that cannot be sent as it is.
    Identity,
    /// The owner is not in the table.
    UnknownOwner,
    /// It is not configured whether the service replaces or adds repeated readings.
    ServiceTreatsUnset,
}

impl HoldReason {
    /// The name in summaries and in the held list.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownProject => "unknown-project",
            Self::NoAccount => "no-account",
            Self::UnknownUser => "unknown-user",
            Self::NoUser => "no-user",
            Self::UnknownResource => "unknown-resource",
            Self::NoRate => "no-rate",
            Self::Finding(finding) => finding.code(),
            Self::Inconsistent => "inconsistent",
            Self::UnknownState => "unknown-state",
            Self::MissingQuantity => "missing-quantity",
            Self::Arithmetic => "arithmetic",
            Self::Phases => "phases",
            Self::AboveMaxCharge => "above-max-charge",
            Self::AboveMaxCores => "above-max-cores",
            Self::AboveMaxHours => "above-max-hours",
            Self::Forgeable => "forgeable",
            Self::NoTime => "no-time",
            Self::Identity => "identity",
            Self::UnknownOwner => "unknown-owner",
            Self::ServiceTreatsUnset => "service-treats-unset",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
