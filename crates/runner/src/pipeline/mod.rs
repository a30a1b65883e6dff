//! The parallel part: files in, blocks out to all cores, results back in input order.
//!
//! One thread reads and cuts ([`crate::input::blocks`]); [`run`] takes a window of blocks, lets rayon work on them
//! side by side, and emits the results in their order before it takes the next window, while the reader fills the
//! queue behind it. Nothing that is emitted depends on the number of threads or on where blocks are cut; memory is
//! bounded by two windows of blocks.

pub mod format;
pub mod mapping;
pub mod parsing;
pub mod quota;

use crate::input::InputError;
use crate::input::blocks::{BLOCK, Block, Blocks, Piece, TooLong};
use crossbeam_channel::{Receiver, Sender, bounded};
use format::{FileReader, Format};
use parsers::pbs::Releases;
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

    /// Works on one block. `source_offset`: bytes of the source before the body, over all files.
    fn block(&self, file: &File, block: &Block, source_offset: u64, releases: &Releases) -> Self::Output;

    /// A frame that is longer than any record: it was skipped, and must be counted as quarantined.
    fn too_long(&self, file: &File, skipped: &TooLong) -> Self::Output;
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
    Piece(Arc<File>, Piece, u64),
    /// A file has been read to its end.
    Done(Arc<File>, u64),
    Problem(InputError),
}

/// A message after the parallel part.
enum Worked<T> {
    File(Arc<File>),
    Output(Arc<File>, T, u64),
    Done(Arc<File>, u64),
    Problem(InputError),
}

/// One result, in input order.
#[derive(Debug)]
pub enum Emitted<T> {
    /// What came out of a block, and how many decompressed bytes of the file have been read with it.
    Output(Arc<File>, T, u64),
    /// This file has been read to its end; its decompressed size.
    Done(Arc<File>, u64),
}

/// Reads the files of one source in order and emits what `work` makes of their blocks, in order.
///
/// A file that cannot be read does not stop the others: it is in [`Remarks::problems`].
///
/// # Errors
/// Whatever `emit` answers; reading stops then.
pub fn run<W: Work, E: Send>(
    format: &Format,
    files: &[PathBuf],
    block_size: Option<usize>,
    work: &W,
    mut emit: impl FnMut(Emitted<W::Output>) -> Result<(), E>,
) -> Result<Remarks, E> {
    let window = (rayon::current_num_threads() * 2).clamp(2, 64);
    let (sender, receiver) = bounded(window);
    std::thread::scope(|scope| {
        scope.spawn(move || read_files(format, files, block_size.unwrap_or(BLOCK), &sender));
        // It owns the receiver: when emitting fails, that is dropped, and the reading thread ends instead of waiting for
        // ever for room in the channel.
        emit_in_order(receiver, window, work, &mut emit)
    })
}

fn read_files(format: &Format, files: &[PathBuf], block_size: usize, sender: &Sender<Message>) {
    let mut source_offset = 0;
    for (index, path) in files.iter().enumerate() {
        match read_file(format, index, path, block_size, &mut source_offset, sender) {
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
    source_offset: &mut u64,
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
        sender.send(Message::Piece(Arc::clone(&file), piece, *source_offset))?;
        bytes += len;
        *source_offset += len;
    }
    match input.torn {
        Some(torn) => Err(torn.into()),
        None => Ok(sender.send(Message::Done(file, input.len.unwrap_or(bytes)))?),
    }
}

fn emit_in_order<W: Work, E>(
    receiver: Receiver<Message>,
    window: usize,
    work: &W,
    emit: &mut impl FnMut(Emitted<W::Output>) -> Result<(), E>,
) -> Result<Remarks, E> {
    let mut remarks = Remarks::default();
    let mut releases = Releases::default();
    let mut messages = Vec::with_capacity(window);
    loop {
        while messages.len() < window {
            match receiver.recv() {
                Ok(message) => messages.push(message),
                Err(_) => break, // the reader has finished
            }
        }
        if messages.is_empty() {
            return Ok(remarks);
        }
        for message in &messages {
            if let Message::Piece(file, Piece::Block(block), source_offset) = message
                && matches!(file.reader, FileReader::Pbs(_))
            {
                releases.scan(block.body(), *source_offset);
            }
        }
        let releases = &releases;
        let outputs: Vec<_> = std::mem::take(&mut messages)
            .into_par_iter()
            .map(|message| match message {
                Message::Piece(file, Piece::Block(block), source_offset) => {
                    let output = work.block(&file, &block, source_offset, releases);
                    Worked::Output(file, output, block.offset + block.body().len() as u64)
                }
                Message::Piece(file, Piece::TooLong(skipped), _) => {
                    let output = work.too_long(&file, &skipped);
                    Worked::Output(file, output, skipped.offset + skipped.len)
                }
                Message::File(file) => Worked::File(file),
                Message::Done(file, bytes) => Worked::Done(file, bytes),
                Message::Problem(problem) => Worked::Problem(problem),
            })
            .collect();
        for output in outputs {
            match output {
                Worked::Output(file, output, end) => emit(Emitted::Output(file, output, end))?,
                Worked::File(file) => {
                    remarks.files += 1;
                    remarks.note(&file);
                }
                Worked::Done(file, bytes) => {
                    remarks.bytes += bytes;
                    emit(Emitted::Done(file, bytes))?;
                }
                Worked::Problem(problem) => remarks.problems.push(problem),
            }
        }
    }
}
