//! Rules that cannot be used are refused, all at once, each with its place; and what they probably do not mean is
//! warned of.

use crate::support::*;
use mapper::Rules;
use mapper::spec::*;

fn messages(errors: &[RuleError]) -> Vec<(RulePlace, &str)> {
    errors.iter().map(|error| (error.place, error.message.as_str())).collect()
}

#[track_caller]
fn refused(spec: RulesSpec, place: RulePlace, message: &str) {
    let errors = Rules::compile(spec).unwrap_err();
    let found = errors.iter().any(|error| error.place == place && error.message.contains(message));
    assert!(found, "{message}: {:#?}", messages(&errors));
}

#[track_caller]
fn warned(spec: RulesSpec, place: RulePlace, message: &str) {
    let rules = compile(spec);
    let found = rules.warnings().iter().any(|error| error.place == place && error.message.contains(message));
    assert!(found, "{message}: {:#?}", messages(rules.warnings()));
}

fn row(account: &str, line: u64) -> ProjectRow {
    ProjectRow { account: account.to_owned(), project: "P".to_owned(), line, ..ProjectRow::default() }
}

#[test]
fn all_errors_are_given_at_once() {
    let mut rules = spec(vec![
        resource(vec![rate("coer_hours * facter.qos")]),
        ResourceSpec { name: String::new(), ..resource(vec![]) },
        resource(vec![RateSpec {
            minimum: Some("one".to_owned()),
            ..period("2026-01-01", Some("2026-01-01"), "core_hours")
        }]),
    ]);
    rules.projects = vec![ProjectRow { project: "a\nb".to_owned(), ..row("x", 7) }];
    rules.skip = vec![SkipRule { account: "(".to_owned(), cluster: None }];
    rules.policy.limits.max_charge = Some("-1".to_owned());
    let errors = Rules::compile(rules).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| error.place).collect();
    assert_eq!(
        places,
        [
            RulePlace::ProjectRow { line: 7 },
            RulePlace::SkipRule { index: 0 },
            RulePlace::Formula { resource: 0, rate: 0, offset: 0, len: 10 },
            RulePlace::Formula { resource: 0, rate: 0, offset: 13, len: 10 },
            RulePlace::Resource { index: 1 },
            RulePlace::Resource { index: 1 },
            RulePlace::Rate { resource: 2, rate: 0 },
            RulePlace::Rate { resource: 2, rate: 0 },
            RulePlace::Policy,
        ]
    );
    assert_eq!(errors[2].help.as_deref(), Some("did you mean `core_hours`?"));
}

#[test]
fn overlapping_rates_are_refused() {
    let rates = |rates| spec(vec![resource(rates)]);
    let overlap = RulePlace::Rate { resource: 0, rate: 1 };
    let first = || period("2026-01-01", Some("2027-01-01"), "core_hours");
    refused(
        rates(vec![first(), period("2026-12-31", None, "core_hours")]),
        overlap,
        "overlaps the rate 2026-01-01 to 2027-01-01",
    );
    refused(
        rates(vec![period("2026-01-01", None, "core_hours"), period("2027-01-01", None, "core_hours")]),
        overlap,
        "overlaps the rate from 2026-01-01",
    );
    refused(rates(vec![first(), first()]), overlap, "overlaps");
    // `until` is exclusive: touching is no overlap, in any order.
    compile(rates(vec![first(), period("2027-01-01", None, "core_hours")]));
    compile(rates(vec![period("2027-01-01", None, "core_hours"), first()]));
    let by_start = RateSpec { rate_by: RateBy::Start, ..period("2027-01-01", None, "core_hours") };
    refused(
        rates(vec![first(), by_start]),
        overlap,
        "rate_by = \"start\" here and \"submit\" in the first rate",
    );
}

#[test]
fn a_skip_rule_may_not_cover_a_mapped_account() {
    let with = |cluster: Option<&str>, row_cluster: Option<&str>| {
        let mut rules = spec(vec![resource(vec![rate("core_hours")])]);
        rules.projects =
            vec![ProjectRow { cluster: row_cluster.map(str::to_owned), ..row("physics-lab", 4) }];
        rules.skip = vec![SkipRule { account: "physics.*".to_owned(), cluster: cluster.map(str::to_owned) }];
        rules
    };
    let place = RulePlace::SkipRule { index: 0 };
    refused(
        with(None, None),
        place,
        "skips account `physics-lab`, which line 4 of the project table maps to P",
    );
    refused(with(Some("a"), None), place, "physics-lab");
    refused(with(None, Some("a")), place, "physics-lab");
    refused(with(Some("a"), Some("a")), place, "physics-lab");
    compile(with(Some("a"), Some("b")));
}

#[test]
fn patterns_are_anchored_and_checked() {
    let with = |account: &str, project: &str| {
        let mut rules = spec(vec![resource(vec![rate("core_hours")])]);
        rules.project_patterns = vec![ProjectPattern {
            account: account.to_owned(),
            project: project.to_owned(),
            ..ProjectPattern::default()
        }];
        rules
    };
    let place = RulePlace::ProjectPattern { index: 0 };
    refused(with("a)|(b", "P"), place, "is no regular expression");
    refused(with("(", "P"), place, "is no regular expression");
    refused(with("a", "TG-$1"), place, "has no group 1");
    refused(with("(a)", "TG-$x"), place, "a $ must be followed by a number");
    refused(with("a", ""), place, "the project is empty");
    let rules = compile(with("a|tg-b(.)?", "P$1x"));
    for (account, expected) in [
        ("a", "Px"),
        ("tg-b", "Px"),
        ("tg-b7", "P7x"),
        ("ab", "held unknown-project"),
        ("xtg-b", "held unknown-project"),
        ("a\n", "held unknown-project"),
    ] {
        let run = parsers::Run { account: name(account), ..run() };
        let source = source();
        let mut mapper = mapper::Mapper::new(&rules, &source);
        match mapper.map(&run) {
            mapper::Outcome::Mapped(mapped) => assert_eq!(mapped.record.local_project_id, expected),
            outcome => assert_eq!(in_short(&outcome), expected, "{account:?}"),
        }
    }
}

#[test]
fn tables_rounding_and_numbers() {
    let one = |rate| spec(vec![resource(vec![rate])]);
    let place = RulePlace::Rate { resource: 0, rate: 0 };
    let factor = RulePlace::Factor { resource: 0, rate: 0 };
    refused(
        one(rate("core_hours * factor.qos")),
        RulePlace::Formula { resource: 0, rate: 0, offset: 13, len: 10 },
        "the rate has no table [resource.rate.factor.qos]",
    );
    refused(one(factors(rate("core_hours"), "qoss", &[])), factor, "no value named `qoss`");
    refused(
        one(factors(rate("core_hours * factor.qos"), "qos", &[("a", "-1")])),
        factor,
        "\"-1\" is no plain number",
    );
    refused(
        one(factors(rate("core_hours * factor.qos"), "qos", &[("a", "1e3")])),
        factor,
        "\"1e3\" is no plain number",
    );
    let both = factors(factors(rate("core_hours * factor.queue"), "queue", &[]), "partition", &[]);
    refused(one(both), factor, "are the same");
    refused(
        one(RateSpec { round: Rounding { places: 19, mode: RoundingMode::Up }, ..rate("core_hours") }),
        place,
        "at most 18",
    );
    refused(one(RateSpec { minimum: Some("-1".to_owned()), ..rate("core_hours") }), place, "no plain number");
    refused(
        one(rate("core_hours / 0")),
        RulePlace::Formula { resource: 0, rate: 0, offset: 13, len: 1 },
        "division by zero",
    );
    warned(
        one(factors(rate("core_hours"), "qos", &[("a", "2")])),
        factor,
        "factor.qos is not used by the formula",
    );
}

#[test]
fn charges_without_hours_to_the_power_one_are_warned_of() {
    for (formula, message) in [
        ("billing / 1000", "does not depend on how long"),
        ("1", "does not depend on how long"),
        ("core_hours * hours", "hours to the power 2"),
        ("core_hours + nodes", "adds or compares hours with plain"),
        ("max(hours, cores)", "adds or compares hours with plain"),
    ] {
        let place = RulePlace::Formula { resource: 0, rate: 0, offset: 0, len: formula.len() };
        warned(spec(vec![resource(vec![rate(formula)])]), place, message);
    }
    let fine =
        compile(spec(vec![resource(vec![rate("max(core_hours, 1) + if(gpus > 0, 2 * gpu_hours, 0)")])]));
    assert_eq!(fine.warnings(), []);
}

#[test]
fn rules_that_are_never_reached_are_warned_of() {
    let on = |partition: &[&str]| ResourceSpec {
        when: When { partition: names(partition), ..When::default() },
        ..resource(vec![rate("core_hours")])
    };
    warned(
        spec(vec![on(&["cpu", "gpu"]), on(&["gpu"])]),
        RulePlace::Resource { index: 1 },
        "is never reached",
    );
    warned(
        spec(vec![on(&["gpu"]), on(&[])]),
        RulePlace::Resource { index: 1 },
        "shares some runs with resource 1",
    );
    assert_eq!(compile(spec(vec![on(&["cpu"]), on(&["gpu"])])).warnings(), []);

    let mut rules = spec(vec![]);
    rules.projects = vec![row("lab", 2), ProjectRow { user: Some("bob".to_owned()), ..row("lab", 3) }];
    warned(rules, RulePlace::ProjectRow { line: 3 }, "never reached, the one in line 2 covers it");
    let user = |line| UserRow { user: "a".to_owned(), username: "b".to_owned(), line, ..UserRow::default() };
    let rules = RulesSpec { users: Some(vec![user(2), user(3)]), ..spec(vec![]) };
    warned(rules, RulePlace::UserRow { line: 3 }, "never reached");
}

#[test]
fn names_that_cannot_be_sent_are_refused() {
    let long = "x".repeat(256);
    let mut rules = spec(vec![ResourceSpec { name: long.clone(), ..resource(vec![rate("core_hours")]) }]);
    rules.projects = vec![
        ProjectRow { project: String::new(), ..row("a", 2) },
        ProjectRow { account: String::new(), ..row("", 3) },
        ProjectRow {
            from: Some("2026-01-02".parse().unwrap()),
            until: Some("2026-01-02".parse().unwrap()),
            ..row("b", 4)
        },
    ];
    rules.users = Some(vec![UserRow { user: "a".to_owned(), username: long, line: 2, ..UserRow::default() }]);
    let errors = Rules::compile(rules).unwrap_err();
    let found: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(
        found,
        [
            "the project is empty",
            "the account is empty",
            "`until` is not after `from`: the row never holds",
            "the username is longer than 255 characters",
            "the resource's name is longer than 255 characters",
        ]
    );
}
