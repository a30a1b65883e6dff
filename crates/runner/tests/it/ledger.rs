//! The ledger from outside, the same tests on every database. `model` tries what nobody thought of.

// Helpers of tests are not test functions themselves, and may stop a test all the same.
// A slice of one clone reads as what it is: what was read again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cloned_ref_to_slice_refs)]

/// Everything on PostgreSQL.
mod on_postgres;
/// Everything on SQLite, and what only a file can be.
mod on_sqlite;
/// What the model says is owed.
mod owed;
/// The service of the model.
mod service;
/// Several runners at once, and a server that goes away.
mod several;
/// Ledgers of every schema version.
mod versions;

use amie_usage::{ComputeAttributes, ComputeUsageRecord, Decimal, UsageType, wire};
use runner::ledger::{
    Binding, Candidate, Chunk, Confirmed, Find, HeldRun, Ingested, LeaseRequest, Leased, Ledger, LedgerError,
    Person, RecordOutcome, Recovered, Settled, Sighting, SourceFacts, State,
};
use std::sync::Arc;

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ADMIN: Person<'static> = Person { by: "root", why: "asked the user" };

pub(crate) fn binding() -> Binding {
    Binding { endpoint: "https://usage.example/api/v1".into(), site: "EXAMPLE".into() }
}

/// A place for a ledger of a test.
pub(crate) trait Home: Sized {
    /// An empty place; `None` where this machine has none.
    fn find() -> Option<Self>;

    /// Opens the ledger there as a runner does.
    fn open(&self, now: i64) -> Result<Box<dyn Ledger>, LedgerError>;

    /// So much time passes that every lease is over.
    fn leases_end(&self) {}

    /// An empty place where it does not matter whether it is a new one.
    fn find_used() -> Option<Self> {
        Self::find()
    }

    /// Nobody needs it any more: it may be emptied and found again.
    fn give_back(self) {}
}

/// A ledger that can crash.
pub(crate) struct Site<H> {
    pub(crate) home: H,
    ledger: Option<Box<dyn Ledger>>,
}

impl<H: Home> Site<H> {
    pub(crate) fn new() -> Option<Self> {
        H::find().map(Self::at)
    }

    pub(crate) fn at(home: H) -> Self {
        let ledger = Some(home.open(NOW).unwrap());
        Self { home, ledger }
    }

    pub(crate) fn ledger(&mut self) -> &mut dyn Ledger {
        self.ledger.as_mut().unwrap().as_mut()
    }

    /// The process dies and another one starts, so much later that no lease is left.
    pub(crate) fn crash(&mut self, now: i64) -> Recovered {
        self.ledger = None;
        self.home.leases_end();
        let mut ledger = self.home.open(now).unwrap();
        let recovered = ledger.recover(now).unwrap();
        self.ledger = Some(ledger);
        recovered
    }

    pub(crate) fn sound(&mut self) {
        assert_eq!(self.ledger().verify().unwrap(), []);
    }

    pub(crate) fn take(&mut self, runs: &[Run]) -> Ingested {
        let report = self.ledger().ingest(&chunk(runs), NOW).unwrap();
        self.sound();
        report
    }

    pub(crate) fn lease(&mut self, now: i64) -> Option<Leased> {
        let leased = self.ledger().lease(&LeaseRequest::new(UsageType::Compute, now)).unwrap();
        self.sound();
        leased
    }

    /// Leases everything and settles it with one outcome.
    pub(crate) fn send(&mut self, outcome: &RecordOutcome, now: i64) -> Settled {
        let leased = self.lease(now).unwrap();
        let outcomes = vec![outcome.clone(); leased.records.len()];
        let settled = self.ledger().settle(leased.batch, &outcomes, "HTTP 200", now).unwrap();
        self.sound();
        settled
    }

    pub(crate) fn load(&mut self, run: &Run, charge: &str, at: i64) -> Confirmed {
        let confirmed = self.ledger().confirm(&[loaded(run, charge, at)], at).unwrap();
        self.sound();
        confirmed
    }

    pub(crate) fn state(&mut self, run: &Run) -> State {
        self.ledger().find(&Find::Key(run.key.clone()), 1).unwrap()[0].state
    }

    pub(crate) fn words(&mut self, run: &Run) -> Vec<&'static str> {
        self.ledger().history(&run.key).unwrap().iter().map(|entry| entry.what.as_str()).collect()
    }
}

/// A run as mapping offers it.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) key: String,
    pub(crate) usage_type: UsageType,
    pub(crate) resource: Arc<str>,
    pub(crate) id: String,
    pub(crate) submit: i64,
    pub(crate) user: Arc<str>,
    pub(crate) project: Arc<str>,
    pub(crate) charge: Decimal,
    pub(crate) source: u128,
    pub(crate) facts: SourceFacts,
    whole: bool,
}

impl Run {
    pub(crate) fn new(number: u32, charge: &str) -> Self {
        Self {
            key: format!("slurm/c1/{number:08}/1700000000"),
            usage_type: UsageType::Compute,
            resource: "cpu.example".into(),
            id: number.to_string(),
            submit: 1_700_000_000,
            user: "alice".into(),
            project: "TG-1".into(),
            charge: charge.parse().unwrap(),
            source: 1,
            facts: SourceFacts { start: 1_700_000_100, end: 1_700_003_700, elapsed: 3_600, requeued: false },
            whole: false,
        }
    }

    /// The source says something else now.
    pub(crate) fn restated(&self, charge: &str) -> Self {
        let mut run = Self { charge: charge.parse().unwrap(), source: self.source + 1, ..self.clone() };
        run.facts.end += 60;
        run.facts.elapsed += 60;
        run
    }

    /// The same run with a record that is whole, as zero under an old identity is made of it.
    pub(crate) fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Its record: as it is sent where it is whole, else as much as most tests look at (and as ledgers of old versions have).
    pub(crate) fn payload(&self) -> String {
        if !self.whole {
            return format!(
                r#"{{"LocalRecordID":"{}","Username":"{}","LocalProjectID":"{}","Charge":"{}"}}"#,
                self.id, self.user, self.project, self.charge
            );
        }
        if self.usage_type != UsageType::Compute {
            return format!(
                r#"{{"LocalRecordID":"{}","Username":"{}","LocalProjectID":"{}","Resource":"{}","Charge":"{}","LocalReference":"{}"}}"#,
                self.id, self.user, self.project, self.resource, self.charge, self.key
            );
        }
        let record = ComputeUsageRecord {
            username: (&*self.user).into(),
            local_project_id: (&*self.project).into(),
            local_record_id: (&*self.id).into(),
            resource: (&*self.resource).into(),
            submit_time: self.submit,
            start_time: self.facts.start,
            end_time: self.facts.end,
            charge: self.charge,
            attributes: ComputeAttributes { node_count: 1, ..ComputeAttributes::default() },
            parent_record_id: None,
            local_reference: Some((&*self.key).into()),
        };
        let mut bytes = Vec::new();
        wire::render_compute(&record, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn candidate(&self, payloads: &mut Vec<u8>, line: u64) -> Candidate {
        let start = payloads.len();
        payloads.extend_from_slice(self.payload().as_bytes());
        Candidate {
            key: self.key.clone(),
            usage_type: self.usage_type,
            resource: Arc::clone(&self.resource),
            local_record_id: self.id.clone(),
            submit: self.submit,
            username: Arc::clone(&self.user),
            project: Arc::clone(&self.project),
            charge: self.charge,
            payload: start..payloads.len(),
            source_digest: self.source,
            facts: self.facts,
            only_if_sent: self.charge.is_zero(),
            file: 0,
            line,
        }
    }
}

pub(crate) fn chunk(runs: &[Run]) -> Chunk {
    let mut chunk = Chunk {
        source: "slurm".into(),
        files: vec!["sacct.txt".into()],
        rules_digest: 1,
        ..Chunk::default()
    };
    for (line, run) in (1..).zip(runs) {
        let candidate = run.candidate(&mut chunk.payloads, line);
        chunk.records.push(candidate);
    }
    chunk
}

pub(crate) fn held(run: &Run, reason: &str, with_candidate: bool) -> Chunk {
    let mut chunk = chunk(&[]);
    let candidate = with_candidate.then(|| run.candidate(&mut chunk.payloads, 1));
    chunk.held.push(HeldRun {
        key: run.key.clone(),
        usage_type: run.usage_type,
        reason: reason.into(),
        detail: "look at it".into(),
        run: format!(r#"{{"job_id":"{}"}}"#, run.id),
        source_digest: run.source,
        candidate,
        file: 0,
        line: 1,
    });
    chunk
}

pub(crate) fn loaded(run: &Run, charge: &str, at: i64) -> Sighting {
    Sighting::Loaded {
        usage_type: run.usage_type,
        resource: run.resource.to_string(),
        local_record_id: run.id.clone(),
        submit: Some(run.submit),
        charge: charge.parse().ok(),
        charge_places: None,
        loaded_at: Some(at),
    }
}

pub(crate) fn failed(run: &Run, error: &str, id: &str, at: Option<i64>) -> Sighting {
    Sighting::Failed {
        usage_type: run.usage_type,
        resource: run.resource.to_string(),
        local_record_id: run.id.clone(),
        submit: Some(run.submit),
        error: error.into(),
        failed_id: Some(id.into()),
        local_reference: Some(run.key.clone()),
        processed_at: at,
    }
}

pub(crate) fn unknown() -> RecordOutcome {
    RecordOutcome::Unknown("timeout".into())
}
