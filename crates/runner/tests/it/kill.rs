//! Killed at every place where it matters, and at random: each record once, with its exact charge.

use crate::support::{Service, Site, amie_runner, expected_records};
use std::time::{Duration, Instant};
use usage_sandbox::{Settings, UsageType};

/// What the service holds of compute records, every version that was ever stored counted: identity, charge, copies.
fn held_by(service: &Service) -> Vec<[String; 4]> {
    let mut records: Vec<[String; 4]> = service
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

/// The expected compute records, and how many storage records.
fn wanted() -> (Vec<[String; 4]>, usize) {
    let (compute, storage): (Vec<_>, Vec<_>) =
        expected_records().into_iter().partition(|record| !record[2].is_empty());
    (compute, storage.len())
}

fn site(service: &Service) -> Site {
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_records = 1000", "max_records = 25");
    site
}

/// Runs until nothing is left to do, then holds the service against what is owed.
fn finish(site: &Site, service: &Service, what: &str) {
    for _ in 0..6 {
        if site.run(&["run", "--wait", "10", "--summary", "summary.json"]).status == 0 {
            break;
        }
    }
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
}

#[test]
fn killed_between_any_two_steps_nothing_is_lost_and_nothing_twice() {
    let places = [
        "recovered:1",
        "ingested:1",
        "leased:1",
        "leased:3",
        "answered:1",
        "answered:4",
        "settled:1",
        "settled:5",
        "submitted:1",
        "seen:1",
        "confirmed:1",
    ];
    for place in places {
        let service = Service::start(Settings::default());
        let site = site(&service);
        let killed = amie_runner(site.folder.path())
            .args(["run", "--wait", "10"])
            .env("AMIE_CRASH_AT", place)
            .output()
            .unwrap();
        assert_eq!(
            killed.status.code(),
            None,
            "{place}: it was not killed: {}",
            String::from_utf8_lossy(&killed.stderr)
        );
        finish(&site, &service, place);
    }
}

#[test]
fn killed_at_random_moments_with_a_faulty_service_nothing_is_lost_and_nothing_twice() {
    let kills = std::env::var("AMIE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_u64);
    for round in 0..kills {
        let faults =
            ["drop-after-storing@post%20", "status:503,retry-after=0@post%20", "drop-before-reading@post%20"];
        let service = Service::start(Settings {
            faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
            seed: round,
            ..Settings::default()
        });
        let site = site(&service);
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_amie-runner"))
            .current_dir(site.folder.path())
            .args(["run", "--wait", "10"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // A whole run takes some 300 ms here: spread the kills over it.
        let moment = Duration::from_millis(round * 37 % 400);
        let started = Instant::now();
        while started.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        child.wait().unwrap();
        service.sandbox().clear_faults();
        finish(&site, &service, &format!("round {round}, killed after {moment:?}"));
    }
}
