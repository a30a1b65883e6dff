//! The records of the Usage API: compute, storage, adjustment.
//!
//! Text is `Cow`, so that a record can borrow from accounting data on the way out and own what came in as JSON.
//! Times are epoch seconds here and ISO 8601 UTC in whole seconds on the wire (`2026-10-02T00:00:00Z`).

use crate::Decimal;
use crate::wire::time;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The type of all records of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // the words of the wire
pub enum UsageType {
    Compute,
    Storage,
    Adjustment,
}

impl UsageType {
    /// All types.
    pub const ALL: [Self; 3] = [Self::Compute, Self::Storage, Self::Adjustment];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "Compute",
            Self::Storage => "Storage",
            Self::Adjustment => "Adjustment",
        }
    }
}

/// What one run of a job used. Sent again with the same (`resource`, `local_record_id`, `submit_time`), it overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComputeUsageRecord<'a> {
    /// The local login that the site gave in AMIE, exactly.
    pub username: Cow<'a, str>,
    /// The site's ProjectID in AMIE, exactly.
    #[serde(rename = "LocalProjectID")]
    pub local_project_id: Cow<'a, str>,
    /// The site's job id: stable for ever.
    #[serde(rename = "LocalRecordID")]
    pub local_record_id: Cow<'a, str>,
    /// The AMIE resource name.
    pub resource: Cow<'a, str>,
    /// When the run was submitted, epoch seconds.
    #[serde(with = "time")]
    pub submit_time: i64,
    /// When it started, epoch seconds.
    #[serde(with = "time")]
    pub start_time: i64,
    /// When it ended, epoch seconds.
    #[serde(with = "time")]
    pub end_time: i64,
    /// What is charged, in the resource's unit.
    pub charge: Decimal,
    /// Facts about the run.
    pub attributes: ComputeAttributes<'a>,
    /// The record this one is a part of. The reference client always sends `[null]`, which reads as `None`.
    #[serde(
        rename = "ParentRecordID",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::wire::parent"
    )]
    pub parent_record_id: Option<Cow<'a, str>>,
    /// Echoed in failures: the ledger's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_reference: Option<Cow<'a, str>>,
}

/// Facts about a run. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComputeAttributes<'a> {
    /// Nodes: the one attribute that the service requires.
    pub node_count: u64,
    /// Processor cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_core_count: Option<u64>,
    /// Job name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<Cow<'a, str>>,
    /// Memory, in a unit that only the site's configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Cow<'a, str>>,
    /// Partition or queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Cow<'a, str>>,
}

/// What one owner stored at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StorageUsageRecord<'a> {
    /// The local login that stands for the owner.
    pub username: Cow<'a, str>,
    /// The site's ProjectID in AMIE.
    #[serde(rename = "LocalProjectID")]
    pub local_project_id: Cow<'a, str>,
    /// Source, owner and interval: stable for ever.
    #[serde(rename = "LocalRecordID")]
    pub local_record_id: Cow<'a, str>,
    /// The AMIE resource name.
    pub resource: Cow<'a, str>,
    /// When the reading was taken, epoch seconds.
    #[serde(with = "time")]
    pub collection_time: i64,
    /// What is charged: usually gigabytes stored.
    pub charge: Decimal,
    /// Facts about the reading.
    #[serde(default)]
    pub attributes: StorageAttributes<'a>,
    /// Echoed in failures: the ledger's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_reference: Option<Cow<'a, str>>,
}

/// Facts about a reading. What is not known is left out: no quota tool knows bytes read or written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // the words of the wire; bytes and counts
pub struct StorageAttributes<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_stored: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_written: Option<u64>,
    /// Days from one reading to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection_interval: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_written: Option<u64>,
    /// `Disk`, `Tape`, `SSD`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_copies: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_copies: Option<u64>,
}

/// What an adjustment does; the type gives the charge its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the words of the wire
pub enum AdjustmentType {
    Credit,
    Refund,
    StorageCredit,
    Debit,
    Reservation,
    StorageDebit,
}

/// A correction. For a refund, `start_time` is the job's submit time, so that the right allocation is credited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AdjustmentUsageRecord<'a> {
    /// What it does.
    pub adjustment_type: AdjustmentType,
    /// How much; positive.
    pub charge: Decimal,
    /// Selects the allocation, epoch seconds.
    #[serde(with = "time")]
    pub start_time: i64,
    /// The site's ProjectID in AMIE.
    #[serde(rename = "LocalProjectID")]
    pub local_project_id: Cow<'a, str>,
    /// Unique for the resource.
    #[serde(rename = "LocalRecordID")]
    pub local_record_id: Cow<'a, str>,
    /// The AMIE resource name.
    pub resource: Cow<'a, str>,
    /// The local login.
    pub username: Cow<'a, str>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Cow<'a, str>>,
    /// Echoed in failures: the ledger's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_reference: Option<Cow<'a, str>>,
}
