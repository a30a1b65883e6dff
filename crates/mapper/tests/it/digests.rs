//! Digests change with what matters, and with nothing else.

use crate::support::*;
use mapper::spec::*;
use mapper::{Rules, SourceRules, source_digest};
use parsers::{Finding, Place, Requested, Run, Scheduler, State};
use std::collections::HashSet;

#[test]
fn every_fact_of_a_run_that_matters_changes_its_digest() {
    let other = [
        Run { scheduler: Scheduler::Pbs, ..run() },
        Run { job_id: "124".into(), ..run() },
        Run { raw_id: "124".into(), ..run() },
        Run { cluster: name("other"), ..run() },
        Run { user: name("bob"), ..run() },
        Run { account: name("other"), ..run() },
        Run { account: None, ..run() },
        Run { account: name(""), ..run() },
        Run { group: name("g"), ..run() },
        Run { project: name("g"), ..run() },
        Run { partition: name("gpu"), ..run() },
        Run { qos: name("high"), ..run() },
        Run { reservation: name("high"), ..run() },
        Run { state: State::Failed, ..run() },
        Run { state: State::Unknown, ..run() },
        Run { state: State::Unknown, state_text: "EXPEDITING".into(), ..run() },
        Run { submit: Some(0), ..run() },
        Run { submit: None, ..run() },
        Run { start: Some(0), ..run() },
        Run { end: Some(0), ..run() },
        Run { elapsed: Some(0), ..run() },
        Run { elapsed: None, ..run() },
        Run { nodes: Some(9), ..run() },
        Run { cores: Some(9), ..run() },
        Run { gpus: Some(9), ..run() },
        Run { mem_bytes: Some(9), ..run() },
        Run { billing: Some(9), ..run() },
        Run { tres: name("gres/gpu:a100=1,gres/gpu=1"), ..run() },
        Run { tres: name("gres/gpu:a100=2,gres/gpu=2"), ..run() },
        Run { tres: name("gres/gpu:h100=1,gres/gpu=1"), ..run() },
        Run { allocated: false, ..run() },
        Run { requested: Requested { cores: Some(9), ..Requested::default() }, ..run() },
        Run { requested: Requested { nodes: Some(9), ..Requested::default() }, ..run() },
        Run { requested: Requested { gpus: Some(9), ..Requested::default() }, ..run() },
        Run { requested: Requested { mem_bytes: Some(9), ..Requested::default() }, ..run() },
        Run { exit_code: Some(9), ..run() },
        Run { signal: Some(9), ..run() },
        Run { run_count: Some(9), ..run() },
        Run { finding: Some(Finding::NodeRelease), ..run() },
    ];
    let mut digests: HashSet<u128> = other.iter().map(source_digest).collect();
    assert_eq!(digests.len(), other.len());
    assert!(digests.insert(source_digest(&run())));
    for same in [
        Run { name: name("other"), ..run() },
        Run { text: "other".into(), ..run() },
        Run { place: Place { offset: 9, len: 9, line: 9 }, ..run() },
        Run { eligible: Some(9), ..run() },
        Run { suspended: Some(9), ..run() },
        Run { node_list: name("cn[01-02]"), ..run() },
        Run { tres: name("cpu=1,node=1"), ..run() },
        Run { state_text: "COMPLETED by 0".into(), ..run() },
    ] {
        assert_eq!(source_digest(&same), source_digest(&run()), "{same:?}");
    }
}

/// Ledgers hold digests: a change of this number makes every row of every ledger look changed.
#[test]
fn digests_are_for_ever() {
    assert_eq!(format!("{:032x}", source_digest(&run())), "275d79fb17e59ff75040bc72b9052178");
}

fn supplied(job_id: &str, charge: &str) -> SuppliedRow {
    SuppliedRow { job_id: job_id.to_owned(), charge: charge.to_owned(), ..SuppliedRow::default() }
}

fn full() -> RulesSpec {
    let rates = vec![RateSpec {
        minimum: Some("1".to_owned()),
        minimum_seconds: Some(60),
        ..factors(
            period("2026-01-01", Some("2027-01-01"), "core_hours * factor.qos"),
            "qos",
            &[("default", "1")],
        )
    }];
    RulesSpec {
        node_types: vec![NodeTypeSpec { name: "fat".to_owned(), ..NodeTypeSpec::default() }],
        projects: vec![ProjectRow {
            account: "lab".to_owned(),
            project: "LAB".to_owned(),
            line: 2,
            ..ProjectRow::default()
        }],
        skip: vec![SkipRule { account: "root".to_owned(), cluster: None }],
        users: Some(vec![UserRow {
            user: "alice".to_owned(),
            username: "alice".to_owned(),
            line: 2,
            ..UserRow::default()
        }]),
        storage: vec![StorageSpec {
            source: "scratch".to_owned(),
            resource: "scratch.example.org".to_owned(),
            service_treats: Some(ServiceTreats::Level),
            charge: "stored_gb".to_owned(),
            round: Rounding::default(),
            interval_days: 1,
            media_type: None,
            system_copies: None,
            owners: vec![OwnerRow {
                owner: "#1".to_owned(),
                project: "LAB".to_owned(),
                username: "alice".to_owned(),
                line: 2,
            }],
        }],
        policy: PolicySpec { limits: max_charge("10"), ..PolicySpec::default() },
        ..spec(vec![resource(rates)])
    }
}

#[test]
fn every_rule_that_can_change_a_record_changes_the_digest() {
    type Change = fn(&mut RulesSpec);
    let changes: Vec<Change> = vec![
        |_| {},
        |spec| spec.timezone = chrono_tz::America::Denver,
        |spec| spec.projects[0].account = "lab2".to_owned(),
        |spec| spec.projects[0].project = "LAB2".to_owned(),
        |spec| spec.projects[0].cluster = Some("x".to_owned()),
        |spec| spec.projects[0].partition = Some("x".to_owned()),
        |spec| spec.projects[0].qos = Some("x".to_owned()),
        |spec| spec.projects[0].user = Some("x".to_owned()),
        |spec| spec.projects[0].from = Some("2026-05-05".parse().unwrap()),
        |spec| spec.projects[0].until = Some("2026-05-05".parse().unwrap()),
        |spec| spec.projects.clear(),
        |spec| spec.project_patterns[0].account = "a.*".to_owned(),
        |spec| spec.project_patterns[0].project = "x$0".to_owned(),
        |spec| spec.project_patterns[0].upper = true,
        |spec| spec.project_patterns[0].cluster = Some("x".to_owned()),
        |spec| spec.skip[0].account = "toor".to_owned(),
        |spec| spec.skip[0].cluster = Some("x".to_owned()),
        |spec| spec.users = None,
        |spec| spec.users = Some(vec![]),
        |spec| spec.users.as_mut().unwrap()[0].user = "bob".to_owned(),
        |spec| spec.users.as_mut().unwrap()[0].username = "bob".to_owned(),
        |spec| spec.users.as_mut().unwrap()[0].cluster = Some("x".to_owned()),
        |spec| spec.users.as_mut().unwrap()[0].from = Some("2026-05-05".parse().unwrap()),
        |spec| spec.users.as_mut().unwrap()[0].until = Some("2026-05-05".parse().unwrap()),
        |spec| spec.resources[0].name = "x".to_owned(),
        |spec| spec.resources[0].when.cluster = names(&["x"]),
        |spec| spec.resources[0].when.partition = names(&["x"]),
        |spec| spec.resources[0].when.qos = names(&["x"]),
        |spec| spec.resources[0].when.account = names(&["x"]),
        |spec| spec.resources[0].when.user = names(&["x"]),
        |spec| spec.resources[0].rates[0].from = "2025-01-01".parse().unwrap(),
        |spec| spec.resources[0].rates[0].until = None,
        |spec| spec.resources[0].rates[0].rate_by = RateBy::End,
        |spec| spec.resources[0].rates[0].charge = "node_hours * factor.qos".to_owned(),
        |spec| spec.resources[0].rates[0].round.places = 2,
        |spec| spec.resources[0].rates[0].round.mode = RoundingMode::Up,
        |spec| spec.resources[0].rates[0].minimum = None,
        |spec| spec.resources[0].rates[0].minimum_seconds = None,
        |spec| spec.resources[0].rates[0].minimum_seconds = Some(0),
        |spec| {
            *spec.resources[0].rates[0].factors.get_mut("qos").unwrap().get_mut("default").unwrap() =
                "2".to_owned()
        },
        |spec| {
            spec.resources[0].rates[0].factors.get_mut("qos").unwrap().insert("x".to_owned(), "1".to_owned());
        },
        |spec| spec.storage[0].resource = "x".to_owned(),
        |spec| spec.storage[0].source = "x".to_owned(),
        |spec| spec.storage[0].service_treats = None,
        |spec| spec.storage[0].service_treats = Some(ServiceTreats::Sum),
        |spec| spec.storage[0].charge = "stored_gib".to_owned(),
        |spec| spec.storage[0].round.places = 2,
        |spec| spec.storage[0].interval_days = 7,
        |spec| spec.storage[0].media_type = Some("Disk".to_owned()),
        |spec| spec.storage[0].system_copies = Some(1),
        |spec| spec.storage[0].owners[0].owner = "#2".to_owned(),
        |spec| spec.storage[0].owners[0].project = "x".to_owned(),
        |spec| spec.storage[0].owners[0].username = "x".to_owned(),
        |spec| spec.policy.send_zero = true,
        |spec| spec.policy.node_fail = Charged::Zero,
        |spec| spec.policy.boot_fail = Charged::Zero,
        |spec| spec.policy.preempted = Charged::Zero,
        |spec| spec.policy.requeued = Charged::Zero,
        |spec| spec.policy.failed = Charged::Zero,
        |spec| spec.policy.resizing = Charged::Zero,
        |spec| spec.policy.limits.max_charge = None,
        |spec| spec.policy.limits.max_cores = Some(1),
        |spec| spec.policy.limits.max_hours = Some("1".to_owned()),
        |spec| spec.resources[0].limits = max_charge("10"),
        |spec| spec.resources[0].limits.max_cores = Some(1),
        |spec| spec.resources[0].limits.max_hours = Some("1".to_owned()),
        |spec| spec.resources[0].cores_per_node = Some(1),
        |spec| spec.resources[0].gpus_per_node = Some(1),
        |spec| spec.resources[0].supplied = Some(vec![]),
        |spec| spec.resources[0].supplied = Some(vec![supplied("1", "2")]),
        |spec| spec.resources[0].supplied = Some(vec![supplied("2", "2")]),
        |spec| spec.resources[0].supplied = Some(vec![supplied("1", "3")]),
        |spec| {
            spec.resources[0].supplied =
                Some(vec![SuppliedRow { cluster: Some("x".to_owned()), ..supplied("1", "2") }]);
        },
        |spec| {
            spec.resources[0].supplied = Some(vec![SuppliedRow { submit: Some(7), ..supplied("1", "2") }]);
        },
        |spec| {
            spec.resources[0].supplied = Some(vec![SuppliedRow { start: Some(7), ..supplied("1", "2") }]);
        },
        |spec| spec.projects[0].pi = Some("x".to_owned()),
        |spec| spec.pi_fallback = names(&["x"]),
        |spec| spec.node_types[0].name = "x".to_owned(),
        |spec| spec.node_types[0].cluster = names(&["x"]),
        |spec| spec.node_types[0].partition = names(&["x"]),
        |spec| spec.node_types[0].hosts = names(&["x"]),
        |spec| spec.node_types[0].cores = Some(1),
        |spec| spec.node_types[0].gpus = Some(1),
        |spec| spec.node_types.clear(),
    ];
    let mut digests = HashSet::new();
    for (index, change) in changes.iter().enumerate() {
        let mut spec = full();
        change(&mut spec);
        assert!(digests.insert(compile(spec).digest()), "change {index}");
    }
    let mut moved = full();
    moved.projects[0].line = 99;
    moved.users.as_mut().unwrap()[0].line = 99;
    moved.storage[0].owners[0].line = 99;
    assert_eq!(Rules::compile(moved).unwrap().digest(), Rules::compile(full()).unwrap().digest());
}

#[test]
fn every_setting_of_a_source_changes_its_digest() {
    let base = source_spec;
    let specs = [
        base(),
        SourceSpec { name: "other".to_owned(), ..base() },
        SourceSpec { cluster: Some("x".to_owned()), ..base() },
        SourceSpec { project_from: vec![], ..base() },
        SourceSpec { project_from: vec![ProjectFrom::Account], ..base() },
        SourceSpec { project_from: vec![ProjectFrom::Project], ..base() },
        SourceSpec { local_record_id: Some("{raw_id}".to_owned()), ..base() },
        SourceSpec { parent_record_id: Some("{parent}".to_owned()), ..base() },
        SourceSpec { fold_accounts: Some(false), ..base() },
        SourceSpec { fold_accounts: Some(true), ..base() },
        SourceSpec { hold_forgeable: true, ..base() },
        SourceSpec { send_job_name: true, ..base() },
    ];
    let count = specs.len();
    let digests: HashSet<u128> =
        specs.into_iter().map(|spec| SourceRules::compile(spec).unwrap().digest()).collect();
    assert_eq!(digests.len(), count);
}
