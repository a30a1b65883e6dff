//! The order of decisions, policy, minimum, rounding, brakes.

use crate::support::*;
use mapper::spec::*;
use mapper::{Keys, Mapper, Measures, Outcome, SourceRules, Times};
use parsers::{Finding, Run, Scheduler, State};
use proptest::prelude::*;

fn policy(policy: PolicySpec, run: &Run<'_>) -> String {
    let rules = compile(RulesSpec { policy, ..spec(vec![resource(vec![rate("core_hours")])]) });
    outcome(&rules, &source(), run)
}

#[test]
fn the_first_reason_is_given() {
    // Everything is wrong with this run; one thing after the other is put right.
    let mut rules_spec = spec(vec![ResourceSpec {
        when: When { partition: names(&["cpu"]), ..When::default() },
        ..resource(vec![period("2026-01-01", None, "core_hours")])
    }]);
    rules_spec.project_patterns = vec![];
    rules_spec.projects =
        vec![ProjectRow { account: "lab".to_owned(), project: "LAB".to_owned(), ..ProjectRow::default() }];
    rules_spec.users =
        Some(vec![UserRow { user: "alice".to_owned(), username: "alice".to_owned(), ..UserRow::default() }]);
    rules_spec.policy.limits.max_charge = Some("0.5".to_owned());
    let rules = compile(rules_spec);
    let hold = SourceRules::compile(SourceSpec { hold_forgeable: true, ..source_spec() }).unwrap();
    let accept = source();
    let mut run = Run {
        state: State::Running,
        allocated: false,
        account: None,
        user: None,
        partition: name("debug"),
        submit: Some(at("2025-01-01T00:00:00Z")),
        finding: Some(Finding::TresDisagree),
        cores: None,
        nodes: None,
        ..run()
    };
    assert_eq!(outcome(&rules, &hold, &run), "skipped not-ended");
    run.state = State::Unknown;
    assert_eq!(outcome(&rules, &hold, &run), "skipped nothing-allocated");
    run.allocated = true;
    assert_eq!(outcome(&rules, &hold, &run), "held forgeable");
    assert_eq!(outcome(&rules, &accept, &run), "held no-account");
    run.account = name("nosuchacct");
    assert_eq!(outcome(&rules, &accept, &run), "held unknown-project");
    run.account = name("lab");
    assert_eq!(outcome(&rules, &accept, &run), "held no-user");
    run.user = name("mallory");
    assert_eq!(outcome(&rules, &accept, &run), "held unknown-user");
    run.user = name("alice");
    assert_eq!(outcome(&rules, &accept, &run), "held unknown-resource");
    run.partition = name("cpu");
    assert_eq!(outcome(&rules, &accept, &run), "held no-rate");
    run.submit = Some(at("2026-11-23T09:45:25Z"));
    assert_eq!(outcome(&rules, &accept, &run), "held inconsistent");
    run.finding = None;
    assert_eq!(outcome(&rules, &accept, &run), "held unknown-state");
    run.state = State::Completed;
    assert_eq!(outcome(&rules, &accept, &run), "held missing-quantity");
    run.cores = Some(1);
    assert_eq!(outcome(&rules, &accept, &run), "held missing-quantity");
    run.nodes = Some(1);
    assert_eq!(outcome(&rules, &accept, &run), "held above-max-charge 1");
    run.elapsed = Some(1800);
    assert_eq!(outcome(&rules, &accept, &run), "mapped 0.5");
    run.elapsed = Some(0);
    assert_eq!(outcome(&rules, &accept, &run), "zero");
    run.end = None;
    assert_eq!(outcome(&rules, &accept, &run), "skipped not-ended");
}

#[test]
fn what_the_parser_found_is_held_by_its_own_name() {
    for (finding, expected) in [
        (Finding::StartBeforeSubmit, "held inconsistent"),
        (Finding::ElapsedBeyondSpan, "held inconsistent"),
        (Finding::EndBeforeStart, "held inconsistent"),
        (Finding::AmbiguousSubmit, "held ambiguous-time"),
        (Finding::AmbiguousTime, "held ambiguous-time"),
        (Finding::UnknownState, "held unknown-state"),
        (Finding::NodeRelease, "held node-release"),
        (Finding::DateDisagrees, "held inconsistent"),
    ] {
        assert_eq!(charged(rate("core_hours"), &Run { finding: Some(finding), ..run() }), expected);
    }
}

#[test]
fn times_that_cannot_be_are_held_whatever_the_parser_says() {
    let of = |run: &Run<'_>| charged(rate("core_hours"), run);
    assert_eq!(of(&Run { submit: None, ..run() }), "held no-time");
    let ambiguous = Run { submit: None, finding: Some(Finding::AmbiguousSubmit), ..run() };
    assert_eq!(of(&ambiguous), "held ambiguous-time");
    assert_eq!(of(&Run { end: run().start.map(|start| start - 1), ..run() }), "held inconsistent");
    assert_eq!(of(&Run { end: Some(i64::MAX), ..run() }), "held inconsistent");
    assert_eq!(of(&Run { start: Some(i64::MIN), ..run() }), "held inconsistent");
    assert_eq!(of(&Run { start: None, ..run() }), "skipped nothing-allocated");
    // An account that is not reported needs no time.
    let mut skipping = spec(vec![resource(vec![rate("core_hours")])]);
    skipping.project_patterns = vec![];
    skipping.skip = vec![SkipRule { account: ".*".to_owned(), cluster: None }];
    let rules = compile(skipping);
    assert_eq!(outcome(&rules, &source(), &ambiguous), "skipped account-rule");
}

#[test]
fn policy_decides_per_end() {
    for state in
        [State::NodeFail, State::BootFail, State::Preempted, State::Requeued, State::Resizing, State::Failed]
    {
        let ended = Run { state, ..run() };
        assert_eq!(policy(PolicySpec::default(), &ended), "mapped 1", "{state:?}");
        let all = PolicySpec {
            node_fail: Charged::Zero,
            boot_fail: Charged::Zero,
            preempted: Charged::Zero,
            requeued: Charged::Zero,
            resizing: Charged::Zero,
            failed: Charged::Zero,
            ..PolicySpec::default()
        };
        assert_eq!(policy(all.clone(), &ended), "zero", "{state:?}");
        let but_this = match state {
            State::NodeFail => PolicySpec { node_fail: Charged::Charge, ..all },
            State::BootFail => PolicySpec { boot_fail: Charged::Charge, ..all },
            State::Preempted => PolicySpec { preempted: Charged::Charge, ..all },
            State::Requeued => PolicySpec { requeued: Charged::Charge, ..all },
            State::Resizing => PolicySpec { resizing: Charged::Charge, ..all },
            _ => PolicySpec { failed: Charged::Charge, ..all },
        };
        assert_eq!(policy(but_this, &ended), "mapped 1", "{state:?}");
    }
    let zero = PolicySpec { requeued: Charged::Zero, failed: Charged::Zero, ..PolicySpec::default() };
    for state in [State::Completed, State::Timeout, State::Cancelled, State::OutOfMemory, State::Deadline] {
        assert_eq!(policy(zero.clone(), &Run { state, ..run() }), "mapped 1", "{state:?}");
    }
    // An R record of PBS was put back into the queue, whatever its state is taken for.
    let rerun = Run { state_text: "R".into(), state: State::Completed, ..pbs_run() };
    assert_eq!(policy(zero.clone(), &rerun), "zero");
    assert_eq!(policy(zero, &Run { scheduler: Scheduler::Slurm, account: name("a"), ..rerun }), "mapped 1");
}

#[test]
fn a_policy_of_zero_does_not_hide_a_missing_quantity() {
    let zero = PolicySpec { node_fail: Charged::Zero, ..PolicySpec::default() };
    let failed = Run { state: State::NodeFail, cores: None, ..run() };
    assert_eq!(policy(zero, &failed), "held missing-quantity");
}

#[test]
fn the_minimum_lifts_what_is_charged_and_not_a_zero() {
    let minimum = |text: &str| RateSpec { minimum: Some(text.to_owned()), ..rate("core_hours") };
    assert_eq!(charged(minimum("0.1"), &lasting(36, run())), "mapped 0.1");
    assert_eq!(charged(minimum("0.1"), &lasting(360, run())), "mapped 0.1");
    assert_eq!(charged(minimum("0.1"), &lasting(720, run())), "mapped 0.2");
    assert_eq!(charged(minimum("0.1"), &lasting(0, run())), "zero");
    let free = factors(minimum("1"), "qos", &[("normal", "0")]);
    let free = RateSpec { charge: "core_hours * factor.qos".to_owned(), ..free };
    assert_eq!(charged(free, &run()), "zero");
    let rules = compile(RulesSpec {
        policy: PolicySpec { failed: Charged::Zero, ..PolicySpec::default() },
        ..spec(vec![resource(vec![minimum("1")])])
    });
    assert_eq!(outcome(&rules, &source(), &Run { state: State::Failed, ..run() }), "zero");
    // What the rounding would make a zero is charged, and so is lifted.
    assert_eq!(charged(minimum("0.5"), &Run { cores: Some(1), ..lasting(1, run()) }), "mapped 0.5");
}

#[test]
fn the_least_seconds_are_charged_of_a_run_that_took_any() {
    let least = RateSpec { minimum_seconds: Some(600), ..rate("core_hours") };
    assert_eq!(charged(least.clone(), &lasting(1, run())), "mapped 0.166667");
    assert_eq!(charged(least.clone(), &lasting(600, run())), "mapped 0.166667");
    assert_eq!(charged(least.clone(), &lasting(900, run())), "mapped 0.25");
    assert_eq!(charged(least.clone(), &lasting(0, run())), "zero");
    let rules = compile(spec(vec![resource(vec![least])]));
    let source = source();
    let run = lasting(1, run());
    let mut mapper = Mapper::new(&rules, &source);
    let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
    assert_eq!(mapped.facts.elapsed, Some(1), "what is recorded of the run is what the source says");
}

#[test]
fn charges_are_rounded_once_at_the_end() {
    // 1 s of one core is 1/3600 = 0.00027777...
    for (places, mode, expected) in [
        (6, RoundingMode::HalfEven, "mapped 0.000278"),
        (6, RoundingMode::Down, "mapped 0.000277"),
        (5, RoundingMode::Up, "mapped 0.00028"),
        (3, RoundingMode::HalfUp, "zero"),
        (3, RoundingMode::Up, "mapped 0.001"),
        (0, RoundingMode::Up, "mapped 1"),
        (18, RoundingMode::HalfEven, "mapped 0.000277777777777778"),
    ] {
        let rate = RateSpec { round: Rounding { places, mode }, ..rate("core_hours") };
        assert_eq!(charged(rate, &lasting(1, run())), expected, "{places} {mode:?}");
    }
    // Ties: 9 s of one core are 0.0025 core hours.
    for (mode, expected) in [
        (RoundingMode::HalfEven, "mapped 0.002"),
        (RoundingMode::HalfUp, "mapped 0.003"),
        (RoundingMode::Up, "mapped 0.003"),
        (RoundingMode::Down, "mapped 0.002"),
    ] {
        let rate = RateSpec { round: Rounding { places: 3, mode }, ..rate("core_hours") };
        assert_eq!(charged(rate, &lasting(9, run())), expected, "{mode:?}");
    }
    // A third three times is one: nothing was rounded on the way.
    assert_eq!(charged(rate("(hours / 3 + hours / 3 + hours / 3) * cores"), &run()), "mapped 1");
}

#[test]
fn what_has_no_value_is_held() {
    for (formula, expected, detail) in [
        ("core_hours / gpus", "held arithmetic", "divides by `gpus`, which is 0 for this run"),
        ("(1 - nodes - cores) * hours", "held arithmetic", "gives -1, below 0"),
        ("requested.cores * hours", "held missing-quantity", "`requested.cores`"),
        ("99999999999999999999999999999999999999 * core_hours", "held arithmetic", "more than 38 digits"),
    ] {
        let rules = compile(spec(vec![resource(vec![rate(formula)])]));
        let (source, run) = (source(), run());
        let mut mapper = Mapper::new(&rules, &source);
        let outcome = mapper.map(&run);
        assert_eq!(in_short(&outcome), expected, "{formula}");
        let Outcome::Held(hold) = outcome else { panic!("held") };
        assert!(hold.detail.contains(detail), "{}", hold.detail);
    }
}

#[test]
fn zero_charges_are_sent_where_the_site_says_so() {
    let send = PolicySpec { send_zero: true, ..PolicySpec::default() };
    assert_eq!(policy(send, &lasting(0, run())), "mapped 0");
    assert_eq!(policy(PolicySpec::default(), &lasting(0, run())), "zero");
}

#[test]
fn factors_are_looked_up_by_the_runs_own_value() {
    let run = Run { reservation: name("maint"), group: name("g"), project: name("p"), ..run() };
    for (table, value) in [
        ("qos", "normal"),
        ("partition", "cpu"),
        ("queue", "cpu"),
        ("account", "tg-abc123456"),
        ("user", "alice"),
        ("reservation", "maint"),
        ("cluster", "testhpc"),
        ("group", "g"),
        ("project", "p"),
    ] {
        let formula = format!("core_hours * factor.{table}");
        let listed = factors(rate(&formula), table, &[(value, "3"), ("other", "5")]);
        assert_eq!(charged(listed, &run), "mapped 3", "{table}");
        let default = factors(rate(&formula), table, &[("other", "5"), ("default", "7")]);
        assert_eq!(charged(default, &run), "mapped 7", "{table}");
        let neither = factors(rate(&formula), table, &[("other", "5")]);
        assert_eq!(charged(neither, &run), "held missing-quantity", "{table}");
    }
    // A table that is not evaluated needs no entry; `queue` and `partition` are one.
    let lazy = factors(rate("if(gpus > 0, gpu_hours * factor.qos, core_hours)"), "qos", &[("other", "5")]);
    assert_eq!(charged(lazy, &run), "mapped 1");
    let alias = factors(rate("core_hours * factor.partition"), "queue", &[("cpu", "4")]);
    assert_eq!(charged(alias, &run), "mapped 4");
}

#[test]
fn pbs_projects_come_from_where_the_source_says() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours")])]));
    for (from, account, project, group, expected) in [
        (vec![ProjectFrom::Account], name("acct"), name("proj"), name("grp"), Some("acct")),
        (vec![ProjectFrom::Account], None, name("proj"), name("grp"), None),
        (vec![ProjectFrom::Account], name(""), name("proj"), name("grp"), None),
        (
            vec![ProjectFrom::Project, ProjectFrom::Group],
            name("acct"),
            name("proj"),
            name("grp"),
            Some("proj"),
        ),
        (
            vec![ProjectFrom::Project, ProjectFrom::Group],
            name("acct"),
            name("_pbs_project_default"),
            name("grp"),
            Some("grp"),
        ),
        (vec![ProjectFrom::Project, ProjectFrom::Group], name("acct"), None, name("grp"), Some("grp")),
        (vec![ProjectFrom::Project], name("acct"), name("_pbs_project_default"), name("grp"), None),
        (vec![], name("acct"), name("proj"), name("grp"), None),
    ] {
        let what = format!("{from:?} {account:?} {project:?} {group:?}");
        let source = SourceRules::compile(SourceSpec { project_from: from, ..source_spec() }).unwrap();
        let run = Run { account, project, group, ..pbs_run() };
        let mut mapper = Mapper::new(&rules, &source);
        match mapper.map(&run) {
            Outcome::Mapped(mapped) => {
                assert_eq!(Some(&*mapped.record.local_project_id), expected, "{what}");
            }
            outcome => {
                assert_eq!((in_short(&outcome).as_str(), expected), ("held no-account", None), "{what}");
            }
        }
    }
    // For Slurm it is always the account.
    let source =
        SourceRules::compile(SourceSpec { project_from: vec![ProjectFrom::Group], ..source_spec() }).unwrap();
    let run = Run { group: name("grp"), ..run() };
    let mut mapper = Mapper::new(&rules, &source);
    let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
    assert_eq!(mapped.record.local_project_id, "tg-abc123456");
}

#[test]
fn the_first_row_that_fits_decides() {
    let row = |project: &str| ProjectRow {
        account: "lab".to_owned(),
        project: project.to_owned(),
        ..ProjectRow::default()
    };
    let text = |text: &str| Some(text.to_owned());
    let mut rules_spec = spec(vec![resource(vec![rate("core_hours")])]);
    rules_spec.projects = vec![
        ProjectRow { cluster: text("testhpc"), qos: text("high"), user: text("bob"), ..row("ALL-THREE") },
        ProjectRow { partition: text("gpu"), ..row("GPU") },
        ProjectRow { user: text("bob"), ..row("BOB") },
        ProjectRow { qos: text("high"), ..row("HIGH") },
        row("REST"),
    ];
    let rules = compile(rules_spec);
    assert_eq!(rules.warnings(), []);
    for (partition, qos, user, expected) in [
        ("cpu", "high", "bob", "ALL-THREE"),
        ("gpu", "high", "bob", "ALL-THREE"),
        ("gpu", "high", "alice", "GPU"),
        ("cpu", "normal", "bob", "BOB"),
        ("cpu", "high", "alice", "HIGH"),
        ("cpu", "normal", "alice", "REST"),
    ] {
        let run = Run {
            account: name("lab"),
            partition: name(partition),
            qos: name(qos),
            user: name(user),
            ..run()
        };
        let source = source();
        let mut mapper = Mapper::new(&rules, &source);
        let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
        assert_eq!(mapped.record.local_project_id, expected);
    }
}

#[test]
fn a_plan_can_be_asked_by_itself() {
    let rules = compile(spec(vec![resource(vec![
        period("2026-01-01", Some("2027-01-01"), "core_hours"),
        period("2027-01-01", None, "2 * core_hours"),
    ])]));
    let keys = Keys { account: name("lab"), user: name("alice"), ..Keys::default() };
    let on = |date: &str| Times { submit: Some(at(date)), ..Times::default() };
    let plan = rules.plan(&keys, on("2026-06-01T00:00:00Z"));
    assert!(plan.is_valid(on("2026-12-31T23:59:59Z")) && plan.is_valid(on("2026-01-01T00:00:00Z")));
    assert!(!plan.is_valid(on("2027-01-01T00:00:00Z")) && !plan.is_valid(on("2025-12-31T23:59:59Z")));
    assert!(!plan.is_valid(Times::default()));
    let measures = Measures { seconds: Some(5400), cores: Some(3), ..Measures::default() };
    assert_eq!(plan.charge(&measures, Charged::Charge).unwrap().to_string(), "4.5");
    assert_eq!(plan.charge(&measures, Charged::Zero).unwrap().to_string(), "0");
    assert_eq!(
        plan.charge(&Measures::default(), Charged::Charge).unwrap_err().reason.code(),
        "missing-quantity"
    );
}

proptest! {
    /// The sum over runs does not depend on their order, nor on whether a mapper has seen others before.
    #[test]
    fn sums_do_not_depend_on_order(
        mut runs in prop::collection::vec((0_u64..200_000, 0_u64..5_000, 0_usize..3, 0_usize..3), 1..60),
        turn in 0_usize..60,
    ) {
        let rules = compile(spec(vec![resource(vec![factors(
            rate("max(cores, 1.7 / 3) * hours * factor.qos / 7"), "qos", &[("high", "2"), ("default", "0.3")],
        )])]));
        let source = source();
        let of = |(seconds, cores, account, qos): &(u64, u64, usize, usize)| {
            let account = name(["a", "b", "c"][*account]);
            let qos = name(["high", "low", "none"][*qos]);
            Run { cores: Some(*cores), account, qos, ..lasting(*seconds, run()) }
        };
        let total = |runs: &[(u64, u64, usize, usize)], fresh: bool| {
            let mut mapper = Mapper::new(&rules, &source);
            let mut total = amie_usage::Decimal::ZERO;
            for values in runs {
                if fresh {
                    mapper = Mapper::new(&rules, &source);
                }
                let run = of(values);
                match mapper.map(&run) {
                    Outcome::Mapped(mapped) | Outcome::Zero(mapped) => {
                        total = total.checked_add(mapped.record.charge).unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            }
            total
        };
        let expected = total(&runs, true);
        prop_assert_eq!(total(&runs, false), expected);
        let turn = turn % runs.len();
        runs.rotate_left(turn);
        prop_assert_eq!(total(&runs, false), expected);
        runs.reverse();
        prop_assert_eq!(total(&runs, false), expected);
    }
}
