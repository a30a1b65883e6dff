//! The ledger in a real PostgreSQL: the suite.

#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "model.rs"]
mod model;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "moves.rs"]
mod moves;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "order.rs"]
mod order;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "suite.rs"]
mod suite;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "twins.rs"]
mod twins;

use super::{Home, binding};
use crate::postgres_server::{Server, shared};
use runner::ledger::{Address, Ledger, LedgerError, PostgresLedger};
use std::sync::{Mutex, OnceLock};

/// Cases of the model: one takes some hundreds of transactions.
const CASES: u32 = 200;

/// Random actions of a case, at most.
const ACTIONS: usize = 40;

/// The whole ledger is verified after so many actions of the model, and at its end.
const VERIFY_EVERY: usize = 10;

/// True where several runners may work at once.
const SEVERAL: bool = true;

type Site = super::Site<Database>;

/// Databases that were given back: to make one takes longer than to empty one.
static USED: Mutex<Vec<Database>> = Mutex::new(Vec::new());

/// A database of its own.
pub(crate) struct Database {
    pub(crate) server: &'static Server,
    pub(crate) name: String,
    pub(crate) address: Address,
    administrator: OnceLock<Administrator>,
}

/// A session that stays: a program for each statement takes longer than the statement.
struct Administrator {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Administrator {
    fn connect(server: &Server, database: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (host, port) = (server.folder.display(), server.port);
        let config = format!("host={host} port={port} user=postgres dbname={database}");
        let connect = tokio_postgres::connect(&config, tokio_postgres::NoTls);
        let (client, connection) = runtime.block_on(connect).unwrap();
        runtime.spawn(connection);
        Self { runtime, client }
    }
}

impl Database {
    /// Statements without an answer, as the administrator.
    fn quick(&self, sql: &str) {
        let connect = || Administrator::connect(self.server, &self.name);
        let Administrator { runtime, client } = self.administrator.get_or_init(connect);
        runtime.block_on(client.batch_execute(sql)).unwrap();
    }

    /// What a statement answers, as the administrator.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }
}

impl Home for Database {
    fn find() -> Option<Self> {
        let server = shared()?;
        let (name, url) = server.database();
        Some(Self {
            server,
            name,
            address: Address::parse(&url, None).unwrap(),
            administrator: OnceLock::new(),
        })
    }

    fn open(&self, now: i64) -> Result<Box<dyn Ledger>, LedgerError> {
        Ok(Box::new(PostgresLedger::open(&self.address, &binding(), now)?))
    }

    fn leases_end(&self) {
        self.quick("UPDATE batch SET lease_until = 0 WHERE settled_at IS NULL");
    }

    fn find_used() -> Option<Self> {
        let Some(used) = USED.lock().unwrap().pop() else { return Self::find() };
        // Events refuse to be changed; so the administrator's session fires no triggers.
        used.quick(
            "SET session_replication_role = replica; DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('%I', tablename), ', ') \
             FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'meta'); END $$; \
             DELETE FROM meta WHERE name NOT IN ('schema_version', 'application', 'endpoint', 'site')",
        );
        Some(used)
    }

    fn give_back(self) {
        USED.lock().unwrap().push(self);
    }
}
