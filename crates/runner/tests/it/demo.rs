//! The demo and the nightly run, against what scripts worked out from slurmdbd's table and the logs.

use crate::support::{Service, Site, expected_records, fixtures, run};
use amie_usage::Decimal;
use serde_json::Value;
use usage_sandbox::{Rule, Settings};

fn expected() -> Value {
    let text = std::fs::read_to_string(fixtures().join("expected/demo.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["all"].clone()
}

fn as_expected(summary: &Value) {
    let expected = expected();
    for name in [
        "frames",
        "informational",
        "quarantined",
        "runs",
        "mapped",
        "skipped",
        "held",
        "charge",
        "charge_by_project",
    ] {
        assert_eq!(summary[name], expected[name], "{name}");
    }
}

/// Resource, record id, submit time and charge of everything that the service holds.
fn loaded(service: &Service) -> Vec<[String; 4]> {
    let mut records: Vec<[String; 4]> = service
        .state()
        .loaded
        .iter()
        .map(|record| {
            let submit = if record.usage_type == usage_sandbox::UsageType::Storage {
                String::new()
            } else {
                record.submit_time.clone()
            };
            [record.resource.clone(), record.local_record_id.clone(), submit, record.charge.clone()]
        })
        .collect();
    records.sort();
    records
}

#[test]
fn the_demo_goes_the_whole_way_and_twice_sends_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &["demo"]);
    assert_eq!(first.status, 0, "{}{}", first.stdout, first.stderr);
    let read = || -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("amie-demo/summary.json")).unwrap())
            .unwrap()
    };
    as_expected(&read());
    assert_eq!((read()["rejected"].as_u64(), read()["failed"].as_u64()), (Some(3), Some(2)));
    let second = run(folder.path(), &["demo"]);
    assert_eq!(second.status, 0, "{}{}", second.stdout, second.stderr);
    assert!(second.stdout.contains("nothing: all that is owed was sent before"), "{}", second.stdout);
    as_expected(&read());
    let report = std::fs::read_to_string(folder.path().join("amie-demo/report.html")).unwrap();
    assert!(report.contains("TG-CHE260002") && !report.contains("<script"), "the report");
}

#[test]
fn the_service_ends_up_with_exactly_the_expected_records() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    let night = site.run(&["run", "--wait", "20", "--summary", "summary.json", "--report", "report.html"]);
    // Runs are newly held, and a line is newly quarantined: a person is needed.
    assert_eq!(night.status, 1, "{}", night.stderr);
    as_expected(&site.summary());
    assert_eq!(loaded(&service), expected_records());
    assert_eq!(
        site.summary()["loaded"],
        expected_records().iter().filter(|record| !record[2].is_empty()).count()
    );
    // The next night there is nothing to do, and nobody is needed for anything new.
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "1"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    assert_eq!(service.state().posts, posts, "a second night posts nothing");
    assert_eq!(loaded(&service), expected_records());
}

#[test]
fn refused_and_failed_records_are_kept_until_a_person_retries_them() {
    let service = Service::start(Settings {
        refuse: vec![Rule::new("Username", "pbdave", "not known")],
        fail_load: vec![Rule::new(
            "LocalRecordID",
            "4.pbssrv",
            "Allocation could not be found for user pbcarol",
        )],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    let night = site.run(&["run", "--wait", "20", "--json"]);
    assert_eq!(night.status, 1, "{}", night.stderr);
    let summary: Value = serde_json::from_str(&night.stdout).unwrap();
    assert_eq!(
        (summary["rejected"].as_u64(), summary["failed"].as_u64()),
        (Some(1), Some(1)),
        "{}",
        night.stderr
    );
    let status = site.run(&["status"]);
    assert!(status.stdout.contains("Allocation could not be found for user pbcarol"), "{}", status.stdout);
    assert_eq!(status.status, 1);
    let key =
        status.stdout.lines().map(str::trim).find(|line| line.starts_with("pbs/pbssrv/0000000004/")).unwrap();
    let retried = site.run(&["held", "retry", key, "--reason", "the allocation was opened"]);
    assert_eq!(retried.status, 0, "{}", retried.stderr);
    let explained = site.run(&["explain", "4.pbssrv"]);
    assert!(explained.stdout.contains("the allocation was opened"), "{}", explained.stdout);
    let night = site.run(&["run", "--wait", "5"]);
    assert!(night.stderr.contains("1 POST(s): 1 accepted"), "{}", night.stderr);
}

#[test]
fn storage_that_may_have_arrived_is_never_sent_again_without_a_person() {
    let faults = vec!["drop-after-storing@post".parse().unwrap()];
    let service = Service::start(Settings { faults, ..Settings::default() });
    let site = Site::new();
    site.send_to(&service.url());
    // All three readings are stored, and the answer is lost.
    let night = site.run(&["run", "--source", "scratch", "--summary", "summary.json"]);
    assert_eq!(night.status, 3, "{}", night.stderr);
    assert_eq!((site.summary()["unknown"].as_u64(), service.state().loaded.len()), (Some(3), 3));
    service.sandbox().clear_faults();
    let posts = service.state().posts;
    for _ in 0..2 {
        site.run(&["run", "--source", "scratch", "--summary", "summary.json"]);
        assert_eq!((service.state().posts, service.state().loaded.len()), (posts, 3), "sent again blindly");
    }
    let status = site.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let unknown =
        status["attention"].as_array().unwrap().iter().find(|item| item["kind"] == "unknown").unwrap();
    let keys: Vec<&str> = unknown["examples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|example| example["what"].as_str().unwrap())
        .collect();
    // A person looks: two are there; of the third the person believes that it is not.
    let settle = |key: &str, outcome: &str| {
        let said = site.run(&["held", "settle", key, "--outcome", outcome, "--reason", "asked the service"]);
        assert_eq!(said.status, 0, "{}", said.stderr);
    };
    settle(keys[0], "arrived");
    settle(keys[1], "arrived");
    settle(keys[2], "missing");
    site.run(&["run", "--source", "scratch", "--summary", "summary.json"]);
    assert_eq!(service.state().posts, posts + 1);
    assert_eq!((site.summary()["unknown"].as_u64(), site.summary()["accepted"].as_u64()), (Some(0), Some(3)));
}

#[test]
fn a_changed_reading_is_held_and_not_sent_beside_the_first() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.run(&["run", "--source", "scratch"]);
    assert_eq!(service.state().loaded.len(), 3);
    let report = site.read("quota/scratch-2026-11-23.csv");
    site.write("quota/scratch-2026-11-23.csv", &report.replace("#1001,ok,ok,504,", "#1001,ok,ok,999,"));
    let night = site.run(&["run", "--source", "scratch"]);
    assert_eq!(night.status, 1, "{}", night.stderr);
    assert!(night.stderr.contains("held: may-add"), "{}", night.stderr);
    assert_eq!(service.state().loaded.len(), 3, "nothing was added");
}

#[test]
fn a_held_run_is_sent_when_the_table_knows_its_account() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    let before = service.state().loaded.len();
    let held = site.run(&["held", "--reason", "unknown-project"]);
    assert!(held.stdout.contains("slurm/testhpc/0000000039/1795427134"), "{}", held.stdout);
    // The input may be gone by then: the ledger kept what it needs.
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    site.write("projects.csv", &format!("{}nosuchacct,TG-NEW000001\n", site.read("projects.csv")));
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!(service.state().loaded.len(), before + 1, "{}", night.stderr);
    assert!(service.state().loaded.iter().any(|record| record.local_project_id == "TG-NEW000001"));
    // Waived is waived: it is not asked again.
    let waived =
        site.run(&["held", "waive", "slurm/testhpc/0000000038/1795427134", "--reason", "a test of ours"]);
    assert_eq!(waived.status, 0, "{}", waived.stderr);
    assert!(!site.run(&["held", "--reason", "no-account"]).stdout.contains("0000000038"));
}

#[test]
fn a_dry_run_prints_the_messages_and_touches_nothing() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    let dry = site.run(&["run", "--dry-run"]);
    assert_eq!(dry.status, 1, "{}", dry.stderr);
    let messages: Vec<Value> = dry.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records: usize = messages.iter().map(|message| message["Records"].as_array().unwrap().len()).sum();
    assert_eq!(records, expected_records().len());
    assert_eq!(service.state().posts, 0);
    assert!(!site.path("ledger.db").exists());
    // What was sent is not in the next dry run.
    site.run(&["run", "--wait", "20"]);
    let dry = site.run(&["run", "--dry-run"]);
    assert_eq!(dry.stdout, "", "{}", dry.stderr);
}

#[test]
fn explain_says_where_a_charge_comes_from() {
    let site = Site::new();
    let said = site.run(&["explain", "91.pbssrv"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    // Three runs of one job, each with its own record.
    for part in ["91.pbssrv.r2", "91.pbssrv.r3", "core_hours * factor.queue", "pbs/20261123:"] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    let json: Value = serde_json::from_str(&site.run(&["explain", "91.pbssrv", "--json"]).stdout).unwrap();
    let sources = json["sources"].as_array().unwrap();
    assert_eq!(sources.iter().filter(|one| one["explanation"].is_object()).count(), 3);
    // And before each the record that it was started; first of all, that the job was queued.
    assert_eq!(sources.iter().filter(|one| one["informational"].is_string()).count(), 4);
    let said = site.run(&["explain", "987654321"]);
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("nothing is known of"), "{}", said.stderr);
}

#[test]
fn charges_in_the_summary_are_the_sums_of_the_records() {
    let sum = |resource: &str| {
        expected_records()
            .iter()
            .filter(|record| record[0] == resource)
            .fold(Decimal::ZERO, |sum, record| sum.checked_add(record[3].parse().unwrap()).unwrap())
    };
    for (resource, charge) in expected()["charge"].as_object().unwrap() {
        assert_eq!(sum(resource).to_string(), charge.as_str().unwrap(), "{resource}");
    }
}

#[test]
fn a_message_of_nothing_but_a_refused_record_needs_a_person() {
    let service = Service::start(Settings {
        refuse: vec![Rule::new("LocalRecordID", "4711", "not known")],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    site.run(&["run", "--wait", "20"]);
    let night = site.run(&["run", "--wait", "5"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    let name = "sacct/testhpc-2026-11-23.txt";
    let text = site.read(name);
    let row = text.lines().find(|line| line.starts_with("1|1|1|")).unwrap();
    site.write(name, &format!("{text}{}\n", row.replacen("1|1|1|", "4711|4711|4711|", 1)));
    let night = site.run(&["run", "--wait", "5"]);
    assert!(night.stderr.contains("1 POST(s): 0 accepted, 1 refused"), "{}", night.stderr);
    assert_eq!(night.status, 1, "{}", night.stderr);
    let explained = site.run(&["explain", "4711"]).stdout;
    assert!(explained.contains("refused") && explained.contains("not known"), "{explained}");
    assert_eq!(site.run(&["run", "--wait", "5"]).status, 0, "it is said once");
}

#[test]
fn a_dry_run_shows_what_maps_now_also_where_its_input_is_gone() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.run(&["run", "--wait", "20"]);
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    site.write("projects.csv", &format!("{}nosuchacct,TG-NEW000001\n", site.read("projects.csv")));
    let dry = site.run(&["run", "--dry-run"]);
    let shown: Vec<Value> = dry.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.len(), 1, "{}{}", dry.stdout, dry.stderr);
    assert_eq!(shown[0]["Records"][0]["LocalRecordID"], "39");
    let before = service.state().loaded.len();
    site.run(&["run", "--wait", "20"]);
    assert_eq!(service.state().loaded.len(), before + 1);
}
