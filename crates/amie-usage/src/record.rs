//! The records of the Usage API: compute, storage, adjustment.
//!
//! Text is `Cow`, so that a record can borrow from accounting data on the way out and own what came in as JSON.
//! Times are epoch seconds here and ISO 8601 UTC in whole seconds on the wire (`2026-10-02T00:00:00Z`).

use crate::Decimal;
use crate::wire::{lenient, time};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

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

impl fmt::Display for UsageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one run of a job used. Sent again with the same (`resource`, `local_record_id`, `submit_time`), it overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComputeUsageRecord<'a> {
    /// The local login that the site gave in AMIE, exactly.
    #[serde(deserialize_with = "lenient::text")]
    pub username: Cow<'a, str>,
    /// The site's ProjectID in AMIE, exactly.
    #[serde(rename = "LocalProjectID", deserialize_with = "lenient::text")]
    pub local_project_id: Cow<'a, str>,
    /// The site's job id: stable for ever.
    #[serde(rename = "LocalRecordID", deserialize_with = "lenient::text")]
    pub local_record_id: Cow<'a, str>,
    /// The AMIE resource name.
    #[serde(deserialize_with = "lenient::text")]
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
        deserialize_with = "lenient::parent"
    )]
    pub parent_record_id: Option<Cow<'a, str>>,
    /// Echoed in failures: the ledger's key.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub local_reference: Option<Cow<'a, str>>,
}

/// Facts about a run. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComputeAttributes<'a> {
    /// Nodes: the one attribute that the service requires.
    #[serde(deserialize_with = "lenient::count")]
    pub node_count: u64,
    /// Processor cores.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub cpu_core_count: Option<u64>,
    /// Job name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub job_name: Option<Cow<'a, str>>,
    /// Memory, in a unit that only the site's configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub memory: Option<Cow<'a, str>>,
    /// Partition or queue.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub queue: Option<Cow<'a, str>>,
}

/// What one owner stored at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StorageUsageRecord<'a> {
    /// The local login that stands for the owner.
    #[serde(deserialize_with = "lenient::text")]
    pub username: Cow<'a, str>,
    /// The site's ProjectID in AMIE.
    #[serde(rename = "LocalProjectID", deserialize_with = "lenient::text")]
    pub local_project_id: Cow<'a, str>,
    /// Source, owner and interval: stable for ever.
    #[serde(rename = "LocalRecordID", deserialize_with = "lenient::text")]
    pub local_record_id: Cow<'a, str>,
    /// The AMIE resource name.
    #[serde(deserialize_with = "lenient::text")]
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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub local_reference: Option<Cow<'a, str>>,
}

/// Facts about a reading. What is not known is left out: no quota tool knows bytes read or written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // the words of the wire; bytes and counts
pub struct StorageAttributes<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub bytes_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub bytes_stored: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub bytes_written: Option<u64>,
    /// Days from one reading to the next.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub collection_interval: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub file_count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub files_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub files_written: Option<u64>,
    /// `Disk`, `Tape`, `SSD`, ...
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub media_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
    pub system_copies: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_count")]
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

impl AdjustmentType {
    /// All types.
    pub const ALL: [Self; 6] =
        [Self::Credit, Self::Refund, Self::StorageCredit, Self::Debit, Self::Reservation, Self::StorageDebit];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Refund => "refund",
            Self::StorageCredit => "storage-credit",
            Self::Debit => "debit",
            Self::Reservation => "reservation",
            Self::StorageDebit => "storage-debit",
        }
    }
}

impl fmt::Display for AdjustmentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
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
    #[serde(rename = "LocalProjectID", deserialize_with = "lenient::text")]
    pub local_project_id: Cow<'a, str>,
    /// Unique for the resource.
    #[serde(rename = "LocalRecordID", deserialize_with = "lenient::text")]
    pub local_record_id: Cow<'a, str>,
    /// The AMIE resource name.
    #[serde(deserialize_with = "lenient::text")]
    pub resource: Cow<'a, str>,
    /// The local login.
    #[serde(deserialize_with = "lenient::text")]
    pub username: Cow<'a, str>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub comment: Option<Cow<'a, str>>,
    /// Echoed in failures: the ledger's key.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::optional_text")]
    pub local_reference: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_wire_are_those_that_serde_writes() {
        for usage_type in UsageType::ALL {
            assert_eq!(serde_json::to_value(usage_type).unwrap(), usage_type.as_str());
        }
        for adjustment in AdjustmentType::ALL {
            assert_eq!(serde_json::to_value(adjustment).unwrap(), adjustment.as_str());
        }
    }

    #[test]
    fn a_record_of_another_sender_is_read() {
        let json = r#"{"Username": 1001, "LocalProjectID": "P", "LocalRecordID": 42, "Resource": "r",
            "SubmitTime": "2026-10-02T00:00:00+00:00", "StartTime": "2026-10-02 00:00:00",
            "EndTime": "2026-10-02T00:00:01.5Z", "Charge": 12.50,
            "Attributes": {"NodeCount": "4", "CpuCoreCount": null, "Memory": 16, "New": true},
            "ParentRecordID": [null], "LocalReference": null}"#;
        let record: ComputeUsageRecord<'_> = serde_json::from_str(json).unwrap();
        assert_eq!((&*record.username, &*record.local_record_id), ("1001", "42"));
        assert_eq!((record.submit_time, record.end_time), (1_790_899_200, 1_790_899_201));
        assert_eq!(record.charge, Decimal::new(125, 1));
        assert_eq!((record.attributes.node_count, record.attributes.cpu_core_count), (4, None));
        assert_eq!(record.attributes.memory.as_deref(), Some("16"));
        assert_eq!((record.parent_record_id, record.local_reference), (None, None));
    }

    #[test]
    fn parents_are_read_in_every_form() {
        for (json, expected) in [
            ("null", None),
            ("[null]", None),
            ("[]", None),
            ("\"\"", None),
            ("\"7\"", Some("7")),
            ("7", Some("7")),
            ("[\"7\"]", Some("7")),
        ] {
            let json = format!(
                r#"{{"Username":"u","LocalProjectID":"p","LocalRecordID":"i","Resource":"r",
                "SubmitTime":"2026-10-02T00:00:00Z","StartTime":"2026-10-02T00:00:00Z","EndTime":"2026-10-02T00:00:00Z",
                "Charge":"1","Attributes":{{"NodeCount":1}},"ParentRecordID":{json}}}"#
            );
            let record: ComputeUsageRecord<'_> = serde_json::from_str(&json).unwrap();
            assert_eq!(record.parent_record_id.as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn what_must_be_there_is_asked_for() {
        for missing in ["Username", "LocalRecordID", "SubmitTime", "Charge", "Attributes"] {
            let mut json = serde_json::json!({"Username": "u", "LocalProjectID": "p", "LocalRecordID": "i",
                "Resource": "r", "SubmitTime": "2026-10-02T00:00:00Z", "StartTime": "2026-10-02T00:00:00Z",
                "EndTime": "2026-10-02T00:00:00Z", "Charge": "1", "Attributes": {"NodeCount": 1}});
            assert!(serde_json::from_value::<ComputeUsageRecord<'_>>(json.clone()).is_ok());
            json.as_object_mut().unwrap().remove(missing);
            assert!(serde_json::from_value::<ComputeUsageRecord<'_>>(json).is_err(), "{missing}");
        }
    }
}
