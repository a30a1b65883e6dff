//! Quantities that are looked up: types of GPUs and of nodes, whole nodes, supplied charges.

use crate::support::*;
use mapper::spec::*;
use mapper::{Mapper, Outcome, Rules};
use parsers::{Run, State};

fn detail(rules: &Rules, run: &Run<'_>) -> String {
    let source = source();
    let mut mapper = Mapper::new(rules, &source);
    match mapper.map(run) {
        Outcome::Held(hold) => hold.detail,
        outcome => in_short(&outcome),
    }
}

#[test]
fn gpus_by_type_stand_beside_the_total_and_are_never_added_to_it() {
    let of = |formula: &str, gpus, tres| {
        charged(rate(formula), &Run { gpus: Some(gpus), tres: name(tres), ..run() })
    };
    let mixed = "cpu=8,gres/gpu:a100=2,gres/gpu:a100-80gb=1,gres/gpu=3,node=1";
    for (formula, expected) in [
        ("gpus * hours", "mapped 3"),
        ("gpus.a100 * hours", "mapped 2"),
        ("gpus.\"a100-80gb\" * hours", "mapped 1"),
        ("gpus.'a100-80gb' * hours", "mapped 1"),
        ("(gpus.a100 * 2 + gpus.\"a100-80gb\" * 3.5) * hours", "mapped 7.5"),
        ("if(gpus.h100 > 0, 120 * hours, hours)", "mapped 1"),
    ] {
        assert_eq!(of(formula, 3, mixed), expected, "{formula}");
    }
    // GPUs of a type that is not accounted are not GPUs of no type: who is asked for one does not know.
    assert_eq!(of("gpus.a100 * hours", 3, "gres/gpu=3"), "held missing-quantity");
    assert_eq!(of("gpus.h100 * hours", 3, "gres/gpu:a100=2,gres/gpu=3"), "held missing-quantity");
    assert_eq!(of("gpus.a100 * hours", 3, "gres/gpu:a100=2,gres/gpu=3"), "mapped 2");
    assert_eq!(of("gpus.a100 * hours", 0, "cpu=8"), "zero");
    let pbs = Run { gpus: Some(2), ..pbs_run() };
    assert_eq!(charged(rate("gpus.a100 * hours"), &pbs), "held missing-quantity");
    let unknown = charged(rate("gpus.a100 * hours"), &Run { gpus: None, tres: None, ..run() });
    assert_eq!(unknown, "held missing-quantity");
}

/// A job with GPUs of two types is charged for each; a type that nobody has priced is held, and not free.
#[test]
fn factors_by_type_of_gpu_are_the_exact_sum_over_types() {
    let with = |table: &[(&str, &str)], gpus, tres| {
        let rate = factors(rate("gpu_hours * factor.gpu_type"), "gpu_type", table);
        charged(rate, &Run { gpus: Some(gpus), tres: name(tres), ..run() })
    };
    let table = [("a100", "1.7"), ("a10", "1"), ("rtx-3090", "0.5")];
    let defaulted = [&table[..], &[("default", "3")]].concat();
    for (gpus, tres, expected, with_default) in [
        (1, "gres/gpu:a100=1,gres/gpu=1", "mapped 1.7", "mapped 1.7"),
        // 2 x 1.7 + 1 x 1 + 4 x 0.5, which no mean of three sevenths would give back if it were rounded.
        (7, "gres/gpu:a100=2,gres/gpu:a10=1,gres/gpu:rtx-3090=4,gres/gpu=7", "mapped 6.4", "mapped 6.4"),
        (2, "gres/gpu:h100=1,gres/gpu:a10=1,gres/gpu=2", "held missing-quantity", "mapped 4"),
        // One of three is of a type that is not accounted.
        (3, "gres/gpu:a100=2,gres/gpu=3", "held missing-quantity", "mapped 6.4"),
        (2, "gres/gpu=2", "held missing-quantity", "mapped 6"),
        (0, "cpu=1", "zero", "zero"),
        (1, "gres/gpu:a100=2,gres/gpu=1", "held missing-quantity", "held missing-quantity"),
    ] {
        assert_eq!(with(&table, gpus, tres), expected, "{tres}");
        assert_eq!(with(&defaulted, gpus, tres), with_default, "{tres}");
    }
    let priced = factors(rate("gpu_hours * factor.gpu_type"), "gpu_type", &table);
    let rules = compile(spec(vec![resource(vec![priced])]));
    let other = Run { gpus: Some(2), tres: name("gres/gpu:h100=2,gres/gpu=2"), ..run() };
    assert!(detail(&rules, &other).contains("no entry for gpu_type `h100`"), "{}", detail(&rules, &other));
}

#[test]
fn any_resource_of_pbs_is_a_quantity_or_a_factor() {
    let asked = |resources: &'static str| Run { resources: resources.into(), cores: Some(4), ..pbs_run() };
    let job = asked(
        "Resource_List.job_priority=premium Resource_List.ncpus=4 Resource_List.scratch=2gb Resource_List.share=0.25 Resource_List.fpga-cards=2",
    );
    for (formula, expected) in [
        ("resource.ncpus * hours", "mapped 4"),
        ("resource.share * core_hours", "mapped 1"),
        ("resource.scratch / 1024 / 1024 / 1024 * hours", "mapped 2"),
        ("resource.\"fpga-cards\" * hours", "mapped 2"),
        // A text is no number, and what was not asked for is not 0.
        ("resource.job_priority * hours", "held missing-quantity"),
        ("resource.walltime * hours", "held missing-quantity"),
    ] {
        assert_eq!(charged(rate(formula), &job), expected, "{formula}");
        assert_eq!(charged(rate(formula), &run()), "held missing-quantity", "{formula} of Slurm");
    }
    let table = [("premium", "1.5"), ("economy", "0.7")];
    let with = |name: &str, extra: &[(&str, &str)]| {
        factors(rate(&format!("core_hours * factor.{name}")), name, &[&table[..], extra].concat())
    };
    for name in ["priority", "resource.job_priority"] {
        assert_eq!(charged(with(name, &[]), &job), "mapped 6", "{name}");
        let other = asked("Resource_List.job_priority=urgent");
        assert_eq!(charged(with(name, &[]), &other), "held missing-quantity", "{name}");
        assert_eq!(charged(with(name, &[("default", "1")]), &other), "mapped 4", "{name}");
        assert_eq!(charged(with(name, &[("default", "1")]), &asked("")), "mapped 4", "{name}");
        assert_eq!(charged(with(name, &[]), &asked("")), "held missing-quantity", "{name}");
    }
    // One mapper, runs that differ in nothing but the resource.
    let rules = compile(spec(vec![resource(vec![with("priority", &[])])]));
    let source = source();
    let mut mapper = Mapper::new(&rules, &source);
    let economy = asked("Resource_List.job_priority=economy");
    let charges = [&job, &economy, &job].map(|run| in_short(&mapper.map(run)));
    assert_eq!(charges, ["mapped 6", "mapped 2.8", "mapped 6"]);
    let both = factors(with("priority", &[]), "resource.job_priority", &[("default", "1")]);
    assert!(
        Rules::compile(spec(vec![resource(vec![both])])).unwrap_err()[0].message.contains("under two names")
    );
}

#[test]
fn what_pbs_took_from_others_is_a_quantity() {
    let assigned =
        parsers::Assigned { cores: Some(72), nodes: Some(2), gpus: Some(8), mem_bytes: Some(3 << 30) };
    let job = Run { assigned, cores: Some(2), ..pbs_run() };
    for (formula, expected) in [
        ("assigned.cores * hours", "mapped 72"),
        ("assigned.nodes * hours", "mapped 2"),
        ("assigned.gpus * hours", "mapped 8"),
        ("assigned.mem_gib * hours", "mapped 3"),
        ("assigned.mem_gb * hours", "mapped 3.221225"),
    ] {
        assert_eq!(charged(rate(formula), &job), expected, "{formula}");
        assert_eq!(charged(rate(formula), &pbs_run()), "held missing-quantity", "{formula}");
    }
}

/// The charge that a site supplies is of the whole run: its phases do not each get it.
#[test]
fn what_is_said_of_a_whole_run_is_not_repeated_by_its_phases() {
    let phase = |seconds, nodes| parsers::Phase {
        seconds,
        nodes: Some(nodes),
        cores: Some(nodes),
        assigned: parsers::Assigned { cores: Some(10 * nodes), ..Default::default() },
        ..Default::default()
    };
    let job =
        Run { phases: vec![phase(1800, 2), phase(1800, 1)], nodes: Some(2), cores: Some(2), ..pbs_run() };
    let rows = || Some(vec![supplied("91.pbssrv", "7")]);
    let with = |formula: &str| {
        let spec = spec(vec![ResourceSpec {
            supplied: rows().filter(|_| formula.contains("supplied")),
            cores_per_node: Some(36),
            ..resource(vec![rate(formula)])
        }]);
        outcome(&compile(spec), &source(), &job)
    };
    assert_eq!(with("supplied"), "mapped 7");
    assert_eq!(with("supplied / 2"), "mapped 3.5");
    assert_eq!(with("supplied + core_hours"), "held phases");
    // 36 x (2 x 1/2 + 1 x 1/2)
    assert_eq!(with("exclusive.cores * hours"), "mapped 54");
    // 20 x 1/2 + 10 x 1/2
    assert_eq!(with("assigned.cores * hours"), "mapped 15");
}

#[test]
fn suspended_time_is_a_quantity_of_its_own() {
    let suspended = Run { cores: Some(4), suspended: Some(1800), ..run() };
    let formula = || rate("cores * (hours + 0.75 * suspended_hours)");
    assert_eq!(charged(formula(), &suspended), "mapped 5.5");
    assert_eq!(charged(formula(), &Run { suspended: None, ..suspended }), "held missing-quantity");
}

fn node_type(name: &str, hosts: &[&str], cores: Option<u64>) -> NodeTypeSpec {
    NodeTypeSpec { name: name.to_owned(), hosts: names(hosts), cores, ..NodeTypeSpec::default() }
}

/// Factors 1 for thin, 4 for fat, and 2 for the partition of old nodes.
fn by_node_type(formula: &str, default: bool) -> Rules {
    let mut table = vec![("thin", "1"), ("fat", "4"), ("old", "2")];
    if default {
        table.push(("default", "10"));
    }
    compile(RulesSpec {
        node_types: vec![
            NodeTypeSpec { partition: names(&["old", "older"]), ..node_type("old", &[], Some(16)) },
            node_type("thin", &["cn[0-9]+", "login"], Some(64)),
            node_type("fat", &["fat[0-9]+"], None),
        ],
        ..spec(vec![ResourceSpec {
            cores_per_node: Some(128),
            ..resource(vec![factors(rate(formula), "node_type", &table)])
        }])
    })
}

#[test]
fn types_of_nodes_by_partition_and_by_hosts() {
    let rules = by_node_type("core_hours * factor.node_type", false);
    let defaulted = by_node_type("core_hours * factor.node_type", true);
    for (partition, hosts, expected, with_default) in [
        ("cpu", Some("cn[001-003]"), "mapped 1", "mapped 1"),
        ("cpu", Some("cn1,login"), "mapped 1", "mapped 1"),
        ("cpu", Some("fat01"), "mapped 4", "mapped 4"),
        ("old", Some("fat01"), "mapped 2", "mapped 2"),
        ("older", None, "mapped 2", "mapped 2"),
        // Patterns are anchored, and a host of no type has no factor but the default's.
        ("cpu", Some("xcn1"), "held missing-quantity", "mapped 10"),
        ("cpu", Some("gpu[1-2]"), "held missing-quantity", "mapped 10"),
        // Which type it is is not known: no default may stand for it.
        ("cpu", None, "held missing-quantity", "held missing-quantity"),
        ("cpu", Some("cn1,fat1"), "held missing-quantity", "held missing-quantity"),
        ("cpu", Some("cn1,other"), "held missing-quantity", "held missing-quantity"),
        ("cpu", Some("cn[1-"), "held missing-quantity", "held missing-quantity"),
    ] {
        let run = Run { partition: name(partition), node_list: hosts.map(Into::into), ..run() };
        assert_eq!(outcome(&rules, &source(), &run), expected, "{partition} {hosts:?}");
        assert_eq!(outcome(&defaulted, &source(), &run), with_default, "{partition} {hosts:?}");
    }
    let several = Run { node_list: name("cn1,fat1"), ..run() };
    assert!(detail(&rules, &several).contains("(cn1 is thin, fat1 is fat)"), "{}", detail(&rules, &several));
    let unlisted = detail(&rules, &run());
    assert!(unlisted.contains("sacct gives them in NodeList"), "{unlisted}");
    let other = Run { node_list: name("gpu1"), ..run() };
    assert!(detail(&rules, &other).contains("factor.node_type of cpu.example.org has no entry"), "{other:?}");
    let pbs = Run { node_list: name("fat1/0*4+fat2/0*4"), ..pbs_run() };
    assert_eq!(outcome(&rules, &source(), &pbs), "mapped 4");
    let thin = Run { node_list: name("cn1"), ..run() };
    let text = Mapper::new(&rules, &source()).explain(&thin).to_string();
    assert!(text.contains("node type") && text.contains("thin"), "{text}");
}

#[test]
fn whole_nodes_are_charged_by_what_the_configuration_says_a_node_has() {
    let rules = by_node_type("exclusive.cores * hours", false);
    let on = |hosts, nodes| Run { node_list: name(hosts), nodes: Some(nodes), cores: Some(3), ..run() };
    // thin: 64 cores; fat says none, so that the resource's 128 are taken.
    assert_eq!(outcome(&rules, &source(), &on("cn[1-3]", 3)), "mapped 192");
    assert_eq!(outcome(&rules, &source(), &on("fat[1-2]", 2)), "mapped 256");
    assert_eq!(outcome(&rules, &source(), &on("gpu1", 1)), "mapped 128");
    assert_eq!(outcome(&rules, &source(), &on("cn1,fat1", 2)), "held missing-quantity");
    let plain = compile(spec(vec![ResourceSpec {
        cores_per_node: Some(48),
        gpus_per_node: Some(4),
        ..resource(vec![rate(
            "if(nodes > 1, exclusive.cores, max(cores, mem_gb / 4)) * hours + exclusive.gpus * hours",
        )])
    }]));
    let wide = Run { nodes: Some(2), cores: Some(50), ..run() };
    assert_eq!(outcome(&plain, &source(), &wide), "mapped 104");
    assert_eq!(outcome(&plain, &source(), &Run { nodes: Some(1), ..wide.clone() }), "mapped 54");
    let per_node = compile(spec(vec![ResourceSpec {
        cores_per_node: Some(48),
        gpus_per_node: Some(4),
        ..resource(vec![rate("cores_per_node / gpus_per_node * hours")])
    }]));
    assert_eq!(outcome(&per_node, &source(), &wide), "mapped 12");
}

fn supplied(job_id: &str, charge: &str) -> SuppliedRow {
    SuppliedRow { job_id: job_id.to_owned(), charge: charge.to_owned(), ..SuppliedRow::default() }
}

fn forwarding(rows: Vec<SuppliedRow>) -> Rules {
    let rows = rows.into_iter().enumerate().map(|(index, row)| SuppliedRow { line: index as u64 + 2, ..row });
    compile(spec(vec![ResourceSpec { supplied: Some(rows.collect()), ..resource(vec![rate("supplied")]) }]))
}

#[test]
fn charges_that_the_site_computed_are_forwarded_and_a_missing_one_is_held() {
    let first = at("2026-11-23T09:45:25Z");
    let rules = forwarding(vec![
        supplied("123", "12.3456789"),
        SuppliedRow { cluster: Some("other".to_owned()), ..supplied("124", "1") },
        SuppliedRow { cluster: Some("testhpc".to_owned()), ..supplied("124", "2") },
        SuppliedRow { submit: Some(first), ..supplied("125", "3") },
        SuppliedRow { submit: Some(first + 60), ..supplied("125", "4") },
        SuppliedRow { submit: Some(first), ..supplied("126", "5") },
        supplied("126", "6"),
        supplied("127", "0"),
        SuppliedRow { start: Some(at("2026-11-23T10:00:00Z")), ..supplied("129", "8") },
        SuppliedRow { start: Some(at("2026-11-23T10:00:01Z")), ..supplied("130", "9") },
    ]);
    let job = |id: &'static str| Run { job_id: id.into(), raw_id: id.into(), ..run() };
    for (run, expected) in [
        (job("123"), "mapped 12.345679"),
        (job("124"), "mapped 2"),
        (job("125"), "mapped 3"),
        (Run { submit: Some(first + 60), ..job("125") }, "mapped 4"),
        (Run { submit: Some(first + 61), ..job("125") }, "held missing-quantity"),
        (job("126"), "held missing-quantity"),
        (Run { submit: Some(first + 60), ..job("126") }, "mapped 6"),
        (job("127"), "zero"),
        (job("128"), "held missing-quantity"),
        (job("129"), "mapped 8"),
        (job("130"), "held missing-quantity"),
        (Run { cluster: name("third"), ..job("124") }, "held missing-quantity"),
    ] {
        assert_eq!(outcome(&rules, &source(), &run), expected, "{} {:?}", run.job_id, run.submit);
    }
    let missing = detail(&rules, &job("128"));
    assert!(missing.ends_with("Add to it:\njob_id,charge\n128,<charge>"), "{missing}");
    assert!(detail(&rules, &job("126")).contains("lines 7 and 8"));
    let text = Mapper::new(&rules, &source()).explain(&job("123")).to_string();
    assert!(text.contains("by line 2 of the table of supplied charges"), "{text}");
}

/// A charge by job id alone would be taken for each run of a requeued job.
#[test]
fn a_charge_of_a_job_is_not_taken_for_each_of_its_runs() {
    let submit = at("2026-11-23T09:45:25Z");
    let start = at("2026-11-23T10:00:00Z");
    let by_job = forwarding(vec![supplied("123", "7"), supplied("91.pbssrv", "8")]);
    let by_submit = forwarding(vec![
        SuppliedRow { submit: Some(submit), ..supplied("123", "7") },
        SuppliedRow { submit: Some(submit), ..supplied("91.pbssrv", "8") },
    ]);
    let by_start = forwarding(vec![
        SuppliedRow { start: Some(start), ..supplied("123", "7") },
        SuppliedRow { start: Some(start), ..supplied("91.pbssrv", "8") },
    ]);
    let ended = |state| Run { state, ..run() };
    let held = "held missing-quantity";
    for (run, job, submit, start) in [
        (run(), "mapped 7", "mapped 7", "mapped 7"),
        (ended(State::Failed), "mapped 7", "mapped 7", "mapped 7"),
        (ended(State::Requeued), held, "mapped 7", "mapped 7"),
        (ended(State::Preempted), held, "mapped 7", "mapped 7"),
        (ended(State::NodeFail), held, "mapped 7", "mapped 7"),
        (ended(State::BootFail), held, "mapped 7", "mapped 7"),
        // The parts of a resized job share even their submit time.
        (ended(State::Resizing), held, held, "mapped 7"),
        (pbs_run(), "mapped 8", "mapped 8", "mapped 8"),
        // The runs of a PBS job share it too.
        (Run { run_count: Some(2), ..pbs_run() }, held, held, "mapped 8"),
        (Run { state_text: "R".into(), ..pbs_run() }, held, held, "mapped 8"),
    ] {
        let what = format!("{:?} {:?}", run.state, run.run_count);
        assert_eq!(outcome(&by_job, &source(), &run), job, "{what} by job");
        assert_eq!(outcome(&by_submit, &source(), &run), submit, "{what} by submit");
        assert_eq!(outcome(&by_start, &source(), &run), start, "{what} by start");
    }
    let requeued = ended(State::Requeued);
    assert!(detail(&by_job, &requeued).contains("line 2") && detail(&by_job, &requeued).contains("`submit`"));
}

#[test]
fn what_formulas_ask_of_the_configuration_must_be_there() {
    let refused = |resource: ResourceSpec| {
        let errors = Rules::compile(spec(vec![resource])).unwrap_err();
        let [error] = errors.as_slice() else { panic!("{errors:#?}") };
        (error.place, error.message.clone())
    };
    let formula = |offset, len| RulePlace::Formula { resource: 0, rate: 0, offset, len };
    assert_eq!(
        refused(resource(vec![rate("2 * supplied")])),
        (formula(4, 8), "the configuration does not say `supplied`".to_owned())
    );
    assert_eq!(
        refused(resource(vec![rate("exclusive.cores * hours")])),
        (formula(0, 15), "the configuration does not say `exclusive.cores`".to_owned())
    );
    assert_eq!(
        refused(resource(vec![rate("hours * gpus_per_node")])),
        (formula(8, 13), "the configuration does not say `gpus_per_node`".to_owned())
    );
    let twice = vec![supplied("1", "2"), supplied("1", "3")];
    let (place, message) =
        refused(ResourceSpec { supplied: Some(twice), ..resource(vec![rate("supplied")]) });
    assert_eq!(place, RulePlace::SuppliedRow { resource: 0, line: 0 });
    assert!(message.contains("is in line 0 already"), "{message}");
    let odd = vec![supplied("1", "NaN")];
    let (_, message) = refused(ResourceSpec { supplied: Some(odd), ..resource(vec![rate("supplied")]) });
    assert!(message.contains("\"NaN\" is no plain number"), "{message}");
    let unused = ResourceSpec { supplied: Some(vec![]), ..resource(vec![rate("core_hours")]) };
    assert!(compile(spec(vec![unused])).warnings()[0].message.contains("is not used by any rate"));
    let none = RulesSpec {
        node_types: vec![node_type("", &["("], Some(0))],
        ..spec(vec![resource(vec![rate("core_hours")])])
    };
    let messages: Vec<_> = Rules::compile(none).unwrap_err().into_iter().map(|error| error.message).collect();
    assert_eq!(messages.len(), 3, "{messages:#?}");
}
