//! Killed before and after every commit, and at every other place that has a name: exhaustively.

use super::{Dice, FAULTS, finish, long, side_by_side, site};
use crate::support::{Service, Site, amie_runner};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use usage_sandbox::Settings;

/// Every place of the program: `crash::point` in the source.
const PLACES: [&str; 11] = [
    "committing",
    "committed",
    "recovered",
    "ingested",
    "moved",
    "leased",
    "answered",
    "settled",
    "submitted",
    "seen",
    "confirmed",
];

/// Runs with one variable set; true where the process was killed by it.
fn run_with(site: &Site, variable: &str, value: &str) -> bool {
    let output =
        amie_runner(site.folder.path()).args(["run", "--wait", "10"]).env(variable, value).output().unwrap();
    if let Some(status) = output.status.code() {
        assert!(status != 2, "{variable}={value}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.code().is_none()
}

/// How often a run passes each place when nothing goes wrong.
fn passed() -> BTreeMap<String, u64> {
    let service = Service::start(Settings::default());
    let site = site(&service);
    assert!(!run_with(&site, "AMIE_CRASH_LOG", site.path("places").to_str().unwrap()));
    let mut passed = BTreeMap::new();
    for line in site.read("places").lines() {
        *passed.entry(line.to_owned()).or_default() += 1;
    }
    passed
}

#[test]
fn killed_at_every_boundary_of_a_run_nothing_is_lost_and_nothing_twice() {
    let passed = passed();
    let names: Vec<&str> = passed.keys().map(String::as_str).collect();
    let mut known = PLACES;
    known.sort_unstable();
    assert_eq!(names, known, "the places of the program are not those of this test");
    assert_eq!(passed["committing"], passed["committed"]);
    assert!(passed["committed"] >= 20, "too small a run: {passed:?}");
    // One more of each than was counted: answers come in another order each time.
    let tasks: Vec<(&str, u64)> = passed
        .iter()
        .flat_map(|(place, count)| (1..=count + 1).map(move |number| (place.as_str(), number)))
        .collect();
    let killed = AtomicU64::new(0);
    side_by_side(&tasks, |(place, number)| {
        let service = Service::start(Settings::default());
        let site = site(&service);
        if run_with(&site, "AMIE_CRASH_AT", &format!("{place}:{number}")) {
            killed.fetch_add(1, Ordering::Relaxed);
            finish(&site, &service, &format!("killed at {place}:{number}"));
        }
    });
    let (killed, counted) = (killed.into_inner(), passed.values().sum::<u64>());
    assert!(killed + 5 >= counted, "{killed} kills at {counted} places");
}

#[test]
fn killed_at_every_commit_while_the_service_fails_and_killed_again_while_recovering() {
    let mut dice = Dice::new();
    let seed = dice.0;
    println!("seed {seed}: repeat with AMIE_SEED={seed}");
    // Faults make more commits, or fewer: some numbers more than a clean run has.
    let commits = passed()["committed"] + 10;
    let mut tasks = Vec::new();
    for place in ["committing", "committed"].iter().cycle().take(if long() { 16 } else { 1 }) {
        for number in 1..=commits {
            tasks.push((
                format!("{place}:{number}"),
                format!("committed:{}", 1 + dice.below(12)),
                dice.next(),
            ));
        }
    }
    let killed = AtomicU64::new(0);
    side_by_side(&tasks, |(first, second, fault_seed)| {
        let faults = FAULTS.iter().map(|fault| fault.parse().unwrap()).collect();
        let service = Service::start(Settings { faults, seed: *fault_seed, ..Settings::default() });
        let site = site(&service);
        killed.fetch_add(run_with(&site, "AMIE_CRASH_AT", first).into(), Ordering::Relaxed);
        run_with(&site, "AMIE_CRASH_AT", second);
        service.sandbox().clear_faults();
        finish(&site, &service, &format!("seed {seed}: killed at {first}, then at {second}"));
    });
    let killed = killed.into_inner();
    assert!(killed >= tasks.len() as u64 / 2, "seed {seed}: {killed} kills in {} runs", tasks.len());
}
