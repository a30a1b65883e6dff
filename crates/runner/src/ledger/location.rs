//! Where a ledger lives, as the configuration names it, and the ways to open it there.

use super::{Address, Binding, Ledger, LedgerError, PostgresLedger, SqliteLedger};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A place for a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file on a local disk: one runner at a time.
    File(PathBuf),
    /// A PostgreSQL database: several runners on several hosts.
    Server(Box<Address>),
}

/// A copy of a ledger to rehearse on; gone when it is dropped.
pub struct Rehearsal {
    /// The copy.
    pub ledger: Box<dyn Ledger>,
    _folder: Option<TempDir>,
}

impl Location {
    /// Opens the ledger to change it, and creates it where there is none.
    ///
    /// # Errors
    /// See [`SqliteLedger::open`] and [`PostgresLedger::open`].
    ///
    /// ```
    /// use runner::ledger::{Binding, Location};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("ledger.db");
    /// let binding = Binding { endpoint: "https://usage.example/api/v1".into(), site: "EXAMPLE".into() };
    /// let ledger = Location::File(path).open(&binding, 1_700_000_000)?;
    /// assert_eq!(ledger.totals()?.held_total, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(&self, binding: &Binding, now: i64) -> Result<Box<dyn Ledger>, LedgerError> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteLedger::open(path, binding, now)?),
            Self::Server(address) => Box::new(PostgresLedger::open(address, binding, now)?),
        })
    }

    /// Opens a ledger also where it is older than what was seen of it, so that a person can accept it
    /// ([`Ledger::accept_restored`]).
    ///
    /// # Errors
    /// Otherwise as [`open`](Self::open).
    pub fn open_restored(&self, binding: &Binding, now: i64) -> Result<Box<dyn Ledger>, LedgerError> {
        match self {
            Self::File(path) => Ok(Box::new(SqliteLedger::open_restored(path, binding, now)?)),
            Self::Server(_) => self.open(binding, now),
        }
    }

    /// Opens an existing ledger for questions only, beside runners that may be changing it.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn open_reader(&self) -> Result<Box<dyn Ledger>, LedgerError> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteLedger::open_reader(path)?),
            Self::Server(address) => Box::new(PostgresLedger::open_reader(address)?),
        })
    }

    /// Opens a copy; the ledger itself is neither changed nor locked. Where there is none yet, the copy is empty.
    ///
    /// # Errors
    /// Where the copy cannot be made, or the ledger cannot be read.
    pub fn rehearse(&self, binding: &Binding, now: i64) -> Result<Rehearsal, LedgerError> {
        if let Self::Server(address) = self
            && let Some(copy) = PostgresLedger::open_copy(address, binding, now)?
        {
            return Ok(Rehearsal { ledger: Box::new(copy), _folder: None });
        }
        let scratch = |source| LedgerError::Io { path: std::env::temp_dir(), source };
        let folder = tempfile::tempdir().map_err(scratch)?;
        let path = folder.path().join("ledger.db");
        if let Self::File(from) = self {
            copy(from, &path).map_err(scratch)?;
        }
        let mut ledger = SqliteLedger::open_restored(&path, binding, now)?;
        if let (Self::File(from), Some(older)) = (self, &mut ledger.older) {
            older.path.clone_from(from);
        }
        Ok(Rehearsal { ledger: Box::new(ledger), _folder: Some(folder) })
    }

    /// Bytes of the ledger's file; 0 where there is none, as with a server.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        match self {
            Self::File(path) => fs::metadata(path).map_or(0, |file| file.len()),
            Self::Server(_) => 0,
        }
    }

    /// False where there surely is no ledger yet. A server is only known to have one when it is opened.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Server(_) => true,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Server(address) => address.shown().fmt(formatter),
        }
    }
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rehearsal").field("binding", self.ledger.binding()).finish_non_exhaustive()
    }
}

/// Copies a ledger with what its write-ahead log holds, and before it what its witness says, which a runner may change
/// meanwhile; a ledger that is not there yet is no error.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    for suffix in [".witness", "", "-wal"] {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        if beside(from).exists() {
            fs::copy(beside(from), beside(to))?;
        }
    }
    Ok(())
}
