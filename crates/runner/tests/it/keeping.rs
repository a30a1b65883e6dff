//! Keeping a ledger: verified, exported; texts that could not be read, tried again and dismissed.

use crate::support::{Service, Site, expected_records};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use usage_sandbox::Settings;

/// A site after a night against a service that takes everything.
fn after_a_night() -> (Service, Site) {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    (service, site)
}

/// A CSV text as maps from column to cell.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let line = |record: csv::StringRecord| {
        header.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect()
    };
    reader.records().map(|record| line(record.unwrap())).collect()
}

#[test]
fn a_sound_ledger_is_said_to_be_sound_and_a_false_one_is_not() {
    let (_service, site) = after_a_night();
    let said = site.run(&["ledger", "verify"]);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("sound;"), "{}", said.stdout);
    let json: Value = serde_json::from_str(&site.run(&["ledger", "verify", "--json"]).stdout).unwrap();
    assert_eq!((&json["sound"], json["faults"].as_array().unwrap().len()), (&Value::Bool(true), 0));
    // Somebody edits it by hand.
    let edits = [
        (
            "UPDATE record SET state = 1 WHERE key = (SELECT min(key) FROM record WHERE state = 6)",
            "leads to loaded",
        ),
        (
            "UPDATE tally SET charge = '999' WHERE (usage_type, resource, project, state) = \
             (SELECT usage_type, resource, project, state FROM tally WHERE state = 6 LIMIT 1)",
            "totals",
        ),
        ("DELETE FROM identity WHERE local_record_id = '4.pbssrv'", "does not own its wire identity"),
        ("DELETE FROM record WHERE key = (SELECT min(key) FROM record WHERE state = 6)", "identities"),
    ];
    let sound = std::fs::read(site.path("ledger.db")).unwrap();
    for (edit, found) in edits {
        std::fs::write(site.path("ledger.db"), &sound).unwrap();
        let connection = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
        assert_eq!(connection.execute(edit, []).unwrap(), 1, "{edit}");
        drop(connection);
        let said = site.run(&["ledger", "verify"]);
        assert_eq!(said.status, 1, "{edit}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(found), "{edit}: {}", said.stdout);
        assert!(said.stderr.contains("restore a backup"), "{edit}: {}", said.stderr);
        let json = site.run(&["ledger", "verify", "--json"]);
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["sound"], Value::Bool(false), "{edit}");
    }
}

#[test]
fn an_export_has_every_row_with_its_exact_charge_in_both_forms() {
    let (_service, site) = after_a_night();
    let csv = site.run(&["ledger", "export"]);
    assert_eq!(csv.status, 0, "{}", csv.stderr);
    let rows = table(&csv.stdout);
    let sent: BTreeSet<[String; 3]> = rows
        .iter()
        .filter(|row| row["state"] == "loaded")
        .map(|row| ["resource", "local_record_id", "loaded_charge"].map(|name| row[name].clone()))
        .collect();
    let owed: BTreeSet<[String; 3]> = expected_records()
        .into_iter()
        .filter(|record| !record[2].is_empty())
        .map(|[resource, id, _, charge]| [resource, id, charge])
        .collect();
    assert_eq!(sent, owed);
    assert!(rows.iter().any(|row| row["state"] == "held" && row["charge"].is_empty()));
    // The same in the other form, into a file.
    let said = site.run(&["ledger", "export", "rows", "--format", "ndjson", "--output", "rows.ndjson"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    let lines: Vec<Value> =
        site.read("rows.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(
            (line["key"].as_str(), line["charge"].as_str()),
            (Some(row["key"].as_str()), Some(row["charge"].as_str()).filter(|charge| !charge.is_empty()),)
        );
    }
    // Events tell every batch; numbers grow.
    let events = table(&site.run(&["ledger", "export", "events"]).stdout);
    let numbers: Vec<i64> = events.iter().map(|event| event["event"].parse().unwrap()).collect();
    assert!(numbers.is_sorted() && events.iter().any(|event| event["what"] == "leased"));
}

#[test]
fn a_name_that_is_a_formula_is_only_a_text_in_a_spreadsheet() {
    let site = Site::new();
    let service = Service::start(Settings::default());
    site.send_to(&service.url());
    let formula = "=HYPERLINK(\"http://example.org\")";
    let rows = site.read("sacct/testhpc-2026-11-23.txt");
    site.write("sacct/testhpc-2026-11-23.txt", &format!("{rows}{formula}|too short\n"));
    site.run(&["run", "--wait", "20"]);
    let texts = table(&site.run(&["ledger", "export", "quarantine"]).stdout);
    let hostile = texts.iter().find(|text| text["text"].contains("HYPERLINK")).unwrap();
    assert!(hostile["text"].starts_with("'="), "{}", hostile["text"]);
    let cells = texts.iter().flat_map(BTreeMap::values);
    assert!(cells.clone().count() > 20);
    for cell in cells {
        assert!(!cell.starts_with(['=', '+', '@']), "{cell}");
    }
}

#[test]
fn quarantined_texts_are_listed_tried_again_and_dismissed_and_never_counted_twice() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    let file = "sacct/testhpc-2026-11-23.txt";
    let whole = site.read(file);
    // A transfer that was cut off: the last row has no end.
    let cut = whole.trim_end().len() - 30;
    site.write(file, &whole[..cut]);
    site.run(&["run", "--wait", "20"]);
    let listed = site.run(&["quarantine"]);
    assert_eq!(listed.status, 1, "{}", listed.stderr);
    assert!(
        listed.stdout.contains("cut-off") && listed.stderr.contains("quarantine retry"),
        "{}",
        listed.stdout
    );
    let ids = |arguments: &[&str]| -> Vec<String> {
        let said = site.run(arguments);
        said.stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
            .collect()
    };
    let (all, cut_off) =
        (ids(&["quarantine", "--json"]), ids(&["quarantine", "--json", "--reason", "cut-off"]));
    assert_eq!((all.len(), cut_off.len()), (3, 1));
    // Read once more, nothing is new.
    let again = site.run(&["run", "--json"]);
    assert!(again.stderr.contains("newly quarantined 0"), "{}", again.stderr);
    assert_eq!(ids(&["quarantine", "--json"]), all);
    let retried = site.run(&["quarantine", "retry", "--json"]);
    let retried: Value = serde_json::from_str(&retried.stdout).unwrap();
    assert_eq!((&retried["closed"], retried["still"].as_array().unwrap().len()), (&serde_json::json!([]), 3));
    // The whole file arrives: the record is read, the text is closed, the others stay.
    site.write(file, &whole);
    let retried = site.run(&["quarantine", "retry", &cut_off[0]]);
    assert_eq!(retried.status, 0, "{}{}", retried.stdout, retried.stderr);
    assert!(retried.stdout.contains("1 closed, 0 still cannot be read"), "{}", retried.stdout);
    assert_eq!(ids(&["quarantine", "--json"]).len(), 2);
    // What is dismissed stays so, whoever reads the file again.
    let left = ids(&["quarantine", "--json"]);
    let said =
        site.run(&["quarantine", "dismiss", &left[0], &left[1], "--reason", "a banner of the login node"]);
    assert_eq!((said.status, said.stdout.trim()), (0, "2 dismissed"), "{}", said.stderr);
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    assert!(ids(&["quarantine", "--json"]).is_empty());
    assert_eq!(site.run(&["quarantine"]).status, 0);
    let exported = table(&site.run(&["ledger", "export", "quarantine"]).stdout);
    assert_eq!(exported.iter().filter(|text| text["closed_why"] == "a banner of the login node").count(), 2);
    // A number that is not open, and a file that is gone, are said.
    assert_eq!(site.run(&["quarantine", "dismiss", "999", "--reason", "x"]).status, 1);
    let held: Vec<_> = service.state().loaded;
    assert_eq!(held.len(), expected_records().len(), "each record once");
}

#[test]
fn a_text_whose_file_is_gone_cannot_be_tried_again_and_that_is_said() {
    let (_service, site) = after_a_night();
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    let said = site.run(&["quarantine", "retry"]);
    assert_eq!(said.status, 1, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("put the file back, or dismiss it"), "{}", said.stderr);
    assert_eq!(site.run(&["quarantine"]).status, 1, "they are still open");
}

/// The resource of the demo's PBS jobs, and a day on which half of them had ended.
const PBS: &str = "pbs.testsite.access-ci.org";

/// What the service holds of a resource.
fn held_of(service: &Service, resource: &str) -> BTreeSet<String> {
    let loaded = service.state().loaded.into_iter().filter(|record| record.resource == resource);
    loaded.map(|record| record.local_record_id).collect()
}

/// The expected records of a resource, with the time that each ended.
fn owed_of(resource: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(crate::support::fixtures().join("expected/demo-records.tsv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let (name, id, end) = (column("Resource"), column("LocalRecordID"), column("EndTime"));
    let rows = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[name] == resource).map(|row| (row[id].to_owned(), row[end].to_owned())).collect()
}

#[test]
fn what_ended_before_go_live_is_recorded_and_never_sent_by_surprise() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    let owed = owed_of(PBS);
    let since = |day: &str| -> BTreeSet<String> {
        owed.iter().filter(|(_, end)| end.as_str() >= day).map(|(id, _)| id.clone()).collect()
    };
    let name = format!("name = \"{PBS}\"");
    let go_live = |day: &str| format!("{name}\ngo_live = {day}");
    site.configure(&name, &go_live("2026-11-23"));
    // A dry run sends neither.
    let dry = site.run(&["run", "--dry-run", "--source", "pbs"]);
    let records = dry.stdout.matches("\"LocalRecordID\"").count();
    assert_eq!(records, since("2026-11-23").len(), "{}", dry.stderr);
    let night = site.run(&["run", "--wait", "20", "--summary", "summary.json"]);
    assert!(
        night.stderr.contains("of what ended before go-live: recorded, and not sent"),
        "{}",
        night.stderr
    );
    assert!(since("2026-11-23").len() < owed.len(), "the fixture has runs before");
    assert_eq!(held_of(&service, PBS), since("2026-11-23"));
    let posts = service.state().posts;
    let rows = table(&site.run(&["ledger", "export"]).stdout);
    let recorded = rows.iter().filter(|row| row["resource"] == PBS && row["state"] == "superseded");
    assert_eq!(recorded.count(), owed.len() - since("2026-11-23").len());
    // The line goes, or names an earlier day: nothing of it is sent, and it is said.
    for line in [name.clone(), go_live("2020-01-01")] {
        site.configure(&go_live("2026-11-23"), &line);
        let night = site.run(&["run", "--wait", "20"]);
        assert_eq!((service.state().posts, held_of(&service, PBS)), (posts, since("2026-11-23")));
        let check = site.run(&["check"]);
        assert!(check.stdout.contains(&format!("ledger go-live {PBS}")), "{line}: {}", check.stdout);
        assert_eq!(check.status, 1);
        assert_eq!(night.stderr.contains("what ended between is not sent"), line != name, "{}", night.stderr);
        site.configure(&line, &go_live("2026-11-23"));
    }
    // A person wants all of November: the configuration first, then the ledger.
    let decide = ["ledger", "go-live", PBS, "--from", "2026-11-01", "--reason", "the old script missed them"];
    assert_eq!(site.run(&decide).status, 2, "the configuration says otherwise");
    site.configure(&go_live("2026-11-23"), &go_live("2026-11-01"));
    assert_eq!(site.run(&["ledger", "go-live"]).status, 1);
    let said = site.run(&decide);
    assert_eq!(said.status, 0, "{}", said.stderr);
    assert_eq!(site.run(&["ledger", "go-live"]).status, 0);
    site.run(&["run", "--wait", "20"]);
    assert_eq!(held_of(&service, PBS), since("2026-11-01"));
    let events = table(&site.run(&["ledger", "export", "events"]).stdout);
    assert!(events.iter().any(|event| event["detail"].contains("the old script missed them")));
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
}

#[test]
fn a_later_go_live_withholds_what_waits_and_leaves_what_was_sent() {
    let mut service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    service.stop();
    assert_eq!(site.run(&["run", "--source", "pbs"]).status, 3, "all of it waits");
    let name = format!("name = \"{PBS}\"");
    site.configure(&name, &format!("{name}\ngo_live = 2026-11-23"));
    // Even where the input is not read again.
    for file in ["pbs/20261031", "pbs/20261101", "pbs/20261123"] {
        std::fs::remove_file(site.path(file)).unwrap();
    }
    site.run(&["run", "--source", "pbs"]);
    let rows = table(&site.run(&["ledger", "export"]).stdout);
    let owed = owed_of(PBS);
    let early = owed.iter().filter(|(_, end)| end.as_str() < "2026-11-23").count();
    let count =
        |state: &str| rows.iter().filter(|row| row["resource"] == PBS && row["state"] == state).count();
    assert_eq!(
        (count("superseded"), count("superseded") + count("pending") + count("unknown")),
        (early, owed.len())
    );
    assert_eq!(site.run(&["ledger", "verify"]).status, 0);
}

/// Identity -> how many versions of it the service was ever sent.
fn versions(service: &Service) -> BTreeMap<String, usize> {
    let compute =
        service.state().history.into_iter().filter(|one| one.usage_type == usage_sandbox::UsageType::Compute);
    compute.map(|one| (format!("{} {}", one.resource, one.local_record_id), one.versions.len())).collect()
}

#[test]
fn what_the_service_shows_as_loaded_is_imported_and_not_sent_again() {
    // Somebody else sent everything: the same records under the same identities.
    let (service, _old) = after_a_night();
    let before = versions(&service);
    let site = Site::new();
    site.send_to(&service.url());
    let said =
        site.run(&["ledger", "import-sent", "--from-service", "--json", "--reason", "the script of 2019"]);
    assert_eq!(said.status, 0, "{}{}", said.stdout, said.stderr);
    let counts: Value = serde_json::from_str(&said.stdout).unwrap();
    let compute = expected_records().iter().filter(|record| !record[2].is_empty()).count();
    assert_eq!((&counts["imported"], &counts["known"]), (&compute.into(), &0.into()));
    let night = site.run(&["run", "--wait", "20"]);
    assert!(night.stderr.contains(&format!("{compute} record(s) that were imported")), "{}", night.stderr);
    assert_eq!(versions(&service), before, "nothing of it was sent again");
    assert!(versions(&service).values().all(|count| *count == 1));
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
    let rows = table(&site.run(&["ledger", "export"]).stdout);
    let loaded = rows.iter().filter(|row| row["state"] == "loaded");
    assert_eq!(loaded.filter(|row| !row["key"].starts_with("imported/")).count(), compute);
    // Once more: all of it is known.
    let said = site.run(&["ledger", "import-sent", "--from-service", "--reason", "again"]);
    assert_eq!(said.stdout.trim(), format!("0 imported, {compute} known before"));
    let explained = site.run(&["explain", "91.pbssrv"]);
    assert!(explained.stdout.contains("imported"), "{}", explained.stdout);
}

#[test]
fn a_table_of_what_was_sent_is_imported_and_another_charge_is_said_and_not_sent() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    let compute: Vec<[String; 4]> =
        expected_records().into_iter().filter(|record| !record[2].is_empty()).collect();
    let (sent, rest) = compute.split_at(50);
    let mut csv = "charge,resource,local_record_id,submit_time\n".to_owned();
    for (number, [resource, id, submit, charge]) in sent.iter().enumerate() {
        // The old script charged one of them otherwise.
        let charge = if number == 7 { "123.5" } else { charge };
        csv += &format!("{charge},{resource},{id},{submit}\n");
    }
    // One that is held today, for its account is unknown; and one of a job that no source has.
    csv +=
        "1,testhpc-cpu.testsite.access-ci.org,39,1795427134\n1,testhpc-cpu.testsite.access-ci.org,777777,5\n";
    site.write("sent.csv", &format!("{csv}1,{},8,yesterday\n", sent[0][0]));
    let refused = site.run(&["ledger", "import-sent", "sent.csv", "--reason", "the old script"]);
    assert_eq!(refused.status, 2, "{}", refused.stdout);
    assert!(refused.stderr.contains("sent.csv: line 54: submit_time"), "{}", refused.stderr);
    assert!(!site.path("ledger.db").exists(), "nothing of it was taken over");
    site.write("sent.csv", &csv);
    let said = site.run(&["ledger", "import-sent", "sent.csv", "--reason", "the old script"]);
    assert_eq!((said.status, said.stdout.trim()), (0, "52 imported, 0 known before"), "{}", said.stderr);
    site.run(&["run", "--wait", "20"]);
    let held: BTreeSet<String> =
        versions(&service).keys().map(|identity| identity.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(held, rest.iter().map(|record| record[1].clone()).collect(), "the others alone were sent");
    let rows = table(&site.run(&["ledger", "export"]).stdout);
    let drifted: Vec<_> = rows.iter().filter(|row| row["drifted"] == "true").collect();
    assert_eq!(drifted.len(), 1);
    assert_eq!(
        (&drifted[0]["local_record_id"], &drifted[0]["sent_charge"]),
        (&sent[7][1], &"123.5".to_owned())
    );
    // The held one maps now, and was sent before.
    let posts = service.state().posts;
    site.write("projects.csv", &format!("{}nosuchacct,TG-NEW000001\n", site.read("projects.csv")));
    site.run(&["run", "--wait", "20"]);
    assert_eq!(service.state().posts, posts, "39 was sent by the old script");
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
    assert_eq!(site.run(&["run"]).status, 0, "nothing new");
}

#[test]
fn compacting_forgets_closed_texts_and_nothing_of_what_was_sent() {
    let (service, site) = after_a_night();
    let ids: Vec<String> = table(&site.run(&["ledger", "export", "quarantine"]).stdout)
        .iter()
        .map(|text| text["id"].clone())
        .collect();
    let arguments = [
        &["quarantine", "dismiss", "--reason", "banners"],
        &ids.iter().map(String::as_str).collect::<Vec<_>>()[..],
    ];
    assert_eq!(site.run(&arguments.concat()).status, 0);
    let exports = || ["rows", "events"].map(|what| site.run(&["ledger", "export", what]).stdout);
    let before = exports();
    // Closed a moment ago: kept by default, and known by their content when it is gone.
    let said = site.run(&["ledger", "compact", "--json"]);
    let counts: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (said.status, &counts["texts"], &counts["files"]),
        (0, &0.into(), &0.into()),
        "{}",
        said.stderr
    );
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let said = site.run(&["ledger", "compact", "--keep-days", "0", "--json"]);
    let counts: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&counts["texts"], said.status), (&ids.len().into(), 0), "{}", said.stderr);
    // One of Slurm, three of PBS, one quota report.
    assert_eq!(counts["files"], 5, "{}", said.stdout);
    assert!(counts["bytes_after"].as_u64() <= counts["bytes_before"].as_u64(), "{}", said.stdout);
    assert_eq!(exports(), before, "rows, identities, digests and events stay");
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "5"]);
    assert_eq!((night.status, service.state().posts), (0, posts), "{}", night.stderr);
    assert!(night.stderr.contains("newly quarantined 0"), "{}", night.stderr);
    assert_eq!(site.run(&["quarantine"]).status, 0);
    assert_eq!(site.run(&["ledger", "verify"]).status, 0);
}

#[test]
fn a_text_that_was_closed_by_reading_again_is_asked_anew_when_it_is_seen_again() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    let (file, other) = ("sacct/testhpc-2026-11-23.txt", "sacct/testhpc-2026-11-24.txt");
    let whole = site.read(file);
    let header = whole.lines().next().unwrap();
    site.write(file, &format!("{whole}torn|in both\n"));
    site.write(other, &format!("{header}\ntorn|in both\n"));
    let open = || -> Vec<Value> {
        let said = site.run(&["quarantine", "--json"]);
        let texts = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        texts.filter(|text: &Value| text["text"] == "torn|in both").collect()
    };
    site.run(&["run", "--wait", "20"]);
    let first = open();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0]["file"].as_str().unwrap().ends_with(file), "{first:?}");
    // One of the two is put right.
    site.write(file, &whole);
    let retried = site.run(&["quarantine", "retry", &first[0]["id"].to_string()]);
    assert!(retried.stdout.contains("1 closed"), "{}", retried.stdout);
    assert!(open().is_empty());
    let night = site.run(&["run", "--wait", "20"]);
    let again = open();
    assert_eq!((again.len(), night.status), (1, 1), "{}", night.stderr);
    assert!(again[0]["file"].as_str().unwrap().ends_with(other), "{again:?}");
    assert!(night.stderr.contains("newly quarantined 1"), "{}", night.stderr);
    // Asked once, not every night; and what a person dismisses stays so.
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 0);
    assert_eq!(open()[0]["id"], again[0]["id"]);
    site.run(&["quarantine", "dismiss", &again[0]["id"].to_string(), "--reason", "no usage"]);
    site.run(&["run", "--wait", "20"]);
    assert!(open().is_empty());
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
}
