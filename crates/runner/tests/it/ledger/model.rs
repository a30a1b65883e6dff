//! Random actions against the ledger and a model of the service, until faults stop.
//!
//! The service is as bad as it may be: it queues, loads in order, fails records, shows every load and failure that
//! there ever was, and for storage it *adds* what it gets. The process dies between any two steps, answers get lost,
//! and the clock goes back. In the end the service must hold each owed charge exactly once, the newest one, and the
//! ledger must call exactly those loaded. Where several runners share a ledger, one may fall asleep with messages in
//! flight, another takes its leases over when their time has passed, and the sleeper wakes and settles too late.

use super::super::{ADMIN, Home, NOW, Run, chunk, failed, held, loaded};
use super::{CASES, SEVERAL, Site};
use amie_usage::{Decimal, UsageType};
use proptest::prelude::*;
use runner::ledger::{
    BatchId, Find, HoldEnd, LeaseRequest, Ledger, LedgerError, RecordOutcome, Retry, Sighting, State,
};
use std::collections::BTreeMap;

/// Runs 0 to 4 are jobs; 5 and 6 are storage readings, whose charge never changes.
const RUNS: u32 = 7;
const STORAGE: u32 = 5;

#[derive(Debug, Clone)]
enum Action {
    /// The source says a charge (0: none any more).
    Ingest { run: u32, charge: u8 },
    /// The same as before is read again.
    Reread,
    /// Mapping holds it.
    Hold { run: u32 },
    /// A person waives all holds.
    Waive,
    /// A sender takes some.
    Lease { storage: bool, records: usize },
    /// The oldest message in flight gets its answer: one fate a record.
    Answer { fates: Vec<Fate> },
    /// The process dies, with some messages in flight: these have arrived or not.
    Crash { arrived: Vec<bool> },
    /// The runner falls asleep, with some messages in flight, until another has taken over its leases.
    Sleep { arrived: Vec<bool> },
    /// A runner that slept wakes with an answer.
    Wake { fate: Fate },
    /// Both runners are awake: the other one does what comes next.
    Swap,
    /// The service works on its queue: loads, or fails.
    Process { fails: Vec<bool> },
    /// We ask the service.
    Reconcile,
    /// A person retries, after asking the service.
    Retry,
    /// A person finds out about storage of unknown fate.
    Resolve,
    /// The clock of this host goes wrong by seconds.
    Clock { off: i64 },
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Accepted,
    ArrivedUnknown,
    LostUnknown,
    NotSent,
    Refused,
}

fn outcome(fate: Fate) -> RecordOutcome {
    match fate {
        Fate::Accepted => RecordOutcome::Accepted,
        Fate::ArrivedUnknown | Fate::LostUnknown => RecordOutcome::Unknown("timeout".into()),
        Fate::NotSent => RecordOutcome::NotSent("refused".into()),
        Fate::Refused => RecordOutcome::Refused("no such user".into()),
    }
}

fn action() -> impl Strategy<Value = Action> {
    let fate = prop_oneof![
        4 => Just(Fate::Accepted),
        2 => Just(Fate::ArrivedUnknown),
        2 => Just(Fate::LostUnknown),
        1 => Just(Fate::NotSent),
        1 => Just(Fate::Refused),
    ];
    let of_several = prop_oneof![
        prop::collection::vec(any::<bool>(), 8).prop_map(|arrived| Action::Sleep { arrived }),
        fate.clone().prop_map(|fate| Action::Wake { fate }),
        Just(Action::Swap),
    ];
    let of_one = prop_oneof![
        6 => (0..RUNS, 0..4_u8).prop_map(|(run, charge)| Action::Ingest { run, charge }),
        1 => Just(Action::Reread),
        1 => (0..RUNS).prop_map(|run| Action::Hold { run }),
        1 => Just(Action::Waive),
        5 => (any::<bool>(), 1..4_usize).prop_map(|(storage, records)| Action::Lease { storage, records }),
        5 => prop::collection::vec(fate, 4).prop_map(|fates| Action::Answer { fates }),
        2 => prop::collection::vec(any::<bool>(), 8).prop_map(|arrived| Action::Crash { arrived }),
        3 => prop::collection::vec(prop::bool::weighted(0.2), 8).prop_map(|fails| Action::Process { fails }),
        3 => Just(Action::Reconcile),
        1 => Just(Action::Retry),
        1 => Just(Action::Resolve),
        1 => (-200..200_i64).prop_map(|off| Action::Clock { off }),
    ];
    if SEVERAL { prop_oneof![6 => of_one, 1 => of_several].boxed() } else { of_one.boxed() }
}

/// The service: what it queued, what it holds, and everything that it shows.
#[derive(Debug, Default)]
struct Service {
    queue: Vec<(u32, Decimal)>,
    /// Compute: the charge that the identity has. Storage: every charge that was added.
    books: BTreeMap<u32, Vec<Decimal>>,
    shown: Vec<Sighting>,
    failures: u32,
}

impl Service {
    fn take(&mut self, payload: &[u8]) {
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let run = value["LocalRecordID"].as_str().unwrap().parse().unwrap();
        let charge = value["Charge"].as_str().unwrap().parse().unwrap();
        self.queue.push((run, charge));
    }

    fn process(&mut self, now: i64, mut fails: impl FnMut() -> bool) {
        for (run, charge) in std::mem::take(&mut self.queue) {
            if fails() {
                self.failures += 1;
                let sighting = failed(&of(run, 1), "no allocation", &self.failures.to_string(), Some(now));
                self.shown.push(sighting);
                continue;
            }
            let held = self.books.entry(run).or_default();
            if run < STORAGE {
                held.clear();
            }
            held.push(charge);
            self.shown.push(loaded(&of(run, 1), &charge.to_string(), now));
        }
    }
}

/// A run with a charge.
fn of(run: u32, charge: u8) -> Run {
    let usage_type = if run < STORAGE { UsageType::Compute } else { UsageType::Storage };
    let charge = if run < STORAGE { charge } else { 7 };
    Run { usage_type, ..Run::new(run, &charge.to_string()) }
}

struct World {
    site: Site,
    service: Service,
    flights: Vec<(BatchId, Vec<Vec<u8>>)>,
    /// The other runner, and the messages that were in flight when a runner fell asleep.
    other: Option<Box<dyn Ledger>>,
    slept: Vec<(BatchId, usize)>,
    /// What the source says now, with a number for each change of it.
    truth: BTreeMap<u32, Run>,
    changes: u128,
    /// The service's clock, and how wrong ours is.
    clock: i64,
    off: i64,
}

impl World {
    fn new() -> Option<Self> {
        Some(Self {
            site: Site::new()?,
            service: Service::default(),
            flights: Vec::new(),
            other: None,
            slept: Vec::new(),
            truth: BTreeMap::new(),
            changes: 0,
            clock: NOW,
            off: 0,
        })
    }

    fn now(&self) -> i64 {
        self.clock + self.off
    }

    fn act(&mut self, action: &Action) {
        self.clock += 1_000;
        let now = self.now();
        match action {
            Action::Ingest { run, charge } => {
                let charge = if *run >= STORAGE { 7 } else { *charge };
                let known = self.truth.get(run).filter(|known| known.charge == of(*run, charge).charge);
                let truth = match known {
                    Some(known) => known.clone(),
                    None => {
                        self.changes += 1;
                        let mut truth = Run { source: self.changes, ..of(*run, charge) };
                        truth.facts.end += i64::from(charge);
                        truth
                    }
                };
                self.truth.insert(*run, truth.clone());
                self.site.ledger().ingest(&chunk(&[truth]), now).unwrap();
            }
            Action::Reread => self.reread(),
            Action::Hold { run } => {
                if let Some(truth) = self.truth.get(run) {
                    let held = held(truth, "unknown-project", false);
                    self.site.ledger().ingest(&held, now).unwrap();
                }
            }
            Action::Waive => {
                let holds = self.site.ledger().holds(None, "", 100).unwrap();
                let keys: Vec<String> = holds.into_iter().map(|hold| hold.key).collect();
                // Waived here and taken back at once: what is owed stays owed.
                self.site.ledger().close_holds(&keys, HoldEnd::Waived, ADMIN, now).unwrap();
                self.site.sound();
                for key in &keys {
                    self.site.ledger().reopen_holds(&[key.clone()], ADMIN, now).unwrap();
                }
            }
            Action::Lease { storage, records } => {
                let usage_type = if *storage { UsageType::Storage } else { UsageType::Compute };
                self.lease(usage_type, *records);
            }
            Action::Answer { fates } => self.answer(fates),
            Action::Crash { arrived } => {
                let mut arrived = arrived.iter().cycle();
                for (_, payloads) in std::mem::take(&mut self.flights) {
                    for payload in payloads {
                        if *arrived.next().unwrap() {
                            self.service.take(&payload);
                        }
                    }
                }
                self.other = None;
                self.site.crash(now);
            }
            Action::Sleep { arrived } => self.sleep(arrived),
            Action::Wake { fate } => self.wake(*fate),
            Action::Swap => self.swap(),
            Action::Process { fails } => {
                let mut fails = fails.iter().cycle();
                self.service.process(self.clock, || *fails.next().unwrap());
            }
            Action::Reconcile => self.reconcile(),
            Action::Retry => self.retry(),
            Action::Resolve => self.resolve(),
            Action::Clock { off } => self.off = *off,
        }
        self.site.sound();
    }

    /// The other runner goes on; a second one is started where there is none.
    fn swap(&mut self) {
        let other = match self.other.take() {
            Some(other) => other,
            None => self.site.home.open(self.now()).unwrap(),
        };
        self.other = self.site.ledger.replace(other);
    }

    fn sleep(&mut self, arrived: &[bool]) {
        let mut arrived = arrived.iter().cycle();
        for (batch, payloads) in std::mem::take(&mut self.flights) {
            self.slept.push((batch, payloads.len()));
            for payload in payloads.iter().filter(|_| *arrived.next().unwrap()) {
                self.service.take(payload);
            }
        }
        self.site.home.leases_end();
        self.swap();
        let now = self.now();
        self.site.ledger().recover(now).unwrap();
    }

    /// Whatever the sleeper was told, it is too late: what became of its messages is another's to find out.
    fn wake(&mut self, fate: Fate) {
        let Some((batch, records)) = self.slept.pop() else { return };
        let now = self.now();
        let totals = self.site.ledger().totals().unwrap();
        let sleeper = self.other.as_mut().unwrap_or_else(|| self.site.ledger.as_mut().unwrap());
        let late = sleeper.settle(batch, &vec![outcome(fate); records], "", now);
        assert!(matches!(late, Err(LedgerError::SettledBefore(_))), "{late:?}");
        assert_eq!(self.site.ledger().totals().unwrap(), totals);
    }

    fn reread(&mut self) {
        let now = self.now();
        let truth: Vec<Run> = self.truth.values().cloned().collect();
        self.site.ledger().ingest(&chunk(&truth), now).unwrap();
    }

    fn lease(&mut self, usage_type: UsageType, max_records: usize) -> bool {
        let request =
            LeaseRequest { max_records, quiet_seconds: 5_000, ..LeaseRequest::new(usage_type, self.now()) };
        let Some(leased) = self.site.ledger().lease(&request).unwrap() else { return false };
        let payloads = leased.records.into_iter().map(|record| record.payload).collect();
        self.flights.push((leased.batch, payloads));
        true
    }

    fn answer(&mut self, fates: &[Fate]) {
        if self.flights.is_empty() {
            return;
        }
        let now = self.now();
        let (batch, payloads) = self.flights.remove(0);
        let mut outcomes = Vec::new();
        for (payload, fate) in payloads.iter().zip(fates.iter().cycle()) {
            if matches!(fate, Fate::Accepted | Fate::ArrivedUnknown) {
                self.service.take(payload);
            }
            outcomes.push(outcome(*fate));
        }
        self.site.ledger().settle(batch, &outcomes, "", now).unwrap();
    }

    fn reconcile(&mut self) {
        let now = self.now();
        self.site.ledger().confirm(&self.service.shown, now).unwrap();
    }

    fn retry(&mut self) {
        self.reconcile();
        let now = self.now();
        self.site.ledger().retry(&Retry::Rejected(None), ADMIN, now).unwrap();
        self.site.ledger().retry(&Retry::Failed(None), ADMIN, now).unwrap();
    }

    /// A person asks the service's staff: is it queued?
    fn resolve(&mut self) {
        self.reconcile();
        let now = self.now();
        for run in STORAGE..RUNS {
            let key = of(run, 7).key;
            let rows = self.site.ledger().find(&Find::Key(key.clone()), 1).unwrap();
            if rows.first().is_some_and(|row| row.state == State::Unknown) {
                let queued = self.service.queue.iter().any(|(queued, _)| *queued == run);
                self.site.ledger().resolve_unknown(&[key], queued, ADMIN, now).unwrap();
            }
        }
    }

    /// Faults stop: everything is driven to its end.
    fn settle_down(&mut self) {
        self.off = 0;
        self.act(&Action::Crash { arrived: vec![true] });
        for _ in 0..12 {
            self.act(&Action::Reread);
            self.act(&Action::Resolve);
            self.act(&Action::Retry);
            for usage_type in [UsageType::Compute, UsageType::Storage] {
                // Every row twice at most: its version, and the one that waited.
                for _ in 0..2 * RUNS {
                    if self.lease(usage_type, 3) {
                        self.answer(&[Fate::Accepted]);
                    }
                }
            }
            self.act(&Action::Process { fails: vec![false] });
            self.act(&Action::Reconcile);
        }
    }

    /// What is owed against what the service holds against what the ledger says.
    fn judge(&mut self) {
        let totals = self.site.ledger().totals().unwrap();
        let open =
            [State::Pending, State::Sending, State::Unknown, State::Accepted, State::Rejected, State::Failed];
        for state in open {
            assert_eq!(totals.count(state), 0, "{state} rows are left: {totals:?}");
        }
        for run in 0..RUNS {
            let books = self.service.books.get(&run).cloned().unwrap_or_default();
            let rows = self.site.ledger().find(&Find::Key(of(run, 1).key), 1).unwrap();
            let row = rows.first();
            match self.truth.get(&run) {
                None => assert!(books.is_empty() && row.is_none(), "run {run} came from nowhere"),
                Some(truth) if !truth.charge.is_zero() => {
                    assert_eq!(books, [truth.charge], "run {run}");
                    let row = row.unwrap();
                    assert_eq!(row.state, State::Loaded, "run {run}");
                    assert_eq!(row.sent.unwrap().charge, truth.charge, "run {run}");
                }
                Some(_) => {
                    assert!(
                        books.iter().all(|charge| charge.is_zero()),
                        "run {run} is zero, books {books:?}"
                    );
                    let state = row.map(|row| row.state);
                    let expected = if books.is_empty() {
                        [None, Some(State::Superseded)]
                    } else {
                        [Some(State::Loaded); 2]
                    };
                    assert!(expected.contains(&state), "run {run} is zero and {state:?}, books {books:?}");
                }
            }
        }
    }
}

/// As many as the parent says, and more where thousands of cases are asked for.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse::<u32>().ok());
    CASES * (asked.unwrap_or(0) / 1_000).max(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_owed_charge_is_held_once_and_newest(actions in prop::collection::vec(action(), 1..40)) {
        let Some(mut world) = World::new() else { return Ok(()) };
        for action in &actions {
            world.act(action);
        }
        world.settle_down();
        world.judge();
    }
}
