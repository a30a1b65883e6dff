//! What only shows from inside: sabotage by triggers, durability as another connection sees it, query plans, damage.

use super::*;
use crate::ledger::row::{Identity, PayloadRef, Sent, Wanted};
use crate::ledger::store::Rows;
use crate::ledger::{
    Candidate, Chunk, LeaseRequest, Ledger, Progress, RecordOutcome, Row, Sighting, SourceFacts, State,
    envelope_bytes,
};
use amie_usage::UsageType;
use rusqlite::ffi;
use tempfile::TempDir;

const NOW: i64 = 1_800_000_000;

fn binding() -> Binding {
    Binding { endpoint: "https://usage.example".into(), site: "EXAMPLE".into() }
}

fn fresh() -> (TempDir, SqliteLedger) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&directory.path().join("ledger.db"), &binding(), NOW).unwrap();
    (directory, ledger)
}

fn candidate(number: u32, payloads: &mut Vec<u8>) -> Candidate {
    let start = payloads.len();
    payloads.extend_from_slice(format!("{{\"id\":{number}}}").as_bytes());
    Candidate {
        key: format!("k{number:06}"),
        usage_type: UsageType::Compute,
        resource: "cpu".into(),
        local_record_id: number.to_string(),
        submit: 1,
        username: "u".into(),
        project: "p".into(),
        charge: Decimal::new(15, 1),
        payload: start..payloads.len(),
        source_digest: 1,
        facts: SourceFacts::default(),
        only_if_sent: false,
        file: 0,
        line: 1,
    }
}

use amie_usage::Decimal;

fn chunk(numbers: std::ops::Range<u32>) -> Chunk {
    let mut chunk = Chunk { source: "s".into(), files: vec!["f".into()], ..Chunk::default() };
    for number in numbers {
        let one = candidate(number, &mut chunk.payloads);
        chunk.records.push(one);
    }
    chunk
}

fn count(ledger: &SqliteLedger, sql: &str) -> i64 {
    // Another connection: it sees what is committed and nothing else.
    let other = Connection::open(&ledger.store.path).unwrap();
    other.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn rows_and_progress_are_stored_together_or_not_at_all() {
    for table in ["progress", "carried", "payload", "quarantine", "hold", "tally"] {
        let (_directory, mut ledger) = fresh();
        ledger
            .store
            .connection
            .execute_batch(&format!(
                "CREATE TRIGGER sabotage BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
            ))
            .unwrap();
        let mut all = chunk(0..60);
        all.progress = Some(Progress { path: "f".into(), offset: 9, frames: 1, complete: true });
        all.carried.push(crate::ledger::Carried { point: "p".into(), after: "f".into(), state: vec![1] });
        all.quarantined.push(crate::ledger::QuarantinedText {
            reason: "r".into(),
            detail: String::new(),
            text: b"x".to_vec(),
            file: 0,
            line: 1,
        });
        all.held.push(crate::ledger::HeldRun {
            key: "h".into(),
            usage_type: UsageType::Compute,
            reason: "r".into(),
            detail: String::new(),
            run: "{}".into(),
            source_digest: 1,
            candidate: None,
            file: 0,
            line: 1,
        });
        assert!(ledger.ingest(&all, NOW).is_err(), "{table}");
        for stored in [
            "record",
            "identity",
            "progress",
            "carried",
            "chunk",
            "payload",
            "event",
            "hold",
            "quarantine",
            "name",
        ] {
            assert_eq!(
                count(&ledger, &format!("SELECT count(*) FROM {stored}")),
                0,
                "{stored} in spite of {table}"
            );
        }
        // And the ledger goes on as if nothing had been tried.
        ledger.store.connection.execute_batch("DROP TRIGGER sabotage").unwrap();
        assert_eq!(ledger.ingest(&all, NOW).unwrap().inserted, 60);
        assert_eq!(count(&ledger, "SELECT offset FROM progress"), 9);
        assert_eq!(ledger.verify().unwrap(), []);
    }
}

#[test]
fn the_intent_to_send_is_committed_when_lease_returns() {
    let (_directory, mut ledger) = fresh();
    ledger.ingest(&chunk(0..3), NOW).unwrap();
    let leased = ledger.lease(&LeaseRequest::new(UsageType::Compute, NOW)).unwrap().unwrap();
    assert_eq!(leased.records.len(), 3);
    assert_eq!(count(&ledger, "SELECT count(*) FROM record WHERE state = 2"), 3);
    assert_eq!(count(&ledger, "SELECT count(*) FROM event WHERE what = 'leased'"), 1);
    // Power may fail at any moment after: the log is synced at each commit.
    let level: i64 =
        ledger.store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    let mode: String =
        ledger.store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((level, mode.as_str()), (2, "wal"));
}

#[test]
fn happy_paths_have_one_event_a_batch_and_payloads_go_when_all_is_loaded() {
    let (_directory, mut ledger) = fresh();
    ledger.ingest(&chunk(0..200), NOW).unwrap();
    ledger.ingest(&chunk(0..200), NOW).unwrap();
    assert_eq!(count(&ledger, "SELECT count(*) FROM chunk"), 1, "a chunk without news leaves nothing");
    let leased = ledger.lease(&LeaseRequest::new(UsageType::Compute, NOW)).unwrap().unwrap();
    ledger.settle(leased.batch, &vec![RecordOutcome::Accepted; 200], "", NOW).unwrap();
    let load = |number: u32| Sighting::Loaded {
        usage_type: UsageType::Compute,
        resource: "cpu".into(),
        local_record_id: number.to_string(),
        submit: Some(1),
        charge: Some(Decimal::new(15, 1)),
        charge_places: None,
        loaded_at: Some(NOW),
    };
    let all: Vec<Sighting> = (0..200).map(load).collect();
    ledger.confirm(all.get(..199).unwrap(), NOW).unwrap();
    assert_eq!(count(&ledger, "SELECT count(*) FROM payload"), 1);
    ledger.confirm(&all, NOW).unwrap();
    assert_eq!(count(&ledger, "SELECT count(*) FROM payload"), 0);
    assert_eq!(count(&ledger, "SELECT count(*) FROM event"), 5, "recorded, leased, accepted, loaded, loaded");
    assert_eq!(ledger.verify().unwrap(), []);
}

#[test]
fn a_chunk_keeps_the_bytes_of_its_news_only() {
    let (_directory, mut ledger) = fresh();
    ledger.ingest(&chunk(0..100), NOW).unwrap();
    ledger.ingest(&chunk(0..101), NOW).unwrap();
    assert_eq!(count(&ledger, "SELECT bytes FROM payload WHERE chunk = 2"), "{\"id\":100}".len() as i64);
}

#[test]
fn events_are_only_added() {
    let (_directory, mut ledger) = fresh();
    ledger.ingest(&chunk(0..1), NOW).unwrap();
    for sql in ["UPDATE event SET at = 0", "DELETE FROM event"] {
        let error = ledger.store.connection.execute_batch(sql).unwrap_err();
        assert!(error.to_string().contains("only added"), "{error}");
    }
}

#[test]
fn sending_and_listing_use_the_partial_indexes() {
    let (_directory, ledger) = fresh();
    let ready = |state| (rows::ready(state), "record_by_state", vec!["0", "", "10"]);
    for (sql, index, wanted) in [
        ready(State::Pending),
        ready(State::Unknown),
        ready(State::Rejected),
        ready(State::Failed),
        (rows::QUIET.to_owned(), "record_waiting", vec!["1", "0", "10"]),
    ] {
        let sql = format!("EXPLAIN QUERY PLAN SELECT key {sql}");
        let mut statement = ledger.store.connection.prepare(&sql).unwrap();
        let plan: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(wanted), |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[test]
fn failures_of_the_file_have_names_and_advice() {
    let path = Path::new("/var/lib/ledger.db");
    let failed = |code: i32| {
        Fail::Sql(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("words".into()))).at(path)
    };
    assert!(matches!(failed(ffi::SQLITE_FULL), LedgerError::DiskFull { .. }));
    assert!(matches!(failed(ffi::SQLITE_READONLY), LedgerError::ReadOnly { .. }));
    assert!(matches!(failed(ffi::SQLITE_CANTOPEN), LedgerError::ReadOnly { .. }));
    assert!(matches!(failed(ffi::SQLITE_CORRUPT), LedgerError::Corrupt { .. }));
    assert!(matches!(failed(ffi::SQLITE_NOTADB), LedgerError::NotALedger { .. }));
    assert!(matches!(failed(ffi::SQLITE_BUSY), LedgerError::Busy { .. }));
    assert!(matches!(failed(ffi::SQLITE_IOERR), LedgerError::Database { .. }));
    for code in [ffi::SQLITE_FULL, ffi::SQLITE_READONLY, ffi::SQLITE_CORRUPT, ffi::SQLITE_IOERR] {
        assert!(failed(code).to_string().starts_with("/var/lib/ledger.db: "), "{}", failed(code));
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let (_directory, mut ledger) = fresh();
    ledger.ingest(&chunk(0..10), NOW).unwrap();
    let pages: i64 =
        ledger.store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    ledger.store.connection.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(())).unwrap();
    let error = ledger.ingest(&chunk(10..5_000), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::DiskFull { .. }), "{error}");
    ledger.store.connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
    assert_eq!(ledger.verify().unwrap(), []);
    let report = ledger.ingest(&chunk(0..5_000), NOW).unwrap();
    assert_eq!((report.unchanged, report.inserted), (10, 4_990));
}

#[test]
fn newer_schemas_and_other_databases_are_refused() {
    let (directory, ledger) = fresh();
    ledger.store.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    let path = directory.path().join("ledger.db");
    let error = SqliteLedger::open(&path, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::NewerSchema { found: 99, known: 4, .. }), "{error}");
    assert!(matches!(SqliteLedger::open_reader(&path), Err(LedgerError::NewerSchema { .. })));

    let path = directory.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(SqliteLedger::open(&path, &binding(), NOW), Err(LedgerError::NotALedger { .. })));
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1, "nothing was put into it");
}

/// A ledger with a row in every state.
fn varied() -> (TempDir, SqliteLedger) {
    let (directory, mut ledger) = fresh();
    ledger.ingest(&chunk(0..8), NOW).unwrap();
    let request = LeaseRequest {
        max_records: 6,
        max_bytes: 6 * 8 + 5 + envelope_bytes(UsageType::Compute),
        ..LeaseRequest::new(UsageType::Compute, NOW)
    };
    let leased = ledger.lease(&request).unwrap().unwrap();
    assert_eq!(leased.records.len(), 6);
    let outcomes = [
        RecordOutcome::Accepted,
        RecordOutcome::Accepted,
        RecordOutcome::Refused("r".into()),
        RecordOutcome::Unknown("u".into()),
        RecordOutcome::NotSent("n".into()),
        RecordOutcome::Accepted,
    ];
    ledger.settle(leased.batch, &outcomes, "", NOW).unwrap();
    ledger
        .confirm(
            &[Sighting::Loaded {
                usage_type: UsageType::Compute,
                resource: "cpu".into(),
                local_record_id: "0".into(),
                submit: Some(1),
                charge: Some(Decimal::new(15, 1)),
                charge_places: None,
                loaded_at: Some(NOW),
            }],
            NOW,
        )
        .unwrap();
    // A newer version behind an accepted one, and one row on the wire.
    let mut newer = chunk(1..2);
    newer.payloads.push(b' ');
    newer.records[0].payload.end += 1;
    newer.records[0].source_digest = 2;
    ledger.ingest(&newer, NOW).unwrap();
    let request = LeaseRequest { max_records: 1, resend_unknown: false, ..request };
    ledger.lease(&request).unwrap().unwrap();
    let mut held = chunk(0..0);
    held.held.push(crate::ledger::HeldRun {
        key: "h".into(),
        usage_type: UsageType::Compute,
        reason: "r".into(),
        detail: String::new(),
        run: "{}".into(),
        source_digest: 1,
        candidate: None,
        file: 0,
        line: 1,
    });
    held.files = vec!["f".into()];
    ledger.ingest(&held, NOW).unwrap();
    (directory, ledger)
}

#[test]
fn verify_finds_every_kind_of_damage() {
    let (_directory, ledger) = varied();
    assert_eq!(ledger.verify().unwrap(), []);
    drop(ledger);
    for damage in [
        "UPDATE record SET state = 6 WHERE key = 'k000001'",
        "UPDATE record SET state = 1 WHERE state = 3",
        "UPDATE record SET state = 4 WHERE state = 2",
        "UPDATE record SET flags = 0 WHERE state = 4",
        "UPDATE record SET charge = '9' WHERE key = 'k000007'",
        "UPDATE record SET waiting = 1 WHERE state = 4",
        "UPDATE record SET body = CAST(substr(body, 1, 16) || zeroblob(16) || substr(body, 33) AS BLOB) WHERE key = 'k000007'",
        "UPDATE record SET flags = flags | 8 WHERE key = 'k000007'",
        "DELETE FROM record WHERE key = 'k000007'",
        "DELETE FROM identity WHERE key = 'k000007'",
        "UPDATE identity SET key = 'k000006' WHERE key = 'k000007'",
        "DELETE FROM payload",
        "UPDATE chunk SET live = live + 1",
        "UPDATE batch SET waiting = waiting + 1",
        "UPDATE batch SET settled_at = 1",
        "UPDATE tally SET records = records + 1 WHERE state = 1",
        "UPDATE tally SET charge = '3' WHERE state = 6",
        "UPDATE hold SET closed_at = 1",
        "INSERT INTO event (at, what, key, detail) VALUES (1, 'loaded', 'k000007', '')",
        "INSERT INTO event (at, what, key, batch, detail) VALUES (1, 'refused', 'k000000', 1, '')",
    ] {
        let (_directory, ledger) = varied();
        assert!(ledger.store.connection.execute(damage, []).unwrap() > 0, "{damage}");
        let found = ledger.verify();
        assert!(!matches!(&found, Ok(faults) if faults.is_empty()), "not found: {damage}");
    }
    fn place(row: &mut Row) -> &mut PayloadRef {
        row.wanted.as_mut().unwrap().payload.as_mut().unwrap()
    }
    let edits: [(State, Edit); 8] = [
        (State::Pending, |row| place(row).chunk += 1),
        (State::Pending, |row| place(row).offset += 1),
        (State::Pending, |row| place(row).len -= 1),
        (State::Pending, |row| row.wanted.as_mut().unwrap().payload = None),
        (State::Pending, |row| row.wanted.as_mut().unwrap().identity.submit += 1),
        (State::Accepted, |row| row.sent.as_mut().unwrap().version = 7),
        (State::Accepted, |row| row.sent.as_mut().unwrap().charge = Decimal::new(7, 0)),
        (State::Accepted, |row| row.batch = Some(99)),
    ];
    for (number, (state, edit)) in edits.into_iter().enumerate() {
        let (_directory, ledger) = varied();
        let before = row_in(&ledger, state);
        let mut after = before.clone();
        edit(&mut after);
        ledger.store.put(Some(&before), &after).unwrap();
        assert_ne!(ledger.verify().unwrap(), [], "edit {number} was not found");
    }
}

type Edit = fn(&mut Row);

/// The first row in a state.
fn row_in(ledger: &SqliteLedger, state: State) -> Row {
    let rows = ledger.store.rows_after(None, "", 100).unwrap();
    rows.into_iter().find(|row| row.state == state).unwrap()
}

/// Whatever byte of a row is damaged, it is read as another row or refused by its key, and nothing panics.
#[test]
fn a_damaged_row_is_refused_by_its_key() {
    for (column, state) in [("body", State::Pending), ("course", State::Accepted)] {
        let (_directory, ledger) = varied();
        let key = row_in(&ledger, state).key;
        let connection = &ledger.store.connection;
        let stored: Vec<u8> = connection
            .query_row(&format!("SELECT {column} FROM record WHERE key = ?1"), [&key], |row| row.get(0))
            .unwrap();
        let read = |bytes: &[u8]| {
            let sql = format!("UPDATE record SET {column} = ?1 WHERE key = ?2");
            connection.execute(&sql, (bytes, &key)).unwrap();
            ledger.store.row(&key).map_err(|fail| ledger.store.explain(fail).to_string())
        };
        let mut damaged: Vec<Vec<u8>> = (0..stored.len()).map(|len| stored[..len].to_vec()).collect();
        damaged.push([&stored[..], &[0]].concat());
        for bytes in &damaged {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(&format!("\"{key}\"")), "{column} of {} bytes: {error}", bytes.len());
        }
        for at in 0..stored.len() {
            for other in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = stored.clone();
                bytes[at] = other;
                let _ = read(&bytes);
            }
        }
        assert!(read(&stored).is_ok());
    }
}

/// Only what differs is written: from any row to any other.
#[test]
fn a_row_that_becomes_any_other_is_read_back_as_that() {
    let (_directory, ledger) = varied();
    let mut rows = Vec::new();
    ledger
        .store
        .every_row(|row| {
            rows.push(Row { key: "k".into(), ..row });
            Ok(true)
        })
        .unwrap();
    assert_eq!(rows.len(), 9);
    let sent = Some(Sent { version: 7, charge: Decimal::new(15, 1), first_at: 1, last_at: 2 });
    let place = Some(PayloadRef { chunk: 1, offset: 2, len: 3 });
    let everything = Row {
        version: 9,
        source_digest: 5,
        sent,
        before: sent,
        sent_payload: place,
        resend: true,
        taken: true,
        drifted: true,
        on_hold: true,
        born: Some(4),
        batch: Some(5),
        confirm: Some(6),
        loaded: Some((7, Decimal::new(150, 2))),
        error: Some("words".into()),
        line: 8,
        ..rows.iter().find(|row| row.wanted.is_some()).unwrap().clone()
    };
    // Each that differs from it in one thing.
    let edits: [Edit; 22] = [
        |row| row.usage_type = UsageType::Storage,
        |row| row.version += 1,
        |row| row.source_digest += 1,
        |row| row.sent = None,
        |row| row.before = None,
        |row| row.sent_payload = None,
        |row| row.resend = false,
        |row| row.taken = false,
        |row| row.drifted = false,
        |row| row.on_hold = false,
        |row| row.born = None,
        |row| row.batch = None,
        |row| row.confirm = None,
        |row| row.loaded = None,
        |row| row.error = None,
        |row| row.file = "g".into(),
        |row| row.line += 1,
        |row| row.wanted.as_mut().unwrap().charge = Decimal::ZERO,
        |row| row.wanted.as_mut().unwrap().digest += 1,
        |row| row.wanted.as_mut().unwrap().facts.requeued = true,
        |row| row.wanted.as_mut().unwrap().payload = Some(PayloadRef { chunk: 1, offset: 2, len: 3 }),
        |row| (row.version, row.wanted) = (0, None),
    ];
    rows.extend(edits.map(|edit| {
        let mut row = everything.clone();
        edit(&mut row);
        assert_ne!(row, everything);
        row
    }));
    rows.push(everything);
    for from in &rows {
        for to in &rows {
            ledger.store.put(None, from).unwrap();
            ledger.store.put(Some(from), to).unwrap();
            assert_eq!(ledger.store.row("k").unwrap().as_ref(), Some(to));
            ledger.store.connection.execute("DELETE FROM record WHERE key = 'k'", []).unwrap();
        }
    }
}

/// `state IN (...)` in the condition of an index had both make a table in memory for every row.
#[test]
fn no_row_is_written_by_way_of_a_table_in_memory() {
    let (_directory, ledger) = fresh();
    for sql in [
        "UPDATE record SET state = 4, course = x'00' WHERE key = 'a'",
        "INSERT INTO record (key, state, usage_type, flags, body) VALUES ('a', 1, 0, 0, x'')",
    ] {
        let mut statement = ledger.store.connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
        let steps: Vec<String> =
            statement.query_map([], |row| row.get(1)).unwrap().map(Result::unwrap).collect();
        assert!(!steps.iter().any(|step| step.starts_with("OpenEphemeral")), "{sql}: {steps:?}");
    }
}

#[test]
fn verify_looks_at_the_bytes_that_were_sent_while_a_newer_version_waits() {
    let damages: [fn(&mut PayloadRef); 2] = [|place| place.chunk = 99, |place| place.offset = 9_999];
    for (number, damage) in damages.into_iter().enumerate() {
        let (_directory, mut ledger) = fresh();
        ledger.ingest(&chunk(1..2), NOW).unwrap();
        let leased = ledger.lease(&LeaseRequest::new(UsageType::Compute, NOW)).unwrap().unwrap();
        ledger.settle(leased.batch, &[RecordOutcome::Unknown("u".into())], "", NOW).unwrap();
        let mut newer = chunk(1..2);
        newer.payloads.push(b' ');
        newer.records[0].payload.end += 1;
        newer.records[0].source_digest = 2;
        ledger.ingest(&newer, NOW).unwrap();
        assert_eq!(ledger.verify().unwrap(), []);
        let before = row_in(&ledger, State::Unknown);
        let mut after = before.clone();
        damage(after.sent_payload.as_mut().unwrap());
        ledger.store.put(Some(&before), &after).unwrap();
        let found = ledger.verify().unwrap();
        assert!(found.iter().any(|fault| fault.about == "k000001"), "damage {number}: {found:?}");
    }
}

#[test]
fn verify_finds_a_row_that_an_index_has_lost() {
    for index in ["record_by_state", "record_waiting", "hold_open", "quarantine_open", "batch_waiting"] {
        let (_directory, mut ledger) = varied();
        let mut torn = chunk(0..0);
        torn.quarantined.push(crate::ledger::QuarantinedText {
            reason: "r".into(),
            detail: String::new(),
            text: b"x".to_vec(),
            file: 0,
            line: 1,
        });
        ledger.ingest(&torn, NOW).unwrap();
        assert_eq!(ledger.verify().unwrap(), [], "{index}");
        // As after a lost write of its page: the index is empty, and everything else is sound.
        let connection = &ledger.store.connection;
        connection.execute_batch("PRAGMA writable_schema = ON").unwrap();
        let sql: String = connection
            .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [index], |row| row.get(0))
            .unwrap();
        let (before, _) = sql.split_once(" WHERE ").unwrap();
        let page = "UPDATE sqlite_schema SET sql = ?1 WHERE name = ?2";
        connection.execute(page, (format!("{before} WHERE 0"), index)).unwrap();
        connection.execute_batch("PRAGMA writable_schema = RESET").unwrap();
        connection.execute_batch(&format!("REINDEX {index}")).unwrap();
        connection.execute_batch("PRAGMA writable_schema = ON").unwrap();
        connection.execute(page, (sql, index)).unwrap();
        connection.execute_batch("PRAGMA writable_schema = RESET").unwrap();
        let found = ledger.verify().unwrap();
        assert!(found.iter().any(|fault| fault.what.contains(index)), "{index}: {found:?}");
    }
}

#[test]
fn a_fault_of_many_sums_names_the_first_of_them() {
    let (_directory, mut ledger) = fresh();
    for from in 0..40 {
        ledger.ingest(&chunk(from..from + 1), NOW).unwrap();
    }
    ledger.store.connection.execute("UPDATE chunk SET live = live + 1", []).unwrap();
    let found = ledger.verify().unwrap();
    let fault = found.iter().find(|fault| fault.about == "payload references").unwrap();
    assert!(fault.what.len() < 400, "{}", fault.what);
    assert!(fault.what.contains("chunk 1: kept 2, but the rows refer to 1"), "{}", fault.what);
    assert!(fault.what.contains("35 more"), "{}", fault.what);
}

/// What the fourth migration makes of every column, where each has a value of its own.
#[test]
fn the_columns_of_schema_3_are_read_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let connection = Connection::open(&path).unwrap();
    for script in &MIGRATIONS[..3] {
        connection.execute_batch(script).unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO meta (name, value) VALUES ('endpoint', 'https://usage.example'), ('site', 'EXAMPLE'); \
             INSERT INTO name (id, text) VALUES (31, 'f'), (32, 'cpu'), (33, 'alice'), (34, 'TG-1'); \
             INSERT INTO record VALUES ('a', 4, 1, 3, x'000000000000000000000000000000ff', 14, 31, 7, 32, '91', 1000, 33, 34, \
               '12.5', x'0000000000000000000000000000fe00', 1100, -1200, 100, 1, 5, 6, 8, 9, \
               2, '11.25', 2001, 2002, 15, 16, 17, 1, '10', 1001, 1002, 18, 19, 3001, '11.2', 'words'); \
             INSERT INTO record (key, state, usage_type, version, source_digest, flags, file, line) \
               VALUES ('b', 0, 0, 0, x'00000000000000000000000000000001', 8, 31, 1); \
             PRAGMA application_id = 1095584069; PRAGMA user_version = 3;",
        )
        .unwrap();
    drop(connection);
    let ledger = SqliteLedger::open(&path, &binding(), NOW).unwrap();
    let blank =
        |key: &str, usage_type, digest, line| Row::blank(key.into(), usage_type, digest, "f".into(), line);
    let place = |chunk, offset, len| Some(PayloadRef { chunk, offset, len });
    let full = Row {
        state: State::Accepted,
        version: 3,
        wanted: Some(Wanted {
            identity: Identity { resource: "cpu".into(), local_record_id: "91".into(), submit: 1000 },
            username: "alice".into(),
            project: "TG-1".into(),
            charge: Decimal::new(125, 1),
            digest: 0xfe00,
            facts: SourceFacts { start: 1100, end: -1200, elapsed: 100, requeued: true },
            payload: place(5, 6, 8),
        }),
        born: Some(9),
        sent: Some(Sent { version: 2, charge: Decimal::new(1125, 2), first_at: 2001, last_at: 2002 }),
        sent_payload: place(15, 16, 17),
        before: Some(Sent { version: 1, charge: Decimal::new(10, 0), first_at: 1001, last_at: 1002 }),
        batch: Some(18),
        confirm: Some(19),
        loaded: Some((3001, Decimal::new(112, 1))),
        error: Some("words".into()),
        taken: true,
        drifted: true,
        on_hold: true,
        ..blank("a", UsageType::Storage, 0xff, 7)
    };
    let empty = Row { on_hold: true, ..blank("b", UsageType::Compute, 1, 1) };
    assert_eq!(ledger.store.rows_after(None, "", 9).unwrap(), [full.clone(), empty]);
    assert_eq!(ledger.store.quiet(UsageType::Storage, 2002, 9).unwrap(), [full]);
    assert_eq!(ledger.store.quiet(UsageType::Storage, 2001, 9).unwrap(), []);
}
