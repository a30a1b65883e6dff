//! The parallel part: files in, blocks out to all cores, results back in input order.
//!
//! One thread reads and cuts ([`crate::input::blocks`]); [`run`] takes a window of blocks, lets rayon work on them
//! side by side, and emits the results in their order before it takes the next window, while the reader fills the
//! queue behind it. Nothing that is emitted depends on the number of threads or on where blocks are cut; memory is
//! bounded by two windows of blocks.
//!
//! The records of a PBS log do not stand alone: between reading a window's blocks and working on them, both on all
//! cores, one [`folding::Folding`] goes over their frames in order and puts them right.

pub mod folding;
pub mod format;
pub mod mapping;
pub mod parsing;
pub mod quota;

use crate::input::InputError;
use crate::input::blocks::{BLOCK, Block, Blocks, Piece, TooLong};
use crate::ledger::Carried;
use crossbeam_channel::{Receiver, Sender, bounded};
use folding::Folding;
use format::{FileReader, Format};
use parsers::Frame;
use parsers::pbs::Events;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An input file as results refer to it.
#[derive(Debug)]
pub struct File {
    /// Its number in the order of the source's files, from 0.
    pub index: u32,
    /// Its path as it is shown.
    pub path: Arc<str>,
    /// What it is read with.
    pub reader: FileReader,
}

/// What is done with each block, on any core.
pub trait Work: Sync {
    /// What comes out of a block.
    type Output: Send;

    /// Works on one block.
    fn block(&self, file: &File, block: &Block, frames: Frames<'_>) -> Self::Output;

    /// A frame that is longer than any record: it was skipped, and must be counted as quarantined.
    fn too_long(&self, file: &File, skipped: &TooLong) -> Self::Output;
}

/// The frames of a block.
pub enum Frames<'a> {
    /// To be read as they are visited.
    Unread(&'a FileReader, &'a Block),
    /// Read before, and put right since.
    Read(Vec<Frame<'a>>),
}

impl Frames<'_> {
    /// Visits them in their order.
    pub fn visit(self, visit: impl FnMut(Frame<'_>)) {
        match self {
            Self::Unread(reader, block) => reader.read(block, visit),
            Self::Read(frames) => frames.into_iter().for_each(visit),
        }
    }
}

/// What a source's reading came across besides its frames.
#[derive(Debug, Default)]
pub struct Remarks {
    /// Files that could not be read, or not to their end.
    pub problems: Vec<InputError>,
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// Files read.
    pub files: u64,
    /// Columns whose names are not known, by their spelling.
    pub unknown_columns: Vec<String>,
    /// Columns in which users could have forged rows.
    pub forgeable_columns: Vec<String>,
    /// What files warn of themselves: the file, and its words.
    pub warnings: Vec<(String, String)>,
}

impl Remarks {
    fn note(&mut self, file: &File) {
        let reader = &file.reader;
        let warnings = reader.warnings().iter().map(|warning| (file.path.to_string(), warning.clone()));
        self.warnings.extend(warnings);
        for (known, list) in [
            (&mut self.unknown_columns, reader.unknown_columns()),
            (&mut self.forgeable_columns, reader.user_written_columns()),
        ] {
            for name in list {
                if !known.contains(name) {
                    known.push(name.clone());
                }
            }
        }
    }
}

enum Message {
    File(Arc<File>),
    Piece(Arc<File>, Piece),
    /// A file has been read to its end.
    Done(Arc<File>, u64),
    Problem(InputError),
}

/// A message after the parallel part.
enum Worked<T> {
    File(Arc<File>, Option<Carried>),
    Output(Arc<File>, T, u64),
    Done(Arc<File>, u64),
    Problem,
}

/// One result, in input order.
#[derive(Debug)]
pub enum Emitted<T> {
    /// What is carried over the beginning of the next file, where the [`Folding`] keeps it.
    Carried(Carried),
    /// What came out of a block, and how many decompressed bytes of the file have been read with it.
    Output(Arc<File>, T, u64),
    /// This file has been read to its end; its decompressed size.
    Done(Arc<File>, u64),
}

/// Reads the files of one source in order and emits what `work` makes of their blocks, in order. `folding` goes over the
/// records of PBS logs; without one they are folded all the same, and what is carried is dropped.
///
/// A file that cannot be read does not stop the others: it is in [`Remarks::problems`].
///
/// # Errors
/// Whatever `emit` answers; reading stops then.
pub fn run<W: Work, E: Send>(
    format: &Format,
    files: &[PathBuf],
    block_size: Option<usize>,
    folding: Option<&mut Folding>,
    work: &W,
    mut emit: impl FnMut(Emitted<W::Output>) -> Result<(), E>,
) -> Result<Remarks, E> {
    let mut fresh = Folding::new(format, false);
    let folding = folding.or(fresh.as_mut());
    let window = (rayon::current_num_threads() * 2).clamp(2, 64);
    let (sender, receiver) = bounded(window);
    std::thread::scope(|scope| {
        scope.spawn(move || read_files(format, files, block_size.unwrap_or(BLOCK), &sender));
        // It owns the receiver: when emitting fails, that is dropped, and the reading thread ends instead of waiting for
        // ever for room in the channel.
        emit_in_order(receiver, window, folding, work, &mut emit)
    })
}

fn read_files(format: &Format, files: &[PathBuf], block_size: usize, sender: &Sender<Message>) {
    for (index, path) in files.iter().enumerate() {
        match read_file(format, index, path, block_size, sender) {
            Ok(()) => {}
            Err(ReadError::Input(problem)) => {
                if sender.send(Message::Problem(problem)).is_err() {
                    return;
                }
            }
            Err(ReadError::Stopped) => return,
        }
    }
}

enum ReadError {
    Input(InputError),
    /// The other side is gone: an error was met while emitting.
    Stopped,
}

impl<T> From<crossbeam_channel::SendError<T>> for ReadError {
    fn from(_: crossbeam_channel::SendError<T>) -> Self {
        Self::Stopped
    }
}

impl From<InputError> for ReadError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

fn read_file(
    format: &Format,
    index: usize,
    path: &Path,
    block_size: usize,
    sender: &Sender<Message>,
) -> Result<(), ReadError> {
    let read_error = |error| InputError::Read { path: path.to_owned(), error };
    let input = format.open(path)?;
    let file = Arc::new(File {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        path: Arc::from(path.to_string_lossy().as_ref()),
        reader: input.with,
    });
    sender.send(Message::File(Arc::clone(&file)))?;
    let mut blocks =
        Blocks::new(input.reader, &file.reader, block_size).starting_at(input.offset, input.line);
    let mut bytes = 0;
    while let Some(piece) = blocks.next_piece().map_err(read_error)? {
        let len = match &piece {
            Piece::Block(block) => block.body().len() as u64,
            Piece::TooLong(skipped) => skipped.len,
        };
        sender.send(Message::Piece(Arc::clone(&file), piece))?;
        bytes += len;
    }
    match input.torn {
        Some(torn) => Err(torn.into()),
        None => Ok(sender.send(Message::Done(file, input.len.unwrap_or(bytes)))?),
    }
}

fn emit_in_order<W: Work, E>(
    receiver: Receiver<Message>,
    window: usize,
    mut folding: Option<&mut Folding>,
    work: &W,
    emit: &mut impl FnMut(Emitted<W::Output>) -> Result<(), E>,
) -> Result<Remarks, E> {
    let mut remarks = Remarks::default();
    let mut messages = Vec::with_capacity(window);
    loop {
        messages.clear();
        while messages.len() < window {
            match receiver.recv() {
                Ok(message) => messages.push(message),
                Err(_) => break, // the reader has finished
            }
        }
        if messages.is_empty() {
            return Ok(remarks);
        }
        let prepared = prepare(&messages, folding.as_deref_mut());
        let outputs: Vec<_> = messages
            .par_iter()
            .zip(prepared)
            .map(|(message, prepared)| match (message, prepared) {
                (Message::Piece(file, Piece::Block(block)), prepared) => {
                    let frames = match prepared {
                        Prepared::Frames(frames) => Frames::Read(frames),
                        Prepared::Nothing | Prepared::Carried(_) => Frames::Unread(&file.reader, block),
                    };
                    let output = work.block(file, block, frames);
                    Worked::Output(Arc::clone(file), output, block.offset + block.body().len() as u64)
                }
                (Message::Piece(file, Piece::TooLong(skipped)), _) => {
                    let output = work.too_long(file, skipped);
                    Worked::Output(Arc::clone(file), output, skipped.offset + skipped.len)
                }
                (Message::File(file), Prepared::Carried(carried)) => {
                    Worked::File(Arc::clone(file), Some(carried))
                }
                (Message::File(file), _) => Worked::File(Arc::clone(file), None),
                (Message::Done(file, bytes), _) => Worked::Done(Arc::clone(file), *bytes),
                (Message::Problem(_), _) => Worked::Problem,
            })
            .collect();
        for output in outputs {
            match output {
                Worked::Output(file, output, end) => emit(Emitted::Output(file, output, end))?,
                Worked::File(file, carried) => {
                    remarks.files += 1;
                    remarks.note(&file);
                    if let Some(carried) = carried {
                        emit(Emitted::Carried(carried))?;
                    }
                }
                Worked::Done(file, bytes) => {
                    remarks.bytes += bytes;
                    emit(Emitted::Done(file, bytes))?;
                }
                Worked::Problem => {} // below
            }
        }
        for message in messages.drain(..) {
            if let Message::Problem(problem) = message {
                remarks.problems.push(problem);
            }
        }
    }
}

/// What was made of a message before the parallel part.
enum Prepared<'a> {
    Nothing,
    /// What is carried over the beginning of a file.
    Carried(Carried),
    /// The frames of a block, put right.
    Frames(Vec<Frame<'a>>),
}

/// Reads the blocks of a window on all cores and folds them in order; nothing where there is no fold.
fn prepare<'a>(messages: &'a [Message], folding: Option<&mut Folding>) -> Vec<Prepared<'a>> {
    let Some(folding) = folding else {
        return messages.iter().map(|_| Prepared::Nothing).collect();
    };
    let read: Vec<_> = messages
        .par_iter()
        .map(|message| match message {
            Message::Piece(file, Piece::Block(block)) => file.reader.records(block),
            _ => None,
        })
        .collect();
    let fold = |(message, read): (&Message, Option<(Events, Vec<Frame<'a>>)>)| match (message, read) {
        (Message::Piece(file, _), Some((events, mut frames))) => {
            folding.block(file, &events, &mut frames);
            Prepared::Frames(frames)
        }
        (Message::File(file), _) => folding.begin(file).map_or(Prepared::Nothing, Prepared::Carried),
        _ => Prepared::Nothing,
    };
    messages.iter().zip(read).map(fold).collect()
}
