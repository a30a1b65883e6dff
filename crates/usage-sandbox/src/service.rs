//! The service itself: what it holds behind its lock, and the few ways to change it.

use crate::clock;
use crate::fault::{Call, Decision, Fault, Faults, RecordFaults};
use crate::journal::{Journal, StateFileError};
use crate::judge::{self, Message, Refusal};
use crate::settings::{Rule, Settings};
use crate::state::State;
use crate::store::{Accepted, Event, Judged, Refused, Store};
use crate::wire::UsageType;
use serde_json::value::RawValue;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that all connections share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Settings,
    held: Mutex<Held>,
}

/// The rules for one message: the site's own, and those of faults.
struct Rules {
    refuse: Vec<Rule>,
    fail_load: Vec<Rule>,
}

#[derive(Debug)]
struct Held {
    store: Store,
    journal: Option<Journal>,
    faults: Faults,
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

    /// Judges each record of a message.
    ///
    /// # Errors
    /// Why the whole message is refused.
    pub(crate) fn judge<'a>(
        &self,
        message: &Message<'a>,
        mut faults: RecordFaults,
    ) -> Result<Judged<'a>, Refusal> {
        let usage_type = message.usage_type;
        let rules = Rules {
            refuse: self.settings.refuse.iter().chain(&faults.refuse).cloned().collect(),
            fail_load: self.settings.fail_load.iter().chain(&faults.fail_load).cloned().collect(),
        };
        let mut judged =
            Judged { usage_type, accepted: Vec::with_capacity(message.records.len()), refused: Vec::new() };
        let mut too_deep = false;
        for record in message.records.iter().copied() {
            match self.judge_record(usage_type, record, &rules, &mut faults)? {
                Ok(accepted) => judged.accepted.push(accepted),
                Err(error) => {
                    too_deep |= judge::is_too_deep(record);
                    judged.refused.push(Refused { record, error });
                }
            }
        }
        if too_deep {
            return Err(Refusal::Bad("the body is nested too deeply".to_owned()));
        }
        if faults.refuse_whole && !judged.refused.is_empty() {
            // On purpose without a word about which record it was.
            return Err(Refusal::Bad("the message could not be processed".to_owned()));
        }
        Ok(judged)
    }

    fn judge_record<'a>(
        &self,
        usage_type: UsageType,
        record: &'a RawValue,
        rules: &Rules,
        faults: &mut RecordFaults,
    ) -> Result<Result<Accepted<'a>, String>, Refusal> {
        let settings = &self.settings;
        let members = judge::members(usage_type, record)?;
        let facts = match judge::record(usage_type, &members) {
            Ok(facts) => facts,
            Err(error) => return Ok(Err(error)),
        };
        let known = settings.known.as_ref();
        if let Some(error) = judge::refusal(&members, &facts, known, &rules.refuse) {
            return Ok(Err(error));
        }
        let fails = judge::load_failure(&members, &facts, known, &rules.fail_load);
        let replaces = match usage_type {
            UsageType::Compute => settings.overwrite,
            UsageType::Storage | UsageType::Adjustment => settings.overwrite_others,
        };
        let wait = clock::milliseconds(settings.load_delay).saturating_add(faults.wait());
        Ok(Ok(Accepted { record, wait, replaces, fails, facts }))
    }

    /// Stores a message that was judged; gives it back, for the answer.
    ///
    /// # Errors
    /// Where the state file cannot be written. Nothing is stored then.
    pub(crate) fn post<'a>(&self, judged: Judged<'a>) -> io::Result<Judged<'a>> {
        let packed = judged.pack();
        let mut held = self.held();
        let at = clock::now();
        let Some(journal) = &mut held.journal else {
            held.store.post(at, &judged, packed);
            return Ok(judged);
        };
        let event = Event::Posted { at, judged };
        journal.write(&event)?;
        let Event::Posted { judged, .. } = event else { return Err(io::Error::other("no message")) };
        held.store.post(at, &judged, packed);
        Ok(judged)
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
    fn change(&self, event: impl FnOnce(i64) -> Event<'static>) -> io::Result<()> {
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
