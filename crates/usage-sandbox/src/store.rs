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
use crate::record::Members;
use crate::wire::UsageType;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Something that changes the store. Times are epoch milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A message was judged record by record.
    Posted {
        at: i64,
        /// When its records are loaded.
        due: i64,
        usage_type: UsageType,
        accepted: Vec<Accepted>,
        refused: Vec<Refused>,
    },
    /// A message was refused whole, or met a fault before it was judged.
    Turned { at: i64, why: String },
    /// Everything queued was loaded at once.
    Settled { at: i64 },
    /// Failures were acknowledged.
    Cleared { at: i64, numbers: Vec<u64> },
}

/// A record that passed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) record: Box<RawValue>,
    /// Whether it replaces what is loaded under its identity.
    pub(crate) replaces: bool,
    /// Why it will fail to load.
    pub(crate) fails: Option<String>,
    /// Read out of `record`.
    #[serde(skip)]
    pub(crate) facts: Facts,
}

/// A record that did not pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) record: Box<RawValue>,
    pub(crate) error: String,
}

impl Event {
    /// Fills in what a state file leaves out.
    ///
    /// # Errors
    /// Where a record that was accepted is not well formed.
    pub(crate) fn restore(&mut self) -> Result<(), String> {
        if let Self::Posted { usage_type, accepted, .. } = self {
            for accepted in accepted {
                let members = Members::read(&accepted.record).ok_or("a record is not an object")?;
                accepted.facts = judge::record(*usage_type, &members)?;
            }
        }
        Ok(())
    }
}

/// One accepted record.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) usage_type: UsageType,
    pub(crate) adjustment_type: Option<Arc<str>>,
    pub(crate) resource: Arc<str>,
    pub(crate) project: Arc<str>,
    pub(crate) username: Arc<str>,
    pub(crate) local_record_id: Arc<str>,
    pub(crate) identity_time: Arc<str>,
    pub(crate) charge: Box<str>,
    pub(crate) local_reference: Option<Box<str>>,
    pub(crate) record: Box<RawValue>,
    pub(crate) received: i64,
    pub(crate) due: i64,
    pub(crate) fails: Option<Arc<str>>,
    pub(crate) replaces: bool,
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

/// What makes two records the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) usage_type: UsageType,
    pub(crate) resource: Arc<str>,
    pub(crate) local_record_id: Arc<str>,
    /// Nothing for an adjustment: its id is unique for the resource.
    pub(crate) time: Option<Arc<str>>,
}

impl Version {
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            usage_type: self.usage_type,
            resource: self.resource.clone(),
            local_record_id: self.local_record_id.clone(),
            time: (self.usage_type != UsageType::Adjustment).then(|| self.identity_time.clone()),
        }
    }
}

/// A message that was not judged record by record.
#[derive(Debug, Clone)]
pub(crate) struct Turned {
    pub(crate) at: i64,
    pub(crate) why: String,
}

/// A refused record, with the type of its message.
#[derive(Debug)]
pub(crate) struct RefusedRecord {
    pub(crate) at: i64,
    pub(crate) usage_type: UsageType,
    pub(crate) refused: Refused,
}

impl RefusedRecord {
    /// The text of a field, which may be missing: that may be why the record was refused.
    pub(crate) fn name(&self, field: &str) -> String {
        let members = Members::read(&self.refused.record);
        members.and_then(|members| members.text(field)).unwrap_or_else(|| "?".to_owned())
    }
}

/// So many of the last messages that were refused whole are kept; the rest is counted.
const KEPT_MESSAGES: usize = 1000;

/// Everything that the service holds.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// A record's number is its place in here, from 1.
    pub(crate) versions: Vec<Version>,
    /// Places of what is not yet loaded, in the order of arrival.
    queue: VecDeque<usize>,
    /// Places in the order of loading.
    pub(crate) loads: Vec<usize>,
    /// The place of what is loaded under an identity last.
    current: HashMap<Identity, usize>,
    pub(crate) refused: Vec<RefusedRecord>,
    pub(crate) turned: VecDeque<Turned>,
    /// Messages, whatever became of them.
    pub(crate) posts: u64,
    /// Messages that were not judged record by record.
    pub(crate) posts_turned: u64,
    names: HashSet<Arc<str>>,
}

impl Store {
    /// Brings the store to what it is after an event. Events come in the order of their times.
    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Posted { at, due, usage_type, accepted, refused } => {
                self.posts = self.posts.saturating_add(1);
                self.advance(at);
                for accepted in accepted {
                    self.queue.push_back(self.versions.len());
                    let version = self.version(at, due, usage_type, accepted);
                    self.versions.push(version);
                }
                self.refused.extend(refused.into_iter().map(|refused| RefusedRecord {
                    at,
                    usage_type,
                    refused,
                }));
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
                while let Some(place) = self.queue.pop_front() {
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

    /// Loads what is due. Time that goes backwards loads nothing.
    pub(crate) fn advance(&mut self, now: i64) {
        while let Some(&place) = self.queue.front()
            && let Some(due) = self.versions.get(place).map(|version| version.due)
            && due <= now
        {
            self.queue.pop_front();
            self.process(place, due);
        }
    }

    /// Loads one record, or fails to.
    fn process(&mut self, place: usize, at: i64) {
        let Some(version) = self.versions.get_mut(place) else { return };
        if version.fails.is_some() {
            version.fate = Fate::Failed { at };
            return;
        }
        version.fate = Fate::Loaded { at };
        self.loads.push(place);
        let (identity, replaces) = (version.identity(), version.replaces);
        let before = self.current.insert(identity, place).filter(|_| replaces);
        if let Some(version) = before.and_then(|before| self.versions.get_mut(before))
            && let Fate::Loaded { at } = version.fate
        {
            version.fate = Fate::Replaced { at };
        }
    }

    fn version(&mut self, at: i64, due: i64, usage_type: UsageType, accepted: Accepted) -> Version {
        let Accepted { record, replaces, fails, facts } = accepted;
        Version {
            usage_type,
            adjustment_type: facts.adjustment_type.map(|name| self.name(&name)),
            resource: self.name(&facts.resource),
            project: self.name(&facts.project),
            username: self.name(&facts.username),
            local_record_id: facts.local_record_id.into(),
            identity_time: facts.identity_time.into(),
            charge: facts.charge.into(),
            local_reference: facts.local_reference.map(Into::into),
            record,
            received: at,
            due,
            fails: fails.map(|error| self.name(&error)),
            replaces,
            fate: Fate::Queued,
        }
    }

    /// One copy of a text that many records share.
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        name
    }

    /// Numbers and records, in the order of arrival.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, &Version)> {
        (1..).zip(&self.versions)
    }

    /// The records that are loaded now, in the order of loading.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (u64, i64, &Version)> {
        self.loads.iter().filter_map(|place| {
            let version = self.versions.get(*place)?;
            let Fate::Loaded { at } = version.fate else { return None };
            Some((u64::try_from(*place).ok()?.checked_add(1)?, at, version))
        })
    }

    /// Whether a record of this number ever failed to load.
    pub(crate) fn has_failed(&self, number: u64) -> bool {
        let version = place(number).and_then(|place| self.versions.get(place));
        version.is_some_and(|version| matches!(version.fate, Fate::Failed { .. } | Fate::Cleared { .. }))
    }
}

/// The place of a number.
fn place(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Accepted, Event, Fate, Store};
    use crate::judge;
    use crate::record::Members;
    use crate::wire::UsageType;
    use serde_json::value::RawValue;

    fn posted(at: i64, due: i64, id: &str, charge: &str, fails: Option<&str>) -> Event {
        let record = format!(
            r#"{{"Username":"a","LocalProjectID":"p","LocalRecordID":"{id}","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z",
            "StartTime":"2026-10-02T00:00:00Z","EndTime":"2026-10-02T00:00:00Z","Charge":"{charge}","Attributes":{{"NodeCount":1}}}}"#
        );
        let record = RawValue::from_string(record).unwrap();
        let facts = judge::record(UsageType::Compute, &Members::read(&record).unwrap()).unwrap();
        let accepted = vec![Accepted { record, replaces: true, fails: fails.map(str::to_owned), facts }];
        Event::Posted { at, due, usage_type: UsageType::Compute, accepted, refused: Vec::new() }
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
