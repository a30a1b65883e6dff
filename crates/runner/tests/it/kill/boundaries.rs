//! Killed before and after every commit, and at every other place that has a name: exhaustively.

use super::{Dice, FAULTS, finish, long, site};
use crate::support::{Service, Site, amie_runner};
use std::collections::BTreeMap;
use usage_sandbox::Settings;

/// Every place of the program: `crash::point` in the source.
const PLACES: [&str; 10] = [
    "committing",
    "committed",
    "recovered",
    "ingested",
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
    for (place, count) in passed {
        // A run says with answers in another order what another says; one more than was counted costs nothing.
        let mut killed = 0;
        for number in 1..=count + 1 {
            let service = Service::start(Settings::default());
            let site = site(&service);
            if run_with(&site, "AMIE_CRASH_AT", &format!("{place}:{number}")) {
                killed += 1;
                finish(&site, &service, &format!("killed at {place}:{number}"));
            }
        }
        assert!(killed >= count.saturating_sub(2) && killed > 0, "{place}: {killed} of {count}");
    }
}

#[test]
fn killed_at_every_commit_while_the_service_fails_and_killed_again_while_recovering() {
    let mut dice = Dice::new();
    let seed = dice.0;
    println!("seed {seed}: repeat with AMIE_SEED={seed}");
    let rounds = if long() { 8 } else { 1 };
    for round in 0..rounds {
        // Faults change how many commits there are: count until one run gets through alive, three times running.
        let (mut number, mut alive) = (0, 0);
        while alive < 3 {
            number += 1;
            let faults = FAULTS.iter().map(|fault| fault.parse().unwrap()).collect();
            let service = Service::start(Settings { faults, seed: dice.next(), ..Settings::default() });
            let site = site(&service);
            let place = if (number + round) % 2 == 0 { "committed" } else { "committing" };
            let killed = run_with(&site, "AMIE_CRASH_AT", &format!("{place}:{number}"));
            alive = if killed { 0 } else { alive + 1 };
            let again = 1 + dice.below(12);
            run_with(&site, "AMIE_CRASH_AT", &format!("committed:{again}"));
            service.sandbox().clear_faults();
            finish(
                &site,
                &service,
                &format!("seed {seed}: killed at {place}:{number}, then committed:{again}"),
            );
        }
        assert!(number > 20, "seed {seed}: only {number} commits");
    }
}
