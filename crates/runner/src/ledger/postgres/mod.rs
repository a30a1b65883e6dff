//! The ledger in PostgreSQL, for hosts that share one: the same traits as SQLite's, over one connection.
//!
//! One change at a time: each takes the lock on the table `change` before it reads, so that it sees everything that
//! others committed and nobody changes anything under it. Numbers of events, chunks and batches grow in the order of
//! commits for the same reason. Questions do not wait: they read a snapshot. A runner that stops in the middle of a
//! change (stopped, swapped out, its host gone) is thrown out by the server after two minutes.
//!
//! A change that ends notes its number in `change` in the same transaction. Where the connection is lost while it
//! commits, nobody knows; so the next connection looks there, behind the lock, and what is not there was not done.

mod address;
mod batches;
mod columns;
mod copy;
mod events;
mod holds;
mod link;
mod memory;
mod names;
mod rows;

pub use address::{Address, AddressError, PasswordSource, Protection};

use super::book::Book;
use super::names::NameCache;
use super::store::{Purpose, Transactions};
use super::{Binding, Group, LedgerError, codes, migrate};
use copy::Tuples;
use futures_util::SinkExt;
use link::{connect, wait};
use memory::Memory;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// Numbered migrations: `schema_version` in `meta` says how many have run. They are only ever added to.
const MIGRATIONS: [&str; 2] = [include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// What `meta` says that a ledger is.
const APPLICATION: &str = "amie-runner ledger";

/// A ledger in a PostgreSQL database. See [`Ledger`](super::Ledger) for what it does.
pub type PostgresLedger = Book<PostgresStore>;

/// The database, connected.
#[derive(Debug)]
pub struct PostgresStore {
    address: Address,
    role: Role,
    link: RefCell<Option<Link>>,
    names: RefCell<NameCache>,
    memory: RefCell<Memory>,
    purpose: Cell<Purpose>,
    /// Who we are in `change`, and the number of our last change.
    runner: RefCell<String>,
    number: Cell<i64>,
    /// How long a lost server is waited for.
    patience: Duration,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Runner,
    Reader,
    /// A copy in temporary tables that goes with the connection.
    Rehearsal,
}

struct Link {
    client: Client,
    statements: RefCell<HashMap<Cow<'static, str>, Statement>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

/// What can go wrong inside.
#[derive(Debug)]
pub enum Fail {
    /// The server said no, or is gone.
    Sql(tokio_postgres::Error),
    /// No connection could be made.
    Connect(tokio_postgres::Error),
    /// What it takes to log in is not there.
    Login(String),
    /// No thread for the connection.
    Thread(std::io::Error),
    /// The connection was lost, and the change surely not made.
    Undone,
    /// The connection was lost while a change was committed, and nobody can be asked now.
    Unsettled(Box<Fail>),
    /// The ledger said no.
    Ledger(LedgerError),
}

impl From<tokio_postgres::Error> for Fail {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for Fail {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

/// True where the connection is gone, whatever became of what was under way.
fn lost(error: &tokio_postgres::Error) -> bool {
    let gone = |code: &SqlState| {
        let code = code.code();
        code.starts_with("08") || ["57P01", "57P02", "57P03", "57P05", "25P03"].contains(&code)
    };
    match error.code() {
        Some(code) => gone(code),
        None => {
            let mut sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
            error.is_closed() || sources.any(|source| source.is::<std::io::Error>())
        }
    }
}

/// True where the server is there, and its certificate is not what it should be.
fn untrusted(error: &tokio_postgres::Error) -> bool {
    std::iter::successors(std::error::Error::source(error), |error| error.source()).any(|source| {
        let inner = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// An error with everything below it: what tokio-postgres shows of itself is "db error".
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for source in std::iter::successors(error.source(), |error| error.source()) {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
    }
    text
}

/// A text as the server can hold it: without NUL.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// A code that fits.
fn short(code: i64) -> i16 {
    i16::try_from(code).unwrap_or(i16::MIN)
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl PostgresLedger {
    /// Opens the ledger to change it, and creates it where the database is empty. Any number of runners may.
    ///
    /// # Errors
    /// Where the server cannot be reached or refuses us, the ledger belongs to another service or site, a newer
    /// program made it, or the database holds something else.
    pub fn open(address: &Address, binding: &Binding, now: i64) -> Result<Self, LedgerError> {
        let store = PostgresStore::new(address, Role::Runner);
        let open = || -> Result<Binding, Fail> {
            store.connected()?;
            store.migrate(binding, now)?;
            store.ready()?;
            let forget = "DELETE FROM change WHERE at < extract(epoch FROM now())::bigint - 30 * 86400";
            store.execute(forget, &[])?;
            store.binding()
        };
        let found = open().map_err(|fail| store.explain(fail))?;
        Self::bound(store, found, binding)
    }

    /// Opens an existing ledger for questions only.
    ///
    /// # Errors
    /// Where there is none, a newer program made it, or it cannot be read.
    pub fn open_reader(address: &Address) -> Result<Self, LedgerError> {
        let store = PostgresStore::new(address, Role::Reader);
        let open = || -> Result<Binding, Fail> {
            store.connected()?;
            let version = store.version()?.ok_or_else(|| LedgerError::Missing { place: address.shown() })?;
            migrate::check_reader(&store.place(), version, &MIGRATIONS)?;
            store.binding()
        };
        let found = open().map_err(|fail| store.explain(fail))?;
        Ok(Self::new(store, found))
    }

    /// Opens a copy of the ledger that is gone with the connection, to rehearse on.
    ///
    /// # Errors
    /// As [`open`](Self::open); `None` where there is no ledger yet.
    pub fn open_copy(address: &Address, binding: &Binding, now: i64) -> Result<Option<Self>, LedgerError> {
        let store = PostgresStore::new(address, Role::Rehearsal);
        let open = || -> Result<Option<Binding>, Fail> {
            store.connected()?;
            let Some(version) = store.version()? else { return Ok(None) };
            migrate::check(&store.place(), version, &MIGRATIONS)?;
            store.copy_tables()?;
            store.migrate(binding, now)?;
            store.ready()?;
            store.binding().map(Some)
        };
        match open().map_err(|fail| store.explain(fail))? {
            Some(found) => Self::bound(store, found, binding).map(Some),
            None => Ok(None),
        }
    }

    fn bound(store: PostgresStore, found: Binding, wanted: &Binding) -> Result<Self, LedgerError> {
        if found != *wanted {
            return Err(LedgerError::OtherBinding {
                path: store.place(),
                bound: Box::new(found),
                wanted: Box::new(wanted.clone()),
            });
        }
        Ok(Self::new(store, found))
    }
}

impl PostgresStore {
    fn new(address: &Address, role: Role) -> Self {
        Self {
            address: address.clone(),
            role,
            link: RefCell::default(),
            names: RefCell::default(),
            memory: RefCell::default(),
            purpose: Cell::new(Purpose::Question),
            runner: RefCell::default(),
            number: Cell::new(0),
            patience: PATIENCE,
        }
    }

    fn place(&self) -> PathBuf {
        self.address.shown().into()
    }

    /// Connects where there is no connection; waits for a server that was there before and is not now.
    fn connected(&self) -> Result<(), Fail> {
        if self.link.borrow().as_ref().is_some_and(|link| !link.client.is_closed()) {
            return Ok(());
        }
        let before = self.link.take().is_some() || self.number.get() > 0;
        if before && self.role == Role::Rehearsal {
            return Err(Fail::Undone);
        }
        self.names.replace(NameCache::default());
        let started = Instant::now();
        let client = loop {
            match connect(&self.address) {
                Ok(client) => break client,
                Err(Fail::Connect(error))
                    if before && lost(&error) && !untrusted(&error) && started.elapsed() < self.patience =>
                {
                    std::thread::sleep(Duration::from_millis(250));
                }
                Err(fail) => return Err(fail),
            }
        };
        self.link.replace(Some(Link { client, statements: RefCell::default() }));
        self.simple(SETTINGS)?;
        if self.role == Role::Reader {
            self.simple("SET default_transaction_read_only = on")?;
        }
        if self.runner.borrow().is_empty() {
            let row = self.query_one("SELECT gen_random_uuid()::text", &[])?;
            self.runner.replace(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default());
        }
        if before { self.ready() } else { Ok(()) }
    }

    /// Tables of this session that changed rows go through.
    fn ready(&self) -> Result<(), Fail> {
        if self.role == Role::Reader {
            return Ok(());
        }
        self.simple(
            "CREATE TEMPORARY TABLE IF NOT EXISTS changed_record (LIKE record) ON COMMIT DELETE ROWS; \
             CREATE TEMPORARY TABLE IF NOT EXISTS changed_hold (LIKE hold) ON COMMIT DELETE ROWS",
        )
    }

    fn with_client<T>(&self, work: impl FnOnce(&Link) -> Result<T, Fail>) -> Result<T, Fail> {
        match self.link.borrow().as_ref() {
            Some(link) => work(link),
            None => Err(Fail::Undone),
        }
    }

    /// Statements without parameters, several at once.
    fn simple(&self, sql: &str) -> Result<(), Fail> {
        self.with_client(|link| Ok(wait(link.client.batch_execute(sql))?))
    }

    fn statement(&self, link: &Link, sql: impl Into<Cow<'static, str>>) -> Result<Statement, Fail> {
        let sql = sql.into();
        if let Some(statement) = link.statements.borrow().get(&sql) {
            return Ok(statement.clone());
        }
        let statement = wait(link.client.prepare(&sql))?;
        link.statements.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }

    /// What is asked by keys, beside what is still kept in memory.
    fn query(
        &self,
        sql: impl Into<Cow<'static, str>>,
        params: Params<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, Fail> {
        self.with_client(|link| {
            let statement = self.statement(link, sql)?;
            Ok(wait(link.client.query(&statement, params))?)
        })
    }

    /// The same where there is one row at most.
    fn query_one(
        &self,
        sql: impl Into<Cow<'static, str>>,
        params: Params<'_>,
    ) -> Result<Option<tokio_postgres::Row>, Fail> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// What is asked by anything but keys: after everything that was written before.
    fn list(
        &self,
        sql: impl Into<Cow<'static, str>>,
        params: Params<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, Fail> {
        self.write_out()?;
        self.query(sql, params)
    }

    fn execute(&self, sql: impl Into<Cow<'static, str>>, params: Params<'_>) -> Result<u64, Fail> {
        self.with_client(|link| {
            let statement = self.statement(link, sql)?;
            Ok(wait(link.client.execute(&statement, params))?)
        })
    }

    /// One number.
    fn number(&self, sql: &'static str) -> Result<i64, Fail> {
        let row = self.list(sql, &[])?.into_iter().next();
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }

    /// Rows into a table.
    fn copy_in(&self, sql: &str, tuples: Tuples) -> Result<(), Fail> {
        if tuples.is_empty() {
            return Ok(());
        }
        self.with_client(|link| {
            wait(async {
                let mut sink = pin!(link.client.copy_in::<_, Cursor<Vec<u8>>>(sql).await?);
                sink.send(Cursor::new(tuples.finish())).await?;
                sink.finish().await?;
                Ok(())
            })
        })
    }

    /// Things with one reason: `groups` answers the reason, how many, and what `examples_of` finds some of them by.
    fn groups(
        &self,
        groups: String,
        examples_of: impl Into<Cow<'static, str>>,
        examples: usize,
    ) -> Result<Vec<Group>, Fail> {
        let limit = codes::signed(examples as u64);
        let examples_of = examples_of.into();
        let mut result = Vec::new();
        for row in self.list(groups, &[])? {
            let value: String = row.try_get(2)?;
            let some = self.query(examples_of.clone(), &[&value, &limit])?;
            result.push(Group {
                reason: row.try_get(0)?,
                count: codes::unsigned(row.try_get(1)?),
                examples: some.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
            });
        }
        Ok(result)
    }

    /// The schema's version; `None` where the database is empty.
    fn version(&self) -> Result<Option<i64>, Fail> {
        let is = "SELECT to_regclass('meta') IS NOT NULL, \
                  (SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace)";
        let Some(row) = self.query_one(is, &[])? else { return Ok(None) };
        let (known, others): (bool, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let not_ours = || LedgerError::NotALedger { path: self.place() };
        if !known {
            return if others.unwrap_or(0) == 0 { Ok(None) } else { Err(not_ours().into()) };
        }
        let value = |name: &str| -> Result<Option<String>, Fail> {
            let row = self.query_one("SELECT value FROM meta WHERE name = $1", &[&name])?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        };
        // A table `meta` of something else has other columns: its own error tells.
        if value("application")?.as_deref() != Some(APPLICATION) {
            return Err(not_ours().into());
        }
        let version = value("schema_version")?.and_then(|text| text.parse().ok());
        Ok(Some(version.ok_or_else(not_ours)?))
    }

    fn migrate(&self, binding: &Binding, now: i64) -> Result<(), Fail> {
        // One at a time, also where there is no table yet to lock. "AMIE" in ASCII.
        self.simple("BEGIN; SELECT pg_advisory_xact_lock(1095583045)")?;
        let work = || {
            let found = self.version()?;
            migrate::forward(&self.place(), found.unwrap_or(0), &MIGRATIONS, |number, script| {
                self.simple(script)?;
                let set = "INSERT INTO meta (name, value) VALUES ($1, $2) \
                           ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                let mut values = vec![("schema_version", number.to_string())];
                if number == 1 {
                    values.push(("application", APPLICATION.to_owned()));
                    values.push(("endpoint", binding.endpoint.clone()));
                    values.push(("site", binding.site.clone()));
                    values.push(("created_at", now.to_string()));
                }
                for (name, value) in values {
                    self.execute(set, &[&name, &value])?;
                }
                Ok::<(), Fail>(())
            })
        };
        match work() {
            Ok(()) => self.simple("COMMIT"),
            Err(fail) => {
                self.rollback();
                Err(fail)
            }
        }
    }

    fn binding(&self) -> Result<Binding, Fail> {
        let value = |name: &str| -> Result<String, Fail> {
            let row = self.query_one("SELECT value FROM meta WHERE name = $1", &[&name])?;
            let row = row.ok_or_else(|| LedgerError::Inconsistent(format!("no {name} is stored")))?;
            Ok(row.try_get(0)?)
        };
        Ok(Binding { endpoint: value("endpoint")?, site: value("site")? })
    }

    /// Copies every table into temporary ones that come first from now on.
    fn copy_tables(&self) -> Result<(), Fail> {
        self.simple("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
        let tables = self.query(
            "SELECT quote_ident(relname), quote_ident(nspname) FROM pg_class \
             JOIN pg_namespace ON pg_namespace.oid = relnamespace \
             WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'",
            &[],
        )?;
        for row in tables {
            let (table, schema): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            self.simple(&format!(
                "CREATE TEMPORARY TABLE {table} (LIKE {schema}.{table} INCLUDING ALL); \
                 INSERT INTO pg_temp.{table} SELECT * FROM {schema}.{table}"
            ))?;
        }
        // Statements that were prepared before speak of the tables themselves.
        self.with_client(|link| {
            link.statements.borrow_mut().clear();
            Ok(())
        })?;
        self.simple("COMMIT; SET search_path = pg_temp")
    }

    /// After a connection was lost in a commit: was it done?
    fn settle_commit(&self) -> Result<(), Fail> {
        self.link.replace(None);
        let look = || -> Result<Option<i64>, Fail> {
            self.connected()?;
            // A server that still works on that commit holds the lock until it knows.
            self.simple("BEGIN; LOCK TABLE change IN EXCLUSIVE MODE")?;
            let row =
                self.query_one("SELECT number FROM change WHERE runner = $1", &[&*self.runner.borrow()])?;
            let number = row.map(|row| row.try_get(0)).transpose()?;
            self.simple("ROLLBACK")?;
            Ok(number)
        };
        match look() {
            Ok(found) if found == Some(self.number.get()) => Ok(()),
            Ok(_) => Err(Fail::Undone),
            Err(fail) => Err(Fail::Unsettled(Box::new(fail))),
        }
    }
}

/// How long a server that was there before is waited for: about what a restart takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of every connection. A runner that stops in the middle of a change must not stop the others for long; durable is
/// what the ledger says it is.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '2min'; SET lock_timeout = '5min'; SET jit = off; \
    SET client_min_messages = warning; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Attempts at one piece of work.
const ATTEMPTS: u32 = 5;

impl Transactions for PostgresStore {
    type Fail = Fail;

    fn begin(&self, purpose: Purpose) -> Result<(), Fail> {
        self.memory.replace(Memory::default());
        self.purpose.set(purpose);
        self.connected()?;
        self.simple(match purpose {
            Purpose::Change => "BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE change IN EXCLUSIVE MODE",
            Purpose::Question => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })
    }

    fn commit(&self) -> Result<(), Fail> {
        if self.purpose.get() == Purpose::Question {
            return self.simple("COMMIT");
        }
        self.write_out()?;
        self.number.set(self.number.get().saturating_add(1));
        let note = "INSERT INTO change (runner, number, at) VALUES ($1, $2, extract(epoch FROM now())::bigint) \
                    ON CONFLICT (runner) DO UPDATE SET number = excluded.number, at = excluded.at";
        self.execute(note, &[&*self.runner.borrow(), &self.number.get()])?;
        match self.simple("COMMIT") {
            Err(Fail::Sql(error)) if lost(&error) => self.settle_commit(),
            other => other,
        }
    }

    fn rollback(&self) {
        self.memory.replace(Memory::default());
        // Names that the transaction would have stored are not there.
        self.names.replace(NameCache::default());
        if self.simple("ROLLBACK").is_err() {
            self.link.replace(None);
        }
    }

    fn worth_repeating(&self, fail: &Fail, attempt: u32) -> bool {
        let conflict = |code: &SqlState| {
            [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
                // Under the lock nobody else can have taken a key; but a lock can be taken away by an administrator.
                SqlState::UNIQUE_VIOLATION,
            ]
            .contains(code)
        };
        let again = match fail {
            // Before the commit nothing is done; in the commit it was found out.
            Fail::Sql(error) => lost(error) || error.code().is_some_and(conflict),
            Fail::Undone => true,
            _ => false,
        };
        again && attempt < ATTEMPTS && self.role != Role::Rehearsal
    }

    fn explain(&self, fail: Fail) -> LedgerError {
        let (path, place) = (self.place(), self.address.shown());
        let unreachable = |detail: String| LedgerError::Unreachable { place: place.clone(), detail };
        let refused = |detail: String| LedgerError::Refused { place: place.clone(), detail };
        let error = match fail {
            Fail::Ledger(error) => return error,
            Fail::Login(detail) => return refused(detail),
            Fail::Thread(source) => return LedgerError::Io { path, source },
            Fail::Undone => return unreachable("the connection was lost".to_owned()),
            Fail::Unsettled(fail) => {
                let detail = self.explain(*fail).to_string();
                return unreachable(format!("the connection was lost while a change was stored: {detail}"));
            }
            Fail::Connect(error) if error.code().is_none() => {
                let detail = in_words(&error);
                return if untrusted(&error) { refused(detail) } else { unreachable(detail) };
            }
            Fail::Connect(error) | Fail::Sql(error) => error,
        };
        let detail = in_words(&error);
        match error.code().map(SqlState::code) {
            _ if lost(&error) => unreachable(detail),
            Some("53100") => LedgerError::DiskFull { path },
            Some("53300" | "53400" | "53200") => unreachable(detail),
            Some("25006") => LedgerError::ReadOnly { path },
            Some("55P03") => LedgerError::Busy { path },
            Some("XX001" | "XX002") => LedgerError::Corrupt { path, detail },
            Some("28000" | "28P01" | "3D000" | "42501") => refused(detail),
            _ => LedgerError::Database { path, source: detail.into() },
        }
    }

    fn lease_clock(&self, _now: i64) -> Result<i64, Fail> {
        self.number("SELECT extract(epoch FROM clock_timestamp())::bigint")
    }

    fn alone(&self) -> bool {
        // On a copy nobody else works, and nothing is sent.
        self.role == Role::Rehearsal
    }

    fn self_check(&self) -> Result<Vec<String>, Fail> {
        // The server's own checks (amcheck, pg_checksums) are the administrator's.
        Ok(Vec::new())
    }
}
