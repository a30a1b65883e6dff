//! A PBS log read as a program reads it: in blocks, with the fold behind them, its state saved and given back in between.

use super::{moved, newlines};
use parsers::pbs::{Change, Changed, Events, Fold, FoldOptions, Options, Reader, cut, last_record};
use parsers::{Frame, Run};

/// A frame after the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Folded<'a> {
    Frame(Frame<'a>),
    /// A record that was seen before.
    Repeated {
        same_file: bool,
    },
}

/// Reads logs one behind the other.
pub(crate) struct Folding {
    pub(crate) reader: Reader,
    pub(crate) fold: Fold,
    pub(crate) options: FoldOptions,
    /// The sizes of blocks, used in turn.
    pub(crate) sizes: Vec<usize>,
    /// The state is saved and loaded before every block of which the number divides by this.
    pub(crate) save_every: Option<usize>,
    blocks: usize,
}

impl Folding {
    pub(crate) fn new(options: &Options, sizes: &[usize], save_every: Option<usize>) -> Self {
        let (reader, fold_options) = (Reader::new(options), FoldOptions::default());
        Self {
            reader,
            fold: Fold::new(&fold_options),
            options: fold_options,
            sizes: sizes.to_vec(),
            save_every,
            blocks: 0,
        }
    }

    /// The frames of the next file, amended.
    pub(crate) fn file<'a>(&mut self, number: u64, log: &'a [u8]) -> Vec<Folded<'a>> {
        let (mut context, mut start, mut end, mut line) = (0, 0, 0, 0);
        let (mut all, mut events, mut changes) = (Vec::new(), Events::default(), Vec::new());
        while start < log.len() {
            let size = self.sizes[self.blocks % self.sizes.len()].max(1);
            self.blocks += 1;
            end = (end + size).min(log.len());
            let last = end == log.len();
            let whole = if last { end - start } else { cut(&log[start..end]) };
            if whole == 0 {
                continue;
            }
            if self.save_every.is_some_and(|every| self.blocks.is_multiple_of(every)) {
                self.save_and_load();
            }
            let body = &log[start..start + whole];
            let (text, within) = (&log[context..start + whole], start - context..start + whole - context);
            let mut frames = Vec::new();
            self.reader.frames(text, within, last, &mut events, &mut |frame| frames.push(frame));
            assert_eq!(events.frames(), frames.len());
            changes.clear();
            self.fold.block(number, &events, &mut changes);
            amend(&self.reader, frames, &changes, |frame| all.push(moved_folded(frame, start, line)));
            context = start + last_record(body);
            line += newlines(body);
            start += whole;
        }
        all
    }

    pub(crate) fn save_and_load(&mut self) {
        let saved = self.fold.save();
        self.fold = Fold::load(&saved, &self.options).expect("it was saved");
        assert!(saved == self.fold.save(), "the same state is the same bytes");
    }
}

/// Puts the changes of a block into its frames.
fn amend<'a>(reader: &Reader, frames: Vec<Frame<'a>>, changes: &[Change], mut visit: impl FnMut(Folded<'a>)) {
    let mut changes = changes.iter().peekable();
    for (number, frame) in frames.into_iter().enumerate() {
        match changes.next_if(|change| change.frame == number).map(|change| &change.what) {
            None => visit(Folded::Frame(frame)),
            Some(Changed::Repeated { same_file }) => visit(Folded::Repeated { same_file: *same_file }),
            Some(Changed::Amended(amendment)) => {
                let Frame::Run(run) = frame else { panic!("no run is amended: {frame:?}") };
                // Read again, as a program does that did not keep it.
                let mut again: Run<'a> = reader.run(run.text, run.place).expect("it is one");
                assert_eq!(again, run);
                amendment.apply(&mut again);
                visit(Folded::Frame(Frame::Run(again)));
            }
        }
    }
    assert_eq!(changes.next(), None, "changes are of frames, in their order");
}

fn moved_folded(folded: Folded<'_>, offset: usize, line: usize) -> Folded<'_> {
    match folded {
        Folded::Frame(frame) => Folded::Frame(moved(frame, offset, line)),
        repeated => repeated,
    }
}
