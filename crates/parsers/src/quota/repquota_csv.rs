//! `repquota -O csv` of quota-tools: one header, then one row for each owner, sizes in KiB.
//!
//! Nothing is quoted, and owners' names may hold commas: the ten columns are counted from the right, the rest is the name. The header's
//! first word is all that says whose files are counted, and no column says which file system: `repquota -a` joins reports.

use super::ReportError;
use crate::reading::{OwnerKind, QuotaFrame, Reading};
use crate::run::{Note, NoteKind, Place, Quarantined, Reason, bounded};
use bstr::{BStr, ByteSlice};
use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{char, one_of, u32 as number, u64 as count};
use nom::combinator::{all_consuming, map, opt, value};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use std::borrow::Cow;

const COMMAND: &str = "repquota -p -n -P -O csv MOUNT";

/// Columns to the right of the owner.
const COLUMNS: usize = 10;

/// A header line: the owner kind, and whether sizes are given for people (`-s` writes `SpaceUsed` for `BlockUsed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    owner_kind: OwnerKind,
    for_people: bool,
}

fn header(input: &[u8]) -> IResult<&[u8], Header> {
    let kind = alt((
        value(OwnerKind::User, tag("User")),
        value(OwnerKind::Group, tag("Group")),
        value(OwnerKind::Project, tag("Project")),
    ));
    let plain = tag(
        ",BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace",
    );
    let for_people = tag(
        ",SpaceStatus,FileStatus,SpaceUsed,SpaceSoftLimit,SpaceHardLimit,SpaceGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace",
    );
    map((kind, alt((value(false, plain), value(true, for_people)))), |(owner_kind, for_people)| Header {
        owner_kind,
        for_people,
    })
    .parse(input)
}

/// A size of `-s`: `9537G`.
fn rounded(input: &[u8]) -> IResult<&[u8], ()> {
    value((), (count, opt(preceded(char('.'), count)), one_of("KMGTPE"))).parse(input)
}

/// `#1001`: an id without a name, or any with `-n`.
fn numeric_owner(input: &[u8]) -> IResult<&[u8], u32> {
    preceded(char('#'), number).parse(input)
}

fn status(input: &[u8]) -> IResult<&[u8], &[u8]> {
    alt((tag("ok"), tag("soft"), tag("hard"))).parse(input)
}

/// Lines with their offsets and numbers from 0; whether a newline follows is seen from the text.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], Place, bool)> {
    text.lines_with_terminator().scan((0_usize, 0_usize), |(offset, line), whole| {
        let content = whole.strip_suffix(b"\n").unwrap_or(whole);
        let place = Place { offset: *offset, len: content.len(), line: *line };
        *offset = offset.saturating_add(whole.len());
        *line = line.saturating_add(1);
        Some((content, place, content.len() < whole.len()))
    })
}

fn as_header(line: &[u8]) -> Option<Header> {
    all_consuming(header).parse(line.trim_ascii_end()).ok().map(|(_, header)| header)
}

pub(super) fn read<'a>(text: &'a [u8], visit: &mut dyn FnMut(QuotaFrame<'a>)) -> Result<(), ReportError> {
    let owner_kind = judge(text)?;
    let mut header = true;
    for (line, place, terminated) in lines(text) {
        let (raw, is_blank) = (line.as_bstr(), line.trim_ascii().is_empty());
        let note = |kind| QuotaFrame::Note(Note { kind, text: raw, place });
        visit(if is_blank {
            note(NoteKind::Blank)
        } else if std::mem::take(&mut header) {
            note(NoteKind::QuotaHeader)
        } else if !terminated {
            QuotaFrame::Quarantined(Quarantined { reason: Reason::CutOff, text: raw, place })
        } else {
            match row(line, owner_kind, place) {
                Ok(reading) => QuotaFrame::Reading(reading),
                Err(reason) => QuotaFrame::Quarantined(Quarantined { reason, text: raw, place }),
            }
        });
    }
    Ok(())
}

/// The report as a whole: one header in front, and rows with plain sizes behind it.
fn judge(text: &[u8]) -> Result<OwnerKind, ReportError> {
    let command = COMMAND;
    let mut rows = lines(text).filter(|(line, ..)| !line.trim_ascii().is_empty());
    let (line, place, _) = rows.next().ok_or(ReportError::NoReading { command })?;
    let number = |place: Place| place.line.saturating_add(1);
    let header = as_header(line).ok_or_else(|| ReportError::NoHeader {
        line: number(place),
        found: bounded(line),
        command,
    })?;
    if header.for_people {
        return Err(ReportError::HumanReadable { line: number(place), command });
    }
    let mut found = false;
    for (line, place, _) in rows {
        found = true;
        if as_header(line).is_some() {
            return Err(ReportError::SeveralReports { line: number(place), command });
        }
        let sizes = columns(line).map(|(_, [_, _, used, soft, hard, ..])| [used, soft, hard]);
        if sizes.is_some_and(|sizes| sizes.iter().any(|size| all_consuming(rounded).parse(size).is_ok())) {
            return Err(ReportError::HumanReadable { line: number(place), command });
        }
    }
    if found { Ok(header.owner_kind) } else { Err(ReportError::NoReading { command }) }
}

/// The owner, and the ten columns to its right.
fn columns(line: &[u8]) -> Option<(&[u8], [&[u8]; COLUMNS])> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut found: [&[u8]; COLUMNS] = Default::default();
    let mut from_right = line.rsplitn(COLUMNS + 1, |&byte| byte == b',');
    for column in found.iter_mut().rev() {
        *column = from_right.next()?;
    }
    Some((from_right.next()?, found))
}

fn row<'a>(line: &'a [u8], owner_kind: OwnerKind, place: Place) -> Result<Reading<'a>, Reason> {
    let (owner, [block_status, file_status, used, soft, hard, _, files, files_soft, files_hard, _]) =
        columns(line).ok_or_else(|| Reason::FieldCount {
            expected: COLUMNS + 1,
            found: line.iter().filter(|&&byte| byte == b',').count().saturating_add(1),
        })?;
    for (field, text) in [("BlockStatus", block_status), ("FileStatus", file_status)] {
        all_consuming(status).parse(text).map_err(|_| refused(field, text, "ok, soft or hard"))?;
    }
    if owner.is_empty() {
        return Err(refused("owner", owner, "a name or #id"));
    }
    let owner_id = match owner {
        [b'#', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            let (_, id) = all_consuming(numeric_owner)
                .parse(owner)
                .map_err(|_| refused("owner", owner, "an id of 32 bits"))?;
            Some(id)
        }
        _ => None,
    };
    kibibytes("BlockSoftLimit", soft)?;
    plain("FileSoftLimit", files_soft)?;
    let limit = |limit: u64| Some(limit).filter(|&limit| limit > 0);
    Ok(Reading {
        owner_kind,
        owner_id,
        owner_name: BStr::new(owner),
        bytes: kibibytes("BlockUsed", used)?,
        files: Some(plain("FileUsed", files)?),
        bytes_limit: limit(kibibytes("BlockHardLimit", hard)?),
        files_limit: limit(plain("FileHardLimit", files_hard)?),
        scope: None,
        text: line.as_bstr(),
        place,
    })
}

fn plain(field: &'static str, text: &[u8]) -> Result<u64, Reason> {
    all_consuming(count)
        .parse(text)
        .map(|(_, number)| number)
        .map_err(|_: nom::Err<nom::error::Error<_>>| refused(field, text, "a number"))
}

/// Bytes of a number of KiB.
fn kibibytes(field: &'static str, text: &[u8]) -> Result<u64, Reason> {
    plain(field, text)?
        .checked_mul(1024)
        .ok_or_else(|| refused(field, text, "KiB that are less than 2^64 bytes"))
}

#[cold]
fn refused(field: &'static str, found: &[u8], expected: &'static str) -> Reason {
    Reason::Value { field: Cow::Borrowed(field), found: bounded(found), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "User,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,\
                          FileSoftLimit,FileHardLimit,FileGrace";

    fn frames(text: &str) -> Result<Vec<QuotaFrame<'_>>, ReportError> {
        let mut frames = Vec::new();
        read(text.as_bytes(), &mut |frame| frames.push(frame)).map(|()| frames)
    }

    /// Owner's id and name, bytes, files, and their hard limits.
    type Row = (Option<u32>, String, u64, Option<u64>, Option<u64>, Option<u64>);

    fn one(row: &str) -> Result<Row, Reason> {
        let text = format!("{HEADER}\n{row}\n");
        match frames(&text).unwrap().remove(1) {
            QuotaFrame::Reading(it) => Ok((
                it.owner_id,
                it.owner_name.to_string(),
                it.bytes,
                it.files,
                it.bytes_limit,
                it.files_limit,
            )),
            QuotaFrame::Quarantined(it) => Err(it.reason),
            QuotaFrame::Note(note) => panic!("{note:?}"),
        }
    }

    #[test]
    fn headers_say_whose_files_are_counted() {
        for (word, owner_kind) in
            [("User", OwnerKind::User), ("Group", OwnerKind::Group), ("Project", OwnerKind::Project)]
        {
            let text = HEADER.replace("User", word);
            assert_eq!(header(text.as_bytes()), Ok((&b""[..], Header { owner_kind, for_people: false })));
        }
        let for_people = HEADER.replace("Block", "Space");
        assert_eq!(
            header(for_people.as_bytes()),
            Ok((&b""[..], Header { owner_kind: OwnerKind::User, for_people: true }))
        );
        assert!(header(b"Fileset,BlockStatus").is_err());
    }

    #[test]
    fn names_are_what_is_left_of_ten_columns() {
        assert_eq!(
            one("dom users,csv\"q,ok,ok,16,0,0,,1,0,0,"),
            Ok((None, "dom users,csv\"q".into(), 16 * 1024, Some(1), None, None))
        );
        assert_eq!(one("12345,ok,ok,12,0,0,,1,0,0,").map(|row| (row.0, row.1)), Ok((None, "12345".into())));
    }

    #[test]
    fn numbers_in_place_of_names_are_ids() {
        assert_eq!(
            one("#1001,ok,ok,504,1000,2000,0,2,100,200,0"),
            Ok((Some(1001), "#1001".into(), 504 * 1024, Some(2), Some(2000 * 1024), Some(200)))
        );
        assert_eq!(one("#4294967290,ok,ok,0,0,0,0,0,0,0,0").map(|row| row.0), Ok(Some(4_294_967_290)));
        assert_eq!(one("#4294967296,ok,ok,0,0,0,0,0,0,0,0").unwrap_err().code(), "value");
        assert_eq!(one("#,ok,ok,0,0,0,0,0,0,0,0").unwrap_err().code(), "value");
        assert_eq!(one("#tag,ok,ok,0,0,0,0,0,0,0,0").map(|row| row.0), Ok(None));
    }

    #[test]
    fn rows_that_are_not_of_the_form_are_set_aside() {
        assert_eq!(one("a,ok,ok,1,0,0,,1,0"), Err(Reason::FieldCount { expected: 11, found: 9 }));
        for row in [
            "a,ok,fine,1,0,0,,1,0,0,",
            "a,ok,ok,,0,0,,1,0,0,",
            "a,ok,ok,-1,0,0,,1,0,0,",
            "a,ok,ok,1,0,0,,1,0,x,",
            "a,ok,ok,1,x,0,,1,0,0,",
            ",ok,ok,1,0,0,,1,0,0,",
        ] {
            assert_eq!(one(row).unwrap_err().code(), "value", "{row}");
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused_and_do_not_wrap() {
        assert_eq!(one("a,ok,ok,18014398509481983,0,0,,1,0,0,").map(|row| row.2), Ok(u64::MAX - 1023));
        assert_eq!(one("a,ok,ok,18014398509481984,0,0,,1,0,0,").unwrap_err().code(), "value");
        assert_eq!(one("a,ok,ok,18446744073709551616,0,0,,1,0,0,").unwrap_err().code(), "value");
    }

    #[test]
    fn a_row_without_its_newline_is_cut_off() {
        let text = format!("{HEADER}\na,ok,ok,1,0,0,,1,0,0,\nb,ok,ok,504,1000,2000,0,2,100,20");
        let frames = frames(&text).unwrap();
        assert!(matches!(frames[1], QuotaFrame::Reading(_)));
        assert!(
            matches!(&frames[2], QuotaFrame::Quarantined(it) if it.reason == Reason::CutOff && it.place.line == 2)
        );
    }

    #[test]
    fn no_row_is_no_reading() {
        for text in ["".into(), "\n\n".into(), HEADER.into(), format!("{HEADER}\n"), format!("{HEADER}\n\n")]
        {
            assert_eq!(frames(&text), Err(ReportError::NoReading { command: COMMAND }), "{text:?}");
        }
    }

    #[test]
    fn sizes_for_people_are_refused_in_the_header_and_in_rows() {
        let for_people = format!("{}\nroot,ok,ok,40K,0K,0K,,7,0,0,\n", HEADER.replace("Block", "Space"));
        assert_eq!(frames(&for_people), Err(ReportError::HumanReadable { line: 1, command: COMMAND }));
        for row in [
            "alice,ok,ok,3520K,0,0,,1,0,0,",
            "alice,ok,ok,1,9537G,19074G,,1,0,0,",
            "a,ok,ok,1.5T,0,0,,1,0,0,",
        ] {
            let text = format!("{HEADER}\nroot,ok,ok,1,0,0,,1,0,0,\n{row}\n");
            let error = frames(&text).unwrap_err();
            assert_eq!(error, ReportError::HumanReadable { line: 3, command: COMMAND });
            assert!(error.to_string().contains("repquota -p -n -P -O csv MOUNT"), "{error}");
        }
    }

    #[test]
    fn joined_reports_are_refused_before_anything_is_visited() {
        let row = "root,ok,ok,1,0,0,,1,0,0,";
        for second in ["User", "Group"] {
            let text = format!("{HEADER}\n{row}\n{}\n{row}\n", HEADER.replace("User", second));
            let mut visited = 0;
            let result = read(text.as_bytes(), &mut |_| visited += 1);
            assert_eq!(result, Err(ReportError::SeveralReports { line: 3, command: COMMAND }));
            assert_eq!(visited, 0);
        }
    }

    #[test]
    fn text_without_the_header_is_refused_with_the_command() {
        let error = frames("*** Report for user quotas on device /dev/vda\n").unwrap_err();
        assert!(matches!(&error, ReportError::NoHeader { line: 1, .. }));
        assert!(error.to_string().contains(COMMAND));
        assert_eq!(
            frames("root,ok,ok,1,0,0,,1,0,0,\n")
                .map_err(|error| matches!(error, ReportError::NoHeader { .. })),
            Err(true)
        );
    }

    #[test]
    fn every_line_is_a_frame() {
        let text = format!("\n{HEADER}\r\nroot,ok,ok,1,0,0,,1,0,0,\r\n\nodd\n");
        let frames = frames(&text).unwrap();
        let kinds: Vec<_> = frames
            .iter()
            .map(|frame| match frame {
                QuotaFrame::Reading(_) => "reading",
                QuotaFrame::Note(_) => "note",
                QuotaFrame::Quarantined(_) => "quarantined",
            })
            .collect();
        assert_eq!(kinds, ["note", "note", "reading", "note", "quarantined"]);
    }
}
