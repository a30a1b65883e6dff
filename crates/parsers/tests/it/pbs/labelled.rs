//! Every job that was submitted, against what it used: `fixtures/expected/pbs-jobs*.tsv`, worked out from what was submitted and from the
//! logs by a script that shares nothing with this crate.

use super::super::fuzzed::folded::{Folded, Folding};
use super::super::fuzzed::text_of;
use super::{fixture, table};
use parsers::pbs::{OpenState, Options};
use parsers::{Frame, Kind, Phase, Run};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The files of a server, the table of its jobs.
const SERVERS: [(&str, &[&str], &str); 2] = [
    ("openpbs", &["20261031", "20261101", "20261123"], "expected/pbs-jobs.tsv"),
    ("torque", &["20261123"], "expected/pbs-jobs-torque.tsv"),
];

type Row = HashMap<String, String>;

/// Reads a server's files in order, with what exclusive placement took.
fn folding() -> Folding {
    let mut options = Options::default();
    options.assigned = true;
    Folding::new(&options, &[64 << 10], None)
}

fn number(row: &Row, name: &str) -> Option<u64> {
    Some(row[name].as_str()).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

fn phases(row: &Row) -> Vec<(u64, [Option<u64>; 4])> {
    row["phases"]
        .split(';')
        .filter(|phase| !phase.is_empty())
        .map(|phase| {
            let cells: Vec<Option<u64>> = phase
                .split(',')
                .map(|cell| Some(cell).filter(|cell| !cell.is_empty()).map(|cell| cell.parse().unwrap()))
                .collect();
            (cells[0].unwrap(), [cells[1], cells[2], cells[3], cells[4]])
        })
        .collect()
}

fn check(run: &Run<'_>, row: &Row) {
    let at = format!("{} {}", row["id"], row["run"]);
    let epoch = |time: Option<i64>| time.map(i64::unsigned_abs);
    assert_eq!(run.finding, None, "{at}");
    assert_eq!(run.state_text.to_string(), row["letter"], "{at}");
    assert_eq!((epoch(run.start), epoch(run.end)), (number(row, "start"), number(row, "end")), "{at}");
    assert_eq!(run.cores, number(row, "cores"), "{at}");
    assert_eq!(run.nodes, number(row, "nodes"), "{at}");
    assert_eq!(run.gpus, number(row, "gpus"), "{at}");
    assert_eq!(run.mem_bytes, number(row, "mem_bytes"), "{at}");
    assert_eq!(run.assigned.cores, number(row, "assigned_cores"), "{at}");
    assert_eq!(run.assigned.gpus.unwrap_or(0), number(row, "assigned_gpus").unwrap_or(0), "{at}");
    assert_eq!(run.assigned.mem_bytes, number(row, "assigned_mem_bytes"), "{at}");
    assert_eq!(run.elapsed, number(row, "elapsed"), "{at}");
    assert_eq!(run.suspended.unwrap_or(0), number(row, "suspended").unwrap(), "{at}");
    let found: Vec<_> = run
        .phases
        .iter()
        .map(|phase| (phase.seconds, [phase.cores, phase.nodes, phase.gpus, phase.mem_bytes]))
        .collect();
    assert_eq!(found, phases(row), "{at}");
    let own = [Phase {
        seconds: run.elapsed.unwrap(),
        cores: run.cores,
        nodes: run.nodes,
        gpus: run.gpus,
        ..Phase::default()
    }];
    let sum = |of: fn(&Phase) -> Option<u64>| {
        let phases = if run.phases.is_empty() { &own[..] } else { &run.phases };
        phases.iter().map(|phase| phase.seconds * of(phase).unwrap()).sum::<u64>()
    };
    assert_eq!(Some(sum(|phase| phase.cores)), number(row, "core_seconds"), "{at}");
    assert_eq!(Some(sum(|phase| phase.nodes)), number(row, "node_seconds"), "{at}");
    assert_eq!(Some(sum(|phase| phase.gpus)), number(row, "gpu_seconds"), "{at}");
}

#[test]
fn every_labelled_job_used_what_was_worked_out() {
    for (server, files, expected) in SERVERS {
        let rows = table(expected);
        let mut charged: BTreeMap<(String, u64), &Row> = BTreeMap::new();
        for row in rows.iter().filter(|row| row["decision"] == "charged") {
            let line = number(row, "line").unwrap();
            assert!(charged.insert((row["file"].clone(), line), row).is_none());
        }
        assert!(charged.len() >= 25, "{server}");
        let mut folding = folding();
        for (index, file) in files.iter().enumerate() {
            let log = fixture(&format!("pbs/{server}/{file}"));
            for folded in folding.file(index as u64, &log) {
                let Folded::Frame(Frame::Run(run)) = &folded else { continue };
                if run.kind != Kind::Run || !run.allocated {
                    continue;
                }
                let line = text_of(&Frame::Run(run.clone())).1.line as u64 + 1;
                let row = charged
                    .remove(&((*file).to_owned(), line))
                    .unwrap_or_else(|| panic!("{file} line {line}: {} is not expected", run.job_id));
                assert_eq!(run.job_id.to_string(), row["id"]);
                check(run, row);
            }
        }
        assert!(charged.is_empty(), "{server}: {charged:?}");
        assert_eq!(folding.fold.counts().doubted, 0);
    }
}

#[test]
fn jobs_without_an_end_are_those_of_the_table() {
    for (server, files, expected) in SERVERS {
        let rows = table(expected);
        let ids = |decision: &str| -> BTreeSet<String> {
            rows.iter()
                .filter(|row| row["decision"].starts_with(decision))
                .map(|row| row["id"].clone())
                .collect()
        };
        let mut folding = folding();
        for (index, file) in files.iter().enumerate() {
            folding.file(index as u64, &fixture(&format!("pbs/{server}/{file}")));
        }
        let open = folding.fold.open_runs();
        let of = |state| -> BTreeSet<String> {
            open.iter()
                .filter(|run| run.state == state)
                .map(|run| String::from_utf8(run.id.clone()).unwrap())
                .collect()
        };
        assert_eq!(of(OpenState::Running), ids("open: S and nothing after"), "{server}");
        assert_eq!(of(OpenState::Lost), ids("lost: execution node down"), "{server}");
        assert_eq!(of(OpenState::Deleted), BTreeSet::new(), "{server}");
        let counts = folding.fold.counts();
        assert_eq!(counts.without_record, ids("lost: the R record is empty").len() as u64, "{server}");
        assert_eq!(
            (counts.no_start_seen, counts.repeated, counts.lost, counts.torn),
            (0, 0, 0, 0),
            "{server}"
        );
    }
}
