//! Forgeries: which are caught, and which cannot be.
//!
//! `-A` may hold a newline, and nothing is escaped: a user writes whole lines into the log. What is caught here, and what the bytes
//! cannot tell, is written down as tests, so that neither changes unseen.

use super::{E, TORQUE, frames, run, runs, word, words};
use parsers::{Frame, Run};
use proptest::prelude::*;

/// A record of somebody else: 100,000 cores.
fn forged() -> String {
    E.trim_end()
        .replace("1.srv", "666.srv")
        .replace("alice", "victim")
        .replace("exec_vnode=(n01:ncpus=2)", "exec_vnode=(n01:ncpus=100000)")
}

/// The log of a job with this account, as OpenPBS 20 and later writes it: `Q`, `S` and `E` hold it.
fn log_with(account: &str) -> String {
    let (before_usage, _) = E.split_once(" session=").unwrap();
    let (before_start, after_start) = before_usage.split_once(" start=").unwrap();
    let (_, requested) = after_start.split_once(" Resource_List").unwrap();
    let started = format!("{before_usage} resource_assigned.ncpus=2 \n").replace(";E;", ";S;");
    let queued = format!("{before_start} Resource_List{requested} \n").replace(";E;", ";Q;");
    let other = E.replace("1.srv", "2.srv");
    [
        queued.replace("lab7", account),
        other.clone(),
        started.replace("lab7", account),
        other.clone(),
        E.replace("lab7", account),
        other,
    ]
    .concat()
}

#[test]
fn the_log_of_these_tests_is_one_that_is_read() {
    assert_eq!(
        words(log_with("x").as_bytes()),
        ["Q", "run 2.srv", "S", "run 2.srv", "run 1.srv", "run 2.srv"]
    );
}

/// Ids of the runs in a log.
fn ids(log: &str) -> Vec<String> {
    runs(log.as_bytes()).iter().map(|run| run.job_id.to_string()).collect()
}

#[test]
fn a_record_behind_a_newline_in_an_account_is_no_run() {
    let log = log_with(&format!("x\n{}", forged()));
    assert_eq!(log.matches(";E;666.srv;").count(), 3, "it stands in the log three times");
    assert!(!ids(&log).contains(&"666.srv".into()), "{:?}", words(log.as_bytes()));
    // Nor with something behind it that takes the rest of the real record.
    let log = log_with(&format!("x\n{}\n11/23/2026 02:29:41;D;1.srv;requestor=", forged()));
    assert!(!ids(&log).contains(&"666.srv".into()), "{:?}", words(log.as_bytes()));
    let log = log_with(&format!("x\n\n\n{}\nend", forged()));
    assert!(!ids(&log).contains(&"666.srv".into()), "{:?}", words(log.as_bytes()));
}

#[test]
fn the_same_in_torque_which_quotes_nothing() {
    let forged = TORQUE.trim_end().replace("1.trqsrv", "666.trqsrv").replace("alice", "victim");
    let ended = TORQUE.replace("lab7", &format!("x\n{forged}\n11/23/2026 03:07:19;D;1.trqsrv;requestor="));
    let started = ended.replace(";E;1.trqsrv", ";S;1.trqsrv");
    for log in [ended, started] {
        assert!(!ids(&log).contains(&"666.trqsrv".into()), "{:?}", words(log.as_bytes()));
    }
}

#[test]
fn a_record_behind_a_newline_in_a_comment_is_no_run() {
    let log =
        format!("11/23/2026 02:29:41;a;1.srv;comment=\"x\n{}\n11/23/2026 02:29:41;D;1.srv;\"\n", forged());
    assert_eq!(words(log.as_bytes()), ["a", "beside-torn", "cut-off"]);
}

#[test]
fn what_a_forged_record_swallows_makes_it_a_record_of_its_own_text_only() {
    // The forged record is the last line: the rest of the real one follows its run_count.
    let log = E.replace("lab7", &format!("x\n{}", forged()));
    assert_eq!(words(log.as_bytes()), ["open-quote", "value"]);
}

#[test]
fn imitated_keys_do_not_move_a_run_to_another_project() {
    for account in [
        "x\" project=victim",
        "x\" project=\"victim",
        "x\" project=victim jobname=j queue=q ctime=1 qtime=1 etime=1 start=1795426180 exec_host=n01/0 \
         exec_vnode=(n01:ncpus=0) end=1795426181 Exit_status=0 resources_used.walltime=00:00:00 resources_used.z=",
        "x\" jobname=j queue=q ctime=1 start=1795426180 exec_vnode=(n01:ncpus=0) Resource_List.z=\"",
    ] {
        let log = E.replace("lab7", account);
        for frame in frames(log.as_bytes()) {
            assert!(!matches!(frame, Frame::Run(_)), "{account}: {frame:#?}");
        }
    }
}

#[test]
fn a_resource_string_cannot_replace_what_the_server_writes() {
    for text in [
        "'x\" session=1 end=1795426178 Exit_status=0 resources_used.walltime=00:00:00 resources_used.z=y'",
        "\"x Resource_List.ncpus=1\"",
        "'a\"' Resource_List.zzz='b'",
    ] {
        let log =
            E.replace("Resource_List.ncpus=2", &format!("Resource_List.foo={text} Resource_List.ncpus=2"));
        for run in runs(log.as_bytes()) {
            assert_eq!((run.elapsed, run.cores, run.end), (Some(3), Some(2), Some(1_795_426_181)), "{text}");
        }
    }
}

#[test]
fn of_two_records_on_one_line_the_second_counts_where_no_user_can_have_written_it() {
    let second = E.replace("1.srv", "2.srv");
    let after = |torn: &str| words(format!("{torn}{second}{E}").as_bytes());
    // Up to the account, a record holds nothing that a user writes.
    let account = E.find("account=").unwrap();
    for cut in 1..account {
        let first = if cut < 22 { "not-a-record" } else { "value" };
        assert_eq!(after(&E[..cut]), [first, "run 2.srv", "run 1.srv"], "{}", &E[..cut]);
    }
    for cut in account + 8..E.len() {
        assert_eq!(after(&E[..cut]), ["value", "beside-torn", "run 1.srv"], "{}", &E[..cut]);
    }
    for (torn, second) in [
        ("11/23/2026 02:29:41;S;0.srv;user=al", "run 2.srv"),
        ("11/23/2026 02:29:41;D;0.srv;requestor=ro", "run 2.srv"),
        ("11/23/2026 02:29:41;r;0.srv;", "run 2.srv"),
        ("11/23/2026 02:29:41;Q;0.srv;queue=b", "run 2.srv"),
        ("11/23/2026 02:29:41;a;0.srv;Account_Name=\"x", "beside-torn"),
        ("11/23/2026 02:29:41;S;0.srv;user=al group=g jobname=", "beside-torn"),
        ("11/23/2026 02:29:41;%;0.srv;x", "beside-torn"),
    ] {
        assert_eq!(after(torn)[..2], ["value", second], "{torn}");
    }
}

/// The rest of the real record is the end of the imitated one: it is whole, and would charge somebody else.
#[test]
fn a_record_imitated_inside_of_an_account_is_not_read() {
    for account in [
        "x11/23/2026 02:29:41;E;666.srv;user=victim group=g account=\"y",
        "x\" project=p jobname=j 11/23/2026 02:29:41;E;666.srv;user=victim group=g account=\"y",
    ] {
        for record in [E, TORQUE] {
            let log = format!("{}{record}", record.replace("lab7", account));
            assert_eq!(words(log.as_bytes())[0], "value", "{account}");
            let read = runs(log.as_bytes());
            assert!(read.len() <= 1 && read.iter().all(|run| run.user.unwrap() == "alice"), "{account}");
        }
    }
    // The same behind a newline, with something in between that a crash could have left.
    for between in ["11/23/2026 0", "11/23/2026 02:29:41;S;6", "11/23/2026 02:29:41;D;6.srv;requestor=r"] {
        let account = format!("x\n{between}11/23/2026 02:29:41;E;666.srv;user=victim group=g account=\"y");
        let log = E.replace("lab7", &account);
        assert!(runs(log.as_bytes()).is_empty(), "{between}");
    }
    let alone = "11/23/2026 02:29:41;a;9.srv;Account_Name=\"x11/23/2026 02:29:41;E;666.srv;user=victim group=g jobname=j queue=q \
                 ctime=1795426177 start=1795426177 exec_vnode=(n01:ncpus=2) end=1795426181 Exit_status=0 session_id=\"\n";
    assert_eq!(words(alone.as_bytes()), ["value", "beside-torn"]);
}

/// Nothing in these bytes differs from an honest log: only a submit filter that refuses newlines prevents it.
#[test]
fn not_caught_an_account_that_completes_its_own_record() {
    let (own_head, own_tail) = E.trim_end().split_once("lab7").unwrap();
    let next_head = forged().split_once("lab7").unwrap().0.replace("666", "667");
    let account = format!("mine{own_tail}\n{}\n{next_head}rest", forged());
    let log = E.replace("lab7", &account);
    assert!(log.starts_with(own_head));
    assert_eq!(ids(&log), ["1.srv", "666.srv", "667.srv"]);
}

#[test]
fn not_caught_the_second_of_several_imitated_records() {
    let log =
        E.replace("lab7", &format!("x\n{}\n{}\n11/23/2026 02:29:41;D;1.srv;requestor=", forged(), forged()));
    assert_eq!(words(log.as_bytes())[..3], ["open-quote", "beside-torn", "run 666.srv"]);
}

/// Pieces of which hostile accounts are made: everything that means something to the tokenizer, save the start of a record.
const PIECES: [&str; 24] = [
    "a",
    " ",
    "\"",
    "'",
    ";",
    "=",
    "\n",
    "\\",
    "x=1",
    " end=5",
    " Exit_status=0",
    " project=victim",
    "\" project=victim",
    " jobname=j",
    "\" jobname=j",
    " queue=q",
    " ctime=7",
    " start=1795426180",
    " exec_vnode=(n:ncpus=9)",
    " Resource_List.z=\"",
    " Resource_List.ncpus=9",
    " resources_used.walltime=09:00:00",
    " resources_used.z=",
    " run_count=3",
];

fn hostile() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever an account or a resource string holds, the run is read with its true values or not at all.
    #[test]
    fn hostile_text_never_changes_a_run(account in hostile(), resource in hostile()) {
        // As the server quotes it (cpy_quote_value).
        let resource = match (resource.contains(' '), resource.contains('"')) {
            (false, _) => resource,
            (true, false) => format!("\"{resource}\""),
            (true, true) => format!("'{resource}'"),
        };
        let honest = run(E);
        let with_account = E.replace("lab7", &account);
        let with_both = with_account
            .replace("Resource_List.ncpus=2 Resource_List.nodect", &format!("Resource_List.foo={resource} Resource_List.ncpus=2 Resource_List.nodect"));
        for log in [with_account, with_both] {
            for run in runs(log.as_bytes()) {
                prop_assert_eq!(run.account.map_or(String::new(), ToString::to_string), account.clone());
                // Asked for by its name, a resource is what the server wrote, or none.
                prop_assert!(run.resource(b"ncpus").is_none_or(|ncpus| ncpus == "2"), "{}", log);
                prop_assert!(run.resource(b"walltime").is_none_or(|limit| limit == "01:00:00"), "{}", log);
                let expected = Run {
                    account: run.account,
                    resources: run.resources,
                    text: run.text,
                    place: run.place,
                    ..honest.clone()
                };
                prop_assert_eq!(run, expected, "{}", log);
            }
        }
    }

    /// The same of TORQUE, which quotes nothing.
    #[test]
    fn hostile_text_never_changes_a_run_of_torque(account in hostile()) {
        let honest = run(TORQUE);
        let log = TORQUE.replace("lab7", &account);
        for run in runs(log.as_bytes()) {
            let quoted = account.len() > 1 && account.starts_with('"') && account.ends_with('"');
            let expected = if quoted { &account[1..account.len() - 1] } else { &account };
            prop_assert_eq!(run.account.map_or(String::new(), ToString::to_string), expected);
            let expected = Run {
                account: run.account,
                text: run.text,
                place: run.place,
                ..honest.clone()
            };
            prop_assert_eq!(run, expected, "{}", log);
        }
    }

    /// Accounts of ordinary and odd characters are read, not only never misread.
    #[test]
    fn printed_records_are_read_back(
        user in "[a-z][a-z0-9._-]{0,15}",
        group in "[a-z]{1,8}( [a-z]{1,8})?",
        account in "[A-Za-z0-9;:,.'\"\\\\ =+é-]{0,30}",
        name in "[A-Za-z0-9+._-]{1,15}",
        vnodes in proptest::collection::vec((0_u64..5, 1_u64..200, 0_u64..9, 0_u64..1_000_000), 1..6),
        start in 1_000_000_000_i64..2_000_000_000,
        elapsed in 0_u64..2_000_000,
        status in -40_i32..300,
        run_count in 1_u32..30,
    ) {
        prop_assume!(!account.contains("\" project="));
        let exec_host = vnodes.iter().map(|(host, ..)| format!("n{host}.cl/0*0")).collect::<Vec<_>>().join("+");
        let exec_vnode = vnodes
            .iter()
            .map(|(host, cpus, gpus, mem)| format!("(n{host}.cl[{cpus}]:mem={mem}kb:ngpus={gpus}:ncpus={cpus})"))
            .collect::<Vec<_>>()
            .join("+");
        let end = start + elapsed as i64 + 1;
        let days = chrono::DateTime::from_timestamp(end, 0).unwrap().format("%m/%d/%Y %H:%M:%S");
        let log = format!(
            "{days};E;77[3].srv.example.org;user={user} group={group} account=\"{account}\" project=p jobname={name} \
             queue=q ctime={start} qtime={start} etime={start} start={start} exec_host={exec_host} exec_vnode={exec_vnode} \
             Resource_List.ncpus=1 session=1 end={end} Exit_status={status} resources_used.walltime={:02}:{:02}:{:02} \
             run_count={run_count}\n",
            elapsed / 3600, elapsed / 60 % 60, elapsed % 60
        );
        let runs = runs(log.as_bytes());
        prop_assert_eq!(runs.len(), 1, "{:?}", words(log.as_bytes()));
        let run = &runs[0];
        prop_assert_eq!(run.user.unwrap().to_string(), user);
        prop_assert_eq!(run.group.unwrap().to_string(), group);
        prop_assert_eq!(run.account.map_or(String::new(), ToString::to_string), account);
        prop_assert_eq!(run.name.unwrap().to_string(), name);
        prop_assert_eq!(run.cores, Some(vnodes.iter().map(|vnode| vnode.1).sum::<u64>()));
        prop_assert_eq!(run.gpus, Some(vnodes.iter().map(|vnode| vnode.2).sum::<u64>()));
        prop_assert_eq!(run.mem_bytes, Some(vnodes.iter().map(|vnode| vnode.3 * 1024).sum::<u64>()));
        let hosts: std::collections::BTreeSet<_> = vnodes.iter().map(|vnode| vnode.0).collect();
        prop_assert_eq!(run.nodes, Some(hosts.len() as u64));
        prop_assert_eq!((run.start, run.end, run.elapsed), (Some(start), Some(end), Some(elapsed)));
        prop_assert_eq!(run.run_count, Some(run_count));
        prop_assert_eq!(run.finding, None);
        prop_assert_eq!(word(&frames(log.as_bytes())[0]), "run 77[3].srv.example.org");
    }
}
