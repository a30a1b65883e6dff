//! Killed at random moments of a large run, again and again, with the ledger in a file and in PostgreSQL.

use super::{Dice, FAULTS, Record, held_by, number, one_charge_an_identity, run_to_the_end};
use crate::postgres_server::{Server, shared};
use crate::support::{Service, Site};
use std::fmt::Write;
use std::time::{Duration, Instant};
use usage_sandbox::Settings;

/// Runs of the large input.
const RUNS: u64 = 3_000;

const RESOURCE: &str = "big.example.org";

/// Where a ledger is.
enum Place {
    File,
    Database { server: &'static Server, name: String, url: String },
}

impl Place {
    fn database(server: &'static Server) -> Self {
        let (name, url) = server.database();
        Self::Database { server, name, url }
    }

    fn config(&self) -> String {
        match self {
            Self::File => String::new(),
            Self::Database { url, .. } => format!("[ledger]\nurl = \"{url}\"\n"),
        }
    }

    /// So much time passes that every lease is over.
    fn leases_end(&self) {
        if let Self::Database { server, name, .. } = self {
            // What the dead one had handed to the server is done, or undone, by then.
            let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
            while server.sql(name, others) != "0" {
                std::thread::sleep(Duration::from_millis(5));
            }
            // A run that was killed early has not even made the tables.
            server.try_sql(name, "UPDATE batch SET lease_until = 0 WHERE settled_at IS NULL");
        }
    }
}

/// A site with one file of `RUNS` jobs and nothing else, and what the service must hold in the end: charges are core
/// hours, made here from whole hundredths of them.
fn large(service: &Service, ledger: &Place) -> (Site, Vec<Record>) {
    let site = Site::new();
    site.write(
        "config.toml",
        &format!(
            "[site]\nname = \"TestSite\"\ntimezone = \"UTC\"\n\
             [api]\nurl = \"{}\"\nkey_file = \"api-key\"\nmax_records = 50\n{}\
             [[source]]\nname = \"slurm\"\nkind = \"sacct\"\ncluster = \"big\"\npaths = [\"big-*.txt\"]\n\
             [projects]\nmatch = [{{ account = 'a[0-9]', project = \"TG-$0\" }}]\n\
             [[resource]]\nname = \"{RESOURCE}\"\n[[resource.rate]]\nfrom = 2020-01-01\ncharge = \"core_hours\"\n",
            service.url(),
            ledger.config()
        ),
    );
    let mut records = Vec::new();
    for file in 0..3 {
        let mut text =
            "JobID|Cluster|User|Account|Partition|State|Submit|Start|End|ElapsedRaw|AllocCPUS|NNodes|\n"
                .to_owned();
        for job in (1..=RUNS).filter(|job| job % 3 == file) {
            let (cores, hundredths) = (1 + job % 128, 1 + job * 7 % 4_800);
            let submit = 1_790_000_000 + job;
            let (start, end) = (submit + 5, submit + 5 + hundredths * 36);
            writeln!(
                text,
                "{job}|big|u{}|a{}|cpu|COMPLETED|{submit}|{start}|{end}|{}|{cores}|1|",
                job % 40,
                job % 10,
                hundredths * 36
            )
            .unwrap();
            let charge = cores * hundredths;
            let charge = format!("{}.{:02}", charge / 100, charge % 100);
            let charge = charge.trim_end_matches('0').trim_end_matches('.');
            let time = runner::clock::show(submit as i64).replace(' ', "T");
            records.push([RESOURCE.to_owned(), job.to_string(), time, charge.to_owned()]);
        }
        site.write(&format!("big-{file}.txt"), &text);
    }
    records.sort();
    (site, records)
}

/// Starts a run and kills it at a moment; true where it was still running.
fn killed_after(site: &Site, moment: Duration) -> bool {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_amie-runner"))
        .current_dir(site.folder.path())
        .args(["run", "--wait", "10"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while started.elapsed() < moment {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1).min(moment));
    }
    let _ = child.kill();
    child.wait().unwrap().code().is_none()
}

#[test]
fn killed_at_random_moments_with_a_faulty_service_nothing_is_lost_and_nothing_twice() {
    kill_at_random_moments(number("AMIE_KILLS").unwrap_or(25), || Place::File);
}

#[test]
fn killed_at_random_moments_on_postgresql_nothing_is_lost_and_nothing_twice() {
    let Some(server) = shared() else { return };
    kill_at_random_moments(number("AMIE_KILLS").unwrap_or(10), || Place::database(server));
}

fn kill_at_random_moments(wanted_kills: u64, a_place: impl Fn() -> Place) {
    let mut dice = Dice::new();
    let seed = dice.0;
    println!("seed {seed}: repeat with AMIE_SEED={seed}");
    let whole = {
        let service = Service::start(Settings::default());
        let (site, records) = large(&service, &a_place());
        let started = Instant::now();
        run_to_the_end(&site, "undisturbed");
        assert_eq!(held_by(&service), records, "undisturbed");
        started.elapsed()
    };
    let mut kills = 0;
    while kills < wanted_kills {
        let faults = FAULTS.iter().map(|fault| fault.parse().unwrap()).collect();
        let service = Service::start(Settings { faults, seed: dice.next(), ..Settings::default() });
        let ledger = a_place();
        let (site, records) = large(&service, &ledger);
        // One ledger is killed five times on its way, wherever that finds it.
        let mut moments = Vec::new();
        for _ in 0..5 {
            let moment = whole * (dice.below(1_000) as u32) / 1_000;
            moments.push(moment);
            kills += u64::from(killed_after(&site, moment));
            ledger.leases_end();
        }
        service.sandbox().clear_faults();
        let what = format!("seed {seed}: killed after {moments:?}");
        run_to_the_end(&site, &what);
        let held = held_by(&service);
        assert_eq!(held.len(), records.len(), "{what}");
        assert!(held == records, "{what}: {:?}", held.iter().zip(&records).find(|(held, owed)| held != owed));
        let summary = site.summary();
        assert_eq!((&summary["loaded"], &summary["pending"]), (&RUNS.into(), &0.into()), "{what}: {summary}");
        one_charge_an_identity(&service, &what);
    }
}
