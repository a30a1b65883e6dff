//! The ledger in a real PostgreSQL: the suite.

#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "model.rs"]
mod model;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "moves.rs"]
mod moves;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "suite.rs"]
mod suite;
#[allow(clippy::duplicate_mod, reason = "the same tests on each database")]
#[path = "twins.rs"]
mod twins;

use super::{Home, NOW, binding};
use crate::postgres_server::{Server, shared};
use amie_usage::{Decimal, UsageType};
use runner::ledger::{
    Address, Candidate, Chunk, LeaseRequest, Ledger, LedgerError, PostgresLedger, RecordOutcome, Sighting,
    SourceFacts,
};

use std::sync::{Mutex, OnceLock};
use std::time::Instant;

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

/// `cargo test --release -p runner --test it -- --ignored --nocapture postgres::rows_a_second`
#[test]
#[ignore = "a measurement, for release builds"]
#[allow(clippy::print_stdout, clippy::cast_precision_loss)]
fn rows_a_second() {
    const ROWS: u32 = 300_000;
    const PIECE: u32 = 10_000;
    let Some(mut site) = Site::new() else { return };
    let chunks: Vec<Chunk> = (0..ROWS / PIECE).map(|number| real_chunk(number * PIECE, PIECE)).collect();
    let timed = |what: &str, rows: u32, work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        println!("{what}: {:.0} rows/s", f64::from(rows) / started.elapsed().as_secs_f64());
    };
    timed("ingest, all new", ROWS, &mut || {
        for chunk in &chunks {
            assert_eq!(site.ledger().ingest(chunk, NOW).unwrap().inserted, u64::from(PIECE));
        }
    });
    timed("ingest, all known", ROWS, &mut || {
        for chunk in &chunks {
            assert_eq!(site.ledger().ingest(chunk, NOW).unwrap().unchanged, u64::from(PIECE));
        }
    });
    let mixed = real_chunk(ROWS - PIECE / 2, PIECE);
    timed("ingest, half known", PIECE, &mut || {
        assert_eq!(site.ledger().ingest(&mixed, NOW).unwrap().inserted, u64::from(PIECE / 2));
    });
    let mut sent = 0;
    timed("lease and settle", 100_000, &mut || {
        while sent < 100_000 {
            let leased = site.ledger().lease(&LeaseRequest::new(UsageType::Compute, NOW)).unwrap().unwrap();
            let outcomes = vec![RecordOutcome::Accepted; leased.records.len()];
            site.ledger().settle(leased.batch, &outcomes, "", NOW).unwrap();
            sent += leased.records.len();
        }
    });
    let shown = |one: &Candidate| Sighting::Loaded {
        usage_type: UsageType::Compute,
        resource: one.resource.to_string(),
        local_record_id: one.local_record_id.clone(),
        submit: Some(one.submit),
        charge: Some(one.charge),
        charge_places: None,
        loaded_at: Some(NOW),
    };
    let sightings: Vec<Sighting> =
        chunks.iter().take(9).flat_map(|chunk| &chunk.records).map(shown).collect();
    timed("confirm", 90_000, &mut || {
        for page in sightings.chunks(25_000) {
            assert_eq!(site.ledger().confirm(page, NOW).unwrap().loaded, page.len() as u64);
        }
    });
    timed("verify", ROWS, &mut || site.sound());
    site.home.sql("VACUUM ANALYZE");
    let bytes: u64 = site.home.sql("SELECT pg_database_size(current_database())").parse().unwrap();
    println!("{} bytes a row, {bytes} in all", bytes / u64::from(ROWS));
}

/// Records as a site has them: 400 bytes of JSON each.
fn real_chunk(first: u32, records: u32) -> Chunk {
    let mut chunk = Chunk { source: "slurm".into(), files: vec!["sacct.txt".into()], ..Chunk::default() };
    for job in first..first + records {
        let start = chunk.payloads.len();
        let submit = 1_700_000_000 + i64::from(job);
        let key = format!("slurm/cluster/{job:010}/{submit}");
        let (user, charge) = (job % 200, Decimal::new(i128::from(job % 1_000) * 10 + 5, 1));
        let json = format!(
            "{{\"Username\":\"user{user}\",\"LocalProjectID\":\"TG-ABC123456\",\"LocalRecordID\":\"{job}\",\
             \"Resource\":\"cpu.example\",\"SubmitTime\":\"2026-10-02T00:{:02}:{:02}Z\",\
             \"StartTime\":\"2026-10-02T01:00:00Z\",\"EndTime\":\"2026-10-02T02:00:00Z\",\"Charge\":\"{charge}\",\
             \"Attributes\":{{\"NodeCount\":1,\"CpuCoreCount\":16,\"Queue\":\"normal\"}},\"LocalReference\":\"{key}\"}}",
            job / 60 % 60,
            job % 60
        );
        chunk.payloads.extend_from_slice(json.as_bytes());
        chunk.records.push(Candidate {
            key,
            usage_type: UsageType::Compute,
            resource: "cpu.example".into(),
            local_record_id: job.to_string(),
            submit,
            username: format!("user{user}").into(),
            project: "TG-ABC123456".into(),
            charge,
            payload: start..chunk.payloads.len(),
            source_digest: u128::from(job) << 64 | 0x9E37_79B9,
            facts: SourceFacts::default(),
            only_if_sent: false,
            file: 0,
            line: 1,
        });
    }
    chunk
}
