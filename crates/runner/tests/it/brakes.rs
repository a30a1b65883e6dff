//! Brakes: what charges far more than usual waits for a person, and nothing else waits with it.

use crate::support::{Service, Site, fixtures};
use amie_usage::Decimal;
use serde_json::Value;
use std::collections::BTreeMap;
use usage_sandbox::Settings;

const CPU: &str = "testhpc-cpu.testsite.access-ci.org";
const GPU: &str = "testhpc-gpu.testsite.access-ci.org";

/// How many records the service holds of a resource, and their charge.
fn loaded(service: &Service, resource: &str) -> (usize, Decimal) {
    let loaded = service.state().loaded;
    let of: Vec<_> = loaded.iter().filter(|record| record.resource == resource).collect();
    let sum = of.iter().fold(Decimal::ZERO, |sum, r| sum.checked_add(r.charge.parse().unwrap()).unwrap());
    (of.len(), sum)
}

/// A night of Slurm alone, in a ledger that knows it to be a usual one: the same charge on each of eight days before
/// today (the ledger reads the clock, so that its memory of days is set back here).
fn usual_week(service: &Service) -> Site {
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_charge = \"100000\"", "max_charge = \"100000\"\nnight_factor = 5");
    site.run(&["run", "--source", "slurm", "--wait", "20"]);
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    for resource in [CPU, GPU] {
        let name = format!("accepted-by-day/{resource}");
        let read = "SELECT value FROM meta WHERE name = ?1";
        let text: String = ledger.query_row(read, [&name], |row| row.get(0)).unwrap();
        let days: BTreeMap<i64, Decimal> = serde_json::from_str(&text).unwrap();
        let (today, charge) = days.first_key_value().unwrap();
        assert_eq!(*charge, loaded(service, resource).1, "what was accepted today is remembered");
        let before: BTreeMap<i64, Decimal> = (1..=8).map(|days| (today - days, *charge)).collect();
        let text = serde_json::to_string(&before).unwrap();
        ledger.execute("UPDATE meta SET value = ?2 WHERE name = ?1", (&name, &text)).unwrap();
    }
    site
}

/// Two new jobs: 10 cores for an hour on `cpu` (charge 10), and one GPU for 36 s on `gpu` (charge 0.01).
fn add_jobs(site: &Site) {
    let text = site.read("sacct/testhpc-2026-11-23.txt");
    let header = text.lines().next().unwrap();
    let row = |id: u32, partition: &str, elapsed: u32, cpus: u32, tres: &str| {
        let (submit, end) = (1_795_430_000, 1_795_430_000 + elapsed);
        format!(
            "{id}|{id}|{id}|testhpc|alice|20001|tg-abc123456|{partition}|normal|COMPLETED|{submit}|{submit}|{submit}|{end}|\
             {elapsed}|{}|{cpus}|{cpus}|1|{tres}|{tres}|100M|02:00:00|0:0|SchedMain|c1|wrap\n",
            elapsed * cpus
        )
    };
    let rows = [
        row(900, "cpu", 3600, 10, "billing=10,cpu=10,mem=100M,node=1"),
        row(901, "gpu", 36, 1, "billing=1,cpu=1,gres/gpu=1,mem=100M,node=1"),
    ];
    site.write("sacct/testhpc-2026-11-24.txt", &format!("{header}\n{}", rows.concat()));
}

#[test]
fn a_night_far_beyond_the_usual_is_held_for_that_resource_alone() {
    let service = Service::start(Settings::default());
    let site = usual_week(&service);
    let (cpu, gpu) = (loaded(&service, CPU), loaded(&service, GPU));
    add_jobs(&site);
    let dry = site.run(&["run", "--source", "slurm", "--dry-run"]);
    assert!(
        dry.stdout.contains("\"LocalRecordID\":\"901\"") && !dry.stdout.contains("\"900\""),
        "{}",
        dry.stdout
    );
    for status in [1, 0] {
        let night = site.run(&["run", "--source", "slurm", "--wait", "20"]);
        assert_eq!(night.status, status, "held once, and no news of it again: {}", night.stderr);
        assert!(night.stderr.contains("held: above-usual-night"), "{}", night.stderr);
        assert_eq!(loaded(&service, CPU), cpu, "held, and not released by reading it again");
        assert_eq!(loaded(&service, GPU).0, gpu.0 + 1, "nothing else is delayed");
    }
    let all = ["--all", "--reason-code", "above-usual-night", "--resource", CPU];
    let said = site.run(&[&["held", "approve"], &all[..], &["--dry-run"]].concat());
    assert_eq!(said.stdout, format!("1 would be approved: 10 on {CPU}\n"), "{}", said.stderr);
    let gpu_too = ["--all", "--reason-code", "above-usual-night", "--resource", GPU, "--dry-run"];
    assert_eq!(site.run(&[&["held", "approve"], &gpu_too[..]].concat()).stdout, "0 would be approved\n");
    let said =
        site.run(&[&["held", "approve"], &all[..], &["--reason", "a big job", "--by", "pat"]].concat());
    assert_eq!(said.stdout, format!("1 approved: 10 on {CPU}\n"), "{}", said.stderr);
    let night = site.run(&["run", "--source", "slurm", "--wait", "20"]);
    assert!(!night.stderr.contains("above-usual-night"), "approved is approved: {}", night.stderr);
    assert_eq!(loaded(&service, CPU).1, cpu.1.checked_add(Decimal::new(10, 0)).unwrap());
    assert!(site.run(&["explain", "900"]).stdout.contains("released v1 by pat  a big job"));
}

#[test]
fn what_was_missed_may_be_caught_up_and_a_new_site_is_not_braked() {
    // Nothing is known of what is usual: nothing is held, however large.
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_charge = \"100000\"", "night_factor = 1");
    add_jobs(&site);
    site.run(&["run", "--source", "slurm", "--wait", "20"]);
    assert!(loaded(&service, CPU).1 > Decimal::new(10, 0));
    // 10 is 96 times the usual 0.104481: with 5 times a day, it passes after 20 days of silence and not before.
    for (days, passes) in [(19, false), (20, true)] {
        let service = Service::start(Settings::default());
        let site = usual_week(&service);
        let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
        let name = format!("accepted-by-day/{CPU}");
        let read = "SELECT value FROM meta WHERE name = ?1";
        let text: String = ledger.query_row(read, [&name], |row| row.get(0)).unwrap();
        let week: BTreeMap<i64, Decimal> = serde_json::from_str(&text).unwrap();
        let earlier: BTreeMap<i64, Decimal> =
            week.iter().map(|(day, charge)| (day - days + 1, *charge)).collect();
        let text = serde_json::to_string(&earlier).unwrap();
        ledger.execute("UPDATE meta SET value = ?2 WHERE name = ?1", (&name, &text)).unwrap();
        drop(ledger);
        add_jobs(&site);
        let night = site.run(&["run", "--source", "slurm", "--wait", "20"]);
        assert_eq!(loaded(&service, CPU).1 > Decimal::new(10, 0), passes, "{days}: {}", night.stderr);
    }
}

#[test]
fn records_above_a_brake_are_approved_together() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_charge = \"100000\"", "max_charge = \"0.01\"");
    site.run(&["run", "--wait", "20"]);
    let text = std::fs::read_to_string(fixtures().join("expected/demo-records.tsv")).unwrap();
    let mut above: BTreeMap<String, (u64, Decimal)> = BTreeMap::new();
    for fields in text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>()) {
        let charge: Decimal = fields[10].parse().unwrap();
        if charge > Decimal::new(1, 2) {
            let (count, sum) = above.entry(fields[9].to_owned()).or_default();
            (*count, *sum) = (*count + 1, sum.checked_add(charge).unwrap());
        }
    }
    let count: u64 = above.values().map(|(count, _)| count).sum();
    assert!(count > 2);
    assert!(
        service.state().loaded.iter().all(|r| r.charge.parse::<Decimal>().unwrap() <= Decimal::new(1, 2))
    );
    let charges: Vec<String> = above.iter().map(|(name, (_, sum))| format!("{sum} on {name}")).collect();
    let said =
        site.run(&["held", "approve", "--all", "--reason-code", "above-max-charge", "--reason", "looked at"]);
    assert_eq!(said.stdout, format!("{count} approved: {}\n", charges.join(", ")), "{}", said.stderr);
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!(service.state().loaded.len(), text.lines().count() - 1, "{}", night.stderr);
    // What mapping made no record of cannot be approved, and all or none of a call is done.
    for arguments in [
        &["held", "approve", "--all", "--reason-code", "unknown-project", "--reason", "no"][..],
        &["held", "approve", "--all", "--reason", "no"],
        &["held", "approve", "--reason-code", "above-max-charge", "--reason", "no"],
        &["held", "approve", "--reason", "no"],
        &["held", "waive", "slurm/testhpc/0000000039/1795427134"],
    ] {
        assert_eq!(site.run(arguments).status, 2, "{arguments:?}");
    }
}

#[test]
fn what_the_service_took_and_never_showed_is_settled_by_a_person() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    service.sandbox().inject("status:404@loaded".parse().unwrap());
    site.run(&["run", "--source", "slurm", "--summary", "summary.json"]);
    let accepted = site.summary()["accepted"].as_u64().unwrap();
    assert!(accepted > 2);
    let settle = |key: &str, outcome: &str, status: i32| {
        let said = site.run(&[
            "held",
            "settle",
            key,
            "--outcome",
            outcome,
            "--reason",
            "asked the service",
            "--by",
            "pat",
        ]);
        assert_eq!(said.status, status, "{outcome}: {}{}", said.stdout, said.stderr);
    };
    let (first, second) = ("slurm/testhpc/0000000001/1795427125", "slurm/testhpc/0000000002/1795427125");
    settle(first, "loaded", 0);
    settle(second, "lost", 0);
    // Neither can be said twice, nor of a record of another fate.
    settle(first, "lost", 2);
    settle(first, "loaded", 2);
    settle(second, "lost", 2);
    settle("slurm/testhpc/0000000004/1795427125", "missing", 2);
    let posts = service.state().posts;
    site.run(&["run", "--source", "slurm", "--summary", "summary.json"]);
    let summary = site.summary();
    assert_eq!((&summary["loaded"], &summary["accepted"]), (&1.into(), &(accepted - 1).into()), "{summary}");
    assert_eq!(service.state().posts, posts + 1, "the lost one was sent again");
    let versions = |id: &str| {
        let history = service.state().history;
        history.iter().find(|history| history.local_record_id == id).unwrap().versions.len()
    };
    assert_eq!((versions("1"), versions("2")), (1, 2));
    assert!(site.run(&["explain", "1"]).stdout.contains("loaded v1 by pat  asked the service"));
    assert!(site.run(&["explain", "2"]).stdout.contains("retried v1 by pat  asked the service"));
    // And the service itself can still say so.
    service.sandbox().clear_faults();
    site.run(&["run", "--source", "slurm", "--wait", "20", "--summary", "summary.json"]);
    assert_eq!(site.summary()["loaded"], accepted);
    let status: Value = serde_json::from_str(&site.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["totals"]["accepted"], 0);
}

#[test]
fn records_are_settled_all_or_none() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    service.sandbox().inject("status:404@loaded".parse().unwrap());
    site.run(&["run", "--source", "slurm"]);
    let (first, second) = ("slurm/testhpc/0000000001/1795427125", "slurm/testhpc/0000000002/1795427125");
    let loaded = || site.run(&["status", "--json"]).stdout;
    let before = loaded();
    for last in ["nobody", first] {
        let keys = ["held", "settle", first, second, last];
        let said = site.run(&[&keys[..], &["--outcome", "loaded", "--reason", "seen in the books"]].concat());
        assert_eq!((said.status, said.stdout.as_str()), (2, ""), "{}", said.stderr);
        assert_eq!(loaded(), before, "{last}: {}", said.stderr);
    }
    let said =
        site.run(&["held", "settle", first, second, "--outcome", "loaded", "--reason", "seen in the books"]);
    assert_eq!((said.status, said.stdout.as_str()), (0, "2 settled\n"), "{}", said.stderr);
}

#[test]
fn a_waiver_is_taken_back_and_the_run_is_asked_about_again() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.run(&["run", "--wait", "20"]);
    let key = "slurm/testhpc/0000000039/1795427134";
    let held = || site.run(&["held", "--json"]).stdout.contains(key);
    assert!(held());
    let refused = site.run(&["held", "reopen", key, "--reason", "too early"]);
    assert_eq!(refused.status, 2, "{}", refused.stdout);
    assert!(refused.stderr.contains("has no waived hold"), "{}", refused.stderr);
    assert_eq!(site.run(&["held", "waive", key, "--reason", "a test job"]).status, 0);
    assert!(!held());
    // All or none, as everywhere.
    let refused = site.run(&["held", "reopen", key, "nobody", "--reason", "it was real"]);
    assert_eq!((refused.status, held()), (2, false), "{}", refused.stderr);
    let said = site.run(&["held", "reopen", key, "--reason", "it was real", "--by", "pat"]);
    assert_eq!((said.status, said.stdout.as_str()), (0, "1 open again\n"), "{}", said.stderr);
    assert!(held());
    assert!(site.run(&["explain", "39"]).stdout.contains("by pat  it was real"));
    let posts = service.state().posts;
    site.write("projects.csv", &format!("{}nosuchacct,TG-NEW000001\n", site.read("projects.csv")));
    site.run(&["run", "--wait", "20"]);
    assert_eq!((held(), service.state().posts), (false, posts + 1), "it maps now, and is sent");
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
}
