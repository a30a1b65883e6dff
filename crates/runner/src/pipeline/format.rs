//! What one input file is read with: the format of its source, made ready by the file's first line.

use crate::config::{Source, SourceKind};
use crate::input::blocks::{Block, Cutter, Lines};
use parsers::{Frame, pbs, sacct};
use std::io::{self, Read};

/// A format of job accounting, before a file is seen.
#[derive(Debug, Clone)]
pub enum Format {
    /// Slurm `sacct` text.
    Sacct {
        /// How to read it.
        options: sacct::Options,
        /// Take the delimiter from the header.
        guess_delimiter: bool,
        /// Read whatever columns there are (for looking, not for charging).
        lenient: bool,
    },
    /// PBS accounting logs.
    Pbs,
}

impl Format {
    /// The format of a source; `None` for a quota source, whose reports are read whole.
    #[must_use]
    pub fn of(source: &Source) -> Option<Self> {
        match &source.kind {
            SourceKind::Sacct { options, guess_delimiter, .. } => Some(Self::Sacct {
                options: options.clone(),
                guess_delimiter: *guess_delimiter,
                lenient: false,
            }),
            SourceKind::Pbs { .. } => Some(Self::Pbs),
            SourceKind::Quota { .. } => None,
        }
    }

    /// Makes the reader of one file from its first line.
    ///
    /// # Errors
    /// In words: what is wrong with the first line, and what to do.
    pub fn reader(&self, first_line: &[u8]) -> Result<FileReader, String> {
        match self {
            Self::Pbs => {
                if first_line.contains(&0) {
                    return Err("is not text: PBS accounting logs are lines like 11/23/2026 02:29:41;E;0.server;user=...".to_owned());
                }
                Ok(FileReader::Pbs(pbs::Reader::default()))
            }
            Self::Sacct { options, guess_delimiter, lenient } => {
                let mut options = options.clone();
                if *guess_delimiter && let Some(delimiter) = sacct::guess_delimiter(first_line) {
                    options.delimiter = delimiter;
                }
                let layout = if *lenient {
                    sacct::Layout::lenient(first_line, &options)
                } else {
                    sacct::Layout::from_header(first_line, &options)
                };
                layout.map(FileReader::Sacct).map_err(|error| error.to_string())
            }
        }
    }
}

/// The reader of one file.
#[derive(Debug)]
pub enum FileReader {
    /// Slurm `sacct` text with these columns.
    Sacct(sacct::Layout),
    /// PBS accounting log.
    Pbs(pbs::Reader),
}

impl FileReader {
    /// Visits the frames of a block in their order.
    pub fn read<'a>(
        &self,
        block: &'a Block,
        source_offset: u64,
        releases: &pbs::Releases,
        mut visit: impl FnMut(Frame<'a>),
    ) {
        match self {
            Self::Sacct(layout) => layout.read(&block.text, block.body.clone(), block.last, &mut visit),
            Self::Pbs(reader) => {
                reader.read(&block.text, block.body.clone(), source_offset, block.last, releases, &mut visit);
            }
        }
    }

    /// What a person should know about this file, once per source: unknown columns, columns in which rows can be forged.
    #[must_use]
    pub fn unknown_columns(&self) -> &[String] {
        match self {
            Self::Sacct(layout) => layout.unknown_columns(),
            Self::Pbs(_) => &[],
        }
    }

    /// Columns that users can write anything into, newlines and delimiters included. Not empty: rows can be forged.
    #[must_use]
    pub fn user_written_columns(&self) -> &[String] {
        match self {
            Self::Sacct(layout) => layout.user_written_columns(),
            Self::Pbs(_) => &[],
        }
    }
}

impl Cutter for FileReader {
    fn cut(&self, text: &[u8]) -> usize {
        match self {
            Self::Sacct(layout) => layout.cut(text),
            Self::Pbs(_) => pbs::cut(text),
        }
    }

    fn last_frame(&self, body: &[u8]) -> usize {
        match self {
            Self::Sacct(_) => Lines.last_frame(body),
            Self::Pbs(_) => pbs::last_record(body),
        }
    }
}

/// Reads a file's first line (at most 1 MiB of it) and gives back a reader that begins at the beginning again.
///
/// # Errors
/// Where the file cannot be read.
pub fn first_line(mut reader: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    let mut chunk = 4096;
    while !head.contains(&b'\n') && head.len() < 1 << 20 {
        let before = head.len();
        reader.by_ref().take(chunk).read_to_end(&mut head)?;
        if head.len() == before {
            break;
        }
        chunk *= 2;
    }
    let end = memchr::memchr(b'\n', &head).unwrap_or(head.len());
    let line = head.get(..end).unwrap_or_default().to_vec();
    Ok((line, Box::new(io::Cursor::new(head).chain(reader))))
}
