//! Any text as `sacct` output, read as each kind of layout.

use super::{conserved, moved, newlines, same, text_of};
use parsers::sacct::{Framing, Layout, Options, guess_delimiter};
use parsers::time::Zone;
use parsers::{Frame, Kind};
use std::sync::LazyLock;

/// Zones with a change of an hour, of half an hour, and of a whole day; making one costs a table.
static ZONES: LazyLock<[Zone; 4]> = LazyLock::new(|| {
    use chrono_tz::{America, Australia, Pacific, UTC};
    [UTC, America::New_York, Australia::Lord_Howe, Pacific::Apia].map(Zone::new)
});

/// Headers to begin with, so that most inputs are rows; an empty one: the input brings its own.
const HEADERS: [&str; 4] = [
    "",
    "JobID|JobName|State|Submit|Start|End|ElapsedRaw|Suspended|AllocTRES|ReqTRES|ReqMem|ExitCode|Account|User",
    "JobIDRaw|JobID|UID|State|Submit|Eligible|Start|End|Elapsed|AllocCPUS|NNodes|Account|User|Comment|JobName",
    "JobIDRaw<~>JobID<~>State<~>Submit<~>Start<~>End<~>ElapsedRaw<~>AllocTRES<~>Account<~>User<~>JobName<~>",
];

/// The first byte says how the text is read, the second into which blocks it is cut, the rest is the text, or the name of a job.
pub(crate) fn check(input: &[u8]) {
    let Some((&[how, sizes], rest)) = input.split_first_chunk::<2>() else { return };
    if how & 0x40 != 0 {
        return name(rest);
    }
    let number = |shift: u8| usize::from(how >> shift & 3);
    let mut text = HEADERS[number(0)].as_bytes().to_vec();
    if !text.is_empty() {
        text.push(b'\n');
    }
    text.extend_from_slice(rest);
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let options = Options {
        delimiter: guess_delimiter(header).unwrap_or(b"|".to_vec()),
        framing: if how & 0x10 == 0 { Framing::Lines } else { Framing::Counted },
        read_steps: how & 0x20 != 0,
        ..Options::default()
    };
    if let Err(error) = Layout::from_header(header, &options) {
        assert!(!error.to_string().is_empty());
    }
    let Ok(layout) = Layout::lenient(header, &options) else { return };
    let layout = layout.in_zone(ZONES[number(2)].clone());
    let whole = read(&layout, &text);
    conserved(whole.iter().map(text_of), &text);
    if options.framing == Framing::Lines {
        assert_eq!(whole.len(), newlines(&text) + usize::from(!text.ends_with(b"\n") && !text.is_empty()));
    }
    let sizes = [usize::from(sizes & 15) * 3 + 1, usize::from(sizes >> 4) * 40 + 1];
    same(&in_blocks(&layout, &text, &sizes), &whole);
    whole.iter().for_each(sensible);
    if options.delimiter == b"|" && !text.iter().any(|byte| b"<~>".contains(byte)) {
        same_by_finder(&layout, &text, &options, &ZONES[number(2)]);
    }
}

/// Whatever a job is called, if it is not the delimiter that nobody could know: counted out, every run and every name is true; by
/// lines, a run is true or not read, and no other appears.
fn name(name: &[u8]) {
    const HEADER: &str =
        "JobIDRaw<~>State<~>Submit<~>Start<~>End<~>ElapsedRaw<~>AllocTRES<~>Account<~>User<~>JobName";
    if name.windows(3).any(|window| window == b"<~>") {
        return;
    }
    let row = |job: &str, delimiter: &str| {
        let before =
            format!("{job}<~>COMPLETED<~>1795426540<~>1795426542<~>1795426629<~>87<~>cpu={job}<~>a<~>u<~>");
        [before.as_bytes(), name, delimiter.as_bytes(), b"\n"].concat()
    };
    for (delimiter, framing) in [("<~>", Framing::Counted), ("<~>", Framing::Lines), ("", Framing::Lines)] {
        let text =
            [format!("{HEADER}{delimiter}\n").into_bytes(), row("61", delimiter), row("62", delimiter)]
                .concat();
        let options = Options { delimiter: b"<~>".to_vec(), framing, ..Options::default() };
        let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let layout = Layout::from_header(header, &options).expect("a header");
        let frames = read(&layout, &text);
        let mut jobs = Vec::new();
        for frame in &frames {
            let Frame::Run(run) = frame else { continue };
            let job: u64 = std::str::from_utf8(run.job_id).expect("digits").parse().expect("a number");
            assert_eq!((run.cores, run.elapsed, run.submit), (Some(job), Some(87), Some(1_795_426_540)));
            assert_eq!((run.account, run.user), (Some("a".into()), Some("u".into())));
            if framing == Framing::Counted {
                assert_eq!(run.name.map_or(&b""[..], |name| name), name);
            }
            jobs.push(job);
        }
        match framing {
            Framing::Counted => assert_eq!((frames.len(), jobs), (3, vec![61, 62])),
            Framing::Lines => assert!([&[][..], &[61], &[62], &[61, 62]].contains(&&jobs[..]), "{jobs:?}"),
        }
    }
}

/// All frames of a whole text, header included.
pub(crate) fn read<'a>(layout: &Layout, text: &'a [u8]) -> Vec<Frame<'a>> {
    let mut frames = Vec::new();
    layout.read(text, 0..text.len(), true, |frame| frames.push(frame));
    frames
}

/// Reads a text as a program does that holds no more than a block, with one row of context on both sides.
pub(crate) fn in_blocks<'a>(layout: &Layout, text: &'a [u8], sizes: &[usize]) -> Vec<Frame<'a>> {
    let mut frames: Vec<Frame<'a>> = Vec::new();
    let mut sizes = sizes.iter().copied().cycle();
    let (mut from, mut line) = (0, 0);
    while from < text.len() {
        let mut to = from;
        loop {
            to = (to + sizes.next().unwrap_or(1)).min(text.len());
            match layout.cut(&text[from..to]) {
                0 if to < text.len() => {}
                0 => break,
                whole => {
                    to = from + whole;
                    break;
                }
            }
        }
        let before =
            text[..from.saturating_sub(1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let after = text[to..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| to + at + 1);
        let body = from - before..to - before;
        layout.read(&text[before..after], body, to == text.len(), |frame| {
            frames.push(moved(frame, from, line))
        });
        line += newlines(&text[from..to]);
        from = to;
    }
    frames
}

/// What mapping takes for granted of a run without a finding.
fn sensible(frame: &Frame<'_>) {
    let Frame::Run(run) = frame else { return };
    assert!(!run.job_id.is_empty() && !run.raw_id.is_empty());
    if run.kind == Kind::Run
        && run.finding.is_none()
        && !run.state.is_live()
        && let (Some(start), Some(end)) = (run.start, run.end)
    {
        assert!(start <= end && run.submit.is_none_or(|submit| submit <= start), "{run:?}");
        let span = i128::from(end) - i128::from(start) + 3602;
        assert!(run.elapsed.is_none_or(|elapsed| i128::from(elapsed) <= span), "{run:?}");
    }
    if !run.allocated {
        assert!(run.cores.is_none() && run.nodes.is_none() && run.gpus.is_none() && run.billing.is_none());
    }
}

/// Rows that are split by bit masks are those that are split one delimiter after another.
fn same_by_finder(layout: &Layout, text: &[u8], options: &Options, zone: &Zone) {
    let other = text.split(|byte| *byte == b'|').collect::<Vec<_>>().join(&b"<~>"[..]);
    let header = other.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let options = Options { delimiter: b"<~>".to_vec(), ..options.clone() };
    let other_layout = Layout::lenient(header, &options).expect("the same columns").in_zone(zone.clone());
    let (one, other) = (read(layout, text), read(&other_layout, &other));
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(without_text(one), without_text(other));
    }
}

/// All that a frame says, save the texts that may hold the delimiter.
fn without_text(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Run(run) => {
            let (text, place) = (Default::default(), Default::default());
            format!("{:?}", parsers::Run { name: None, reservation: None, text, place, ..run.clone() })
        }
        Frame::Note(note) => format!("{:?}", note.kind),
        Frame::Quarantined(it) => it.reason.to_string(),
    }
}
