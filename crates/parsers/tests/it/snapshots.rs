//! Real input as it is understood, a line for each run, to be read in review: what changes here changes what is charged.

use super::fuzzed::folded::{Folded, Folding};
use super::fuzzed::{sacct, text_of};
use super::sacct::{fixture, strict};
use parsers::pbs::Options;
use parsers::quota::{Format, read};
use parsers::{Frame, QuotaFrame, Run};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// `line  job  user account queue/qos  STATE  submit +wait +elapsed  cores nodes gpus memory  exit  [why it is held]`.
fn line(run: &Run<'_>) -> String {
    let wait = run.start.zip(run.submit).map(|(start, submit)| start - submit);
    let raw = if run.raw_id == run.job_id { String::new() } else { format!("={}", run.raw_id) };
    let count = run.run_count.map(|count| format!("#{count}")).unwrap_or_default();
    let mut line = format!(
        "{:>4} {} {}{raw}{count} {} {} {}/{} {} submit {} wait {} ran {} end {} | {} cores {} nodes {} gpus {} bytes billing {} | exit {}:{}",
        run.place.line + 1,
        run.kind.as_str(),
        run.job_id,
        or_dash(run.user),
        or_dash(run.account.map(|account| account.escape_ascii())),
        or_dash(run.partition),
        or_dash(run.qos),
        run.state_text,
        or_dash(run.submit),
        or_dash(wait),
        or_dash(run.elapsed),
        or_dash(run.end),
        or_dash(run.cores),
        or_dash(run.nodes),
        or_dash(run.gpus),
        or_dash(run.mem_bytes),
        or_dash(run.billing),
        or_dash(run.exit_code),
        or_dash(run.signal),
    );
    for phase in &run.phases {
        let (cores, nodes, gpus) = (or_dash(phase.cores), or_dash(phase.nodes), or_dash(phase.gpus));
        let _ = write!(line, " PHASE {} s {cores} cores {nodes} nodes {gpus} gpus", phase.seconds);
    }
    if let Some(suspended) = run.suspended.filter(|_| run.billing.is_none()) {
        let _ = write!(line, " SUSPENDED {suspended} s");
    }
    if let Some(finding) = run.finding {
        let _ = write!(line, " HELD {finding:?}");
    }
    line
}

fn told(frames: &[Frame<'_>]) -> String {
    let (mut text, mut notes) = (String::new(), BTreeMap::new());
    for frame in frames {
        match frame {
            Frame::Run(run) => text += &format!("{}\n", line(run)),
            Frame::Note(note) => *notes.entry(note.kind.to_string()).or_insert(0) += 1,
            Frame::Quarantined(it) => {
                text += &format!("{:>4} QUARANTINED {}\n", text_of(frame).1.line + 1, it.reason);
            }
        }
    }
    for (kind, count) in notes {
        text += &format!("{count} {kind}\n");
    }
    text
}

#[test]
fn sacct_text() {
    let text = fixture("slurm/24.05/P-D-X-usual-epoch.txt");
    insta::assert_snapshot!(told(&sacct::read(&strict(&text), &text)));
}

/// The frames of a log, with what other records say of its runs.
fn folded(log: &[u8]) -> Vec<Frame<'_>> {
    let folded = Folding::new(&Options::default(), &[usize::MAX], None).file(1, log);
    folded
        .into_iter()
        .map(|folded| if let Folded::Frame(frame) = folded { frame } else { panic!("{folded:?}") })
        .collect()
}

#[test]
fn openpbs_log() {
    insta::assert_snapshot!(told(&folded(&fixture("pbs/openpbs/20261123"))));
}

#[test]
fn torque_log() {
    insta::assert_snapshot!(told(&folded(&fixture("pbs/torque/20261123"))));
}

#[test]
fn quota_report() {
    let report = fixture("demo/quota/scratch-2026-11-23.csv");
    let mut text = String::new();
    read(Format::RepquotaCsv, &report, &mut |frame| match frame {
        QuotaFrame::Reading(it) => {
            text += &format!(
                "{:>4} {} {} id {} | {} bytes of {} | {} files of {}\n",
                it.place.line + 1,
                it.owner_kind.as_str(),
                it.owner_name,
                or_dash(it.owner_id),
                it.bytes,
                or_dash(it.bytes_limit),
                or_dash(it.files),
                or_dash(it.files_limit)
            );
        }
        QuotaFrame::Note(note) => text += &format!("{:>4} {}\n", note.place.line + 1, note.kind),
        QuotaFrame::Quarantined(it) => {
            text += &format!("{:>4} QUARANTINED {}\n", it.place.line + 1, it.reason)
        }
    })
    .unwrap();
    insta::assert_snapshot!(text);
}
