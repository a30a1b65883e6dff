//! What `sacct` really prints, trap by trap: each test is named after what it protects.

use super::*;
use parsers::sacct::{HeaderError, Options};
use parsers::{Finding, State};

const HEADER: &str = "JobIDRaw|JobID|Cluster|User|UID|Account|Partition|QOS|State|Submit|Eligible|Start|End|ElapsedRaw|Suspended|AllocCPUS|NNodes|AllocTRES|ReqTRES|ReqCPUS|ReqMem|ExitCode";

/// A row of [`HEADER`] as Slurm prints them, with some columns changed.
fn row(changes: &[(&str, &str)]) -> String {
    let mut fields: Vec<&str> = "61|61|testhpc|alice|20001|tg-abc123456|cpu|normal|COMPLETED|1795426540|1795426540|1795426542|1795426629|87|00:00:00|2|1|billing=2,cpu=2,mem=200M,node=1|billing=2,cpu=2,mem=200M,node=1|2|200M|0:0"
        .split('|')
        .collect();
    for (column, value) in changes {
        let index = HEADER.split('|').position(|name| name == *column).unwrap();
        fields[index] = value;
    }
    fields.join("|")
}

fn frame(changes: &[(&str, &str)]) -> Frame<'static> {
    let text: &'static [u8] = format!("{HEADER}\n{}\n", row(changes)).into_bytes().leak();
    read(&strict(text), text).remove(1)
}

fn run(changes: &[(&str, &str)]) -> Run<'static> {
    match frame(changes) {
        Frame::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn refused(changes: &[(&str, &str)]) -> Reason {
    match frame(changes) {
        Frame::Quarantined(bad) => bad.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn runs_of_a_requeued_job_are_different_runs_and_all_are_read() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/P-D-X-usual-epoch.txt"));
        let found = understand(&strict(&text), &text);
        let requeued: Vec<_> = found.runs.iter().filter(|run| run.state == State::Requeued).collect();
        assert!(requeued.len() >= 7, "{version}: {}", requeued.len());
        assert!(requeued.iter().all(|run| !run.state.is_live() && run.end.is_some() && run.allocated));
        let again = |first: &&&Run<'_>| {
            found.runs.iter().any(|run| run.raw_id == first.raw_id && run.submit > first.submit)
        };
        assert!(requeued.iter().filter(again).count() >= 5);
        assert!(found.runs.iter().any(|run| run.state == State::Preempted && run.elapsed > Some(0)));
    }
}

#[test]
fn nothing_allocated_is_no_core_although_alloc_cpus_says_one() {
    let text = fixture("slurm/22.05/P-D-X-usual-epoch.txt");
    let found = understand(&strict(&text), &text);
    let printed_one: Vec<_> = found
        .runs
        .iter()
        .filter(|run| !run.allocated && run.text.windows(4).any(|at| at == b"|1|1"))
        .collect();
    assert!(printed_one.len() >= 2, "{}", printed_one.len());
    for run in printed_one {
        assert_eq!(
            (run.cores, run.nodes, run.gpus, run.mem_bytes, run.billing),
            (None, None, None, None, None)
        );
    }
    // Cancelled while held: 22.05 prints Start = End.
    let held = run(&[
        ("State", "CANCELLED by 0"),
        ("Start", "1795426540"),
        ("End", "1795426540"),
        ("ElapsedRaw", "0"),
        ("AllocTRES", ""),
        ("AllocCPUS", "1"),
    ]);
    assert_eq!((held.allocated, held.cores, held.state), (false, None, State::Cancelled));
}

#[test]
fn elapsed_is_taken_as_it_stands_without_suspension() {
    let text = fixture("slurm/24.05/P-D-all.txt.gz");
    let found = understand(&strict(&text), &text);
    let suspended = found.runs.iter().find(|run| run.job_id == "86").unwrap();
    assert_eq!((suspended.elapsed, suspended.suspended), (Some(8), Some(5)));
    assert_eq!(suspended.end.unwrap() - suspended.start.unwrap(), 13);
    assert_eq!(suspended.finding, None);
}

#[test]
fn billing_that_is_not_printed_is_zero_and_gpus_are_not_added_twice() {
    let cheap = run(&[("AllocTRES", "cpu=1,mem=100M,node=1"), ("AllocCPUS", "1")]);
    assert_eq!((cheap.billing, cheap.gpus), (Some(0), Some(0)));
    let gpu = run(&[("AllocTRES", "billing=20,cpu=2,gres/gpu:a100=2,gres/gpu=2,mem=1000M,node=1")]);
    assert_eq!((gpu.gpus, gpu.billing), (Some(2), Some(20)));
    let typed = run(&[("AllocTRES", "cpu=2,gres/gpu:a100=2,gres/gpu:v100=1,node=1")]);
    assert_eq!(typed.gpus, Some(3));
}

#[test]
fn memory_for_people_is_the_same_memory() {
    // The same jobs with and without --noconvert, and in kibibytes; --units=G loses what two digits do not hold.
    for version in VERSIONS {
        let read = |name: &str| -> Vec<(String, Option<u64>, Option<u64>)> {
            let text = fixture(&format!("slurm/{version}/{name}"));
            let found = understand(&lenient(&text), &text);
            assert_eq!(found.quarantined_lines(), [], "{version}/{name}");
            found
                .runs
                .iter()
                .map(|run| (run.job_id.to_string(), run.mem_bytes, run.requested.mem_bytes))
                .collect()
        };
        let exact = read("P-mem-noconvert.txt.gz");
        assert!(exact.iter().filter(|(_, allocated, _)| allocated.is_some()).count() > 80);
        assert_eq!(read("P-mem.txt.gz"), exact);
        assert_eq!(read("P-mem-units-K.txt.gz"), exact);
        for ((job, rounded, _), (_, exact, _)) in read("P-mem-units-G.txt.gz").iter().zip(&exact) {
            let off = rounded.unwrap_or(0).abs_diff(exact.unwrap_or(0));
            assert!(off <= (1 << 30) / 200 + 1, "{version}: {job} {rounded:?} {exact:?}");
        }
    }
}

#[test]
fn requested_memory_before_21_08_is_by_node_or_by_core() {
    let old = |mem: &str| {
        run(&[
            ("AllocTRES", "billing=8,cpu=8,node=2"),
            ("ReqTRES", ""),
            ("AllocCPUS", "8"),
            ("NNodes", "2"),
            ("ReqCPUS", "8"),
            ("ReqMem", mem),
        ])
    };
    assert_eq!(old("4000Mn").mem_bytes, Some((2 * 4000) << 20));
    assert_eq!(old("2Gc").mem_bytes, Some(8 << 31));
    assert_eq!(old("2Gc").requested.mem_bytes, Some(8 << 31));
    assert_eq!(old("0n").mem_bytes, None, "all of the node's memory, whatever that is");
}

#[test]
fn cores_and_nodes_stand_in_where_there_is_no_alloc_tres() {
    let read_one = |row: &str| {
        let text: &'static [u8] =
            format!("JobID|User|Account|State|Submit|Start|End|Elapsed|NCPUS|AllocNodes\n{row}\n")
                .into_bytes()
                .leak();
        match read(&strict(text), text).remove(1) {
            Frame::Run(run) => run,
            other => panic!("{other:?}"),
        }
    };
    let run = read_one("61|alice|phys|COMPLETED|1795426540|1795426542|1795520000|1-01:57:38|131072|1K");
    assert_eq!(
        (run.cores, run.nodes, run.elapsed, run.allocated),
        (Some(131_072), Some(1024), Some(93_458), true)
    );
    assert_eq!((run.gpus, run.billing, run.mem_bytes), (None, None, None), "not said is not zero");
    assert!(!read_one("61|alice|phys|CANCELLED|1795426540|None|1795520000|00:00:00|0|0").allocated);
    assert!(!read_one("61|alice|phys|CANCELLED|1795426540|1795520000|1795520000|00:00:00|0|0").allocated);
}

#[test]
fn a_pending_array_is_a_parent_unless_it_ran() {
    let pending = |changes: &[(&'static str, &'static str)]| {
        let mut all = vec![
            ("JobID", "61_[1-9%2]"),
            ("State", "PENDING"),
            ("Start", "Unknown"),
            ("End", "Unknown"),
            ("ElapsedRaw", "0"),
            ("AllocTRES", ""),
        ];
        all.extend(changes);
        run(&all)
    };
    assert_eq!(pending(&[]).kind, Kind::Parent);
    assert_eq!(pending(&[("State", "CANCELLED by 20003"), ("End", "1795426629")]).kind, Kind::Parent);
    let ran = pending(&[
        ("State", "COMPLETED"),
        ("Start", "1795426542"),
        ("End", "1795426629"),
        ("ElapsedRaw", "87"),
        ("AllocTRES", "cpu=2,node=1"),
    ]);
    assert_eq!((ran.kind, ran.cores), (Kind::Run, Some(2)));
}

#[test]
fn array_tasks_and_het_components_are_runs_with_their_own_raw_ids() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/P-D-X-usual-epoch.txt"));
        let found = understand(&strict(&text), &text);
        let tasks = found.runs.iter().filter(|run| run.job_id.contains(&b'_')).count();
        let components: Vec<_> = found.runs.iter().filter(|run| run.job_id.contains(&b'+')).collect();
        assert!(tasks >= 5 && components.len() >= 2, "{version}");
        assert!(
            components.iter().any(|run| run.job_id.ends_with(b"+1") && !run.job_id.starts_with(run.raw_id))
        );
    }
}

#[test]
fn a_user_without_a_unix_account_is_not_said_in_22_05() {
    let text = fixture("slurm/22.05/P-D-X-usual-epoch.txt");
    let found = understand(&strict(&text), &text);
    assert!(found.runs.iter().any(|run| run.user.is_none()));
    let text = fixture("slurm/24.05/P-D-X-usual-epoch.txt");
    let found = understand(&strict(&text), &text);
    assert!(found.runs.iter().any(|run| run.user == Some("20099".into())));
    // A user without an association has no account either.
    assert!(found.runs.iter().any(|run| run.account.is_none()));
}

#[test]
fn a_database_index_above_2_to_the_63_is_passed_over() {
    let text = fixture("slurm/26.05-sample/P-D-X-usual-head.txt");
    assert!(text.windows(20).any(|at| at == b"11729211946791120896"));
    let found = understand(&strict(&text), &text);
    assert_eq!(found.runs.len() + found.quarantined.len() + 1, lines(&text));
    assert!(found.runs.len() > 40 && found.runs.iter().any(|run| run.state == State::Requeued));
}

#[test]
fn a_parted_run_of_26_05_with_the_new_size_and_the_old_nodes_is_not_doubted() {
    let resizing =
        [("State", "RESIZING"), ("AllocTRES", "cpu=1,mem=100M,node=1"), ("AllocCPUS", "3"), ("NNodes", "3")];
    assert_eq!(run(&resizing).finding, None);
}

#[test]
fn what_contradicts_itself_is_found() {
    assert_eq!(run(&[]).finding, None);
    assert_eq!(run(&[("Start", "1795426539")]).finding, Some(Finding::StartBeforeSubmit));
    assert_eq!(run(&[("End", "1795426541")]).finding, Some(Finding::EndBeforeStart));
    assert_eq!(run(&[("ElapsedRaw", "89")]).finding, None, "2 s of slack");
    assert_eq!(run(&[("ElapsedRaw", "90")]).finding, Some(Finding::ElapsedBeyondSpan));
    assert_eq!(run(&[("AllocCPUS", "3")]).finding, Some(Finding::TresDisagree));
    assert_eq!(run(&[("NNodes", "2")]).finding, Some(Finding::TresDisagree));
    assert_eq!(run(&[("AllocCPUS", "3"), ("State", "RUNNING")]).finding, None, "not ended");
    let unknown = run(&[("State", "EVAPORATED")]);
    assert_eq!((unknown.state, unknown.finding), (State::Unknown, Some(Finding::UnknownState)));
    assert_eq!(unknown.state_text, "EVAPORATED");
    // Local times may be an hour off where the configured zone is not the cluster's.
    let local = [("Start", "2026-11-23T09:35:42"), ("End", "2026-11-23T09:37:09"), ("ElapsedRaw", "3689")];
    assert_eq!(run(&local).finding, None);
    assert_eq!(run(&[local[0], local[1], ("ElapsedRaw", "3690")]).finding, Some(Finding::ElapsedBeyondSpan));
}

#[test]
fn values_of_the_wrong_type_are_refused_by_column() {
    for (column, value) in [
        ("JobIDRaw", "62_[1-9]"),
        ("JobIDRaw", "x"),
        ("JobID", "JobID"),
        ("UID", "alice"),
        ("Submit", "COMPLETED"),
        ("Eligible", "0"),
        ("Start", "09:35:40"),
        ("End", "2026-11-23"),
        ("ElapsedRaw", "-1"),
        ("ElapsedRaw", "00:01:27"),
        ("Suspended", "5"),
        ("AllocCPUS", "c1"),
        ("NNodes", "0.00G"),
        ("NNodes", "c1"),
        ("AllocTRES", "200M"),
        ("AllocTRES", "cpu=x"),
        ("ReqTRES", "normal"),
        ("ReqMem", "lots"),
        ("ExitCode", "0"),
    ] {
        assert!(is_value_of(&refused(&[(column, value)]), column), "{column} {value}");
    }
    let Reason::Value { found, .. } = refused(&[("AllocTRES", &"x".repeat(5000))]) else { panic!() };
    assert_eq!(found.len(), 64, "what is shown is bounded");
}

#[test]
fn fixed_width_output_is_refused_by_name() {
    for name in ["fixed-default.txt", "fixed-widths.txt"] {
        let text = fixture(&format!("slurm/22.05/{name}"));
        assert_eq!(
            Layout::lenient(header(&text), &Options::default()).unwrap_err(),
            HeaderError::FixedWidth,
            "{name}"
        );
    }
}

#[test]
fn other_files_are_refused() {
    for path in [
        "slurm/22.05/jobs-labels.tsv",
        "slurm/22.05/db-job-table.tsv.gz",
        "slurm/22.05/tres.txt",
        "slurm/22.05/window-test.txt",
        "slurm/22.05/json-default-D.json.gz",
    ] {
        let text = fixture(path);
        assert!(
            matches!(
                Layout::lenient(header(&text), &options_for(&text)),
                Err(HeaderError::NoKnownColumn { .. } | HeaderError::Missing { .. })
            ),
            "{path}"
        );
    }
}

#[test]
fn a_failed_sacct_that_printed_its_header_only_has_no_runs() {
    for name in ["P-completion.txt", "P-state-noS.txt"] {
        let text = fixture(&format!("slurm/22.05/{name}"));
        let found = understand(&lenient(&text), &text);
        assert!(found.runs.is_empty() && found.notes[&NoteKind::Header] == 1, "{name}");
    }
}

#[test]
fn lower_case_p_ends_rows_with_the_delimiter() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/p-lower-all.txt"));
        let found = understand(&lenient(&text), &text);
        // Here the name that holds a newline stands second, so that the rows on both sides of its pieces are in doubt; one of
        // the pieces, `line2|9999|COMPLETED|...|`, looks like a row whose name holds the delimiter.
        let first = found.quarantined[0].place.line + 1;
        assert_eq!(
            found.quarantined_lines(),
            [(first, "beside-torn"), (first + 1, "field-count"), (first + 2, "beside-torn")],
            "{version}"
        );
        assert_eq!(found.quarantined[2].text.split(|byte| *byte == b'|').count(), 6);
        assert_eq!(found.runs.len(), 101);
        // A row without its last delimiter is torn.
        let without: Vec<_> = text.strip_suffix(b"|\n").unwrap().iter().copied().chain(*b"\n").collect();
        let last = understand(&lenient(&without), &without).quarantined.pop().unwrap();
        assert_eq!(last.reason.code(), "field-count");
    }
}

#[test]
fn delimiters_of_all_kinds_read_the_same_states() {
    for version in VERSIONS {
        let states = |name: &str| -> HashMap<String, String> {
            let text = fixture(&format!("slurm/{version}/{name}"));
            let found = understand(&lenient(&text), &text);
            found.runs.iter().map(|run| (run.job_id.to_string(), run.state_text.to_string())).collect()
        };
        let unit_separator = states("P-delim-unit-sep.txt");
        assert_eq!(states("P-delim-multi.txt"), unit_separator);
        assert!(unit_separator.len() > 90, "{}", unit_separator.len());
        for (job, state) in states("P-delim-backslash-t.txt") {
            assert!(
                unit_separator.get(&job).is_none_or(|other| other.split(' ').next()
                    == state.split(' ').next()
                    || other == "REQUEUED"),
                "{job} {state}"
            );
        }
    }
}

#[test]
fn a_comma_as_delimiter_is_refused_and_never_misread() {
    for version in VERSIONS {
        let text = fixture(&format!("slurm/{version}/P-delim-comma.txt"));
        let error = Layout::lenient(header(&text), &options_for(&text)).unwrap_err();
        assert!(matches!(&error, HeaderError::Delimiter { .. }), "{error}");
    }
}

#[test]
fn bars_in_the_only_free_text_are_part_of_it() {
    let text = b"JobID|JobName|State|ElapsedRaw\n61|a|b||c|COMPLETED|87\n62||FAILED|1\n";
    let found = understand(&lenient(text), text);
    assert_eq!(found.runs[0].name, Some("a|b||c".into()));
    assert_eq!((found.runs[0].state, found.runs[0].elapsed), (State::Completed, Some(87)));
    assert_eq!((found.runs[1].name, found.runs[1].state), (None, State::Failed));
    // With two such columns nobody knows whose it is.
    let text = b"JobID|JobName|State|Comment\n61|a|b|COMPLETED|\n";
    assert_eq!(understand(&lenient(text), text).quarantined_lines(), [(2, "field-count")]);
}

#[test]
fn joined_files_repeat_their_header_and_may_have_blank_lines_and_crlf() {
    let one = fixture("slurm/24.05/P-times-ny.txt");
    let joined = [&one[..], b"\n", &one[..]].concat();
    let found = understand(&lenient(&joined), &joined);
    assert_eq!(
        (found.notes[&NoteKind::Header], found.notes[&NoteKind::Blank], found.runs.len()),
        (2, 1, 204)
    );

    let windows = String::from_utf8(one.clone()).unwrap().replace('\n', "\r\n").into_bytes();
    let layout = lenient(&windows);
    let (crlf, plain) = (understand(&layout, &windows), understand(&lenient(&one), &one));
    assert_eq!(crlf.notes[&NoteKind::Header], 1);
    let numbers = |found: &Sorted<'_>| {
        found
            .runs
            .iter()
            .map(|run| (run.job_id.to_string(), run.start, run.end, run.elapsed))
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&crlf), numbers(&plain));
}

#[test]
fn a_different_header_in_the_middle_never_becomes_a_run() {
    for second in [
        "JobID|State|Submit|End|Start|Elapsed",
        "State|JobID|Submit|Start|End|Elapsed",
        "JobID|State",
        "jobid|State|Submit|Start|End|Elapsed",
    ] {
        let text = format!("JobID|State|Submit|Start|End|Elapsed\n{second}\n");
        let found = understand(&lenient(text.as_bytes()), text.as_bytes());
        assert!(found.runs.is_empty() && found.quarantined.len() == 1, "{second}");
    }
}

#[test]
fn few_columns_are_read_for_what_they_say() {
    let text = b"JobID|Submit|Start|End|Elapsed\n61|2026-11-23T04:35:40|2026-11-23T04:35:42|2026-11-23T04:37:09|00:01:27\n";
    assert!(Layout::from_header(header(text), &Options::default()).is_err());
    let found = understand(&lenient(text), text);
    let run = &found.runs[0];
    assert_eq!((run.elapsed, run.state_text, run.finding), (Some(87), "".into(), None));
    assert_eq!((run.user, run.account, run.cores, run.gpus, run.exit_code), (None, None, None, None, None));
}

#[test]
fn text_without_a_header_is_read_by_the_configured_columns() {
    let whole = fixture("slurm/24.05/P-times-ny.txt");
    let text = &whole[header(&whole).len() + 1..];
    let columns = Some("JobID,Submit%30,Start,End,Elapsed".split(',').map(str::to_owned).collect());
    let layout = Layout::lenient(header(text), &Options { columns, ..Options::default() }).unwrap();
    assert_eq!(understand(&layout, text).job_ids(), understand(&lenient(&whole), &whole).job_ids());
}

#[test]
fn a_line_longer_than_a_mebibyte_is_not_read() {
    let mut text = b"JobID|JobName|State\n61|".to_vec();
    text.extend(vec![b'x'; 1 << 20]);
    text.extend(b"|COMPLETED\n62|a|COMPLETED\n63|a|COMPLETED\n");
    let found = understand(&lenient(&text), &text);
    assert_eq!(found.quarantined_lines(), [(2, "too-long"), (3, "beside-torn")]);
    assert_eq!(found.job_ids(), ["63"]);
}
