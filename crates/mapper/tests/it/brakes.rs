//! What no honest run can have used waits for a person.

use crate::support::*;
use mapper::spec::*;
use mapper::{Mapper, Outcome};
use parsers::Run;

fn limits(charge: Option<&str>, cores: Option<u64>, hours: Option<&str>) -> LimitsSpec {
    LimitsSpec {
        max_charge: charge.map(str::to_owned),
        max_cores: cores,
        max_hours: hours.map(str::to_owned),
    }
}

fn with(policy: LimitsSpec, own: LimitsSpec) -> mapper::Rules {
    compile(RulesSpec {
        policy: PolicySpec { limits: policy, ..PolicySpec::default() },
        ..spec(vec![ResourceSpec { limits: own, ..resource(vec![rate("core_hours")]) }])
    })
}

#[test]
fn each_limit_may_be_reached_and_not_passed() {
    let rules = with(limits(Some("64"), Some(16), Some("4.5")), LimitsSpec::default());
    let run = |cores, seconds| Run { cores: Some(cores), ..lasting(seconds, run()) };
    for (run, expected) in [
        (run(16, 14_400), "mapped 64"),
        (run(16, 14_401), "held above-max-charge 64.004444"),
        (run(17, 60), "held above-max-cores 0.283333"),
        (run(1, 16_200), "mapped 4.5"),
        (run(1, 16_201), "held above-max-hours 4.500278"),
        // The cause comes before its consequence.
        (run(1000, 100_000), "held above-max-cores 27777.777778"),
        (run(16, 16_201), "held above-max-hours 72.004444"),
    ] {
        assert_eq!(outcome(&rules, &source(), &run), expected);
    }
    // What the source does not say is above nothing.
    let unknown = Run { cores: None, ..run(1, 60) };
    let by_nodes = compile(RulesSpec {
        policy: PolicySpec { limits: limits(None, Some(1), Some("1")), ..PolicySpec::default() },
        ..spec(vec![resource(vec![rate("node_hours")])])
    });
    assert_eq!(outcome(&by_nodes, &source(), &unknown), "mapped 0.016667");
}

#[test]
fn a_resources_limits_stand_in_place_of_the_policys_one_by_one() {
    let rules = with(limits(Some("10"), Some(16), Some("1")), limits(Some("100"), None, Some("2")));
    let run = |cores, seconds| Run { cores: Some(cores), ..lasting(seconds, run()) };
    assert_eq!(outcome(&rules, &source(), &run(16, 7200)), "mapped 32");
    assert_eq!(outcome(&rules, &source(), &run(17, 60)), "held above-max-cores 0.283333");
    assert_eq!(outcome(&rules, &source(), &run(1, 7201)), "held above-max-hours 2.000278");
    let wider = with(limits(None, Some(16), None), limits(None, Some(32), None));
    assert_eq!(outcome(&wider, &source(), &run(32, 3600)), "mapped 32");
    assert_eq!(outcome(&wider, &source(), &run(33, 3600)), "held above-max-cores 33");
}

#[test]
fn what_is_held_is_complete_so_that_it_can_be_approved() {
    let rules = with(limits(None, Some(4), None), LimitsSpec::default());
    let (source, run) = (source(), Run { cores: Some(8), ..run() });
    let mut mapper = Mapper::new(&rules, &source);
    let Outcome::HeldForApproval(mapped, hold) = mapper.map(&run) else { panic!("held for approval") };
    assert_eq!(mapped.record.charge.to_string(), "8");
    assert!(hold.detail.contains("8 cores are more than the cluster has (max_cores = 4)"), "{}", hold.detail);
}

#[test]
fn limits_that_are_none_are_refused() {
    for (own, message) in [
        (limits(Some("1e3x"), None, None), "max_charge"),
        (limits(Some("-1"), None, None), "max_charge"),
        (limits(None, None, Some("0")), "max_hours"),
        (limits(None, None, Some("2 days")), "max_hours"),
    ] {
        let rules = spec(vec![ResourceSpec { limits: own, ..resource(vec![rate("core_hours")]) }]);
        let errors = mapper::Rules::compile(rules).unwrap_err();
        assert!(errors.len() == 1 && errors[0].message.contains(message), "{errors:?}");
    }
}
