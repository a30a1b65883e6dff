//! The oracle: a snapshot of everything that the service holds, for tests, for `GET /sandbox/state` and for the page.

use crate::decimal::Sum;
use crate::fault::Fault;
use crate::store::{Fate, Store, Version};
use crate::time;
use crate::wire::UsageType;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Everything that the service holds. Records are in the order of arrival, `loaded` in the order of loading.
#[derive(Debug, Clone, Serialize)]
pub struct State {
    /// Messages that were posted, whatever became of them: judged, refused whole, or hit by a fault.
    pub posts: u64,
    /// How many of them were not judged record by record; the last thousand are in `messages`.
    pub posts_turned: u64,
    /// What is loaded now.
    pub loaded: Vec<StoredRecord>,
    /// What is waiting to be loaded.
    pub queued: Vec<StoredRecord>,
    /// What failed to load and was not cleared.
    pub failed: Vec<StoredRecord>,
    /// Failures that were cleared.
    pub cleared: Vec<StoredRecord>,
    /// What was refused at once.
    pub refused: Vec<RefusedRecord>,
    /// The last thousand messages that were not judged record by record.
    pub messages: Vec<TurnedMessage>,
    /// All versions that were ever accepted, by identity.
    pub history: Vec<History>,
    /// Counts and exact sums by type, resource and project.
    pub totals: Vec<Total>,
    /// Faults that can still strike.
    pub faults: Vec<Fault>,
}

/// A record that the service accepted.
#[derive(Debug, Clone, Serialize)]
pub struct StoredRecord {
    /// Its number by arrival, from 1: the AccountingDbRecordID once it is loaded, the FailedRecordID if it fails.
    pub number: u64,
    /// Its type.
    pub usage_type: UsageType,
    /// AMIE resource name.
    pub resource: String,
    /// The site's id.
    pub local_record_id: String,
    /// Its SubmitTime, the CollectionTime of a storage record, the StartTime of an adjustment; as it was sent.
    pub submit_time: String,
    /// The local login.
    pub username: String,
    /// The project.
    pub local_project_id: String,
    /// The charge, as it was sent.
    pub charge: String,
    /// What the sender calls it.
    pub local_reference: Option<String>,
    /// When it arrived, `2026-10-02T00:00:00Z`.
    pub received: String,
    /// When it was loaded or failed to load.
    pub processed: Option<String>,
    /// Why it failed to load.
    pub error: Option<String>,
    /// All of it, as it was sent.
    pub record: Box<RawValue>,
}

impl StoredRecord {
    /// All of it as a JSON value.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(self.record.get()).unwrap_or_default()
    }
}

/// A record that was refused at once.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedRecord {
    /// When it arrived.
    pub received: String,
    /// The type of its message.
    pub usage_type: UsageType,
    /// Everything that was wrong with it.
    pub error: String,
    /// All of it, as it was sent.
    pub record: Box<RawValue>,
}

/// A message that was refused whole, or met a fault before it was judged.
#[derive(Debug, Clone, Serialize)]
pub struct TurnedMessage {
    /// When it arrived.
    pub received: String,
    /// What it met.
    pub why: String,
}

/// What was sent under one identity.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    /// The type.
    pub usage_type: UsageType,
    /// AMIE resource name.
    pub resource: String,
    /// The site's id.
    pub local_record_id: String,
    /// The SubmitTime or CollectionTime; nothing for an adjustment, whose id is unique for the resource.
    pub submit_time: Option<String>,
    /// In the order of arrival.
    pub versions: Vec<HistoryVersion>,
}

/// One of several records of one identity.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryVersion {
    /// Its number by arrival.
    pub number: u64,
    /// The charge, as it was sent.
    pub charge: String,
    /// What became of it.
    pub fate: RecordFate,
}

/// What became of an accepted record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFate {
    /// It waits to be loaded.
    Queued,
    /// It is loaded.
    Loaded,
    /// It was loaded until a later version of it was.
    Replaced,
    /// It failed to load.
    Failed,
    /// It failed to load, and the failure was cleared.
    Cleared,
}

/// Counts and exact sums of one type, resource and project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total {
    /// `Compute`, `Storage`, or the type of an adjustment: `Adjustment: refund`.
    pub kind: String,
    /// AMIE resource name.
    pub resource: String,
    /// The project.
    pub local_project_id: String,
    /// Records that were accepted, each version counted.
    pub received: u64,
    /// Records that wait.
    pub queued: u64,
    /// Records that are loaded.
    pub loaded: u64,
    /// Records that were replaced by a later version.
    pub replaced: u64,
    /// Records that failed to load, cleared or not.
    pub failed: u64,
    /// Records that were refused at once; what such a record does not name is `?`.
    pub refused: u64,
    /// The exact sum of the charges that are loaded. Adjustments are positive: their type gives the sign.
    pub charge: String,
}

impl State {
    /// The exact sum of the charges that are loaded for a resource, adjustments apart.
    #[must_use]
    pub fn charge(&self, resource: &str) -> String {
        let mut sum = Sum::default();
        let mine = |record: &&StoredRecord| {
            record.resource == resource && record.usage_type != UsageType::Adjustment
        };
        self.loaded.iter().filter(mine).for_each(|record| sum.add(&record.charge));
        sum.to_string()
    }

    /// A snapshot.
    pub(crate) fn of(store: &Store, faults: Vec<Fault>) -> Self {
        let with = |wanted: RecordFate| {
            let found = store.numbered().filter(move |(_, version)| RecordFate::of(version.fate) == wanted);
            found.map(|(number, version)| StoredRecord::of(number, version)).collect()
        };
        Self {
            posts: store.posts,
            posts_turned: store.posts_turned,
            loaded: store.loaded().map(|(number, _, version)| StoredRecord::of(number, version)).collect(),
            queued: with(RecordFate::Queued),
            failed: with(RecordFate::Failed),
            cleared: with(RecordFate::Cleared),
            refused: store
                .refused
                .iter()
                .map(|refused| RefusedRecord {
                    received: time::format_milliseconds(refused.at),
                    usage_type: refused.usage_type,
                    error: refused.refused.error.clone(),
                    record: refused.refused.record.clone(),
                })
                .collect(),
            messages: store
                .turned
                .iter()
                .map(|turned| TurnedMessage {
                    received: time::format_milliseconds(turned.at),
                    why: turned.why.clone(),
                })
                .collect(),
            history: history(store),
            totals: totals(store),
            faults,
        }
    }
}

impl StoredRecord {
    fn of(number: u64, version: &Version) -> Self {
        let (processed, failed) = match version.fate {
            Fate::Queued => (None, false),
            Fate::Loaded { at } | Fate::Replaced { at } => (Some(at), false),
            Fate::Failed { at } | Fate::Cleared { at } => (Some(at), true),
        };
        Self {
            number,
            usage_type: version.usage_type,
            resource: version.resource.as_ref().to_owned(),
            local_record_id: version.local_record_id.as_ref().to_owned(),
            submit_time: version.identity_time.as_ref().to_owned(),
            username: version.username.as_ref().to_owned(),
            local_project_id: version.project.as_ref().to_owned(),
            charge: version.charge.as_ref().to_owned(),
            local_reference: version.local_reference.as_deref().map(str::to_owned),
            received: time::format_milliseconds(version.received),
            processed: processed.map(time::format_milliseconds),
            error: version.fails.as_deref().filter(|_| failed).map(str::to_owned),
            record: version.record.clone(),
        }
    }
}

impl RecordFate {
    fn of(fate: Fate) -> Self {
        match fate {
            Fate::Queued => Self::Queued,
            Fate::Loaded { .. } => Self::Loaded,
            Fate::Replaced { .. } => Self::Replaced,
            Fate::Failed { .. } => Self::Failed,
            Fate::Cleared { .. } => Self::Cleared,
        }
    }
}

/// All versions, by identity.
fn history(store: &Store) -> Vec<History> {
    let mut by_identity: BTreeMap<_, Vec<HistoryVersion>> = BTreeMap::new();
    for (number, version) in store.numbered() {
        by_identity.entry(version.identity()).or_default().push(HistoryVersion {
            number,
            charge: version.charge.as_ref().to_owned(),
            fate: RecordFate::of(version.fate),
        });
    }
    by_identity
        .into_iter()
        .map(|(identity, versions)| History {
            usage_type: identity.usage_type,
            resource: identity.resource.as_ref().to_owned(),
            local_record_id: identity.local_record_id.as_ref().to_owned(),
            submit_time: identity.time.map(|time| time.as_ref().to_owned()),
            versions,
        })
        .collect()
}

/// Counts and sums, sorted by kind, resource, project.
pub(crate) fn totals(store: &Store) -> Vec<Total> {
    let mut rows: BTreeMap<_, ([u64; 6], Sum)> = BTreeMap::new();
    for version in &store.versions {
        let adjustment_type = version.adjustment_type.as_deref().map(Cow::Borrowed);
        let (resource, project) = (Cow::Borrowed(&*version.resource), Cow::Borrowed(&*version.project));
        let (counts, sum) = rows.entry((version.usage_type, adjustment_type, resource, project)).or_default();
        let [received, queued, loaded, replaced, failed, _] = counts;
        *received = received.saturating_add(1);
        let count = match RecordFate::of(version.fate) {
            RecordFate::Queued => queued,
            RecordFate::Loaded => loaded,
            RecordFate::Replaced => replaced,
            RecordFate::Failed | RecordFate::Cleared => failed,
        };
        *count = count.saturating_add(1);
        if matches!(version.fate, Fate::Loaded { .. }) {
            sum.add(&version.charge);
        }
    }
    for record in &store.refused {
        let name = |field| Cow::Owned(record.name(field));
        let adjustment_type = (record.usage_type == UsageType::Adjustment).then(|| name("AdjustmentType"));
        let key = (record.usage_type, adjustment_type, name("Resource"), name("LocalProjectID"));
        let ([.., refused], _) = rows.entry(key).or_default();
        *refused = refused.saturating_add(1);
    }
    rows.into_iter()
        .map(|((usage_type, adjustment_type, resource, project), (counts, sum))| {
            let [received, queued, loaded, replaced, failed, refused] = counts;
            let kind = match adjustment_type {
                None => usage_type.word().to_owned(),
                Some(name) => format!("{}: {name}", usage_type.word()),
            };
            Total {
                kind,
                resource: resource.into_owned(),
                local_project_id: project.into_owned(),
                received,
                queued,
                loaded,
                replaced,
                failed,
                refused,
                charge: sum.to_string(),
            }
        })
        .collect()
}
