//! Dates in rates and tables: inclusive, exclusive, at midnight in the site's zone.

use crate::support::*;
use mapper::Mapper;
use mapper::spec::*;
use parsers::Run;

#[test]
fn a_rate_changes_at_midnight_in_the_sites_zone() {
    // Worked out by hand from the zones' rules; the first of each pair is the last second of the old rate.
    for (zone, day, before, from) in [
        (chrono_tz::UTC, "2026-01-01", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"),
        (chrono_tz::America::Denver, "2026-01-01", "2026-01-01T06:59:59Z", "2026-01-01T07:00:00Z"),
        // The days on which the clock changes, and the days after.
        (chrono_tz::America::Denver, "2026-03-08", "2026-03-08T06:59:59Z", "2026-03-08T07:00:00Z"),
        (chrono_tz::America::Denver, "2026-03-09", "2026-03-09T05:59:59Z", "2026-03-09T06:00:00Z"),
        (chrono_tz::America::Denver, "2026-11-01", "2026-11-01T05:59:59Z", "2026-11-01T06:00:00Z"),
        (chrono_tz::America::Denver, "2026-11-02", "2026-11-02T06:59:59Z", "2026-11-02T07:00:00Z"),
        // There was no midnight: the clock went from 23:59:59 to 01:00:00.
        (chrono_tz::America::Sao_Paulo, "2018-11-04", "2018-11-04T02:59:59Z", "2018-11-04T03:00:00Z"),
        // There were two: the day begins with the first.
        (chrono_tz::America::Havana, "2023-11-05", "2023-11-05T03:59:59Z", "2023-11-05T04:00:00Z"),
    ] {
        let rates = vec![period("2000-01-01", Some(day), "core_hours"), period(day, None, "2 * core_hours")];
        let rules = compile(RulesSpec { timezone: zone, ..spec(vec![resource(rates)]) });
        let source = source();
        // One mapper for both, so that a plan kept for too long would show.
        let mut mapper = Mapper::new(&rules, &source);
        for (submit, expected) in
            [(before, "mapped 1"), (from, "mapped 2"), (before, "mapped 1"), (from, "mapped 2")]
        {
            let run = Run { submit: Some(at(submit)), ..run() };
            assert_eq!(in_short(&mapper.map(&run)), expected, "{zone} {day} {submit}");
        }
    }
}

#[test]
fn the_time_that_decides_is_configured() {
    // Submitted, started and ended in three different months.
    let long = Run {
        submit: Some(at("2026-01-31T00:00:00Z")),
        start: Some(at("2026-02-27T23:00:00Z")),
        end: Some(at("2026-03-01T00:00:00Z")),
        ..run()
    };
    for (rate_by, expected) in
        [(RateBy::Submit, "mapped 1"), (RateBy::Start, "mapped 2"), (RateBy::End, "mapped 3")]
    {
        let by = |rate| RateSpec { rate_by, ..rate };
        let rules = compile(spec(vec![resource(vec![
            by(period("2026-01-01", Some("2026-02-01"), "1 * core_hours")),
            by(period("2026-02-01", Some("2026-03-01"), "2 * core_hours")),
            by(period("2026-03-01", None, "3 * core_hours")),
        ])]));
        let source = source();
        let mut mapper = Mapper::new(&rules, &source);
        assert_eq!(in_short(&mapper.map(&long)), expected, "{rate_by:?}");
        // The same names at other times, by the mapper that remembers the first.
        let later = Run {
            submit: Some(at("2026-02-27T00:00:00Z")),
            start: Some(at("2026-03-05T00:00:00Z")),
            end: Some(at("2026-03-05T01:00:00Z")),
            ..run()
        };
        let expected = if rate_by == RateBy::Submit { "mapped 2" } else { "mapped 3" };
        assert_eq!(in_short(&mapper.map(&later)), expected, "{rate_by:?}");
    }
}

#[test]
fn a_gap_is_held_with_its_period() {
    let rules = compile(spec(vec![resource(vec![
        period("2026-02-01", None, "core_hours"),
        period("2025-01-01", Some("2026-01-01"), "core_hours"),
    ])]));
    assert_eq!(rules.warnings().len(), 1);
    assert!(rules.warnings()[0].message.contains("no rate is valid from 2026-01-01 to 2026-02-01"));
    let source = source();
    let mut mapper = Mapper::new(&rules, &source);
    for (submit, expected, detail) in [
        ("2024-12-31T23:59:59Z", "held no-rate", "until 2025-01-01T00:00:00Z"),
        ("2025-01-01T00:00:00Z", "mapped 1", ""),
        ("2025-12-31T23:59:59Z", "mapped 1", ""),
        ("2026-01-01T00:00:00Z", "held no-rate", "from 2026-01-01T00:00:00Z until 2026-02-01T00:00:00Z"),
        ("2026-01-31T23:59:59Z", "held no-rate", "from 2026-01-01T00:00:00Z until 2026-02-01T00:00:00Z"),
        ("2026-02-01T00:00:00Z", "mapped 1", ""),
    ] {
        let run = Run { submit: Some(at(submit)), ..run() };
        let outcome = mapper.map(&run);
        assert_eq!(in_short(&outcome), expected, "{submit}");
        if let mapper::Outcome::Held(hold) = outcome {
            assert!(hold.detail.contains(detail), "{}", hold.detail);
        }
    }
}

#[test]
fn rows_of_the_tables_hold_from_and_until_by_submit_time() {
    let row = |project: &str, from: Option<&str>, until: Option<&str>| ProjectRow {
        account: "lab".to_owned(),
        project: project.to_owned(),
        from: from.map(|date| date.parse().unwrap()),
        until: until.map(|date| date.parse().unwrap()),
        ..ProjectRow::default()
    };
    let user = |username: &str, from: Option<&str>, until: Option<&str>| UserRow {
        user: "alice".to_owned(),
        username: username.to_owned(),
        from: from.map(|date| date.parse().unwrap()),
        until: until.map(|date| date.parse().unwrap()),
        ..UserRow::default()
    };
    let rules = compile(RulesSpec {
        timezone: chrono_tz::America::Denver,
        projects: vec![
            row("ONE", None, Some("2026-07-01")),
            row("TWO", Some("2026-07-01"), Some("2026-08-01")),
            row("LATER", Some("2026-09-01"), None),
        ],
        project_patterns: vec![],
        users: Some(vec![user("alice1", None, Some("2026-07-15")), user("alice2", None, None)]),
        ..spec(vec![resource(vec![rate("core_hours")])])
    });
    let source = source();
    let mut mapper = Mapper::new(&rules, &source);
    for _ in 0..2 {
        for (submit, project, username) in [
            ("2026-07-01T05:59:59Z", "ONE", "alice1"),
            ("2026-07-01T06:00:00Z", "TWO", "alice1"),
            ("2026-07-15T05:59:59Z", "TWO", "alice1"),
            ("2026-07-15T06:00:00Z", "TWO", "alice2"),
            ("2026-08-01T05:59:59Z", "TWO", "alice2"),
            ("2026-08-01T06:00:00Z", "held unknown-project", ""),
            ("2026-09-01T05:59:59Z", "held unknown-project", ""),
            ("2026-09-01T06:00:00Z", "LATER", "alice2"),
        ] {
            let run = Run { account: name("lab"), submit: Some(at(submit)), ..run() };
            match mapper.map(&run) {
                mapper::Outcome::Mapped(mapped) => {
                    assert_eq!(mapped.record.local_project_id, project, "{submit}");
                    assert_eq!(mapped.record.username, username, "{submit}");
                }
                outcome => assert_eq!(in_short(&outcome), project, "{submit}"),
            }
        }
    }
    // Without a submit time a row with dates decides nothing.
    let unknown = Run { account: name("lab"), submit: None, ..run() };
    assert_eq!(in_short(&mapper.map(&unknown)), "held no-time");
}
