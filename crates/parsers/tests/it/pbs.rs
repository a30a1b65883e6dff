//! PBS accounting logs: the real logs against what was derived from them independently, each trap of the format, and hostile text.

mod blocks;
mod expected;
mod folds;
mod forged;
mod labelled;
mod simulated;
mod traps;

use parsers::pbs::{Events, Reader};
use parsers::{Frame, NoteKind, Quarantined, Run};
use std::collections::HashMap;
use std::path::Path;

/// A file under `fixtures/`.
fn fixture(path: &str) -> Vec<u8> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path);
    std::fs::read(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// The frames of a whole log, each by its own record.
fn frames(log: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    Reader::default()
        .frames(log, 0..log.len(), true, &mut Events::default(), &mut |frame| frames.push(frame));
    frames
}

fn runs(log: &[u8]) -> Vec<Run<'_>> {
    frames(log)
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Run(run) => Some(run),
            _ => None,
        })
        .collect()
}

fn quarantined(log: &[u8]) -> Vec<Quarantined<'_>> {
    frames(log)
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Quarantined(quarantined) => Some(quarantined),
            _ => None,
        })
        .collect()
}

/// The only frame of a log, which must be a run.
fn run(log: &str) -> Run<'_> {
    match frames(log.as_bytes()).as_slice() {
        [Frame::Run(run)] => run.clone(),
        other => panic!("expected one run, got {other:#?}"),
    }
}

/// Rows of a table by column name.
fn table(path: &str) -> Vec<HashMap<String, String>> {
    let text = String::from_utf8(fixture(path)).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(unescape).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    lines.map(|row| header.iter().cloned().zip(row).collect()).collect()
}

fn unescape(cell: &str) -> String {
    let (mut text, mut chars) = (String::new(), cell.chars());
    while let Some(char) = chars.next() {
        text.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => panic!("{cell}"),
            },
            other => other,
        });
    }
    text
}

/// One word for a frame: `run 1.srv`, `S`, `beside-torn`, ...
fn word(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Run(run) => format!("run {}", run.job_id),
        Frame::Note(note) => note.kind.to_string(),
        Frame::Quarantined(it) => it.reason.code().to_owned(),
    }
}

fn words(log: &[u8]) -> Vec<String> {
    frames(log).iter().map(word).collect()
}

/// The text and the place of a frame.
fn text_of<'a>(frame: &Frame<'a>) -> (&'a [u8], parsers::Place) {
    match frame {
        Frame::Run(it) => (it.text, it.place),
        Frame::Note(it) => (it.text, it.place),
        Frame::Quarantined(it) => (it.text, it.place),
    }
}

fn is_letter(frame: &Frame<'_>, letter: u8) -> bool {
    matches!(frame, Frame::Note(note) if note.kind == NoteKind::Letter(letter))
}

/// An `E` record of OpenPBS, 2 cores on n01 for 3 s, with parts to be replaced.
const E: &str = "11/23/2026 02:29:41;E;1.srv;user=alice group=physics account=\"lab7\" project=_pbs_project_default \
                 jobname=plain queue=workq ctime=1795426177 qtime=1795426177 etime=1795426177 start=1795426177 \
                 exec_host=n01/0*2 exec_vnode=(n01:ncpus=2) Resource_List.ncpus=2 Resource_List.nodect=1 \
                 Resource_List.place=pack Resource_List.select=1:ncpus=2 Resource_List.walltime=01:00:00 session=26052 \
                 end=1795426181 Exit_status=0 resources_used.cpupercent=0 resources_used.cput=00:00:00 \
                 resources_used.mem=0kb resources_used.ncpus=2 resources_used.vmem=0kb resources_used.walltime=00:00:03 \
                 eligible_time=00:00:02 run_count=1\n";

/// An `E` record of TORQUE 6.
const TORQUE: &str = "11/23/2026 03:07:19;E;1.trqsrv;user=alice group=physics account=lab7 jobname=plain queue=batch \
                      ctime=1795428436 qtime=1795428436 etime=1795428436 start_count=1 start=1795428436 \
                      owner=alice@trqsrv exec_host=trqsrv/0-1 Resource_List.nodes=1:ppn=2 Resource_List.mem=100mb \
                      Resource_List.nodect=1 Resource_List.neednodes=1:ppn=2 Resource_List.walltime=01:00:00 session=31930 \
                      total_execution_slots=2 unique_node_count=1 end=1795428439 Exit_status=0 resources_used.cput=0 \
                      resources_used.vmem=0kb resources_used.walltime=00:00:03 resources_used.mem=0kb \
                      resources_used.energy_used=0\n";
