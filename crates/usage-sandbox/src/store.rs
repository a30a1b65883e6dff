//! What the service holds: every record that was ever accepted, in the order of arrival, and what became of it.
//!
//! ```text
//! Posted ─▶ Queued ──(its time comes, or Settled)──▶ Loaded ──(a later version of it loads)──▶ Replaced
//!                 └─(it is bound to fail)──────────▶ Failed ──(Cleared)──▶ Cleared
//! ```
//! The store changes by [`Event`]s only, each decided before it is applied, so that a state file can play them again. A
//! record's time to load and its failure are part of the event that brought it: playing it again under other settings
//! gives the same store. There is no clock in here; whoever looks says what time it is.

use crate::judge::{self, Facts};
use crate::parcel::{Packing, Parcel, Span};
use crate::record::Members;
use crate::wire::UsageType;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Something that changes the store. Times are epoch milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event<'a> {
    /// A message was judged record by record.
    Posted {
        at: i64,
        #[serde(borrow)]
        judged: Judged<'a>,
    },
    /// A message was refused whole, or met a fault before it was judged.
    Turned { at: i64, why: String },
    /// Everything queued was loaded at once.
    Settled { at: i64 },
    /// Failures were acknowledged.
    Cleared { at: i64, numbers: Vec<u64> },
}

/// A message that was judged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Judged<'a> {
    pub(crate) usage_type: UsageType,
    #[serde(borrow)]
    pub(crate) accepted: Vec<Accepted<'a>>,
    #[serde(borrow)]
    pub(crate) refused: Vec<Refused<'a>>,
}

/// A record that passed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Accepted<'a> {
    #[serde(borrow)]
    pub(crate) record: &'a RawValue,
    /// How long after its arrival it is loaded, milliseconds.
    pub(crate) wait: i64,
    /// Whether it replaces what is loaded under its identity.
    pub(crate) replaces: bool,
    /// Why it will fail to load.
    pub(crate) fails: Option<String>,
    /// Read out of `record`.
    #[serde(skip)]
    pub(crate) facts: Facts<'a>,
}

/// A record that did not pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refused<'a> {
    #[serde(borrow)]
    pub(crate) record: &'a RawValue,
    pub(crate) error: String,
}

impl Event<'_> {
    /// Fills in what a state file leaves out.
    ///
    /// # Errors
    /// Where a record that was accepted is not well formed.
    pub(crate) fn restore(&mut self) -> Result<(), String> {
        if let Self::Posted { judged, .. } = self {
            for accepted in &mut judged.accepted {
                let members = Members::read(accepted.record).ok_or("a record is not an object")?;
                accepted.facts = judge::record(judged.usage_type, &members)?;
            }
        }
        Ok(())
    }
}

/// A message as it is kept, ready to be taken in. It is made before the store is locked: packing takes longer than
/// taking in.
#[derive(Debug)]
pub(crate) struct Packed {
    parcel: Parcel,
    /// Record, id, charge, reference of each record that was accepted.
    accepted: Vec<(Span, Span, Span, Option<Span>)>,
    refused: Vec<Span>,
}

impl Judged<'_> {
    /// Packs the records.
    pub(crate) fn pack(&self) -> Packed {
        let records = self.accepted.iter().map(|accepted| accepted.record);
        let records = records.chain(self.refused.iter().map(|refused| refused.record));
        let bytes = records.fold(0, |bytes, record| record.get().len().saturating_add(bytes));
        let mut packing = Packing::with_capacity(bytes);
        let accepted = self.accepted.iter().map(|Accepted { record, facts, .. }| {
            (
                packing.record(record),
                packing.text(&facts.local_record_id),
                packing.text(&facts.charge),
                facts.local_reference.as_deref().map(|reference| packing.text(reference)),
            )
        });
        let accepted = accepted.collect();
        let refused = self.refused.iter().map(|refused| packing.record(refused.record)).collect();
        Packed { parcel: packing.close(), accepted, refused }
    }
}

/// A text that many records share: its place among the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(u32);

/// One accepted record. About 100 bytes, and what its parcel holds of it.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) usage_type: UsageType,
    /// Whether it replaces what is loaded under its identity.
    replaces: bool,
    pub(crate) adjustment_type: Option<Name>,
    pub(crate) resource: Name,
    pub(crate) project: Name,
    pub(crate) username: Name,
    /// Why it will fail, or has failed, to load.
    pub(crate) fails: Option<Name>,
    parcel: u32,
    record: Span,
    local_record_id: Span,
    charge: Span,
    local_reference: Option<Span>,
    /// Epoch seconds; see [`UsageType::identity_time`].
    pub(crate) identity_time: i64,
    pub(crate) fate: Fate,
}

/// What became of an accepted record, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Queued,
    Loaded { at: i64 },
    Replaced { at: i64 },
    Failed { at: i64 },
    Cleared { at: i64 },
}

impl Version {
    /// The part of an identity that is a time: nothing for an adjustment, whose id is unique for the resource.
    pub(crate) fn time(&self) -> Option<i64> {
        (self.usage_type != UsageType::Adjustment).then_some(self.identity_time)
    }
}

/// A message that was not judged record by record.
#[derive(Debug, Clone)]
pub(crate) struct Turned {
    pub(crate) at: i64,
    pub(crate) why: String,
}

/// A refused record. What it does not name, or not as text, is `?`: that may be why it was refused.
#[derive(Debug)]
pub(crate) struct RefusedRecord {
    pub(crate) usage_type: UsageType,
    pub(crate) adjustment_type: Option<Name>,
    pub(crate) resource: Name,
    pub(crate) project: Name,
    pub(crate) error: Name,
    parcel: u32,
    record: Span,
}

/// So many of the last messages that were refused whole are kept; the rest is counted.
const KEPT_MESSAGES: usize = 1000;

/// Everything that the service holds.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// A record's number is its place in here, from 1.
    pub(crate) versions: Vec<Version>,
    parcels: Vec<Parcel>,
    /// When what is not yet loaded is due, and its place: the next first, equal times in the order of arrival.
    queue: BinaryHeap<Reverse<(i64, u32)>>,
    /// Places in the order of loading.
    loads: Vec<u32>,
    current: Current,
    pub(crate) refused: Vec<RefusedRecord>,
    pub(crate) turned: VecDeque<Turned>,
    /// Messages, whatever became of them.
    pub(crate) posts: u64,
    /// Messages that were not judged record by record.
    pub(crate) posts_turned: u64,
    names: Names,
}

/// The place of what is loaded under each identity last. The table holds places only: the identities are in the versions.
#[derive(Debug, Default)]
struct Current {
    places: HashTable<Loaded>,
    hasher: RandomState,
}

/// A place and the hash of its identity: to grow the table, and to tell most others apart, the version is not looked at.
#[derive(Debug, Clone, Copy)]
struct Loaded {
    place: u32,
    hash: u32,
}

impl Loaded {
    /// The table goes by both ends of 64 bits.
    fn spread(&self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Texts that many records share, each kept once.
#[derive(Debug, Default)]
struct Names {
    texts: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
}

impl Names {
    fn of(&mut self, text: &str) -> Name {
        if let Some(place) = self.places.get(text) {
            return Name(*place);
        }
        let place = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.places.insert(text, place);
        Name(place)
    }
}

impl Store {
    /// Brings the store to what it is after an event. Events come in the order of their times.
    pub(crate) fn apply(&mut self, event: Event<'_>) {
        match event {
            Event::Posted { at, judged } => {
                let packed = judged.pack();
                self.post(at, &judged, packed);
            }
            Event::Turned { at, why } => {
                self.posts = self.posts.saturating_add(1);
                self.posts_turned = self.posts_turned.saturating_add(1);
                if self.turned.len() >= KEPT_MESSAGES {
                    self.turned.pop_front();
                }
                self.turned.push_back(Turned { at, why });
            }
            Event::Settled { at } => {
                self.advance(at);
                while let Some(Reverse((_, place))) = self.queue.pop() {
                    self.process(place, at);
                }
            }
            Event::Cleared { at, numbers } => {
                self.advance(at);
                for number in numbers {
                    if let Some(version) = place(number).and_then(|place| self.versions.get_mut(place))
                        && let Fate::Failed { at } = version.fate
                    {
                        version.fate = Fate::Cleared { at };
                    }
                }
            }
        }
    }

    /// Takes in a message that was judged and packed.
    pub(crate) fn post(&mut self, at: i64, judged: &Judged<'_>, packed: Packed) {
        self.posts = self.posts.saturating_add(1);
        self.advance(at);
        let parcel = u32::try_from(self.parcels.len()).unwrap_or(u32::MAX);
        self.parcels.push(packed.parcel.arrived(at));
        let usage_type = judged.usage_type;
        self.versions.reserve(judged.accepted.len());
        for (accepted, spans) in judged.accepted.iter().zip(packed.accepted) {
            let Accepted { facts, fails, replaces, wait, .. } = accepted;
            let (record, local_record_id, charge, local_reference) = spans;
            let place = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
            self.queue.push(Reverse((at.saturating_add(*wait), place)));
            self.versions.push(Version {
                usage_type,
                replaces: *replaces,
                adjustment_type: facts.adjustment_type.as_deref().map(|name| self.names.of(name)),
                resource: self.names.of(&facts.resource),
                project: self.names.of(&facts.project),
                username: self.names.of(&facts.username),
                fails: fails.as_deref().map(|error| self.names.of(error)),
                parcel,
                record,
                local_record_id,
                charge,
                local_reference,
                identity_time: facts.identity_time,
                fate: Fate::Queued,
            });
        }
        for (refused, record) in judged.refused.iter().zip(packed.refused) {
            let members = Members::read(refused.record).unwrap_or_default();
            let mut name = |field| self.names.of(&members.text(field).unwrap_or(Cow::Borrowed("?")));
            self.refused.push(RefusedRecord {
                usage_type,
                adjustment_type: (usage_type == UsageType::Adjustment).then(|| name("AdjustmentType")),
                resource: name("Resource"),
                project: name("LocalProjectID"),
                error: self.names.of(&refused.error),
                parcel,
                record,
            });
        }
    }

    /// Loads what is due. Time that goes backwards loads nothing.
    pub(crate) fn advance(&mut self, now: i64) {
        while let Some(&Reverse((due, place))) = self.queue.peek()
            && due <= now
        {
            self.queue.pop();
            self.process(place, due);
        }
    }

    /// Loads one record, or fails to.
    fn process(&mut self, place: u32, at: i64) {
        let Some(version) = index(place).and_then(|place| self.versions.get_mut(place)) else { return };
        if version.fails.is_some() {
            version.fate = Fate::Failed { at };
            return;
        }
        version.fate = Fate::Loaded { at };
        let replaces = version.replaces;
        self.loads.push(place);
        let before = self.current.set(place, &self.versions, &self.parcels).filter(|_| replaces);
        if let Some(version) = before.and_then(index).and_then(|before| self.versions.get_mut(before))
            && let Fate::Loaded { at } = version.fate
        {
            version.fate = Fate::Replaced { at };
        }
    }

    /// A text that many records share.
    pub(crate) fn name(&self, name: Name) -> &str {
        index(name.0).and_then(|place| self.names.texts.get(place)).map_or("", AsRef::as_ref)
    }

    /// The site's id of a record.
    pub(crate) fn local_record_id(&self, version: &Version) -> &str {
        text(&self.parcels, version.parcel, version.local_record_id)
    }

    /// A record's charge, as it was sent.
    pub(crate) fn charge(&self, version: &Version) -> &str {
        text(&self.parcels, version.parcel, version.charge)
    }

    /// What the sender calls a record.
    pub(crate) fn local_reference(&self, version: &Version) -> Option<&str> {
        version.local_reference.map(|span| text(&self.parcels, version.parcel, span))
    }

    /// When a record arrived.
    pub(crate) fn received(&self, version: &Version) -> i64 {
        self.parcel(version.parcel).map_or(0, |parcel| parcel.received)
    }

    /// When a refused record arrived.
    pub(crate) fn refused_at(&self, refused: &RefusedRecord) -> i64 {
        self.parcel(refused.parcel).map_or(0, |parcel| parcel.received)
    }

    fn parcel(&self, number: u32) -> Option<&Parcel> {
        index(number).and_then(|number| self.parcels.get(number))
    }

    /// Reads records as they were sent; cheap where they are read in the order of arrival.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { store: self, unpacked: None }
    }

    /// Numbers and records, in the order of arrival.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, &Version)> {
        (1..).zip(&self.versions)
    }

    /// The records that are loaded now, in the order of loading.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (u64, i64, &Version)> {
        self.loads.iter().filter_map(|place| {
            let version = self.versions.get(index(*place)?)?;
            let Fate::Loaded { at } = version.fate else { return None };
            Some((u64::from(*place).saturating_add(1), at, version))
        })
    }

    /// Whether a record of this number ever failed to load.
    pub(crate) fn has_failed(&self, number: u64) -> bool {
        let version = place(number).and_then(|place| self.versions.get(place));
        version.is_some_and(|version| matches!(version.fate, Fate::Failed { .. } | Fate::Cleared { .. }))
    }
}

impl Current {
    /// Notes that a version is loaded; answers the one that was loaded under its identity before.
    fn set(&mut self, place: u32, versions: &[Version], parcels: &[Parcel]) -> Option<u32> {
        let identity = |place: u32| {
            let version = index(place).and_then(|place| versions.get(place))?;
            let id = text(parcels, version.parcel, version.local_record_id);
            Some((version.usage_type, version.resource, version.time(), id))
        };
        let [a, b, c, d, ..] = self.hasher.hash_one(identity(place)).to_le_bytes();
        let hash = u32::from_le_bytes([a, b, c, d]);
        let loaded = Loaded { place, hash };
        let same = |other: &Loaded| other.hash == hash && identity(other.place) == identity(place);
        match self.places.entry(loaded.spread(), same, Loaded::spread) {
            Entry::Vacant(vacant) => {
                vacant.insert(loaded);
                None
            }
            Entry::Occupied(mut occupied) => Some(std::mem::replace(occupied.get_mut(), loaded).place),
        }
    }
}

/// Reads records as they were sent. Holds the last parcel that it unpacked.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    store: &'a Store,
    unpacked: Option<(u32, Cow<'a, str>)>,
}

impl Reader<'_> {
    /// An accepted record.
    pub(crate) fn record(&mut self, version: &Version) -> Box<RawValue> {
        self.read(version.parcel, version.record)
    }

    /// A refused record.
    pub(crate) fn refused(&mut self, refused: &RefusedRecord) -> Box<RawValue> {
        self.read(refused.parcel, refused.record)
    }

    fn read(&mut self, number: u32, span: Span) -> Box<RawValue> {
        if self.unpacked.as_ref().is_none_or(|(unpacked, _)| *unpacked != number) {
            self.unpacked = self.store.parcel(number).map(|parcel| (number, parcel.unpack()));
        }
        Parcel::record(self.unpacked.as_ref().map_or("", |(_, unpacked)| unpacked), span)
    }
}

fn text(parcels: &[Parcel], parcel: u32, span: Span) -> &str {
    index(parcel).and_then(|parcel| parcels.get(parcel)).map_or("", |parcel| parcel.text(span))
}

fn index(place: u32) -> Option<usize> {
    usize::try_from(place).ok()
}

/// The place of a number.
fn place(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Accepted, Event, Fate, Judged, Store};
    use crate::judge;
    use crate::record::Members;
    use crate::wire::UsageType;
    use serde_json::value::RawValue;

    fn posted(at: i64, due: i64, id: &str, charge: &str, fails: Option<&str>) -> Event<'static> {
        let record = format!(
            r#"{{"Username":"a","LocalProjectID":"p","LocalRecordID":"{id}","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z",
            "StartTime":"2026-10-02T00:00:00Z","EndTime":"2026-10-02T00:00:00Z","Charge":"{charge}","Attributes":{{"NodeCount":1}}}}"#
        );
        let record: &'static RawValue = Box::leak(RawValue::from_string(record).unwrap());
        let facts = judge::record(UsageType::Compute, &Members::read(record).unwrap()).unwrap();
        let fails = fails.map(str::to_owned);
        let accepted = vec![Accepted { record, wait: due - at, replaces: true, fails, facts }];
        let judged = Judged { usage_type: UsageType::Compute, accepted, refused: Vec::new() };
        Event::Posted { at, judged }
    }

    fn fates(store: &Store) -> Vec<Fate> {
        store.versions.iter().map(|version| version.fate).collect()
    }

    #[test]
    fn the_time_of_loading_is_when_it_was_due_and_not_when_somebody_looked() {
        let mut store = Store::default();
        store.apply(posted(1000, 3000, "1", "1", None));
        store.apply(posted(2000, 4000, "2", "1", Some("no")));
        store.advance(2999);
        assert_eq!(fates(&store), [Fate::Queued, Fate::Queued]);
        store.advance(3000);
        assert_eq!(fates(&store), [Fate::Loaded { at: 3000 }, Fate::Queued]);
        store.advance(99_000);
        assert_eq!(fates(&store), [Fate::Loaded { at: 3000 }, Fate::Failed { at: 4000 }]);
        assert_eq!(store.loaded().map(|(number, at, _)| (number, at)).collect::<Vec<_>>(), [(1, 3000)]);
    }

    #[test]
    fn an_event_first_loads_what_was_due_before_it() {
        let mut store = Store::default();
        store.apply(posted(1000, 2000, "1", "1", Some("no")));
        store.apply(posted(1500, 9000, "2", "1", None));
        store.apply(Event::Cleared { at: 5000, numbers: vec![1] });
        assert_eq!(fates(&store), [Fate::Cleared { at: 2000 }, Fate::Queued]);
        store.apply(Event::Settled { at: 6000 });
        assert_eq!(fates(&store), [Fate::Cleared { at: 2000 }, Fate::Loaded { at: 6000 }]);
    }

    #[test]
    fn versions_replace_in_the_order_of_arrival() {
        let mut store = Store::default();
        for charge in ["1", "2", "3"] {
            store.apply(posted(1000, 2000, "1", charge, None));
        }
        store.advance(2000);
        let replaced = Fate::Replaced { at: 2000 };
        assert_eq!(fates(&store), [replaced, replaced, Fate::Loaded { at: 2000 }]);
    }

    #[test]
    fn an_old_version_that_loads_late_has_the_last_word() {
        let mut store = Store::default();
        store.apply(posted(1000, 9000, "1", "1", None));
        store.apply(posted(2000, 3000, "1", "2", None));
        store.advance(8999);
        assert_eq!(fates(&store), [Fate::Queued, Fate::Loaded { at: 3000 }]);
        store.advance(9000);
        assert_eq!(fates(&store), [Fate::Loaded { at: 9000 }, Fate::Replaced { at: 3000 }]);
        assert_eq!(store.loaded().map(|(number, at, _)| (number, at)).collect::<Vec<_>>(), [(1, 9000)]);
    }

    #[test]
    fn a_record_reads_as_it_was_sent() {
        let mut store = Store::default();
        for id in ["1", "2"] {
            store.apply(posted(1000, 2000, id, "1.50", None));
        }
        let mut reader = store.reader();
        for version in [&store.versions[1], &store.versions[0]] {
            let id = store.local_record_id(version);
            assert!(reader.record(version).get().contains(&format!("\"LocalRecordID\":\"{id}\"")));
            assert_eq!((store.charge(version), store.local_reference(version)), ("1.50", None));
            assert_eq!((store.name(version.resource), store.received(version)), ("r", 1000));
        }
    }

    #[test]
    fn clearing_touches_failures_only() {
        let mut store = Store::default();
        store.apply(posted(1000, 1000, "1", "1", None));
        store.apply(posted(1000, 9000, "2", "1", Some("no")));
        store.apply(Event::Cleared { at: 2000, numbers: vec![0, 1, 2, 3, u64::MAX] });
        assert_eq!(fates(&store), [Fate::Loaded { at: 1000 }, Fate::Queued]);
        assert!(![0, 1, 2, 3, u64::MAX].into_iter().any(|number| store.has_failed(number)));
    }

    #[test]
    fn a_flood_of_refused_messages_is_counted_and_forgotten() {
        let mut store = Store::default();
        for at in 0..2500 {
            store.apply(Event::Turned { at, why: "no".to_owned() });
        }
        assert_eq!((store.posts, store.posts_turned, store.turned.len()), (2500, 2500, 1000));
        assert_eq!(store.turned.front().map(|turned| turned.at), Some(1500));
    }
}
