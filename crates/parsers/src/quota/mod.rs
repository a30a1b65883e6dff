//! Reads quota reports of file systems.
//!
//! A report is read whole or refused whole: a number that belongs to another file system, or that was rounded for people, is worse
//! than none. "No reading" is an error ([`ReportError::NoReading`]) and never zero bytes.
//!
//! ```
//! use parsers::QuotaFrame;
//! use parsers::quota::{Format, read};
//!
//! let report = b"Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,\
//!     FileSoftLimit,FileHardLimit,FileGrace\n#1001,ok,ok,504,1000,2000,0,2,100,200,0\n";
//! let mut stored = Vec::new();
//! read("repquota-csv".parse::<Format>()?, report, &mut |frame| {
//!     if let QuotaFrame::Reading(reading) = frame {
//!         stored.push((reading.owner_id, reading.bytes));
//!     }
//! })?;
//! assert_eq!(stored, [(Some(1001), 504 * 1024)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod repquota_csv;

use crate::reading::QuotaFrame;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A format that is supported. Others are refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `repquota -p -n -O csv MOUNT` of quota-tools 4.06, with one of `-u`, `-g`, `-P`: `repquota-csv`.
    RepquotaCsv,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::RepquotaCsv];

    /// The name used in configuration and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RepquotaCsv => "repquota-csv",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }
}

/// No format of this name is supported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("quota format {name:?} is not supported; supported are: {}", Format::ALL.map(Format::as_str).join(", "))]
pub struct UnknownFormat {
    /// The name that was given.
    pub name: String,
}

/// Why a report is refused as a whole. The messages say what to run instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The report has no row: that is no reading, and not zero bytes.
    #[error(
        "the report has no reading: it is empty, or has only its header. That is not zero bytes: the command has failed, or \
         nothing is counted there. Run `{command}` by hand and look at its exit status and its stderr"
    )]
    NoReading {
        /// What makes a report that can be read.
        command: &'static str,
    },
    /// The first line is not the header of the format.
    #[error("line {line} is not the header of this format: \"{}\". Use `{command}`", found.escape_ascii())]
    NoHeader {
        /// Line, from 1.
        line: usize,
        /// The text of the line, at most 64 bytes of it.
        found: Vec<u8>,
        /// What makes a report that can be read.
        command: &'static str,
    },
    /// Sizes are rounded for people.
    #[error("line {line}: the sizes are rounded for people (-s). Leave -s out: `{command}`")]
    HumanReadable {
        /// Line, from 1.
        line: usize,
        /// What makes a report that can be read.
        command: &'static str,
    },
    /// Reports of several file systems or owner kinds were joined, and nothing says which row is whose.
    #[error(
        "line {line}: a second report begins here, of another file system or owner kind, and rows do not say whose they are. Run \
         `{command}` once for each"
    )]
    SeveralReports {
        /// Line of the second header, from 1.
        line: usize,
        /// What makes a report that can be read.
        command: &'static str,
    },
}

/// Reads a whole report; every line of it is one frame. Reports are small, and the caller bounds their size.
///
/// # Errors
/// When the report as a whole cannot be trusted; then no frame was visited.
pub fn read<'a>(
    format: Format,
    text: &'a [u8],
    visit: &mut dyn FnMut(QuotaFrame<'a>),
) -> Result<(), ReportError> {
    match format {
        Format::RepquotaCsv => repquota_csv::read(text, visit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_name_and_others_are_refused_with_the_names_that_are() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        let error = "lfs-quota".parse::<Format>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "quota format \"lfs-quota\" is not supported; supported are: repquota-csv"
        );
    }
}
