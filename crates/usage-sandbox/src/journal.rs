//! The state file: one line of JSON for each event, written before the answer, played again at the next start.
//!
//! Only whole lines count: what a killed process left behind its last newline was never answered, and is cut off.
//! That is proof against a killed process, not against a power cut: nothing waits for the disk.
//! Appending costs the same for the millionth record as for the first; nothing that was written is ever rewritten.

use crate::store::{Event, Store};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The first line of the file.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Header {
    format: String,
    version: u32,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another sandbox has it open.
    #[error("{path} is in use by another sandbox")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line is not what a sandbox writes.
    #[error("{path}, line {line}: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// An open state file.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Where the last whole line ends.
    end: u64,
    line: Vec<u8>,
}

impl Journal {
    /// Opens the file, makes it where there is none, and plays its events.
    pub(crate) fn open(path: &Path) -> Result<(Self, Store), StateFileError> {
        let failed = |source| StateFileError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateFileError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let (end, store) = play(&file, path)?;
        file.set_len(end).map_err(failed)?;
        let mut journal = Self { file, end, line: Vec::new() };
        if end == 0 {
            journal.append(&Header::current()).map_err(failed)?;
        }
        Ok((journal, store))
    }

    /// Writes an event. After an error the file is as it was before.
    pub(crate) fn write(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.append(event)
    }

    fn append(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        self.file.seek(SeekFrom::Start(self.end))?;
        if let Err(error) = self.file.write_all(&self.line) {
            // A part of a line would join the next one. If cutting fails too, the next write starts at `end` again.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end = self.end.saturating_add(u64::try_from(self.line.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl Header {
    fn current() -> Self {
        Self { format: "usage-sandbox".to_owned(), version: 2 }
    }
}

/// Plays a file's events; answers where its last whole line ends.
fn play(file: &File, path: &Path) -> Result<(u64, Store), StateFileError> {
    let mut reader = BufReader::new(file);
    let mut store = Store::default();
    let (mut end, mut line) = (0_u64, Vec::new());
    for number in 1.. {
        line.clear();
        let length = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| StateFileError::Io { path: path.to_owned(), source })?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let corrupt =
            |reason: String| StateFileError::Corrupt { path: path.to_owned(), line: number, reason };
        if number == 1 {
            let header: Header = serde_json::from_slice(&line)
                .map_err(|_| corrupt("this is not the state of a sandbox".to_owned()))?;
            if header != Header::current() {
                return Err(corrupt("this state is of another version".to_owned()));
            }
        } else {
            let mut event: Event<'_> =
                serde_json::from_slice(&line).map_err(|error| corrupt(error.to_string()))?;
            event.restore().map_err(corrupt)?;
            store.apply(event);
        }
        end = end.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }
    Ok((end, store))
}
