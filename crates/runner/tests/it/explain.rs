//! `explain`: whatever became of a run, it says so and why; with the input gone, from what the ledger kept.

use crate::support::{Service, Site};
use serde_json::Value;
use usage_sandbox::{Rule, Settings};

fn night(service: &Service) -> Site {
    let site = Site::new();
    site.send_to(&service.url());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    site
}

fn explained(site: &Site, id: &str, parts: &[&str]) -> String {
    let said = site.run(&["explain", id]);
    assert_eq!(said.status, 0, "{id}: {}", said.stderr);
    for part in parts {
        assert!(said.stdout.contains(part), "{id}: no {part:?} in\n{}", said.stdout);
    }
    said.stdout
}

#[test]
fn every_fate_is_explained_with_its_reason() {
    let service = Service::start(Settings {
        refuse: vec![Rule::new("LocalRecordID", "2", "no such user")],
        ..Settings::default()
    });
    let site = night(&service);
    // Loaded: the source's text, the rule with its validity, the arithmetic, the rounding, identity and answers.
    explained(
        &site,
        "1",
        &[
            "1|1|1|testhpc|alice|20001|tg-abc123456|cpu",
            "TG-ABC123456, by pattern 1 of projects.match",
            "from 2026-01-01, midnight in UTC (rate 2)",
            "max(cores, mem_gb / 2)                       = 1",
            "= 37/1800 = 0.020555555555...",
            "rounded to 6 places, half-even               = 0.020556",
            "identity  1 on testhpc-cpu.testsite.access-ci.org, submitted 2026-11-23 09:45:25Z; frozen",
            "sent      version 1 with charge 0.020556",
            "with charge 0.020556, as the service shows it",
        ],
    );
    explained(&site, "2", &["state     rejected, version 1", "refused   no such user"]);
    explained(&site, "3", &["not reported, by rule 1 of projects.skip", "skipped  account-rule"]);
    explained(&site, "5", &["skipped", "zero-charge: sent only if an earlier charge of this run was sent"]);
    explained(&site, "39", &["held      unknown-project", "nosuchacct,<LocalProjectID>"]);
    explained(&site, "46", &["quarantined: the record beside it is torn"]);
    // A record id, a ledger key and a job id are all names of it.
    for id in ["91.pbssrv.r3", "pbs/pbssrv/0000000091/1795426661/3"] {
        let text = explained(&site, id, &["91.pbssrv.r3"]);
        assert!(!text.contains("91.pbssrv.r2"), "{id}: {text}");
    }
}

#[test]
fn what_the_ledger_kept_is_explained_when_the_input_is_gone() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    let whole = site.run(&["explain", "39"]).stdout;
    assert!(!whole.contains("the input is gone"), "{whole}");
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    explained(
        &site,
        "39",
        &["the input is gone; of the run that was kept, today's rules make:", "account  nosuchacct"],
    );
    explained(&site, "46", &["quarantined: ./sacct/testhpc-2026-11-23.txt:47", "46|46|68|testhpc|alice"]);
    let json: Value = serde_json::from_str(&site.run(&["explain", "2", "--json"]).stdout).unwrap();
    let row = json["ledger"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["identity"]["local_record_id"] == "2")
        .unwrap();
    assert_eq!(
        (&row["state"], &row["charge"], &row["sent"]["charge"], &row["loaded"]["charge"]),
        (&"loaded".into(), &"0.020278".into(), &"0.020278".into(), &"0.020278".into())
    );
    assert_eq!((&row["project"], &row["identity"]["frozen"]), (&"TG-DEF987654".into(), &true.into()));
}
