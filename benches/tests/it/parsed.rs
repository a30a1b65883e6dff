//! What the parsers read of generated files against what the generator counted while it wrote them.

use benches::{Columns, PbsOptions, SacctOptions, Times, Truth, pbs, sacct};
use parsers::pbs::Changed;
use parsers::sacct::{Framing, Layout, Options};
use parsers::{Finding, Frame, Kind, NoteKind, Run};

/// Adds a run to what was found, in the words of [`Truth`].
fn add(found: &mut Truth, run: &Run<'_>) {
    match run.kind {
        Kind::Step => found.steps += 1,
        Kind::Parent => found.parents += 1,
        Kind::Other => panic!("neither run nor step nor array: {run:?}"),
        Kind::Run if run.finding == Some(Finding::UnknownState) => found.unknown_states += 1,
        Kind::Run if run.finding.is_some() => panic!("an honest row: {run:?}"),
        Kind::Run if run.state.is_live() => found.live += 1,
        Kind::Run if !run.allocated => found.never_started += 1,
        Kind::Run if !run.phases.is_empty() => {
            found.node_releases += 1;
            // All nodes to the middle of the run, one of them from there on.
            let walltime = u64::try_from(run.end.unwrap() - run.start.unwrap()).unwrap();
            let phases: Vec<_> = run.phases.iter().map(|phase| (phase.seconds, phase.nodes)).collect();
            assert_eq!(phases, [(walltime / 2, run.nodes), (walltime - walltime / 2, Some(1))], "{run:?}");
            assert_eq!(run.elapsed, Some(walltime), "{run:?}");
            found.runs += 1;
            for phase in &run.phases {
                let seconds = u128::from(phase.seconds);
                found.elapsed_seconds += seconds;
                found.core_seconds += seconds * u128::from(phase.cores.unwrap());
                found.gpu_seconds += seconds * u128::from(phase.gpus.unwrap());
                found.node_seconds += seconds * u128::from(phase.nodes.unwrap());
            }
        }
        Kind::Run => {
            let elapsed = u128::from(run.elapsed.unwrap());
            found.runs += 1;
            found.elapsed_seconds += elapsed;
            found.core_seconds += elapsed * u128::from(run.cores.unwrap());
            found.gpu_seconds += elapsed * u128::from(run.gpus.unwrap());
            found.node_seconds += elapsed * u128::from(run.nodes.unwrap());
        }
    }
}

/// Only what both sides count.
fn comparable(truth: &Truth) -> Truth {
    Truth { kinds: Default::default(), lines: 0, torn: 0, ..truth.clone() }
}

fn sacct_totals(options: &SacctOptions, parser: &Options) {
    let mut text = Vec::new();
    let truth = sacct(options, &mut text).unwrap();
    let header = text.split(|byte| *byte == b'\n').next().unwrap();
    let layout = Layout::from_header(header, parser).unwrap();
    let mut found = Truth { format: "sacct", seed: 1, ..Truth::default() };
    let mut at = 0;
    while at < text.len() {
        let end = (at + 100_000).min(text.len());
        let last = end == text.len();
        let len = if last { end - at } else { layout.cut(&text[at..end]) };
        layout.read(&text[at..at + len], 0..len, last, |frame| {
            found.records += 1;
            match &frame {
                Frame::Run(run) => add(&mut found, run),
                Frame::Note(note) => match note.kind {
                    NoteKind::Header => {}
                    NoteKind::Step => found.steps += 1,
                    NoteKind::Parent => found.parents += 1,
                    other => panic!("a row of no known kind: {other:?}"),
                },
                Frame::Quarantined(bad) => panic!("line {}: {}", bad.place.line, bad.reason),
            }
        });
        at += len;
        found.bytes += len as u64;
    }
    assert_eq!(found, comparable(&truth));
}

#[test]
fn sacct_totals_are_those_that_were_generated() {
    let usual = SacctOptions { bytes: 20_000_000, ..Default::default() };
    sacct_totals(&usual, &Options::default());
    sacct_totals(&SacctOptions { steps: true, ..usual.clone() }, &Options::default());
    sacct_totals(
        &SacctOptions { steps: true, bytes: 2_000_000, ..usual },
        &Options { read_steps: true, ..Options::default() },
    );
}

#[test]
fn sacct_totals_hold_in_local_times() {
    let zone = chrono_tz::America::New_York;
    let options = SacctOptions { bytes: 20_000_000, times: Times::Local(zone), ..Default::default() };
    sacct_totals(&options, &Options { zone, ..Options::default() });
}

#[test]
fn collected_text_is_read_whole_whatever_names_hold() {
    let delimiter = "<8f14e45fceea167a5a36dedd4bea2543>";
    let parser =
        Options { delimiter: delimiter.as_bytes().to_vec(), framing: Framing::Counted, ..Options::default() };
    let collect = SacctOptions {
        bytes: 20_000_000,
        columns: Columns::Collect,
        delimiter: delimiter.to_owned(),
        ..Default::default()
    };
    sacct_totals(&collect, &parser);
    sacct_totals(&SacctOptions { columns: Columns::Usual, hostile: true, ..collect }, &parser);
}

#[test]
fn pbs_totals_are_those_that_were_generated() {
    let mut text = Vec::new();
    let truth = pbs(&PbsOptions { bytes: 40_000_000, ..Default::default() }, &mut text).unwrap();
    let mut found = Truth { format: "pbs", seed: 1, bytes: text.len() as u64, ..Truth::default() };
    let reader = parsers::pbs::Reader::default();
    let mut fold = parsers::pbs::Fold::new(&parsers::pbs::FoldOptions::default());
    let (mut events, mut changes) = (parsers::pbs::Events::default(), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let end = (at + 100_000).min(text.len());
        let last = end == text.len();
        let len = if last { end - at } else { parsers::pbs::cut(&text[at..end]) };
        let mut frames = Vec::new();
        reader.frames(&text[at..at + len], 0..len, last, &mut events, &mut |frame| frames.push(frame));
        changes.clear();
        fold.block(1, &events, &mut changes);
        for change in &changes {
            match (&change.what, &mut frames[change.frame]) {
                (Changed::Amended(amendment), Frame::Run(run)) => amendment.apply(run),
                other => panic!("nothing was written twice: {other:?}"),
            }
        }
        for frame in &frames {
            found.records += 1;
            match frame {
                Frame::Run(run) => add(&mut found, run),
                Frame::Note(note) => found.parents += u64::from(note.kind == NoteKind::Parent),
                Frame::Quarantined(bad) => panic!("line {}: {}: {}", bad.place.line, bad.reason, bad.text),
            }
        }
        at += len;
    }
    assert_eq!(found, comparable(&truth));
}
