//! The ledger in a SQLite file: the suite, and what only a file can be.

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

use super::{Home, NOW, Run, binding, chunk};
use runner::ledger::{Binding, Ledger, LedgerError, SqliteLedger};
use std::path::PathBuf;
use tempfile::TempDir;

/// Cases of the model: one takes some 50 ms in a debug build.
const CASES: u32 = 1_000;

/// Random actions of a case, at most.
const ACTIONS: usize = 80;

/// The whole ledger is verified after so many actions of the model, and at its end.
const VERIFY_EVERY: usize = 5;

/// True where several runners may work at once.
const SEVERAL: bool = false;

type Site = super::Site<File>;

/// A folder of its own.
pub(crate) struct File {
    _directory: TempDir,
    path: PathBuf,
}

impl Home for File {
    fn find() -> Option<Self> {
        // Memory where there is some: syncing a disk is not what these tests are about.
        let shared = std::path::Path::new("/dev/shm");
        let directory = if shared.is_dir() { TempDir::new_in(shared) } else { TempDir::new() }.unwrap();
        let path = directory.path().join("ledger.db");
        Some(Self { _directory: directory, path })
    }

    fn open(&self, now: i64) -> Result<Box<dyn Ledger>, LedgerError> {
        Ok(Box::new(SqliteLedger::open(&self.path, &binding(), now)?))
    }
}

#[test]
fn a_ledger_belongs_to_one_service_and_one_runner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let first = SqliteLedger::open(&path, &binding(), NOW).unwrap();
    let second = SqliteLedger::open(&path, &binding(), NOW);
    assert!(matches!(second, Err(LedgerError::Busy { .. })), "{second:?}");
    // Questions may be asked meanwhile, and nothing else.
    let mut reader = SqliteLedger::open_reader(&path).unwrap();
    assert_eq!((reader.binding(), reader.totals().unwrap().held_total), (&binding(), 0));
    let refused = reader.ingest(&chunk(&[Run::new(1, "1")]), NOW);
    assert!(matches!(refused, Err(LedgerError::ReadOnly { .. })), "{refused:?}");
    drop(first);
    let other = Binding { site: "OTHER".into(), ..binding() };
    let error = SqliteLedger::open(&path, &other, NOW).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("EXAMPLE") && text.contains("OTHER") && text.contains("Name another"), "{text}");
    assert!(SqliteLedger::open(&path, &binding(), NOW).is_ok());
    assert!(matches!(SqliteLedger::open_reader(&path.join("no")), Err(LedgerError::Io { .. })));
}

#[test]
fn what_is_no_ledger_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is not a database, and it is longer than a header ".repeat(40)).unwrap();
    let error = SqliteLedger::open(&text, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");
    let nowhere = directory.path().join("no/such/place.db");
    let error = SqliteLedger::open(&nowhere, &binding(), NOW).unwrap_err();
    assert!(error.to_string().contains("no/such"), "{error}");

    // A damaged page is found, and said.
    let path = directory.path().join("ledger.db");
    let mut ledger = SqliteLedger::open(&path, &binding(), NOW).unwrap();
    let runs: Vec<Run> = (0..500).map(|number| Run::new(number, "1")).collect();
    ledger.ingest(&chunk(&runs), NOW).unwrap();
    drop(ledger);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..64].fill(0xA5);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = match SqliteLedger::open(&path, &binding(), NOW) {
        Err(error) => error,
        Ok(mut ledger) => ledger.ingest(&chunk(&runs), NOW).unwrap_err(),
    };
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("backup"), "{error}");
}

#[test]
fn a_log_whose_ledger_was_moved_away_is_refused_and_not_put_into_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let log = directory.path().join("ledger.db-wal");
    let mut ledger = SqliteLedger::open(&path, &binding(), NOW).unwrap();
    ledger.ingest(&chunk(&[Run::new(1, "1")]), NOW).unwrap();
    // As a kill leaves it; then somebody moves the database alone away.
    let left = std::fs::read(&log).unwrap();
    assert!(!left.is_empty());
    drop(ledger);
    std::fs::write(&log, &left).unwrap();
    std::fs::rename(&path, directory.path().join("elsewhere.db")).unwrap();
    for opened in [SqliteLedger::open(&path, &binding(), NOW), SqliteLedger::open_reader(&path)] {
        let text = opened.unwrap_err().to_string();
        for part in ["ledger.db-wal", "put the ledger back beside it", "move"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
    assert!(!path.exists(), "nothing was made");
    assert_eq!(std::fs::read(&log).unwrap(), left, "and the log is as it was");
    // Back in its place, all is there; a log that is empty belongs to nobody.
    std::fs::rename(directory.path().join("elsewhere.db"), &path).unwrap();
    let ledger = SqliteLedger::open(&path, &binding(), NOW).unwrap();
    assert_eq!(ledger.totals().unwrap().states.len(), 1);
    drop(ledger);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(directory.path().join("ledger.db.witness")).unwrap();
    std::fs::write(&log, "").unwrap();
    assert!(SqliteLedger::open(&path, &binding(), NOW).is_ok());
}
