//! What people read when they ask why.

use crate::support::*;
use mapper::spec::*;
use mapper::{Mapper, Rules, SourceRules};
use parsers::{Run, State};

fn rules() -> Rules {
    let rate = factors(
        period("2026-01-01", None, "max(cores, mem_gb / 2) * hours * factor.qos"),
        "qos",
        &[("high", "2"), ("default", "1")],
    );
    let mut rules = spec(vec![ResourceSpec {
        when: When { partition: names(&["cpu", "shared"]), ..When::default() },
        ..resource(vec![RateSpec { minimum: Some("0.01".to_owned()), ..rate }])
    }]);
    rules.projects = vec![ProjectRow {
        account: "lab".to_owned(),
        project: "TG-LAB260001".to_owned(),
        line: 7,
        ..ProjectRow::default()
    }];
    rules.project_patterns[0].account = "tg-.*".to_owned();
    rules.skip = vec![SkipRule { account: "root".to_owned(), cluster: None }];
    rules.policy.failed = Charged::Zero;
    compile(rules)
}

fn explained(run: &Run<'_>) -> String {
    let (rules, source): (Rules, SourceRules) = (rules(), source());
    Mapper::new(&rules, &source).explain(run).to_string()
}

#[test]
fn a_charge() {
    let run = Run {
        account: name("lab"),
        qos: name("high"),
        mem_bytes: Some(104_857_600),
        billing: None,
        ..lasting(74, run())
    };
    insta::assert_snapshot!(explained(&run), @r"
    slurm/testhpc/0000000123/1795427125
    Run       job        123
              state      COMPLETED
              cluster    testhpc
              partition  cpu
              qos        high
              submit     2026-11-23T09:45:25Z
              start      2026-11-23T10:00:00Z
              end        2026-11-23T10:01:14Z
              elapsed    74 s
              nodes      1
              cores      1
              gpus       0
              memory     104857600 bytes
    Project   account  lab
              project  TG-LAB260001, by line 7 of the project table
    User      user      alice
              username  alice, as the scheduler has it: there is no user table
    Resource  resource  cpu.example.org
              covers    partition = cpu | shared (resource 1)
    Rate      by submit time  2026-11-23T09:45:25Z
              valid           from 2026-01-01, midnight in UTC (rate 1)
              formula         max(cores, mem_gb / 2) * hours * factor.qos
    Charge    cores                                        = 1
              mem_gb                                       = 0.1048576
              mem_gb / 2                                   = 0.0524288
              max(cores, mem_gb / 2)                       = 1
              hours                                        = 37/1800 = 0.020555555555...
              factor.qos                                   = 2
              max(cores, mem_gb / 2) * hours * factor.qos  = 37/900 = 0.041111111111...
              minimum                                      0.01 is below the charge
              rounded to 6 places, half-even               = 0.041111
    Result    charge          0.041111
              LocalProjectID  TG-LAB260001
              Username        alice
              Resource        cpu.example.org
              LocalRecordID   123
              SubmitTime      2026-11-23T09:45:25Z
    ");
}

#[test]
fn a_minimum_and_a_policy() {
    let short = Run { account: name("lab"), ..lasting(1, run()) };
    let text = explained(&short);
    assert!(text.contains("minimum"), "{text}");
    assert!(text.contains("0.01 lifts the charge"), "{text}");
    let failed = explained(&Run { state: State::Failed, ..short });
    assert!(failed.contains("policy.failed"), "{failed}");
    assert!(failed.contains("0.01 does not lift a zero"), "{failed}");
    assert!(failed.contains("zero-charge"), "{failed}");
}

#[test]
fn every_end_of_the_way_is_explained() {
    for (run, expected) in [
        (Run { account: name("tg-x"), ..run() }, "tg-x, by pattern 1 of projects.match"),
        (Run { account: name("root"), ..run() }, "not reported, by rule 1 of projects.skip"),
        (Run { account: name("root"), ..run() }, "account-rule"),
        (Run { account: name("other"), ..run() }, "unknown-project: account `other`"),
        (Run { user: None, ..run() }, "no-user"),
        (Run { partition: name("gpu"), ..run() }, "none covers this run"),
        (Run { submit: Some(0), ..run() }, "none is valid then (from 2026-01-01)"),
        (Run { mem_bytes: None, ..run() }, "needs `mem_gb`"),
        (Run { state: State::Running, ..run() }, "not-ended"),
        (Run { state_text: "evil\x1b[2J".into(), ..run() }, "evil\\x1B[2J"),
        (Run { submit: None, ..run() }, "no-time"),
    ] {
        let text = explained(&run);
        assert!(text.contains(expected), "{expected}:\n{text}");
        assert!(!text.contains('\x1b'));
    }
}

/// What is explained is what is sent: for the outcome in the last section is the mapper's own.
#[test]
fn the_result_is_what_mapping_gives() {
    let (rules, source) = (rules(), source());
    for run in [run(), Run { account: name("lab"), ..run() }, Run { cores: None, ..run() }, lasting(0, run())]
    {
        let explanation = Mapper::new(&rules, &source).explain(&run);
        let result = explanation.sections.last().unwrap();
        let lines: Vec<_> = result.lines.iter().map(|line| line.text.as_str()).collect();
        match Mapper::new(&rules, &source).map(&run) {
            mapper::Outcome::Mapped(mapped) => assert_eq!(lines[0], mapped.record.charge.to_string()),
            mapper::Outcome::Zero(_) => assert!(lines[0].starts_with("zero-charge")),
            mapper::Outcome::Held(hold) => assert_eq!(lines[0], format!("{}: {}", hold.reason, hold.detail)),
            other => panic!("{other:?}"),
        }
        assert_eq!(explanation.key, Mapper::new(&rules, &source).key(&run));
    }
}
