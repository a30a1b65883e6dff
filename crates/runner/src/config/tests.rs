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
        (
            "project_from = [\"group\"]",
            "project_from = [\"group\"]\ngpu_resources = []",
            "gpu_resources: names at least one",
            "",
        ),
        (
            "forgeable = \"warn\"",
            "gpu_resources = [\"ngpus\"]",
            "gpu_resources: is said of PBS logs only",
            "leave it out",
        ),
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

/// A configuration with its tables in a folder of its own.
fn written(files: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    Config::load(&folder.path().join("config.toml"))
}

const EVERY_RULE: &str = r#"
[site]
name = "S"
timezone = "UTC"

[projects]
table = "projects.csv"

[users]
pi_fallback = ["gateway"]

[[source]]
name = "slurm"
kind = "sacct"
paths = ["a"]
account_case = "exact"
parent_record_id = "{parent}"

[[node_type]]
name = "fat"
cluster = "c"
queue = ["big", "bigger"]
hosts = 'fat\d+'
cores = 64
gpus = 0

[[resource]]
name = "r"
cores_per_node = 128
gpus_per_node = 4
supplied = "charges.csv"
max_charge = 1_000
max_cores = 10000
max_hours = 48.5

[[resource.rate]]
from = 2026-01-01
charge = "if(supplied > 0, supplied, exclusive.cores * hours * factor.node_type)"

[resource.rate.factor.node_type]
fat = 2

[policy]
resizing = "zero"
max_cores = 9
max_hours = "24"
"#;
const PROJECTS: &str = "account,project,pi\nlab,P,prof\n";
const CHARGES: &str = "job_id,submit,charge,cluster,start\n1,1795427125,2.5,c,2026-11-23T10:00:00Z\n";

#[test]
fn every_key_of_a_rule_is_read() {
    let files = |config: &str, charges: &str| {
        written(&[("config.toml", config), ("projects.csv", PROJECTS), ("charges.csv", charges)])
    };
    let digest = |config: &str, charges: &str| {
        files(config, charges).unwrap_or_else(|error| panic!("{}", error.message)).rules.digest()
    };
    let whole = digest(EVERY_RULE, CHARGES);
    // Whatever is left out or written otherwise makes other rules.
    for (from, to) in [
        ("pi_fallback = [\"gateway\"]", ""),
        ("cluster = \"c\"", ""),
        ("queue = [\"big\", \"bigger\"]", "partition = \"big\""),
        ("hosts = 'fat\\d+'", "hosts = ['fat\\d+', 'x']"),
        ("cores = 64", ""),
        ("gpus = 0", ""),
        ("cores_per_node = 128", ""),
        ("gpus_per_node = 4", ""),
        ("max_charge = 1_000", "max_charge = 1000.5"),
        ("max_cores = 10000", ""),
        ("max_hours = 48.5", ""),
        ("fat = 2", "fat = 2.5"),
        ("resizing = \"zero\"", ""),
        ("max_cores = 9", ""),
        ("max_hours = \"24\"", ""),
    ] {
        assert!(EVERY_RULE.contains(from), "{from}");
        assert_ne!(digest(&EVERY_RULE.replacen(from, to, 1), CHARGES), whole, "{from}");
    }
    for (from, to) in [("2.5", "2.50001"), ("1795427125", ""), (",c,", ",,"), ("2026-11-23T10:00:00Z", "")] {
        assert_ne!(digest(EVERY_RULE, &CHARGES.replacen(from, to, 1)), whole, "{from}");
    }
    assert_eq!(digest(&EVERY_RULE.replacen("1_000", "1000", 1), CHARGES), whole);
    let source = |config: &str| match &files(config, CHARGES).unwrap().sources[0].kind {
        SourceKind::Sacct { mapping, .. } => mapping.digest(),
        _ => panic!("sacct"),
    };
    for (from, to) in [("account_case = \"exact\"", ""), ("parent_record_id = \"{parent}\"", "")] {
        assert_ne!(source(&EVERY_RULE.replacen(from, to, 1)), source(EVERY_RULE), "{from}");
    }
}

#[test]
fn faults_of_rules_are_pointed_at() {
    let fault = |from: &str, to: &str, charges: &str| {
        let config = EVERY_RULE.replacen(from, to, 1);
        assert_ne!(config, EVERY_RULE, "{from}");
        let files = [("config.toml", config.as_str()), ("projects.csv", PROJECTS), ("charges.csv", charges)];
        let error = written(&files).expect_err("a fault");
        let message =
            error.message.rsplit_once("/config.toml:").map_or(error.message.as_str(), |(_, rest)| rest);
        (message.to_owned(), error.help.unwrap_or_default())
    };
    let line = |text: &str| EVERY_RULE.lines().position(|line| line.contains(text)).unwrap() + 1;
    let column = |text: &str, part: &str| {
        EVERY_RULE.lines().find(|line| line.contains(text)).unwrap().find(part).unwrap() + 1
    };
    let formula = "charge = \"if(";
    let at = format!("{}:{}:", line(formula), column(formula, "exclusive"));
    let (message, help) = fault("exclusive.cores", "exclusive.coers", CHARGES);
    assert!(message.starts_with(&at) && message.contains("`exclusive.coers` is no quantity"), "{message}");
    assert_eq!(help, "did you mean `exclusive.cores`?");
    let (message, _) = fault("supplied = \"charges.csv\"", "", CHARGES);
    assert!(message.contains("the configuration does not say `supplied`"), "{message}");
    let (message, _) = fault("'fat\\d+'", "'fat('", CHARGES);
    assert!(message.starts_with(&format!("{}:", line("[[node_type]]"))), "{message}");
    let (message, help) = fault("\"exact\"", "\"exactly\"", CHARGES);
    assert!(message.contains("account_case: \"exactly\" is not known"), "{message}");
    assert!(help.contains("did you mean \"exact\"?"), "{help}");
    let (message, help) = fault("\"{parent}\"", "\"{partn}\"", CHARGES);
    assert!(message.starts_with(&format!("{}:", line("parent_record_id"))), "{message}");
    assert_eq!(help, "did you mean {parent}?");
    let (message, _) = fault("max_hours = 48.5", "max_hours = 0", CHARGES);
    assert!(message.contains("max_hours: \"0\" is no number of hours above 0"), "{message}");
    let local = CHARGES.replace("1795427125", "2026-11-23T09:45:25");
    let (message, _) = fault("max_cores = 9", "", &local);
    assert!(message.contains("charges.csv:2: submit: \"2026-11-23T09:45:25\" is not a time"), "{message}");
    // A formula over several lines is pointed at in its own.
    let several = "\ncharge = \"\"\"\nif(supplied > 0,\n  suplied,\n  hours)\"\"\" #";
    let (message, _) = fault("\ncharge = ", several, CHARGES);
    assert!(message.starts_with(&format!("{}:3:", line(formula) + 2)), "{message}");
}
