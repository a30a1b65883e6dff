//! Where a ledger lives, as the configuration names it, and the ways to open it there.

use super::{Address, Binding, Ledger, LedgerError, PostgresLedger, SqliteLedger};
use std::fmt;
use std::fs;
use std::path::PathBuf;
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
            SqliteLedger::copy(from, &path)?;
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

    /// False where there surely is no ledger, and never was one as far as is known. A server is only known to have one when it
    /// is opened.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        match self {
            Self::File(path) => SqliteLedger::was_seen(path),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Pages are moved about in the file and its log for as long as the test lasts.
    fn keep_writing(path: &Path, filled: &AtomicBool, done: &AtomicBool) {
        let other = rusqlite::Connection::open(path).unwrap();
        let plain = "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 1; PRAGMA busy_timeout = 10000";
        other.execute_batch(plain).unwrap();
        // Large enough that copying it takes a moment.
        let fill = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 40000) INSERT INTO past \
                    SELECT hex(randomblob(200)), 1, x FROM n";
        other.execute_batch(fill).unwrap();
        filled.store(true, Ordering::Relaxed);
        for round in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let rows = round * 977 % 400 + 10;
            let sql = format!(
                "BEGIN IMMEDIATE; DELETE FROM past WHERE kind = 0; WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE \
                 x < {rows}) INSERT INTO past SELECT hex(randomblob(200)), 0, x FROM n; COMMIT"
            );
            other.execute_batch(&sql).unwrap();
        }
    }

    #[test]
    fn a_copy_that_is_made_while_a_runner_writes_is_a_whole_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let binding = Binding { endpoint: "https://usage.example".into(), site: "EXAMPLE".into() };
        drop(SqliteLedger::open(&path, &binding, 1).unwrap());
        let (filled, done) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| keep_writing(&path, &filled, &done));
            let copied = || {
                let rehearsal = Location::File(path.clone()).rehearse(&binding, 1)?;
                rehearsal.ledger.verify()
            };
            while !filled.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let copies: Vec<_> = (0..10).map(|_| copied()).collect();
            done.store(true, Ordering::Relaxed);
            for copy in copies {
                assert_eq!(copy.map_err(|error| error.to_string()), Ok(Vec::new()));
            }
        });
    }
}
