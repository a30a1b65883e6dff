//! The example configuration, written out as data: what each kind of run of it becomes.

use crate::support::*;
use mapper::spec::*;
use mapper::{Mapper, Outcome, Rules, SourceRules, StorageMapper, StorageOutcome};
use parsers::{OwnerKind, Place, Reading, Run, State};

fn rules() -> Rules {
    let project = |account: &str, project: &str, line| ProjectRow {
        account: account.to_owned(),
        project: project.to_owned(),
        cluster: Some("pbssrv".to_owned()),
        line,
        ..ProjectRow::default()
    };
    let user = |(line, user): (usize, &str)| UserRow {
        user: user.to_owned(),
        username: if user == "pb.dave-x" { "pbdave" } else { user }.to_owned(),
        line: line as u64 + 2,
        ..UserRow::default()
    };
    let logins =
        ["alice", "bob", "carol", "dave", "erin", "frank", "pbalice", "pbbob", "pbcarol", "pb.dave-x"];
    let qos = factors(
        period("2026-01-01", None, "max(cores, mem_gb / 2) * hours * factor.qos"),
        "qos",
        &[("high", "2"), ("preemptible", "0.25"), ("scavenger", "0"), ("default", "1")],
    );
    let queue = factors(
        period("2020-01-01", None, "core_hours * factor.queue"),
        "queue",
        &[("small", "0.7"), ("default", "1")],
    );
    let resource = |name: &str, cluster: &str, partition: &[&str], rates| ResourceSpec {
        name: format!("{name}.testsite.access-ci.org"),
        when: When { cluster: names(&[cluster]), partition: names(partition), ..When::default() },
        rates,
        ..ResourceSpec::default()
    };
    let owner = |owner: &str, project: &str, username: &str, line| OwnerRow {
        owner: owner.to_owned(),
        project: project.to_owned(),
        username: username.to_owned(),
        line,
    };
    compile(RulesSpec {
        timezone: chrono_tz::UTC,
        projects: vec![project("physics", "TG-PHY260001", 2), project("chemgrp", "TG-CHE260002", 3)],
        project_patterns: vec![
            ProjectPattern {
                account: "tg-([a-z]{3}[0-9]{6})".to_owned(),
                project: "TG-$1".to_owned(),
                upper: true,
                cluster: None,
            },
            ProjectPattern {
                account: r"p\.[a-z]{3}[0-9]{6}\.000".to_owned(),
                project: "$0".to_owned(),
                upper: false,
                cluster: None,
            },
        ],
        skip: vec![SkipRule {
            account: "root|sysadmin|physics.*".to_owned(),
            cluster: Some("testhpc".to_owned()),
        }],
        users: Some(logins.into_iter().enumerate().map(user).collect()),
        pi_fallback: vec![],
        node_types: vec![],
        resources: vec![
            resource(
                "testhpc-cpu",
                "testhpc",
                &["cpu", "shared"],
                vec![period("2020-01-01", Some("2026-01-01"), "core_hours"), qos],
            ),
            resource(
                "testhpc-gpu",
                "testhpc",
                &["gpu"],
                vec![period("2020-01-01", None, "if(gpus > 0, gpu_hours, core_hours / 16)")],
            ),
            resource("pbs", "pbssrv", &[], vec![queue]),
        ],
        storage: vec![StorageSpec {
            source: "scratch".to_owned(),
            resource: "scratch.testsite.access-ci.org".to_owned(),
            service_treats: Some(ServiceTreats::Level),
            charge: "stored_gb".to_owned(),
            round: Rounding::default(),
            interval_days: 1,
            media_type: Some("Disk".to_owned()),
            system_copies: Some(1),
            owners: vec![
                owner("#1001", "TG-ABC123456", "alice", 2),
                owner("#1002", "TG-DEF987654", "bob", 3),
                owner("#1003", "p.sta226239.000", "carol", 4),
            ],
        }],
        policy: PolicySpec { limits: max_charge("100000"), ..PolicySpec::default() },
    })
}

fn slurm() -> SourceRules {
    SourceRules::compile(SourceSpec {
        cluster: Some("testhpc".to_owned()),
        local_record_id: Some("{job_id}".to_owned()),
        project_from: vec![],
        ..source_spec()
    })
    .unwrap()
}

#[test]
fn has_no_warnings() {
    assert_eq!(rules().warnings(), []);
}

#[test]
fn slurm_runs() {
    let (rules, source) = (rules(), slurm());
    let mut mapper = Mapper::new(&rules, &source);
    // 74 s of one core and 100 MiB: 37/1800. 2 cores for 3 s: 1/600. Numbers of the first rows of a real cluster.
    let first = Run { mem_bytes: Some(104_857_600), ..lasting(74, run()) };
    let fourth = Run { cores: Some(2), account: name("p.sta226239.000"), ..lasting(3, run()) };
    let gpu = Run { partition: name("gpu"), gpus: Some(2), cores: Some(8), ..lasting(1800, run()) };
    let runs = [
        ("first", first.clone(), "mapped 0.020556"),
        ("fourth", fourth, "mapped 0.001667"),
        ("memory counts", Run { mem_bytes: Some(3_000_000_000), ..run() }, "mapped 1.5"),
        ("high costs double", Run { qos: name("high"), ..first.clone() }, "mapped 0.041111"),
        ("preemptible", Run { qos: name("preemptible"), ..run() }, "mapped 0.25"),
        ("scavenger is free", Run { qos: name("scavenger"), ..run() }, "zero"),
        ("a run without qos", Run { qos: None, ..run() }, "mapped 1"),
        (
            "the old rate knew no memory",
            Run { mem_bytes: None, submit: Some(at("2025-12-31T23:59:59Z")), qos: name("high"), ..run() },
            "mapped 1",
        ),
        ("before all rates", Run { submit: Some(at("2019-12-31T23:59:59Z")), ..run() }, "held no-rate"),
        ("gpus", gpu.clone(), "mapped 1"),
        ("a gpu partition without gpus", Run { gpus: Some(0), ..gpu.clone() }, "mapped 0.25"),
        ("not known whether gpus", Run { gpus: None, ..gpu }, "held missing-quantity"),
        ("no time at all", lasting(0, run()), "zero"),
        ("local account", Run { account: name("physics-lab"), ..run() }, "skipped account-rule"),
        (
            "local account by its whole name only",
            Run { account: name("sysadmins"), ..run() },
            "held unknown-project",
        ),
        ("unknown account", Run { account: name("nosuchacct"), ..run() }, "held unknown-project"),
        ("no account", Run { account: None, ..run() }, "held no-account"),
        ("empty account", Run { account: name(""), ..run() }, "held no-account"),
        (
            "a pattern fits as a whole or not",
            Run { account: name("tg-abc1234567"), ..run() },
            "held unknown-project",
        ),
        ("unknown user", Run { user: name("mallory"), ..run() }, "held unknown-user"),
        ("user gone", Run { user: None, ..run() }, "held no-user"),
        ("unknown partition", Run { partition: name("debug"), ..run() }, "held unknown-resource"),
        ("runs on", Run { state: State::Running, end: None, ..run() }, "skipped not-ended"),
        (
            "cancelled while pending",
            Run { state: State::Cancelled, allocated: false, start: None, ..run() },
            "skipped nothing-allocated",
        ),
        ("cancelled while running", Run { state: State::Cancelled, ..run() }, "mapped 1"),
        ("requeued", Run { state: State::Requeued, ..run() }, "mapped 1"),
        ("node failed", Run { state: State::NodeFail, ..run() }, "mapped 1"),
        ("200,000 core-hours", Run { cores: Some(200_000), ..run() }, "held above-max-charge 200000"),
        ("100,000 core-hours", Run { cores: Some(100_000), ..run() }, "mapped 100000"),
        ("cluster by the source", Run { cluster: None, ..first }, "mapped 0.020556"),
    ];
    // Twice, and the second time backwards: what is remembered is what was decided.
    for (what, run, expected) in runs.iter().chain(runs.iter().rev()) {
        assert_eq!(in_short(&mapper.map(run)), *expected, "{what}");
    }
}

#[test]
fn a_record_in_full() {
    let (rules, source) = (rules(), slurm());
    let mut mapper = Mapper::new(&rules, &source);
    let run = Run {
        job_id: "61_5".into(),
        raw_id: "66".into(),
        account: name("tg-def987654"),
        user: name("bob"),
        cores: Some(4),
        nodes: Some(2),
        ..run()
    };
    let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
    let json = serde_json_text(&mapped.record);
    assert_eq!(
        json,
        r#"{"Username":"bob","LocalProjectID":"TG-DEF987654","LocalRecordID":"61_5","Resource":"testhpc-cpu.testsite.access-ci.org","SubmitTime":"2026-11-23T09:45:25Z","StartTime":"2026-11-23T10:00:00Z","EndTime":"2026-11-23T11:00:00Z","Charge":"4","Attributes":{"NodeCount":2,"CpuCoreCount":4,"Queue":"cpu"},"LocalReference":"slurm/testhpc/0000000066/1795427125"}"#
    );
    assert_eq!(mapped.key.as_str(), "slurm/testhpc/0000000066/1795427125");
    assert_eq!((mapped.facts.elapsed, mapped.facts.requeued), (Some(3600), false));
    assert_eq!((mapped.facts.start, mapped.facts.end), (run.start.unwrap(), run.end.unwrap()));
}

fn serde_json_text(record: &amie_usage::ComputeUsageRecord<'_>) -> String {
    serde_json::to_string(record).unwrap()
}

#[test]
fn pbs_runs() {
    let rules = rules();
    let source = SourceRules::compile(SourceSpec { name: "pbs".to_owned(), ..source_spec() }).unwrap();
    let mut mapper = Mapper::new(&rules, &source);
    let runs = [
        ("small queue", pbs_run(), "mapped 0.7", "91.pbssrv"),
        (
            "other queue",
            Run { partition: name("workq"), group: name("chemgrp"), ..pbs_run() },
            "mapped 1",
            "91.pbssrv",
        ),
        ("third run", Run { run_count: Some(3), ..pbs_run() }, "mapped 0.7", "91.pbssrv.r3"),
        (
            "array task, second run",
            Run { job_id: "1005[2].pbssrv".into(), run_count: Some(2), ..pbs_run() },
            "mapped 0.7",
            "1005[2].pbssrv.r2",
        ),
        ("unknown group", Run { group: name("domain users"), ..pbs_run() }, "held unknown-project", ""),
        ("no group", Run { group: None, account: name("physics"), ..pbs_run() }, "held no-account", ""),
        (
            "the user has another login",
            Run { user: name("pb.dave-x"), ..pbs_run() },
            "mapped 0.7",
            "91.pbssrv",
        ),
        (
            "the physics of the other cluster",
            Run { cluster: name("testhpc"), ..pbs_run() },
            "skipped account-rule",
            "",
        ),
    ];
    for (what, run, expected, id) in runs {
        let outcome = mapper.map(&run);
        assert_eq!(in_short(&outcome), expected, "{what}");
        if let Outcome::Mapped(mapped) = outcome {
            assert_eq!(mapped.record.local_record_id, id, "{what}");
        }
    }
}

#[test]
fn readings() {
    let rules = rules();
    let mapper = StorageMapper::new(&rules, "scratch", OwnerKind::Project).unwrap();
    let collected = at("2026-11-23T00:00:00Z");
    for (owner, id, bytes, expected) in [
        ("#0", 0, 22_278_144, "skipped unassigned"),
        ("#1001", 1001, 516_096, "TG-ABC123456 alice 0.000516 scratch.project.1001.2026-11-23"),
        ("#1002", 1002, 2_056_192, "TG-DEF987654 bob 0.002056 scratch.project.1002.2026-11-23"),
        ("#1003", 1003, 106_496, "p.sta226239.000 carol 0.000106 scratch.project.1003.2026-11-23"),
        ("#1004", 1004, 57_344, "held unknown-owner"),
        ("#9999", 9999, 16_384, "held unknown-owner"),
    ] {
        let reading = Reading {
            owner_kind: OwnerKind::Project,
            owner_id: Some(id),
            owner_name: owner.into(),
            bytes,
            files: Some(2),
            bytes_limit: None,
            files_limit: None,
            scope: None,
            text: "".into(),
            place: Place::default(),
        };
        let text = match mapper.map(&reading, collected) {
            StorageOutcome::Mapped(mapped) => {
                let record = mapped.record;
                assert_eq!(record.collection_time, collected);
                assert_eq!(record.attributes.bytes_stored, Some(bytes));
                assert_eq!(record.attributes.collection_interval, Some(1));
                format!(
                    "{} {} {} {}",
                    record.local_project_id, record.username, record.charge, record.local_record_id
                )
            }
            StorageOutcome::Skipped(skip) => format!("skipped {}", skip.reason),
            StorageOutcome::Held(hold) => format!("held {}", hold.reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(text, expected, "{owner}");
    }
}

#[test]
fn holds_say_what_to_do() {
    let (rules, source) = (rules(), slurm());
    let mut mapper = Mapper::new(&rules, &source);
    for (run, expected) in [
        (Run { account: name("nosuchacct"), ..run() }, "account,project\nnosuchacct,<LocalProjectID>\n"),
        (Run { account: name("chemgrp"), ..run() }, "Lines 3 of the table name it, under conditions"),
        (Run { account: name("CHEMGRP"), ..run() }, "Lines 3 of the table name it, under conditions"),
        (Run { user: name("AD\\jane"), ..run() }, "user,username\nAD\\jane,<Username>"),
        (Run { user: name("x,\"y\""), ..run() }, "user,username\n\"x,\"\"y\"\"\",<Username>"),
        (Run { partition: name("debug"), ..run() }, "cluster testhpc, partition debug, qos normal"),
        (
            Run { submit: Some(at("2019-06-01T00:00:00Z")), ..run() },
            "until 2020-01-01T00:00:00Z (its rates: 2020-01-01 to 2026-01-01, from 2026-01-01)",
        ),
        (
            Run { mem_bytes: None, ..run() },
            "needs `mem_gb`, and the source does not say it: sacct gives it in AllocTRES",
        ),
        (Run { nodes: None, ..run() }, "NodeCount"),
        (Run { account: name("bad\u{1b}[2Jacct"), ..run() }, "`bad\\x1B[2Jacct`"),
    ] {
        let Outcome::Held(hold) = mapper.map(&run) else { panic!("held: {expected}") };
        assert!(hold.detail.contains(expected), "{}", hold.detail);
    }
}
