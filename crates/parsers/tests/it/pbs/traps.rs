//! What the format does that a reader would not expect, each named after what the test protects.

use super::{E, TORQUE, fixture, frames, quarantined, run, runs, word, words};
use parsers::{Finding, Frame, Kind, NoteKind, Reason, Run, State};

fn log() -> Vec<u8> {
    fixture("pbs/openpbs/20261123")
}

fn torque_log() -> Vec<u8> {
    fixture("pbs/torque/20261123")
}

fn all<'a>(log: &'a [u8], id: &str) -> Vec<Run<'a>> {
    runs(log).into_iter().filter(|run| run.job_id == id.as_bytes()).collect()
}

fn only<'a>(log: &'a [u8], id: &str) -> Run<'a> {
    match <[Run<'a>; 1]>::try_from(all(log, id)) {
        Ok([run]) => run,
        Err(runs) => panic!("{id}: {} runs", runs.len()),
    }
}

#[test]
fn keys_injected_through_an_account_are_text() {
    let log = log();
    let run = only(&log, "24.pbssrv");
    assert_eq!(run.account.unwrap(), "z end=1 Exit_status=99 user=root");
    assert_eq!(
        (run.user.unwrap().to_string(), run.end, run.exit_code),
        ("pbalice".into(), Some(1_795_426_291), Some(0))
    );
    let log = torque_log();
    let run = only(&log, "9.trqsrv");
    assert_eq!(run.account.unwrap(), "z end=1 Exit_status=99 user=root");
    assert_eq!((run.end, run.exit_code), (Some(1_795_428_488), Some(0)));
}

#[test]
fn a_newline_in_an_account_does_not_end_the_record() {
    let log = log();
    let run = only(&log, "22.pbssrv");
    assert_eq!(run.account.unwrap(), "line1\nline2");
    assert_eq!((run.cores, run.end), (Some(1), Some(1_795_426_291)));
    let log = torque_log();
    assert_eq!(only(&log, "10.trqsrv").account.unwrap(), "l1\nl2");
}

#[test]
fn quotes_and_semicolons_in_an_account_stay() {
    let log = log();
    assert_eq!(only(&log, "18.pbssrv").account.unwrap(), "my acct; x=1");
    assert_eq!(only(&log, "19.pbssrv").account.unwrap(), "ac\"ct q=2 \"end");
    assert_eq!(only(&log, "20.pbssrv").account.unwrap(), "o'neil \\ bs");
    assert_eq!(only(&log, "21.pbssrv").account.unwrap(), "Zoë–naïve");
    assert_eq!(only(&log, "23.pbssrv").account.unwrap(), "tab\there ");
    let log = torque_log();
    assert_eq!(only(&log, "8.trqsrv").account.unwrap(), "my acct; x=1 \"q\"");
}

#[test]
fn a_group_with_a_space_is_whole() {
    let log = log();
    assert_eq!(only(&log, "40.pbssrv").group.unwrap(), "domain users");
    let log = torque_log();
    assert_eq!(only(&log, "11.trqsrv").group.unwrap(), "domain users");
}

#[test]
fn a_quoted_project_is_unquoted() {
    let log = log();
    assert_eq!(only(&log, "27.pbssrv").project.unwrap(), "proj with space");
    assert_eq!(only(&log, "26.pbssrv").project.unwrap(), "climate.2026");
}

#[test]
fn torque_job_names_hold_equals_signs_and_semicolons() {
    let log = torque_log();
    assert_eq!(only(&log, "12.trqsrv").name.unwrap(), "a=b");
    assert_eq!(only(&log, "13.trqsrv").name.unwrap(), "a;b");
}

#[test]
fn json_and_free_text_in_resources_used_do_not_hide_the_walltime() {
    let log = log();
    for (id, seconds) in [("42.pbssrv", 3), ("43.pbssrv", 3), ("45.pbssrv", 2), ("46.pbssrv", 2)] {
        let run = only(&log, id);
        assert!(run.elapsed.is_some_and(|elapsed| elapsed.abs_diff(seconds) <= 1), "{id}: {:?}", run.elapsed);
        assert_eq!(run.run_count, Some(1), "{id}");
    }
    let odd = E.replace(
        "resources_used.mem=0kb",
        "resources_used.j='{\"n\": {\"note\": \"it's a b;c=d\"}}' resources_used.mem=0kb",
    );
    assert_eq!(run(&odd).elapsed, Some(3));
}

#[test]
fn a_chunk_split_over_vnodes_counts_its_cores_though_exec_host_says_0() {
    let log = log();
    let run = only(&log, "8.pbssrv");
    assert_eq!((run.cores, run.gpus, run.nodes), (Some(6), Some(3), Some(1)));
    assert_eq!(run.mem_bytes, Some((8_388_608 + 1_048_576) * 1024));
    assert_eq!(run.requested.mem_bytes, Some(9 << 30));
}

#[test]
fn the_rest_of_an_exclusive_host_adds_no_cores() {
    let log = log();
    let run = only(&log, "9.pbssrv");
    assert_eq!((run.cores, run.nodes), (Some(1), Some(1)));
}

#[test]
fn chunks_on_one_host_are_one_node() {
    let log = log();
    let run = only(&log, "6.pbssrv");
    assert_eq!((run.nodes, run.requested.nodes), (Some(2), Some(3)));
}

#[test]
fn a_job_that_never_started_was_given_nothing() {
    let log = log();
    let run = only(&log, "102.pbssrv");
    assert_eq!((run.start, run.allocated, run.signal, run.exit_code), (None, false, Some(9), None));
    assert_eq!(run.elapsed, Some(0), "what the server writes, not 56 years");
}

#[test]
fn an_array_as_a_whole_is_a_parent_and_holds_no_allocation() {
    let log = log();
    let run = only(&log, "57[].pbssrv");
    assert_eq!(run.kind, Kind::Parent);
    assert_eq!((run.cores, run.nodes, run.gpus, run.mem_bytes), (None, None, None, None));
    assert_eq!(only(&log, "57[0].pbssrv").kind, Kind::Run);
}

#[test]
fn reruns_are_runs_of_their_own() {
    let log = log();
    let runs = all(&log, "91.pbssrv");
    let told: Vec<_> = runs.iter().map(|run| (run.state, run.run_count, run.elapsed)).collect();
    assert_eq!(
        told,
        [
            (State::Requeued, Some(1), Some(10)),
            (State::Requeued, Some(2), Some(12)),
            (State::Failed, Some(3), Some(12))
        ]
    );
    assert!(runs.iter().all(|run| run.submit == runs[0].submit), "they share ctime");
}

#[test]
fn an_empty_rerun_of_torque_is_noted_and_the_next_run_counts_on() {
    let log = torque_log();
    let empty: Vec<_> = frames(&log)
        .into_iter()
        .filter(|frame| matches!(frame, Frame::Note(note) if note.kind == NoteKind::EmptyRerun))
        .collect();
    assert_eq!(empty.len(), 1);
    assert_eq!(only(&log, "23.trqsrv").run_count, Some(2));
}

#[test]
fn suspension_is_not_in_the_walltime() {
    let log = log();
    let run = only(&log, "71.pbssrv");
    assert_eq!((run.elapsed, run.end.unwrap() - run.start.unwrap()), (Some(29), 54));
    let log = torque_log();
    assert_eq!(only(&log, "24.trqsrv").elapsed, Some(3));
}

#[test]
fn torque_cput_in_bare_seconds_stands_beside_a_walltime() {
    let log = torque_log();
    let run = only(&log, "17.trqsrv");
    assert_eq!((run.elapsed, run.cores), (Some(6), Some(1)));
}

#[test]
fn torque_gpus_are_in_the_nodes_request() {
    let log = torque_log();
    assert_eq!(only(&log, "4.trqsrv").gpus, Some(1));
    let text = TORQUE.replace("nodes=1:ppn=2", "nodes=2:ppn=28:gpus=2+1:gpus=1");
    let run = run(&text);
    assert_eq!((run.gpus, run.requested.cores, run.requested.gpus), (Some(5), Some(57), Some(5)));
}

#[test]
fn torque_memory_in_words() {
    let log = torque_log();
    assert_eq!(only(&log, "15.trqsrv").mem_bytes, Some(3 << 23));
}

#[test]
fn walltime_limits_are_other_codes_in_torque_and_in_pbs_pro() {
    let pbs = log();
    assert_eq!(only(&pbs, "47.pbssrv").state, State::Timeout);
    assert_eq!(only(&pbs, "47.pbssrv").exit_code, Some(-29));
    assert_eq!(run(&E.replace("Exit_status=0", "Exit_status=-11")).state, State::Failed, "a rerun");
    let torque = torque_log();
    assert_eq!(only(&torque, "16.trqsrv").state, State::Timeout);
    assert_eq!(run(&TORQUE.replace("Exit_status=0", "Exit_status=-29")).state, State::Failed);
}

#[test]
fn exit_statuses_above_256_are_signals() {
    let told = |status: &str| {
        let text = E.replace("Exit_status=0", &format!("Exit_status={status}"));
        let run = run(&text);
        (run.state, run.exit_code, run.signal)
    };
    assert_eq!(told("0"), (State::Completed, Some(0), None));
    assert_eq!(told("3"), (State::Failed, Some(3), None));
    assert_eq!(told("137"), (State::Failed, Some(137), None));
    assert_eq!(told("265"), (State::Failed, None, Some(9)));
    assert_eq!(told("271"), (State::Failed, None, Some(15)));
    assert_eq!(told("-2"), (State::Failed, Some(-2), None));
}

#[test]
fn torque_slots_are_ranges_lists_and_repetitions() {
    for (slots, cores, nodes) in
        [("h/0-3,7", 5, 1), ("h/0*32", 32, 1), ("a/0-1+b/0-1+a/2", 5, 2), ("h/0+h/1", 2, 1)]
    {
        let text = TORQUE
            .replace("exec_host=trqsrv/0-1", &format!("exec_host={slots}"))
            .replace(" total_execution_slots=2 unique_node_count=1", "");
        let run = run(&text);
        assert_eq!((run.cores, run.nodes), (Some(cores), Some(nodes)), "{slots}");
    }
    assert_eq!(run(&TORQUE.replace("total_execution_slots=2", "total_execution_slots=64")).cores, Some(64));
}

#[test]
fn cray_jobs_are_as_wide_as_was_asked_not_as_the_login_node() {
    let text = E
        .replace("account=\"lab7\" project=_pbs_project_default ", "account=e71 ")
        .replace(
            "exec_host=n01/0*2 exec_vnode=(n01:ncpus=2)",
            "exec_host=nid00007/17 exec_vnode=(login1:ncpus=1)",
        )
        .replace(
            "Resource_List.ncpus=2",
            "Resource_List.mppnppn=2 Resource_List.mppwidth=65 Resource_List.ncpus=1",
        )
        .replace(" eligible_time=00:00:02 run_count=1", "");
    let run = run(&text);
    assert_eq!((run.cores, run.nodes, run.account.unwrap().to_string()), (Some(65), Some(33), "e71".into()));
    let deep = text.replace("mppnppn=2", "mppdepth=4");
    let run = super::run(&deep);
    assert_eq!((run.cores, run.nodes), (Some(260), None), "nothing says how many nodes");
}

#[test]
fn old_servers_write_less() {
    let old = "03/27/2006 00:00:02;E;32461.srv.example.org;user=bob group=g038 account=lattice jobname=hq queue=workq \
               start=1143437662 exec_host=q1/0+q2/0+q3/0 Resource_List.neednodes=3:myrinet Resource_List.nodect=3 \
               Resource_List.nodes=3:myrinet session=0 end=1143439202 Exit_status=0 resources_used.cput=00:00:18 \
               resources_used.walltime=19:23:4\n";
    let run = run(old);
    assert_eq!((run.cores, run.nodes, run.gpus, run.submit), (Some(3), Some(3), Some(0), None));
    assert_eq!((run.elapsed, run.cluster.unwrap().to_string()), (Some(69_784), "srv".into()));
}

#[test]
fn without_a_walltime_the_span_counts() {
    let log = E.replace(" resources_used.walltime=00:00:03", "");
    let run = run(&log);
    assert_eq!((run.elapsed, run.finding), (Some(4), None));
}

#[test]
fn an_end_before_the_start_is_held() {
    let log =
        E.replace("start=1795426177", "start=1795426190").replace(" resources_used.walltime=00:00:03", "");
    let run = run(&log);
    assert_eq!((run.elapsed, run.finding), (None, Some(Finding::EndBeforeStart)));
}

#[test]
fn a_date_that_no_zone_explains_is_held() {
    // end is 09:29:41 UTC.
    for (date, finding) in [
        ("11/23/2026 02:29:41", None),
        ("11/23/2026 23:34:41", None),
        ("11/22/2026 19:24:41", None),
        ("11/23/2026 23:34:42", Some(Finding::DateDisagrees)),
        ("11/22/2026 19:24:40", Some(Finding::DateDisagrees)),
        ("11/23/2020 02:29:41", Some(Finding::DateDisagrees)),
    ] {
        assert_eq!(run(&E.replace("11/23/2026 02:29:41", date)).finding, finding, "{date}");
    }
    assert_eq!(words(E.replace("11/23/2026", "13/32/2026").as_bytes()), ["value"]);
}

#[test]
fn an_hour_that_happens_twice_holds_nothing() {
    let log = fixture("pbs/openpbs/20261101");
    assert!(runs(&log).iter().all(|run| run.finding.is_none()));
    assert_eq!(runs(&log).len(), 5);
}

#[test]
fn reservations_are_noted() {
    let text = E.replace(";E;1.srv;", ";E;R12.srv;");
    assert_eq!(words(text.as_bytes()), ["reservation"]);
    let job_inside = E.replace("queue=workq", "queue=R87 resvname=resvone resvID=R87.srv");
    assert_eq!(run(&job_inside).reservation.unwrap(), "R87.srv");
}

#[test]
fn accounts_appended_by_a_site_count_where_there_is_no_other() {
    let appended =
        TORQUE.replace(" account=lab7", "").replace("energy_used=0\n", "energy_used=0 account=late\n");
    assert_eq!(run(&appended).account.unwrap(), "late");
    let text = appended.replace("account=late", "session_id=7");
    assert_eq!(run(&text).account, None);
}

#[test]
fn other_letters_are_counted_and_not_read() {
    let log = b"11/23/2026 02:00:00;L;license;floating license hour:0 day:0\n11/23/2026 02:00:00;r;1.s;\n\
                11/23/2026 02:00:00;%;1.s;anything\n";
    assert_eq!(words(log), ["L", "r", "%"]);
}

#[test]
fn what_a_record_must_have_is_missed_by_name() {
    let missing = |part: &str, field: &'static str| {
        let log = format!("{}{E}", E.replace(part, ""));
        assert_ne!(log, format!("{E}{E}"), "{part}");
        assert_eq!(quarantined(log.as_bytes())[0].reason, Reason::Missing { field });
    };
    missing(" end=1795426181", "end");
    missing(" start=1795426177", "start");
    missing(" queue=workq", "queue");
    missing(" Exit_status=0", "Exit_status");
    missing("user=alice ", "user");
    let rerun_of_14_1 = E.replace(";E;", ";R;").replace(" Exit_status=0", "");
    assert_eq!(run(&rerun_of_14_1).state, State::Requeued);
}

#[test]
fn values_that_are_not_of_their_form_are_refused_by_name() {
    for (from, to, field) in [
        ("end=1795426181", "end=soon", "end"),
        ("ctime=1795426177", "ctime=1795426177 shiny=new", "ctime"),
        ("queue=workq", "queue=workq shiny=new", "queue"),
        ("exec_vnode=(n01:ncpus=2)", "exec_vnode=n01:ncpus=2", "exec_vnode"),
        ("exec_host=n01/0*2", "exec_host=n01", "exec_host"),
        ("walltime=00:00:03", "walltime=-00:00:03", "resources_used.walltime"),
        ("run_count=1", "run_count=x", "run_count"),
        ("Resource_List.ncpus=2", "Resource_List.ncpus=two", "Resource_List.ncpus"),
        (";1.srv;", ";one;", "id"),
    ] {
        let log = E.replace(from, to);
        match &quarantined(log.as_bytes())[0].reason {
            Reason::Value { field: found, .. } => assert_eq!(found, field),
            other => panic!("{to}: {other}"),
        }
    }
}

#[test]
fn text_of_any_encoding_is_kept() {
    let mut log = E.as_bytes().to_vec();
    let at = E.find("lab7").unwrap();
    log.splice(at..at + 4, *b"\xff\x00\xe9");
    let runs = runs(&log);
    assert_eq!(runs[0].account.unwrap(), &b"\xff\x00\xe9"[..]);
}

#[test]
fn a_line_of_ten_megabytes_is_too_long_and_the_next_record_is_beside_it() {
    let log = format!("{}{E}{E}", E.replace("lab7", &"x".repeat(10_000_000)));
    assert_eq!(words(log.as_bytes()), ["too-long", "beside-torn", "run 1.srv"]);
    let log = "x".repeat(10_000_000);
    assert_eq!(words(log.as_bytes()), ["too-long"]);
}

#[test]
fn a_log_that_is_none_is_quarantined_line_by_line() {
    assert_eq!(words(b"JobID|User\n1|alice\n"), ["not-a-record", "not-a-record"]);
    assert_eq!(words(b""), <[String; 0]>::default());
    let log = format!("tail\" project=p\n{E}");
    assert_eq!(words(log.as_bytes()), ["not-a-record", "beside-torn"]);
}

#[test]
fn empty_lines_between_records_are_blank() {
    let log = format!("{E}\n\r\n{E}");
    assert_eq!(words(log.as_bytes()), ["run 1.srv", "blank", "blank", "run 1.srv"]);
    assert_eq!(word(&frames(log.replace('\n', "\r\n").as_bytes())[0]), "run 1.srv");
}

#[test]
fn servers_of_other_generations_are_read_by_the_same_rules() {
    // OpenPBS of 2006, with hosts behind `neednodes`; TORQUE 2: an `S` without what was asked for, `A` empty, `D` without a key.
    let old = b"\
09/16/2006 00:33:04;S;7.lq.example.org;user=ann group=lq account=lattice jobname=tp queue=workq ctime=1158384782 qtime=1158384782 etime=1158384782 start=1158384784 exec_host=p12/0+p13/0 Resource_List.neednodes=p12+p13 Resource_List.nodect=2 Resource_List.nodes=2 Resource_List.walltime=00:20:00\n\
10/27/2008 15:44:07;S;8.tq.example.org;user=eve group=eu jobname=STDIN queue=eu ctime=1225115373 qtime=1225115373 etime=1225115373 start=1225118647 owner=eve@i2.example.org exec_host=c24.example.org/2\n\
10/27/2008 20:55:45;A;9.tq.example.org;\n\
10/27/2008 21:03:20;D;10.tq.example.org;eve@euhost\n";
    assert_eq!(words(old), ["S", "S", "A", "D"]);
    // PBS Pro 9 on a Cray: groups may be `-default-`, accounts are not quoted, queues hold colons.
    let cray = "08/12/2008 00:04:14;E;11.ct;user=mia group=-default- account=e7-DQ jobname=fe.pbs queue=par:n32_12h ctime=1218451557 \
                qtime=1218451557 etime=1218451557 start=1218454455 exec_host=nid7/17 exec_vnode=(login2:ncpus=1) \
                Resource_List.mpparch=XT Resource_List.mppnppn=2 Resource_List.mppwidth=48 Resource_List.ncpus=1 \
                Resource_List.nodect=1 Resource_List.place=pack Resource_List.select=1 Resource_List.walltime=12:00:00 session=26 \
                alt_id=2501 end=1218495854 Exit_status=0 resources_used.cpupercent=0 resources_used.cput=00:00:00 \
                resources_used.mem=6200kb resources_used.ncpus=1 resources_used.vmem=36kb resources_used.walltime=11:30:00\n";
    let read = run(cray);
    assert_eq!((read.cores, read.nodes, read.elapsed), (Some(48), Some(24), Some(41_400)));
    assert_eq!(read.group.unwrap(), "-default-");
    // TORQUE 6 with keys in another order of its own, a site's PBS of 2025 with resources of its own.
    let torque = "04/05/2017 13:06:53;E;12.tq6.example.org;user=vsc1 group=vsc1 jobname=STDIN queue=short ctime=1491390300 \
                  qtime=1491390300 etime=1491390300 start=1491390307 owner=vsc1@gw.example.org exec_host=a1.ex/0-1+a3.ex/0-1 \
                  Resource_List.nodes=a1.ex:ppn=2+a3.ex:ppn=2 Resource_List.vmem=4224531456b Resource_List.nodect=2 \
                  Resource_List.neednodes=a1.ex:ppn=2+a3.ex:ppn=2 Resource_List.nice=0 session=15 total_execution_slots=4 \
                  unique_node_count=2 end=1491390413 Exit_status=0 resources_used.cput=0 resources_used.energy_used=0 \
                  resources_used.mem=55048kb resources_used.vmem=92488kb resources_used.walltime=00:01:44\n";
    assert_eq!((run(torque).cores, run(torque).nodes, run(torque).elapsed), (Some(4), Some(2), Some(104)));
    let site = "04/16/2025 10:19:48;E;13.cs-pbs;user=vic group=cs account=\"SC01\" project=_pbs_project_default jobname=v queue=vis \
                ctime=1744817013 qtime=1744817013 etime=1744817013 start=1744817058 exec_host=c15/3 \
                exec_vnode=(c15:ncpus=1:ngpus=1:mem=10485760kb) Resource_List.gpu_type=gp100 Resource_List.job_priority=premium \
                Resource_List.mps=0 Resource_List.ncpus=1 Resource_List.ngpus=1 Resource_List.nodect=1 Resource_List.nvpus=0 \
                Resource_List.place=scatter Resource_List.select=1:ncpus=1:ngpus=1:os=suse:ompthreads=1 session=45 end=1744820388 \
                Exit_status=271 resources_used.cput=00:02:56 resources_used.walltime=00:55:26 eligible_time=00:00:48 run_count=1\n";
    let read = run(site);
    assert_eq!((read.gpus, read.mem_bytes, read.signal), (Some(1), Some(10 << 30), Some(15)));
    assert_eq!(
        (read.resource(b"job_priority").unwrap(), read.resource(b"mps").unwrap()),
        ("premium".into(), "0".into())
    );
}

#[test]
fn gpus_have_the_name_that_a_site_gave_them() {
    let log = E.replace("(n01:ncpus=2)", "(n01:ncpus=2:naccelerators=4:ngpus=1)");
    let of = |names: &[&str]| {
        let mut options = parsers::pbs::Options::default();
        options.gpu_resources = names.iter().map(|name| (*name).to_owned()).collect();
        let mut gpus = None;
        let (text, mut events) = (log.as_bytes(), parsers::pbs::Events::default());
        parsers::pbs::Reader::new(&options).frames(text, 0..text.len(), true, &mut events, &mut |frame| {
            if let Frame::Run(run) = frame {
                gpus = run.gpus;
            }
        });
        gpus
    };
    assert_eq!(
        (of(&["ngpus"]), of(&["naccelerators"]), of(&["naccelerators", "ngpus"])),
        (Some(1), Some(4), Some(5))
    );
}

#[test]
fn every_letter_is_counted_and_so_is_any_other() {
    let mut log = String::new();
    for letter in "QSsCTDALMucearzUYBFKkPpdfgZ".chars() {
        log += &format!("11/23/2026 02:29:41;{letter};1.srv;\n");
    }
    let expected: Vec<_> = "QSsCTDALMucearzUYBFKkPpdfgZ".chars().map(String::from).collect();
    assert_eq!(words(log.as_bytes()), expected);
}
