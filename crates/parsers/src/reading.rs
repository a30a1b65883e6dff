//! What a file-system quota report says of one owner at one time.

use crate::run::{Place, Quarantined};
use bstr::BStr;

/// Whose files are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum OwnerKind {
    User,
    Group,
    Project,
    Fileset,
}

impl OwnerKind {
    /// The word used in configuration and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Project => "project",
            Self::Fileset => "fileset",
        }
    }
}

/// One owner's usage at the time of the report. What the report does not say is `None`, never 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<'a> {
    /// Whose files.
    pub owner_kind: OwnerKind,
    /// The numeric id, where the report gives one (`#1001`).
    pub owner_id: Option<u32>,
    /// The owner as the report prints it: a name, or `#1001`.
    pub owner_name: &'a BStr,
    /// Bytes used.
    pub bytes: u64,
    /// Files (inodes) used.
    pub files: Option<u64>,
    /// Hard limit in bytes; `None` where there is none.
    pub bytes_limit: Option<u64>,
    /// Hard limit in files; `None` where there is none.
    pub files_limit: Option<u64>,
    /// The part of the file system that is counted, where the report names one.
    pub scope: Option<&'a BStr>,
    /// The row's own text.
    pub text: &'a BStr,
    /// Where it stands.
    pub place: Place,
}

/// One line of a quota report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaFrame<'a> {
    /// A reading.
    Reading(Reading<'a>),
    /// A header or an empty line.
    Note(crate::run::Note<'a>),
    /// Not understood.
    Quarantined(Quarantined<'a>),
}
