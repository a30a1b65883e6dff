//! Every `E` and `R` of the real logs, row by row, against `fixtures/expected/pbs-*-runs.tsv`: written by a script that shares
//! nothing with this crate, and compared there with what was submitted.

use super::{fixture, is_letter, table, text_of};
use parsers::pbs::{Events, Reader};
use parsers::{Frame, Kind, NoteKind, Run, Scheduler, State};
use std::collections::{BTreeMap, HashMap, HashSet};

const LOGS: [(&str, &[&str]); 2] =
    [("openpbs", &["20261031", "20261101", "20261123"]), ("torque", &["20261123"])];

/// All frames of a server's logs: the logs are one source, read in order.
fn read_all(server: &str, files: &[&str], visit: &mut dyn FnMut(&str, &Frame<'_>)) {
    for file in files {
        let log = fixture(&format!("pbs/{server}/{file}"));
        Reader::default()
            .frames(&log, 0..log.len(), true, &mut Events::default(), &mut |frame| visit(file, &frame));
    }
}

fn check_row(run: &Run<'_>, row: &HashMap<String, String>) {
    let at = format!("{} line {}", row["file"], row["line"]);
    let text = |name: &str| row.get(name).filter(|text| !text.is_empty()).cloned();
    let number = |name: &str| text(name).map(|text| text.parse::<i64>().unwrap());
    let bytes = |value: Option<&bstr::BStr>| value.map(ToString::to_string);
    let unsigned = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap());
    let is_parent = row["array_parent"] == "yes";

    assert_eq!(run.scheduler, Scheduler::Pbs);
    assert_eq!(run.kind, if is_parent { Kind::Parent } else { Kind::Run }, "{at}");
    assert_eq!(run.job_id.to_string(), row["id"], "{at}");
    assert_eq!(run.raw_id.to_string(), row["id"], "{at}");
    assert_eq!(run.state_text.to_string(), row["letter"], "{at}");
    assert_eq!(bytes(run.cluster), text("server"), "{at}");
    assert_eq!(bytes(run.user), text("user"), "{at}");
    assert_eq!(bytes(run.group), text("group"), "{at}");
    assert_eq!(bytes(run.account), text("account"), "{at}");
    assert_eq!(bytes(run.project), text("project"), "{at}");
    assert_eq!(bytes(run.partition), text("queue"), "{at}");
    assert_eq!(bytes(run.name), text("jobname"), "{at}");
    assert_eq!(run.submit, number("ctime"), "{at}");
    assert_eq!(run.start, number("start").filter(|&start| start > 0), "{at}");
    assert_eq!(run.end, number("end"), "{at}");
    assert_eq!(run.allocated, number("start") != Some(0), "{at}");
    let exit_status = run.signal.map(|signal| signal + 256).or(run.exit_code);
    assert_eq!(exit_status.map(i64::from), number("exit_status"), "{at}");
    let span = run.start.map(|start| run.end.unwrap() - start);
    assert_eq!(unsigned(run.elapsed), number("walltime").or(span), "{at}");
    assert_eq!(run.run_count.map(i64::from), number("run_count"), "{at}");
    assert_eq!(unsigned(run.cores), number("cores"), "{at}");
    assert_eq!(unsigned(run.nodes), number("nodes"), "{at}");
    assert_eq!(unsigned(run.gpus), number("gpus"), "{at}");
    assert_eq!(unsigned(run.mem_bytes), number("mem_bytes"), "{at}");
    assert_eq!((run.qos, run.billing, run.suspended), (None, None, None), "{at}");

    assert_eq!(run.finding, None, "{at}");
    let state = match (row["letter"].as_str(), number("exit_status")) {
        ("R", _) => State::Requeued,
        (_, Some(0)) => State::Completed,
        (_, Some(-29)) if row["server"] == "pbssrv" => State::Timeout,
        (_, Some(-11)) if row["server"] == "trqsrv" => State::Timeout,
        _ => State::Failed,
    };
    assert_eq!(run.state, state, "{at}");
}

#[test]
fn every_e_and_r_record_is_read_as_expected() {
    for (server, files) in LOGS {
        let rows = table(&format!("expected/pbs-{server}-runs.tsv"));
        let mut expected = rows.iter();
        read_all(server, files, &mut |file, frame| {
            let line = text_of(frame).1.line + 1;
            let mut next = |id: &str| {
                let row = expected.next().unwrap_or_else(|| panic!("{file} line {line}: nothing expected"));
                assert_eq!(
                    (file, line.to_string(), id),
                    (row["file"].as_str(), row["line"].clone(), row["id"].as_str())
                );
                row
            };
            match frame {
                Frame::Run(run) => check_row(run, next(&run.job_id.to_string())),
                Frame::Note(note) if note.kind == NoteKind::EmptyRerun => {
                    let id = note.text.split(|&byte| byte == b';').nth(2).unwrap();
                    let row = next(std::str::from_utf8(id).unwrap());
                    assert_eq!((row["letter"].as_str(), row["user"].as_str()), ("R", ""));
                }
                Frame::Note(_) => {}
                Frame::Quarantined(it) => panic!("{file} line {line}: {}: {}", it.reason, it.text),
            }
        });
        assert_eq!(expected.next(), None);
        assert_eq!(rows.len(), if server == "openpbs" { 148 } else { 28 });
    }
}

#[test]
fn the_sums_are_those_of_the_independent_reader() {
    for (server, files) in LOGS {
        let totals: serde_json::Value =
            serde_json::from_slice(&fixture(&format!("expected/pbs-{server}-totals.json"))).unwrap();
        let rows = table(&format!("expected/pbs-{server}-runs.tsv"));
        let released: HashSet<_> = rows
            .iter()
            .filter(|row| row["node_release"] == "yes")
            .map(|row| (row["file"].as_str(), row["line"].clone()))
            .collect();
        let (mut all, mut whole) = ([0_u64; 5], [0_u64; 5]);
        read_all(server, files, &mut |file, frame| {
            let Frame::Run(run) = frame else { return };
            if run.kind != Kind::Run || !run.allocated {
                return;
            }
            let seconds = run.elapsed.unwrap();
            let sums = [
                1,
                seconds,
                run.cores.unwrap() * seconds,
                run.nodes.unwrap() * seconds,
                run.gpus.unwrap() * seconds,
            ];
            all.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
            if !released.contains(&(file, (run.place.line + 1).to_string())) {
                whole.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
            }
        });
        let of = |name: &str| {
            ["runs", "seconds", "core_seconds", "node_seconds", "gpu_seconds"]
                .map(|sum| totals[name][sum].as_u64().unwrap())
        };
        assert_eq!(all, of("total"), "{server}");
        assert_eq!(whole, of("total_without_node_releases"), "{server}");
    }
}

/// Frames are conserved: as many as there are record starts, found by another means, and of the letters that the script counted.
#[test]
fn every_record_is_a_frame_and_the_letters_are_counted() {
    for (server, files) in LOGS {
        let totals: serde_json::Value =
            serde_json::from_slice(&fixture(&format!("expected/pbs-{server}-totals.json"))).unwrap();
        let (mut letters, mut frames) = (BTreeMap::new(), 0);
        read_all(server, files, &mut |_, frame| {
            frames += 1;
            let letter = char::from(text_of(frame).0[20]);
            *letters.entry(letter.to_string()).or_insert(0) += 1;
            assert!(matches!(letter, 'E' | 'R') || is_letter(frame, letter as u8));
        });
        assert_eq!(frames, totals["records"].as_u64().unwrap());
        assert_eq!(serde_json::to_value(&letters).unwrap(), totals["letters"]);
        let starts: usize = files
            .iter()
            .map(|file| {
                let log = fixture(&format!("pbs/{server}/{file}"));
                log.split(|&byte| byte == b'\n')
                    .filter(|line| line.len() > 22 && line[2] == b'/' && line[19] == b';' && line[21] == b';')
                    .count()
            })
            .sum();
        assert_eq!(frames, starts as u64);
    }
}
