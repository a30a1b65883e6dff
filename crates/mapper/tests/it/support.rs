//! Literal runs and rules for the tests.

use bstr::BStr;
use mapper::spec::*;
use mapper::{Mapper, Outcome, Rules, SourceRules};
use parsers::{Assigned, Kind, Place, Requested, Run, Scheduler, State};
use std::collections::BTreeMap;

/// A Slurm run of alice on one core of partition `cpu`, of one hour, on 2026-11-23.
pub(crate) fn run() -> Run<'static> {
    Run {
        scheduler: Scheduler::Slurm,
        kind: Kind::Run,
        job_id: "123".into(),
        raw_id: "123".into(),
        cluster: Some("testhpc".into()),
        user: Some("alice".into()),
        account: Some("tg-abc123456".into()),
        group: None,
        project: None,
        partition: Some("cpu".into()),
        qos: Some("normal".into()),
        reservation: None,
        name: Some("job".into()),
        state: State::Completed,
        state_text: "COMPLETED".into(),
        submit: Some(at("2026-11-23T09:45:25Z")),
        eligible: None,
        start: Some(at("2026-11-23T10:00:00Z")),
        end: Some(at("2026-11-23T11:00:00Z")),
        elapsed: Some(3600),
        suspended: None,
        nodes: Some(1),
        cores: Some(1),
        gpus: Some(0),
        mem_bytes: Some(1_000_000_000),
        billing: Some(1),
        tres: None,
        node_list: None,
        allocated: true,
        requested: Requested::default(),
        assigned: Assigned::default(),
        phases: Vec::new(),
        resources: "".into(),
        exit_code: Some(0),
        signal: None,
        run_count: None,
        finding: None,
        text: "".into(),
        place: Place::default(),
    }
}

/// A PBS run of pbalice in group `physics`, first run of job 91.
pub(crate) fn pbs_run() -> Run<'static> {
    Run {
        scheduler: Scheduler::Pbs,
        job_id: "91.pbssrv".into(),
        raw_id: "91.pbssrv".into(),
        cluster: Some("pbssrv".into()),
        user: Some("pbalice".into()),
        account: None,
        group: Some("physics".into()),
        project: Some("_pbs_project_default".into()),
        partition: Some("small".into()),
        qos: None,
        state_text: "E".into(),
        billing: None,
        run_count: Some(1),
        ..run()
    }
}

/// Epoch seconds of an ISO 8601 time.
pub(crate) fn at(text: &str) -> i64 {
    amie_usage::wire::parse_time(text).unwrap()
}

/// Charged `seconds` long, with its end moved.
pub(crate) fn lasting(seconds: u64, run: Run<'static>) -> Run<'static> {
    Run { elapsed: Some(seconds), end: Some(run.start.unwrap() + seconds as i64), ..run }
}

pub(crate) fn rate(charge: &str) -> RateSpec {
    RateSpec {
        from: "2000-01-01".parse().unwrap(),
        until: None,
        rate_by: RateBy::Submit,
        charge: charge.to_owned(),
        round: Rounding::default(),
        minimum: None,
        minimum_seconds: None,
        factors: BTreeMap::new(),
    }
}

pub(crate) fn period(from: &str, until: Option<&str>, charge: &str) -> RateSpec {
    RateSpec { from: from.parse().unwrap(), until: until.map(|date| date.parse().unwrap()), ..rate(charge) }
}

pub(crate) fn factors(rate: RateSpec, name: &str, table: &[(&str, &str)]) -> RateSpec {
    let table = table.iter().map(|(value, factor)| ((*value).to_owned(), (*factor).to_owned())).collect();
    let mut factors = rate.factors.clone();
    factors.insert(name.to_owned(), table);
    RateSpec { factors, ..rate }
}

pub(crate) fn resource(rates: Vec<RateSpec>) -> ResourceSpec {
    ResourceSpec { name: "cpu.example.org".to_owned(), rates, ..ResourceSpec::default() }
}

pub(crate) fn max_charge(most: &str) -> LimitsSpec {
    LimitsSpec { max_charge: Some(most.to_owned()), ..LimitsSpec::default() }
}

pub(crate) fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// Every account is the project of the same name; users are their own logins.
pub(crate) fn spec(resources: Vec<ResourceSpec>) -> RulesSpec {
    RulesSpec {
        timezone: chrono_tz::UTC,
        projects: vec![],
        project_patterns: vec![ProjectPattern {
            account: "(?s-u:.*)".to_owned(),
            project: "$0".to_owned(),
            ..ProjectPattern::default()
        }],
        skip: vec![],
        users: None,
        pi_fallback: vec![],
        node_types: vec![],
        resources,
        storage: vec![],
        policy: PolicySpec::default(),
    }
}

pub(crate) fn source_spec() -> SourceSpec {
    SourceSpec {
        name: "slurm".to_owned(),
        cluster: None,
        project_from: vec![ProjectFrom::Group],
        ..SourceSpec::default()
    }
}

pub(crate) fn source() -> SourceRules {
    SourceRules::compile(source_spec()).unwrap()
}

pub(crate) fn compile(spec: RulesSpec) -> Rules {
    Rules::compile(spec).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// What becomes of a run, in one line: `mapped 1.5`, `zero`, `skipped not-ended`, `held no-rate`.
pub(crate) fn outcome(rules: &Rules, source: &SourceRules, run: &Run<'_>) -> String {
    in_short(&Mapper::new(rules, source).map(run))
}

pub(crate) fn in_short(outcome: &Outcome<'_>) -> String {
    match outcome {
        Outcome::Mapped(mapped) => format!("mapped {}", mapped.record.charge),
        Outcome::Zero(mapped) => {
            assert!(mapped.record.charge.is_zero());
            "zero".to_owned()
        }
        Outcome::Skipped(skip) => format!("skipped {}", skip.reason),
        Outcome::Held(hold) => format!("held {}", hold.reason),
        Outcome::HeldForApproval(mapped, hold) => {
            format!("held {} {}", hold.reason, mapped.record.charge)
        }
    }
}

/// What `run` is charged by a single rate.
pub(crate) fn charged(rate: RateSpec, run: &Run<'_>) -> String {
    let rules = compile(spec(vec![resource(vec![rate])]));
    outcome(&rules, &source(), run)
}

pub(crate) fn name(text: &'static str) -> Option<&'static BStr> {
    Some(BStr::new(text))
}
