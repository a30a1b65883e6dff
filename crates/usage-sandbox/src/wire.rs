//! The table of the wire: the fields of each type of record, as the Usage API documents them.
//!
//! It is written by hand from the documentation and shares nothing with any client, so that a client's mistake shows
//! here instead of being repeated here.

use serde::{Deserialize, Serialize};

/// The type of all records of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UsageType {
    /// Runs of jobs.
    Compute,
    /// Readings of stored bytes.
    Storage,
    /// Refunds, credits, debits.
    Adjustment,
}

impl UsageType {
    /// The type that this word of the wire names.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Compute, Self::Storage, Self::Adjustment]
            .into_iter()
            .find(|usage_type| usage_type.word() == word)
    }

    /// The word on the wire.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Compute => "Compute",
            Self::Storage => "Storage",
            Self::Adjustment => "Adjustment",
        }
    }

    /// The record's fields.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Compute => COMPUTE,
            Self::Storage => STORAGE,
            Self::Adjustment => ADJUSTMENT,
        }
    }

    /// The time that is part of a record's identity, or of an adjustment says which allocation it is for.
    pub(crate) fn identity_time(self) -> &'static str {
        match self {
            Self::Compute => "SubmitTime",
            Self::Storage => "CollectionTime",
            Self::Adjustment => "StartTime",
        }
    }

    /// The time that is held against the dates of an allocation.
    pub(crate) fn allocation_time(self) -> &'static str {
        match self {
            Self::Compute | Self::Adjustment => "StartTime",
            Self::Storage => "CollectionTime",
        }
    }
}

/// A field of a record.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A string that names something: not empty.
    Name,
    /// A string.
    Text,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// A string: ISO 8601 UTC in whole seconds.
    Time,
    /// A string or a number: a plain decimal, not negative.
    Charge,
    /// A whole number, not negative.
    Count,
    /// A number, not negative.
    Number,
    /// A string or a number: nobody documents the unit.
    Loose,
    /// A string, or a list of strings and nulls: the reference client sends `[null]` where there is none.
    Parent,
    /// An object with these fields.
    Object(&'static [Field]),
}

const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

const COMPUTE: &[Field] = &[
    must("Username", Kind::Name),
    must("LocalProjectID", Kind::Name),
    must("LocalRecordID", Kind::Name),
    must("Resource", Kind::Name),
    must("SubmitTime", Kind::Time),
    must("StartTime", Kind::Time),
    must("EndTime", Kind::Time),
    must("Charge", Kind::Charge),
    must(
        "Attributes",
        Kind::Object(&[
            must("NodeCount", Kind::Count),
            may("CpuCoreCount", Kind::Count),
            may("JobName", Kind::Text),
            may("Queue", Kind::Text),
            may("Memory", Kind::Loose),
        ]),
    ),
    may("ParentRecordID", Kind::Parent),
    may("LocalReference", Kind::Text),
];

const STORAGE: &[Field] = &[
    must("Username", Kind::Name),
    must("LocalProjectID", Kind::Name),
    must("LocalRecordID", Kind::Name),
    must("Resource", Kind::Name),
    must("CollectionTime", Kind::Time),
    must("Charge", Kind::Charge),
    may(
        "Attributes",
        Kind::Object(&[
            may("BytesRead", Kind::Count),
            may("BytesStored", Kind::Count),
            may("BytesWritten", Kind::Count),
            may("CollectionInterval", Kind::Number),
            may("FileCount", Kind::Count),
            may("FilesRead", Kind::Count),
            may("FilesWritten", Kind::Count),
            may("MediaType", Kind::Text),
            may("SystemCopies", Kind::Count),
            may("UserCopies", Kind::Count),
        ]),
    ),
    may("LocalReference", Kind::Text),
];

const ADJUSTMENT: &[Field] = &[
    must(
        "AdjustmentType",
        Kind::Word(&["credit", "refund", "storage-credit", "debit", "reservation", "storage-debit"]),
    ),
    must("Charge", Kind::Charge),
    must("StartTime", Kind::Time),
    must("LocalProjectID", Kind::Name),
    must("LocalRecordID", Kind::Name),
    must("Resource", Kind::Name),
    must("Username", Kind::Name),
    may("Comment", Kind::Text),
    may("LocalReference", Kind::Text),
];
