//! Whom no table knows, and what happens when a table changes or grows old.

use crate::support::{Service, Site, fixtures};
use amie_usage::Decimal;
use serde_json::Value;
use std::time::{Duration, SystemTime};
use usage_sandbox::Settings;

/// Charges of a user's runs by resource, as the script worked them out.
fn expected_charges(user: &str) -> std::collections::BTreeMap<String, Decimal> {
    let text = std::fs::read_to_string(fixtures().join("expected/demo-records.tsv")).unwrap();
    let mut sums = std::collections::BTreeMap::new();
    for fields in text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>()) {
        if fields[7] == user && fields[0] != "scratch" {
            let sum = sums.entry(fields[9].to_owned()).or_insert(Decimal::ZERO);
            *sum = sum.checked_add(fields[10].parse().unwrap()).unwrap();
        }
    }
    sums
}

fn without_bob(site: &Site) {
    site.write("users.csv", &site.read("users.csv").replace("bob,bob,,,\n", ""));
}

fn unmapped(site: &Site) -> Vec<Value> {
    let said = site.run(&["check", "--explain-unmapped", "--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let list = report["unmapped"].as_array().unwrap().clone();
    assert_eq!(said.status, i32::from(!list.is_empty()), "{}", said.stderr);
    list
}

#[test]
fn unknown_names_are_listed_by_usage_with_the_row_to_add() {
    let site = Site::new();
    without_bob(&site);
    let list = unmapped(&site);
    let bob = &list[0];
    assert_eq!(
        (&bob["what"], &bob["name"], &bob["cluster"]),
        (&"user".into(), &"bob".into(), &"testhpc".into())
    );
    // Added up by hand over bob's ended rows: 73+0+2+2+5+8+1+1+1+1+17+20+20+28+8+80+80+48.
    assert_eq!((&bob["runs"], &bob["core_seconds"]), (&18.into(), &395.into()));
    assert_eq!(bob["core_hours"], "0.109");
    assert_eq!(bob["charge"], serde_json::to_value(expected_charges("bob")).unwrap());
    assert_eq!(bob["row"], "bob,<Username>,testhpc,,");
    // A run whose account is unknown hides that its user is, too: both are listed.
    let names: Vec<&str> = list.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in ["domain users", "nosuchacct", "pberin", "#1004", "#9999"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let nobody = list.iter().find(|entry| entry["name"].is_null()).unwrap();
    assert_eq!((&nobody["runs"], &nobody["row"]), (&2.into(), &Value::Null));
}

#[test]
fn the_rows_that_are_given_are_rows_that_the_tables_take() {
    let site = Site::new();
    without_bob(&site);
    for entry in unmapped(&site) {
        if let (Some(table), Some(row)) = (entry["table"].as_str(), entry["row"].as_str()) {
            let row = row.replace("<LocalProjectID>", "TG-NEW000001").replace("<Username>", "somebody");
            let table = table.strip_prefix("./").unwrap_or(table);
            site.write(table, &format!("{}{row}\n", site.read(table)));
        }
    }
    let left = unmapped(&site);
    assert!(left.iter().all(|entry| entry["name"].is_null()), "{left:?}");
    let said = site.run(&["check", "--explain-unmapped", "--source", "pbs"]);
    assert_eq!((said.status, said.stdout.as_str()), (0, "every account, user and owner is known\n"));
}

#[test]
fn runs_of_an_unknown_user_are_sent_when_the_table_knows_them() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    without_bob(&site);
    site.run(&["run", "--wait", "20"]);
    let of_bob = |service: &Service| {
        let loaded = service.state().loaded;
        loaded.iter().filter(|record| record.username == "bob").count()
    };
    assert_eq!(of_bob(&service), 1, "the storage of bob is none of the user table's");
    let before = service.state().loaded.len();
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    site.write("users.csv", &format!("{}bob,bob,testhpc,,\n", site.read("users.csv")));
    let night = site.run(&["run", "--wait", "20"]);
    let sum = |service: &Service, resource: &str| {
        let loaded = service.state().loaded;
        let charges = loaded.iter().filter(|record| record.username == "bob" && record.resource == resource);
        charges.fold(Decimal::ZERO, |sum, record| sum.checked_add(record.charge.parse().unwrap()).unwrap())
    };
    for (resource, charge) in expected_charges("bob") {
        assert_eq!(sum(&service, &resource), charge, "{resource}: {}", night.stderr);
    }
    assert!(service.state().loaded.len() > before + 10, "{}", night.stderr);
}

#[test]
fn a_table_that_nobody_keeps_is_warned_of_everywhere() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    let table = std::fs::File::options().append(true).open(site.path("projects.csv")).unwrap();
    let changed = u64::try_from(runner::clock::now()).unwrap() - 40 * 86_400 - 60;
    table.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)).unwrap();
    // Without a limit its age is said, and that is all.
    let check = site.run(&["check"]);
    assert!(check.stdout.contains("projects.csv: 2 rows, changed 40 days ago"), "{}", check.stdout);
    assert_eq!(site.run(&["run", "--wait", "1", "--summary", "summary.json"]).status, 0);
    assert_eq!(site.summary()["tables"][0]["age_days"], 40);
    assert_eq!(site.summary()["tables"][0]["old"], false);
    site.configure("[policy]", "[tables]\nmax_age_days = 30\n\n[policy]");
    let check = site.run(&["check"]);
    assert_eq!(check.status, 1, "{}", check.stdout);
    assert!(check.stdout.contains("more than the 30 of tables.max_age_days"), "{}", check.stdout);
    assert!(site.run(&["status"]).stdout.contains("tables.max_age_days"));
    let night = site.run(&["run", "--summary", "summary.json", "--report", "report.html"]);
    assert_eq!(night.status, 1, "{}", night.stderr);
    assert!(night.stderr.contains("tables.max_age_days"), "{}", night.stderr);
    assert_eq!(site.summary()["tables"][0]["old"], true);
    assert!(site.read("report.html").contains("changed 40 days ago"));
    site.configure("max_age_days = 30", "max_age_days = 0");
    assert_eq!(site.run(&["check"]).status, 2);
}
