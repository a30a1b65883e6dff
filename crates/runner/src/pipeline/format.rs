//! What one input file is read with: the format of its source, made ready by the file's first line or, for a JSON document, by
//! a first look at the whole of it.

use super::folding::head_of;
use crate::config::{Source, SourceKind};
use crate::input::blocks::{Block, Cutter, Ending, Lines};
use crate::input::{InputError, Rereadable, open};
use parsers::{Frame, pbs, sacct, sacct_json};
use std::io::{self, Read};
use std::path::Path;

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
    /// Documents of Slurm's `sacct --json` and of slurmrestd.
    SacctJson,
    /// PBS accounting logs.
    Pbs {
        /// How to read the records.
        reader: pbs::Reader,
    },
}

/// A file that is ready to be cut into blocks.
pub struct Input {
    /// The part of its decompressed bytes that consists of frames.
    pub reader: Box<dyn Read + Send>,
    /// What the frames are read with.
    pub with: FileReader,
    /// Decompressed bytes before the frames.
    pub offset: u64,
    /// Lines before the frames.
    pub line: u64,
    /// Decompressed bytes of the whole file, where they are known before it is read.
    pub len: Option<u64>,
    /// The file was not written to its end, and why that is known: to be said when its frames have been read.
    pub torn: Option<InputError>,
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
            SourceKind::SacctJson { .. } => Some(Self::SacctJson),
            SourceKind::Pbs { options, .. } => Some(Self::Pbs { reader: pbs::Reader::new(options) }),
            SourceKind::Quota { .. } => None,
        }
    }

    /// Opens a file and makes it ready.
    ///
    /// # Errors
    /// Where the file cannot be read, or not as this format: what is wrong with it, and what to do.
    pub fn open(&self, path: &Path) -> Result<Input, InputError> {
        match self {
            Self::SacctJson => return open_document(path),
            // To look at a partial file is one thing, to charge by it another.
            Self::Sacct { options, lenient: false, .. } if options.framing == sacct::Framing::Counted => {
                return self.open_counted(path);
            }
            Self::Sacct { .. } | Self::Pbs { .. } => {}
        }
        let (line, reader) = first_line(open(path)?.reader)
            .map_err(|error| InputError::Read { path: path.to_owned(), error })?;
        let with =
            self.reader(&line).map_err(|problem| InputError::Format { path: path.to_owned(), problem })?;
        Ok(Input { reader, with, offset: 0, line: 0, len: None, torn: None })
    }

    /// Opens counted sacct text: once to see that it was written to its end, and again to read it.
    fn open_counted(&self, path: &Path) -> Result<Input, InputError> {
        let read_error = |error| InputError::Read { path: path.to_owned(), error };
        let format_error = |problem| InputError::Format { path: path.to_owned(), problem };
        let file = Rereadable::open(path)?;
        let (line, mut reader) = first_line(file.read()?).map_err(read_error)?;
        let with = self.reader(&line).map_err(format_error)?;
        if let FileReader::Sacct(layout) = &with {
            let mut survey = layout.survey();
            in_pieces(
                &mut reader,
                |piece| survey.push(piece).map_err(|partial| format_error(partial.to_string())),
                read_error,
            )?;
            survey.finish().map_err(|partial| format_error(partial.to_string()))?;
        }
        Ok(Input { reader: file.read()?, with, offset: 0, line: 0, len: None, torn: None })
    }

    /// Makes the reader of one file from its first line.
    fn reader(&self, first_line: &[u8]) -> Result<FileReader, String> {
        match self {
            Self::SacctJson => Ok(FileReader::SacctJson { warnings: Vec::new() }),
            Self::Pbs { reader } => {
                if first_line.contains(&0) {
                    return Err("is not text: PBS accounting logs are lines like 11/23/2026 02:29:41;E;0.server;user=...".to_owned());
                }
                Ok(FileReader::Pbs { reader: reader.clone(), head: head_of(first_line) })
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

/// Reads to the end, a piece at a time.
fn in_pieces(
    reader: &mut dyn Read,
    mut push: impl FnMut(&[u8]) -> Result<(), InputError>,
    read_error: impl Fn(io::Error) -> InputError,
) -> Result<(), InputError> {
    let mut piece = vec![0; 1 << 18];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => push(piece.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error)),
        }
    }
}

/// Opens a JSON document: once to see whether its list of jobs may be believed, and again to read it.
fn open_document(path: &Path) -> Result<Input, InputError> {
    let read_error = |error| InputError::Read { path: path.to_owned(), error };
    let format_error = |problem| InputError::Format { path: path.to_owned(), problem };
    let file = Rereadable::open(path)?;
    let mut survey = sacct_json::Survey::default();
    let push = |piece: &[u8]| {
        survey.push(piece);
        Ok(())
    };
    in_pieces(&mut file.read()?, push, read_error)?;
    let document = survey.finish().map_err(|error| format_error(error.to_string()))?;
    let mut reader = file.read()?;
    let sacct_json::Document { elements, line, complete, warnings, len, .. } = document;
    io::copy(&mut reader.by_ref().take(elements.start), &mut io::sink()).map_err(read_error)?;
    let torn = (!complete).then(|| {
        format_error("ends before the document does: it was cut off, or not written to its end. Its whole jobs were read; write it again".to_owned())
    });
    Ok(Input {
        reader: Box::new(reader.take(elements.end.saturating_sub(elements.start))),
        with: FileReader::SacctJson { warnings },
        offset: elements.start,
        line,
        len: Some(len),
        torn,
    })
}

/// The reader of one file.
#[derive(Debug)]
pub enum FileReader {
    /// Slurm `sacct` text with these columns.
    Sacct(sacct::Layout),
    /// A document of Slurm's `sacct --json`.
    SacctJson {
        /// What it warns of.
        warnings: Vec<String>,
    },
    /// PBS accounting log.
    Pbs {
        /// Reads its records.
        reader: pbs::Reader,
        /// Tells the file from others (see [`head_of`]).
        head: u128,
    },
}

impl FileReader {
    /// The frames of a block of a PBS log, each by its own record, and what the records say to the fold; `None` for other formats.
    #[must_use]
    pub fn records<'a>(&self, block: &'a Block) -> Option<(pbs::Events, Vec<Frame<'a>>)> {
        let Self::Pbs { reader, .. } = self else { return None };
        let (mut events, mut frames) = (pbs::Events::default(), Vec::new());
        let body = block.body.clone();
        reader.frames(&block.text, body, block.last, &mut events, &mut |frame| frames.push(frame));
        Some((events, frames))
    }

    /// Visits the frames of a block in their order, each by its own record. A frame lives as long as its visit.
    pub fn read(&self, block: &Block, mut visit: impl FnMut(Frame<'_>)) {
        match self {
            Self::SacctJson { .. } => sacct_json::read(block.body(), &mut visit),
            Self::Sacct(layout) => layout.read(&block.text, block.body.clone(), block.last, &mut visit),
            Self::Pbs { reader, .. } => {
                let mut events = pbs::Events::default();
                reader.frames(&block.text, block.body.clone(), block.last, &mut events, &mut visit);
            }
        }
    }

    /// What a person should know about this file, once per source: unknown columns, columns in which rows can be forged.
    #[must_use]
    pub fn unknown_columns(&self) -> &[String] {
        match self {
            Self::Sacct(layout) => layout.unknown_columns(),
            Self::SacctJson { .. } | Self::Pbs { .. } => &[],
        }
    }

    /// What the file itself warns of.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        match self {
            Self::SacctJson { warnings } => warnings,
            Self::Sacct(_) | Self::Pbs { .. } => &[],
        }
    }

    /// Columns that users can write anything into, newlines and delimiters included. Not empty: rows can be forged.
    #[must_use]
    pub fn user_written_columns(&self) -> &[String] {
        match self {
            // Counted out by a delimiter that nobody knew, a name is only a name.
            Self::Sacct(layout) if !layout.is_forgeable() => &[],
            Self::Sacct(layout) => layout.user_written_columns(),
            Self::SacctJson { .. } | Self::Pbs { .. } => &[], // JSON quotes what users write
        }
    }
}

impl Cutter for FileReader {
    fn cut(&self, text: &[u8]) -> usize {
        match self {
            Self::Sacct(layout) => layout.cut(text),
            Self::SacctJson { .. } => sacct_json::cut(text),
            Self::Pbs { .. } => pbs::cut(text),
        }
    }

    fn last_frame(&self, body: &[u8]) -> usize {
        match self {
            Self::Sacct(_) => Lines.last_frame(body),
            Self::SacctJson { .. } => body.len(), // an element is judged alone
            Self::Pbs { .. } => pbs::last_record(body),
        }
    }

    fn context(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::SacctJson { .. } => Some(0),
            Self::Sacct(_) | Self::Pbs { .. } => Lines.context(rest),
        }
    }

    fn ending(&self) -> Box<dyn Ending> {
        match self {
            Self::SacctJson { .. } => Box::new(ElementEnding(sacct_json::Ending::default())),
            Self::Sacct(_) | Self::Pbs { .. } => Lines.ending(),
        }
    }
}

/// An element of a JSON list ends where the next one begins.
struct ElementEnding(sacct_json::Ending);

impl Ending for ElementEnding {
    fn find(&mut self, chunk: &[u8]) -> Option<usize> {
        self.0.find(chunk)
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
