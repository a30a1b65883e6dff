//! Rows that end with a newline, and what stands beside a torn one.
//!
//! A newline in a user's text tears its row: the pieces have too few fields, and whatever the user wrote between them can be a
//! perfect row that charges somebody else. So a whole row beside a torn line is not believed. Which neighbours are in doubt
//! depends on where the free text stands; see [`Layout::read`].

use super::header::Layout;
use super::row::Fields;
use crate::run::{Frame, Note, NoteKind, Place, Quarantined, Reason};
use crate::sacct::Framing;
use crate::split::{Ends, FinderLines, Line, Lines, MaskLines};
use bstr::BStr;
use std::ops::Range;

/// A longer line is not read. Slurm's longest values are job comments and submit lines of some kilobytes.
pub(super) const LONGEST: usize = 1 << 20;

/// What a line is, before its values are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Blank,
    Header,
    CutOff,
    TooLong,
    Torn { fields: usize },
    Whole,
}

impl Shape {
    fn is_torn(self) -> bool {
        matches!(self, Self::Torn { .. } | Self::TooLong)
    }
}

/// A line with its shape.
#[derive(Debug, Clone, Copy)]
struct Shaped<'a> {
    text: &'a [u8],
    place: Place,
    shape: Shape,
}

impl Layout {
    /// The length of the part of `text`, from its beginning, that consists of whole rows. 0 where there is none yet.
    #[must_use]
    pub fn cut(&self, text: &[u8]) -> usize {
        match self.framing {
            Framing::Lines => memchr::memrchr(b'\n', text).map_or(0, |newline| newline + 1),
            Framing::Counted => self.cut_groups(text),
        }
    }

    /// Reads the rows of `text[body]` and hands each to `visit`, in the order of the text; places are counted from `body.start`.
    ///
    /// What lies before and after `body` is context: at most one row on each side (the last of the block before, the first of the
    /// block after), looked at to decide about neighbours of torn rows and never handed out, so that a text gives the same frames
    /// however it is cut into blocks. `last`: the body ends with the text, so that a row without its newline is cut off.
    ///
    /// One row a line ([`Framing::Lines`]):
    /// - A line with too few fields is torn. Surplus delimiters belong to the one column of free text where there is exactly
    ///   one; else the line is torn.
    /// - A whole row immediately before a torn line is set aside where any column is free text; one immediately after it, where
    ///   that column is not the last or is followed by a delimiter (`-p`).
    /// - A row whose values are not of their columns' types is set aside alone.
    ///
    /// Rows with a counted number of delimiters ([`Framing::Counted`]) have no neighbours: nothing in them can begin a row.
    pub fn read<'a>(&self, text: &'a [u8], body: Range<usize>, last: bool, mut visit: impl FnMut(Frame<'a>)) {
        let rows = text.get(body.clone()).unwrap_or_default();
        match (self.framing, self.delimiter.needle()) {
            (Framing::Counted, _) => self.read_groups(rows, last, visit),
            (Framing::Lines, needle) => {
                let before = text.get(..body.start).unwrap_or_default();
                let after = text.get(body.end..).unwrap_or_default();
                let beside = [self.ends_torn(before), !last && self.begins_torn(after)];
                match needle {
                    [delimiter] => {
                        self.read_lines(rows, MaskLines::new(rows, *delimiter), beside, &mut visit)
                    }
                    _ => self.read_lines(rows, FinderLines::new(rows, &self.delimiter), beside, &mut visit),
                }
            }
        }
    }

    /// Two lines are held: a row is handed out when it is known whether the next line is torn.
    fn read_lines<'a>(
        &self,
        text: &'a [u8],
        mut lines: impl Lines,
        [torn_before, torn_after]: [bool; 2],
        visit: &mut impl FnMut(Frame<'a>),
    ) {
        let (mut ends, mut next_ends) = (Ends::new(), Ends::new());
        let (mut ends, mut next_ends) = (&mut ends, &mut next_ends);
        let mut previous_is_torn = torn_before;
        let mut current = self.next(text, &mut lines, ends, 0);
        while let Some(line) = current {
            let next = self.next(text, &mut lines, next_ends, line.place.line + 1);
            let next_is_torn = next.map_or(torn_after, |next| next.shape.is_torn());
            let in_doubt =
                previous_is_torn && self.doubt_after_torn || next_is_torn && self.doubt_before_torn;
            visit(self.frame(&line, ends, in_doubt));
            previous_is_torn = line.shape.is_torn();
            std::mem::swap(&mut ends, &mut next_ends);
            current = next;
        }
    }

    #[inline]
    fn next<'a>(
        &self,
        text: &'a [u8],
        lines: &mut impl Lines,
        ends: &mut Ends,
        number: usize,
    ) -> Option<Shaped<'a>> {
        let line = lines.next_line(ends)?;
        let place = Place { offset: line.start, len: line.end - line.start, line: number };
        let text = text.get(line.start..line.end)?;
        Some(Shaped { text, place, shape: self.shape(text, line, ends) })
    }

    /// What a line is. For a whole row `ends` holds the end of each field afterwards.
    #[inline]
    fn shape(&self, text: &[u8], line: Line, ends: &mut Ends) -> Shape {
        if !line.terminated {
            return Shape::CutOff;
        }
        if text.len() > LONGEST {
            return Shape::TooLong;
        }
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return Shape::Blank;
        }
        if self.header.as_deref() == Some(text) {
            return Shape::Header;
        }
        let mut length = text.len();
        let expected = self.columns().len();
        if self.trailing {
            let needle = self.delimiter.needle();
            if ends.seen() == 0 || !text.ends_with(needle) {
                return Shape::Torn { fields: ends.seen() + 1 };
            }
            length -= needle.len();
            ends.truncate(ends.seen() - 1);
        }
        let fields = ends.seen() + 1;
        if fields == expected {
            ends.push(length);
            return Shape::Whole;
        }
        match self.takes_surplus {
            Some(free) if fields > expected => {
                let body = text.get(..length).unwrap_or(text);
                self.give_surplus_to(free, body, ends).map_or(Shape::Torn { fields }, |()| Shape::Whole)
            }
            _ => Shape::Torn { fields },
        }
    }

    /// Fields left of the free text are counted from the left, those right of it from the right.
    #[cold]
    fn give_surplus_to(&self, free: usize, text: &[u8], ends: &mut Ends) -> Option<()> {
        let needle = self.delimiter.needle();
        let last = self.columns().len().saturating_sub(1);
        ends.truncate(last + 1);
        let mut end = text.len();
        ends.set(last, end);
        for number in (free..last).rev() {
            end = memchr::memmem::rfind(text.get(..end)?, needle)?;
            ends.set(number, end);
        }
        Some(())
    }

    fn frame<'a>(&self, line: &Shaped<'a>, ends: &Ends, in_doubt: bool) -> Frame<'a> {
        let (text, place) = (BStr::new(line.text), line.place);
        let reason = match line.shape {
            Shape::Whole if in_doubt => Reason::BesideTorn,
            Shape::Whole => {
                let fields = Fields::new(line.text, ends.as_slice(), self.delimiter.needle().len());
                return self.row(&fields, line.text, place);
            }
            Shape::Blank => return Frame::Note(Note { kind: NoteKind::Blank, text, place }),
            Shape::Header => return Frame::Note(Note { kind: NoteKind::Header, text, place }),
            Shape::CutOff => Reason::CutOff,
            Shape::TooLong => Reason::TooLong,
            Shape::Torn { fields } => Reason::FieldCount { expected: self.columns().len(), found: fields },
        };
        Frame::Quarantined(Quarantined { reason, text, place })
    }

    /// Whether the last line of the block before is torn.
    fn ends_torn(&self, before: &[u8]) -> bool {
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        let line = memchr::memrchr(b'\n', before)
            .map_or(before, |newline| before.get(newline + 1..).unwrap_or_default());
        self.is_torn(line)
    }

    /// Whether the first line of the block after is torn. A line without its newline is not: it is cut off.
    fn begins_torn(&self, after: &[u8]) -> bool {
        memchr::memchr(b'\n', after)
            .and_then(|newline| after.get(..newline))
            .is_some_and(|line| self.is_torn(line))
    }

    fn is_torn(&self, text: &[u8]) -> bool {
        let mut ends = Ends::new();
        self.delimiter.find_iter(text).for_each(|at| ends.push(at));
        self.shape(text, Line { start: 0, end: text.len(), terminated: true }, &mut ends).is_torn()
    }
}
