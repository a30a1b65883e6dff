//! The oracle: a snapshot of everything that the service holds, for tests, for `GET /sandbox/state` and for the page.

use crate::decimal::Sum;
use crate::fault::Fault;
use crate::store::{Fate, Name, Reader, Store, Version};
use crate::time;
use crate::wire::UsageType;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

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
        Self {
            posts: store.posts,
            posts_turned: store.posts_turned,
            loaded: loaded(store).collect(),
            queued: with(store, RecordFate::Queued).collect(),
            failed: with(store, RecordFate::Failed).collect(),
            cleared: with(store, RecordFate::Cleared).collect(),
            refused: refused(store).collect(),
            messages: messages(store).collect(),
            history: history(store),
            totals: totals(store),
            faults,
        }
    }
}

/// A [`State`] that is written as JSON record by record, and never there as a whole.
pub(crate) struct Live<'a> {
    pub(crate) store: &'a Store,
    pub(crate) faults: Vec<Fault>,
}

impl Serialize for Live<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let store = self.store;
        let mut state = serializer.serialize_struct("State", 11)?;
        state.serialize_field("posts", &store.posts)?;
        state.serialize_field("posts_turned", &store.posts_turned)?;
        state.serialize_field("loaded", &Each(|| loaded(store)))?;
        state.serialize_field("queued", &Each(|| with(store, RecordFate::Queued)))?;
        state.serialize_field("failed", &Each(|| with(store, RecordFate::Failed)))?;
        state.serialize_field("cleared", &Each(|| with(store, RecordFate::Cleared)))?;
        state.serialize_field("refused", &Each(|| refused(store)))?;
        state.serialize_field("messages", &Each(|| messages(store)))?;
        state.serialize_field("history", &history(store))?;
        state.serialize_field("totals", &totals(store))?;
        state.serialize_field("faults", &self.faults)?;
        state.end()
    }
}

/// A list that is made while it is written.
struct Each<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// The records that are loaded now, in the order of loading.
fn loaded(store: &Store) -> impl Iterator<Item = StoredRecord> {
    let mut reader = store.reader();
    store.loaded().map(move |(number, _, version)| StoredRecord::of(store, &mut reader, number, version))
}

/// The records of one fate, in the order of arrival.
fn with(store: &Store, fate: RecordFate) -> impl Iterator<Item = StoredRecord> {
    let mut reader = store.reader();
    let found = store.numbered().filter(move |(_, version)| RecordFate::of(version.fate) == fate);
    found.map(move |(number, version)| StoredRecord::of(store, &mut reader, number, version))
}

fn refused(store: &Store) -> impl Iterator<Item = RefusedRecord> {
    let mut reader = store.reader();
    store.refused.iter().map(move |refused| RefusedRecord {
        received: time::format_milliseconds(store.refused_at(refused)),
        usage_type: refused.usage_type,
        error: store.name(refused.error).to_owned(),
        record: reader.refused(refused),
    })
}

fn messages(store: &Store) -> impl Iterator<Item = TurnedMessage> {
    store.turned.iter().map(|turned| TurnedMessage {
        received: time::format_milliseconds(turned.at),
        why: turned.why.clone(),
    })
}

impl StoredRecord {
    fn of(store: &Store, reader: &mut Reader<'_>, number: u64, version: &Version) -> Self {
        let (processed, failed) = match version.fate {
            Fate::Queued => (None, false),
            Fate::Loaded { at } | Fate::Replaced { at } => (Some(at), false),
            Fate::Failed { at } | Fate::Cleared { at } => (Some(at), true),
        };
        let name = |name| store.name(name).to_owned();
        Self {
            number,
            usage_type: version.usage_type,
            resource: name(version.resource),
            local_record_id: store.local_record_id(version).to_owned(),
            submit_time: time::format(version.identity_time),
            username: name(version.username),
            local_project_id: name(version.project),
            charge: store.charge(version).to_owned(),
            local_reference: store.local_reference(version).map(str::to_owned),
            received: time::format_milliseconds(store.received(version)),
            processed: processed.map(time::format_milliseconds),
            error: version.fails.filter(|_| failed).map(name),
            record: reader.record(version),
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
        let id = store.local_record_id(version);
        let identity = (version.usage_type, store.name(version.resource), id, version.time());
        by_identity.entry(identity).or_default().push(HistoryVersion {
            number,
            charge: store.charge(version).to_owned(),
            fate: RecordFate::of(version.fate),
        });
    }
    by_identity
        .into_iter()
        .map(|((usage_type, resource, id, time), versions)| History {
            usage_type,
            resource: resource.to_owned(),
            local_record_id: id.to_owned(),
            submit_time: time.map(time::format),
            versions,
        })
        .collect()
}

/// What one row of totals is about.
type Row = (UsageType, Option<Name>, Name, Name);

/// Counts and sums, sorted by kind, resource, project.
pub(crate) fn totals(store: &Store) -> Vec<Total> {
    let mut rows: HashMap<Row, ([u64; 6], Sum)> = HashMap::new();
    for version in &store.versions {
        let row = (version.usage_type, version.adjustment_type, version.resource, version.project);
        let (counts, sum) = rows.entry(row).or_default();
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
            sum.add(store.charge(version));
        }
    }
    for record in &store.refused {
        let row = (record.usage_type, record.adjustment_type, record.resource, record.project);
        let ([.., refused], _) = rows.entry(row).or_default();
        *refused = refused.saturating_add(1);
    }
    let mut totals: Vec<(UsageType, Total)> = rows
        .into_iter()
        .map(|((usage_type, adjustment_type, resource, project), (counts, sum))| {
            let [received, queued, loaded, replaced, failed, refused] = counts;
            let kind = match adjustment_type {
                None => usage_type.word().to_owned(),
                Some(name) => format!("{}: {}", usage_type.word(), store.name(name)),
            };
            let total = Total {
                kind,
                resource: store.name(resource).to_owned(),
                local_project_id: store.name(project).to_owned(),
                received,
                queued,
                loaded,
                replaced,
                failed,
                refused,
                charge: sum.to_string(),
            };
            (usage_type, total)
        })
        .collect();
    totals.sort_by(|(a_type, a), (b_type, b)| {
        (a_type, &a.kind, &a.resource, &a.local_project_id).cmp(&(
            b_type,
            &b.kind,
            &b.resource,
            &b.local_project_id,
        ))
    });
    totals.into_iter().map(|(_, total)| total).collect()
}
