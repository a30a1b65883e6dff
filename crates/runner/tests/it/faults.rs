//! The fault matrix: every fault of the sandbox on every call, through the real client, ledger and nightly run. After
//! each night nothing that the ledger says is more than true, and in the end the service holds what is owed: nothing
//! is lost, nothing doubled.
//!
//! `AMIE_SEEDS=1000` tries more seeds. A seed that fails is printed; put it into `tests/regressions/faults.txt`.

use crate::support::{KEY, Service};
use amie_usage::{AdjustmentType, AdjustmentUsageRecord, Cancel, Decimal, UsageType, wire};
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{Adjustment, Find, Ledger, Note, Person, Retry, Row, State, What};
use runner::nightly::{self, Night};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use usage_sandbox::{Fault, HistoryVersion, RecordFate, Settings, UsageType as Type};

const CPU: &str = "testhpc-cpu.testsite.access-ci.org";
const SCRATCH: &str = "scratch.testsite.access-ci.org";
/// What the transport does to any call.
const TRANSPORT: &[&str] = &[
    "refuse-connection",
    "drop-before-reading",
    "drop-after-storing",
    "status:500",
    "status:502",
    "status:503",
    "status:503,retry-after=0",
    "status:429,retry-after=1",
    "status:429,retry-after-date=1",
    "html:200",
    "html:403",
    "html:502,retry-after=0",
    "html:503",
    "truncated-body",
    "wrong-content-length",
    "slow-headers:1s",
    "slow-body:1s",
];
/// What happens to messages and their records.
const RECORDS: &[&str] =
    &["too-large-at:900", "refuse-whole", "refuse", "fail-load", "delay-load:1500ms", "shuffle-loads:1500ms"];
const CALLS: &[&str] = &["post", "status", "failed", "loaded"];
/// How often; a POST that never succeeds would only cost time.
const TIMES: &[&str] = &["*1", "*3", "#1", "#2", "#1-2,4", "%30", "%60"];
/// After these nobody knows whether a message was stored. Every seed has one of them, besides its part of the matrix.
const UNCLEAR: &[&str] = &[
    "drop-after-storing",
    "drop-before-reading",
    "truncated-body",
    "wrong-content-length",
    "html:200",
    "status:500",
    "slow-headers:1s",
];
/// Faults of the matrix in one seed.
const FAULTS: usize = 3;
/// Credits of a night.
const CREDITS: u64 = 7;
/// Owners of storage.
const OWNERS: u64 = 9;
const PERSON: Person<'static> = Person { by: "tester", why: "asked the service" };

/// Every fault on every call that it means something for.
fn matrix() -> Vec<(&'static str, &'static str)> {
    let transport = TRANSPORT.iter().flat_map(|kind| CALLS.iter().map(|call| (*kind, *call)));
    transport.chain(RECORDS.iter().map(|kind| (*kind, "post"))).collect()
}

/// Small, and the same on every machine: xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// A job, and what it costs in hundredths of a core-hour: 36 seconds of a core are one.
#[derive(Debug, Clone, Copy)]
struct Job {
    number: u64,
    cores: u64,
    units: u64,
}

impl Job {
    fn charge(&self) -> Decimal {
        Decimal::new(i128::from(self.cores * self.units), 2)
    }
}

/// A site in a folder of its own, and what it owes.
struct Site {
    folder: tempfile::TempDir,
    jobs: Vec<Job>,
    /// Quota reports that were written.
    days: u64,
    /// Credits that were approved.
    credits: u64,
}

impl Site {
    fn new(url: &str, jobs: Vec<Job>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
[site]
name = "TestSite"
timezone = "UTC"
[api]
url = "{url}"
key_file = "api-key"
max_records = 5
concurrency = 3
[ledger]
url = "sqlite:ledger.db"
[projects]
match = [{{ account = 'tg-.*', project = "$0" }}]
[[source]]
name = "slurm"
kind = "sacct"
cluster = "testhpc"
paths = ["jobs.txt"]
forgeable = "accept"
[[source]]
name = "scratch"
kind = "quota"
format = "repquota-csv"
owner = "project"
paths = ["scratch-*.csv"]
collected_at = {{ from = "name", pattern = 'scratch-(\d{{4}}-\d{{2}}-\d{{2}})\.csv' }}
[[resource]]
name = "{CPU}"
when = {{ cluster = "testhpc" }}
[[resource.rate]]
from = 2020-01-01
charge = "core_hours"
[[storage]]
source = "scratch"
resource = "{SCRATCH}"
service_treats = "level"
charge = "stored_gb"
interval_days = 1
owners = "owners.csv"
"#
        );
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("config.toml", &config);
        write("api-key", KEY);
        std::fs::set_permissions(folder.path().join("api-key"), std::fs::Permissions::from_mode(0o600))
            .unwrap();
        let owners = (1..=OWNERS).map(|owner| format!("#{owner},tg-{},user{owner}\n", owner % 4));
        write("owners.csv", &format!("owner,project,username\n{}", owners.collect::<String>()));
        let site = Self { folder, jobs, days: 0, credits: 0 };
        site.write_jobs();
        site
    }

    /// What `sacct` says of the jobs now.
    fn write_jobs(&self) {
        let mut text = "JobIDRaw|JobID|Cluster|User|Account|Partition|QOS|State|Submit|Eligible|Start|End|ElapsedRaw|AllocCPUS|NNodes|AllocTRES\n".to_owned();
        for Job { number, cores, units } in &self.jobs {
            let (submit, seconds) = (1_793_500_000 + number * 60, units * 36);
            let (start, end) = (submit + 5, submit + 5 + seconds);
            writeln!(
                text,
                "{number}|{number}|testhpc|user{}|tg-{}|cpu|normal|COMPLETED|{submit}|{submit}|{start}|{end}|{seconds}|{cores}|1|billing={cores},cpu={cores},node=1",
                number % 3,
                number % 4
            )
            .unwrap();
        }
        std::fs::write(self.folder.path().join("jobs.txt"), text).unwrap();
    }

    /// Another day's quota report: each owner stores so many megabytes (of 1,000 kilobytes of 1,024 bytes).
    fn write_report(&mut self) {
        self.days += 1;
        let mut text = "Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace\n".to_owned();
        for owner in 1..=OWNERS {
            writeln!(text, "#{owner},ok,ok,{},0,0,0,2,0,0,0", (owner * 100 + self.days) * 1000).unwrap();
        }
        let name = format!("scratch-2026-11-{:02}.csv", self.days);
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Records that are owed: those that can be seen loaded, and those that cannot.
    fn owed(&self) -> (u64, u64) {
        (self.jobs.len() as u64, self.days * OWNERS + self.credits)
    }

    /// One night, with a client that waits for an answer no longer than `patience`. `person` acts before it.
    fn night(
        &self,
        patience: Duration,
        wait: Duration,
        person: impl FnOnce(&mut dyn Ledger),
    ) -> (Night, Box<dyn Ledger>) {
        let config = Config::load(&self.folder.path().join("config.toml")).unwrap();
        let mut api = config.api.clone().unwrap();
        (api.read_timeout, api.total_timeout) = (patience, patience * 3);
        let planned = runner::plan::plan(&config, None, &[]).unwrap();
        let key = nightly::api_key(&api.key).unwrap();
        let client = nightly::client(&config, &api, key).unwrap();
        let mut ledger = nightly::open_ledger(&config, &api.url).unwrap();
        person(ledger.as_mut());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cancel = Cancel::new();
        let night = runtime
            .block_on(nightly::night(&config, &planned, &api, &client, ledger.as_mut(), wait, &cancel))
            .unwrap();
        (night, ledger)
    }

    fn quick_night(&self, person: impl FnOnce(&mut dyn Ledger)) -> (Night, Box<dyn Ledger>) {
        self.night(Duration::from_millis(400), Duration::from_millis(700), person)
    }

    /// The rows of all jobs, by their number.
    fn rows(&self, ledger: &dyn Ledger) -> Vec<(Job, Row)> {
        let row = |job: &Job| {
            let found = ledger.find(&Find::Record(job.number.to_string()), 10).unwrap();
            let row = found.into_iter().find(|row| row.usage_type == UsageType::Compute);
            (*job, row.unwrap_or_else(|| panic!("job {} is not in the ledger", job.number)))
        };
        self.jobs.iter().map(row).collect()
    }
}

/// Approves credits, each of another charge.
fn approve_credits(ledger: &mut dyn Ledger, numbers: std::ops::RangeInclusive<u64>) {
    let credit = |number: u64| {
        let record = AdjustmentUsageRecord {
            adjustment_type: AdjustmentType::Credit,
            charge: Decimal::new(i128::from(number), 0),
            start_time: 1_793_500_000,
            local_project_id: "tg-1".into(),
            local_record_id: format!("credit-{number}").into(),
            resource: CPU.into(),
            username: "user1".into(),
            comment: None,
            local_reference: Some(format!("adjust/credit/{number}").into()),
        };
        let mut payload = Vec::new();
        wire::render_adjustment(&record, &mut payload).unwrap();
        Adjustment {
            key: format!("adjust/credit/{number}"),
            resource: CPU.into(),
            local_record_id: format!("credit-{number}"),
            start: record.start_time,
            username: "user1".into(),
            project: "tg-1".into(),
            charge: record.charge,
            payload,
            refunds: None,
            file: "".into(),
            line: 0,
        }
    };
    let credits: Vec<_> = numbers.map(credit).collect();
    assert_eq!(ledger.adjust(&credits, PERSON, runner::clock::now()).unwrap(), credits.len() as u64);
}

/// Every version that the service ever took of the jobs, by job number.
fn versions(service: &Service) -> BTreeMap<u64, Vec<(Decimal, RecordFate)>> {
    let known = |version: &HistoryVersion| (version.charge.parse().unwrap(), version.fate);
    service
        .state()
        .history
        .iter()
        .filter(|history| history.usage_type == Type::Compute)
        .map(|history| {
            (history.local_record_id.parse().unwrap(), history.versions.iter().map(known).collect())
        })
        .collect()
}

/// Holds what the ledger says against what the service has.
fn nothing_is_claimed_that_is_not_true(site: &Site, ledger: &dyn Ledger, service: &Service) {
    let taken = versions(service);
    for (job, row) in site.rows(ledger) {
        let versions = taken.get(&job.number).map_or(&[][..], Vec::as_slice);
        let of_sent = || {
            let sent = row.sent.unwrap_or_else(|| panic!("{row:?} was never sent"));
            versions.iter().filter(move |(charge, _)| *charge == sent.charge)
        };
        let true_ = match row.state {
            State::Pending => row.taken || versions.is_empty(),
            State::Accepted => of_sent().next().is_some(),
            State::Loaded => {
                of_sent().any(|(_, fate)| matches!(fate, RecordFate::Loaded | RecordFate::Replaced))
            }
            State::Failed => {
                of_sent().any(|(_, fate)| matches!(fate, RecordFate::Failed | RecordFate::Cleared))
            }
            State::Rejected => of_sent().next().is_none(),
            State::Unknown => true,
            State::Sending | State::Held | State::Superseded => false,
        };
        assert!(true_, "the ledger says {:?}, the service has {versions:?}: {row:?}", row.state);
    }
    assert_eq!(ledger.verify().unwrap(), [], "the ledger's own invariants");
}

/// What a person does who looks at the service: storage and credits that may have arrived have, or have not; the rest
/// goes again.
fn look_after(ledger: &mut dyn Ledger, service: &Service) {
    let now = runner::clock::now();
    let state = service.state();
    for row in ledger.troubled(State::Unknown, "", 1000).unwrap() {
        if row.usage_type != UsageType::Compute {
            let id = &row.wanted.as_ref().unwrap().identity.local_record_id;
            let arrived =
                state.loaded.iter().chain(&state.queued).any(|record| record.local_record_id == *id);
            ledger.resolve_unknown(&[row.key], arrived, PERSON, now).unwrap();
        }
    }
    for which in [Retry::Rejected(None), Retry::Failed(None)] {
        ledger.retry(&which, PERSON, now).unwrap();
    }
}

/// Nothing lost, nothing doubled: each job once, with its newest charge or with an alarm; each reading once.
fn all_is_as_owed(site: &Site, night: &Night, ledger: &dyn Ledger, service: &Service) {
    let state = service.state();
    let mut loaded: Vec<(u64, Decimal)> = Vec::new();
    for record in state.loaded.iter().filter(|record| record.usage_type == Type::Compute) {
        loaded.push((record.local_record_id.parse().unwrap(), record.charge.parse().unwrap()));
    }
    loaded.sort();
    let jobs = |(number, _): &(u64, Decimal)| *number;
    assert_eq!(
        loaded.iter().map(jobs).collect::<Vec<_>>(),
        site.jobs.iter().map(|job| job.number).collect::<Vec<_>>()
    );
    for ((_, charge), (job, row)) in loaded.iter().zip(site.rows(ledger)) {
        let alarm = || {
            ledger.history(&row.key).unwrap().iter().any(|entry| entry.what == What::Noted(Note::Mismatched))
        };
        assert!(
            *charge == job.charge() || alarm(),
            "{job:?} is charged {charge} and nobody was told: {row:?}"
        );
    }
    // A megabyte here is 1,024,000 bytes, a charge is in gigabytes of 10^9.
    let readings = (1..=site.days).flat_map(|day| (1..=OWNERS).map(move |owner| (owner * 100 + day) * 1024));
    let mut owed: Vec<Decimal> = readings.map(|units| Decimal::new(i128::from(units), 6)).collect();
    owed.sort();
    let stored = state.loaded.iter().filter(|record| record.resource == SCRATCH);
    let mut stored: Vec<Decimal> = stored.map(|record| record.charge.parse().unwrap()).collect();
    stored.sort();
    assert_eq!(stored, owed, "storage: {:?}", night.items);
    let credits = state.loaded.iter().filter(|record| record.usage_type == Type::Adjustment);
    let mut credits: Vec<u64> = credits.map(|record| record.charge.parse().unwrap()).collect();
    credits.sort_unstable();
    assert_eq!(credits, (1..=site.credits).collect::<Vec<_>>(), "credits: {:?}", night.items);
    // Storage and adjustments cannot be seen loaded.
    let states = &night.totals.states;
    assert_eq!(
        site.owed(),
        (night.totals.count(State::Loaded), night.totals.count(State::Accepted)),
        "{states:?}"
    );
    assert_eq!(states.values().sum::<u64>(), site.owed().0 + site.owed().1, "{states:?}");
}

/// One seed: three faults of the matrix and one after which nobody knows, two nights, in the second some jobs are restated and some are new; then the
/// service recovers, a person looks after what needs one, and the nights go on until all is well.
/// Answers which faults of the matrix have surely struck.
fn try_seed(seed: u64) -> Vec<(&'static str, &'static str)> {
    let mut random = Random::new(seed);
    let service = Service::start(Settings { seed, ..Settings::default() });
    let jobs = |numbers: std::ops::Range<u64>, random: &mut Random| -> Vec<Job> {
        let job = |number| Job { number, cores: 1 + random.below(64), units: 50 + random.below(200) };
        numbers.map(job).collect()
    };
    let mut site = Site::new(&service.url(), jobs(100..116, &mut random));
    site.write_report();
    let matrix = matrix();
    let mut armed = Vec::new();
    for part in 0..FAULTS {
        let place = usize::try_from(seed).unwrap() * FAULTS + part;
        let (kind, call) = matrix[place % matrix.len()];
        let rule = match kind {
            "refuse" => format!(" LocalRecordID=10{}=no such user", random.below(10)),
            "fail-load" => format!(
                " LocalProjectID=tg-{}=Allocation could not be found for user <login>",
                random.below(4)
            ),
            _ => String::new(),
        };
        // The first time round, each strikes for sure.
        let times = if place < matrix.len() { "*1" } else { random.of(TIMES) };
        let fault: Fault = format!("{kind}@{call}{times}{rule}").parse().unwrap();
        service.sandbox().inject(fault.clone());
        // One that is counted is gone once it has struck; of a probability nobody knows.
        if !times.starts_with('%') {
            armed.push(((kind, call), fault));
        }
        if kind == "refuse-whole" {
            // Without a bad record it would do nothing.
            service.sandbox().inject("refuse@post LocalRecordID=107=no such user".parse().unwrap());
        }
    }
    let unclear = format!("{}@post{}", random.of(UNCLEAR), random.of(&["%30", "%60", "#3-6", "#6-9"]));
    service.sandbox().inject(unclear.parse().unwrap());
    let (_, ledger) = site.quick_night(|ledger| approve_credits(ledger, 1..=CREDITS));
    site.credits = CREDITS;
    nothing_is_claimed_that_is_not_true(&site, ledger.as_ref(), &service);
    drop(ledger);
    for job in &mut site.jobs {
        if random.below(3) == 0 {
            job.units -= 1 + random.below(20);
        }
    }
    site.jobs.extend(jobs(116..120, &mut random));
    site.write_jobs();
    site.write_report();
    let (_, ledger) = site.quick_night(|ledger| approve_credits(ledger, CREDITS + 1..=2 * CREDITS));
    site.credits = 2 * CREDITS;
    nothing_is_claimed_that_is_not_true(&site, ledger.as_ref(), &service);
    drop(ledger);
    let left = service.state().faults;
    armed.retain(|(_, fault)| !left.contains(fault));
    service.sandbox().clear_faults();
    for _ in 0..8 {
        let person = |ledger: &mut dyn Ledger| look_after(ledger, &service);
        let (night, ledger) = site.night(Duration::from_secs(20), Duration::from_secs(5), person);
        nothing_is_claimed_that_is_not_true(&site, ledger.as_ref(), &service);
        let settled = site.owed() == (night.totals.count(State::Loaded), night.totals.count(State::Accepted));
        if settled {
            break;
        }
    }
    // What was delayed for longest loads now, be it an older version; the last night looks at that.
    service.settle();
    let (night, ledger) = site.quick_night(|_| {});
    all_is_as_owed(&site, &night, ledger.as_ref(), &service);
    armed.into_iter().map(|(pair, _)| pair).collect()
}

#[test]
fn whatever_goes_wrong_on_whatever_call_nothing_is_lost_and_nothing_doubled() {
    let seeds: u64 = std::env::var("AMIE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let kept = include_str!("../regressions/faults.txt");
    let kept =
        kept.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim().parse::<u64>().unwrap());
    let seeds: Vec<u64> = kept.chain(0..seeds).collect();
    let next = AtomicUsize::new(0);
    let failures: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let struck: Mutex<BTreeSet<(&str, &str)>> = Mutex::default();
    // A seed spends most of its time waiting: to try again, or for a slow answer.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match catch_unwind(AssertUnwindSafe(|| try_seed(*seed))) {
                        Ok(pairs) => struck.lock().unwrap().extend(pairs),
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                            failures.lock().unwrap().push(format!("seed {seed}: {text}"));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    let (all, struck) = (matrix(), struck.into_inner().unwrap());
    let missed: Vec<_> = all.iter().filter(|pair| !struck.contains(pair)).collect();
    assert!(seeds.len() < 50 || missed.is_empty(), "these never struck: {missed:?}");
}

#[test]
fn a_delayed_old_version_never_has_the_last_word_without_an_alarm() {
    let service = Service::start(Settings::default());
    let mut site = Site::new(&service.url(), vec![Job { number: 100, cores: 4, units: 50 }]);
    // The first message is stored, is loaded late, and its answer is lost: the same is sent again and loaded at once.
    for fault in ["delay-load:6s@post#1", "drop-after-storing@post#1"] {
        service.sandbox().inject(fault.parse().unwrap());
    }
    let began = std::time::Instant::now();
    let (night, _) = site.night(Duration::from_secs(20), Duration::from_secs(3), |_| {});
    assert_eq!(night.totals.count(State::Loaded), 1, "{:?}", night.totals.states);
    site.jobs[0].units = 40;
    site.write_jobs();
    let (night, _) = site.night(Duration::from_secs(20), Duration::from_secs(3), |_| {});
    assert_eq!(
        (night.totals.count(State::Loaded), night.news.mismatched),
        (1, 0),
        "{:?}",
        night.totals.states
    );
    assert_eq!(service.state().charge(CPU), "1.6", "the newer version is loaded");
    std::thread::sleep(Duration::from_millis(7500).saturating_sub(began.elapsed()));
    assert_eq!(service.state().charge(CPU), "2", "the old version loaded after the newer one");
    let (night, mut ledger) = site.night(Duration::from_secs(20), Duration::ZERO, |_| {});
    assert_eq!((night.news.mismatched, night.exit()), (1, Exit::Attention), "{:?}", night.reconciliation);
    // It is said once, not every night.
    ledger.mark_reported(&night.news).unwrap();
    drop(ledger);
    let (night, _) = site.night(Duration::from_secs(20), Duration::ZERO, |_| {});
    assert_eq!((night.news.mismatched, night.exit()), (0, Exit::Well));
}
