//! The command line over a real PostgreSQL ledger: a whole night, a server that goes away in the middle of one, runners that
//! are killed, two at once.

use crate::postgres_server::Server;
use crate::support::{Service, Site, amie_runner, expected_records};
use std::process::Stdio;
use usage_sandbox::{Settings, UsageType};

/// A site whose ledger is in a database of its own.
fn site(service: &Service, server: &Server) -> (Site, String) {
    let (database, url) = server.database();
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_records = 1000", "max_records = 25");
    site.configure("url = \"sqlite:ledger.db\"", &format!("url = \"{url}\""));
    (site, database)
}

/// What the service holds of compute records: exactly what is owed, each once.
fn exactly_once(service: &Service, what: &str) {
    let mut held: Vec<[String; 4]> = service
        .state()
        .loaded
        .iter()
        .filter(|record| record.usage_type == UsageType::Compute)
        .map(|record| {
            [&record.resource, &record.local_record_id, &record.submit_time, &record.charge]
                .map(String::clone)
        })
        .collect();
    held.sort();
    let wanted: Vec<_> = expected_records().into_iter().filter(|record| !record[2].is_empty()).collect();
    assert_eq!(held, wanted, "{what}");
}

/// Runs until nothing is left to do; as if the time of every lease were over.
fn finish(site: &Site, service: &Service, server: &Server, database: &str, what: &str) {
    let mut said = String::new();
    for _ in 0..4 {
        server.sql(database, "UPDATE batch SET lease_until = 0 WHERE settled_at IS NULL");
        let next = site.run(&RUN);
        assert!([0, 1].contains(&next.status), "{what}: {}", next.stderr);
        said = next.stderr;
        if next.status == 0 {
            break;
        }
    }
    exactly_once(service, &format!("{what}: {said}"));
    let summary = site.summary();
    assert_eq!((&summary["pending"], &summary["sending"]), (&0.into(), &0.into()), "{what}: {said}");
}

const RUN: [&str; 5] = ["run", "--wait", "10", "--summary", "summary.json"];

#[test]
fn a_night_on_postgresql_is_a_night() {
    let Some(server) = crate::postgres_server::shared() else { return };
    let service = Service::start(Settings::default());
    let (site, _) = site(&service, server);
    let said = site.run(&["status"]);
    assert!(said.status == 2 && said.stderr.contains("there is no ledger yet"), "{}", said.stderr);
    let said = site.run(&["check"]);
    assert!(!said.stdout.contains("error"), "{}{}", said.stdout, said.stderr);
    let dry = site.run(&["run", "--dry-run"]);
    assert!(dry.stderr.contains("nothing was sent"), "{}", dry.stderr);
    let first = site.run(&RUN);
    assert!([0, 1].contains(&first.status), "{}", first.stderr);
    exactly_once(&service, &first.stderr);
    let loaded = site.summary()["loaded"].clone();
    let again = site.run(&RUN);
    assert_eq!((again.status, &site.summary()["loaded"]), (0, &loaded), "{}", again.stderr);
    exactly_once(&service, &again.stderr);
    let said = site.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(status["totals"]["loaded"], loaded);
    let dry = site.run(&["run", "--dry-run"]);
    assert!(dry.stderr.contains("0 message(s)"), "{}", dry.stderr);
    let explained = site.run(&["explain", "91.pbssrv"]);
    assert!(explained.stdout.contains("loaded"), "{}", explained.stdout);
}

#[test]
fn a_database_that_goes_away_in_the_middle_is_exit_3_and_the_next_run_goes_on() {
    let Some(server) = Server::start() else { return };
    for place in ["ingested:1", "leased:2", "answered:2", "settled:3", "submitted:1"] {
        let service = Service::start(Settings::default());
        let (site, database) = site(&service, &server);
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_amie-runner"))
            .current_dir(site.folder.path())
            .args(RUN)
            .env("AMIE_PAUSE_AT", place)
            .env("AMIE_PAUSE_FILE", site.path("paused"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It stands still there; meanwhile the server dies.
        let marker = site.path("paused");
        while !marker.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{place}: it was not paused");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        server.down("QUIT");
        std::fs::remove_file(&marker).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{place}: {said}");
        assert!(said.contains("cannot be reached") && said.contains("run again"), "{place}: {said}");
        server.up();
        finish(&site, &service, &server, &database, place);
    }
}

#[test]
fn killed_at_every_place_the_next_runner_takes_over() {
    let Some(server) = crate::postgres_server::shared() else { return };
    let places = [
        "committing:1",
        "committed:1",
        "ingested:1",
        "leased:1",
        "leased:3",
        "answered:1",
        "settled:1",
        "submitted:1",
        "seen:1",
        "confirmed:1",
    ];
    for place in places {
        let service = Service::start(Settings::default());
        let (site, database) = site(&service, server);
        let killed = amie_runner(site.folder.path()).args(RUN).env("AMIE_CRASH_AT", place).output().unwrap();
        assert_eq!(killed.status.code(), None, "{place}: {}", String::from_utf8_lossy(&killed.stderr));
        finish(&site, &service, server, &database, place);
    }
}

#[test]
fn two_runners_on_two_hosts_send_each_record_once() {
    let Some(server) = crate::postgres_server::shared() else { return };
    let service = Service::start(Settings::default());
    let (site, _) = site(&service, server);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let site = &site;
            scope.spawn(move || {
                let summary = format!("summary{number}.json");
                let said = site.run(&["run", "--wait", "10", "--summary", &summary]);
                assert!([0, 1].contains(&said.status), "{}", said.stderr);
            });
        }
    });
    exactly_once(&service, "two at once");
    let compute = expected_records().iter().filter(|record| !record[2].is_empty()).count();
    // Nothing was even sent twice: the sandbox counts what it took, not only what it holds.
    let taken =
        service.state().loaded.iter().filter(|record| record.usage_type == UsageType::Compute).count();
    assert_eq!(taken, compute);
}

#[test]
fn an_older_database_that_is_accepted_adds_nothing_twice() {
    let Some(server) = crate::postgres_server::shared() else { return };
    let service = Service::start(Settings::default());
    let (site, database) = site(&service, server);
    let file = "quota/scratch-2026-11-23.csv";
    let report = site.read(file);
    std::fs::remove_file(site.path(file)).unwrap();
    site.run(&RUN);
    // What a backup of that evening is restored to.
    let older = format!("{database}_older");
    server.sql("postgres", &format!("CREATE DATABASE {older} TEMPLATE {database}"));
    site.write(file, &report);
    site.run(&RUN);
    let stored = || {
        let history = service.state().history;
        let storage = history.iter().filter(|record| record.usage_type == UsageType::Storage);
        storage.map(|record| record.versions.len()).sum::<usize>()
    };
    let owed = expected_records().iter().filter(|record| record[2].is_empty()).count();
    assert_eq!(stored(), owed);
    site.configure(&database, &older);
    let accepted = site.run(&["ledger", "restored", "--reason", "the primary was lost"]);
    assert_eq!(accepted.status, 0, "{}", accepted.stderr);
    let night = site.run(&RUN);
    assert!(night.stderr.contains("held: restored"), "{}", night.stderr);
    assert_eq!(stored(), owed);
    exactly_once(&service, &night.stderr);
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
}

#[test]
fn a_runner_that_wakes_after_its_lease_was_taken_over_settles_its_other_batches() {
    let Some(server) = crate::postgres_server::shared() else { return };
    let service = Service::start(Settings::default());
    let (site, database) = site(&service, server);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_amie-runner"))
        .current_dir(site.folder.path())
        .args(["run", "--wait", "10", "--summary", "paused.json"])
        .env("AMIE_PAUSE_AT", "answered:1")
        .env("AMIE_PAUSE_FILE", site.path("paused"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let marker = site.path("paused");
    while !marker.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it was not paused");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // All leases but the newest are over, and another runner takes over.
    let open = "(SELECT max(id) FROM batch WHERE settled_at IS NULL)";
    server.sql(
        &database,
        &format!("UPDATE batch SET lease_until = 0 WHERE settled_at IS NULL AND id < {open}"),
    );
    let other = site.run(&["run", "--wait", "10", "--summary", "other.json"]);
    assert!([0, 1].contains(&other.status), "{}", other.stderr);
    std::fs::remove_file(&marker).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!([Some(0), Some(1)].contains(&output.status.code()), "{said}");
    assert!(said.contains("another runner took"), "{said}");
    let left = "SELECT count(*) FROM batch WHERE settled_at IS NULL";
    assert_eq!(server.sql(&database, left), "0", "an answer in flight was dropped: {said}");
    exactly_once(&service, &said);
}
