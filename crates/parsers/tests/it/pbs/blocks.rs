//! Blocks, torn files and any bytes: nothing is lost, nothing is made up, and it does not matter where the input is split.

use super::{E, fixture, frames, runs, text_of, words};
use parsers::Frame;
use parsers::pbs::{Events, Reader, cut, last_record};
use proptest::prelude::*;
use std::collections::HashSet;

/// Reads a log as a program does that holds no more than a block: takes `step` bytes at a time, and hands on what is whole.
fn in_blocks(log: &[u8], steps: &[usize]) -> Vec<String> {
    let (mut events, mut seen) = (Events::default(), Vec::new());
    let (mut context, mut start, mut end, mut line) = (0, 0, 0, 0);
    let mut steps = steps.iter().cycle();
    while start < log.len() {
        end = (end + steps.next().unwrap().max(&1)).min(log.len());
        let last = end == log.len();
        let whole = if last { end - start } else { cut(&log[start..end]) };
        if whole == 0 {
            continue;
        }
        let body = start..start + whole;
        let text = &log[context..body.end];
        let within = body.start - context..body.end - context;
        Reader::default().frames(text, within, last, &mut events, &mut |frame| {
            seen.push(told(frame, start, line));
        });
        context = start + last_record(&log[body.clone()]);
        line += log[body.clone()].iter().filter(|&&byte| byte == b'\n').count();
        start = body.end;
    }
    seen
}

/// All that a frame says, its place counted from the start of the log.
fn told(mut frame: Frame<'_>, offset: usize, line: usize) -> String {
    let place = match &mut frame {
        Frame::Run(it) => &mut it.place,
        Frame::Note(it) => &mut it.place,
        Frame::Quarantined(it) => &mut it.place,
    };
    place.offset += offset;
    place.line += line;
    format!("{frame:?}")
}

fn in_one(log: &[u8]) -> Vec<String> {
    frames(log).into_iter().map(|frame| told(frame, 0, 0)).collect()
}

/// The frames and their newlines are the log, and their places are true.
fn check_conserved(log: &[u8]) {
    let (mut offset, mut line) = (0, 0);
    for frame in frames(log) {
        let (text, place) = text_of(&frame);
        assert_eq!((place.offset, place.len, place.line), (offset, text.len(), line));
        assert_eq!(&log[offset..offset + text.len()], text);
        offset += text.len();
        line += text.iter().filter(|&&byte| byte == b'\n').count();
        match log.get(offset) {
            Some(b'\n') => (offset, line) = (offset + 1, line + 1),
            // A record that begins behind a torn one, on its line.
            Some(_) => assert_eq!(log[offset + 19], b';'),
            None => {}
        }
    }
    assert_eq!(offset, log.len());
}

#[test]
fn the_real_logs_are_conserved_byte_by_byte() {
    for path in
        ["pbs/openpbs/20261031", "pbs/openpbs/20261101", "pbs/openpbs/20261123", "pbs/torque/20261123"]
    {
        check_conserved(&fixture(path));
    }
}

#[test]
fn blocks_of_any_size_give_what_one_block_gives() {
    let log = fixture("pbs/openpbs/20261123");
    let expected = in_one(&log);
    for step in [1, 700, 1000, 4096, 10_000, 65_536] {
        let found = in_blocks(&log, &[step]);
        assert_eq!(found.len(), expected.len(), "{step}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{step}");
        }
    }
}

/// 16 KiB of the real log around the job whose account holds a newline, cut at every byte: as a file that is still written, and as
/// one that a crashed server went on to write behind the cut.
#[test]
fn a_torn_file_shows_no_run_that_was_not_there() {
    let log = fixture("pbs/openpbs/20261123");
    let text = std::str::from_utf8(&log).unwrap();
    let middle = text.find(";Q;17.pbssrv;").unwrap() - 19;
    let piece = &log[middle..middle + 16 * 1024];
    assert!(text[middle..middle + 16 * 1024].contains(";E;22.pbssrv;"));
    let known: HashSet<&[u8]> = runs(&log).iter().map(|run| -> &[u8] { run.text }).collect();
    assert!(runs(piece).len() > 5);
    for end in 0..=piece.len() {
        // What stands more than three records before the cut has been read with the cuts before this one.
        let mut from = piece[..end].iter().rposition(|&byte| byte == b'\n').unwrap_or(0).saturating_sub(4000);
        from += cut(&piece[from..(from + 2000).min(end)]);
        let torn = &piece[from..end];
        for run in runs(torn) {
            assert!(known.contains::<[u8]>(run.text), "cut at {end}: {}", run.text);
        }
        let mut crashed = torn.to_vec();
        crashed.extend_from_slice(E.as_bytes());
        crashed.extend_from_slice(E.as_bytes());
        for run in runs(&crashed) {
            assert!(
                known.contains::<[u8]>(run.text) || run.text == E.trim_end().as_bytes(),
                "crash at {end}: {}",
                run.text
            );
        }
    }
}

#[test]
fn the_last_line_waits_for_its_newline() {
    assert_eq!(words(E.trim_end().as_bytes()), ["cut-off"]);
    assert_eq!(words(format!("{E}11/23/2026 02:29:41;S;1.s").as_bytes()), ["run 1.srv", "cut-off"]);
    assert_eq!(words(format!("{E}11/2").as_bytes()), ["cut-off"], "it may yet continue the record");
    // The second half of an account with a newline is not written yet.
    let (head, _) = E.split_once("lab7").unwrap();
    assert_eq!(words(format!("{E}{head}line1\n").as_bytes()), ["run 1.srv", "cut-off"]);
}

#[test]
fn only_the_end_of_the_file_cuts_off() {
    let log = E.trim_end().as_bytes();
    let mut seen = Vec::new();
    Reader::default().frames(log, 0..log.len(), false, &mut Events::default(), &mut |frame| {
        seen.push(super::word(&frame));
    });
    assert_eq!(seen, ["run 1.srv"]);
}

#[test]
fn a_body_outside_of_the_text_has_no_frames() {
    let log = E.as_bytes();
    #[expect(clippy::reversed_empty_ranges, reason = "this is what is tested")]
    for body in [0..log.len() + 1, log.len() + 5..log.len() + 9, 5..2] {
        Reader::default().frames(log, body, true, &mut Events::default(), &mut |frame| panic!("{frame:?}"));
    }
}

#[test]
fn the_record_before_a_block_is_looked_at() {
    let torn = "11/23/2026 02:29:41;S;9.srv;user=bob group=g account=\"line1\n";
    let log = format!("{torn}{E}");
    let mut seen = Vec::new();
    let body = torn.len()..log.len();
    Reader::default().frames(log.as_bytes(), body, true, &mut Events::default(), &mut |frame| {
        seen.push(super::word(&frame));
    });
    assert_eq!(seen, ["beside-torn"]);
}

/// Logs made of whole records, pieces of records, and rubbish.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let whole = Just(E.as_bytes().to_vec());
    let part = (0..E.len(), 0..E.len()).prop_map(|(a, b)| E.as_bytes()[a.min(b)..a.max(b)].to_vec());
    let line = proptest::sample::select(vec![
        "11/23/2026 02:33:20;u;1.srv;user=a group=g jobname=j queue=q start=1 run_count=1\n",
        "11/23/2026 02:33:20;S;1.srv;user=a group=g account=\"open\n",
        "11/23/2026 02:33:20;R;1.srv;\n",
        "11/23/2026 02:33:20;E;",
        "11/23/2026 02:3",
        "\n",
        "\r\n",
        "\n\n\n",
        "line2\" project=p\n",
        ";",
        "\"",
        " end=1",
    ])
    .prop_map(|line| line.as_bytes().to_vec());
    let rubbish = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec(prop_oneof![3 => whole, 2 => part, 4 => line, 1 => rubbish], 0..12)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_bytes_are_conserved(log in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_conserved(&log);
    }

    #[test]
    fn any_scrap_is_conserved(log in scrap()) {
        check_conserved(&log);
    }

    #[test]
    fn any_split_of_any_scrap_is_as_one_block(
        log in scrap(),
        steps in proptest::collection::vec(1_usize..2000, 1..6),
    ) {
        prop_assert_eq!(in_blocks(&log, &steps), in_one(&log));
    }
}
