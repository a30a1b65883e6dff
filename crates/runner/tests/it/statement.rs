//! `explain --project`: every run of a project, and sums that are those of its records.

use crate::support::{Service, Site, fixtures};
use amie_usage::Decimal;
use serde_json::Value;
use usage_sandbox::{Rule, Settings};

const PROJECT: &str = "TG-ABC123456";

/// Record id and charge of a project's records, as the script worked them out: of one user, where asked.
fn expected(user: Option<&str>) -> Vec<(String, Decimal)> {
    let text = std::fs::read_to_string(fixtures().join("expected/demo-records.tsv")).unwrap();
    let records = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let mut list: Vec<(String, Decimal)> = records
        .filter(|fields| fields[8] == PROJECT && user.is_none_or(|user| fields[7] == user))
        .map(|fields| (fields[3].to_owned(), fields[10].parse().unwrap()))
        .collect();
    list.sort();
    list
}

fn sum(list: &[(String, Decimal)]) -> Decimal {
    list.iter().fold(Decimal::ZERO, |sum, (_, charge)| sum.checked_add(*charge).unwrap())
}

fn statement(site: &Site, arguments: &[&str]) -> Value {
    let said = site.run(&[&["explain", "--json", "--project", PROJECT], arguments].concat());
    assert_eq!(said.status, 0, "{arguments:?}: {}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

fn lines(statement: &Value) -> Vec<(String, Decimal)> {
    let mut list: Vec<(String, Decimal)> = statement["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (line["record"].as_str().unwrap().to_owned(), line["charge"].as_str().unwrap().parse().unwrap())
        })
        .collect();
    list.sort();
    list
}

fn net(statement: &Value) -> Decimal {
    statement["totals"]["net"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_statement_has_every_run_and_its_sums_are_those_of_the_records() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.run(&["run", "--wait", "20"]);
    for user in [None, Some("alice"), Some("bob"), Some("nobody")] {
        let arguments: Vec<&str> = user.into_iter().flat_map(|user| ["--user", user]).collect();
        let wanted = expected(user);
        if user == Some("nobody") {
            assert_eq!(site.run(&["explain", "--project", PROJECT, "--user", "nobody"]).status, 1);
            continue;
        }
        let statement = statement(&site, &arguments);
        assert_eq!(lines(&statement), wanted, "{user:?}");
        assert_eq!(net(&statement), sum(&wanted), "{user:?}");
    }
    let all = statement(&site, &["--from", "2026-11-23", "--to", "2026-11-24"]);
    assert_eq!(lines(&all), expected(None));
    let said = site.run(&["explain", "--project", PROJECT, "--from", "2026-11-24", "--to", "2026-11-25"]);
    assert_eq!(said.status, 1, "nothing was submitted then: {}", said.stdout);
    let text = site.run(&["explain", "--project", PROJECT]).stdout;
    assert!(text.contains(&format!("net: {}", sum(&expected(None)))), "{text}");
    assert_eq!(site.run(&["explain", "--project", PROJECT, "--from", "2026-11-24"]).status, 2);
    assert_eq!(site.run(&["explain"]).status, 2);
}

#[test]
fn refunds_debits_and_what_the_service_does_not_hold_are_told_apart() {
    let service = Service::start(Settings {
        refuse: vec![Rule::new("LocalRecordID", "11", "not known")],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_charge = \"100000\"", "max_charge = \"0.0021\"");
    site.run(&["run", "--wait", "20"]);
    site.write(
        "adjust.csv",
        "type,charge,run,resource,project,username,start,id\n\
         refund,0.0005,32,,,,,a\nrefund,0.0001,62_0,,,,,b\n\
         debit,3,,testhpc-cpu.testsite.access-ci.org,TG-ABC123456,alice,2026-11-23,c\n\
         credit,1,,testhpc-cpu.testsite.access-ci.org,TG-ABC123456,alice,2026-11-23,d\n",
    );
    // Job 32 was charged 0.000278: nothing of the file is taken in.
    let adjust = ["adjust", "--csv", "adjust.csv", "--approve", "--reason", "a complaint"];
    assert_eq!(site.run(&adjust).status, 2);
    site.write("adjust.csv", &site.read("adjust.csv").replace("0.0005,32", "0.0002,32"));
    assert_eq!(site.run(&adjust).status, 0);
    let sent = statement(&site, &[]);
    assert_eq!(sent["totals"]["adjustments"], serde_json::json!({}), "not sent yet");
    assert_eq!(sent["totals"]["open_adjustments"]["pending"]["records"], 4);
    site.run(&["run", "--wait", "20"]);

    let statement = statement(&site, &[]);
    // By hand: what is above the brake is held, job 11 (0.002222) is above it too; the rest is charged.
    let limit: Decimal = "0.0021".parse().unwrap();
    let charged: Vec<(String, Decimal)> =
        expected(None).into_iter().filter(|(_, charge)| *charge <= limit).collect();
    let by_hand = sum(&charged)
        .checked_add("3".parse().unwrap())
        .and_then(|sum| sum.checked_sub("1.0003".parse().unwrap()))
        .unwrap();
    assert_eq!(net(&statement), by_hand, "{}", statement["totals"]);
    let held: Vec<(String, Decimal)> =
        expected(None).into_iter().filter(|(_, charge)| *charge > limit).collect();
    let wanted = serde_json::json!({"above-max-charge": {"records": held.len(), "charge": sum(&held)}});
    assert_eq!(statement["totals"]["held"], wanted);
    let line = |record: &str| {
        let lines = statement["lines"].as_array().unwrap();
        lines.iter().find(|line| line["record"] == record).unwrap().clone()
    };
    assert_eq!((&line("32")["refunded"], &line("32")["charged"]), (&"0.0002".into(), &"0.000278".into()));
    assert_eq!(line("debit-c")["adjustment"], "debit");
    let adjustments = &statement["totals"]["adjustments"];
    assert_eq!(adjustments["refund"], serde_json::json!({"records": 2, "charge": "0.0003"}));
    let text = site.run(&["explain", "--project", PROJECT, "--user", "alice"]).stdout;
    assert!(text.contains("; refunded 0.0002"), "{text}");
}
