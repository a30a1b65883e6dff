//! The service of the model: it queues, loads in order, fails what it wants to, and shows what became of it.

use super::Run;
use amie_usage::{Decimal, UsageType};
use runner::ledger::{SentRecord, Sighting};
use std::collections::{BTreeMap, BTreeSet};

/// What it knows a record by: resource and record id. (All runs of the model were submitted at one time.)
pub(crate) type Place = (String, String);

/// Where a run is charged.
pub(crate) fn place(run: &Run) -> Place {
    (run.resource.to_string(), run.id.clone())
}

/// Whose records are those that another program sent: nobody's run.
pub(crate) const ANOTHER: &str = "another program";

/// A record that it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) project: String,
    pub(crate) charge: Decimal,
    usage_type: UsageType,
}

impl Got {
    /// True where it is the record of a run, as far as is known of what another program sent.
    fn is_of(&self, run: &Run) -> bool {
        let others = self.key == ANOTHER;
        (others || self.key == run.key)
            && (self.project == *run.project || (others && self.project.is_empty()))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) queue: Vec<Got>,
    /// Compute: the newest record of the place. Storage: every record that was ever added.
    pub(crate) books: BTreeMap<Place, Vec<Got>>,
    /// What it shows as loaded, and as failed.
    pub(crate) loads: Vec<Sighting>,
    pub(crate) failures: Vec<Sighting>,
    /// Keys of what it ever failed; the number of failures; places of which it forgot a load.
    pub(crate) failed: BTreeSet<String>,
    count: u32,
    pub(crate) forgot: BTreeSet<Place>,
}

impl Service {
    pub(crate) fn take(&mut self, usage_type: UsageType, payload: &[u8]) {
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        self.queue.push(Got {
            place: (text("Resource"), text("LocalRecordID")),
            key: text("LocalReference"),
            project: text("LocalProjectID"),
            charge: text("Charge").parse().unwrap(),
            usage_type,
        });
    }

    /// Another program sent this once, and it was loaded.
    pub(crate) fn had(&mut self, sent: &SentRecord) {
        let SentRecord { usage_type, resource, local_record_id, submit, charge, .. } = sent.clone();
        let place = (resource.clone(), local_record_id.clone());
        self.loads.push(Sighting::Loaded {
            usage_type,
            resource,
            local_record_id,
            submit: Some(submit),
            charge: Some(charge),
            charge_places: None,
            loaded_at: sent.loaded_at,
        });
        let got = Got {
            place: place.clone(),
            key: ANOTHER.into(),
            project: sent.project.clone(),
            charge,
            usage_type,
        };
        self.books.insert(place, vec![got]);
    }

    /// True where it has, or had, anything at a place.
    pub(crate) fn knows(&self, place: &Place) -> bool {
        self.books.contains_key(place) || self.queue.iter().any(|got| got.place == *place)
    }

    /// Works on the oldest record of the queue; `timed` says when a failure was. False where there is none.
    pub(crate) fn process_one(&mut self, now: i64, fails: bool, timed: bool) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let got = self.queue.remove(0);
        let (resource, local_record_id) = got.place.clone();
        let submit = Some(Run::new(0, "1").submit);
        let usage_type = got.usage_type;
        if fails {
            self.count += 1;
            self.failures.push(Sighting::Failed {
                usage_type,
                resource,
                local_record_id,
                submit,
                error: "no allocation".into(),
                failed_id: Some(self.count.to_string()),
                local_reference: Some(got.key.clone()),
                processed_at: timed.then_some(now),
            });
            self.failed.insert(got.key);
            return true;
        }
        self.loads.push(Sighting::Loaded {
            usage_type,
            resource,
            local_record_id,
            submit,
            charge: Some(got.charge),
            charge_places: None,
            loaded_at: Some(now),
        });
        let held = self.books.entry(got.place.clone()).or_default();
        if usage_type == UsageType::Compute {
            held.clear();
        }
        held.push(got);
        true
    }

    /// It shows no load of before any more.
    pub(crate) fn forget(&mut self) {
        self.loads.clear();
        self.forgot.extend(self.books.keys().cloned());
    }

    /// True where the books have this run's record as it is.
    pub(crate) fn has(&self, run: &Run) -> bool {
        self.books
            .get(&place(run))
            .and_then(|held| held.last())
            .is_some_and(|got| got.is_of(run) && got.charge == run.charge)
    }

    /// Places where it charges something.
    pub(crate) fn charged(&self) -> impl Iterator<Item = (&Place, &Got)> {
        self.books
            .iter()
            .flat_map(|(place, held)| held.iter().map(move |got| (place, got)))
            .filter(|(_, got)| !got.charge.is_zero())
    }
}
