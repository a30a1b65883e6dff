//! Rows that users wrote themselves: which are caught, and which cannot be.

use super::*;
use parsers::State;
use parsers::sacct::{Framing, Options};

/// The nine columns of the hostile fixtures.
const NINE: [&str; 9] =
    ["JobID", "User", "Account", "State", "Start", "End", "ElapsedRaw", "AllocTRES", "JobName"];

fn nonce() -> (Vec<u8>, Layout) {
    let nonce = String::from_utf8(fixture("slurm/adversarial-22.05/nonce.txt")).unwrap();
    let options = Options {
        delimiter: format!("<{}>", nonce.trim()).into_bytes(),
        columns: Some(NINE.map(str::to_owned).to_vec()),
        framing: Framing::Counted,
        ..Options::default()
    };
    (fixture("slurm/adversarial-22.05/nonce.bin"), Layout::lenient(b"", &options).unwrap())
}

#[test]
fn a_delimiter_that_nobody_knew_gives_every_name_byte_for_byte() {
    let (text, layout) = nonce();
    assert!(!layout.is_forgeable());
    let json: serde_json::Value =
        serde_json::from_slice(&fixture("slurm/adversarial-22.05/same.json")).unwrap();
    let jobs = json["jobs"].as_array().unwrap();
    let found = understand(&layout, &text);
    assert!(found.quarantined.is_empty() && found.notes.is_empty());
    assert_eq!(found.runs.len(), jobs.len());
    for (run, job) in found.runs.iter().zip(jobs) {
        assert_eq!(run.job_id.to_string(), job["job_id"].to_string());
        assert_eq!(run.name.unwrap(), job["name"].as_str().unwrap());
        assert_eq!(
            run.account.map(ToString::to_string).as_deref(),
            job["account"].as_str().filter(|text| !text.is_empty())
        );
        assert_eq!(run.elapsed, job["time"]["elapsed"].as_u64());
        assert_eq!(run.end, job["time"]["end"].as_i64());
        assert_eq!(run.state, State::Completed);
        assert_eq!((run.cores, run.nodes, run.finding), (Some(1), Some(1), None));
    }
    // Whole groups, lines and places.
    assert_eq!(layout.cut(&text), text.len());
    let ends: usize = found.runs.iter().map(|run| run.place.len + 1).sum();
    assert_eq!(ends, text.len());
    assert_eq!(found.runs.last().unwrap().place.line, lines(&text) - 1);
}

#[test]
fn counted_rows_are_cut_between_rows_at_every_byte() {
    let (text, layout) = nonce();
    let whole = read(&layout, &text);
    let ends: Vec<_> = whole.iter().map(|frame| place(frame).offset + place(frame).len + 1).collect();
    for at in 0..=text.len() {
        let cut = layout.cut(&text[..at]);
        let expected = ends.iter().copied().filter(|end| *end <= at).max().unwrap_or(0);
        assert_eq!(cut, expected, "at {at}");
        let head = read(&layout, &text[..at]);
        let complete = ends.iter().filter(|end| **end <= at).count();
        assert_eq!(head[..complete], whole[..complete]);
        assert_eq!(head.len(), complete + usize::from(cut < at));
        if cut < at {
            assert!(matches!(head.last(), Some(Frame::Quarantined(bad)) if bad.reason == Reason::CutOff));
        }
    }
}

#[test]
fn a_lost_delimiter_shifts_counted_rows_into_quarantine_and_never_into_a_run() {
    let (text, layout) = nonce();
    let delimiter = b"<6d252b64f6cbc073>";
    let honest: Vec<_> = understand(&layout, &text).runs.iter().map(|run| run.text.to_vec()).collect();
    for at in memchr::memmem::find_iter(&text, delimiter) {
        let damaged = [&text[..at], &text[at + delimiter.len()..]].concat();
        for run in understand(&layout, &damaged).runs {
            assert!(honest.contains(&run.text.to_vec()), "{}", run.text);
        }
    }
}

/// The same rows as `sacct -P` prints them, under the header that `-n` left out.
fn by_lines() -> Vec<u8> {
    let file = fixture("slurm/adversarial-22.05/adversarial.txt");
    let lines: Vec<_> = file.split(|byte| *byte == b'\n').collect();
    let mark = |text: &[u8]| lines.iter().position(|line| line.starts_with(text)).unwrap();
    let rows = &lines[mark(b"### sacct -P") + 1..mark(b"### one random")];
    let mut text = NINE.join("|").into_bytes();
    for row in rows {
        text.push(b'\n');
        text.extend(cat_a(row));
    }
    text.push(b'\n');
    text
}

/// Undoes `cat -A`: `$` at the end, `^M`, `M-x`.
fn cat_a(line: &[u8]) -> Vec<u8> {
    let mut rest = line.strip_suffix(b"$").unwrap_or(line);
    let mut bytes = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let control = |byte: u8| byte ^ 0x40;
        let (byte, after) = match (rest, first) {
            ([b'M', b'-', b'^', byte, after @ ..], _) => (control(*byte) | 0x80, after),
            ([b'M', b'-', byte, after @ ..], _) => (byte | 0x80, after),
            ([b'^', byte, after @ ..], _) => (control(*byte), after),
            (_, byte) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[test]
fn of_the_real_hostile_rows_by_lines_one_cannot_be_told_and_the_text_says_that_it_can_be_forged() {
    let text = by_lines();
    let layout = lenient(&text);
    assert!(layout.is_forgeable());
    assert_eq!(layout.user_written_columns(), ["JobName"]);
    let found = understand(&layout, &text);
    // 999001 stands in the name of job 10 and looks like any row: only a counted text or a source without names is safe.
    assert_eq!(found.job_ids(), ["10", "999001", "11", "13", "16", "17", "18", "19"]);
    // 12: its name goes on in the next line. 15: an account with a newline. 14: an account with a bar, and then no column fits.
    assert_eq!(
        found.quarantined_lines(),
        [(5, "beside-torn"), (6, "field-count"), (8, "beside-torn"), (9, "field-count"), (10, "field-count")]
    );
}

const SHORT: &str = "JobID|State|Submit|Start|End|ElapsedRaw|AllocTRES|Account|User";
const TRUE_ROW: &str = "61|COMPLETED|1795426540|1795426542|1795426629|87|cpu=2,node=1|tg-abc123456|mallory";
const FORGED: &str = "62|COMPLETED|1795426540|1795426542|1795426629|87|cpu=2,node=1|tg-def987654|bob";

/// Rows of [`SHORT`] with a free column `at` some place; the first row's text of it is `name`.
fn with_name(at: usize, name: &str, delimiter_last: bool) -> Vec<u8> {
    let put = |row: &str, text: &str| {
        let mut fields: Vec<_> = row.split('|').collect();
        fields.insert(at, text);
        fields.join("|") + if delimiter_last { "|\n" } else { "\n" }
    };
    [put(SHORT, "JobName"), put(TRUE_ROW, name), put(&TRUE_ROW.replace("61|", "70|"), "wrap")]
        .concat()
        .into_bytes()
}

/// The forged row as it must look in that place.
fn forged(at: usize, delimiter_last: bool) -> String {
    let mut fields: Vec<_> = FORGED.split('|').collect();
    fields.insert(at, "x");
    fields.join("|") + if delimiter_last { "|" } else { "" }
}

#[test]
fn a_row_between_the_pieces_of_a_name_is_not_believed() {
    for at in 0..9 {
        for delimiter_last in [false, true] {
            let text = with_name(at, &format!("a\n{}\nb", forged(at, delimiter_last)), delimiter_last);
            let found = understand(&strict(&text), &text);
            assert!(
                !found.job_ids().contains(&"62".to_owned()),
                "{at} {delimiter_last}: {:?}",
                found.job_ids()
            );
        }
    }
    // In the last column of -p, and of -P behind a text that goes on.
    for delimiter_last in [false, true] {
        let text = with_name(9, &format!("a\n{}\nb", forged(9, delimiter_last)), delimiter_last);
        let found = understand(&strict(&text), &text);
        assert!(!found.job_ids().contains(&"62".to_owned()), "{:?}", found.job_ids());
    }
}

#[test]
fn a_row_at_the_end_of_the_last_column_or_among_others_cannot_be_told() {
    // What these forgeries have in common: the row stands between rows that look whole.
    let alone = with_name(9, &format!("a\n{}", forged(9, false)), false);
    let found = understand(&strict(&alone), &alone);
    assert_eq!(found.job_ids(), ["61", "62", "70"]);
    let among = with_name(3, &format!("a\n{0}\n{0}\n{0}\nb", forged(3, false)), false);
    let found = understand(&strict(&among), &among);
    assert_eq!(found.job_ids(), ["62"], "the middle one of three");
    assert!(strict(&among).is_forgeable());
}

#[test]
fn without_free_text_only_the_torn_line_itself_is_set_aside() {
    let text = format!("{SHORT}\n{TRUE_ROW}\n15|torn\n{FORGED}\n");
    let layout = strict(text.as_bytes());
    assert!(!layout.is_forgeable());
    let found = understand(&layout, text.as_bytes());
    assert_eq!(
        (found.job_ids(), found.quarantined_lines()),
        (vec!["61".to_owned(), "62".to_owned()], vec![(3, "field-count")])
    );
}

#[test]
fn a_name_in_the_last_column_puts_only_the_row_before_the_piece_in_doubt() {
    let text = format!("{SHORT}|JobName\n{TRUE_ROW}|a\nb\n{FORGED}|x\n");
    let found = understand(&strict(text.as_bytes()), text.as_bytes());
    assert_eq!(
        (found.job_ids(), found.quarantined_lines()),
        (vec!["62".to_owned()], vec![(2, "beside-torn"), (3, "field-count")])
    );
}
