//! Whose a run is: letters of accounts, and service accounts charged to a project's PI.

use crate::support::*;
use mapper::spec::*;
use mapper::{Mapper, Outcome, Rules, SourceRules};
use parsers::Run;

fn row(account: &str, project: &str, line: u64) -> ProjectRow {
    ProjectRow { account: account.to_owned(), project: project.to_owned(), line, ..ProjectRow::default() }
}

/// Project and username, or the outcome.
fn whose(rules: &Rules, source: &SourceRules, run: &Run<'_>) -> String {
    let mut mapper = Mapper::new(rules, source);
    match mapper.map(run) {
        Outcome::Mapped(mapped) => {
            format!("{} {}", mapped.record.local_project_id, mapped.record.username)
        }
        outcome => in_short(&outcome),
    }
}

fn source_with(fold_accounts: Option<bool>) -> SourceRules {
    SourceRules::compile(SourceSpec { fold_accounts, ..source_spec() }).unwrap()
}

/// Slurm folds accounts to lower case when they are made, so that `sacct` never prints the letters of an allocation's
/// papers; a PBS group keeps its own.
#[test]
fn letters_of_accounts_matter_where_the_scheduler_keeps_them() {
    let mut rules = spec(vec![ResourceSpec {
        when: When { account: names(&["TG-ABC", "tg-x1", "Skip-Me", "LAB"]), ..When::default() },
        ..resource(vec![factors(
            rate("core_hours * factor.account"),
            "account",
            &[("TG-ABC", "2"), ("default", "1")],
        )])
    }]);
    rules.projects = vec![row("TG-ABC", "P-TABLE", 2), row("LAB", "P-LAB", 3)];
    rules.project_patterns = vec![ProjectPattern {
        account: "TG-(x[0-9])".to_owned(),
        project: "P-$1".to_owned(),
        ..ProjectPattern::default()
    }];
    rules.skip = vec![SkipRule { account: "skip-.*".to_owned(), cluster: None }];
    let rules = compile(rules);
    let slurm = |account| Run { account: name(account), ..run() };
    let pbs = |group| Run { group: name(group), ..pbs_run() };
    let default = source_with(None);
    for (run, expected) in [
        (slurm("tg-abc"), "P-TABLE alice"),
        (slurm("TG-ABC"), "P-TABLE alice"),
        (slurm("Tg-aBc"), "P-TABLE alice"),
        (slurm("tg-x1"), "P-x1 alice"),
        (slurm("TG-x1"), "P-x1 alice"),
        (slurm("Skip-Me"), "skipped account-rule"),
        (pbs("TG-ABC"), "P-TABLE pbalice"),
        (pbs("tg-abc"), "held unknown-project"),
        (pbs("tg-x1"), "held unknown-project"),
        (pbs("Skip-Me"), "held unknown-project"),
    ] {
        assert_eq!(whose(&rules, &default, &run), expected);
    }
    // A source can say otherwise; its resource and its factor follow.
    assert_eq!(whose(&rules, &source_with(Some(false)), &slurm("tg-abc")), "held unknown-project");
    assert_eq!(whose(&rules, &source_with(Some(true)), &pbs("tg-abc")), "P-TABLE pbalice");
    assert_eq!(outcome(&rules, &default, &slurm("tg-abc")), "mapped 2");
    assert_eq!(outcome(&rules, &default, &slurm("lab")), "mapped 1");
    assert_eq!(outcome(&rules, &source_with(Some(true)), &pbs("tg-abc")), "mapped 2");
    assert_eq!(outcome(&rules, &default, &pbs("TG-ABC")), "mapped 2");
}

#[test]
fn a_skip_rule_that_covers_a_mapped_account_in_other_letters_is_warned_of() {
    let mut rules = spec(vec![]);
    rules.projects = vec![row("LAB-1", "P", 2)];
    rules.skip = vec![SkipRule { account: "lab-.*".to_owned(), cluster: None }];
    let rules = compile(rules);
    let [warning] = rules.warnings() else { panic!("one warning: {:?}", rules.warnings()) };
    assert_eq!(warning.place, RulePlace::SkipRule { index: 0 });
    assert!(warning.message.contains("skips account `LAB-1`, which line 2"), "{}", warning.message);
}

#[test]
fn runs_of_service_accounts_are_the_pis_only_where_configured() {
    let with = |pi_fallback: &[&str], users: Option<Vec<UserRow>>| {
        let mut rules = spec(vec![resource(vec![rate("core_hours")])]);
        rules.projects = vec![
            ProjectRow { pi: Some("prof".to_owned()), ..row("lab", "P-LAB", 2) },
            row("other", "P-OTHER", 3),
        ];
        rules.users = users;
        rules.pi_fallback = names(pi_fallback);
        compile(rules)
    };
    let user = |user: &str, username: &str| UserRow {
        user: user.to_owned(),
        username: username.to_owned(),
        ..UserRow::default()
    };
    let run = |user, account| Run { user: name(user), account: name(account), ..run() };
    let table = || Some(vec![user("alice", "alice2")]);
    let source = source();
    let none = with(&[], table());
    assert_eq!(whose(&none, &source, &run("gateway", "lab")), "held unknown-user");
    let listed = with(&["gateway"], table());
    for (user, account, expected) in [
        ("gateway", "lab", "P-LAB prof"),
        ("alice", "lab", "P-LAB alice2"),
        ("bob", "lab", "held unknown-user"),
        // The table names no PI of these.
        ("gateway", "other", "held unknown-user"),
        ("gateway", "matched-by-the-pattern", "held unknown-user"),
    ] {
        assert_eq!(whose(&listed, &source, &run(user, account)), expected, "{user} {account}");
    }
    // The user table has the first word, and without one every other user is their own login.
    let known = with(&["gateway"], Some(vec![user("gateway", "gw")]));
    assert_eq!(whose(&known, &source, &run("gateway", "lab")), "P-LAB gw");
    let without_table = with(&["gateway"], None);
    assert_eq!(whose(&without_table, &source, &run("gateway", "lab")), "P-LAB prof");
    assert_eq!(whose(&without_table, &source, &run("bob", "lab")), "P-LAB bob");
    let mut mapper = Mapper::new(&listed, &source);
    let other = run("gateway", "other");
    let Outcome::Held(hold) = mapper.map(&other) else { panic!("held") };
    assert!(hold.detail.contains("fill its column `pi`"), "{}", hold.detail);
    let text = mapper.explain(&run("gateway", "lab")).to_string();
    assert!(text.contains("prof, the PI of the project: the user is in users.pi_fallback"), "{text}");
}
