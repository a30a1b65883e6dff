//! What a person sees who gets something wrong, and what is left when services do.

use crate::support::{KEY, Service, Site, expected_records, run};
use std::os::unix::fs::PermissionsExt;
use usage_sandbox::Settings;

/// Runs, and expects this exit status and these words on stderr.
fn expect(site: &Site, arguments: &[&str], status: i32, words: &[&str]) -> String {
    let said = site.run(arguments);
    assert_eq!(said.status, status, "{arguments:?}\n{}{}", said.stdout, said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "{arguments:?}: no {word:?} in\n{}", said.stderr);
    }
    assert!(!said.stderr.contains(KEY) && !said.stdout.contains(KEY), "the key was printed");
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    said.stderr
}

#[test]
fn a_misspelt_key_is_named_with_line_and_suggestion() {
    let site = Site::new();
    site.configure("max_records = 1000", "max_record = 1000");
    expect(
        &site,
        &["check"],
        2,
        &["config.toml:12:1: unknown key `max_record`", "did you mean `max_records`?"],
    );
}

#[test]
fn a_missing_table_or_configuration_is_named() {
    let site = Site::new();
    std::fs::remove_file(site.path("users.csv")).unwrap();
    expect(&site, &["run"], 2, &["users.table: there is no table", "users.csv"]);
    expect(
        &site,
        &["check", "--config", "nowhere.toml"],
        2,
        &["nowhere.toml: cannot be read", "--config FILE"],
    );
}

#[test]
fn a_table_that_is_wrong_is_named_by_line() {
    let site = Site::new();
    site.write("projects.csv", "account,project,form\nphysics,TG-1,2026-01-01\n");
    expect(&site, &["check"], 2, &["projects.csv:1: unknown column \"form\"", "did you mean `from`?"]);
    site.write("projects.csv", "account,project,from\nphysics,TG-1,\nchem,TG-2,01/02/2026\n");
    expect(&site, &["check"], 2, &["projects.csv:3: from: \"01/02/2026\" is not a date like 2026-01-01"]);
}

#[test]
fn a_path_that_is_not_there_is_usage_and_a_pattern_without_files_is_said() {
    let site = Site::new();
    expect(
        &site,
        &["transform", "--source", "slurm", "sacct/none.txt"],
        2,
        &["sacct/none.txt: no such file"],
    );
    expect(&site, &["parse", "--format", "pbs", "none"], 2, &["none: no such file"]);
    let said = expect(&site, &["transform"], 1, &["no file matches sacct/*.txt.zst"]);
    assert!(said.contains("runs"), "{said}");
}

#[test]
fn files_that_are_not_what_they_should_be_are_named_and_the_others_read() {
    let site = Site::new();
    site.write("sacct/a-empty.txt", "");
    std::fs::write(site.path("sacct/b-binary.txt"), b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe\0").unwrap();
    std::fs::write(site.path("sacct/c-broken.txt.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage").unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", site.path("sacct/d-unreadable.txt")).unwrap();
    let said = site.run(&["transform", "--summary", "summary.json"]);
    assert_eq!(said.status, 1, "{}", said.stderr);
    for name in ["a-empty.txt: ", "b-binary.txt: ", "c-broken.txt.gz: ", "d-unreadable.txt: "] {
        assert!(said.stderr.contains(name), "{name}: {}", said.stderr);
    }
    assert_eq!(site.summary()["mapped"], expected_records().len(), "{}", said.stderr);
}

#[test]
fn a_file_that_cannot_be_read_needs_a_person_even_where_nothing_else_does() {
    let site = Site::new();
    std::fs::write(site.path("broken.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage").unwrap();
    expect(&site, &["transform", "--source", "slurm", "broken.gz"], 1, &["broken.gz: cannot be read"]);
    expect(&site, &["parse", "--format", "sacct", "broken.gz"], 1, &["broken.gz: cannot be read"]);
    expect(
        &site,
        &["transform", "--bench", "--source", "slurm", "broken.gz"],
        1,
        &["broken.gz: cannot be read"],
    );
}

#[test]
fn a_folder_is_refused_with_the_pattern_to_use() {
    let site = Site::new();
    expect(&site, &["parse", "--format", "sacct", "sacct"], 2, &["sacct: is a folder", "sacct/*.txt"]);
}

#[test]
fn a_file_cut_in_the_middle_of_a_line_loses_that_line_alone_and_says_so() {
    let site = Site::new();
    let whole = site.read("sacct/testhpc-2026-11-23.txt");
    // Cut within AllocTRES of the last row: `cpu=2` would become `cpu=`, or worse, 16 would become 1.
    let cut = whole.trim_end().rfind("cpu=").unwrap() + 4;
    site.write("sacct/testhpc-2026-11-23.txt", &whole[..cut]);
    let said =
        site.run(&["transform", "--source", "slurm", "--quarantine", "q.json", "--summary", "summary.json"]);
    assert_eq!(said.status, 1);
    assert!(said.stderr.contains("the file ends in the middle of this record"), "{}", said.stderr);
    assert_eq!(site.summary()["quarantined"], 3, "{}", said.stderr);
    assert!(site.read("q.json").contains("\"code\":\"cut-off\""));
}

#[test]
fn without_a_key_or_with_a_key_that_others_can_read_nothing_is_sent() {
    let site = Site::new();
    std::fs::set_permissions(site.path("api-key"), std::fs::Permissions::from_mode(0o604)).unwrap();
    expect(&site, &["run"], 2, &["api-key", "chmod"]);
    std::fs::remove_file(site.path("api-key")).unwrap();
    expect(&site, &["run"], 2, &["api-key"]);
    assert!(!site.path("ledger.db").exists(), "nothing is begun without a key");
    // What needs no key works.
    assert_eq!(site.run(&["transform"]).status, 1);
    let check = site.run(&["check"]);
    assert_eq!(check.status, 1);
    assert!(check.stdout.contains("nothing can be sent"), "{}", check.stdout);
}

#[test]
fn an_api_that_refuses_the_key_is_a_matter_of_configuration() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.write("api-key", "some-other-key\n");
    expect(&site, &["run", "--summary", "summary.json"], 2, &["refuses this site or its key"]);
    assert_eq!(site.summary()["pending"], expected_records().len(), "all of it waits");
    assert_eq!(service.state().loaded.len(), 0);
    site.write("api-key", &format!("{KEY}\n"));
    // What the refused run held needs a person still: nobody was told, for the key came first.
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1);
    assert_eq!(service.state().loaded.len(), expected_records().len());
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 0);
}

#[test]
fn an_api_that_is_down_loses_nothing() {
    let mut service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    service.stop();
    expect(&site, &["run", "--summary", "summary.json"], 3, &["nothing is lost, run again"]);
    assert_eq!(site.summary()["pending"], expected_records().len());
}

#[test]
fn an_api_that_answers_html_is_not_believed() {
    let service =
        Service::start(Settings { faults: vec!["html:200@any".parse().unwrap()], ..Settings::default() });
    let site = Site::new();
    site.send_to(&service.url());
    expect(&site, &["run", "--summary", "summary.json"], 3, &["run again"]);
    let summary = site.summary();
    assert_eq!((&summary["accepted"], &summary["loaded"]), (&0.into(), &0.into()), "{summary}");
    service.sandbox().clear_faults();
    site.run(&["run", "--wait", "20", "--summary", "summary.json"]);
    let summary = site.summary();
    assert_eq!(
        summary["loaded"],
        expected_records().iter().filter(|record| !record[2].is_empty()).count(),
        "{summary}"
    );
}

#[test]
fn a_ledger_that_cannot_grow_stops_the_run_before_anything_is_sent() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    // Files may not grow beyond 64 KiB: what a full disk is to the ledger.
    let command = format!("trap '' XFSZ; ulimit -f 64; exec '{}' run", env!("CARGO_BIN_EXE_amie-runner"));
    let output = std::process::Command::new("bash")
        .args(["-c", &command])
        .current_dir(site.folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(2 | 3)), "{:?} {stderr}", output.status);
    assert!(stderr.contains("ledger.db"), "{stderr}");
    assert_eq!(service.state().posts, 0, "nothing may be sent that the ledger does not hold");
    assert_eq!(site.run(&["run", "--wait", "20"]).status, 1, "with room again, all is well");
    assert_eq!(service.state().loaded.len(), expected_records().len());
}

#[test]
fn a_ledger_of_another_service_is_refused() {
    let service = Service::start(Settings::default());
    let site = Site::new();
    site.send_to(&service.url());
    site.run(&["run", "--wait", "20"]);
    site.send_to("https://usage.access-ci.org/api/v1");
    expect(&site, &["run"], 2, &["this ledger belongs to site TestSite", "Name another `ledger` path"]);
}

#[test]
fn two_runners_do_not_work_on_one_ledger() {
    let service =
        Service::start(Settings { load_delay: std::time::Duration::from_secs(60), ..Settings::default() });
    let site = Site::new();
    site.send_to(&service.url());
    let _first = runner::nightly::open_ledger(&site.config(), &service.url()).unwrap();
    expect(&site, &["run"], 3, &["another amie-runner is working with this ledger"]);
    assert_eq!(service.state().posts, 0);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let site = Site::new();
    site.write("x", "JobID|State\n");
    expect(
        &site,
        &["parse", "--format", "sacct-json", "x"],
        1,
        &["x: is not a document of sacct --json", "begins with \"J\""],
    );
    expect(&site, &["parse", "--format", "sacct-yaml", "x"], 2, &["\"sacct-yaml\" is not known"]);
    expect(&site, &["parse", "--format", "quota:lustre", "x"], 2, &["lustre", "repquota-csv"]);
    expect(
        &site,
        &["parse", "--format", "lsf", "x"],
        2,
        &["use sacct, sacct-json, pbs or quota:repquota-csv"],
    );
    std::fs::write(site.path("sacct/x.txt"), b"\xfd7zXZ\0rest").unwrap();
    expect(&site, &["parse", "--format", "sacct", "sacct/x.txt"], 1, &["xz", "gzip or zstd"]);
}

#[test]
fn help_names_the_exit_statuses() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["--help"]);
    assert_eq!(said.status, 0);
    assert!(said.stdout.contains("3 a service could not be reached"), "{}", said.stdout);
    assert_eq!(run(folder.path(), &["nonsense"]).status, 2);
}
