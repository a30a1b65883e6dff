//! Every run against slurmdbd's own job table (`fixtures/expected/slurm-*-runs.tsv`), number by number.

use super::*;
use std::collections::{BTreeMap, HashSet};

type Row = HashMap<String, String>;

fn number<T: std::str::FromStr>(row: &Row, column: &str) -> Option<T> {
    let cell = &row[column];
    if cell.is_empty() { None } else { Some(cell.parse().ok().unwrap_or_else(|| panic!("{column}: {cell}"))) }
}

/// Rows of the job table by (raw job id, submit), and the cells where `sacct` is known to say otherwise.
struct Table {
    rows: HashMap<(String, i64), Row>,
    /// (db_index, sacct's column) -> what sacct says.
    known: HashMap<(String, String), String>,
}

impl Table {
    fn new(version: &str) -> Self {
        let rows = tsv(&format!("expected/slurm-{version}-runs.tsv"));
        let rows = rows
            .into_iter()
            .map(|row| ((row["id_job"].clone(), number(&row, "submit").unwrap()), row))
            .collect();
        let totals: serde_json::Value =
            serde_json::from_slice(&fixture(&format!("expected/slurm-{version}-totals.json"))).unwrap();
        let known = totals["compared"]["known_differences"].as_array().unwrap().iter();
        let cell =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let known =
            known.map(|it| ((cell(&it["db_index"]), cell(&it["column"])), cell(&it["sacct"]))).collect();
        Self { rows, known }
    }

    /// Compares all that a run says with its row; a known difference must be the known one.
    fn check(&self, run: &Run<'_>, what: &str) {
        let key = (run.raw_id.to_string(), run.submit.unwrap());
        let row =
            self.rows.get(&key).unwrap_or_else(|| panic!("{what}: no row of the job table for {key:?}"));
        let at = format!("{what}: job {} of {:?}", run.job_id, run.submit);
        let known = |column: &str| self.known.get(&(row["db_index"].clone(), column.to_owned()));
        let running = run.end.is_none(); // printed before the table was dumped, and ended in between

        assert_eq!(run.job_id, row["job_id"].as_str(), "{at}");
        assert_eq!(run.cluster.map(ToString::to_string).as_deref(), Some("testhpc"), "{at}");
        let text = |text: Option<&bstr::BStr>| text.map(ToString::to_string).unwrap_or_default();
        assert_eq!(text(run.account), row["account"], "{at}");
        assert_eq!(text(run.partition), row["partition"], "{at}");
        assert_eq!(text(run.qos), row["qos"], "{at}");
        assert_eq!(&text(run.user), known("User").unwrap_or(&row["user"]), "{at}");
        assert_eq!(run.start, number(row, "start"), "{at}");
        assert_eq!(run.allocated, !row["cpus"].is_empty() && run.start.is_some(), "{at}");
        assert_eq!(run.cores, number(row, "cpus"), "{at} cores");
        assert_eq!(run.nodes, number(row, "nodes"), "{at} nodes");
        assert_eq!(run.gpus, number(row, "gpus"), "{at} gpus");
        assert_eq!(run.mem_bytes, number(row, "mem_bytes"), "{at} mem");
        assert_eq!(
            run.billing,
            if run.allocated { Some(number(row, "billing").unwrap_or(0)) } else { None },
            "{at} billing"
        );
        let exit = known("ExitCode").cloned().unwrap_or(format!("{}:{}", row["exit_code"], row["signal"]));
        if !running {
            assert_eq!(format!("{}:{}", run.exit_code.unwrap(), run.signal.unwrap()), exit, "{at}");
            assert_eq!(run.eligible, number(row, "eligible"), "{at}");
            assert_eq!(run.end, number(row, "end"), "{at}");
            assert_eq!(run.elapsed, number(row, "elapsed"), "{at} elapsed");
            let state = run.state_text.to_string();
            assert_eq!(state.split(' ').next().unwrap(), row["state"], "{at}");
        }
    }

    /// Jobs that ended between the call of `sacct` and the dump of the table.
    fn ended_later(&self) -> Vec<String> {
        let later = |row: &&Row| {
            self.known.get(&(row["db_index"].clone(), "End".to_owned())).is_some_and(|end| end == "Unknown")
        };
        self.rows.values().filter(later).map(|row| row["job_id"].clone()).collect()
    }

    /// The rows that ended with something allocated: what there is to charge.
    fn charged(&self) -> HashSet<(String, i64)> {
        let charged = self.rows.iter().filter(|(_, row)| !row["core_seconds"].is_empty());
        charged.map(|(key, _)| key.clone()).collect()
    }
}

fn keys<'a>(runs: impl IntoIterator<Item = &'a Run<'a>>) -> HashSet<(String, i64)> {
    runs.into_iter().map(|run| (run.raw_id.to_string(), run.submit.unwrap())).collect()
}

fn ended<'a>(runs: &'a [Run<'a>]) -> impl Iterator<Item = &'a Run<'a>> {
    runs.iter().filter(|run| run.end.is_some() && run.allocated)
}

/// Reads a file, compares every run with the table, and returns the charged keys that the file does not show as ended runs.
fn compare(version: &str, file: &str) -> (Vec<String>, Vec<(usize, &'static str)>) {
    let text = fixture(&format!("slurm/{version}/{file}"));
    let table = Table::new(version);
    let found = understand(&strict(&text), &text);
    for run in &found.runs {
        table.check(run, &format!("{version}/{file}"));
    }
    let shown = keys(ended(&found.runs));
    assert_eq!(shown.len(), ended(&found.runs).count(), "(job, submit) is a key");
    let mut absent: Vec<_> =
        table.charged().difference(&shown).map(|key| table.rows[key]["job_id"].clone()).collect();
    absent.sort();
    (absent, found.quarantined_lines())
}

/// The row whose name has a newline, and what runs over of it (`line1`, `line2|9999|COMPLETED`).
fn newline_in_a_name(version: &str) -> (&'static str, Vec<(usize, &'static str)>) {
    match version {
        "22.05" => ("45", vec![(46, "beside-torn"), (47, "field-count")]),
        _ => ("46", vec![(47, "beside-torn"), (48, "field-count")]),
    }
}

#[test]
fn every_number_is_the_job_tables_in_epoch_times() {
    for version in VERSIONS {
        let (absent, quarantined) = compare(version, "P-D-X-usual-epoch.txt");
        let (torn, lines) = newline_in_a_name(version);
        assert_eq!(quarantined, lines);
        let mut expected = Table::new(version).ended_later();
        expected.push(torn.to_owned());
        expected.sort();
        assert_eq!(absent, expected, "{version}");
    }
}

#[test]
fn every_number_is_the_job_tables_in_local_times() {
    for version in VERSIONS {
        let epoch = compare(version, "P-D-X-usual-epoch.txt");
        assert_eq!(compare(version, "P-D-X-usual.txt"), epoch);
        assert_eq!(compare(version, "P-D-X-usual-epoch-utc.txt.gz"), epoch);
    }
}

#[test]
fn sums_are_the_job_tables() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/P-D-X-usual-epoch.txt"));
        let found = understand(&strict(&text), &text);
        let table = Table::new(version);
        let sum = |quantity: fn(&Run<'_>) -> u64| -> u64 { ended(&found.runs).map(quantity).sum() };
        let shown = keys(ended(&found.runs));
        let expected = |column: &str| -> u64 {
            shown.iter().map(|key| number::<u64>(&table.rows[key], column).unwrap()).sum()
        };
        assert_eq!(sum(|run| run.cores.unwrap() * run.elapsed.unwrap()), expected("core_seconds"));
        assert_eq!(sum(|run| run.nodes.unwrap() * run.elapsed.unwrap()), expected("node_seconds"));
        assert_eq!(sum(|run| run.gpus.unwrap() * run.elapsed.unwrap()), expected("gpu_seconds"));
        assert!(expected("core_seconds") > 700 && expected("gpu_seconds") > 30);
    }
}

#[test]
fn steps_are_never_counted() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/P-D-all.txt.gz"));
        let table = Table::new(version);
        let noted = understand(&strict(&text), &text);
        let options = Options { read_steps: true, ..options_for(&text) };
        let read = understand(&Layout::from_header(header(&text), &options).unwrap(), &text);
        assert_eq!(noted.runs, read.runs);
        assert_eq!(noted.notes[&NoteKind::Step], read.steps.len());
        assert!(noted.steps.is_empty() && read.steps.len() > 200);
        for run in &read.runs {
            table.check(run, version);
        }
        // Steps that are read are steps, whatever they are called, and repeat their job's account.
        let mut suffixes: Vec<_> = read
            .steps
            .iter()
            .map(|step| step.job_id.to_string().split_once('.').unwrap().1.to_owned())
            .collect();
        suffixes.sort();
        suffixes.dedup();
        for suffix in ["0", "batch", "extern", "interactive"] {
            assert!(suffixes.iter().any(|known| known == suffix), "{version}: {suffix} of {suffixes:?}");
        }
        let with_usage =
            read.steps.iter().filter(|step| step.cores.is_some() && step.elapsed.is_some()).count();
        assert!(with_usage > 150, "steps carry the same cores again: {with_usage}");
        assert!(read.steps.iter().all(|step| step.user.is_none()));
    }
}

#[test]
fn all_columns_at_once_lose_torn_rows_and_their_neighbours_and_nothing_else() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/P-D-X-all.txt.gz"));
        let table = Table::new(version);
        let found = understand(&strict(&text), &text);
        for run in &found.runs {
            table.check(run, version);
        }
        let mut by_reason = BTreeMap::new();
        for (_, code) in found.quarantined_lines() {
            *by_reason.entry(code).or_insert(0) += 1;
        }
        // Each torn line, and each whole one beside it: worked out from the fields of each line.
        let fields: Vec<_> =
            text.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b'|').count()).collect();
        let lines = fields.len() - 1;
        let torn = |line: usize| line > 0 && line < lines && fields[line] != fields[0];
        let beside = |line: &usize| !torn(*line) && (torn(line.saturating_sub(1)) || torn(line + 1));
        let expected = BTreeMap::from([
            ("beside-torn", (1..lines).filter(beside).count()),
            ("field-count", (1..lines).filter(|line| torn(*line)).count()),
        ]);
        assert_eq!(by_reason, expected, "{version}");
        assert_eq!(found.runs.len(), lines - 1 - expected["beside-torn"] - expected["field-count"]);
    }
}

#[test]
fn the_demo_reads_to_the_runs_of_its_table() {
    let text = fixture("demo/sacct/testhpc-2026-11-23.txt");
    let table = Table::new("24.05");
    let found = understand(&strict(&text), &text);
    found.runs.iter().for_each(|run| table.check(run, "demo"));
    assert!(found.runs.len() > 100);
}

#[test]
fn honest_rows_are_not_doubted() {
    // The one row that is: 22.05 starts the second part of a resized job at the start of the first.
    let mut doubted = Vec::new();
    for version in ["22.05", "24.05", "22.05-latin1db", "26.05-sample"] {
        let names = [
            "P-D-X-usual.txt",
            "P-D-X-usual-epoch.txt",
            "P-D-X-usual-head.txt",
            "P-D-X-all.txt.gz",
            "P-D-all.txt.gz",
            "P-all.txt.gz",
            "P-X-all.txt.gz",
        ];
        for name in names {
            let path = format!("slurm/{version}/{name}");
            if !PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(&path).exists() {
                continue;
            }
            let text = fixture(&path);
            let found = understand(&strict(&text), &text);
            assert!(!found.runs.is_empty());
            doubted.extend(
                found.runs.iter().filter_map(|run| Some((version, run.job_id.to_string(), run.finding?))),
            );
        }
    }
    doubted.sort_by_key(|(version, ..)| *version);
    doubted.dedup();
    let resized = parsers::Finding::StartBeforeSubmit;
    assert_eq!(doubted, [("22.05", "92".to_owned(), resized), ("22.05-latin1db", "88".to_owned(), resized)]);
}
