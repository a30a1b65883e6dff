//! From a source's paths to blocks of whole frames: patterns ([`expand`]), decompression ([`open`]), cutting ([`blocks`]).

pub mod blocks;
mod open;
mod paths;

pub use open::{Opened, Rereadable, open};
pub use paths::{Expanded, expand};

use std::path::PathBuf;

/// What goes wrong while input is found or read. Every message names the path and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A plain path that is not there.
    #[error("{}: no such file", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A folder where a file is expected.
    #[error("{}: is a folder; name its files, for example {}/*.txt", path.display(), path.display())]
    Folder {
        /// The path.
        path: PathBuf,
    },
    /// A pattern that cannot be used.
    #[error("\"{pattern}\": {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Reading failed.
    #[error("{}: cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// A compression that this version does not read.
    #[error("{}: is compressed with {format}, which this version does not read; decompress it, or use gzip or zstd", path.display())]
    Compression {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
    },
    /// The text cannot be read as what the source says it is.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A whole-file format's file is too large.
    #[error("{}: larger than {limit} bytes, which no such report is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

impl InputError {
    /// True where the configuration or the command line is at fault (exit status 2), false for trouble with one file.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Folder { .. } | Self::Pattern { .. })
    }
}
