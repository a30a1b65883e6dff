//! The service itself: what it holds behind its lock, and the few ways to change it.

use crate::clock;
use crate::fault::{Call, Decision, Fault, Faults};
use crate::journal::{Journal, StateFileError};
use crate::judge::{self, Message};
use crate::record::Members;
use crate::settings::Settings;
use crate::state::State;
use crate::store::{Accepted, Event, Refused, Store};
use crate::wire::UsageType;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that all connections share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Settings,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    store: Store,
    journal: Option<Journal>,
    faults: Faults,
}

/// What became of a message that was judged.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) accepted: usize,
    pub(crate) refused: Vec<Refused>,
}

impl Service {
    pub(crate) fn new(settings: Settings) -> Result<Self, StateFileError> {
        let (journal, store) = match &settings.state_file {
            Some(path) => Journal::open(path).map(|(journal, store)| (Some(journal), store))?,
            None => (None, Store::default()),
        };
        let faults = Faults::new(settings.faults.clone(), settings.seed);
        Ok(Self { settings, held: Mutex::new(Held { store, journal, faults }) })
    }

    /// No code panics with the lock held; if one ever does, what it had not yet changed is still right.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges each record of a message and stores what passes.
    ///
    /// # Errors
    /// `Ok(None)` where one bad record refuses the whole; an error where the state file cannot be written.
    pub(crate) fn post(&self, message: &Message<'_>, refuse_whole: bool) -> io::Result<Option<Verdict>> {
        let mut accepted = Vec::new();
        let mut refused = Vec::new();
        for raw in &message.records {
            match self.judge(message.usage_type, raw) {
                Ok(record) => accepted.push(record),
                Err(error) => refused.push(Refused { record: (*raw).to_owned(), error }),
            }
        }
        if refuse_whole && !refused.is_empty() {
            return Ok(None);
        }
        let verdict = Verdict { accepted: accepted.len(), refused: refused.clone() };
        let usage_type = message.usage_type;
        let load_delay = clock::milliseconds(self.settings.load_delay);
        self.change(|at| Event::Posted {
            at,
            due: at.saturating_add(load_delay),
            usage_type,
            accepted,
            refused,
        })?;
        Ok(Some(verdict))
    }

    fn judge(&self, usage_type: UsageType, raw: &serde_json::value::RawValue) -> Result<Accepted, String> {
        let settings = &self.settings;
        let record = Members::read(raw).ok_or("a record must be a JSON object")?;
        let facts = judge::record(usage_type, &record)?;
        if let Some(error) = judge::refusal(&record, &facts, settings.known.as_ref(), &settings.refuse) {
            return Err(error);
        }
        let fails =
            judge::load_failure(usage_type, &record, &facts, settings.known.as_ref(), &settings.fail_load);
        let replaces = match usage_type {
            UsageType::Compute => settings.overwrite,
            UsageType::Storage | UsageType::Adjustment => settings.overwrite_others,
        };
        Ok(Accepted { record: raw.to_owned(), replaces, fails, facts })
    }

    /// Remembers a message that was not judged record by record.
    pub(crate) fn turn(&self, why: impl Into<String>) -> io::Result<()> {
        let why = why.into();
        self.change(|at| Event::Turned { at, why })
    }

    /// Loads everything that is queued.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.change(|at| Event::Settled { at })
    }

    /// Acknowledges failures. `Ok(Some(number))`: this one never failed, and nothing was done.
    pub(crate) fn acknowledge(&self, numbers: Vec<u64>) -> io::Result<Option<u64>> {
        let stranger = self.look(|store| numbers.iter().copied().find(|number| !store.has_failed(*number)));
        if stranger.is_none() {
            self.change(|at| Event::Cleared { at, numbers })?;
        }
        Ok(stranger)
    }

    /// Writes an event, then applies it.
    fn change(&self, event: impl FnOnce(i64) -> Event) -> io::Result<()> {
        let mut held = self.held();
        // Under the lock, so that events are in the order of their times.
        let event = event(clock::now());
        if let Some(journal) = &mut held.journal {
            journal.write(&event)?;
        }
        held.store.apply(event);
        Ok(())
    }

    /// Looks at the store as it is now.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Store) -> T) -> T {
        let mut held = self.held();
        held.store.advance(clock::now());
        at(&held.store)
    }

    pub(crate) fn state(&self) -> State {
        let faults = self.faults();
        self.look(|store| State::of(store, faults))
    }

    pub(crate) fn decide(&self, call: Call) -> Decision {
        self.held().faults.decide(call)
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.held().faults.arm(fault);
    }

    pub(crate) fn clear_faults(&self) {
        self.held().faults.clear();
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.held().faults.list()
    }
}
