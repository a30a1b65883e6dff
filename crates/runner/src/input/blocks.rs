//! Cuts a stream into blocks of whole frames, in constant memory.
//!
//! A block's body holds whole frames only: where to cut is asked of the format. Around the body stands a little
//! context (the last frame before it, the first line after it), because what is torn is judged with its neighbours.
//! A frame longer than [`LONGEST_FRAME`] is not kept: it is handed out as [`Piece::TooLong`] and skipped, so that a
//! file without newlines cannot fill the memory.

use memchr::{memchr, memrchr};
use std::io::{self, Read};
use std::ops::Range;

/// Bytes of body that a block aims at. Blocks of 1 MiB keep a core busy for some milliseconds and fit the cache.
pub const BLOCK: usize = 1 << 20;

/// Longest frame that is kept whole: no scheduler writes such a record.
pub const LONGEST_FRAME: usize = 4 << 20;

/// How a format's frames are found. Implementations are pure functions of the bytes.
pub trait Cutter {
    /// Length of the prefix of `text` that consists of whole frames.
    fn cut(&self, text: &[u8]) -> usize;

    /// Where the last frame of `body` begins (`body` consists of whole frames and is not empty): context for the next block.
    fn last_frame(&self, body: &[u8]) -> usize;

    /// How much of what follows a body is wanted as its context; `None` while `rest` does not show it.
    fn context(&self, rest: &[u8]) -> Option<usize> {
        memchr(b'\n', rest).map(|end| end + 1)
    }

    /// What finds the end of a frame that is too long to be kept.
    fn ending(&self) -> Box<dyn Ending> {
        Box::new(LineEnding)
    }
}

/// Finds the end of one frame that is seen chunk by chunk, from its first byte on.
pub trait Ending {
    /// Where in this chunk the frame ends; `None` where it goes on.
    fn find(&mut self, chunk: &[u8]) -> Option<usize>;
}

/// A frame ends with its newline.
#[derive(Debug)]
struct LineEnding;

impl Ending for LineEnding {
    fn find(&mut self, chunk: &[u8]) -> Option<usize> {
        memchr(b'\n', chunk).map(|end| end + 1)
    }
}

/// Frames are lines.
#[derive(Debug, Clone, Copy)]
pub struct Lines;

impl Cutter for Lines {
    fn cut(&self, text: &[u8]) -> usize {
        memrchr(b'\n', text).map_or(0, |at| at + 1)
    }

    fn last_frame(&self, body: &[u8]) -> usize {
        let without_end = body.strip_suffix(b"\n").unwrap_or(body);
        memrchr(b'\n', without_end).map_or(0, |at| at + 1)
    }
}

/// A piece of a file.
#[derive(Debug)]
pub enum Piece {
    /// Whole frames.
    Block(Block),
    /// A frame that is longer than any record.
    TooLong(TooLong),
}

/// Whole frames of a file, with a little context around them.
#[derive(Debug, Default)]
pub struct Block {
    /// Context, body, context.
    pub text: Vec<u8>,
    /// The body within `text`.
    pub body: Range<usize>,
    /// Decompressed bytes of the file before the body.
    pub offset: u64,
    /// Lines of the file before the body.
    pub line: u64,
    /// True for the last piece of the file.
    pub last: bool,
}

impl Block {
    /// The whole frames.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.text.get(self.body.clone()).unwrap_or_default()
    }
}

/// The beginning of a frame that was skipped.
#[derive(Debug)]
pub struct TooLong {
    /// Its first bytes.
    pub text: Vec<u8>,
    /// Its length, bytes.
    pub len: u64,
    /// Decompressed bytes of the file before it.
    pub offset: u64,
    /// Lines of the file before it.
    pub line: u64,
    /// True for the last piece of the file.
    pub last: bool,
}

/// Reads pieces of one file.
pub struct Blocks<'c> {
    reader: Box<dyn Read + Send>,
    cutter: &'c (dyn Cutter + Sync),
    target: usize,
    /// Read and not yet handed out.
    pending: Vec<u8>,
    ended: bool,
    offset: u64,
    line: u64,
    /// Last frame of the piece before.
    before: Vec<u8>,
    finished: bool,
}

impl<'c> Blocks<'c> {
    /// Starts at the beginning of a file; `target` is the size of body to aim at ([`BLOCK`]).
    pub fn new(reader: Box<dyn Read + Send>, cutter: &'c (dyn Cutter + Sync), target: usize) -> Self {
        Self {
            reader,
            cutter,
            target: target.max(1),
            pending: Vec::new(),
            ended: false,
            offset: 0,
            line: 0,
            before: Vec::new(),
            finished: false,
        }
    }

    /// Says where in the file `reader` begins: what stands before is no frame, and was left out.
    #[must_use]
    pub fn starting_at(mut self, offset: u64, line: u64) -> Self {
        (self.offset, self.line) = (offset, line);
        self
    }

    /// Reads until `pending` holds `wanted` bytes or the file ends.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.pending.len());
        if missing > 0 && !self.ended {
            let read = self.reader.by_ref().take(missing as u64).read_to_end(&mut self.pending)?;
            self.ended = read < missing;
        }
        Ok(())
    }

    /// The next piece, `None` after the last one. An empty file has one empty block.
    ///
    /// # Errors
    /// Where the file cannot be read or its compressed form is damaged.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if self.finished {
            return Ok(None);
        }
        let mut wanted = self.target;
        let len = loop {
            self.fill(wanted)?;
            if self.ended {
                break self.pending.len();
            }
            match self.cutter.cut(&self.pending) {
                0 if self.pending.len() >= LONGEST_FRAME => return self.skip_frame().map(Some),
                0 => wanted = (self.pending.len() * 2).min(LONGEST_FRAME),
                cut => break cut,
            }
        };
        // A few bytes more, so that the frame behind the body is there as context.
        let mut ahead = 4096;
        let after = loop {
            self.fill(len + ahead)?;
            let rest = self.pending.get(len..).unwrap_or_default();
            match self.cutter.context(rest) {
                Some(end) => break end,
                None if self.ended || ahead >= BLOCK => break rest.len(),
                None => ahead *= 4,
            }
        };
        let mut text = std::mem::take(&mut self.before);
        let start = text.len();
        text.extend_from_slice(self.pending.get(..len + after).unwrap_or_default());
        let body = start..start + len;
        self.pending.drain(..len);
        let last = self.ended && self.pending.is_empty();
        let block = Block { body: body.clone(), text, offset: self.offset, line: self.line, last };
        self.offset += len as u64;
        self.line += memchr::memchr_iter(b'\n', block.body()).count() as u64;
        self.finished = last;
        if !block.body().is_empty() {
            self.before =
                block.body().get(self.cutter.last_frame(block.body())..).unwrap_or_default().to_vec();
        }
        Ok(Some(Piece::Block(block)))
    }

    /// Drops the frame at the front, which is too long.
    fn skip_frame(&mut self) -> io::Result<Piece> {
        let text = self.pending.get(..4096.min(self.pending.len())).unwrap_or_default().to_vec();
        let (offset, line) = (self.offset, self.line);
        let mut len = 0_u64;
        let mut ending = self.cutter.ending();
        loop {
            let end = ending.find(&self.pending);
            let dropped = end.unwrap_or(self.pending.len());
            self.line +=
                memchr::memchr_iter(b'\n', self.pending.get(..dropped).unwrap_or_default()).count() as u64;
            self.pending.drain(..dropped);
            len += dropped as u64;
            if end.is_some() || self.ended {
                break;
            }
            self.fill(BLOCK)?;
        }
        self.offset += len;
        self.before.clear();
        if self.pending.is_empty() {
            self.fill(1)?;
        }
        self.finished = self.ended && self.pending.is_empty();
        Ok(Piece::TooLong(TooLong { text, len, offset, line, last: self.finished }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn pieces(text: &[u8], target: usize) -> Vec<Piece> {
        let mut blocks = Blocks::new(Box::new(Cursor::new(text.to_vec())), &Lines, target);
        let mut pieces = Vec::new();
        while let Some(piece) = blocks.next_piece().unwrap() {
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn bodies_are_whole_lines_and_give_the_file_back() {
        let text = b"one\ntwo\n\nthree is longer\nfour\nno end";
        for target in 1..50 {
            let mut back = Vec::new();
            let mut lines = 0;
            for piece in pieces(text, target) {
                let Piece::Block(block) = piece else { panic!("no line is too long here") };
                assert_eq!(block.offset as usize, back.len());
                assert_eq!(block.line as usize, lines);
                assert!(block.last || block.body().ends_with(b"\n"), "{target}");
                lines += block.body().iter().filter(|byte| **byte == b'\n').count();
                back.extend_from_slice(block.body());
            }
            assert_eq!(back, text, "{target}");
        }
    }

    #[test]
    fn context_is_the_line_before_and_the_line_after() {
        let pieces = pieces(b"aa\nbb\ncc\ndd\n", 6);
        let Some(Piece::Block(second)) = pieces.get(1) else { panic!("two blocks: {pieces:?}") };
        assert_eq!(second.body(), b"cc\ndd\n");
        assert_eq!(&second.text[..second.body.start], b"bb\n");
        let Some(Piece::Block(first)) = pieces.first() else { panic!() };
        assert_eq!(&first.text[first.body.end..], b"cc\n");
    }

    #[test]
    fn an_empty_file_has_one_empty_last_block() {
        let pieces = pieces(b"", 10);
        assert!(matches!(pieces.as_slice(), [Piece::Block(block)] if block.last && block.body().is_empty()));
    }

    #[test]
    fn a_line_without_end_is_skipped_in_constant_memory() {
        let mut text = b"first\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', LONGEST_FRAME * 3));
        text.extend_from_slice(b"\nlast\n");
        let pieces = pieces(&text, 1024);
        let long: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::TooLong(_))).collect();
        assert!(
            matches!(long.as_slice(), [Piece::TooLong(skipped)] if skipped.line == 1 && skipped.len == LONGEST_FRAME as u64 * 3 + 1)
        );
        let bodies: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Block(block) => block.body().to_vec(),
                Piece::TooLong(_) => Vec::new(),
            })
            .collect();
        assert_eq!(bodies, b"first\nlast\n");
    }

    #[test]
    fn a_file_that_ends_within_a_too_long_line_says_so() {
        let text = vec![b'x'; LONGEST_FRAME * 2];
        assert!(matches!(pieces(&text, 1024).as_slice(), [Piece::TooLong(long)] if long.last));
        let exactly = [vec![b'x'; LONGEST_FRAME * 2], b"\n".to_vec()].concat();
        assert!(matches!(pieces(&exactly, 1024).as_slice(), [Piece::TooLong(long)] if long.last));
    }
}
