//! Runs that gave nodes back while they ran: charged by phase, exactly, or held where the formula forbids it.

use crate::support::*;
use mapper::spec::*;
use mapper::{Explanation, Mapper, Outcome};
use parsers::{Phase, Run};

/// Job 110 of the fixtures: 20 s on 6 cores and 3 nodes, 20 s on 4 and 2, 22 s on 2 and 1, with 1 GiB and one GPU a node.
fn released() -> Run<'static> {
    let phase = |seconds, nodes: u64| Phase {
        seconds,
        cores: Some(2 * nodes),
        nodes: Some(nodes),
        gpus: Some(nodes),
        mem_bytes: Some(nodes << 30),
        ..Phase::default()
    };
    let run = Run { cores: Some(6), nodes: Some(3), gpus: Some(3), mem_bytes: Some(3 << 30), ..pbs_run() };
    Run { phases: vec![phase(20, 3), phase(20, 2), phase(22, 1)], ..lasting(62, run) }
}

fn with(rate: RateSpec, run: &Run<'_>, judge: impl FnOnce(Outcome<'_>)) {
    let (rules, source) = (compile(spec(vec![resource(vec![rate])])), source());
    judge(Mapper::new(&rules, &source).map(run));
}

/// Charge of the run, or the code of its hold.
fn charged(rate: RateSpec, run: &Run<'_>) -> String {
    let mut result = String::new();
    with(rate, run, |outcome| {
        result = match outcome {
            Outcome::Mapped(mapped) | Outcome::Zero(mapped) => mapped.record.charge.to_string(),
            Outcome::Held(hold) | Outcome::HeldForApproval(_, hold) => hold.reason.code().to_owned(),
            Outcome::Skipped(skip) => skip.reason.code().to_owned(),
        }
    });
    result
}

#[test]
fn the_charge_is_the_exact_sum_over_the_phases_by_hand() {
    let run = released();
    for (formula, seconds) in [
        ("core_hours", "244"), // 120 + 80 + 44
        ("node_hours", "122"), // 60 + 40 + 22
        ("cores * hours", "244"),
        ("gpu_hours * 2", "244"),
        ("hours", "62"),
        ("max(cores, mem_gib) * hours", "244"),
        ("max(cores, 4 * mem_gib) * hours", "488"), // 4 GiB a node against 2 cores: 12 x 20 + 8 x 20 + 4 x 22
        ("if(nodes > 1, core_hours, 0)", "200"),    // each phase by its own counts
        ("(core_hours + 3 * node_hours) / 2", "305"),
    ] {
        let rate = RateSpec {
            round: Rounding { places: 6, ..Rounding::default() },
            ..rate(&format!("({formula}) * 3600"))
        };
        assert_eq!(charged(rate, &run), seconds, "{formula}");
    }
}

#[test]
fn it_is_rounded_once_and_minimum_and_policy_see_the_sum() {
    let run = released();
    // 244 / 3600 = 0.06777...; the phases by themselves would round to 0.033 + 0.022 + 0.012 = 0.067.
    let places =
        |places| RateSpec { round: Rounding { places, ..Rounding::default() }, ..rate("core_hours") };
    assert_eq!(charged(places(3), &run), "0.068");
    let minimum = |minimum: &str| RateSpec { minimum: Some(minimum.to_owned()), ..rate("core_hours") };
    assert_eq!(charged(minimum("0.05"), &run), "0.067778", "the sum is above it, though no phase is");
    assert_eq!(charged(minimum("1"), &run), "1");
    // At least 100 s: the last phase, with 2 cores, is 38 s longer. 244 + 76 = 320.
    let least = RateSpec { minimum_seconds: Some(100), ..rate("core_hours * 3600") };
    assert_eq!(charged(least, &run), "320");
    let reached = RateSpec { minimum_seconds: Some(62), ..rate("core_hours * 3600") };
    assert_eq!(charged(reached, &run), "244");
}

#[test]
fn a_formula_that_is_not_proportional_to_time_is_held() {
    for formula in ["cores", "ceil(hours) * cores", "if(hours > 1, core_hours, 0)", "core_hours + 1"] {
        assert_eq!(charged(rate(formula), &released()), "phases", "{formula}");
        let whole = Run { phases: vec![], ..released() };
        assert_ne!(charged(rate(formula), &whole), "phases", "{formula}: an ordinary run is charged by any");
    }
}

#[test]
fn what_a_phase_does_not_say_is_never_taken_for_zero() {
    let mut run = released();
    run.phases[1].gpus = None;
    assert_eq!(charged(rate("gpu_hours"), &run), "missing-quantity");
    assert_eq!(charged(rate("core_hours * 3600"), &run), "244");
}

#[test]
fn phases_that_change_nothing_charge_what_the_whole_run_is_charged() {
    let whole = Run { phases: vec![], ..released() };
    let same = |seconds| Phase { seconds, ..whole_as_phase(&whole) };
    let split = Run { phases: vec![same(1), same(0), same(61)], ..whole.clone() };
    for formula in ["core_hours", "max(cores, mem_gb / 2) * hours", "gpu_hours / 7 + node_hours / 3"] {
        assert_eq!(charged(rate(formula), &split), charged(rate(formula), &whole), "{formula}");
    }
}

fn whole_as_phase(run: &Run<'_>) -> Phase {
    Phase { cores: run.cores, nodes: run.nodes, gpus: run.gpus, mem_bytes: run.mem_bytes, ..Phase::default() }
}

#[test]
fn the_explanation_shows_each_phase() {
    let (rules, source) = (compile(spec(vec![resource(vec![rate("max(cores, gpus) * hours")])])), source());
    let explanation: Explanation = Mapper::new(&rules, &source).explain(&released());
    let text = explanation.to_string();
    let (_, charge) = text.split_once("Charge").unwrap();
    let (charge, _) = charge.split_once("\nResult").unwrap();
    let lines: Vec<_> = charge.lines().map(str::trim).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    phase 1                         20 s on 6 cores, 3 nodes, 3 GPUs, 3221225472 bytes
    cores                           = 6
    gpus                            = 3
    max(cores, gpus)                = 6
    hours                           = 1/180 = 0.005555555555...
    max(cores, gpus) * hours        = 1/30 = 0.033333333333...
    phase 2                         20 s on 4 cores, 2 nodes, 2 GPUs, 2147483648 bytes
    cores                           = 4
    gpus                            = 2
    max(cores, gpus)                = 4
    hours                           = 1/180 = 0.005555555555...
    max(cores, gpus) * hours        = 1/45 = 0.022222222222...
    phase 3                         22 s on 2 cores, 1 node, 1 GPU, 1073741824 bytes
    cores                           = 2
    gpus                            = 1
    max(cores, gpus)                = 2
    hours                           = 11/1800 = 0.006111111111...
    max(cores, gpus) * hours        = 11/900 = 0.012222222222...
    sum of the phases               = 61/900 = 0.067777777777...
    rounded to 6 places, half-even  = 0.067778
    ");
}
