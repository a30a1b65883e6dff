//! What the fold makes of records, trap by trap: those of the real logs, and those that only a log made for it can show.

use super::super::fuzzed::folded::{Folded, Folding};
use super::fixture;
use parsers::pbs::{Counts, OpenRun, OpenState, Options};
use parsers::{Finding, Frame, Kind, Phase, Run};

/// Reads logs one behind the other: the runs of jobs (`None`: seen before), and the fold behind them.
fn read<'a>(logs: &[&'a [u8]]) -> (Vec<Option<Run<'a>>>, Folding) {
    let mut folding = Folding::new(&Options::default(), &[1 << 16], None);
    let mut runs = Vec::new();
    for (number, log) in (1_u64..).zip(logs) {
        runs.extend(folding.file(number, log).into_iter().filter_map(|folded| match folded {
            Folded::Frame(Frame::Run(run)) => (run.kind == Kind::Run).then_some(Some(run)),
            Folded::Repeated { .. } => Some(None),
            Folded::Frame(_) => None,
        }));
    }
    (runs, folding)
}

fn runs_of<'a>(log: &'a [u8], id: &str) -> Vec<Run<'a>> {
    read(&[log]).0.into_iter().flatten().filter(|run| run.job_id == id.as_bytes()).collect()
}

fn only<'a>(log: &'a [u8], id: &str) -> Run<'a> {
    match <[Run<'a>; 1]>::try_from(runs_of(log, id)) {
        Ok([run]) => run,
        Err(runs) => panic!("{id}: {} runs", runs.len()),
    }
}

/// Seconds and nodes of each phase.
fn phases(run: &Run<'_>) -> Vec<(u64, u64)> {
    run.phases.iter().map(|phase| (phase.seconds, phase.nodes.unwrap())).collect()
}

fn openpbs() -> Vec<u8> {
    fixture("pbs/openpbs/20261123")
}

/// Records of a server in a zone.
struct Log {
    text: String,
    /// Hours from UTC.
    offset: i64,
    server: &'static str,
}

/// 2026-11-23 09:00 UTC.
const T: i64 = 1_795_424_400;

impl Log {
    fn new() -> Self {
        Self { text: String::new(), offset: -7, server: "srv" }
    }

    fn record(&mut self, letter: char, job: u32, at: i64, message: &str) -> &mut Self {
        let local = chrono::DateTime::from_timestamp(at + self.offset * 3600, 0).unwrap();
        let date = local.format("%m/%d/%Y %H:%M:%S");
        self.text += &format!("{date};{letter};{job}.{};{message}\n", self.server);
        self
    }

    fn start(&mut self, job: u32, start: i64, nodes: u32) -> &mut Self {
        self.record(
            'S',
            job,
            start,
            &format!("{} resource_assigned.ncpus={} ", job_at(start, nodes), 4 * nodes),
        )
    }

    /// `u` with the nodes until now, `c` with those that stay.
    fn release(&mut self, job: u32, start: i64, at: i64, (before, after): (u32, u32)) -> &mut Self {
        self.part('u', job, start, at, before).record(
            'c',
            job,
            at,
            &format!("{} resource_assigned.ncpus={} ", job_at(start, after), 4 * after),
        )
    }

    fn part(&mut self, letter: char, job: u32, start: i64, at: i64, nodes: u32) -> &mut Self {
        let message =
            format!("{} session=9 run_count=1  resources_used.walltime=00:00:01", job_at(start, nodes));
        self.record(letter, job, at, &message)
    }

    fn end(&mut self, job: u32, start: i64, end: i64, nodes: u32, walltime: i64) -> &mut Self {
        self.ended('E', job, start, end, nodes, walltime, 1)
    }

    #[allow(clippy::too_many_arguments, reason = "all of a record")]
    fn ended(
        &mut self,
        letter: char,
        job: u32,
        start: i64,
        end: i64,
        nodes: u32,
        walltime: i64,
        count: u32,
    ) -> &mut Self {
        let message = format!(
            "{} session=9 end={end} Exit_status=0 resources_used.walltime={}:{:02}:{:02} run_count={count}",
            job_at(start, nodes),
            walltime / 3600,
            walltime / 60 % 60,
            walltime % 60
        );
        self.record(letter, job, end, &message)
    }

    fn runs(&self) -> Vec<Run<'_>> {
        read(&[self.text.as_bytes()]).0.into_iter().map(|run| run.expect("nothing comes twice")).collect()
    }

    fn run(&self) -> Run<'_> {
        match <[Run<'_>; 1]>::try_from(self.runs()) {
            Ok([run]) => run,
            Err(runs) => panic!("{runs:#?}"),
        }
    }

    fn counts(&self) -> Counts {
        *read(&[self.text.as_bytes()]).1.fold.counts()
    }

    fn open(&self) -> Vec<(String, OpenState)> {
        let shown = |run: OpenRun| (String::from_utf8(run.id).unwrap(), run.state);
        read(&[self.text.as_bytes()]).1.fold.open_runs().into_iter().map(shown).collect()
    }
}

/// A job on nodes n1 to nN, two cores and one GPU of each.
fn job_at(start: i64, nodes: u32) -> String {
    let hosts: Vec<_> = (1..=nodes).map(|node| format!("n{node}/0*2")).collect();
    let vnodes: Vec<_> = (1..=nodes).map(|node| format!("(n{node}:ncpus=2:ngpus=1:mem=1gb)")).collect();
    format!(
        "user=alice group=physics jobname=j queue=workq ctime={T} qtime={T} etime={T} start={start} exec_host={} \
         exec_vnode={} Resource_List.ncpus={} Resource_List.walltime=01:00:00",
        hosts.join("+"),
        vnodes.join("+"),
        2 * nodes
    )
}

#[test]
fn the_time_of_an_e_after_releases_is_the_rest_and_its_nodes_are_those_of_the_start() {
    let log = openpbs();
    let run = only(&log, "1009.pbssrv");
    assert_eq!(phases(&run), [(47, 3), (15, 2)]);
    assert_eq!((run.elapsed, run.cores, run.nodes), (Some(62), Some(6), Some(3)));
    let cores: Vec<_> = run.phases.iter().map(|phase| phase.cores.unwrap()).collect();
    assert_eq!(cores, [6, 4]);
    let alone: Vec<&[u8]> =
        log.split(|&byte| byte == b'\n').filter(|line| line.get(20) == Some(&b'E')).collect();
    let record = [alone.join(&b'\n'), b"\n".to_vec()].concat();
    assert_eq!(only(&record, "1009.pbssrv").elapsed, Some(18), "what the E says by itself");
}

#[test]
fn what_a_u_says_was_used_may_be_nothing_though_time_had_passed() {
    let log = openpbs();
    assert_eq!(phases(&only(&log, "75.pbssrv")), [(3, 3), (25, 2)]);
    assert_eq!(phases(&only(&log, "90.pbssrv")), [(12, 3), (10, 2), (151, 1)]);
    assert_eq!(phases(&only(&log, "108.pbssrv")), [(6, 3), (15, 2)]);
}

#[test]
fn a_server_that_was_killed_forgets_what_it_subtracted() {
    let log = openpbs();
    let run = only(&log, "110.pbssrv");
    assert_eq!((phases(&run), run.elapsed), (vec![(20, 3), (20, 2), (22, 1)], Some(62)));
}

#[test]
fn later_runs_of_a_job_that_released_nodes_are_charged_from_start_to_end() {
    let log = openpbs();
    let runs = runs_of(&log, "1011.pbssrv");
    assert_eq!((phases(&runs[0]), runs[0].cores, runs[0].nodes), (vec![(12, 2), (13, 1)], Some(2), Some(2)));
    assert_eq!((runs[1].phases.len(), runs[1].elapsed), (0, Some(27)), "the server subtracted 10 again");
    // Over three runs, and without the time suspended.
    let mut log = Log::new();
    log.start(1, T, 2).release(1, T, T + 100, (2, 1)).ended('R', 1, T, T + 200, 1, 100, 1);
    log.start(1, T + 300, 2).ended('R', 1, T + 300, T + 400, 2, 7, 2);
    log.start(1, T + 500, 2).record('z', 1, T + 520, "").record('r', 1, T + 530, "");
    log.ended('E', 1, T + 500, T + 600, 2, 7, 3);
    let told: Vec<_> = log.runs().iter().map(|run| (run.elapsed, run.suspended, phases(run))).collect();
    assert_eq!(
        told,
        [
            (Some(200), None, vec![(100, 2), (100, 1)]),
            (Some(100), None, vec![]),
            (Some(90), Some(10), vec![])
        ]
    );
    assert_eq!(log.counts().after_releases, 2);
}

#[test]
fn nodes_released_when_files_are_staged_out_are_released_to_the_end() {
    assert_eq!(phases(&only(&openpbs(), "77.pbssrv")), [(7, 2), (1, 1)]);
}

#[test]
fn a_suspended_phase_is_shorter() {
    let log = openpbs();
    let run = only(&log, "1010.pbssrv");
    assert_eq!((phases(&run), run.suspended, run.elapsed), (vec![(13, 2), (11, 1)], Some(12), Some(24)));
    // Suspended across the release: each phase loses its own part.
    let mut log = Log::new();
    log.start(1, T, 2).record('z', 1, T + 10, "").release(1, T, T + 30, (2, 1)).record('r', 1, T + 45, "");
    log.part('e', 1, T, T + 60, 1).end(1, T, T + 60, 2, 1);
    let run = log.run();
    assert_eq!((phases(&run), run.suspended), (vec![(10, 2), (15, 1)], Some(35)));
}

#[test]
fn gpus_memory_and_what_was_assigned_change_with_the_phase() {
    let mut log = Log::new();
    log.start(1, T, 3).release(1, T, T + 10, (3, 1)).part('e', 1, T, T + 30, 1).end(1, T, T + 30, 3, 20);
    let mut options = Options::default();
    options.assigned = true;
    let mut folding = Folding::new(&options, &[1000], Some(1));
    let folded = folding.file(1, log.text.as_bytes());
    let Some(Folded::Frame(Frame::Run(run))) = folded.last() else { panic!("{folded:#?}") };
    let phase = |seconds, nodes: u64| {
        let (cores, gpus, mem_bytes) = (Some(2 * nodes), Some(nodes), Some(nodes << 30));
        let assigned =
            parsers::Assigned { cores: Some(4 * nodes), nodes: Some(nodes), gpus: Some(0), mem_bytes: None };
        Phase { seconds, cores, nodes: Some(nodes), gpus, mem_bytes, assigned }
    };
    assert_eq!(run.phases, [phase(10, 3), phase(20, 1)]);
    assert_eq!(run.assigned, phase(10, 3).assigned);
    assert_eq!((run.cores, run.gpus), (Some(6), Some(3)));
}

#[test]
fn a_release_of_which_a_record_is_missing_is_held() {
    let whole = || {
        let mut log = Log::new();
        log.start(1, T, 3).release(1, T, T + 10, (3, 2)).release(1, T, T + 20, (2, 1));
        log.part('e', 1, T, T + 60, 1).end(1, T, T + 60, 3, 40);
        log
    };
    let run = whole();
    assert_eq!(phases(&run.run()), [(10, 3), (10, 2), (40, 1)]);
    let lines: Vec<String> = whole().text.lines().map(str::to_owned).collect();
    let without = |left_out: &[usize]| {
        let kept: Vec<_> =
            (0..lines.len()).filter(|line| !left_out.contains(line)).map(|line| &lines[line]).collect();
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        let log = Log { text, ..Log::new() };
        let run = log.run();
        (run.finding, phases(&run))
    };
    // S u c u c e E. One of u and c is enough, as long as the other and the neighbours agree.
    let all = vec![(10, 3), (10, 2), (40, 1)];
    for one in [1, 2, 3, 4] {
        assert_eq!(without(&[one]), (None, all.clone()), "{}", lines[one]);
    }
    assert_eq!(without(&[0]), (None, all), "the E says what it had at first");
    // A whole release, or the e, or the beginning.
    for some in [&[1, 2][..], &[3, 4], &[5], &[0, 1], &[0, 1, 2]] {
        assert_eq!(without(some), (Some(Finding::NodeRelease), vec![]), "{some:?}");
    }
    assert_eq!(without(&[1, 2, 3, 4]), (Some(Finding::LogIncomplete), vec![]), "an e alone");
    assert_eq!(without(&[1, 2, 3, 4, 5]), (None, vec![]), "nothing shows it");
    assert_eq!(without(&[0, 1, 2, 3, 4, 5]).0, None, "20 s short");
}

#[test]
fn pruned_before_it_began_is_no_release() {
    let log = openpbs();
    let run = only(&log, "103.pbssrv");
    assert_eq!((run.finding, run.cores, run.nodes, run.phases.len()), (None, Some(2), Some(2), 0));
    assert_eq!(run.requested.nodes, Some(3), "what was asked for stays in the record");
}

#[test]
fn every_run_of_a_job_is_one() {
    let log = openpbs();
    let told: Vec<_> =
        runs_of(&log, "91.pbssrv").iter().map(|run| (run.run_count, run.elapsed, run.finding)).collect();
    assert_eq!(told, [(Some(1), Some(10), None), (Some(2), Some(12), None), (Some(3), Some(12), None)]);
}

#[test]
fn usage_that_the_execution_host_took_with_it_is_zero() {
    let log = openpbs();
    for (id, run, code) in [("1001.pbssrv", 0, -4), ("1002.pbssrv", 0, -4), ("1003.pbssrv", 0, 0)] {
        let run = &runs_of(&log, id)[run];
        assert_eq!((run.elapsed, run.exit_code, run.finding), (Some(0), Some(code), None), "{id}");
        assert!(run.end > run.start);
    }
    assert!(runs_of(&log, "1004.pbssrv").is_empty());
    let (_, folding) = read(&[&log]);
    let open = folding.fold.open_runs();
    let lost = OpenRun { id: b"1004.pbssrv".to_vec(), start: Some(1_795_427_022), state: OpenState::Lost };
    assert_eq!(open, [lost]);
}

#[test]
fn a_second_start_without_an_end_between_is_a_restart_of_the_server() {
    let log = openpbs();
    let run = only(&log, "1000.pbssrv");
    assert_eq!((run.elapsed, run.end.unwrap() - run.start.unwrap(), run.finding), (Some(12), 2, None));
    assert_eq!(read(&[&log]).1.fold.counts().server_restarts, 1);
    // Nodes released before the restart are counted from the first start.
    let mut log = Log::new();
    log.start(1, T, 2).release(1, T, T + 40, (2, 1));
    log.record('S', 1, T + 50, &format!("{} ", job_at(T + 50, 1)));
    log.part('e', 1, T + 50, T + 90, 1).end(1, T + 50, T + 90, 2, 50);
    assert_eq!(phases(&log.run()), [(40, 2), (50, 1)]);
}

#[test]
fn a_second_start_elsewhere_is_another_run_and_the_first_is_lost() {
    let mut log = Log::new();
    log.start(1, T, 2).start(1, T + 500, 3).end(1, T + 500, T + 600, 3, 98);
    let run = log.run();
    assert_eq!((run.elapsed, run.cores, run.finding), (Some(98), Some(6), None));
    assert_eq!(log.counts().lost, 1);
}

#[test]
fn suspension_is_told_and_explains_a_short_walltime() {
    let log = openpbs();
    for (id, suspended, elapsed) in
        [("71.pbssrv", 24, 29), ("94.pbssrv", 6, 8), ("95.pbssrv", 132, 0), ("96.pbssrv", 3, 6)]
    {
        let run = only(&log, id);
        assert_eq!((run.suspended, run.elapsed, run.finding), (Some(suspended), Some(elapsed), None), "{id}");
    }
    assert_eq!(only(&log, "1.pbssrv").suspended, None);
}

#[test]
fn files_staged_out_for_long_are_no_reason_to_doubt() {
    let log = openpbs();
    let run = only(&log, "50.pbssrv");
    assert_eq!((run.elapsed, run.end.unwrap() - run.start.unwrap(), run.finding), (Some(0), 32, None));
}

#[test]
fn a_start_of_zero_is_no_start() {
    let log = openpbs();
    let run = only(&log, "102.pbssrv");
    assert_eq!((run.start, run.allocated, run.finding), (None, false, None));
}

#[test]
fn a_deletion_does_not_end_a_run() {
    let log = openpbs();
    for id in ["62.pbssrv", "63.pbssrv", "65.pbssrv", "108.pbssrv"] {
        assert!(only(&log, id).elapsed > Some(5), "{id}");
    }
    let mut log = Log::new();
    log.start(1, T, 1).record('D', 1, T + 5, "requestor=root@srv").record(
        'D',
        2,
        T + 6,
        "requestor=root@srv",
    );
    assert_eq!(log.open(), [("1.srv".to_owned(), OpenState::Deleted)]);
    assert_eq!(log.counts().deleted_without_start, 1);
    log.end(1, T, T + 9, 1, 8);
    assert_eq!((log.run().elapsed, log.open().len()), (Some(8), 0));
}

#[test]
fn what_began_and_never_ends_is_told_and_never_charged() {
    let mut log = Log::new();
    log.start(1, T, 1).start(2, T, 1).record('D', 2, T + 9, "Job deleted, execution node n1 down");
    assert_eq!(log.open(), [("1.srv".to_owned(), OpenState::Running), ("2.srv".to_owned(), OpenState::Lost)]);
    // An hour was asked for; a day and more later it is not coming.
    log.start(3, T + 90_100, 1);
    assert_eq!(log.open()[0], ("1.srv".to_owned(), OpenState::Lost));
    assert_eq!(log.open()[2], ("3.srv".to_owned(), OpenState::Running));
    assert!(log.runs().is_empty());
}

#[test]
fn arrays_and_reservations_are_nothing_to_the_fold() {
    let mut log = Log::new();
    let message = job_at(T, 1);
    log.text += &format!(
        "11/23/2026 02:00:00;S;7[].srv;{message} array_indices=0-3\n11/23/2026 02:00:00;B;R8.srv;owner=a queue=R8 start={T}\n\
         11/23/2026 02:00:09;K;R8.srv;requestor=x\n11/23/2026 02:00:09;L;license;floating license hour:0\n"
    );
    assert_eq!((log.open().len(), log.counts()), (0, Counts::default()));
}

#[test]
fn exclusive_placement_takes_more_than_it_gives() {
    let log = openpbs();
    let mut options = Options::default();
    options.assigned = true;
    let folded = Folding::new(&options, &[1 << 16], None).file(1, &log);
    let of = |id: &str| {
        let found = folded.iter().find_map(|folded| match folded {
            Folded::Frame(Frame::Run(run)) if run.job_id == id.as_bytes() => Some(run),
            _ => None,
        });
        let run = found.unwrap();
        (run.cores, run.assigned.cores, run.assigned.gpus, run.assigned.nodes, run.assigned.mem_bytes)
    };
    assert_eq!(of("9.pbssrv"), (Some(1), Some(8), Some(4), Some(1), Some(16 << 30)));
    assert_eq!(of("10.pbssrv"), (Some(2), Some(4), Some(2), Some(1), Some(8 << 30)));
    assert_eq!(of("103.pbssrv").1, Some(2), "pruned");
    assert_eq!(only(&log, "9.pbssrv").assigned.cores, None, "not asked for");
}

#[test]
fn the_hour_that_comes_twice_is_told_by_the_records_around() {
    let log = fixture("pbs/openpbs/20261101");
    assert!(read(&[&log]).0.iter().flatten().all(|run| run.finding.is_none()));
    // 2026-11-01: clocks in Denver go from 02:00 (08:00 UTC) back to 01:00.
    const CHANGE: i64 = 1_793_520_000;
    // Each: when the node was released, and starts of other jobs around it.
    let of = |released: i64, others: &[i64]| {
        let mut log = Log::new();
        let (start, end) = (CHANGE - 7200, CHANGE + 7200);
        let mut moments: Vec<(i64, bool)> = others.iter().map(|&at| (at, false)).collect();
        moments.push((released, true));
        moments.sort_unstable();
        let at = |log: &mut Log, time: i64| log.offset = if time < CHANGE { -6 } else { -7 };
        at(&mut log, start);
        log.start(1, start, 2);
        for (time, is_release) in moments {
            at(&mut log, time);
            if is_release {
                log.release(1, start, time, (2, 1));
            } else {
                log.start(time as u32, time, 1);
            }
        }
        at(&mut log, end);
        log.part('e', 1, start, end, 1).end(1, start, end, 2, 60);
        let run = log.run();
        (run.finding, run.phases.first().map(|phase| phase.seconds))
    };
    let half = 1800;
    for released in [CHANGE - half, CHANGE + half] {
        let seconds = Some((released - CHANGE + 7200) as u64);
        assert_eq!(of(released, &[released - 60, released + 60]), (None, seconds), "{released}");
        assert_eq!(
            of(released, &[CHANGE - 100, CHANGE + 100]),
            (None, seconds),
            "{released}: one on each side"
        );
    }
    assert_eq!(of(CHANGE - half, &[]), (Some(Finding::AmbiguousTime), None), "nothing tells");
    assert_eq!(
        of(CHANGE + 4000, &[]),
        (Some(Finding::AmbiguousTime), None),
        "nor that the clock was changed before"
    );
}

#[test]
fn a_run_may_end_in_the_next_file_and_its_zone_needs_no_configuration() {
    let (first, second) = (fixture("pbs/openpbs/20261031"), fixture("pbs/openpbs/20261101"));
    let (runs, folding) = read(&[&first, &second]);
    let run = runs.iter().flatten().find(|run| run.job_id == "1012.pbssrv").unwrap();
    assert_eq!((run.elapsed, run.finding), (Some(40), None));
    assert_eq!(folding.fold.counts().no_start_seen, 0);
    for offset in [-11, 0, 5, 13] {
        let mut log = Log { offset, ..Log::new() };
        log.start(1, T, 2).release(1, T, T + 10, (2, 1)).part('e', 1, T, T + 30, 1).end(1, T, T + 30, 2, 20);
        assert_eq!(phases(&log.run()), [(10, 2), (20, 1)], "{offset}");
    }
}

#[test]
fn an_id_that_is_given_again_is_another_job() {
    let mut log = Log::new();
    log.start(1, T, 1).end(1, T, T + 60, 1, 59);
    // Years later, with another ctime; and a run of the first time that was lost.
    let later = T + 100_000_000;
    let again = job_at(later, 1).replace(&format!("ctime={T}"), &format!("ctime={later}"));
    log.start(2, T, 1);
    log.text += &format!("01/24/2030 10:46:40;S;2.srv;{again} \n");
    assert_eq!(log.counts().lost, 1);
    assert_eq!(log.counts().server_restarts, 0);
    assert_eq!(log.runs().len(), 1);
}

#[test]
fn torques_empty_rerun_is_usage_that_no_record_has() {
    let log = fixture("pbs/torque/20261123");
    let (runs, folding) = read(&[&log]);
    let run = runs.iter().flatten().find(|run| run.job_id == "23.trqsrv").unwrap();
    assert_eq!((run.run_count, run.elapsed), (Some(2), Some(10)));
    assert_eq!(folding.fold.counts().without_record, 1);
    let open: Vec<_> = folding.fold.open_runs().into_iter().map(|run| (run.id, run.state)).collect();
    assert_eq!(
        open,
        [(b"25.trqsrv".to_vec(), OpenState::Running), (b"5.trqsrv".to_vec(), OpenState::Running)],
        "purged: S and nothing else"
    );
}

#[test]
fn a_checkpoint_moves_the_start_and_what_was_used_before_it_is_in_no_record() {
    let log = openpbs();
    let run = only(&log, "97.pbssrv");
    assert_eq!((run.elapsed, run.start, run.finding), (Some(4), Some(1_795_426_714), None));
    assert_eq!(read(&[&log]).1.fold.counts().from_checkpoint, 1);
}

#[test]
fn without_its_start_a_walltime_below_the_span_is_held() {
    let of = |span: i64, walltime: i64| {
        let mut log = Log::new();
        log.end(1, T, T + span, 2, walltime);
        log.run().finding
    };
    assert_eq!(of(1000, 970), None, "as far as honest logs go");
    assert_eq!(of(1000, 969), Some(Finding::LogIncomplete));
    assert_eq!(of(1000, 1030), None);
    assert_eq!(of(1000, 1031), Some(Finding::LogIncomplete), "it began before the server was restarted");
    let mut log = Log::new();
    log.end(1, T, T + 1000, 2, 100);
    assert_eq!((log.counts().no_start_seen, log.counts().doubted), (1, 1));
    // The S was seen: no u can have been missed.
    let mut log = Log::new();
    log.start(1, T, 2).end(1, T, T + 1000, 2, 100);
    assert_eq!((log.run().finding, log.counts().no_start_seen), (None, 0));
    // More than has passed since its S: that was not the first.
    let mut log = Log::new();
    log.start(1, T, 2).end(1, T, T + 1000, 2, 1031);
    assert_eq!(log.run().finding, Some(Finding::LogIncomplete));
    // A z explains it, as far as it goes.
    let mut log = Log::new();
    log.record('z', 1, T + 50, "").record('r', 1, T + 950, "").end(1, T, T + 1000, 2, 100);
    assert_eq!(log.run().finding, None);
    let mut log = Log::new();
    log.record('z', 1, T + 50, "").record('r', 1, T + 550, "").end(1, T, T + 1000, 2, 100);
    assert_eq!(log.run().finding, Some(Finding::LogIncomplete));
}

#[test]
fn servers_that_release_no_nodes_are_not_doubted() {
    let of = |text: String| Log { text, ..Log::new() }.run().finding;
    let mut log = Log::new();
    log.end(1, T, T + 1000, 2, 100);
    assert_eq!(of(log.text.replace(" run_count=1", "")), None, "PBS Pro 9");
    let torque = super::TORQUE.replace("end=1795428439", "end=1795429439").replace("03:07:19", "03:23:59");
    assert_eq!(of(torque), None);
}

#[test]
fn a_log_with_a_hole_is_as_if_the_start_had_not_been_seen() {
    let mut first = Log::new();
    first.start(1, T, 2);
    let mut second = Log::new();
    second.end(1, T, T + 1000, 2, 100);
    let finding = |hole: bool| {
        let mut folding = Folding::new(&Options::default(), &[1 << 16], None);
        folding.file(1, first.text.as_bytes());
        if hole {
            folding.fold.interrupted();
            folding.save_and_load();
        }
        match folding.file(2, second.text.as_bytes()).as_slice() {
            [Folded::Frame(Frame::Run(run))] => run.finding,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(finding(false), None);
    assert_eq!(finding(true), Some(Finding::LogIncomplete));
}

#[test]
fn a_torn_record_may_have_been_the_one_that_matters() {
    let finding = |torn: &str| {
        let mut log = Log::new();
        log.start(1, T, 2);
        log.text += torn;
        log.start(2, T + 900, 1).end(1, T, T + 1000, 2, 100);
        let run = log.run();
        (run.finding, log.counts().torn)
    };
    assert_eq!(finding(""), (None, 0));
    assert_eq!(finding("11/23/2026 02:10:00;u;1.srv;user=alice gro"), (Some(Finding::LogIncomplete), 1));
    assert_eq!(finding("11/23/2026 02:10:00;u;8.srv;user=alice gro"), (None, 1), "another job's");
    assert_eq!(finding("11/23/2026 02:10:00;u;1"), (Some(Finding::LogIncomplete), 1), "nobody knows whose");
    assert_eq!(finding("11/23/2026 02:1"), (Some(Finding::LogIncomplete), 1));
}

#[test]
fn records_beside_a_torn_one_change_nothing() {
    // An account of job 2 with a newline: its S is torn, and what follows claims that job 1 gave its nodes back.
    let mut log = Log::new();
    log.start(1, T, 3);
    let (head, tail) =
        job_at(T + 1, 1).split_once(" jobname").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    log.record('S', 2, T + 1, &format!("{head} account=\"x"));
    log.record('c', 1, T + 1, &job_at(T, 1)).record('D', 3, T + 1, &format!("\" jobname{tail}"));
    log.start(4, T + 2, 1).end(1, T, T + 1000, 3, 990);
    let run = log.run();
    assert_eq!((run.phases.len(), run.finding, run.elapsed), (0, None, Some(990)));
}

#[test]
fn another_record_of_the_same_run_is_held() {
    let mut log = Log::new();
    log.start(1, T, 2).end(1, T, T + 100, 2, 99).end(1, T, T + 90_000, 2, 90_000);
    let told: Vec<_> = log.runs().iter().map(|run| run.finding).collect();
    assert_eq!(told, [None, Some(Finding::EndedTwice)]);
}

#[test]
fn a_record_that_comes_again_is_no_run() {
    let mut log = Log::new();
    log.start(1, T, 2).release(1, T, T + 40, (2, 1)).part('e', 1, T, T + 90, 1).end(1, T, T + 90, 2, 50);
    let text = log.text.as_bytes();
    let last = text[..text.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    // The whole file twice; its end; a live copy that began in the middle.
    for again in [text, &text[last..], &text[text.len() / 2..]] {
        let from = again.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let again = if again.len() == text.len() || from == again.len() { again } else { &again[from..] };
        let (runs, folding) = read(&[text, again]);
        assert_eq!(runs.len(), 2);
        assert_eq!(phases(runs[0].as_ref().unwrap()), [(40, 2), (50, 1)]);
        assert_eq!(runs[1], None);
        let counts = folding.fold.counts();
        assert_eq!((counts.repeated, counts.repeated_in_file), (1, 0));
        assert!(folding.fold.open_runs().is_empty());
    }
    let twice = [text, text].concat();
    let (runs, folding) = read(&[&twice]);
    assert_eq!((runs.len(), folding.fold.counts().repeated_in_file), (2, 1));
}

#[test]
fn a_live_copy_that_overlaps_adds_nothing() {
    let mut log = Log::new();
    log.start(1, T, 3).release(1, T, T + 40, (3, 2)).record('z', 1, T + 50, "").record('r', 1, T + 60, "");
    let middle = log.text.len();
    log.release(1, T, T + 70, (2, 1)).part('e', 1, T, T + 90, 1).end(1, T, T + 90, 3, 50);
    let expected = log.run();
    let lines: Vec<usize> =
        log.text.match_indices('\n').map(|(at, _)| at + 1).filter(|&at| at <= middle).collect();
    for &from in lines.iter().chain(&[0]) {
        for &until in &lines {
            if from > until {
                continue;
            }
            // Read up to `until`, then again from `from` on.
            let (runs, _) = read(&[&log.text.as_bytes()[..until], &log.text.as_bytes()[from..]]);
            let runs: Vec<_> = runs.into_iter().flatten().collect();
            assert_eq!(runs.len(), 1);
            assert_eq!(
                (&runs[0].phases, runs[0].suspended),
                (&expected.phases, expected.suspended),
                "{from} {until}"
            );
        }
    }
}

#[test]
fn servers_in_one_log_do_not_see_each_other() {
    let mut log = Log::new();
    log.start(1, T, 2).release(1, T, T + 40, (2, 1));
    log.server = "other.example.org";
    log.start(1, T, 2).end(1, T, T + 60, 2, 59);
    log.server = "srv";
    log.part('e', 1, T, T + 90, 1).end(1, T, T + 90, 2, 50);
    let runs = log.runs();
    assert_eq!((runs[0].phases.len(), runs[0].elapsed), (0, Some(59)));
    assert_eq!(phases(&runs[1]), [(40, 2), (50, 1)]);
}

#[test]
fn runs_beyond_the_limit_are_forgotten_and_held_when_they_end() {
    let mut log = Log::new();
    for job in 0..40 {
        log.start(job, T + i64::from(job), 1);
    }
    for job in 0..40 {
        log.end(job, T + i64::from(job), T + 100 + i64::from(job), 1, 100);
    }
    let mut folding = Folding::new(&Options::default(), &[700], Some(3));
    folding.options.open_runs = 24;
    folding.save_and_load();
    let mut findings = Vec::new();
    for folded in folding.file(1, log.text.as_bytes()) {
        if let Folded::Frame(Frame::Run(run)) = folded {
            findings.push(run.finding);
        }
    }
    let held = findings.iter().filter(|finding| **finding == Some(Finding::LogIncomplete)).count();
    assert!((16..24).contains(&held), "{held}");
    assert!(findings[..held].iter().all(Option::is_some) && findings[held..].iter().all(Option::is_none));
}

#[test]
fn a_saved_state_that_was_touched_is_refused() {
    use parsers::pbs::{Fold, FoldOptions, LoadError};
    let mut log = Log::new();
    log.start(1, T, 3).release(1, T, T + 40, (3, 2)).record('z', 1, T + 50, "");
    log.start(2, T, 1).end(2, T, T + 60, 1, 59);
    let (_, folding) = read(&[log.text.as_bytes()]);
    let saved = folding.fold.save();
    let options = FoldOptions::default();
    assert!(Fold::load(&saved, &options).is_ok());
    for at in 0..saved.len() {
        let mut touched = saved.clone();
        touched[at] ^= 1;
        let expected = match at {
            0..8 => LoadError::NotAState,
            8 => LoadError::Version(0),
            _ => LoadError::Damaged,
        };
        assert_eq!(Fold::load(&touched, &options).unwrap_err(), expected, "{at}");
        assert!(Fold::load(&saved[..at], &options).is_err(), "{at}");
    }
    assert!(Fold::load(&[&saved[..], b"x"].concat(), &options).is_err());
}
