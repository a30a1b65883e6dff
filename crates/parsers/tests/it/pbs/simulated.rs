//! Logs of jobs that were simulated second by second: what they used is counted while they run, and compared with what is made of the
//! records that a server would write; cut into blocks, saved and loaded, read twice, mixed with another server's.

use super::super::fuzzed::folded::{Folded, Folding};
use parsers::pbs::Options;
use parsers::{Frame, Kind};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;

/// 2026-11-01 07:00 UTC: an hour before clocks in Denver go from 02:00 back to 01:00.
const T: i64 = 1_793_516_400;

/// What is done to a job, seconds after the one before.
#[derive(Debug, Clone, Copy)]
enum Action {
    Release,
    Suspend,
    Resume,
    /// Requeued, and begins again at once.
    Rerun,
    /// The server is restarted.
    Restart,
}

#[derive(Debug, Clone)]
struct Job {
    begins: i64,
    nodes: u64,
    actions: Vec<(i64, Action)>,
    rest: i64,
}

fn job() -> impl Strategy<Value = Job> {
    let action = prop_oneof![
        4 => Just(Action::Release),
        2 => Just(Action::Suspend),
        2 => Just(Action::Resume),
        1 => Just(Action::Rerun),
        1 => Just(Action::Restart),
    ];
    (0..3000_i64, 1..5_u64, proptest::collection::vec((1..900_i64, action), 0..6), 1..900_i64)
        .prop_map(|(begins, nodes, actions, rest)| Job { begins, nodes, actions, rest })
}

/// What a run used: seconds, suspended, and seconds with so many nodes of each phase.
type Used = (u64, Option<u64>, Vec<(u64, u64)>);

/// Records by the time at which they are written, and what each run used, by its id and number.
#[derive(Debug, Default)]
struct Simulated {
    records: BTreeMap<(i64, usize), String>,
    used: BTreeMap<(String, u32), Used>,
}

fn hosts(nodes: u64) -> String {
    let hosts: Vec<_> = (1..=nodes).map(|node| format!("n{node}/0*2")).collect();
    let vnodes: Vec<_> = (1..=nodes).map(|node| format!("(n{node}:ncpus=2)")).collect();
    format!("exec_host={} exec_vnode={}", hosts.join("+"), vnodes.join("+"))
}

impl Simulated {
    fn record(&mut self, letter: char, id: &str, at: i64, message: &str) {
        let offset = if at < T + 3600 { -6 } else { -7 };
        let date =
            chrono::DateTime::from_timestamp(at + offset * 3600, 0).unwrap().format("%m/%d/%Y %H:%M:%S");
        let number = self.records.len();
        self.records.insert((at, number), format!("{date};{letter};{id};{message}\n"));
    }

    fn job(&mut self, id: &str, job: &Job) {
        let submit = T + job.begins;
        let common = |start: i64, nodes: u64| {
            format!(
                "user=a group=g account=\"x y\" jobname=j queue=q ctime={submit} start={start} {}",
                hosts(nodes)
            )
        };
        let (mut now, mut start, mut began, mut run) = (submit, submit, submit, 1_u32);
        let (mut nodes, mut suspended, mut released) = (job.nodes, false, false);
        // What the server subtracts from the walltime of the next record; it forgets to forget it when the job is rerun.
        let mut subtracted = 0_u64;
        // Of this run: each phase's seconds and nodes, and seconds suspended (none: never).
        let (mut phases, mut asleep): (Vec<(u64, u64)>, Option<u64>) = (vec![(0, nodes)], None);
        self.record('S', id, now, &format!("{} ", common(start, nodes)));
        let mut actions = job.actions.iter().copied();
        loop {
            let action = actions.next();
            let until = now + action.map_or(job.rest, |(after, _)| after);
            while now < until {
                now += 1;
                if suspended {
                    asleep = asleep.map(|seconds| seconds + 1);
                } else {
                    phases.last_mut().unwrap().0 += 1;
                }
            }
            let ends = matches!(action, None | Some((_, Action::Rerun)));
            match action.map(|(_, action)| action) {
                Some(Action::Release) if nodes > 1 => {
                    let used: u64 = phases.iter().map(|phase| phase.0).sum();
                    let left = if used >= subtracted { used - subtracted } else { used };
                    subtracted = used;
                    let usage = format!("session=1 run_count=1  resources_used.walltime={left}");
                    self.record('u', id, now, &format!("{} {usage}", common(start, nodes)));
                    nodes -= 1;
                    self.record('c', id, now, &format!("{} ", common(start, nodes)));
                    phases.push((0, nodes));
                    released = true;
                }
                Some(Action::Suspend) if !suspended => {
                    self.record('z', id, now, "resources_released=(n1:ncpus=2)");
                    suspended = true;
                    asleep = asleep.or(Some(0));
                }
                Some(Action::Resume) if suspended => {
                    self.record('r', id, now, "");
                    suspended = false;
                }
                Some(Action::Restart) => {
                    start = now;
                    self.record('S', id, now, &format!("{} ", common(start, nodes)));
                }
                _ => {}
            }
            if !ends {
                continue;
            }
            let walltime: u64 = phases.iter().map(|phase| phase.0).sum();
            let written = if walltime >= subtracted { walltime - subtracted } else { walltime };
            let usage = format!(
                "session=1 end={now} Exit_status=0 resources_used.walltime={written} run_count={run}"
            );
            if action.is_some() {
                self.record('R', id, now, &format!("{} {usage}", common(start, nodes)));
            } else {
                if released {
                    let usage = format!("session=1 run_count=1  resources_used.walltime={written}");
                    self.record('e', id, now, &format!("{} {usage}", common(start, nodes)));
                }
                self.record('E', id, now, &format!("{} {usage}", common(start, job.nodes)));
            }
            assert_eq!(began + (walltime + asleep.unwrap_or(0)) as i64, now);
            let phases_told = if released { phases.clone() } else { Vec::new() };
            self.used.insert((id.to_owned(), run), (walltime, asleep, phases_told));
            if action.is_none() {
                return;
            }
            run += 1;
            (start, began, nodes, suspended, released, asleep) = (now, now, job.nodes, false, false, None);
            phases = vec![(0, nodes)];
            self.record('S', id, now, &format!("{} ", common(start, nodes)));
        }
    }

    fn log(&self) -> String {
        self.records.values().map(String::as_str).collect()
    }
}

/// Each run's number, with what it used; `doubtful`: runs that are held.
fn used(folded: &[Folded<'_>]) -> (BTreeMap<(String, u32), Used>, Vec<String>) {
    let (mut found, mut doubtful) = (BTreeMap::new(), Vec::new());
    for folded in folded {
        match folded {
            Folded::Frame(Frame::Run(run)) if run.kind == Kind::Run => {
                if let Some(finding) = run.finding {
                    doubtful.push(format!("{} {:?} {finding:?}", run.job_id, run.run_count));
                    continue;
                }
                let phases = run.phases.iter().map(|phase| (phase.seconds, phase.nodes.unwrap())).collect();
                let key = (run.job_id.to_string(), run.run_count.unwrap());
                assert!(found.insert(key, (run.elapsed.unwrap(), run.suspended, phases)).is_none());
            }
            Folded::Frame(Frame::Quarantined(it)) => panic!("{}", it.reason),
            Folded::Frame(_) | Folded::Repeated { .. } => {}
        }
    }
    (found, doubtful)
}

fn read(
    log: &str,
    sizes: &[usize],
    save_every: Option<usize>,
) -> (BTreeMap<(String, u32), Used>, Vec<String>) {
    used(&Folding::new(&Options::default(), sizes, save_every).file(1, log.as_bytes()))
}

/// A log of these jobs. Other jobs begin and end all the while, as on any server: they show how the clock stands.
fn simulate(jobs: &[Job], server: &str) -> Simulated {
    let mut all = Simulated::default();
    for minute in 0..150_u32 {
        let tick = Job { begins: i64::from(minute) * 60 - 600, nodes: 1, actions: Vec::new(), rest: 30 };
        all.job(&format!("{}.{server}", 1000 + minute), &tick);
    }
    for (number, job) in jobs.iter().enumerate() {
        let mut id = String::new();
        let _ = write!(id, "{}.{server}", number + 1);
        all.job(&id, job);
    }
    all
}

/// Reads a log up to a hundredth of it, then from a hundredth of that on.
fn read_again(jobs: &[Job], until: usize, from: usize) -> Result<(), TestCaseError> {
    let simulated = simulate(jobs, "s");
    let lines: Vec<&str> = simulated.records.values().map(String::as_str).collect();
    let until = lines.len() * until / 100;
    let from = until * from / 100;
    let mut folding = Folding::new(&Options::default(), &[5000], None);
    let (first, second) = (lines[..until].concat(), lines[from..].concat());
    let mut folded = folding.file(1, first.as_bytes());
    folded.extend(folding.file(2, second.as_bytes()));
    let (found, doubtful) = used(&folded);
    prop_assert_eq!(doubtful, Vec::<String>::new());
    prop_assert_eq!(found, simulated.used);
    let ends = lines[from..until].iter().filter(|line| matches!(line.as_bytes()[20], b'E' | b'R')).count();
    prop_assert_eq!(folding.fold.counts().repeated, ends as u64);
    Ok(())
}

#[test]
fn a_start_from_before_a_restart_that_is_read_again_is_the_ended_runs() {
    let actions = vec![
        (579, Action::Restart),
        (191, Action::Release),
        (459, Action::Rerun),
        (34, Action::Release),
        (638, Action::Release),
    ];
    let jobs = [Job { begins: 2441, nodes: 2, actions, rest: 428 }];
    for until in 0..100 {
        read_again(&jobs, until, 0).unwrap();
    }
}

/// The `u` says more than can have been used since the `S` that the log has, for the run slept most of that time.
#[test]
fn a_start_that_is_not_the_first_shows_by_what_was_used_while_awake() {
    let actions = vec![(540, Action::Restart), (1, Action::Suspend), (520, Action::Release)];
    let simulated = simulate(&[Job { begins: 0, nodes: 2, actions, rest: 1 }], "s");
    let lines: Vec<&str> = simulated.records.values().map(String::as_str).collect();
    let first = lines.iter().position(|line| line.contains(";S;1.s;")).unwrap();
    let (found, doubtful) = read(&lines[first + 1..].concat(), &[5000], None);
    assert_eq!(found.get(&("1.s".to_owned(), 1)), None);
    assert_eq!(doubtful, ["1.s Some(1) LogIncomplete"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_run_used_what_it_was_seen_to_use(
        jobs in proptest::collection::vec(job(), 1..6),
        sizes in proptest::collection::vec(1_usize..9000, 1..4),
        save_every in proptest::option::of(1_usize..5),
    ) {
        let simulated = simulate(&jobs, "s");
        let (found, doubtful) = read(&simulated.log(), &sizes, save_every);
        prop_assert_eq!(doubtful, Vec::<String>::new());
        prop_assert_eq!(found, simulated.used);
    }

    /// Read up to somewhere, then from somewhere before it on: as when a file is copied while it is written.
    #[test]
    fn what_is_read_again_adds_nothing(
        jobs in proptest::collection::vec(job(), 1..6),
        until in 0..100_usize,
        from in 0..100_usize,
    ) {
        read_again(&jobs, until, from)?;
    }

    #[test]
    fn servers_in_one_log_are_as_each_alone(
        one in proptest::collection::vec(job(), 1..4),
        other in proptest::collection::vec(job(), 1..4),
    ) {
        let (one, other) = (simulate(&one, "a"), simulate(&other, "b"));
        let mut records: Vec<_> = one.records.iter().chain(&other.records).collect();
        records.sort_by_key(|((at, _), _)| *at);
        let log: String = records.into_iter().map(|(_, text)| text.as_str()).collect();
        let (found, doubtful) = read(&log, &[5000], None);
        prop_assert_eq!(doubtful, Vec::<String>::new());
        let mut all = one.used;
        all.extend(other.used);
        prop_assert_eq!(found, all);
    }

    /// Without its beginning a log charges nothing else: what is not held is what it was. But for servers that are restarted: where
    /// the log begins between two `S` of one run, the second is its start, and records that a restart tore from it are not known.
    #[test]
    fn of_a_log_without_its_beginning_nothing_false_is_charged(
        jobs in proptest::collection::vec(job(), 1..6),
        from in 0..100_usize,
    ) {
        let mut jobs = jobs;
        for job in &mut jobs {
            job.actions.retain(|(_, action)| !matches!(action, Action::Restart));
        }
        let simulated = simulate(&jobs, "s");
        let lines: Vec<&str> = simulated.records.values().map(String::as_str).collect();
        let (found, _) = read(&lines[lines.len() * from / 100..].concat(), &[5000], None);
        for (run, used) in found {
            let expected = &simulated.used[&run];
            // Suspension may not be known; the seconds are, to twice the tolerance, and no phase is made up.
            let twice = 60;
            prop_assert!(used.0.abs_diff(expected.0) <= twice, "{run:?}: {used:?} {expected:?}");
            prop_assert!(used.2.len() == expected.2.len() || used.2.is_empty(), "{run:?}: {used:?} {expected:?}");
        }
    }
}
