//! Adjustments: each once, refunds never beyond the charge, nothing sent again on a guess.

use crate::support::{Service, Site, amie_runner};
use amie_usage::Decimal;
use serde_json::{Value, json};
use usage_sandbox::{Rule, Settings, UsageType};

const CPU: &str = "testhpc-cpu.testsite.access-ci.org";
const RUN: &str = "slurm/testhpc/0000000001/1795427125";
const WHY: [&str; 5] = ["--approve", "--reason", "node failure, ticket 4711", "--by", "pat"];

fn night(settings: Settings) -> (Service, Site) {
    let service = Service::start(settings);
    let site = Site::new();
    site.send_to(&service.url());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    (service, site)
}

/// `adjust` with these arguments, as JSON.
fn adjust(site: &Site, status: i32, arguments: &[&str]) -> Value {
    let arguments = [&["adjust", "--json"], arguments].concat();
    let said = site.run(&arguments);
    assert_eq!(said.status, status, "{arguments:?}\n{}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).unwrap_or_default()
}

/// The adjustments that the service holds, as they were sent, in order of their ids.
fn held(service: &Service) -> Vec<Value> {
    let loaded = service.state().loaded;
    let adjustments = loaded.iter().filter(|record| record.usage_type == UsageType::Adjustment);
    let mut records: Vec<Value> = adjustments.map(usage_sandbox::StoredRecord::value).collect();
    records.sort_by_key(|record| record["LocalRecordID"].to_string());
    records
}

const ALL_SIX: &str = "\
type,charge,run,resource,project,username,start,comment,id
credit,100,,testhpc-cpu.testsite.access-ci.org,TG-ABC123456,alice,2026-10-01,a gift,c-1
refund,0.01,1,,,,,it failed,r-1
storage-credit,2.5,,scratch.testsite.access-ci.org,TG-ABC123456,alice,2026-10-01,,sc-1
debit,7,,testhpc-gpu.testsite.access-ci.org,TG-DEF987654,bob,2026-10-01T12:00:00Z,,d-1
reservation,12.000001,,testhpc-gpu.testsite.access-ci.org,TG-DEF987654,bob,2026-11-23,\"nodes c1, c2\",v-1
storage-debit,1,,scratch.testsite.access-ci.org,TG-DEF987654,bob,2026-10-02,,sd-1
";

/// What goes over the wire for them, written by hand from the description of the API.
fn all_six() -> Vec<Value> {
    let record = |kind: &str,
                  charge: &str,
                  start: &str,
                  project: &str,
                  id: &str,
                  resource: &str,
                  user: &str| {
        let key = match kind {
            "refund" => format!("adjust/refund/{RUN}/{id}"),
            _ => format!("adjust/{kind}/{resource}/{id}"),
        };
        json!({
            "AdjustmentType": kind, "Charge": charge, "StartTime": start, "LocalProjectID": project,
            "LocalRecordID": format!("{kind}-{id}"), "Resource": resource, "Username": user, "LocalReference": key,
        })
    };
    let (gpu, disk) = ("testhpc-gpu.testsite.access-ci.org", "scratch.testsite.access-ci.org");
    let (abc, def) = ("TG-ABC123456", "TG-DEF987654");
    let mut records = vec![
        record("credit", "100", "2026-10-01T00:00:00Z", abc, "c-1", CPU, "alice"),
        record("debit", "7", "2026-10-01T12:00:00Z", def, "d-1", gpu, "bob"),
        // The run's submit time, so that the right allocation is credited.
        record("refund", "0.01", "2026-11-23T09:45:25Z", abc, "r-1", CPU, "alice"),
        record("reservation", "12.000001", "2026-11-23T00:00:00Z", def, "v-1", gpu, "bob"),
        record("storage-credit", "2.5", "2026-10-01T00:00:00Z", abc, "sc-1", disk, "alice"),
        record("storage-debit", "1", "2026-10-02T00:00:00Z", def, "sd-1", disk, "bob"),
    ];
    records[0]["Comment"] = "a gift".into();
    records[2]["Comment"] = "it failed".into();
    records[3]["Comment"] = "nodes c1, c2".into();
    records
}

#[test]
fn a_file_of_all_six_types_is_previewed_approved_sent_and_adds_nothing_twice() {
    let (service, site) = night(Settings::default());
    site.write("adjust.csv", ALL_SIX);
    let posts = service.state().posts;
    for (status, arguments) in [(1, &["--csv", "adjust.csv"][..]), (0, &["--csv", "adjust.csv", "--dry-run"])]
    {
        let shown = adjust(&site, status, arguments);
        let verdicts: Vec<&Value> =
            shown["adjustments"].as_array().unwrap().iter().map(|one| &one["verdict"]).collect();
        assert_eq!(verdicts, ["new"; 6], "{shown}");
        assert_eq!((&shown["approved"], &shown["taken"]), (&false.into(), &Value::Null));
    }
    assert_eq!(site.run(&["run", "--wait", "1"]).status, 0);
    assert_eq!(service.state().posts, posts, "a preview sends nothing");

    let approved = [&["--csv", "adjust.csv"], &WHY[..]].concat();
    assert_eq!(adjust(&site, 0, &approved)["taken"], 6);
    let night = site.run(&["run", "--summary", "summary.json"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    assert_eq!(held(&service), all_six());
    assert_eq!(site.summary()["adjustments"]["accepted"], json!({"records": 6, "charge": "122.510001"}));
    let status = site.run(&["status"]).stdout;
    assert!(status.contains("Adjustment") && status.contains("19.000001"), "{status}");

    let again = adjust(&site, 0, &approved);
    assert_eq!(again["taken"], 0, "{again}");
    assert_eq!(again["adjustments"][1]["detail"], "known, accepted");
    let posts = service.state().posts;
    site.run(&["run"]);
    assert_eq!((service.state().posts, held(&service).len()), (posts, 6));
    let text = site.run(&["explain", "1"]).stdout;
    assert!(text.contains("refunded  0.01, accepted"), "{text}");
    let text = site.run(&["explain", "refund-r-1"]).stdout;
    assert!(text.contains("recorded v1 by pat  node failure, ticket 4711"), "{text}");
    // Nobody lists loads of adjustments: a person closes them.
    let key = format!("adjust/refund/{RUN}/r-1");
    let said = site.run(&["held", "settle", &key, "--outcome", "loaded", "--reason", "seen in the books"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    assert!(site.run(&["explain", "1"]).stdout.contains("refunded  0.01, loaded"));
}

fn refund(site: &Site, status: i32, charge: &str, more: &[&str]) -> String {
    let arguments =
        [&["adjust", "--type", "refund", "--run", "1", "--charge", charge], more, &WHY[..]].concat();
    let said = site.run(&arguments);
    assert_eq!(said.status, status, "{charge} {more:?}\n{}{}", said.stdout, said.stderr);
    said.stdout + &said.stderr
}

#[test]
fn refunds_are_never_more_than_the_charge_also_while_unconfirmed() {
    // Job 1 was charged 0.020556.
    let (service, site) = night(Settings::default());
    assert!(refund(&site, 2, "0.020557", &[]).contains("the run was charged 0.020556"));
    refund(&site, 0, "0.02", &[]);
    assert!(refund(&site, 2, "0.0006", &[]).contains("0.02 of that is refunded already"));
    assert!(refund(&site, 2, "0.000557", &[]).contains("more than all"));
    // The same once more is the same; another one of the same charge needs an id.
    assert!(refund(&site, 0, "0.02", &[]).contains("0 taken in"));
    refund(&site, 0, "0.000556", &["--id", "rest"]);
    assert!(refund(&site, 2, "0.000001", &[]).contains("0.020556 of that is refunded already"));
    site.run(&["run"]);
    assert_eq!(held(&service).len(), 2);
    assert!(refund(&site, 2, "0.000001", &[]).contains("0.020556 of that is refunded already"));
}

#[test]
fn a_file_is_taken_in_whole_or_not_at_all() {
    let (service, site) = night(Settings::default());
    // Each of the two would fit; together they are more than the charge.
    site.write("two.csv", "type,run,charge,id\nrefund,2,0.02,a\nrefund,1,0.015,b\nrefund,1,0.015,c\n");
    let arguments = [&["--csv", "two.csv"], &WHY[..]].concat();
    let refused = adjust(&site, 2, &arguments);
    assert_eq!(refused["adjustments"][1]["verdict"], "new");
    assert_eq!(refused["adjustments"][2]["verdict"], "beyond-charge");
    assert_eq!(refused["taken"], Value::Null);
    site.run(&["run"]);
    assert_eq!(held(&service).len(), 0);
    // Equal lines without ids: nobody knows whether one or two are meant.
    site.write("equal.csv", "type,run,charge\nrefund,1,0.001\nrefund,1,0.001\n");
    assert_eq!(adjust(&site, 2, &["--csv", "equal.csv"])["adjustments"][1]["verdict"], "repeated");
    // An id that was used is never used for something else.
    site.write("one.csv", "type,run,charge,id\nrefund,1,0.001,a\n");
    adjust(&site, 0, &[&["--csv", "one.csv"], &WHY[..]].concat());
    site.write("one.csv", "type,run,charge,id\nrefund,1,0.002,a\n");
    assert_eq!(adjust(&site, 2, &["--csv", "one.csv"])["adjustments"][0]["verdict"], "differs");
    site.write("one.csv", "type,run,charge,id\nrefund,2,0.002,a\n");
    assert_eq!(adjust(&site, 2, &["--csv", "one.csv"])["adjustments"][0]["verdict"], "collides");
}

#[test]
fn what_may_have_arrived_is_confirmed_before_it_is_sent_again() {
    let (service, site) = night(Settings::default());
    refund(&site, 0, "0.02", &[]);
    service.sandbox().inject("drop-after-storing@post".parse().unwrap());
    let night = site.run(&["run", "--summary", "summary.json"]);
    assert_eq!(night.status, 3, "{}", night.stderr);
    service.sandbox().clear_faults();
    let posts = service.state().posts;
    for _ in 0..2 {
        site.run(&["run", "--summary", "summary.json"]);
        assert_eq!(service.state().posts, posts, "sent again blindly");
        assert_eq!(site.summary()["adjustments"]["unknown"]["records"], 1);
    }
    // It may have arrived, so it counts.
    assert!(refund(&site, 2, "0.01", &[]).contains("0.02 of that is refunded already"));
    let key =
        adjust(&site, 0, &["--type", "refund", "--run", "1", "--charge", "0.02"])["adjustments"][0]["key"]
            .as_str()
            .unwrap()
            .to_owned();
    let said = site.run(&["held", "settle", &key, "--outcome", "arrived", "--reason", "the service has it"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    site.run(&["run"]);
    assert_eq!((service.state().posts, held(&service).len()), (posts, 1));
}

#[test]
fn killed_while_it_is_taken_in_or_sent_an_adjustment_is_there_once() {
    for place in ["leased:1", "answered:1", "settled:1"] {
        let (service, site) = night(Settings::default());
        refund(&site, 0, "0.02", &[]);
        let killed = amie_runner(site.folder.path()).arg("run").env("AMIE_CRASH_AT", place).output().unwrap();
        assert_eq!(killed.status.code(), None, "{place}: it was not killed");
        for _ in 0..2 {
            site.run(&["run", "--summary", "summary.json"]);
        }
        assert!(held(&service).len() <= 1, "{place}: doubled");
        let adjustments = site.summary()["adjustments"].clone();
        let known = if place == "settled:1" { "accepted" } else { "unknown" };
        assert_eq!(adjustments[known]["records"], 1, "{place}: {adjustments}");
    }
}

#[test]
fn what_the_service_refuses_or_cannot_load_is_said_and_can_be_retried() {
    let (service, site) = night(Settings {
        refuse: vec![Rule::new("LocalRecordID", "refund-no", "not today")],
        fail_load: vec![Rule::new("LocalRecordID", "refund-late", "Allocation could not be found")],
        ..Settings::default()
    });
    refund(&site, 0, "0.01", &["--id", "no"]);
    refund(&site, 0, "0.01", &["--id", "late"]);
    for _ in 0..2 {
        site.run(&["run", "--summary", "summary.json"]);
    }
    let adjustments = site.summary()["adjustments"].clone();
    assert_eq!(
        (&adjustments["rejected"]["records"], &adjustments["failed"]["records"]),
        (&1.into(), &1.into())
    );
    assert_eq!(held(&service).len(), 0);
    let status = site.run(&["status"]).stdout;
    assert!(status.contains("not today") && status.contains("Allocation could not be found"), "{status}");
    // It can be sent again, so it counts against the charge still.
    assert!(refund(&site, 2, "0.001", &[]).contains("0.02 of that is refunded already"));
    let key = format!("adjust/refund/{RUN}/late");
    assert_eq!(site.run(&["held", "retry", &key, "--reason", "the allocation was opened"]).status, 0);
    let posts = service.state().posts;
    site.run(&["run"]);
    assert_eq!(service.state().posts, posts + 1);
}

#[test]
fn a_refunded_run_is_not_repriced() {
    let (_service, site) = night(Settings::default());
    refund(&site, 0, "0.02", &[]);
    site.configure("high = 2\n", "high = 2\nnormal = 0.1\n");
    let said =
        site.run(&["restate", "--json", "--from", "2026-11-23", "--to", "2026-11-24", "--source", "slurm"]);
    let shown: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(shown["refunded"], 1, "{shown}");
    assert!(shown["records"].as_u64().unwrap() > 10, "{shown}");
    let examples = shown["examples"].as_array().unwrap();
    assert!(examples.iter().all(|example| example["key"] != RUN), "{shown}");
    let _: Decimal = shown["new"].as_str().unwrap().parse().unwrap();
}

#[test]
fn requests_that_cannot_be_are_named_with_what_to_do() {
    let (_service, site) = night(Settings::default());
    let refused = |arguments: &[&str], words: &str| {
        let said = site.run(&[&["adjust"], arguments].concat());
        assert_eq!(said.status, 2, "{arguments:?}\n{}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains(words), "{arguments:?}: no {words:?} in\n{}", said.stderr);
    };
    let of = |more: &[&'static str]| [&["--type", "credit", "--charge", "1"][..], more].concat();
    refused(&["--type", "refnd", "--charge", "1"], "did you mean refund?");
    refused(&["--type", "refund", "--charge", "-1", "--run", "1"], "must be above 0");
    refused(&["--type", "refund", "--charge", "1e3", "--run", "1"], "charge \"1e3\"");
    refused(&["--type", "refund", "--charge", "1"], "a refund names its run");
    refused(&["--type", "refund", "--charge", "1", "--run", "nobody"], "no run \"nobody\" is in the ledger");
    // 87 is the record id of two runs: a job that was requeued.
    refused(&["--type", "refund", "--charge", "1", "--run", "87"], "several runs have the record id \"87\"");
    refused(
        &["--type", "refund", "--charge", "1", "--run", "slurm/testhpc/0000000039/1795427134"],
        "never charged",
    );
    refused(&["--type", "refund", "--charge", "1", "--run", "1", "--project", "TG-X"], "is that of its run");
    refused(&of(&["--run", "1"]), "only a refund names a run");
    refused(&of(&["--resource", CPU, "--project", "P", "--username", "u"]), "start is missing");
    refused(&of(&["--resource", CPU, "--username", "u", "--start", "2026-10-01"]), "project is missing");
    refused(
        &of(&[
            "--resource",
            "testhpc-cpu.testsite.acces-ci.org",
            "--project",
            "P",
            "--username",
            "u",
            "--start",
            "2026-10-01",
        ]),
        "did you mean testhpc-cpu.testsite.access-ci.org?",
    );
    refused(&of(&["--start", "yesterday"]), "start \"yesterday\"");
    refused(
        &of(&[
            "--resource",
            CPU,
            "--project",
            "P",
            "--username",
            "u",
            "--start",
            "2026-10-01",
            "--id",
            "a/b",
        ]),
        "id \"a/b\"",
    );
    refused(&["--csv", "none.csv"], "none.csv: cannot be read");
    site.write("bad.csv", "typ,charge\n");
    refused(&["--csv", "bad.csv"], "bad.csv:1: unknown column \"typ\"");
    site.write("bad.csv", "type,charge,run\nrefund,1,1\nrefund,x,1\ncredit,,\nrefund,1,2,3\n");
    refused(&["--csv", "bad.csv"], "bad.csv:3: charge \"x\"");
    refused(&["--csv", "bad.csv"], "bad.csv:5: 4 fields, but the header has 3");
    refused(&["--type", "refund", "--run", "1", "--charge", "0.01", "--approve"], "--reason");
}

#[test]
fn what_the_service_does_not_hold_of_an_adjustment_can_be_given_up() {
    let (service, site) = night(Settings {
        refuse: vec![Rule::new("LocalRecordID", "refund-no", "not today")],
        fail_load: vec![Rule::new("LocalRecordID", "refund-late", "Allocation could not be found")],
        ..Settings::default()
    });
    refund(&site, 0, "0.01", &["--id", "no"]);
    refund(&site, 0, "0.01", &["--id", "late"]);
    refund(&site, 0, "0.0005", &["--id", "good"]);
    for _ in 0..2 {
        site.run(&["run", "--summary", "summary.json"]);
    }
    assert_eq!(site.summary()["adjustments"]["accepted"]["records"], 1);
    let status = site.run(&["status"]).stdout;
    let words = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words.matches("adjust --withdraw KEY").count(), 2, "{status}");
    let key = |id: &str| format!("adjust/refund/{RUN}/{id}");
    let withdraw = |keys: &[&str], status: i32| {
        let said = site.run(&[&["adjust", "--withdraw"], keys, &WHY[1..]].concat());
        assert_eq!(said.status, status, "{keys:?}\n{}{}", said.stdout, said.stderr);
        said.stdout + &said.stderr
    };
    // Not what the service has, not a run, and all or none.
    let (no, late, good) = (key("no"), key("late"), key("good"));
    assert!(withdraw(&[&no, &good], 2).contains("the service may hold it"));
    assert!(withdraw(&[&no, RUN], 2).contains("is no adjustment"));
    assert!(withdraw(&[&no, "adjust/refund/nobody"], 2).contains("there is no ledger row"));
    assert!(refund(&site, 2, "0.01", &["--id", "other"]).contains("0.0205 of that is refunded already"));
    assert_eq!(withdraw(&[&no, &late], 0), "2 withdrawn\n");
    refund(&site, 0, "0.02", &["--id", "other"]);
    site.run(&["run", "--summary", "summary.json"]);
    let adjustments = site.summary()["adjustments"].clone();
    assert_eq!(
        (&adjustments["superseded"]["records"], &adjustments["rejected"], &adjustments["failed"]),
        (&2.into(), &Value::Null, &Value::Null),
        "{adjustments}"
    );
    assert_eq!(held(&service).len(), 2);
    assert!(site.run(&["explain", &no]).stdout.contains("dropped v1 by pat  node failure"));
    // What was given up is not asked for again under its id, and a withdrawal is not said twice.
    assert!(refund(&site, 0, "0.01", &["--id", "no"]).contains("0 taken in"));
    assert_eq!(withdraw(&[&no], 2).matches("superseded").count(), 1);
    let verified = site.run(&["ledger", "verify"]);
    assert_eq!(verified.status, 0, "{}", verified.stdout);
}
