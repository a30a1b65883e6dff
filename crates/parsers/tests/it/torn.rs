//! Files that end anywhere: one rule for every input that is supported, held at every cut that matters.
//!
//! A file is cut where a copy, a full disk or a server's death may end it. Whatever the cut: its frames are conserved; every frame
//! that is complete is the frame of the whole file; and no run appears whose numbers are in no run of the whole file. One exception
//! cannot be otherwise, and is counted: `sacct` text whose next line is torn. The row before the tear is set aside for what follows
//! it, so that a file that ends in between shows it: with its own bytes, never with others.

use super::fuzzed::folded::{Folded, Folding};
use super::fuzzed::{self, conserved, moved, sacct, text_of};
use super::sacct::{fixture, strict};
use parsers::pbs::{self, Events, Reader};
use parsers::sacct::{Framing, Layout, Options};
use parsers::{Frame, Reason, Run};
use std::collections::{BTreeSet, HashSet};

/// Up to this size a file is cut at every byte.
const SMALL: usize = 16 * 1024;
/// Of a larger one this much at both ends.
const ENDS: usize = 4 * 1024;

/// Where a file is cut: every byte of a small one; else 2 bytes around each line's end, both ends, and 500 others.
fn cuts(text: &[u8]) -> Vec<usize> {
    if text.len() <= SMALL {
        return (0..=text.len()).collect();
    }
    let mut cuts: HashSet<usize> = (0..=ENDS).chain(text.len() - ENDS..=text.len()).collect();
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        cuts.extend(at.saturating_sub(2)..=(at + 2).min(text.len()));
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..500 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        cuts.insert((seed % text.len() as u64) as usize);
    }
    let mut cuts: Vec<_> = cuts.into_iter().collect();
    cuts.sort_unstable();
    cuts
}

const NONE: [usize; 0] = [];

/// A run without its text, name and place: who, what, when, how much.
fn numbers(run: &Run<'_>) -> String {
    let (text, place) = (Default::default(), Default::default());
    format!("{:?}", Run { text, place, name: None, ..run.clone() })
}

/// Cuts `text` everywhere and holds the rule. `all` reads a file; `end` reads what is behind an offset, where a frame begins, as
/// the last block of a file. Returns the lines that were shown as runs and that the whole file sets aside before a tear.
fn check<'a>(
    name: &str,
    text: &'a [u8],
    all: impl Fn(&'a [u8]) -> Vec<Frame<'a>>,
    end: impl Fn(&'a [u8], usize) -> Vec<Frame<'a>>,
) -> Vec<usize> {
    let whole = all(text);
    conserved(whole.iter().map(text_of), text);
    let places: Vec<_> = whole.iter().map(|frame| text_of(frame).1).collect();
    let known: HashSet<String> = runs(&whole).map(numbers).collect();
    assert!(!known.is_empty(), "{name}");
    let mut shown_before_the_tear = BTreeSet::new();
    for (number, at) in cuts(text).into_iter().enumerate() {
        let head = &text[..at];
        // What stands more than three frames before the cut was looked at with the cuts before this one; now and then all is.
        let reached = places.partition_point(|place| place.offset < at);
        let first = if number % 499 == 0 { 0 } else { reached.saturating_sub(4) };
        let (from, line) = places.get(first).map_or((0, 0), |place| (place.offset, place.line));
        let frames = if first == 0 { all(head) } else { end(head, from) };
        conserved(frames.iter().map(text_of), &head[from..]);

        let mut frames = frames.into_iter().map(|frame| moved(frame, from, line));
        let complete = places.partition_point(|place| place.offset + place.len < at);
        for (own, full) in frames.by_ref().zip(&whole[first..complete]) {
            if own == *full {
                continue;
            }
            let (text, place) = text_of(&own);
            let is_last = text_of(full).1 == places[complete - 1];
            match (&own, full) {
                (Frame::Quarantined(it), _) if it.reason == Reason::CutOff => {
                    assert!(is_last && place.offset + place.len == at, "{name} cut at {at}: {own:#?}");
                }
                (Frame::Run(_), Frame::Quarantined(it)) if it.reason == Reason::BesideTorn => {
                    assert!(is_last && text == it.text, "{name} cut at {at}: {own:#?}");
                    shown_before_the_tear.insert(place.line + 1);
                }
                _ => panic!("{name} cut at {at}: {own:#?}\nwhole: {full:#?}"),
            }
        }
        // What the cut goes through.
        for frame in frames {
            if let Frame::Run(run) = &frame {
                assert!(known.contains(&numbers(run)), "{name} cut at {at}: {run:#?}");
            }
        }
    }
    shown_before_the_tear.into_iter().collect()
}

fn runs<'f, 'a>(frames: &'f [Frame<'a>]) -> impl Iterator<Item = &'f Run<'a>> {
    frames.iter().filter_map(|frame| match frame {
        Frame::Run(run) => Some(run),
        _ => None,
    })
}

fn check_sacct(name: &str, text: &[u8], layout: &Layout) -> Vec<usize> {
    let end = |head, from| {
        let mut frames = Vec::new();
        layout.read(head, from..head.len(), true, |frame| frames.push(frame));
        frames
    };
    check(name, text, |head| sacct::read(layout, head), end)
}

/// The lines of an `sacct` text that some cut shows and the whole file sets aside.
fn sacct_text(path: &str) -> Vec<usize> {
    let text = fixture(path);
    check_sacct(path, &text, &strict(&text))
}

fn pbs_logs(paths: &[&str]) {
    for path in paths {
        let log = fixture(path);
        let end = |head, from| {
            let mut frames = Vec::new();
            let mut events = Events::default();
            Reader::default()
                .frames(head, from..<[u8]>::len(head), true, &mut events, &mut |frame| frames.push(frame));
            frames
        };
        assert_eq!(check(path, &log, fuzzed::pbs::frames, end), NONE, "{path}");
    }
}

// In each file of all jobs one name holds a newline: the line before its row is the one that is named.
#[test]
fn sacct_in_epoch_times_is_true_wherever_it_is_cut() {
    assert_eq!(sacct_text("slurm/22.05/P-D-X-usual-epoch.txt"), [46]);
    assert_eq!(sacct_text("slurm/24.05/P-D-X-usual-epoch.txt"), [47]);
    assert_eq!(sacct_text("slurm/26.05-sample/P-D-X-usual-head.txt"), [47]);
}

#[test]
fn sacct_in_local_times_is_true_wherever_it_is_cut() {
    assert_eq!(sacct_text("slurm/22.05/P-D-X-usual.txt"), [46]);
    assert_eq!(sacct_text("slurm/24.05/P-D-X-usual.txt"), [47]);
    assert_eq!(sacct_text("slurm/22.05-latin1db/P-D-X-usual.txt"), [46]);
}

#[test]
fn sacct_with_a_trailing_delimiter_is_true_wherever_it_is_cut() {
    for (path, line) in [("slurm/22.05/p-lower-all.txt", 143), ("slurm/24.05/p-lower-all.txt", 142)] {
        let text = fixture(path);
        let options = Options { read_steps: true, ..super::sacct::options_for(&text) };
        let layout = Layout::lenient(super::sacct::header(&text), &options).unwrap();
        assert_eq!(check_sacct(path, &text, &layout), [line], "{path}");
    }
}

#[test]
fn counted_sacct_is_true_wherever_it_is_cut() {
    let nonce = String::from_utf8(fixture("slurm/adversarial-22.05/nonce.txt")).unwrap();
    let columns = ["JobID", "User", "Account", "State", "Start", "End", "ElapsedRaw", "AllocTRES", "JobName"];
    let options = Options {
        delimiter: format!("<{}>", nonce.trim()).into_bytes(),
        columns: Some(columns.map(str::to_owned).to_vec()),
        framing: Framing::Counted,
        ..Options::default()
    };
    let layout = Layout::lenient(b"", &options).unwrap();
    let text = fixture("slurm/adversarial-22.05/nonce.bin");
    assert_eq!(check_sacct("nonce", &text, &layout), NONE);
}

#[test]
fn openpbs_logs_are_true_wherever_they_are_cut() {
    pbs_logs(&["pbs/openpbs/20261031", "pbs/openpbs/20261101", "pbs/openpbs/20261123"]);
}

#[test]
fn torque_logs_are_true_wherever_they_are_cut() {
    pbs_logs(&["pbs/torque/20261123"]);
}

/// A log is read up to a cut, and from there on the next time, when it has grown: together they are what is read at once. Cut at the
/// ends of lines and next to them, with a copy of the state in between as it is kept over the day.
#[test]
fn a_log_that_grows_is_folded_as_the_whole() {
    for path in ["pbs/openpbs/20261101", "pbs/openpbs/20261123", "pbs/torque/20261123"] {
        let log = fixture(path);
        let options = pbs::Options::default();
        let whole = Folding::new(&options, &[usize::MAX], None).file(1, &log);
        let ends = log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        for at in ends.step_by(37).flat_map(|end| [end - 3, end, end + 1]) {
            let mut folding = Folding::new(&options, &[1 << 16], None);
            let mut frames = folding.file(1, &log[..at]);
            // What is not complete is read again.
            let cut_off = |folded: &Folded<'_>| matches!(folded, Folded::Frame(Frame::Quarantined(it)) if it.reason == Reason::CutOff);
            let read = match frames.last() {
                Some(Folded::Frame(last)) if cut_off(&frames[frames.len() - 1]) => {
                    let from = text_of(last).1.offset;
                    frames.pop();
                    from
                }
                _ => at,
            };
            folding.save_and_load();
            let rest = folding.file(1, &log[read..]);
            assert_eq!(frames.len() + rest.len(), whole.len(), "{path} at {at}");
            let told = |folded: &Folded<'_>| match folded {
                Folded::Frame(Frame::Run(run)) => numbers(run),
                Folded::Frame(frame) => text_of(frame).0.escape_ascii().to_string(),
                Folded::Repeated { .. } => panic!("{path} at {at}"),
            };
            for (found, expected) in frames.iter().chain(&rest).zip(&whole) {
                assert_eq!(told(found), told(expected), "{path} at {at}");
            }
        }
    }
}
