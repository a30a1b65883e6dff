//! Killed, out of space, without power, damaged: each record is with the service once, with its exact charge, or the ledger is
//! refused by name.
//!
//! The oracle is what the sandbox holds, against what scripts worked out from slurmdbd's table and the logs
//! (`fixtures/expected`), or against sums made here by hand.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "seeds, and why something is skipped")]

/// At every commit boundary and every other place that has a name.
mod boundaries;
/// A ledger file that is not what it was.
mod damage;
/// No space left, at every page.
mod disk;
/// The files as a power cut would leave them.
mod power;
/// At random moments of a large run.
mod random;

use crate::support::{Service, Site, expected_records};
use std::collections::BTreeMap;
use usage_sandbox::UsageType;

/// Resource, record id, submit time, charge.
type Record = [String; 4];

/// The faults of a service that loses connections and answers. Each strikes one call in so many.
const FAULTS: [&str; 4] = [
    "drop-after-storing@post%20",
    "status:503,retry-after=0@post%15",
    "drop-before-reading@post%15",
    "html:502@post%10",
];

/// Whether rare and long cases are wanted too (`scripts/test --long`).
fn long() -> bool {
    std::env::var_os("AMIE_LONG").is_some()
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number in the environment"))
}

/// Numbers that look random (splitmix64): a failure names the seed, and `AMIE_SEED` repeats it.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let fresh = runner::clock::now() as u64 * 1_000_003 + u64::from(std::process::id());
        Self(number("AMIE_SEED").unwrap_or(fresh))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Does all of it, four at a time: most of each is waiting.
fn side_by_side<T: Sync>(tasks: &[T], work: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    work(task);
                }
            });
        }
    });
}

/// What the service holds of compute records.
fn held_by(service: &Service) -> Vec<Record> {
    let mut records: Vec<Record> = service
        .state()
        .loaded
        .iter()
        .filter(|record| record.usage_type == UsageType::Compute)
        .map(|record| {
            [
                record.resource.clone(),
                record.local_record_id.clone(),
                record.submit_time.clone(),
                record.charge.clone(),
            ]
        })
        .collect();
    records.sort();
    records
}

/// The expected compute records of the shipped example, and how many storage records.
fn wanted() -> (Vec<Record>, usize) {
    let (compute, storage): (Vec<_>, Vec<_>) =
        expected_records().into_iter().partition(|record| !record[2].is_empty());
    (compute, storage.len())
}

/// The shipped example, in small messages, so that there is much to come between.
fn site(service: &Service) -> Site {
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_records = 1000", "max_records = 25");
    site
}

/// Runs until nothing is left to do.
fn run_to_the_end(site: &Site, what: &str) {
    let mut said = site.run(&["run", "--wait", "10", "--summary", "summary.json"]);
    for _ in 0..6 {
        if said.status == 0 {
            return;
        }
        said = site.run(&["run", "--wait", "10", "--summary", "summary.json"]);
    }
    // With records of unknown fate that only a person can settle, a run has nothing new to say, and ends well.
    panic!("{what}: the runs do not end: {}{}", said.stdout, said.stderr);
}

/// Runs until nothing is left to do, then holds the service against what is owed.
fn finish(site: &Site, service: &Service, what: &str) {
    run_to_the_end(site, what);
    let summary = site.summary();
    let (compute, storage) = wanted();
    assert_eq!(held_by(service), compute, "{what}: {summary}");
    assert_eq!(summary["loaded"], compute.len(), "{what}: {summary}");
    assert_eq!((&summary["pending"], &summary["sending"]), (&0.into(), &0.into()), "{what}: {summary}");
    // Nobody knows whether the service replaces storage records: what may have arrived is never sent blindly again.
    let stored =
        service.state().loaded.iter().filter(|record| record.usage_type == UsageType::Storage).count();
    let open = summary["unknown"].as_u64().unwrap() as usize;
    assert!(
        stored <= storage && stored + open >= storage,
        "{what}: {stored} stored, {open} unknown: {summary}"
    );
    one_charge_an_identity(service, what);
}

/// Whatever was sent more than once was the same each time.
fn one_charge_an_identity(service: &Service, what: &str) {
    let mut charges: BTreeMap<String, &str> = BTreeMap::new();
    let state = service.state();
    for history in &state.history {
        let identity = format!("{} {} {:?}", history.resource, history.local_record_id, history.submit_time);
        for version in &history.versions {
            let first = charges.entry(identity.clone()).or_insert(&version.charge);
            assert_eq!(first, &version.charge, "{what}: {identity} was sent with two charges");
        }
    }
}
