//! `restate`: nothing is re-priced without a person; with one, each record once, and never two charges at a time.

use crate::support::{Service, Site, amie_runner, fixtures};
use amie_usage::Decimal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use usage_sandbox::{Rule, Settings, UsageType};

const ALL: [&str; 4] = ["--from", "2026-10-01", "--to", "2026-12-01"];
const WHY: [&str; 5] = ["--approve", "--reason", "the rate was wrong", "--by", "pat"];

/// A record of compute as the script worked it out.
#[derive(Clone)]
struct Expected {
    source: String,
    id: String,
    submit: String,
    project: String,
    charge: Decimal,
    exact: (i128, i128),
}

fn expected() -> Vec<Expected> {
    let text = std::fs::read_to_string(fixtures().join("expected/demo-records.tsv")).unwrap();
    let records = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    records
        .filter(|fields| fields[0] != "scratch")
        .map(|fields| {
            let (above, below) = fields[11].split_once('/').unwrap_or((fields[11], "1"));
            Expected {
                source: fields[0].to_owned(),
                id: fields[3].to_owned(),
                submit: fields[4].to_owned(),
                project: fields[8].to_owned(),
                charge: fields[10].parse().unwrap(),
                exact: (above.parse().unwrap(), below.parse().unwrap()),
            }
        })
        .collect()
}

/// A fraction, times a whole number, rounded to six places, half to even: worked out here once more.
fn rounded((above, below): (i128, i128), factor: i128) -> Decimal {
    let scaled = above * factor * 1_000_000;
    let (quotient, rest) = (scaled / below, scaled % below);
    let up = match (rest * 2).cmp(&below) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    Decimal::new(quotient + i128::from(up), 6)
}

fn sum(charges: impl IntoIterator<Item = Decimal>) -> Decimal {
    charges.into_iter().fold(Decimal::ZERO, |sum, charge| sum.checked_add(charge).unwrap())
}

fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

fn night(service: &Service) -> Site {
    let site = Site::new();
    site.send_to(&service.url());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    site
}

/// `restate` with these arguments, as JSON.
fn restate(site: &Site, status: i32, arguments: &[&str]) -> Value {
    let arguments = [&["restate", "--json"], &ALL[..], arguments].concat();
    let said = site.run(&arguments);
    assert_eq!(said.status, status, "{arguments:?}\n{}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

/// What the service holds of compute: (id, submit) -> project and charge.
fn held(service: &Service) -> BTreeMap<(String, String), (String, Decimal)> {
    let loaded = service.state().loaded;
    let compute = loaded.iter().filter(|record| record.usage_type == UsageType::Compute);
    let mut held = BTreeMap::new();
    for record in compute {
        let place = (record.local_record_id.clone(), record.submit_time.clone());
        let charge = (record.local_project_id.clone(), record.charge.parse().unwrap());
        assert_eq!(held.insert(place, charge), None, "one record an identity");
    }
    held
}

/// Triples what PBS jobs are charged.
fn triple(site: &Site) {
    site.configure("charge = \"core_hours * factor.queue\"", "charge = \"3 * core_hours * factor.queue\"");
}

fn tripled(service: &Service) {
    let held = held(service);
    for record in expected() {
        let factor = if record.source == "pbs" { 3 } else { 1 };
        let wanted = (record.project, rounded(record.exact, factor));
        assert_eq!(held[&(record.id.clone(), record.submit)], wanted, "{}", record.id);
    }
}

#[test]
fn rules_reprice_what_was_sent_when_a_person_approves_and_never_else() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    triple(&site);
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!(night.status, 1, "{}", night.stderr);
    assert!(night.stderr.contains("would be charged otherwise by today's rules"), "{}", night.stderr);
    assert_eq!(service.state().posts, posts, "nothing is re-priced silently");

    let pbs: Vec<Expected> = expected().into_iter().filter(|record| record.source == "pbs").collect();
    let changed = pbs.iter().filter(|record| rounded(record.exact, 3) != record.charge).count();
    let (old, new) =
        (sum(pbs.iter().map(|record| record.charge)), sum(pbs.iter().map(|record| rounded(record.exact, 3))));
    for (status, arguments) in [(1, &[][..]), (0, &["--dry-run"])] {
        let shown = restate(&site, status, arguments);
        assert_eq!(shown["records"], changed, "{shown}");
        assert_eq!((decimal(&shown["old"]), decimal(&shown["new"])), (old, new), "{shown}");
        assert_eq!(decimal(&shown["difference"]), new.checked_sub(old).unwrap());
        assert_eq!(shown["approved"], false);
    }
    assert_eq!(service.state().posts, posts);
    let one = restate(&site, 1, &["--project", "TG-PHY260001"]);
    let of = |project: &str| sum(pbs.iter().filter(|r| r.project == project).map(|r| rounded(r.exact, 3)));
    assert_eq!(decimal(&one["new"]), of("TG-PHY260001"));
    assert!(one["changes"]["pbs.testsite.access-ci.org"].get("TG-CHE260002").is_none(), "{one}");
    assert_eq!(restate(&site, 0, &["--source", "slurm"])["records"], 0);

    let approved = restate(&site, 0, &WHY);
    assert_eq!((&approved["records"], &approved["to_be_sent"]), (&changed.into(), &changed.into()));
    site.run(&["run", "--wait", "20"]);
    tripled(&service);
    assert_eq!(service.state().posts, posts + 1, "one version, in one message");
    assert_eq!(restate(&site, 0, &[])["records"], 0, "nothing is left to restate");
    let text = site.run(&["explain", "4.pbssrv"]).stdout;
    assert!(text.contains("restated v2 by pat  the rate was wrong"), "{text}");
    let night = site.run(&["run", "--wait", "1"]);
    assert_eq!((night.status, service.state().posts), (0, posts + 1), "{}", night.stderr);
}

#[test]
fn a_project_that_changes_is_shown_on_both_sides() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    site.write("projects.csv", &site.read("projects.csv").replace("TG-PHY260001", "TG-NEW000001"));
    let moved = expected().into_iter().filter(|record| record.project == "TG-PHY260001");
    let total = sum(moved.map(|record| record.charge));
    let shown = restate(&site, 1, &[]);
    let changes = &shown["changes"]["pbs.testsite.access-ci.org"];
    let (from, to) = (&changes["TG-PHY260001"], &changes["TG-NEW000001"]);
    assert_eq!((decimal(&from["old"]), decimal(&from["new"])), (total, Decimal::ZERO), "{shown}");
    assert_eq!((decimal(&to["old"]), decimal(&to["new"])), (Decimal::ZERO, total), "{shown}");
    assert_eq!(shown["difference"], "0");
    restate(&site, 0, &WHY);
    site.run(&["run", "--wait", "20"]);
    let of = |project: &str| sum(held(&service).values().filter(|held| held.0 == project).map(|held| held.1));
    assert_eq!((of("TG-PHY260001"), of("TG-NEW000001")), (Decimal::ZERO, total));
}

#[test]
fn runs_that_rules_skip_now_are_charged_zero() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    site.configure("  { account = 'p\\.[a-z]{3}[0-9]{6}\\.000', project = \"$0\" },\n", "");
    site.configure("'root|sysadmin|physics.*'", "'root|sysadmin|physics.*|p\\..*'");
    let skipped: Vec<Expected> =
        expected().into_iter().filter(|record| record.project.starts_with("p.")).collect();
    let shown = restate(&site, 1, &[]);
    assert_eq!((&shown["records"], &shown["skipped"]), (&skipped.len().into(), &skipped.len().into()));
    assert_eq!(decimal(&shown["old"]), sum(skipped.iter().map(|record| record.charge)));
    assert_eq!(shown["new"], "0");
    restate(&site, 0, &WHY);
    site.run(&["run", "--wait", "20"]);
    let held = held(&service);
    for record in expected() {
        let wanted = if record.project.starts_with("p.") { Decimal::ZERO } else { record.charge };
        assert_eq!(held[&(record.id.clone(), record.submit)], (record.project, wanted), "{}", record.id);
    }
    assert_eq!(site.run(&["run", "--wait", "1"]).status, 0);
}

/// Gives every Slurm record another id.
fn rename(site: &Site) {
    site.configure("local_record_id = \"{job_id}\"", "local_record_id = \"job-{job_id}\"");
}

/// Each Slurm record is zero under its old id and charged under its new one, once, and in this order.
fn renamed(service: &Service, what: &str) {
    let held = held(service);
    for record in expected() {
        let new = (format!("job-{}", record.id), record.submit.clone());
        let old = (record.id.clone(), record.submit.clone());
        let charged = (record.project.clone(), record.charge);
        if record.source != "slurm" {
            assert_eq!(held[&old], charged, "{what}: {}", record.id);
            continue;
        }
        assert_eq!(held[&old], (record.project, Decimal::ZERO), "{what}: {}", record.id);
        assert_eq!(held[&new], charged, "{what}: {}", record.id);
    }
    // Whenever something arrived under a new identity, the last word under the old one was zero, and was loaded.
    let history = service.state().history;
    for new in history.iter().filter(|history| history.local_record_id.starts_with("job-")) {
        let old_id = &new.local_record_id[4..];
        let of_old =
            |h: &&usage_sandbox::History| h.local_record_id == *old_id && h.submit_time == new.submit_time;
        let old = history.iter().find(of_old).unwrap();
        let first = new.versions.first().unwrap().number;
        assert!(
            old.versions.iter().all(|version| version.number < first),
            "{what}: {old_id}: {old:?} {new:?}"
        );
        assert_eq!(old.versions.last().unwrap().charge, "0", "{what}: {old_id}");
    }
}

#[test]
fn a_changed_identity_is_zeroed_seen_settled_and_sent_anew() {
    let service = Service::start(Settings { load_delay: Duration::from_millis(1), ..Settings::default() });
    let site = night(&service);
    rename(&site);
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "20"]);
    assert!(night.stderr.contains("held: identity-changed"), "{}", night.stderr);
    assert_eq!(service.state().posts, posts);
    let slurm = expected().iter().filter(|record| record.source == "slurm").count();
    let shown = restate(&site, 1, &[]);
    assert_eq!((&shown["records"], &shown["identities"]), (&slurm.into(), &slurm.into()), "{shown}");
    assert_eq!(shown["difference"], "0");
    assert_eq!(restate(&site, 0, &WHY)["to_be_sent"], slurm);
    // Nobody can stop it half-way: approving or waiving would leave a charge of zero behind.
    let key = "slurm/testhpc/0000000001/1795427125";
    for action in ["approve", "waive"] {
        let said = site.run(&["held", action, key, "--reason", "no"]);
        assert_eq!(said.status, 2, "{}", said.stdout);
        assert!(said.stderr.contains("on its way from one identity to another"), "{}", said.stderr);
    }
    let night = site.run(&["run", "--wait", "20"]);
    renamed(&service, &night.stderr);
    let text = site.run(&["explain", "job-1"]).stdout;
    for part in
        ["restated v2 by pat  zero under 1 of testhpc-cpu", "moved v3", "0.020556 under job-1 of testhpc-cpu"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(site.run(&["explain", key]).stdout.contains("identity  job-1 on"), "one row, by its key");
    let night = site.run(&["run", "--wait", "1"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    assert!(!site.run(&["status"]).stdout.contains("moving"));
}

#[test]
fn nothing_goes_under_a_new_identity_before_zero_is_loaded_under_the_old_one() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    rename(&site);
    restate(&site, 0, &WHY);
    // The service takes zero and does not show it as loaded.
    service.sandbox().inject("status:404@loaded".parse().unwrap());
    for _ in 0..2 {
        site.run(&["run"]);
    }
    assert!(held(&service).keys().all(|(id, _)| !id.starts_with("job-")), "sent too early");
    let status = site.run(&["status"]).stdout;
    assert!(status.contains("held: moving"), "{status}");
    service.sandbox().clear_faults();
    let night = site.run(&["run", "--wait", "20"]);
    renamed(&service, &night.stderr);
}

/// Has what was accepted be sent two days earlier: the times of its messages are looked for in its bytes (zigzag, in groups of
/// seven bits) and replaced.
fn sent_two_days_earlier(ledger: &rusqlite::Connection) -> usize {
    fn bytes_of(time: i64) -> Vec<u8> {
        let mut rest = u64::try_from(time).unwrap() << 1;
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push((rest as u8 & 0x7f) | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }
    let mut batches = ledger.prepare("SELECT leased_at FROM batch UNION SELECT earliest FROM batch").unwrap();
    let times: Vec<i64> = batches.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let mut accepted = ledger.prepare("SELECT key, course FROM record WHERE state = 4").unwrap();
    let accepted: Vec<(String, Vec<u8>)> = accepted
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (key, mut course) in accepted.clone() {
        let mut replaced = 0;
        for time in &times {
            let (now, then) = (bytes_of(*time), bytes_of(time - 200_000));
            for at in 0..=course.len() - now.len() {
                if course[at..].starts_with(&now) {
                    course[at..at + now.len()].copy_from_slice(&then);
                    replaced += 1;
                }
            }
        }
        assert!(replaced >= 2, "{key} was sent first and last at some time");
        let sql = "UPDATE record SET waiting = waiting - 200000, course = ?1 WHERE key = ?2";
        assert_eq!(ledger.execute(sql, (course, key)).unwrap(), 1);
    }
    accepted.len()
}

#[test]
fn a_zero_that_failed_while_nobody_asked_keeps_the_charge_where_it_is() {
    let mut settings = Settings::default();
    settings.fail_load.push(Rule::new("Charge", "0", "the allocation is closed"));
    let service = Service::start(settings);
    let site = night(&service);
    let before = held(&service);
    rename(&site);
    restate(&site, 0, &WHY);
    // Zero is taken, and fails; the service cannot be asked that night, and then no run starts for two days.
    for call in ["failed", "status", "loaded"] {
        service.sandbox().inject(format!("status:503@{call}").parse().unwrap());
    }
    site.run(&["run"]);
    service.sandbox().clear_faults();
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    assert!(sent_two_days_earlier(&ledger) > 0);
    drop(ledger);
    let night = site.run(&["run", "--wait", "5"]);
    assert_eq!(held(&service), before, "charged under both identities");
    assert!(night.status == 1 && night.stderr.contains("the allocation is closed"), "{}", night.stderr);
}

#[test]
fn killed_between_any_two_steps_a_restatement_is_carried_through_once() {
    let places = [
        "recovered:1",
        "ingested:1",
        "moved:1",
        "leased:1",
        "answered:1",
        "settled:1",
        "submitted:1",
        "seen:1",
        "confirmed:1",
        "moved:2",
        "leased:2",
        "answered:2",
        "settled:2",
        "confirmed:2",
    ];
    for place in places {
        let service = Service::start(Settings::default());
        let site = night(&service);
        rename(&site);
        triple(&site);
        let arguments = [&["restate"], &ALL[..], &WHY[..]].concat();
        let killed = amie_runner(site.folder.path())
            .args(&arguments)
            .env("AMIE_CRASH_AT", "restated:1")
            .output()
            .unwrap();
        assert_eq!(killed.status.code(), None, "it was not killed");
        restate(&site, 0, &WHY);
        let killed = amie_runner(site.folder.path())
            .args(["run", "--wait", "10"])
            .env("AMIE_CRASH_AT", place)
            .output()
            .unwrap();
        assert_eq!(killed.status.code(), None, "{place}: {}", String::from_utf8_lossy(&killed.stderr));
        for _ in 0..3 {
            site.run(&["run", "--wait", "10"]);
        }
        let held = held(&service);
        for record in expected() {
            let (id, factor) = match record.source.as_str() {
                "slurm" => (format!("job-{}", record.id), 1),
                _ => (record.id.clone(), 3),
            };
            let wanted = (record.project.clone(), rounded(record.exact, factor));
            assert_eq!(held[&(id, record.submit.clone())], wanted, "{place}: {}", record.id);
            if record.source == "slurm" {
                assert_eq!(
                    held[&(record.id.clone(), record.submit)].1,
                    Decimal::ZERO,
                    "{place}: {}",
                    record.id
                );
            }
        }
        assert_eq!(site.run(&["run", "--wait", "1"]).status, 0, "{place}");
    }
}

#[test]
fn the_known_false_changes_stay_held_until_a_person_decides() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    let text = site.read("sacct/testhpc-2026-11-23.txt");
    // Job 1, ended after 74 s, is requeued later: Slurm moves the end of the same row. Job 2 is repaired as runaway.
    let requeued = text.replace(
        "normal|TIMEOUT|1795427125|1795427125|1795427125|1795427199|74|74|",
        "normal|REQUEUED|1795427125|1795427125|1795427125|1795428125|1000|1000|",
    );
    let both = requeued.replace(
        "|TIMEOUT|1795427125|1795427125|1795427126|1795427199|73|73|",
        "|COMPLETED|1795427125|1795427125|1795427126|1795427126|0|0|",
    );
    assert!(both != requeued && requeued != text);
    site.write("sacct/testhpc-2026-11-23.txt", &both);
    let posts = service.state().posts;
    let night = site.run(&["run", "--wait", "5"]);
    assert!(night.stderr.contains("held: grown-by-requeue"), "{}", night.stderr);
    assert!(night.stderr.contains("held: runaway-repair"), "{}", night.stderr);
    // A restatement is about rules and tables: it touches neither.
    let shown = restate(&site, 0, &WHY);
    assert_eq!((&shown["records"], &shown["source_changed"]), (&0.into(), &2.into()), "{shown}");
    site.run(&["run", "--wait", "5"]);
    assert_eq!(service.state().posts, posts);
    let (first, second) = ("slurm/testhpc/0000000001/1795427125", "slurm/testhpc/0000000002/1795427125");
    assert_eq!(site.run(&["held", "approve", first, "--reason", "it did run on"]).status, 0);
    assert_eq!(site.run(&["held", "waive", second, "--reason", "it ran for 73 s"]).status, 0);
    site.run(&["run", "--wait", "20"]);
    let held = held(&service);
    // One core for 1000 s, by hand: 1000/3600.
    assert_eq!(held[&("1".to_owned(), "2026-11-23T09:45:25Z".to_owned())].1.to_string(), "0.277778");
    assert_eq!(held[&("2".to_owned(), "2026-11-23T09:45:25Z".to_owned())].1.to_string(), "0.020278");
    assert_eq!(site.run(&["run", "--wait", "1"]).status, 0, "waived is waived");
}

#[test]
fn a_correction_that_was_taken_back_is_charged_so_when_a_person_says_it() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    let name = "sacct/testhpc-2026-11-23.txt";
    let text = site.read(name);
    let corrected = text.replace(
        "normal|TIMEOUT|1795427125|1795427125|1795427125|1795427199|74|74|",
        "normal|TIMEOUT|1795427125|1795427125|1795427125|1795428125|1000|1000|",
    );
    assert_ne!(corrected, text);
    // One core for 1000 s and for 74 s, by hand: 1000/3600, 74/3600.
    let charged = || held(&service)[&("1".to_owned(), "2026-11-23T09:45:25Z".to_owned())].1.to_string();
    for (text, said) in [(&corrected, "restated 1,"), (&text, "1 record(s) that are an older version")] {
        site.write(name, text);
        let night = site.run(&["run", "--wait", "20"]);
        assert!(night.stderr.contains(said), "{}", night.stderr);
        assert_eq!((night.status, charged()), (0, "0.277778".to_owned()), "{}", night.stderr);
    }
    let shown = restate(&site, 0, &WHY);
    assert_eq!((&shown["records"], &shown["outdated"]), (&0.into(), &1.into()), "{shown}");
    let shown = restate(&site, 1, &["--older"]);
    assert_eq!((&shown["records"], &shown["old"]), (&1.into(), &"0.277778".into()), "{shown}");
    let arguments = [&["--older"], &WHY[..]].concat();
    restate(&site, 0, &arguments);
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 0);
    assert_eq!(charged(), "0.020556");
    assert_eq!(restate(&site, 0, &["--older"])["records"], 0);
}

#[test]
fn an_approval_needs_a_reason_and_a_period() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    for arguments in [
        &["restate", "--from", "2026-11-23", "--to", "2026-11-24", "--approve"][..],
        &["restate", "--from", "2026-11-23", "--to", "2026-11-24", "--approve", "--reason", " "],
        &["restate", "--from", "2026-11-23", "--to", "2026-11-23"],
        &["restate", "--from", "2026-11-23"],
        &["restate", "--from", "yesterday", "--to", "2026-11-24"],
    ] {
        assert_eq!(site.run(arguments).status, 2, "{arguments:?}");
    }
}

#[test]
fn a_move_whose_zero_is_refused_says_what_to_do_and_goes_on_when_it_is_done() {
    let service = Service::start(Settings::default());
    let site = night(&service);
    rename(&site);
    restate(&site, 0, &WHY);
    service.sandbox().inject("refuse LocalRecordID=1=not today".parse().unwrap());
    site.run(&["run", "--wait", "1"]);
    service.sandbox().clear_faults();
    let status = site.run(&["status"]).stdout;
    let words: Vec<&str> = status.split_whitespace().collect();
    let status = words.join(" ");
    assert!(status.contains("held: moving") && !status.contains("nobody is needed"), "{status}");
    assert!(status.contains("zero is refused or failed: `amie-runner held retry KEY"), "{status}");
    let key = "slurm/testhpc/0000000001/1795427125";
    let said = site.run(&["held", "approve", key, "--reason", "no"]);
    assert!(said.stderr.contains("held retry"), "{}", said.stderr);
    let keys: Vec<String> = site
        .run(&["held", "--json", "--reason", "moving"])
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned())
        .collect();
    let retry: Vec<&str> = keys.iter().map(String::as_str).collect();
    let said = site.run(&[&["held", "retry", "--reason", "the user is known"], &retry[..]].concat());
    assert_eq!(said.status, 0, "{}", said.stderr);
    let night = site.run(&["run", "--wait", "20"]);
    renamed(&service, &night.stderr);
}
