//! The ledger in an embedded SQLite file: write-ahead log, full sync, one runner at a time, local disk only.
//!
//! `open` is here; each file beside it is one thing that the ledger does. All SQL of the project is in this folder.

mod codes;
mod confirm;
mod hold;
mod ingest;
mod news;
mod people;
mod place;
mod query;
mod send;
mod store;
#[cfg(test)]
mod tests;
mod verify;

use super::{
    Awaiting, BatchId, Binding, Chunk, Confirmed, Entry, Fault, Find, Group, Hold, HoldEnd, Ingested,
    LeaseRequest, Leased, Ledger, LedgerError, List, News, Person, Progress, Quarantined, RecordOutcome,
    Recovered, Repricing, Retry, Row, Settled, Sighting, State, Totals,
};
use crate::crash;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{Blobs, Names, Session};

/// "AMIE" in `PRAGMA application_id`: this file is a ledger and nothing else.
const APPLICATION_ID: i64 = 0x414D_4945;

/// Numbered migrations: `user_version` says how many have run. They are only ever added to.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001.sql")];

/// A ledger in a SQLite file. See [`Ledger`] for what it does.
#[derive(Debug)]
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    binding: Binding,
    names: RefCell<Names>,
    blobs: RefCell<Blobs>,
    /// Held for the life of the ledger; `None` for a reader.
    _lock: Option<File>,
}

/// What can go wrong inside: turned into a [`LedgerError`] with the path at the edge.
#[derive(Debug)]
enum Fail {
    Sql(rusqlite::Error),
    Ledger(LedgerError),
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for Fail {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl Fail {
    fn at(self, path: &Path) -> LedgerError {
        let path = path.to_owned();
        let error = match self {
            Self::Ledger(error) => return error,
            Self::Sql(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => LedgerError::DiskFull { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                LedgerError::ReadOnly { path }
            }
            Some(ErrorCode::DatabaseCorrupt) => LedgerError::Corrupt { path, detail: error.to_string() },
            Some(ErrorCode::NotADatabase) => LedgerError::NotALedger { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy { path },
            _ => LedgerError::Database { path, source: Box::new(error) },
        }
    }
}

impl SqliteLedger {
    /// Opens the ledger for the one runner that may change it, and creates it where there is none.
    ///
    /// # Errors
    /// Where another runner has it ([`LedgerError::Busy`]), it belongs to another service or site, a newer program
    /// made it, it lies on a network file system, or the file cannot be used.
    pub fn open(path: &Path, binding: &Binding, now: i64) -> Result<Self, LedgerError> {
        place::check_local(path)?;
        let lock = place::lock(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let mut connection = Connection::open_with_flags(path, flags)?;
            prepare(&connection)?;
            migrate(&mut connection, path, binding, now)?;
            let found = stored_binding(&connection)?;
            Ok((connection, found))
        };
        let (connection, found) = open().map_err(|fail: Fail| fail.at(path))?;
        if found != *binding {
            return Err(LedgerError::OtherBinding {
                path: path.to_owned(),
                bound: Box::new(found),
                wanted: Box::new(binding.clone()),
            });
        }
        Ok(Self::with(connection, path, found, Some(lock)))
    }

    /// Opens an existing ledger for questions only, beside a runner that may be changing it.
    ///
    /// # Errors
    /// Where there is none, a newer or older program made it, or the file cannot be read.
    pub fn open_reader(path: &Path) -> Result<Self, LedgerError> {
        if let Err(source) = std::fs::metadata(path) {
            return Err(LedgerError::Io { path: path.to_owned(), source });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Result<_, Fail> {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            let (application, version) = identify(&connection)?;
            if application != APPLICATION_ID || version == 0 {
                return Err(LedgerError::NotALedger { path: path.to_owned() }.into());
            }
            check_version(version, path)?;
            let found = stored_binding(&connection)?;
            Ok((connection, found))
        };
        let (connection, found) = open().map_err(|fail| fail.at(path))?;
        Ok(Self::with(connection, path, found, None))
    }

    fn with(connection: Connection, path: &Path, binding: Binding, lock: Option<File>) -> Self {
        connection.set_prepared_statement_cache_capacity(128);
        Self {
            connection,
            path: path.to_owned(),
            binding,
            names: RefCell::default(),
            blobs: RefCell::default(),
            _lock: lock,
        }
    }

    /// One change: everything that `work` does, and what follows from it, in one durable transaction.
    fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, Fail>,
    ) -> Result<T, LedgerError> {
        let Self { connection, path, names, blobs, .. } = self;
        let run = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut session = Session::new(&transaction, names, blobs);
            let value = work(&mut session)?;
            session.flush()?;
            crash::point("committing");
            transaction.commit()?;
            crash::point("committed");
            Ok(value)
        };
        let result = run();
        result.map_err(|fail: Fail| {
            // Names and blobs that the transaction would have stored are not there.
            names.replace(Names::default());
            blobs.replace(Blobs::default());
            fail.at(path)
        })
    }

    /// One question, in one snapshot.
    fn ask<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T, Fail>) -> Result<T, LedgerError> {
        let run = || {
            let transaction = self.connection.unchecked_transaction()?;
            let value = work(&Session::new(&transaction, &self.names, &self.blobs))?;
            transaction.finish()?;
            Ok(value)
        };
        run().map_err(|fail: Fail| fail.at(&self.path))
    }
}

/// Durability and sizes, for every connection that writes.
fn prepare(connection: &Connection) -> Result<(), Fail> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // FULL costs no CPU worth naming over NORMAL at 10,000 rows a transaction, and loses nothing with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -32_768)?; // KiB
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?; // pages: 16 MiB
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(())
}

/// `application_id` and `user_version`.
fn identify(connection: &Connection) -> Result<(i64, i64), Fail> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn check_version(found: i64, path: &Path) -> Result<(), Fail> {
    let known = codes::signed(MIGRATIONS.len() as u64);
    if found > known {
        return Err(LedgerError::NewerSchema { path: path.to_owned(), found, known }.into());
    }
    Ok(())
}

/// Runs the migrations that this file has not seen, each in a transaction of its own; a new file gets its binding with
/// the first one.
fn migrate(connection: &mut Connection, path: &Path, binding: &Binding, now: i64) -> Result<(), Fail> {
    let (application, version) = identify(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(LedgerError::NotALedger { path: path.to_owned() }.into());
    }
    check_version(version, path)?;
    for (number, script) in (1_i64..).zip(MIGRATIONS) {
        if number <= version {
            continue;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(script)?;
        if number == 1 {
            let mut insert = transaction.prepare("INSERT INTO meta (name, value) VALUES (?1, ?2)")?;
            insert.execute(("endpoint", &binding.endpoint))?;
            insert.execute(("site", &binding.site))?;
            insert.execute(("created_at", now.to_string()))?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        crash::point("committing");
        transaction.commit()?;
        crash::point("committed");
    }
    Ok(())
}

fn stored_binding(connection: &Connection) -> Result<Binding, Fail> {
    let value = |name: &str| -> Result<String, Fail> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        let found = connection.query_row(sql, [name], |row| row.get(0)).optional()?;
        found.ok_or_else(|| LedgerError::Inconsistent(format!("no {name} is stored")).into())
    };
    Ok(Binding { endpoint: value("endpoint")?, site: value("site")? })
}

impl Ledger for SqliteLedger {
    fn binding(&self) -> &Binding {
        &self.binding
    }

    fn ingest(&mut self, chunk: &Chunk, now: i64) -> Result<Ingested, LedgerError> {
        self.change(|session| ingest::ingest(session, chunk, None, now))
    }

    fn restate(&mut self, chunk: &Chunk, person: Person<'_>, now: i64) -> Result<Ingested, LedgerError> {
        self.change(|session| ingest::ingest(session, chunk, Some(person), now))
    }

    fn preview(&self, chunk: &Chunk) -> Result<Vec<Repricing>, LedgerError> {
        self.ask(|session| ingest::preview(session, chunk))
    }

    fn recover(&mut self, now: i64) -> Result<Recovered, LedgerError> {
        self.change(|session| send::recover(session, now))
    }

    fn lease(&mut self, request: &LeaseRequest) -> Result<Option<Leased>, LedgerError> {
        self.change(|session| send::lease(session, request))
    }

    fn settle(
        &mut self,
        batch: BatchId,
        outcomes: &[RecordOutcome],
        note: &str,
        now: i64,
    ) -> Result<Settled, LedgerError> {
        self.change(|session| send::settle(session, batch, outcomes, note, now))
    }

    fn confirm(&mut self, sightings: &[Sighting], now: i64) -> Result<Confirmed, LedgerError> {
        self.change(|session| confirm::confirm(session, sightings, now))
    }

    fn resolve_unknown(
        &mut self,
        key: &str,
        arrived: bool,
        person: Person<'_>,
        now: i64,
    ) -> Result<(), LedgerError> {
        self.change(|session| people::resolve_unknown(session, key, arrived, person, now))
    }

    fn retry(&mut self, which: &Retry, person: Person<'_>, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| people::retry(session, which, person, now))
    }

    fn approve(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| people::approve(session, keys, person, now))
    }

    fn close_holds(
        &mut self,
        keys: &[String],
        end: HoldEnd,
        person: Person<'_>,
        now: i64,
    ) -> Result<u64, LedgerError> {
        self.change(|session| people::close_holds(session, keys, end, person, now))
    }

    fn reopen_hold(&mut self, key: &str, person: Person<'_>, now: i64) -> Result<(), LedgerError> {
        self.change(|session| people::reopen_hold(session, key, person, now))
    }

    fn close_quarantine(&mut self, ids: &[i64], person: Person<'_>, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| people::close_quarantine(session, ids, person, now))
    }

    fn news(&self) -> Result<News, LedgerError> {
        self.ask(news::news)
    }

    fn mark_reported(&mut self) -> Result<(), LedgerError> {
        self.change(|session| news::mark_reported(session))
    }

    fn progress(&self, source: &str, path: &str) -> Result<Option<Progress>, LedgerError> {
        self.ask(|session| query::progress(session, source, path))
    }

    fn totals(&self) -> Result<Totals, LedgerError> {
        self.ask(query::totals)
    }

    fn awaiting(&self) -> Result<Vec<Awaiting>, LedgerError> {
        self.ask(query::awaiting)
    }

    fn find(&self, what: &Find, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.ask(|session| query::find(session, what, limit))
    }

    fn history(&self, key: &str) -> Result<Vec<Entry>, LedgerError> {
        self.ask(|session| query::history(session, key))
    }

    fn payload(&self, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.ask(|session| query::payload(session, key))
    }

    fn groups(&self, list: List, examples: usize) -> Result<Vec<Group>, LedgerError> {
        self.ask(|session| query::groups(session, list, examples))
    }

    fn hold(&self, key: &str) -> Result<Option<Hold>, LedgerError> {
        self.ask(|session| query::hold(session, key))
    }

    fn holds(&self, reason: Option<&str>, after: &str, limit: usize) -> Result<Vec<Hold>, LedgerError> {
        self.ask(|session| query::holds(session, reason, None, after, limit))
    }

    fn open_holds_with_other_rules(
        &self,
        rules_digest: u128,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Hold>, LedgerError> {
        self.ask(|session| query::holds(session, None, Some(rules_digest), after, limit))
    }

    fn troubled(&self, state: State, after: &str, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.ask(|session| query::troubled(session, state, after, limit))
    }

    fn quarantined(&self, after: i64, limit: usize) -> Result<Vec<Quarantined>, LedgerError> {
        self.ask(|session| query::quarantined(session, after, limit))
    }

    fn verify(&self) -> Result<Vec<Fault>, LedgerError> {
        self.ask(verify::verify)
    }
}
