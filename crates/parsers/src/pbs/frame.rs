//! Where the records of an accounting log begin and end.
//!
//! A record begins at a line that looks like `MM/DD/YYYY HH:MM:SS;L;`. Every other line continues the record before it:
//! a newline in a user's `-A` puts the rest of the record on further lines.

use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};

/// Longest record: 160 times the longest one in our logs (6.5 kB). What follows beyond it is no part of the record, so that
/// a file of another kind is read in bounded memory.
pub(super) const MAX_RECORD: usize = 1 << 20;

/// `0` stands for a digit, `?` for any byte but `;` and newline.
const START: &[u8; 22] = b"00/00/0000 00:00:00;?;";

/// True where a record begins.
pub(super) fn is_start(line: &[u8]) -> bool {
    line.get(..START.len()).is_some_and(is_start_of_start)
}

/// True for as much of a record's start as there is.
fn is_start_of_start(head: &[u8]) -> bool {
    head.iter().zip(START).all(|(byte, expected)| match expected {
        b'0' => byte.is_ascii_digit(),
        b'?' => !matches!(byte, b';' | b'\n'),
        literal => byte == literal,
    })
}

/// Length of the broken off start of a record, in front of another record on the same line: a crash left it.
fn fragment(line: &[u8]) -> Option<usize> {
    (1..START.len()).find(|&len| {
        line.split_at_checked(len).is_some_and(|(head, rest)| is_start(rest) && is_start_of_start(head))
    })
}

/// True for a line that is no part of the record before it.
fn begins(line: &[u8]) -> bool {
    // All but records and continuation lines are told by their first byte.
    line.first().is_some_and(u8::is_ascii_digit) && (is_start(line) || fragment(line).is_some())
}

/// Offset of a record that begins inside of a line: a crash left a partial line, and the server went on writing behind it.
fn start_inside(line: &[u8]) -> Option<usize> {
    // Dates are common inside of records, `;` is not: search for it, then look at what stands before it.
    const DATE: usize = 19;
    memchr_iter(b';', line)
        .filter_map(|semicolon| semicolon.checked_sub(DATE))
        .find(|&at| at > 0 && line.get(at..).is_some_and(is_start))
}

/// What a piece of the log is, by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// A record with the lines that continue it.
    Record,
    /// An empty line between records.
    Blank,
    /// The first part of a record, up to where another one begins on the same line.
    Torn,
    /// The broken off start of a record, up to where another one begins on the same line.
    Fragment,
    /// A line that neither begins nor continues a record, up to where one begins on it.
    Stray,
}

/// A piece of the log with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    pub(super) piece: Piece,
    /// Without the final newline.
    pub(super) text: &'a [u8],
    /// Offset of the first byte.
    pub(super) offset: usize,
    /// Lines before it.
    pub(super) line: usize,
    /// True if a newline or another record follows.
    pub(super) terminated: bool,
}

/// The pieces of a text in their order; together with their newlines they are the whole text.
#[derive(Debug, Clone)]
pub(super) struct Frames<'a> {
    text: &'a [u8],
    offset: usize,
    line: usize,
    /// Where the line ends in which the last piece was cut off.
    line_end: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, offset: 0, line: 0, line_end: 0 }
    }

    /// The line at `offset` with its newline; empty at the end.
    fn line_at(&self, offset: usize) -> &'a [u8] {
        if offset < self.line_end {
            // Looked for before: else a line of nothing but starts would cost quadratic time.
            return self.text.get(offset..self.line_end).unwrap_or_default();
        }
        let rest = self.text.get(offset..).unwrap_or_default();
        memchr(b'\n', rest).and_then(|newline| rest.get(..=newline)).unwrap_or(rest)
    }

    /// The piece up to `end`, and on behind it.
    fn piece(&mut self, piece: Piece, end: usize, lines: usize) -> Option<Framed<'a>> {
        let whole = self.text.get(self.offset..end)?;
        let text = whole.strip_suffix(b"\n").unwrap_or(whole);
        let terminated = text.len() < whole.len();
        let framed = Framed { piece, text, offset: self.offset, line: self.line, terminated };
        self.offset = end;
        self.line = self.line.saturating_add(lines);
        Some(framed)
    }

    /// The piece up to where a record begins, `inside` bytes into the line at `line`.
    fn piece_before(&mut self, piece: Piece, line: usize, inside: usize, lines: usize) -> Option<Framed<'a>> {
        self.line_end = line.saturating_add(self.line_at(line).len());
        let framed = self.piece(piece, line.saturating_add(inside), lines)?;
        Some(Framed { terminated: true, ..framed })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Framed<'a>;

    fn next(&mut self) -> Option<Framed<'a>> {
        let first = self.line_at(self.offset);
        if first.is_empty() {
            return None;
        }
        let start = self.offset;
        let (mut end, mut lines) = (start.saturating_add(first.len()), 1);
        let is_record = is_start(first);
        if let Some(inside) = start_inside(first) {
            let piece = match first.get(..inside) {
                _ if is_record => Piece::Torn,
                Some(head) if head.len() < START.len() && is_start_of_start(head) => Piece::Fragment,
                _ => Piece::Stray,
            };
            return self.piece_before(piece, start, inside, 0);
        }
        if !is_record {
            let piece = if is_blank(first) { Piece::Blank } else { Piece::Stray };
            return self.piece(piece, end, lines);
        }
        // Empty lines belong to the record only if more of it follows.
        let (mut ahead, mut passed) = (end, lines);
        while ahead.saturating_sub(start) <= MAX_RECORD {
            let line = self.line_at(ahead);
            if line.is_empty() || begins(line) {
                break;
            }
            if let Some(inside) = start_inside(line) {
                return self.piece_before(Piece::Torn, ahead, inside, passed);
            }
            ahead = ahead.saturating_add(line.len());
            passed += 1;
            if !is_blank(line) {
                (end, lines) = (ahead, passed);
            }
        }
        self.piece(Piece::Record, end, lines)
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

/// Start of the last line of `text` that begins a record; where there is none, of the first line on which one begins.
fn last_start(text: &[u8]) -> Option<usize> {
    memrchr_iter(b'\n', text)
        .map(|newline| newline.saturating_add(1))
        .chain(std::iter::once(0))
        .find(|&at| text.get(at..).is_some_and(begins))
        .or_else(|| start_inside(text).map(|inside| last_line(text.get(..inside).unwrap_or_default())))
}

/// Start of the last record of `text`, of which the last one that begins a line begins at `start`.
fn last_inside(text: &[u8], start: usize) -> usize {
    const DATE: usize = 19;
    let lines = text.get(start..).unwrap_or_default();
    let inside = memrchr_iter(b';', lines)
        .filter_map(|semicolon| semicolon.checked_sub(DATE))
        .find(|&at| lines.get(at..).is_some_and(is_start));
    start.saturating_add(inside.unwrap_or(0))
}

/// Start of the last line of `text` that may still grow.
fn last_line(text: &[u8]) -> usize {
    memrchr(b'\n', text).map_or(0, |newline| newline.saturating_add(1))
}

/// Start of the last line of `text` that is not empty; of the line that may still grow if all are.
fn last_text(text: &[u8]) -> usize {
    match text.trim_ascii_end() {
        [] => last_line(text),
        text => last_line(text),
    }
}

/// See [`super::cut`].
pub(super) fn cut(text: &[u8]) -> usize {
    let (line, filled) = (last_line(text), last_text(text));
    let piece = match last_start(text) {
        // Lines that begin beyond the longest record are pieces of their own (see `Frames`).
        Some(start) if filled.saturating_sub(last_inside(text, start)) <= MAX_RECORD => start,
        _ => filled,
    };
    // Empty lines stay with the piece before them, so that it is there when the next one is judged; but not endlessly.
    if line.saturating_sub(piece) > MAX_RECORD { line } else { piece }
}

/// The last piece of `text` that is not an empty line, and where it starts; `text` is whole pieces from some record's start on.
pub(super) fn last_piece(text: &[u8]) -> Option<(usize, Framed<'_>)> {
    let start = last_start(text).unwrap_or_else(|| last_text(text));
    let framed = Frames::new(text.get(start..)?).filter(|framed| framed.piece != Piece::Blank).last()?;
    Some((start.saturating_add(framed.offset), framed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: &str = "11/23/2026 02:29:41;E;0.pbssrv;user=a";

    fn pieces(text: &str) -> Vec<(Piece, &[u8], usize)> {
        Frames::new(text.as_bytes()).map(|framed| (framed.piece, framed.text, framed.line)).collect()
    }

    #[test]
    fn a_record_starts_with_date_letter_and_semicolons() {
        for start in
            ["11/23/2026 02:29:41;E;0.pbssrv;x", "00/00/0000 00:00:00;\u{7f};", "11/23/2026 02:29:41;r;"]
        {
            assert!(is_start(start.as_bytes()), "{start}");
        }
        for other in [
            "",
            "11/23/2026 02:29:41;E",
            "1/23/2026 02:29:41;E;1",
            "11/23/2026T02:29:41;E;1",
            "11/23/2026 02:29:41;;E;",
            "11/23/2026 02:29:41;EE;1",
            " 11/23/2026 02:29:41;E;1;",
        ] {
            assert!(!is_start(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn lines_without_a_start_continue_the_record_before_them() {
        let text = format!("{E} account=\"l1\n\nl2\"\n{E}\n");
        let first = format!("{E} account=\"l1\n\nl2\"");
        assert_eq!(pieces(&text), [(Piece::Record, first.as_bytes(), 0), (Piece::Record, E.as_bytes(), 3)]);
    }

    #[test]
    fn empty_lines_between_records_are_pieces_of_their_own() {
        let text = format!("\n{E}\n\n\r\n{E}");
        assert_eq!(
            pieces(&text),
            [
                (Piece::Blank, &b""[..], 0),
                (Piece::Record, E.as_bytes(), 1),
                (Piece::Blank, b"", 2),
                (Piece::Blank, b"\r", 3),
                (Piece::Record, E.as_bytes(), 4),
            ]
        );
    }

    #[test]
    fn lines_before_the_first_record_are_strays() {
        let text = format!("tail of something\nmore\n{E}\n");
        assert_eq!(
            pieces(&text),
            [
                (Piece::Stray, &b"tail of something"[..], 0),
                (Piece::Stray, b"more", 1),
                (Piece::Record, E.as_bytes(), 2),
            ]
        );
    }

    #[test]
    fn a_record_takes_no_lines_beyond_the_longest_record() {
        let text = format!("{E}\n{}\nbeyond\nbeyond too\n{E}\n", "x".repeat(MAX_RECORD));
        let kinds: Vec<_> = pieces(&text).iter().map(|piece| (piece.0, piece.2)).collect();
        assert_eq!(kinds, [(Piece::Record, 0), (Piece::Stray, 2), (Piece::Stray, 3), (Piece::Record, 4)]);
    }

    #[test]
    fn cut_leaves_the_last_record_to_the_next_block() {
        let text = format!("{E}\ncontinued\n{E}\ncontinued\n");
        assert_eq!(cut(text.as_bytes()), E.len() + 11);
        assert_eq!(cut(format!("{E}\n").as_bytes()), 0);
        assert_eq!(cut(E.as_bytes()), 0);
        assert_eq!(cut(b""), 0);
        // A start that is not read to its end yet is a line of the record before it, and stays with it.
        assert_eq!(cut(format!("{E}\n{E}\n11/23/2026 02:2").as_bytes()), E.len() + 1);
    }

    #[test]
    fn cut_passes_lines_that_no_record_can_own() {
        assert_eq!(cut(b"no\nrecord\nhere"), 10);
        assert_eq!(cut(b"no\nrecord\n\n\n"), 3);
        assert_eq!(cut(b"\n\n\n"), 3);
        assert_eq!(cut("\n".repeat(MAX_RECORD + 9).as_bytes()), MAX_RECORD + 9);
        let text = format!("{E}{}", "\n".repeat(MAX_RECORD + 9));
        assert_eq!(cut(text.as_bytes()), text.len());
        let text = format!("{E}\n{}\nbeyond\nbey", "x".repeat(MAX_RECORD));
        assert_eq!(cut(text.as_bytes()), text.len() - 3);
    }

    #[test]
    fn a_second_record_on_the_line_is_a_piece_of_its_own() {
        let torn = "11/23/2026 02:29:41;S;0.pbssrv;user=pbal";
        let text = format!("{torn}{E}\ncontinued\n{torn}\nmore {E}{E}\nstray? no\n");
        let second = format!("{E}\ncontinued");
        let third = format!("{torn}\nmore ");
        let last = format!("{E}\nstray? no");
        assert_eq!(
            pieces(&text),
            [
                (Piece::Torn, torn.as_bytes(), 0),
                (Piece::Record, second.as_bytes(), 0),
                (Piece::Torn, third.as_bytes(), 2),
                (Piece::Torn, E.as_bytes(), 3),
                (Piece::Record, last.as_bytes(), 3),
            ]
        );
        assert_eq!(
            pieces(&format!("\0\0\0{E}\n")),
            [(Piece::Stray, &b"\0\0\0"[..], 0), (Piece::Record, E.as_bytes(), 0)]
        );
        let account = "11/23/2026 02:29:41;S;0.pbssrv;user=a account=\"a; b; 11/23/2026\" queue=q";
        assert_eq!(pieces(account), [(Piece::Record, account.as_bytes(), 0)]);
    }

    #[test]
    fn a_broken_off_start_is_no_part_of_the_record_before_it() {
        let text = format!("{E}\n11/23/2026 0{E}\n{E}\nx11/2{E}\n");
        let torn = format!("{E}\nx11/2");
        assert_eq!(
            pieces(&text),
            [
                (Piece::Record, E.as_bytes(), 0),
                (Piece::Fragment, &b"11/23/2026 0"[..], 1),
                (Piece::Record, E.as_bytes(), 1),
                (Piece::Torn, torn.as_bytes(), 2),
                (Piece::Record, E.as_bytes(), 3),
            ]
        );
        assert_eq!(cut(&text.as_bytes()[..text.len() / 2]), E.len() + 1);
        let stray = format!("stray\nmore {E}\ncontinued\n");
        assert_eq!(cut(stray.as_bytes()), 6);
    }

    #[test]
    fn the_last_piece_may_begin_in_the_middle_of_a_line() {
        let text = format!("{E}\n{E}{E}\n");
        assert_eq!(
            last_piece(text.as_bytes()).map(|last| (last.0, last.1.text)),
            Some((2 * E.len() + 1, E.as_bytes()))
        );
        assert_eq!(cut(text.as_bytes()), E.len() + 1);
    }

    #[test]
    fn the_last_piece_is_no_empty_line() {
        let text = format!("{E}\n{E} b\ncontinued\n\n");
        let expected = format!("{E} b\ncontinued");
        assert_eq!(
            last_piece(text.as_bytes()).map(|last| (last.0, last.1.text)),
            Some((E.len() + 1, expected.as_bytes()))
        );
        assert_eq!(last_piece(b"stray\nother\n").map(|last| (last.0, last.1.text)), Some((6, &b"other"[..])));
        assert_eq!(last_piece(b"\n\n"), None);
        assert_eq!(last_piece(b""), None);
    }
}
