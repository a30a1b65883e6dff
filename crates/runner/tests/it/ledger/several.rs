//! Several runners on one PostgreSQL ledger: leases by its clock, takeovers, a runner that wakes too late; logging in; a
//! server that goes away at every moment that matters.

use super::on_postgres::Database;
use super::{Home, NOW, Run, Site, binding, chunk};
use crate::postgres_server::Server;
use amie_usage::UsageType;
use runner::ledger::{
    Address, BatchId, Binding, Find, LeaseRequest, Ledger, LedgerError, PostgresLedger, RecordOutcome,
    Recovered, State,
};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

fn request(seconds: u32) -> LeaseRequest {
    LeaseRequest { lease_seconds: seconds, ..LeaseRequest::new(UsageType::Compute, NOW) }
}

fn accepted(records: usize) -> Vec<RecordOutcome> {
    vec![RecordOutcome::Accepted; records]
}

#[test]
fn runners_side_by_side_take_each_record_once() {
    let Some(mut site) = Site::<Database>::new() else { return };
    let home = &site.home;
    let workers: Vec<_> = thread::scope(|scope| {
        let work = |half: u32| {
            let mut ledger = home.open(NOW).unwrap();
            // Both offer the middle third; each key becomes one row.
            let runs: Vec<Run> = (half * 200..half * 200 + 400).map(|number| Run::new(number, "1")).collect();
            let mut inserted = 0;
            for some in runs.chunks(40) {
                let report = ledger.ingest(&chunk(some), NOW).unwrap();
                assert_eq!(report.inserted + report.unchanged, some.len() as u64);
                inserted += report.inserted;
            }
            let mut keys = Vec::new();
            while let Some(leased) = ledger.lease(&LeaseRequest { max_records: 17, ..request(900) }).unwrap()
            {
                keys.extend(leased.records.iter().map(|record| record.key.clone()));
                ledger.settle(leased.batch, &accepted(leased.records.len()), "", NOW).unwrap();
            }
            (inserted, keys)
        };
        let handles: Vec<_> = (0..2).map(|half| scope.spawn(move || work(half))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(workers.iter().map(|(inserted, _)| inserted).sum::<u64>(), 600);
    let mut keys: Vec<&String> = workers.iter().flat_map(|(_, keys)| keys).collect();
    let sent = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((sent, keys.len()), (600, 600), "sent twice, or not at all");
    assert_eq!(site.ledger().totals().unwrap().count(State::Accepted), 600);
    site.sound();
}

#[test]
fn a_lease_is_taken_over_when_it_is_over_by_the_clock_of_the_database_and_a_late_settlement_is_refused() {
    let Some(mut site) = Site::<Database>::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    let paused = site.ledger().lease(&request(900)).unwrap().unwrap();
    let mut other = site.home.open(NOW).unwrap();
    // This host's clock is years off (NOW): it does not matter.
    assert_eq!(other.recover(NOW + 1_000_000).unwrap(), Recovered::default(), "the lease is not over");
    assert_eq!(other.lease(&request(900)).unwrap(), None);
    site.home.leases_end();
    assert_eq!(other.recover(NOW - 1_000_000).unwrap(), Recovered { batches: 1, records: 1 });
    let taken = other.lease(&request(900)).unwrap().unwrap();
    assert_eq!(taken.records, paused.records, "the same bytes again");
    // The first one wakes, with an answer to what it sent, and even with the wrong one.
    for outcome in [RecordOutcome::Accepted, RecordOutcome::NotSent("asleep".into())] {
        let late = site.ledger().settle(paused.batch, &[outcome], "", NOW);
        assert!(matches!(late, Err(LedgerError::SettledBefore(_))), "{late:?}");
    }
    assert_eq!(site.state(&run), State::Sending);
    other.settle(taken.batch, &accepted(1), "", NOW).unwrap();
    assert_eq!(site.state(&run), State::Accepted);
    site.sound();
    // A lease of no time is over at once.
    site.take(&[Run::new(2, "1")]);
    site.ledger().lease(&request(0)).unwrap().unwrap();
    assert_eq!(other.recover(NOW).unwrap().records, 1);
}

#[test]
fn one_change_at_a_time_and_questions_do_not_wait() {
    let Some(mut site) = Site::<Database>::new() else { return };
    site.take(&[Run::new(1, "1")]);
    let url = site.home.address.clone();
    let server = site.home.server;
    // Somebody holds the lock for two seconds.
    let sql = "BEGIN; LOCK TABLE change IN EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT";
    thread::scope(|scope| {
        let name = site.home.name.clone();
        let holder = scope.spawn(move || server.sql(&name, sql));
        while site
            .home
            .sql("SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation IS NOT NULL")
            != "1"
        {
            thread::sleep(Duration::from_millis(10));
        }
        let started = std::time::Instant::now();
        let reader = PostgresLedger::open_reader(&url).unwrap();
        assert_eq!(reader.totals().unwrap().count(State::Pending), 1);
        assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
        let report = site.ledger.as_mut().unwrap().ingest(&chunk(&[Run::new(2, "1")]), NOW).unwrap();
        assert_eq!(report.inserted, 1);
        assert!(started.elapsed() > Duration::from_millis(1_000), "it did not wait");
        holder.join().unwrap();
    });
}

/// Between us and the server: loses the connection around a commit.
struct Lossy {
    port: u16,
    mode: Arc<AtomicU8>,
}

const PASS: u8 = 0;
const LOSE_THE_COMMIT: u8 = 1;
const LOSE_THE_ANSWER: u8 = 2;

impl Lossy {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let shared = Arc::clone(&mode);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let mode = Arc::clone(&shared);
                thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                thread::spawn(move || forward(client, server, &mode));
            }
        });
        Self { port, mode }
    }
}

fn forward(mut client: TcpStream, mut server: TcpStream, mode: &AtomicU8) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..read];
        let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
        let lose = if commits { mode.swap(PASS, Ordering::SeqCst) } else { PASS };
        if lose == LOSE_THE_ANSWER {
            client.shutdown(Shutdown::Both).unwrap();
            server.write_all(bytes).unwrap();
            thread::sleep(Duration::from_millis(300));
        } else if lose == PASS && server.write_all(bytes).is_ok() {
            continue;
        }
        break;
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// A password file, and the address of a database by TCP with it.
fn by_network(
    home: &Database,
    host: &str,
    port: u16,
    password: &str,
    more: &str,
) -> (tempfile::TempDir, Address) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    fs::write(&file, format!("*:*:{}:amie:{password}\n", home.name)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let url = format!("postgres://amie@{host}:{port}/{}?passfile={}{more}", home.name, file.display());
    let address = Address::parse(&url, None).unwrap();
    (folder, address)
}

#[test]
fn a_connection_lost_in_a_commit_is_resolved_by_looking() {
    let Some(mut site) = Site::<Database>::new() else { return };
    let lossy = Lossy::start(site.home.server.port);
    let (_folder, address) = by_network(&site.home, "127.0.0.1", lossy.port, "correct horse", "");
    let mut ledger = PostgresLedger::open(&address, &binding(), NOW).unwrap();
    for (number, mode) in (1..).zip([LOSE_THE_COMMIT, LOSE_THE_ANSWER, LOSE_THE_COMMIT, LOSE_THE_ANSWER]) {
        lossy.mode.store(mode, Ordering::SeqCst);
        let report = ledger.ingest(&chunk(&[Run::new(number, "1")]), NOW).unwrap();
        assert_eq!(report.inserted, 1, "mode {mode}");
        assert_eq!(lossy.mode.load(Ordering::SeqCst), PASS, "nothing was lost");
        assert_eq!(site.home.sql("SELECT count(*) FROM record"), number.to_string(), "mode {mode}");
        assert_eq!(
            site.home.sql("SELECT count(*) FROM chunk"),
            number.to_string(),
            "mode {mode}: done twice"
        );
    }
    // The same where doing it twice would show at once: a batch is leased once and settled once.
    for mode in [LOSE_THE_COMMIT, LOSE_THE_ANSWER] {
        lossy.mode.store(mode, Ordering::SeqCst);
        let leased = ledger.lease(&LeaseRequest { max_records: 2, ..request(900) }).unwrap().unwrap();
        assert_eq!(leased.records.len(), 2, "mode {mode}");
        lossy.mode.store(mode, Ordering::SeqCst);
        assert_eq!(ledger.settle(leased.batch, &accepted(2), "", NOW).unwrap().accepted, 2, "mode {mode}");
    }
    assert_eq!(site.home.sql("SELECT count(*) FROM batch"), "2");
    site.sound();
}

#[test]
fn a_server_that_restarts_loses_nothing_and_one_that_stays_away_is_said_so() {
    let Some(server) = Server::start() else { return };
    let (name, url) = server.database();
    let address = Address::parse(&url, None).unwrap();
    let mut ledger = PostgresLedger::open(&address, &binding(), NOW).unwrap();
    ledger.ingest(&chunk(&[Run::new(1, "1"), Run::new(2, "1")]), NOW).unwrap();
    let leased = ledger.lease(&request(900)).unwrap().unwrap();
    // As after a crash of the server: the runner goes on with a new connection.
    server.down("QUIT");
    server.up();
    assert_eq!(ledger.settle(leased.batch, &accepted(2), "", NOW).unwrap().accepted, 2);
    assert_eq!(ledger.totals().unwrap().count(State::Accepted), 2);
    server.down("INT");
    let gone = ledger.ingest(&chunk(&[Run::new(3, "1")]), NOW).unwrap_err();
    assert!(matches!(gone, LedgerError::Unreachable { .. }), "{gone}");
    assert!(gone.to_string().contains("run again"), "{gone}");
    let gone = PostgresLedger::open(&address, &binding(), NOW).unwrap_err();
    assert!(matches!(gone, LedgerError::Unreachable { .. }), "{gone}");
    server.up();
    assert_eq!(ledger.ingest(&chunk(&[Run::new(3, "1")]), NOW).unwrap().inserted, 1);
    assert_eq!(server.sql(&name, "SELECT count(*) FROM record"), "3");
    assert_eq!(ledger.verify().unwrap(), []);
}

#[test]
fn a_runner_that_is_thrown_out_by_the_server_goes_on() {
    let Some(mut site) = Site::<Database>::new() else { return };
    site.take(&[Run::new(1, "1")]);
    site.home.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert_eq!(site.take(&[Run::new(2, "1")]).inserted, 1);
    assert_eq!(site.ledger().find(&Find::Job("2".into()), 9).unwrap().len(), 1);
}

#[test]
fn records_cross_a_network_only_encrypted_to_a_server_that_is_known() {
    let Some(site) = Site::<Database>::new() else { return };
    let server = site.home.server;
    let certificate = server.folder.join("server.crt");
    let more = format!("&sslmode=verify-full&sslrootcert={}", certificate.display());
    let (_folder, address) = by_network(&site.home, "localhost", server.port, "correct horse", &more);
    let ledger = PostgresLedger::open(&address, &binding(), NOW).unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND datname = current_database() AND version = 'TLSv1.3'";
    assert_eq!(site.home.sql(encrypted), "1");
    drop(ledger);
    // Its own name is not on the certificate, or nobody vouches for it.
    let (_folder, other) = by_network(&site.home, "127.0.0.1", server.port, "correct horse", &more);
    let refused = PostgresLedger::open(&other, &binding(), NOW).unwrap_err();
    assert!(matches!(refused, LedgerError::Refused { .. }), "{refused}");
    let (_folder, unknown) =
        by_network(&site.home, "localhost", server.port, "correct horse", "&sslmode=verify-full");
    let refused = PostgresLedger::open(&unknown, &binding(), NOW).unwrap_err();
    assert!(matches!(refused, LedgerError::Refused { .. }), "{refused}");
}

#[test]
fn a_wrong_login_is_refused_without_showing_the_password() {
    let Some(site) = Site::<Database>::new() else { return };
    let (_folder, address) = by_network(&site.home, "127.0.0.1", site.home.server.port, "battery staple", "");
    let error = PostgresLedger::open(&address, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::Refused { .. }), "{error}");
    let said = format!("{error} {error:?}");
    assert!(said.contains("password authentication failed") && !said.contains("staple"), "{said}");
    let nowhere = Address { database: "nowhere".into(), ..site.home.address.clone() };
    let error = PostgresLedger::open(&nowhere, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::Refused { .. }) && error.to_string().contains("nowhere"), "{error}");
    let (_folder, nobody) = by_network(&site.home, "127.0.0.1", 1, "x", "");
    let error = PostgresLedger::open(&nobody, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::Unreachable { .. }), "{error}");
}

#[test]
fn a_database_belongs_to_one_service_and_readers_change_nothing() {
    let Some(site) = Site::<Database>::new() else { return };
    let address = &site.home.address;
    let mut reader = PostgresLedger::open_reader(address).unwrap();
    assert_eq!((reader.binding(), reader.totals().unwrap().held_total), (&binding(), 0));
    let refused = reader.ingest(&chunk(&[Run::new(1, "1")]), NOW);
    assert!(matches!(refused, Err(LedgerError::ReadOnly { .. })), "{refused:?}");
    let other = Binding { site: "OTHER".into(), ..binding() };
    let error = PostgresLedger::open(address, &other, NOW).unwrap_err();
    assert!(matches!(error, LedgerError::OtherBinding { .. }), "{error}");

    site.home.sql("UPDATE meta SET value = '99' WHERE name = 'schema_version'");
    for opened in [PostgresLedger::open(address, &binding(), NOW), PostgresLedger::open_reader(address)] {
        let error = opened.unwrap_err();
        assert!(matches!(error, LedgerError::NewerSchema { found: 99, .. }), "{error}");
    }
    site.home.sql("UPDATE meta SET value = 'payroll' WHERE name = 'application'");
    let error = PostgresLedger::open(address, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");

    let Some(empty) = Database::find() else { return };
    let error = PostgresLedger::open_reader(&empty.address).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { .. }), "{error}");
    empty.sql("CREATE TABLE theirs (x int)");
    let error = PostgresLedger::open(&empty.address, &binding(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");
    assert_eq!(empty.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");
}

#[test]
fn a_rehearsal_leaves_the_ledger_as_it_was() {
    let Some(mut site) = Site::<Database>::new() else { return };
    site.take(&[Run::new(1, "10")]);
    let mut copy = PostgresLedger::open_copy(&site.home.address, &binding(), NOW).unwrap().unwrap();
    copy.ingest(&chunk(&[Run::new(2, "20")]), NOW).unwrap();
    let leased = copy.lease(&request(900)).unwrap().unwrap();
    assert_eq!(leased.records.len(), 2);
    copy.settle(leased.batch, &accepted(2), "", NOW).unwrap();
    assert_eq!(copy.verify().unwrap(), []);
    // Meanwhile the ledger goes on.
    assert_eq!(site.take(&[Run::new(3, "30")]).inserted, 1);
    drop(copy);
    let states = site.ledger().totals().unwrap().states;
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [(State::Pending, 2)]);
}

#[test]
fn texts_that_the_database_cannot_hold_stop_nothing() {
    let Some(mut site) = Site::<Database>::new() else { return };
    let hostile = Run { user: "al\0ice".into(), project: "TG\0".into(), ..Run::new(1, "1") };
    assert_eq!(site.take(&[hostile.clone()]).inserted, 1);
    let held = super::held(&Run::new(2, "1"), "unknown\0project", false);
    assert_eq!(site.ledger().ingest(&held, NOW).unwrap().held, 1);
    let leased = site.lease(NOW).unwrap();
    let refused = [RecordOutcome::Refused("no such\0user".into())];
    site.ledger().settle(BatchId(leased.batch.0), &refused, "note\0", NOW).unwrap();
    site.sound();
    assert_eq!(site.state(&hostile), State::Rejected);
}

#[test]
fn events_are_only_added() {
    let Some(mut site) = Site::<Database>::new() else { return };
    site.take(&[Run::new(1, "1")]);
    let Database { server, name, .. } = &site.home;
    for sql in ["UPDATE event SET at = 0", "DELETE FROM event", "TRUNCATE event"] {
        assert!(!server.try_sql(name, sql), "{sql}");
    }
}
