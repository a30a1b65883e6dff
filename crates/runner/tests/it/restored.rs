//! A ledger that was put back from a backup: refused by name, accepted by a person, and nothing added twice.

use crate::support::{Said, Service, Site, amie_runner, expected_records};
use serde_json::Value;
use std::time::Duration;
use usage_sandbox::{Settings, UsageType};

const REPORT: &str = "quota/scratch-2026-11-23.csv";
const ACCEPT: [&str; 4] = ["ledger", "restored", "--reason", "the disk failed"];

/// A site after a night that had neither the storage report nor the last day of the PBS log, the ledger of that evening,
/// and after another night that had both.
fn after_two_nights(service: &Service) -> (Site, Vec<u8>) {
    let site = Site::new();
    site.send_to(&service.url());
    let later = [REPORT, "pbs/20261123"].map(|file| (file, site.read(file)));
    for (file, _) in &later {
        std::fs::remove_file(site.path(file)).unwrap();
    }
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    let backup = ledger(&site);
    for (file, text) in &later {
        site.write(file, text);
    }
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    assert_eq!(counts(service), wanted(), "all is with the service");
    (site, backup)
}

/// The whole ledger: when a run has ended nothing is left in its log.
fn ledger(site: &Site) -> Vec<u8> {
    let log = std::fs::metadata(site.path("ledger.db-wal")).map_or(0, |file| file.len());
    assert_eq!(log, 0);
    std::fs::read(site.path("ledger.db")).unwrap()
}

fn put_back(site: &Site, ledger: &[u8]) {
    std::fs::write(site.path("ledger.db"), ledger).unwrap();
}

/// Compute and storage records that are owed.
fn wanted() -> (usize, usize) {
    let storage = expected_records().iter().filter(|record| record[2].is_empty()).count();
    (expected_records().len() - storage, storage)
}

/// Compute records that the service holds, and storage records that it was sent: it adds those up.
fn counts(service: &Service) -> (usize, usize) {
    let state = service.state();
    let compute = state.loaded.iter().filter(|record| record.usage_type == UsageType::Compute).count();
    let storage = state.history.iter().filter(|record| record.usage_type == UsageType::Storage);
    (compute, storage.map(|record| record.versions.len()).sum())
}

fn refused(said: &Said) {
    assert_eq!(said.status, 2, "{}{}", said.stdout, said.stderr);
    for words in [
        "ledger.db: this ledger is older than the one that was here",
        "`amie-runner ledger restored --reason",
    ] {
        assert!(said.stderr.contains(words) || said.stdout.contains(words), "{}{}", said.stdout, said.stderr);
    }
}

#[test]
fn an_older_ledger_is_refused_until_a_person_accepts_it_and_nothing_is_added_twice() {
    let service = Service::start(Settings::default());
    let (site, backup) = after_two_nights(&service);
    let posts = service.state().posts;
    put_back(&site, &backup);
    let witness = site.read("ledger.db.witness");
    for command in [
        &["run"][..],
        &["check"],
        &["held", "waive", "KEY", "--reason", "why"],
        &["ledger", "compact"],
        &["ledger", "import-sent", "--from-service", "--reason", "why"],
    ] {
        refused(&site.run(command));
    }
    // Questions are answered, and a rehearsal is possible; both say what they speak of.
    let status = site.run(&["status"]);
    assert_eq!(status.status, 1);
    for said in [&status, &site.run(&["explain", "91.pbssrv"]), &site.run(&["run", "--dry-run"])] {
        assert!(said.stderr.contains("ledger.db: this ledger is older"), "{}", said.stderr);
    }
    let json: Value = serde_json::from_str(&site.run(&["status", "--json"]).stdout).unwrap();
    assert!(json["older"].as_str().unwrap().contains("ledger restored --reason"), "{json}");
    assert_eq!(site.run(&ACCEPT[..2]).status, 2, "who accepts it says why");
    assert_eq!((site.read("ledger.db.witness"), service.state().posts), (witness, posts));
    refused(&site.run(&["run"]));

    let accepted = site.run(&ACCEPT);
    assert_eq!(accepted.status, 0, "{}", accepted.stderr);
    assert!(accepted.stderr.contains("import-sent --from-service"), "{}", accepted.stderr);
    let night = site.run(&["run", "--wait", "20"]);
    assert!(night.stderr.contains("held: restored"), "{}", night.stderr);
    assert!(service.state().posts > posts, "compute records are sent again");
    assert_eq!(counts(&service), wanted(), "and overwrite; storage records are not");
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!((night.status, service.state().posts), (0, posts), "nothing new: {}", night.stderr);
    assert_eq!(site.run(&["status"]).stderr, "");

    let waive = ["held", "waive", "--all", "--reason-code", "restored", "--reason", "the service has them"];
    let waived = site.run(&waive);
    assert!(waived.stdout.contains(&wanted().1.to_string()), "{}{}", waived.stdout, waived.stderr);
    // A report of a later day is new.
    site.write("quota/scratch-2099-01-01.csv", &site.read(REPORT));
    site.run(&["run", "--wait", "20"]);
    assert_eq!(counts(&service), (wanted().0, 2 * wanted().1));
    assert_eq!(site.run(&["ledger", "verify"]).status, 0);
    let events = site.run(&["ledger", "export", "events"]).stdout;
    assert!(events.lines().any(|line| line.contains("restored") && line.contains("the disk failed")));
}

#[test]
fn what_the_service_has_is_taken_over_after_a_restore_and_not_sent_again() {
    let service = Service::start(Settings::default());
    let (site, backup) = after_two_nights(&service);
    put_back(&site, &backup);
    assert_eq!(site.run(&ACCEPT).status, 0);
    let imported =
        site.run(&["ledger", "import-sent", "--from-service", "--reason", "sent since the backup"]);
    assert_eq!(imported.status, 0, "{}", imported.stderr);
    let posts = service.state().posts;
    site.run(&["run", "--wait", "20"]);
    assert_eq!((counts(&service), service.state().posts), (wanted(), posts));
    assert_eq!(site.run(&["ledger", "verify"]).status, 0);
}

#[test]
fn a_witness_that_is_missing_damaged_or_of_another_ledger_raises_no_alarm_and_is_made_anew() {
    let service = Service::start(Settings::default());
    let (site, backup) = after_two_nights(&service);
    let newest = ledger(&site);
    let sound = site.read("ledger.db.witness");
    let other = {
        let other = Site::new();
        other.send_to(&service.url());
        assert_eq!(other.run(&["ledger", "import-sent", "--from-service", "--reason", "x"]).status, 0);
        other.read("ledger.db.witness")
    };
    assert_ne!(other, sound);
    let half = &sound.as_bytes()[..sound.len() / 2];
    let torn = [half, &[0; 100]].concat();
    let later = sound.replacen("0000000000", "0000000900", 1);
    assert_ne!(later, sound);
    let long = [0xA5; 100_000];
    for (what, damaged) in [
        ("empty", &b""[..]),
        ("cut off", half),
        ("torn", &torn),
        ("garbage", &long),
        ("another number", later.as_bytes()),
        ("another ledger", other.as_bytes()),
    ] {
        std::fs::write(site.path("ledger.db.witness"), damaged).unwrap();
        let night = site.run(&["run"]);
        assert_eq!(night.status, 0, "{what}: {}", night.stderr);
        assert_eq!(
            night.stderr.contains("another ledger was here"),
            what == "another ledger",
            "{}",
            night.stderr
        );
        assert_eq!(site.read("ledger.db.witness"), sound, "{what}");
    }
    std::fs::remove_file(site.path("ledger.db.witness")).unwrap();
    assert_eq!(site.run(&["run", "--dry-run"]).status, 0);
    assert!(!site.path("ledger.db.witness").exists(), "a dry run writes none");
    assert_eq!(site.run(&["run"]).status, 0);
    assert_eq!(site.read("ledger.db.witness"), sound);
    // And it is believed again.
    put_back(&site, &backup);
    refused(&site.run(&["run"]));
    put_back(&site, &newest);
    assert_eq!(site.run(&["run"]).status, 0, "the newest ledger is back");
    // A backup from before ledgers had witnesses is older, too.
    let connection = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    assert_eq!(connection.execute("DELETE FROM meta WHERE name = 'ledger_id'", []).unwrap(), 1);
    drop(connection);
    refused(&site.run(&["run"]));
    // Where it cannot be written, the ledger works without it, and says so.
    put_back(&site, &newest);
    std::fs::remove_file(site.path("ledger.db.witness")).unwrap();
    std::fs::create_dir(site.path("ledger.db.witness")).unwrap();
    let night = site.run(&["run"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    assert!(night.stderr.contains("an older ledger that is put back is not noticed"), "{}", night.stderr);
}

#[test]
fn a_ledger_that_is_gone_is_missed_until_it_is_back_or_its_witness_is_removed() {
    let service = Service::start(Settings::default());
    let (site, _) = after_two_nights(&service);
    let (newest, posts) = (ledger(&site), service.state().posts);
    std::fs::remove_file(site.path("ledger.db")).unwrap();
    let import = ["ledger", "import-sent", "--from-service", "--reason", "begun anew"];
    for command in [&["run"][..], &["run", "--dry-run"], &["check"], &["status"], &ACCEPT, &import] {
        let said = site.run(command);
        assert_eq!(said.status, 2, "{command:?}: {}{}", said.stdout, said.stderr);
        let all = said.stdout + &said.stderr;
        for words in [
            "ledger.db: the ledger is not here, and ",
            "ledger.db.witness says that it was, with events up to ",
        ] {
            assert!(all.contains(words), "{command:?}: {all}");
        }
        assert!(!site.path("ledger.db").exists());
    }
    assert_eq!(service.state().posts, posts);
    put_back(&site, &newest);
    assert_eq!(site.run(&["run"]).status, 0);
    assert_eq!(service.state().posts, posts);
    // Who means a new one says so.
    std::fs::remove_file(site.path("ledger.db")).unwrap();
    std::fs::remove_file(site.path("ledger.db.witness")).unwrap();
    let check = site.run(&["check"]);
    assert!(check.stdout.contains("will be made by the first run"), "{}", check.stdout);
    site.run(&["run"]);
    assert!(service.state().posts > posts, "a new ledger sends all of it");
}

#[test]
fn a_copy_that_went_another_way_is_refused_however_far_it_went() {
    let service = Service::start(Settings::default());
    let (site, backup) = after_two_nights(&service);
    let first = ledger(&site);
    // Events are told apart by their second.
    std::thread::sleep(Duration::from_millis(1_100));
    put_back(&site, &backup);
    assert_eq!(site.run(&ACCEPT).status, 0);
    // Only a little is done on this one, and on the other there was much more.
    put_back(&site, &first);
    refused(&site.run(&["run"]));
}

#[test]
fn killed_while_it_is_accepted_an_older_ledger_is_refused_still_or_accepted_whole() {
    let service = Service::start(Settings::default());
    let (site, backup) = after_two_nights(&service);
    put_back(&site, &backup);
    let killed_at = |place| {
        let output =
            amie_runner(site.folder.path()).args(ACCEPT).env("AMIE_CRASH_AT", place).output().unwrap();
        assert_eq!(output.status.code(), None, "{place}: it was not killed");
    };
    killed_at("committing:1");
    refused(&site.run(&["run"]));
    killed_at("committed:1");
    site.run(&["run", "--wait", "20"]);
    assert_eq!(counts(&service), wanted());
    assert_eq!(
        site.run(&["held", "--reason", "restored"]).stdout.matches("storage/scratch/").count(),
        wanted().1
    );
    assert_eq!(site.run(&["ledger", "verify"]).status, 0);
}

#[test]
fn what_was_restated_since_the_backup_is_an_alarm() {
    let service = Service::start(Settings::default());
    let (site, _) = after_two_nights(&service);
    let backup = ledger(&site);
    let (once, twice) =
        ("charge = \"core_hours * factor.queue\"", "charge = \"2 * core_hours * factor.queue\"");
    site.configure(once, twice);
    let restate =
        ["restate", "--from", "2026-01-01", "--to", "2027-01-01", "--approve", "--reason", "a wrong rate"];
    site.run(&restate);
    let night = site.run(&["run", "--wait", "20"]);
    assert!(night.stderr.contains("seen with another charge 0"), "{}", night.stderr);
    site.configure(twice, once);
    put_back(&site, &backup);
    assert_eq!(site.run(&ACCEPT).status, 0);
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!((night.status, service.state().posts), (1, posts), "{}", night.stderr);
    let charged =
        expected_records().iter().filter(|record| record[0] == "pbs.testsite.access-ci.org").count();
    assert!(night.stderr.contains(&format!("seen with another charge {charged}")), "{}", night.stderr);
}
