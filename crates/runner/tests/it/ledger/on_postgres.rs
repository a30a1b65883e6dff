//! The ledger in a real PostgreSQL: the suite.

#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "model.rs"]
mod model;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "suite.rs"]
mod suite;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "twins.rs"]
mod twins;

use super::{Home, binding};
use crate::postgres_server::{Server, shared};
use runner::ledger::{Address, Ledger, LedgerError, PostgresLedger};

/// Cases of the model: each has a database to itself, and some hundreds of transactions.
const CASES: u32 = 10;

/// True where several runners may work at once.
const SEVERAL: bool = true;

type Site = super::Site<Database>;

/// A database of its own.
pub(crate) struct Database {
    pub(crate) server: &'static Server,
    pub(crate) name: String,
    pub(crate) address: Address,
}

impl Database {
    /// What a statement answers, as the administrator.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }
}

impl Home for Database {
    fn find() -> Option<Self> {
        let server = shared()?;
        let (name, url) = server.database();
        Some(Self { server, name, address: Address::parse(&url, None).unwrap() })
    }

    fn open(&self, now: i64) -> Result<Box<dyn Ledger>, LedgerError> {
        Ok(Box::new(PostgresLedger::open(&self.address, &binding(), now)?))
    }

    fn leases_end(&self) {
        self.sql("UPDATE batch SET lease_until = 0 WHERE settled_at IS NULL");
    }
}
