//! What a person sees who misspells, forgets or confuses something in a configuration.

use super::*;
use std::path::PathBuf;

/// The shipped example, with one text replaced, in a folder with its tables.
fn example(from: &str, to: &str) -> Result<Config, ConfigError> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo"));
    let path = folder.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "the example does not contain {from:?}");
    Config::parse(&path, text.replacen(from, to, 1), Assume::default())
}

fn fault(from: &str, to: &str) -> ConfigError {
    example(from, to).expect_err("this configuration is faulty")
}

/// Message without the folder, and help.
fn said(from: &str, to: &str) -> (String, String) {
    let error = fault(from, to);
    let message = error.message.split_once("fixtures/demo/").map_or("", |(_, rest)| rest).to_owned();
    (message, error.help.unwrap_or_default())
}

#[test]
fn the_example_is_a_good_configuration() {
    let config = example("TestSite", "TestSite").unwrap();
    assert_eq!(config.site, "TestSite");
    let names: Vec<_> = config.sources.iter().map(|source| (source.name.as_str(), source.enabled)).collect();
    assert_eq!(names, [("slurm", true), ("slurm-live", false), ("pbs", true), ("scratch", true)]);
    assert_eq!(config.api.as_ref().map(|api| api.max_body_bytes), Some(196_608));
    assert!(config.api.as_ref().is_some_and(|api| api.may_resend(UsageType::Compute)));
    assert!(!config.api.as_ref().is_some_and(|api| api.may_resend(UsageType::Storage)));
    assert_eq!(config.tables.iter().map(|table| table.rows).collect::<Vec<_>>(), [2, 10, 3]);
}

#[test]
fn a_misspelt_key_is_named_with_its_line_and_a_suggestion() {
    let (message, help) = said("key_file", "key_fil");
    assert_eq!(message, "config.toml:10:1: unknown key `key_fil`");
    assert!(help.starts_with("did you mean `key_file`?"), "{help}");
    let (message, help) = said("max_charge", "maximum_charge");
    assert!(message.ends_with("unknown key `maximum_charge`"), "{message}");
    assert!(help.contains("max_charge"), "{help}");
}

#[test]
fn a_missing_table_is_named_where_the_configuration_names_it() {
    let (message, _) = said("\"projects.csv\"", "\"project.csv\"");
    assert!(message.contains("projects.table: there is no table"), "{message}");
    let error = fault("\"projects.csv\"", "\"project.csv\"");
    assert!(error.message.contains("config.toml:20:"), "{}", error.message);
}

#[test]
fn words_that_are_not_known_are_answered_with_those_that_are() {
    for (from, to, message, help) in [
        ("kind = \"pbs\"", "kind = \"psb\"", "kind: \"psb\" is not known", "did you mean \"pbs\"?"),
        ("\"America/Denver\"", "\"America/Denvr\"", "\"America/Denvr\" is not a time zone", "America/Denver"),
        (
            "forgeable = \"warn\"",
            "forgeable = \"wam\"",
            "forgeable: \"wam\" is not known",
            "warn, hold, accept",
        ),
        (
            "service_treats = \"level\"",
            "service_treats = \"levels\"",
            "service_treats",
            "did you mean \"level\"?",
        ),
        (
            "source = \"scratch\"",
            "source = \"scrtch\"",
            "there is no source \"scrtch\"",
            "did you mean \"scratch\"?",
        ),
        ("\"repquota-csv\"", "\"repquota-xml\"", "repquota-xml", ""),
        ("project_from = [\"group\"]", "project_from = []", "needs `project_from`", "no implicit fallback"),
        ("\"sqlite:ledger.db\"", "\"postgres://u@h/db\"", "PostgreSQL is not supported", "sqlite:PATH"),
        ("\"sqlite:ledger.db\"", "\"mysql://u:secret@h/db\"", "is not understood", "sqlite:ledger.db"),
        ("enabled = false", "enabled = true", "collect is not supported", "`paths`"),
        (
            "kind = \"sacct\"",
            "kind = \"sacct-json\"",
            "forgeable: is said of the text of sacct",
            "leave it out",
        ),
    ] {
        let (found, advice) = said(from, to);
        assert!(found.contains(message), "{to}: {found}");
        assert!(advice.contains(help), "{to}: {advice}");
        assert!(!found.contains("secret"), "{found}");
    }
}

#[test]
fn a_formula_is_pointed_at_where_it_is_wrong() {
    let error = fault("max(cores, mem_gb / 2)", "max(cores, mem_gib2 / 2)");
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo/config.toml"))
            .unwrap();
    let line = text.lines().position(|line| line.contains("max(cores, mem_gb / 2)")).unwrap() + 1;
    let column = text.lines().nth(line - 1).unwrap().find("mem_gb").unwrap() + 1;
    assert!(error.message.contains(&format!("config.toml:{line}:{column}:")), "{}", error.message);
}

#[test]
fn all_faults_are_said_at_once() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo"));
    let path = folder.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("forgeable = \"warn\"", "forgeable = \"w\"")
        .replace("until = 2026-01-01", "until = 2026-01-01T12:00:00")
        .replace("users.csv", "nobody.csv");
    let error = Config::parse(&path, text, Assume::default()).expect_err("three faults");
    let all: Vec<_> =
        std::iter::once(&error).chain(&error.others).map(|error| error.message.as_str()).collect();
    assert_eq!(all.len(), 3, "{all:#?}");
}

#[test]
fn factors_are_read_as_they_are_written_never_as_floating_point() {
    // 0.1 is no binary fraction: as f64 it would become 0.1000000000000000055...
    let config = example("preemptible = 0.25", "preemptible = 0.10000000000000000000000001").unwrap();
    let other = example("preemptible = 0.25", "preemptible = 0.1").unwrap();
    assert_ne!(config.rules.digest(), other.rules.digest());
    let (message, _) = said("preemptible = 0.25", "preemptible = nan");
    assert!(message.contains("factor.qos.preemptible"), "{message}");
    let (message, _) = said("preemptible = 0.25", "preemptible = -1");
    assert!(message.contains("must not be negative"), "{message}");
}

#[test]
fn what_is_no_configuration_is_said_so() {
    let error = Config::load(Path::new("/nonexistent/config.toml")).expect_err("not there");
    assert!(error.message.starts_with("/nonexistent/config.toml: cannot be read"), "{}", error.message);
    let error = Config::load(Path::new("/")).expect_err("a folder");
    assert!(error.help.is_some_and(|help| help.contains("folder")), "{}", error.message);
    let error =
        Config::parse(Path::new("c.toml"), "[site".to_owned(), Assume::default()).expect_err("not TOML");
    assert!(error.message.starts_with("c.toml:1:"), "{}", error.message);
    let error = Config::parse(Path::new("c.toml"), String::new(), Assume::default()).expect_err("empty");
    assert!(error.message.contains("`site` is missing"), "{}", error.message);
}
