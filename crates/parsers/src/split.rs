//! Finds the lines and the fields of delimited text, 64 bytes at a time.
//!
//! A row of `sacct` has about twenty fields of eight bytes. One search per field costs more than the fields are long; one
//! comparison of 64 bytes at once gives a bit for every delimiter and newline among them, and the rest is counting bits.

use memchr::memmem::Finder;

/// A row can have this many fields: `sacct --format=ALL` of Slurm 26.05 prints 126.
pub(crate) const MAX_FIELDS: usize = 256;

/// Where the delimiters of one line stand, counted from the line's first byte.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    at: [u32; MAX_FIELDS],
    /// Delimiters in the line; only the first [`MAX_FIELDS`] have their place noted.
    seen: usize,
}

impl Ends {
    pub(crate) const fn new() -> Self {
        Self { at: [0; MAX_FIELDS], seen: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.seen = 0;
    }

    /// Notes one more delimiter (or the end of the last field). A line longer than 4 GiB wraps here; such a line is
    /// refused for its length.
    #[inline]
    pub(crate) fn push(&mut self, at: usize) {
        if let Some(slot) = self.at.get_mut(self.seen) {
            *slot = at as u32;
        }
        self.seen += 1;
    }

    /// Puts the end of field `number` where it is found from the other side.
    pub(crate) fn set(&mut self, number: usize, at: usize) {
        if let Some(slot) = self.at.get_mut(number) {
            *slot = at as u32;
        }
        self.seen = self.seen.max(number + 1);
    }

    /// Forgets the delimiters from number `keep` on.
    pub(crate) fn truncate(&mut self, keep: usize) {
        self.seen = self.seen.min(keep);
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// The places that were noted.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u32] {
        self.at.get(..self.seen).unwrap_or(&self.at)
    }
}

/// One line: `text[start..end]`, without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// False for a last line that has no newline.
    pub(crate) terminated: bool,
}

/// Gives the lines of a text in order, each with the places of its delimiters.
pub(crate) trait Lines {
    /// The next line; `ends` is overwritten. `None` at the end of the text.
    fn next_line(&mut self, ends: &mut Ends) -> Option<Line>;
}

/// [`Lines`] for a delimiter of one byte, by bit mask.
#[derive(Debug)]
pub(crate) struct MaskLines<'a> {
    text: &'a [u8],
    delimiter: u8,
    /// First byte of the line that is being read.
    start: usize,
    /// First byte of the block of 64 bytes that the masks are of.
    block: usize,
    /// First byte that no mask has been made of.
    ahead: usize,
    /// Delimiters and newlines of the block that have not been taken yet.
    found: u64,
    /// Newlines of the block.
    newlines: u64,
}

impl<'a> MaskLines<'a> {
    pub(crate) fn new(text: &'a [u8], delimiter: u8) -> Self {
        Self { text, delimiter, start: 0, block: 0, ahead: 0, found: 0, newlines: 0 }
    }

    /// Makes the masks of the next block; false at the end of the text.
    #[inline]
    fn advance(&mut self) -> bool {
        let Some(rest) = self.text.get(self.ahead..).filter(|rest| !rest.is_empty()) else { return false };
        self.block = self.ahead;
        if let Some(block) = rest.first_chunk::<64>() {
            self.newlines = mask(block, b'\n');
            self.found = mask(block, self.delimiter) | self.newlines;
            self.ahead += 64;
        } else {
            let mut block = [0; 64];
            for (to, from) in block.iter_mut().zip(rest) {
                *to = *from;
            }
            let inside = (1u64 << rest.len()) - 1; // fewer than 64, and at least one
            self.newlines = mask(&block, b'\n') & inside;
            self.found = (mask(&block, self.delimiter) & inside) | self.newlines;
            self.ahead += rest.len();
        }
        true
    }
}

impl Lines for MaskLines<'_> {
    #[inline]
    fn next_line(&mut self, ends: &mut Ends) -> Option<Line> {
        ends.clear();
        let start = self.start;
        if start >= self.text.len() {
            return None;
        }
        loop {
            let (block, newlines, mut found) = (self.block, self.newlines, self.found);
            while found != 0 {
                let lowest = found & found.wrapping_neg();
                found ^= lowest;
                let at = block + lowest.trailing_zeros() as usize;
                if newlines & lowest != 0 {
                    self.start = at + 1;
                    self.found = found;
                    return Some(Line { start, end: at, terminated: true });
                }
                ends.push(at - start);
            }
            if !self.advance() {
                self.start = self.text.len();
                self.found = 0;
                return Some(Line { start, end: self.text.len(), terminated: false });
            }
        }
    }
}

/// A bit for each of the 64 bytes that equals `wanted`, the first byte's lowest.
///
/// The comparison is written so that the compiler makes vector instructions of it on every target (16 bytes each on plain x86-64);
/// the multiplication gathers one bit from each of eight bytes of 0x00 or 0xff.
#[inline]
fn mask(block: &[u8; 64], wanted: u8) -> u64 {
    mask_where(block, |byte| byte == wanted)
}

/// A bit for each of the 64 bytes that `is` so, the first byte's lowest; see [`mask`].
#[inline]
pub(crate) fn mask_where(block: &[u8; 64], is: impl Fn(u8) -> bool) -> u64 {
    let mut equal = [0u8; 64];
    for (to, from) in equal.iter_mut().zip(block) {
        *to = if is(*from) { 0xff } else { 0 };
    }
    let (words, _) = equal.as_chunks::<8>();
    let mut bits = 0;
    for (index, word) in words.iter().enumerate() {
        let own_bit = u64::from_le_bytes(*word) & 0x8040_2010_0804_0201;
        bits |= (own_bit.wrapping_mul(0x0101_0101_0101_0101) >> 56) << (8 * index);
    }
    bits
}

/// [`Lines`] for a delimiter of any length.
#[derive(Debug)]
pub(crate) struct FinderLines<'a, 'd> {
    text: &'a [u8],
    delimiter: &'d Finder<'static>,
    start: usize,
}

impl<'a, 'd> FinderLines<'a, 'd> {
    pub(crate) fn new(text: &'a [u8], delimiter: &'d Finder<'static>) -> Self {
        Self { text, delimiter, start: 0 }
    }
}

impl Lines for FinderLines<'_, '_> {
    fn next_line(&mut self, ends: &mut Ends) -> Option<Line> {
        ends.clear();
        let start = self.start;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let (line, terminated) = match memchr::memchr(b'\n', rest) {
            Some(newline) => (rest.get(..newline)?, true),
            None => (rest, false),
        };
        for at in self.delimiter.find_iter(line) {
            ends.push(at);
        }
        let end = start + line.len();
        self.start = end + usize::from(terminated);
        Some(Line { start, end, terminated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nom::branch::alt;
    use nom::bytes::complete::{tag, take_till};
    use nom::combinator::eof;
    use nom::multi::separated_list1;
    use nom::sequence::terminated;
    use nom::{IResult, Parser};
    use proptest::prelude::*;

    /// The reference: a line is fields between delimiters, up to a newline or the end.
    fn line(input: &[u8]) -> IResult<&[u8], Vec<&[u8]>> {
        let field = take_till(|byte| byte == b'|' || byte == b'\n');
        terminated(separated_list1(tag(&b"|"[..]), field), alt((tag(&b"\n"[..]), eof))).parse(input)
    }

    fn by_grammar(mut text: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        while !text.is_empty() {
            let (rest, fields) = line(text).unwrap();
            lines.push(fields.into_iter().map(<[u8]>::to_vec).collect());
            text = rest;
        }
        lines
    }

    fn by(mut lines: impl Lines, text: &[u8], delimiter: usize) -> Vec<Vec<Vec<u8>>> {
        let mut ends = Ends::new();
        let mut found = Vec::new();
        while let Some(line) = lines.next_line(&mut ends) {
            let line = &text[line.start..line.end];
            let mut from = 0;
            let mut fields = Vec::new();
            for end in ends.as_slice() {
                fields.push(line[from..*end as usize].to_vec());
                from = *end as usize + delimiter;
            }
            fields.push(line[from..].to_vec());
            found.push(fields);
        }
        found
    }

    proptest! {
        #[test]
        fn mask_and_finder_split_as_the_grammar_does(text in "[a|\n\r\u{0}é]{0,300}") {
            let text = text.as_bytes();
            let expected = by_grammar(text);
            prop_assert_eq!(&by(MaskLines::new(text, b'|'), text, 1), &expected);
            prop_assert_eq!(&by(FinderLines::new(text, &Finder::new(b"|").into_owned()), text, 1), &expected);
        }
    }

    #[test]
    fn every_fixture_is_split_as_the_grammar_does() {
        for (path, text) in crate::fixtures::texts() {
            let expected = by_grammar(&text);
            assert!(by(MaskLines::new(&text, b'|'), &text, 1) == expected, "{path}");
            assert!(
                by(FinderLines::new(&text, &Finder::new(b"|").into_owned()), &text, 1) == expected,
                "{path}"
            );
        }
    }

    #[test]
    fn a_nul_delimiter_is_not_found_in_the_padding_of_the_last_block() {
        let text = b"a\0b\nc";
        assert_eq!(
            by(MaskLines::new(text, 0), text, 1),
            [vec![b"a".to_vec(), b"b".to_vec()], vec![b"c".to_vec()]]
        );
    }

    #[test]
    fn more_delimiters_than_places_are_counted() {
        let text = [b'|'; MAX_FIELDS + 9];
        let mut ends = Ends::new();
        MaskLines::new(&text, b'|').next_line(&mut ends).unwrap();
        assert_eq!((ends.seen(), ends.as_slice().len()), (MAX_FIELDS + 9, MAX_FIELDS));
    }
}
