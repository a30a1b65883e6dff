//! Is a counted text whole? Looked through before it is read, in constant memory.
//!
//! `sacct` that is killed, or whose disk is full, leaves the beginning of its output. By lines the torn row is the last one;
//! a partial read of counted rows is refused whole, because whoever wrote it did not finish, and the next one will.

use super::frames::LONGEST;
use super::header::Layout;

/// A counted text that was not written to its end, or whose count is off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "row {row} does not end as a row must: the output was not written to its end, or a delimiter is missing. A partial read is refused whole: run sacct again"
)]
pub struct PartialRead {
    /// The row, from 1; the header is the first.
    pub row: u64,
}

/// Counts the rows of a counted text that comes in pieces.
///
/// ```
/// use parsers::sacct::{Framing, Layout, Options};
/// let options = Options { delimiter: b"<5f2a>".to_vec(), framing: Framing::Counted, ..Options::default() };
/// let header = b"JobID<5f2a>JobName<5f2a>";
/// let layout = Layout::lenient(header, &options)?;
/// let mut survey = layout.survey();
/// survey.push(b"JobID<5f2a>JobName<5f2a>\n5<5f2a>two\nli")?;
/// survey.push(b"nes<5f2a>\n")?;
/// assert_eq!(survey.finish()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Survey<'a> {
    layout: &'a Layout,
    /// The beginning of a row that is not complete yet.
    rest: Vec<u8>,
    rows: u64,
}

impl Layout {
    /// Looks through a text of this layout whose rows are counted ([`super::Framing::Counted`]).
    #[must_use]
    pub fn survey(&self) -> Survey<'_> {
        Survey { layout: self, rest: Vec::new(), rows: 0 }
    }
}

impl Survey<'_> {
    /// Takes the next piece.
    ///
    /// # Errors
    /// Where a row has its delimiters and no newline behind them, or is longer than any row.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), PartialRead> {
        self.rest.extend_from_slice(piece);
        let (whole, rows, sound) = self.layout.whole_groups(&self.rest);
        self.rows += rows;
        self.rest.drain(..whole);
        if sound && self.rest.len() <= LONGEST { Ok(()) } else { Err(self.partial()) }
    }

    /// The number of rows, the header included.
    ///
    /// # Errors
    /// Where the text ends within a row.
    pub fn finish(self) -> Result<u64, PartialRead> {
        if self.rest.is_empty() { Ok(self.rows) } else { Err(self.partial()) }
    }

    fn partial(&self) -> PartialRead {
        PartialRead { row: self.rows + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Framing, Options};
    use super::*;

    const TEXT: &[u8] = b"JobID#~#JobName#~#\n1#~#a#~#\n2#~#b\n#~\nc#~#\n3#~##~#\n";

    fn layout() -> Layout {
        let options = Options { delimiter: b"#~#".to_vec(), framing: Framing::Counted, ..Options::default() };
        Layout::lenient(b"JobID#~#JobName#~#", &options).unwrap()
    }

    fn rows(text: &[u8], size: usize) -> Result<u64, PartialRead> {
        let layout = layout();
        let mut survey = layout.survey();
        text.chunks(size).try_for_each(|piece| survey.push(piece))?;
        survey.finish()
    }

    #[test]
    fn a_text_that_ends_within_a_row_is_refused_in_any_pieces() {
        let ends = [0, 19, 28, 42, 50];
        for end in 0..=TEXT.len() {
            for size in 1..=TEXT.len() {
                let whole = ends.iter().position(|at| *at == end).map(|rows| rows as u64);
                assert_eq!(rows(&TEXT[..end], size).ok(), whole, "cut at {end}, in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_missing_delimiter_is_noticed_by_its_row() {
        let text = TEXT.to_vec();
        let lost = [&text[..24], &text[27..]].concat(); // the last delimiter of row 2
        assert_eq!(rows(&lost, 7), Err(PartialRead { row: 2 }));
    }
}
