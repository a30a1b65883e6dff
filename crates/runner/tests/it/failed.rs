//! `failed` and `report`: failures by their words, noted before they are acknowledged; the page at any time.

use crate::support::{Service, Site, amie_runner};
use serde_json::Value;
use usage_sandbox::{Rule, Settings};

const WORDS: &str = "Allocation could not be found for user pbcarol";

fn night() -> (Service, Site) {
    let service = Service::start(Settings {
        fail_load: vec![
            Rule::new("Username", "pbcarol", WORDS),
            Rule::new("LocalRecordID", "1", "a start time before the allocation's"),
        ],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    (service, site)
}

fn listed(site: &Site, status: i32) -> Vec<Value> {
    let said = site.run(&["failed", "--json"]);
    assert_eq!(said.status, status, "{}{}", said.stdout, said.stderr);
    serde_json::from_str::<Value>(&said.stdout).unwrap()["failed"].as_array().unwrap().clone()
}

#[test]
fn failures_are_listed_by_their_words_retried_and_acknowledged() {
    let (service, site) = night();
    site.run(&["run", "--wait", "20"]);
    let failed = service.state().failed.len() as u64;
    let list = listed(&site, 1);
    assert_eq!(list[0]["error"], WORDS);
    assert_eq!(list[0]["count"], failed - 1, "all but one are of that user: {list:?}");
    assert_eq!(list[1]["count"], 1);
    // Acknowledging sends nothing, and changes nothing in the ledger.
    let posts = service.state().posts;
    let said = site.run(&["failed", "clear", "--json"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    let cleared: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (&cleared["shown"], &cleared["cleared"], &cleared["noted"]),
        (&failed.into(), &failed.into(), &0.into())
    );
    assert_eq!((service.state().failed.len(), service.state().cleared.len() as u64), (0, failed));
    assert_eq!(listed(&site, 1), list);
    // Retried by its words, alone; it fails once more, and that is news.
    let retry =
        ["failed", "retry", "--error", "a start time before the allocation's", "--reason", "it was moved"];
    let said = site.run(&retry);
    assert_eq!((said.status, said.stdout.as_str()), (0, "1 to be sent again\n"), "{}", said.stderr);
    site.run(&["run", "--wait", "20"]);
    assert_eq!(service.state().posts, posts + 1);
    assert_eq!(listed(&site, 1), list, "failed again");
    assert_eq!(site.run(&["failed", "retry", "--reason", "which?"]).status, 2);
    assert_eq!(site.run(&["failed", "retry", "--all"]).status, 2);
}

#[test]
fn what_failed_is_noted_before_it_is_acknowledged_whatever_dies() {
    let (service, site) = night();
    // The night sends, and dies before it asks what became of it.
    let killed =
        amie_runner(site.folder.path()).arg("run").env("AMIE_CRASH_AT", "submitted:1").output().unwrap();
    assert_eq!(killed.status.code(), None);
    let failed = service.state().failed.len() as u64;
    assert!(failed > 1);
    let killed = amie_runner(site.folder.path())
        .args(["failed", "clear"])
        .env("AMIE_CRASH_AT", "noted:1")
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{}", String::from_utf8_lossy(&killed.stderr));
    assert_eq!(service.state().cleared.len(), 0, "acknowledged too early");
    assert_eq!(listed(&site, 1).iter().map(|group| group["count"].as_u64().unwrap()).sum::<u64>(), failed);
    let said = site.run(&["failed", "clear", "--json"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    assert_eq!(service.state().cleared.len() as u64, failed);
}

#[test]
fn failures_of_others_are_left_alone() {
    let (service, site) = night();
    site.run(&["run", "--source", "slurm", "--wait", "20"]);
    // Another sender of the same site: the PBS part goes out from another ledger.
    let other = Site::new();
    other.send_to(&service.url());
    other.run(&["run", "--source", "pbs", "--wait", "20"]);
    let failed = service.state().failed.len() as u64;
    let said = site.run(&["failed", "clear", "--json"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    let cleared: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&cleared["cleared"], &cleared["foreign"]), (&1.into(), &(failed - 1).into()), "{cleared}");
    assert_eq!(service.state().failed.len() as u64, failed - 1);
    site.run(&["failed", "clear", "--foreign"]);
    assert_eq!(service.state().failed.len(), 0);
}

#[test]
fn a_service_that_is_down_is_said_and_nothing_is_lost() {
    let (mut service, site) = night();
    site.run(&["run", "--wait", "20"]);
    let list = listed(&site, 1);
    service.stop();
    let said = site.run(&["failed", "clear"]);
    assert_eq!(said.status, 3, "{}", said.stderr);
    assert_eq!(listed(&site, 1), list);
}

#[test]
fn the_report_page_is_written_at_any_time() {
    let (_service, site) = night();
    assert_eq!(site.run(&["report", "page.html"]).status, 2, "there is no ledger yet");
    site.run(&["run", "--wait", "20"]);
    let said = site.run(&["report", "page.html"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    let page = site.read("page.html");
    for part in [
        "Usage report: TestSite",
        WORDS,
        "TG-CHE260002",
        "unknown-project",
        "Compute",
        "projects.csv: 2 rows",
    ] {
        assert!(page.contains(part), "no {part:?}");
    }
    assert!(!page.contains("runs read") && !page.contains("Nothing is lost"), "nothing was read by it");
}
