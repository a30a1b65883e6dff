//! Ledgers of every schema version that ever was (`fixtures/ledger`), opened by this build: nothing in them is lost, and work
//! goes on in them.

use super::on_postgres::Database;
use super::{ADMIN, Home, NOW, Run, binding, chunk, failed, held, loaded, unknown};
use crate::support::fixtures;
use amie_usage::UsageType;
use runner::ledger::{
    Carried, Chunk, Find, HoldEnd, LeaseRequest, Ledger, LedgerError, PostgresLedger, Progress,
    QuarantinedText, RecordOutcome, SqliteLedger, State,
};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    fixtures().join("ledger")
}

/// Files of one database, by version.
fn of_every_version(prefix: &str, ending: &str) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = (1..)
        .map(|version| folder().join(format!("{prefix}-{version}.{ending}")))
        .take_while(|path| path.exists())
        .collect();
    assert!(!paths.is_empty(), "no {prefix} ledger in {}", folder().display());
    paths
}

/// The states of runs 1 to 9 in every fixture, as [`fill`] leaves them.
const STATES: [State; 9] = [
    State::Loaded,
    State::Accepted,
    State::Rejected,
    State::Unknown,
    State::Failed,
    State::Sending,
    State::Pending,
    State::Held,
    State::Superseded,
];

fn runs() -> Vec<Run> {
    (1..=9).map(|number| Run::new(number, &format!("{number}.25"))).collect()
}

/// A row in every state, and something in every table.
fn fill(ledger: &mut dyn Ledger) {
    let runs = runs();
    let mut first: Chunk = chunk(&runs[..7]);
    first.progress = Some(Progress { path: "sacct.txt".into(), offset: 4_096, frames: 7, complete: false });
    first.carried =
        vec![Carried { point: Carried::END.into(), after: "20261101".into(), state: vec![1, 2, 3] }];
    first.quarantined = vec![QuarantinedText {
        reason: "columns".into(),
        detail: "18 of 19".into(),
        text: b"a|b".to_vec(),
        file: 0,
        line: 3,
    }];
    ledger.ingest(&first, NOW).unwrap();
    ledger.ingest(&held(&runs[7], "unknown-project", false), NOW).unwrap();
    ledger.ingest(&held(&runs[8], "max-charge", true), NOW).unwrap();
    ledger.close_holds(&[runs[8].key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    let request =
        |records| LeaseRequest { max_records: records, ..LeaseRequest::new(UsageType::Compute, NOW) };
    let leased = ledger.lease(&request(5)).unwrap().unwrap();
    let accepted = RecordOutcome::Accepted;
    let outcomes = [
        accepted.clone(),
        accepted.clone(),
        RecordOutcome::Refused("no such user".into()),
        unknown(),
        accepted,
    ];
    ledger.settle(leased.batch, &outcomes, "HTTP 200", NOW).unwrap();
    let sightings = [loaded(&runs[0], "1.25", NOW), failed(&runs[4], "no allocation", "7", Some(NOW))];
    ledger.confirm(&sightings, NOW).unwrap();
    // A newer version waits behind the accepted one; rules drifted on the loaded one.
    ledger.ingest(&chunk(&[runs[1].restated("20")]), NOW).unwrap();
    ledger.ingest(&chunk(&[Run { charge: "9".parse().unwrap(), ..runs[0].clone() }]), NOW).unwrap();
    let sending = LeaseRequest { resend_unknown: false, ..request(1) };
    assert_eq!(ledger.lease(&sending).unwrap().unwrap().records[0].key, runs[5].key);
    check(ledger);
}

fn check(ledger: &dyn Ledger) {
    assert_eq!(ledger.verify().unwrap(), []);
    for (run, state) in runs().iter().zip(STATES) {
        let rows = ledger.find(&Find::Key(run.key.clone()), 1).unwrap();
        assert_eq!(rows[0].state, state, "{}", run.key);
        assert!(!ledger.history(&run.key).unwrap().is_empty());
    }
    let totals = ledger.totals().unwrap();
    assert_eq!((totals.held_total, totals.quarantined_open), (1, 1));
    let owed: Vec<String> = totals
        .charges
        .iter()
        .filter(|total| [State::Pending, State::Accepted, State::Loaded].contains(&total.state))
        .map(|total| total.charge.to_string())
        .collect();
    assert_eq!(owed, ["7.25", "2.25", "1.25"]);
    assert_eq!(ledger.progress("slurm", "sacct.txt").unwrap().unwrap().offset, 4_096);
    assert_eq!(ledger.payload(&runs()[6].key).unwrap(), Some(runs()[6].payload().into_bytes()));
}

/// An old ledger is whole, and the nights after go on in it.
fn goes_on(ledger: &mut dyn Ledger, what: &str) {
    check(ledger);
    assert_eq!(ledger.recover(NOW + 1).unwrap().records, 1, "{what}");
    let again = ledger.ingest(&chunk(&runs()[2..7]), NOW + 1).unwrap();
    assert_eq!(again.unchanged, 5, "{what}");
    let carried = Carried { point: Carried::END.into(), after: "20261102".into(), state: vec![4] };
    ledger.ingest(&Chunk { carried: vec![carried.clone()], ..chunk(&[]) }, NOW + 1).unwrap();
    assert_eq!(ledger.carried("slurm", Carried::END).unwrap(), Some(carried), "{what}");
    let leased = ledger.lease(&LeaseRequest::new(UsageType::Compute, NOW + 2)).unwrap().unwrap();
    assert_eq!(leased.records.len(), 3, "{what}: two of unknown fate and the pending one");
    let outcomes = vec![RecordOutcome::Accepted; 3];
    ledger.settle(leased.batch, &outcomes, "", NOW + 3).unwrap();
    assert_eq!(ledger.totals().unwrap().count(State::Accepted), 4, "{what}");
    assert_eq!(ledger.verify().unwrap(), [], "{what}");
}

/// A question that does not understand a schema says so, and what to do.
fn asked_only_when_up_to_date(error: Option<LedgerError>, newest: bool) {
    match error {
        None => assert!(newest),
        Some(error) => {
            assert!(!newest && matches!(error, LedgerError::OlderSchema { .. }), "{error}");
            assert!(error.to_string().contains("`amie-runner check` brings it up to date"), "{error}");
        }
    }
}

#[test]
fn a_sqlite_ledger_of_every_version_is_opened_and_goes_on() {
    let files = of_every_version("sqlite", "db.gz");
    for (version, file) in files.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let mut bytes = Vec::new();
        let packed = std::fs::File::open(file).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        std::fs::write(&path, bytes).unwrap();
        asked_only_when_up_to_date(SqliteLedger::open_reader(&path).err(), version + 1 == files.len());
        let mut ledger = SqliteLedger::open(&path, &binding(), NOW).unwrap();
        goes_on(&mut ledger, &file.display().to_string());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    drop(SqliteLedger::open(&path, &binding(), NOW).unwrap());
    let newest: usize = rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(files.len(), newest, "the newest schema has no ledger in fixtures/ledger: see `make` here");
}

#[test]
fn a_postgresql_ledger_of_every_version_is_opened_and_goes_on() {
    let files = of_every_version("postgres", "sql");
    for (version, file) in files.iter().enumerate() {
        let Some(home) = Database::find() else { return };
        let mut psql = home.server.as_role(&home.name);
        let restored = psql.arg("-f").arg(file).stdout(Stdio::null()).status().unwrap();
        assert!(restored.success(), "{}", file.display());
        home.leases_end();
        asked_only_when_up_to_date(
            PostgresLedger::open_reader(&home.address).err(),
            version + 1 == files.len(),
        );
        let mut ledger = PostgresLedger::open(&home.address, &binding(), NOW).unwrap();
        goes_on(&mut ledger, &file.display().to_string());
        let newest: usize = home.sql("SELECT value FROM meta WHERE name = 'schema_version'").parse().unwrap();
        assert_eq!(
            files.len(),
            newest,
            "the newest schema has no ledger in fixtures/ledger: see `make` here"
        );
    }
}

/// Makes the fixtures of the newest schema: `cargo test -p runner --test it -- --ignored versions::make`
#[test]
#[ignore = "writes into fixtures/, once for each new schema"]
fn make() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let mut ledger = SqliteLedger::open(&path, &binding(), NOW).unwrap();
    fill(&mut ledger);
    drop(ledger);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM").unwrap();
    drop(connection);
    // What an earlier build made stays as it is.
    if let Ok(packed) = std::fs::File::create_new(folder().join(format!("sqlite-{version}.db.gz"))) {
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::best());
        packed.write_all(&std::fs::read(&path).unwrap()).unwrap();
        packed.finish().unwrap();
    }

    let home = Database::find().expect("PostgreSQL");
    let mut ledger = home.open(NOW).unwrap();
    fill(ledger.as_mut());
    drop(ledger);
    let dump = Command::new("pg_dump")
        .args(["--no-owner", "--no-privileges", "-U", "postgres", "-d", &home.name])
        .env("PGHOST", &home.server.folder)
        .env("PGPORT", home.server.port.to_string())
        .output()
        .unwrap();
    assert!(dump.status.success());
    // Commands of newer psql only, which guard against a server that is not trusted.
    let text: String = String::from_utf8(dump.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(|line| format!("{line}\n"))
        .collect();
    let version = home.sql("SELECT value FROM meta WHERE name = 'schema_version'");
    if let Ok(mut file) = std::fs::File::create_new(folder().join(format!("postgres-{version}.sql"))) {
        file.write_all(text.as_bytes()).unwrap();
    }
}
