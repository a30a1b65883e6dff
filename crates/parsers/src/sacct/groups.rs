//! Rows that are counted out by their delimiters: `sacct -p` with a delimiter that occurs in no value.
//!
//! Every field, the last one too, ends with the delimiter, and every row with a newline behind its last one. A newline anywhere
//! else is text, so that nothing that a user writes can end a row or begin one.

use super::frames::LONGEST;
use super::header::Layout;
use super::row::Fields;
use crate::run::{Frame, Note, NoteKind, Place, Quarantined, Reason};
use crate::split::Ends;
use bstr::BStr;

/// How a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With its last delimiter and a newline.
    Newline,
    /// With its last delimiter, and no newline behind it: the count is off, or the text is cut.
    Delimiter,
    /// With the text, before its last delimiter.
    Text,
}

/// A row of `count` delimiters, from `start` on; `end` is behind the last delimiter.
#[derive(Debug, Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
    ending: Ending,
}

impl Layout {
    fn next_group(&self, text: &[u8], start: usize, ends: &mut Ends) -> Option<Group> {
        ends.clear();
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let mut delimiters = self.delimiter.find_iter(rest);
        for _ in 0..self.columns().len() {
            match delimiters.next() {
                Some(at) => ends.push(at),
                None => return Some(Group { start, end: text.len(), ending: Ending::Text }),
            }
        }
        let last = ends.as_slice().last().map_or(0, |at| *at as usize);
        let end = start + last + self.delimiter.needle().len();
        let ending = if text.get(end) == Some(&b'\n') { Ending::Newline } else { Ending::Delimiter };
        Some(Group { start, end, ending })
    }

    /// The length of the rows at the front that are complete, how many they are, and whether what follows may still
    /// become one: a row has its newline right behind its last delimiter.
    pub(super) fn whole_groups(&self, text: &[u8]) -> (usize, u64, bool) {
        let mut ends = Ends::new();
        let (mut whole, mut rows) = (0, 0);
        while let Some(group) = self.next_group(text, whole, &mut ends) {
            match group.ending {
                Ending::Newline => (whole, rows) = (group.end + 1, rows + 1),
                Ending::Delimiter => return (whole, rows, group.end == text.len()),
                Ending::Text => break,
            }
        }
        (whole, rows, true)
    }

    pub(super) fn cut_groups(&self, text: &[u8]) -> usize {
        let mut ends = Ends::new();
        let mut whole = 0;
        while let Some(group) = self.next_group(text, whole, &mut ends) {
            match group.ending {
                Ending::Newline => whole = group.end + 1,
                Ending::Delimiter if group.end < text.len() => whole = group.end,
                Ending::Delimiter | Ending::Text => break,
            }
        }
        whole
    }

    /// `last`: the text ends here. Else a row that ends with it is one that [`Layout::cut`] saw the rest of.
    pub(super) fn read_groups<'a>(&self, text: &'a [u8], last: bool, mut visit: impl FnMut(Frame<'a>)) {
        let mut ends = Ends::new();
        let (mut start, mut line) = (0, 0);
        while let Some(group) = self.next_group(text, start, &mut ends) {
            let row = text.get(group.start..group.end).unwrap_or_default();
            let place = Place { offset: group.start, len: row.len(), line };
            visit(self.group_frame(row, &group, last && group.end == text.len(), &ends, place));
            let newline = usize::from(group.ending == Ending::Newline);
            line += memchr::memchr_iter(b'\n', row).count() + newline;
            start = group.end + newline;
        }
    }

    fn group_frame<'a>(
        &self,
        row: &'a [u8],
        group: &Group,
        at_end: bool,
        ends: &Ends,
        place: Place,
    ) -> Frame<'a> {
        let text = BStr::new(row);
        let expected = self.columns().len();
        let reason = if row.len() > LONGEST {
            Reason::TooLong
        } else {
            match group.ending {
                Ending::Newline if self.header.as_deref() == Some(row) => {
                    return Frame::Note(Note { kind: NoteKind::Header, text, place });
                }
                Ending::Newline => {
                    return self.row(
                        &Fields::new(row, ends.as_slice(), self.delimiter.needle().len()),
                        row,
                        place,
                    );
                }
                Ending::Delimiter if !at_end => Reason::FieldCount { expected, found: expected + 1 },
                Ending::Delimiter | Ending::Text => Reason::CutOff,
            }
        };
        Frame::Quarantined(Quarantined { reason, text, place })
    }
}
