//! The ledger in an embedded SQLite file: write-ahead log, full sync, one runner at a time, local disk only.
//!
//! `open` is here; each file beside it implements one or two of the traits in [`store`](super::store).

mod batches;
mod events;
mod holds;
mod names;
mod packed;
mod place;
mod rows;
#[cfg(test)]
mod tests;
mod together;
mod witness;
mod writing;

use super::book::Book;
use super::codes;
use super::names::NameCache;
use super::store::{Purpose, Transactions};
use super::{Binding, Group, LedgerError, Older, migrate};
use crate::crash;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, ffi};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use witness::{Newest, Seen, Witness};

/// "AMIE" in `PRAGMA application_id`: this file is a ledger and nothing else.
const APPLICATION_ID: i64 = 0x414D_4945;

/// Numbered migrations: `user_version` says how many have run. They are only ever added to.
const MIGRATIONS: [&str; 4] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];

/// A ledger in a SQLite file. See [`Ledger`](super::Ledger) for what it does.
pub type SqliteLedger = Book<SqliteStore>;

/// The file, open.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    names: RefCell<NameCache>,
    updates: RefCell<writing::Updates>,
    /// Where it says how far it has come; `None` for a reader.
    witness: RefCell<Option<Witness>>,
    /// The last event that the transaction noted.
    noted: Cell<Option<Newest>>,
    /// Held for the life of the ledger; `None` for a reader.
    _lock: Option<File>,
}

/// What can go wrong inside: turned into a [`LedgerError`] with the path at the edge.
#[derive(Debug)]
pub enum Fail {
    /// The database said no.
    Sql(rusqlite::Error),
    /// The ledger did.
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
        let extended = error.sqlite_error().map(|error| error.extended_code);
        // What was read is not what this program ever writes: a text that is none, a number of another type.
        let damaged = matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..)
        );
        match error.sqlite_error_code() {
            None if damaged => LedgerError::Corrupt { path, detail: error.to_string() },
            // The shared index of the log is a file too, and has an error of its own when it cannot grow.
            _ if extended == Some(ffi::SQLITE_IOERR_SHMSIZE) => LedgerError::DiskFull { path },
            Some(ErrorCode::SystemIoFailure) if extended.is_some_and(is_write) => {
                LedgerError::NotWritten { path, detail: error.to_string() }
            }
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

/// Whether an extended code of an I/O failure is one of writing.
fn is_write(code: i32) -> bool {
    let writing = [
        ffi::SQLITE_IOERR_WRITE,
        ffi::SQLITE_IOERR_FSYNC,
        ffi::SQLITE_IOERR_DIR_FSYNC,
        ffi::SQLITE_IOERR_TRUNCATE,
        ffi::SQLITE_IOERR_SHMMAP,
        ffi::SQLITE_IOERR_SHMOPEN,
    ];
    writing.contains(&code)
}

impl SqliteLedger {
    /// Opens the ledger for the one runner that may change it, and creates it where there is none.
    ///
    /// # Errors
    /// Where another runner has it ([`LedgerError::Busy`]), it belongs to another service or site, a newer program
    /// made it, it lies on a network file system, it is older than what its witness has seen ([`LedgerError::Older`]), only its
    /// witness is there ([`LedgerError::Vanished`]), or the file cannot be used.
    pub fn open(path: &Path, binding: &Binding, now: i64) -> Result<Self, LedgerError> {
        Self::open_as(path, binding, now, false)
    }

    /// The same also where it is older than what its witness has seen, and [`older`](super::Ledger::older) says so: for
    /// [`accept_restored`](super::Ledger::accept_restored) alone.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_restored(path: &Path, binding: &Binding, now: i64) -> Result<Self, LedgerError> {
        Self::open_as(path, binding, now, true)
    }

    fn open_as(path: &Path, binding: &Binding, now: i64, restored: bool) -> Result<Self, LedgerError> {
        place::check_local(path)?;
        let lock = place::lock(path)?;
        let seen = witness::read(path);
        if !is_there(path, seen.as_ref())? {
            place::create(path, |new| make(new, binding, now).map_err(|fail| fail.at(path)))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let mut connection = Connection::open_with_flags(path, flags)?;
            prepare(&connection)?;
            bring_up_to_date(&mut connection, path, binding, now)?;
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
        let older = older(&connection, path, seen.as_ref()).map_err(|fail| fail.at(path))?;
        if let Some(older) = older.clone().filter(|_| !restored) {
            return Err(older.into());
        }
        let witness = witnessed(&connection, path, seen.as_ref(), older.is_none());
        let witness = witness.map_err(|fail| fail.at(path))?;
        let mut book = Self::with(connection, path, found, Some(lock));
        book.older = older;
        book.store.witness.replace(witness);
        Ok(book)
    }

    /// Opens an existing ledger for questions only, beside a runner that may be changing it.
    ///
    /// # Errors
    /// Where there is none (or only its witness), a newer or older program made it, or the file cannot be read.
    pub fn open_reader(path: &Path) -> Result<Self, LedgerError> {
        // Before the ledger: a runner may write both meanwhile.
        let seen = witness::read(path);
        if !is_there(path, seen.as_ref())? {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
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
            migrate::check_reader(path, version, &MIGRATIONS)?;
            let found = stored_binding(&connection)?;
            let older = older(&connection, path, seen.as_ref())?;
            Ok((connection, found, older))
        };
        let (connection, found, older) = open().map_err(|fail| fail.at(path))?;
        let mut book = Self::with(connection, path, found, None);
        book.older = older;
        Ok(book)
    }

    /// True where a ledger is at a path, or its witness says that it was.
    pub(in crate::ledger) fn was_seen(path: &Path) -> bool {
        path.exists() || witness::read(path).is_some()
    }

    /// Copies a ledger as it is at one moment, beside a runner that may be changing it, and before it what its witness
    /// says. One that was never there is no error.
    pub(in crate::ledger) fn copy(from: &Path, to: &Path) -> Result<(), LedgerError> {
        if !is_there(from, witness::read(from).as_ref())? {
            return Ok(());
        }
        let (seen, copy) = (place::beside(from, ".witness"), place::beside(to, ".witness"));
        if seen.exists() {
            std::fs::copy(&seen, copy).map_err(|source| LedgerError::Io { path: seen, source })?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copied = || -> Result<(), Fail> {
            let source = Connection::open_with_flags(from, flags)?;
            source.busy_timeout(Duration::from_secs(10))?;
            let mut target = Connection::open(to)?;
            // All pages in one step are those of one transaction.
            match Backup::new(&source, &mut target)?.step(-1)? {
                StepResult::Done => Ok(()),
                _ => Err(LedgerError::Busy { path: from.to_owned() }.into()),
            }
        };
        copied().map_err(|fail| fail.at(from))
    }

    fn with(connection: Connection, path: &Path, binding: Binding, lock: Option<File>) -> Self {
        connection.set_prepared_statement_cache_capacity(128);
        let store = SqliteStore {
            connection,
            path: path.to_owned(),
            names: RefCell::default(),
            updates: RefCell::default(),
            witness: RefCell::default(),
            noted: Cell::default(),
            _lock: lock,
        };
        Self::new(store, binding)
    }
}

impl SqliteStore {
    /// Has the witness know what was noted, now that it is durable.
    fn tell_witness(&self) {
        let Some(newest) = self.noted.take() else { return };
        let written = self.witness.borrow().as_ref().map_or(Ok(()), |witness| witness.write(newest));
        if let Err(error) = written {
            witness::complain(&self.path, &error);
            // Once is enough: what it says stays behind, or is not believed.
            self.witness.replace(None);
        }
    }

    /// One number.
    fn number(&self, sql: &str) -> Result<i64, Fail> {
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// Things with one reason: `groups` answers the reason, how many, and what `examples_of` finds some of them by.
    fn groups(&self, groups: &str, examples_of: &str, examples: usize) -> Result<Vec<Group>, Fail> {
        let mut statement = self.connection.prepare_cached(groups)?;
        let mut found = statement.query([])?;
        let mut result = Vec::new();
        while let Some(row) = found.next()? {
            let value: Value = row.get(2)?;
            let mut statement = self.connection.prepare_cached(examples_of)?;
            let some = statement.query_map((value, codes::signed(examples as u64)), |row| row.get(0))?;
            result.push(Group {
                reason: row.get(0)?,
                count: codes::unsigned(row.get(1)?),
                examples: some.collect::<Result<_, _>>()?,
            });
        }
        Ok(result)
    }
}

impl Transactions for SqliteStore {
    type Fail = Fail;

    fn begin(&self, purpose: Purpose) -> Result<(), Fail> {
        let sql = match purpose {
            Purpose::Change => "BEGIN IMMEDIATE",
            Purpose::Question => "BEGIN",
        };
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    fn commit(&self) -> Result<(), Fail> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.tell_witness();
        Ok(())
    }

    fn rollback(&self) {
        self.noted.set(None);
        // Names that the transaction would have stored are not there.
        self.names.replace(NameCache::default());
        // Some failures (a full disk) have ended the transaction already.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction of the ledger could not be taken back; it will not be committed");
        }
    }

    fn explain(&self, fail: Fail) -> LedgerError {
        fail.at(&self.path)
    }

    fn lease_clock(&self, now: i64) -> Result<i64, Fail> {
        Ok(now)
    }

    fn alone(&self) -> bool {
        true
    }

    fn shrink(&self) -> Result<(), Fail> {
        self.connection.execute_batch("VACUUM")?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn self_check(&self) -> Result<Vec<String>, Fail> {
        // Not `quick_check`, which does not look whether each row is in its indexes: one that an index has lost is never sent.
        let mut statement = self.connection.prepare("PRAGMA integrity_check(20)")?;
        let found = statement.query_map([], |row| row.get(0))?;
        let mut lines: Vec<String> = found.collect::<Result<_, _>>()?;
        lines.retain(|line| line != "ok");
        Ok(lines)
    }
}

/// True where a ledger is at a path; one that only its witness knows of is missed.
fn is_there(path: &Path, seen: Option<&Seen>) -> Result<bool, LedgerError> {
    if place::is_there(path)? {
        return Ok(true);
    }
    seen.map_or(Ok(false), |seen| Err(witness::vanished(path, seen)))
}

/// Durability and sizes, for every connection that writes.
fn prepare(connection: &Connection) -> Result<(), Fail> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // FULL costs no CPU worth naming over NORMAL at 10,000 rows a transaction, and loses nothing with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -32_768)?; // KiB
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?; // pages: 32 MiB
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(())
}

/// Makes a ledger in a file that is not there, whole before this returns.
fn make(path: &Path, binding: &Binding, now: i64) -> Result<(), Fail> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "page_size", place::NEW_PAGE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    bring_up_to_date(&mut connection, path, binding, now)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// `application_id` and `user_version`.
fn identify(connection: &Connection) -> Result<(i64, i64), Fail> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

/// Runs the migrations that this file has not seen, each in a transaction of its own; a new file gets its binding with
/// the first one.
fn bring_up_to_date(
    connection: &mut Connection,
    path: &Path,
    binding: &Binding,
    now: i64,
) -> Result<(), Fail> {
    let (application, version) = identify(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(LedgerError::NotALedger { path: path.to_owned() }.into());
    }
    packed::register(connection)?;
    migrate::forward(path, version, &MIGRATIONS, |number, script| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(script)?;
        if number == 1 {
            let mut insert = transaction.prepare("INSERT INTO meta (name, value) VALUES (?1, ?2)")?;
            insert.execute(("endpoint", &binding.endpoint))?;
            insert.execute(("site", &binding.site))?;
            insert.execute(("created_at", now.to_string()))?;
            insert.execute((LEDGER_ID, new_id(&transaction)?))?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        crash::point("committing");
        transaction.commit()?;
        crash::point("committed");
        Ok(())
    })
}

fn stored_binding(connection: &Connection) -> Result<Binding, Fail> {
    let value = |name: &str| -> Result<String, Fail> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        let found = connection.query_row(sql, [name], |row| row.get(0)).optional()?;
        found.ok_or_else(|| LedgerError::Inconsistent(format!("no {name} is stored")).into())
    };
    Ok(Binding { endpoint: value("endpoint")?, site: value("site")? })
}

/// The ledger's own id in `meta`: what its witness knows it by.
const LEDGER_ID: &str = "ledger_id";

fn new_id(connection: &Connection) -> Result<String, Fail> {
    Ok(connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?)
}

fn stored_id(connection: &Connection) -> Result<Option<String>, Fail> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    Ok(connection.query_row(sql, [LEDGER_ID], |row| row.get(0)).optional()?)
}

fn newest(connection: &Connection) -> Result<Newest, Fail> {
    let sql = "SELECT id, at FROM event ORDER BY id DESC LIMIT 1";
    let found = connection.query_row(sql, [], |row| Ok(Newest { event: row.get(0)?, at: row.get(1)? }));
    Ok(found.optional()?.unwrap_or(Newest { event: 0, at: 0 }))
}

/// What a ledger lacks of what its witness has seen.
fn older(connection: &Connection, path: &Path, seen: Option<&Seen>) -> Result<Option<Older>, Fail> {
    let time_of = |event: i64| {
        let sql = "SELECT at FROM event WHERE id = ?1";
        connection.query_row(sql, [event], |row| row.get(0)).optional()
    };
    Ok(witness::judge(path, seen, stored_id(connection)?.as_deref(), newest(connection)?, time_of)?)
}

/// The witness of a ledger that is opened to be changed; up to date, but for an older ledger: it is told of that one when a
/// person has accepted it.
fn witnessed(
    connection: &Connection,
    path: &Path,
    seen: Option<&Seen>,
    up_to_date: bool,
) -> Result<Option<Witness>, Fail> {
    let id = match stored_id(connection)? {
        Some(id) => id,
        None => give_id(connection, seen)?,
    };
    if let Some(other) = seen.filter(|seen| seen.ledger != id) {
        witness::say_other(path, other);
    }
    let known = Seen { ledger: id, newest: newest(connection)? };
    let witness = Witness::open(path, &known.ledger);
    if let Some(witness) = witness.as_ref().filter(|_| up_to_date && seen != Some(&known)) {
        witness.write(known.newest).unwrap_or_else(|error| witness::complain(path, &error));
    }
    Ok(witness)
}

/// Gives an id to a ledger of a program that knew none; where a witness is there (and the ledger older), the one that the
/// witness knows.
fn give_id(connection: &Connection, seen: Option<&Seen>) -> Result<String, Fail> {
    let id = match seen {
        Some(seen) => seen.ledger.clone(),
        None => new_id(connection)?,
    };
    crash::point("committing");
    connection.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", (LEDGER_ID, &id))?;
    crash::point("committed");
    Ok(id)
}
