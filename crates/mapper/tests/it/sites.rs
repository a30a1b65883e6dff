//! How real centres charge, each with a number worked out by hand.

use crate::support::*;
use mapper::spec::*;
use parsers::Run;

const GB: u64 = 1_000_000_000;
const HOUR: u64 = 3600;

#[test]
fn anvil() {
    // Shared nodes: cores, or memory at 2 GB a core. 20 GB are 10 cores, for an hour and a half.
    let shared = Run { cores: Some(4), mem_bytes: Some(20 * GB), ..lasting(5400, run()) };
    assert_eq!(charged(rate("max(cores, mem_gb / 2) * hours"), &shared), "mapped 15");
    let busy = Run { cores: Some(16), ..shared.clone() };
    assert_eq!(charged(rate("max(cores, mem_gb / 2) * hours"), &busy), "mapped 24");
    // Exclusive nodes: all 128 cores of each, whatever was asked for. 3 x 128 x 2.
    let wide = Run { nodes: Some(3), cores: Some(5), ..lasting(2 * HOUR, run()) };
    assert_eq!(charged(rate("128 * node_hours"), &wide), "mapped 768");
    // Large memory nodes cost four times: 4 x 32 x 1/4.
    let large = Run { cores: Some(32), ..lasting(900, run()) };
    assert_eq!(charged(rate("4 * core_hours"), &large), "mapped 32");
    let gpu = Run { gpus: Some(2), cores: Some(64), ..lasting(5400, run()) };
    assert_eq!(charged(rate("gpu_hours"), &gpu), "mapped 3");
}

#[test]
fn anvil_had_a_minimum_of_one_unit_in_an_earlier_year() {
    let early =
        RateSpec { minimum: Some("1".to_owned()), ..period("2022-01-01", Some("2023-01-01"), "core_hours") };
    let rules = compile(spec(vec![resource(vec![early, period("2023-01-01", None, "core_hours")])]));
    // 4 cores for a minute: 1/15.
    let short = Run { cores: Some(4), ..lasting(60, run()) };
    for (submit, expected) in [
        ("2022-06-01T00:00:00Z", "mapped 1"),
        ("2022-12-31T23:59:59Z", "mapped 1"),
        ("2023-01-01T00:00:00Z", "mapped 0.066667"),
    ] {
        let run = Run { submit: Some(at(submit)), ..short.clone() };
        assert_eq!(outcome(&rules, &source(), &run), expected, "{submit}");
    }
}

#[test]
fn delta() {
    // 443 s at billing=2000 thousandths: 2 x 443 / 3600 = 0.24611...
    let billed = Run { billing: Some(2000), ..lasting(443, run()) };
    assert_eq!(charged(rate("billing / 1000 * hours"), &billed), "mapped 0.246111");
    // A100 nodes: a GPU is 16 cores or 62.5 GB. max(1, 32/16, 100/62.5) = 2, for 2 h, at the partition's factor.
    let gpu = factors(
        rate("max(gpus, cores / 16, mem_gb / 62.5) * hours * factor.partition"),
        "partition",
        &[
            ("gpuA100x4", "1"),
            ("gpuA100x4-interactive", "2.0"),
            ("gpuA100x4-preempt", "0.5"),
            ("gpuA100x8", "1.5"),
            ("gpuH200x8", "3.0"),
            ("gpuA40x4", "0.5"),
            ("gpuA40x4-preempt", "0.25"),
            ("gpuMI100x8", "0.25"),
        ],
    );
    let on = |partition| Run {
        partition: name(partition),
        gpus: Some(1),
        cores: Some(32),
        mem_bytes: Some(100 * GB),
        ..lasting(2 * HOUR, run())
    };
    for (partition, expected) in [
        ("gpuA100x4", "mapped 4"),
        ("gpuA100x4-interactive", "mapped 8"),
        ("gpuA100x4-preempt", "mapped 2"),
        ("gpuA100x8", "mapped 6"),
        ("gpuH200x8", "mapped 12"),
        ("gpuA40x4-preempt", "mapped 1"),
        ("gpuMI100x8", "mapped 1"),
        ("gpuB300", "held missing-quantity"),
    ] {
        assert_eq!(charged(gpu.clone(), &on(partition)), expected, "{partition}");
    }
}

#[test]
fn deltaai_rounds_up_to_whole_gpus() {
    let formula = rate("max(gpus, ceil(mem_gb / 120), ceil(cores / 72)) * hours");
    for (gpus, cores, gb, expected) in [
        (1, 72, 120, "mapped 0.5"),
        (1, 73, 120, "mapped 1"),
        (1, 72, 121, "mapped 1"),
        (1, 1, 361, "mapped 2"),
        (4, 72, 120, "mapped 2"),
    ] {
        let run =
            Run { gpus: Some(gpus), cores: Some(cores), mem_bytes: Some(gb * GB), ..lasting(1800, run()) };
        assert_eq!(charged(formula.clone(), &run), expected, "{gpus} {cores} {gb}");
    }
}

#[test]
fn frontera_stampede3_lonestar6_charge_nodes_by_queue() {
    let formula = factors(
        rate("node_hours * factor.queue"),
        "queue",
        &[("flex", "0.8"), ("gpu", "3"), ("default", "1")],
    );
    let run =
        |queue| Run { partition: name(queue), nodes: Some(4), cores: Some(224), ..lasting(9000, run()) };
    assert_eq!(charged(formula.clone(), &run("normal")), "mapped 10");
    assert_eq!(charged(formula.clone(), &run("flex")), "mapped 8");
    assert_eq!(charged(formula, &run("gpu")), "mapped 30");
}

#[test]
fn bridges2_cores_gpus_by_type_and_memory() {
    let rm = Run { cores: Some(128), ..lasting(HOUR, run()) };
    assert_eq!(charged(rate("core_hours"), &rm), "mapped 128");
    let gpu = factors(rate("gpu_hours * factor.partition"), "partition", &[("GPU-h100", "2"), ("GPU", "1")]);
    let h100 = Run { gpus: Some(8), partition: name("GPU-h100"), ..lasting(450, run()) };
    assert_eq!(charged(gpu, &h100), "mapped 2");
    // Extreme memory is charged by the TB: 3 TB for two hours.
    let em = Run { mem_bytes: Some(3000 * GB), cores: Some(96), ..lasting(2 * HOUR, run()) };
    assert_eq!(charged(rate("mem_gb / 1000 * hours"), &em), "mapped 6");
}

#[test]
fn derecho_whole_nodes_develop_and_gpus() {
    // The factor of Resource_List.job_priority is in `quantities`; the preempt queue's is here.
    let cpu =
        factors(rate("128 * node_hours * factor.queue"), "queue", &[("preempt", "0.2"), ("default", "1")]);
    let two = |queue| Run {
        partition: name(queue),
        nodes: Some(2),
        cores: Some(40),
        ..lasting(3 * HOUR, pbs_run())
    };
    assert_eq!(charged(cpu.clone(), &two("cpu")), "mapped 768");
    assert_eq!(charged(cpu, &two("preempt")), "mapped 153.6");
    let develop = Run { partition: name("cpudev"), cores: Some(5), ..lasting(2 * HOUR, pbs_run()) };
    assert_eq!(charged(rate("core_hours"), &develop), "mapped 10");
    let gpu = Run { partition: name("gpu"), gpus: Some(4), ..lasting(HOUR, pbs_run()) };
    assert_eq!(charged(rate("gpu_hours"), &gpu), "mapped 4");
}

#[test]
fn darwin_units_per_node_type_and_user_failures_are_billed() {
    let formula = factors(
        rate("core_hours * factor.partition"),
        "partition",
        &[("standard", "1"), ("large-mem", "2"), ("xlarge-mem", "4")],
    );
    let large = Run {
        partition: name("large-mem"),
        cores: Some(64),
        state: parsers::State::Failed,
        ..lasting(HOUR, run())
    };
    assert_eq!(charged(formula, &large), "mapped 128");
}

#[test]
fn jetstream2_rates_changed() {
    let gpu = resource(vec![
        period("2022-01-01", Some("2024-10-01"), "4 * core_hours"),
        period("2024-10-01", None, "2 * core_hours"),
    ]);
    let rules = compile(spec(vec![gpu]));
    for (submit, expected) in [("2024-09-30T23:59:59Z", "mapped 32"), ("2024-10-01T00:00:00Z", "mapped 16")] {
        let run = Run { cores: Some(8), submit: Some(at(submit)), ..run() };
        assert_eq!(outcome(&rules, &source(), &run), expected, "{submit}");
    }
}

#[test]
fn ookami_node_hours() {
    let run = Run { nodes: Some(7), cores: Some(336), ..lasting(1234, run()) };
    // 7 x 1234 / 3600 = 2.39944...
    assert_eq!(charged(rate("node_hours"), &run), "mapped 2.399444");
}

#[test]
fn ospool_two_decimals() {
    let formula = RateSpec {
        round: Rounding { places: 2, mode: RoundingMode::HalfEven },
        ..rate("seconds * nodes * cores / 3600")
    };
    // 443 x 3 / 3600 = 0.36916..., and 18 / 3600 = 0.005, a tie that goes to the even 0.
    let three = Run { cores: Some(3), ..lasting(443, run()) };
    assert_eq!(charged(formula.clone(), &three), "mapped 0.37");
    assert_eq!(charged(formula.clone(), &lasting(18, run())), "zero");
    assert_eq!(charged(formula, &lasting(54, run())), "mapped 0.02");
}

#[test]
fn nautilus_gpu_hours_by_type() {
    let formula =
        factors(rate("gpu_hours * factor.partition"), "partition", &[("a100", "1.7"), ("default", "1")]);
    let run = Run { gpus: Some(1), partition: name("a100"), ..lasting(100, run()) };
    // 100 x 1.7 / 3600 = 0.047222...
    assert_eq!(charged(formula, &run), "mapped 0.047222");
}

#[test]
fn xstream_one_gpu_where_there_is_none() {
    let formula = rate("max(gpus, 1) * hours");
    assert_eq!(charged(formula.clone(), &Run { gpus: Some(0), ..run() }), "mapped 1");
    assert_eq!(charged(formula.clone(), &Run { gpus: Some(16), ..run() }), "mapped 16");
    // A source that says nothing of GPUs is not a source that says 0.
    assert_eq!(charged(formula, &Run { gpus: None, ..run() }), "held missing-quantity");
}

#[test]
fn osc_whole_nodes_or_effective_cores() {
    // 48 cores and 192 GB a node: 4 GB a core.
    let formula = rate("if(nodes > 1, nodes * 48, max(cores, mem_gb / 4)) * hours");
    let wide = Run { nodes: Some(2), cores: Some(50), ..run() };
    assert_eq!(charged(formula.clone(), &wide), "mapped 96");
    let memory = Run { cores: Some(2), mem_bytes: Some(30 * GB), ..run() };
    assert_eq!(charged(formula.clone(), &memory), "mapped 7.5");
    // The memory of a wide run does not matter, so it may be missing.
    assert_eq!(charged(formula, &Run { mem_bytes: None, ..wide }), "mapped 96");
}

#[test]
fn cyfronet_memory_in_whole_cores() {
    let formula = rate("max(cores, ceil(mem_gb / 4)) * hours");
    let run = |gb| Run { cores: Some(2), mem_bytes: Some(gb * GB), ..run() };
    assert_eq!(charged(formula.clone(), &run(8)), "mapped 2");
    assert_eq!(charged(formula.clone(), &run(9)), "mapped 3");
    assert_eq!(charged(formula, &run(30)), "mapped 8");
}

#[test]
fn others() {
    let overdrawn =
        factors(rate("core_hours * factor.account"), "account", &[("overdrawn", "0.05"), ("default", "1")]);
    let run20 = Run { cores: Some(20), ..run() };
    assert_eq!(charged(overdrawn.clone(), &run20), "mapped 20");
    assert_eq!(charged(overdrawn, &Run { account: name("overdrawn"), ..run20 }), "mapped 1");
    assert_eq!(charged(rate("billing * hours"), &Run { billing: Some(12), ..run() }), "mapped 12");
    assert_eq!(charged(rate("120 * gpu_hours"), &Run { gpus: Some(2), ..run() }), "mapped 240");
    // GB are 10^9 bytes, GiB 2^30.
    let gib = Run { mem_bytes: Some(1 << 30), ..run() };
    assert_eq!(charged(rate("mem_gb * hours"), &gib), "mapped 1.073742");
    assert_eq!(charged(rate("mem_gib * hours"), &gib), "mapped 1");
    let eight =
        RateSpec { round: Rounding { places: 8, mode: RoundingMode::HalfEven }, ..rate("core_hours") };
    assert_eq!(charged(eight, &lasting(1, run())), "mapped 0.00027778");
    let asked = Run { requested: parsers::Requested { cores: Some(6), ..Default::default() }, ..run() };
    assert_eq!(charged(rate("max(cores, requested.cores) * hours"), &asked), "mapped 6");
}
