//! Any text as each value: the shortcuts against the grammars, local times against another calendar, and as fields of rows.

use super::{conserved, text_of};
use chrono::TimeZone;
use chrono_tz::Tz;
use parsers::Frame;
use parsers::grammar::{VALUES, lines};
use parsers::sacct::{Layout, Options};
use parsers::time::{Local, Zone};
use std::sync::LazyLock;

static ZONES: LazyLock<Vec<(Tz, Zone)>> = LazyLock::new(|| {
    use chrono_tz::{Africa, America, Antarctica, Asia, Australia, Europe, Pacific};
    [
        America::New_York,
        America::Denver,
        America::Caracas,
        America::St_Johns,
        Antarctica::Troll,
        Australia::Lord_Howe,
        Asia::Pyongyang,
        Africa::Casablanca,
        Europe::London,
        Europe::Lisbon,
        Pacific::Apia,
        Tz::UTC,
    ]
    .map(|zone| (zone, Zone::new(zone)))
    .into()
});

const COLUMNS: [&str; 20] = [
    "JobIDRaw",
    "JobID",
    "UID",
    "State",
    "Submit",
    "Eligible",
    "Start",
    "End",
    "ElapsedRaw",
    "Elapsed",
    "Suspended",
    "AllocTRES",
    "ReqTRES",
    "ReqMem",
    "AllocCPUS",
    "NNodes",
    "ReqCPUS",
    "ExitCode",
    "Account",
    "JobName",
];
const ROW: [&str; 20] = [
    "61",
    "61_5",
    "20001",
    "COMPLETED",
    "1795426540",
    "1795426540",
    "1795426542",
    "1795426629",
    "87",
    "00:01:27",
    "00:00:00",
    "billing=2,cpu=2,mem=200M,node=1",
    "billing=2,cpu=2,mem=200M,node=1",
    "200M",
    "2",
    "1",
    "2",
    "0:0",
    "tg-abc123456",
    "wrap",
];

static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    Layout::lenient(COLUMNS.join("|").as_bytes(), &Options::default()).expect("these are columns")
});

/// The first byte names a column and a zone, the rest is the text.
pub(crate) fn check(input: &[u8]) {
    let Some((&which, text)) = input.split_first() else { return };
    for (name, read) in VALUES {
        let [shortcut, grammar] = read(text);
        assert_eq!(shortcut, grammar, "{name} \"{}\"", text.escape_ascii());
    }
    for delimiter in [b'|', 0, which] {
        let [masks, finder] = lines(text, delimiter);
        assert_eq!(masks, finder, "\"{}\" by {delimiter}", text.escape_ascii());
    }
    if let Some(seconds) = text.first_chunk::<4>() {
        local_time(usize::from(which), u32::from_le_bytes(*seconds).into());
    }
    if !text.iter().any(|byte| b"|\n".contains(byte)) {
        field(usize::from(which) % ROW.len(), text);
    }
}

/// The instants of a local time are those of chrono, which has no table of days.
fn local_time(zone: usize, local: i64) {
    if local >= 47_480 * 86_400 {
        return; // beyond the table: the rules after 2099 are not promised
    }
    let (zone, table) = &ZONES[zone % ZONES.len()];
    let wall = chrono::DateTime::from_timestamp(local, 0).expect("within chrono's years").naive_utc();
    let expected = match zone.from_local_datetime(&wall) {
        chrono::LocalResult::Single(instant) => Local::Once(instant.timestamp()),
        chrono::LocalResult::Ambiguous(one, other) => Local::Twice {
            earlier: one.timestamp().min(other.timestamp()),
            later: one.timestamp().max(other.timestamp()),
        },
        chrono::LocalResult::None => Local::Never,
    };
    assert_eq!(table.resolve(local), expected, "{zone} {wall}");
}

/// One row with this text in one column: a run, or set aside by that column's name.
fn field(column: usize, text: &[u8]) {
    let mut row: Vec<&[u8]> = ROW.iter().map(|field| field.as_bytes()).collect();
    row[column] = text;
    let text = [row.join(&b'|'), b"\n".to_vec()].concat();
    let mut frames = Vec::new();
    LAYOUT.read(&text, 0..text.len(), true, |frame| frames.push(frame));
    conserved(frames.iter().map(text_of), &text);
    match frames.as_slice() {
        [Frame::Run(_) | Frame::Note(_)] => {}
        [Frame::Quarantined(it)] => {
            // The last column takes a carriage return for the line's end.
            let said = it.reason.to_string();
            assert!(said.contains(COLUMNS[column]), "{}: {said}", COLUMNS[column]);
        }
        other => panic!("{other:?}"),
    }
}
