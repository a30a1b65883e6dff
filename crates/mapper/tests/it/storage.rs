//! Readings: owners, intervals, what is held.

use crate::support::*;
use mapper::spec::*;
use mapper::{Rules, StorageMapper, StorageOutcome};
use parsers::{OwnerKind, Place, Reading};

fn owner(owner: &str, project: &str, line: u64) -> OwnerRow {
    OwnerRow { owner: owner.to_owned(), project: project.to_owned(), username: "alice".to_owned(), line }
}

fn storage() -> StorageSpec {
    StorageSpec {
        source: "scratch".to_owned(),
        resource: "scratch.example.org".to_owned(),
        service_treats: Some(ServiceTreats::Level),
        charge: "stored_gb".to_owned(),
        round: Rounding::default(),
        interval_days: 1,
        media_type: None,
        system_copies: None,
        owners: vec![owner("lab", "LAB", 2), owner("#1001", "ID", 3), owner("12345", "NAME", 4)],
    }
}

fn rules_of(storage: StorageSpec) -> Rules {
    compile(RulesSpec { storage: vec![storage], ..spec(vec![]) })
}

fn reading(owner: &'static str, id: Option<u32>) -> Reading<'static> {
    Reading {
        owner_kind: OwnerKind::Group,
        owner_id: id,
        owner_name: owner.into(),
        bytes: 2_500_000_000,
        files: Some(7),
        bytes_limit: Some(5_000_000_000),
        files_limit: None,
        scope: None,
        text: "".into(),
        place: Place::default(),
    }
}

fn outcome_at(rules: &Rules, reading: &Reading<'_>, collected: &str) -> String {
    let mapper = StorageMapper::new(rules, "scratch", OwnerKind::Group).unwrap();
    match mapper.map(reading, at(collected)) {
        StorageOutcome::Mapped(mapped) => {
            let record = &mapped.record;
            assert_eq!(record.local_reference.as_deref(), Some(mapped.key.as_str()));
            assert_eq!(mapper.key(reading, at(collected)), mapped.key);
            assert_eq!(mapper.source_digest(reading, at(collected)), mapped.source_digest);
            format!("{} {} {} {}", record.local_project_id, record.charge, record.local_record_id, mapped.key)
        }
        StorageOutcome::Zero(mapped) => format!("zero {}", mapped.record.local_record_id),
        StorageOutcome::Skipped(skip) => format!("skipped {}", skip.reason),
        StorageOutcome::Held(hold) => format!("held {}", hold.reason),
        StorageOutcome::HeldForApproval(mapped, hold) => {
            format!("held {} {}", hold.reason, mapped.record.charge)
        }
    }
}

fn on(rules: &Rules, reading: &Reading<'_>) -> String {
    outcome_at(rules, reading, "2026-11-23T05:00:00Z")
}

#[test]
fn owners() {
    let rules = rules_of(storage());
    for (reading, expected) in [
        (reading("lab", None), "LAB 2.5 scratch.group.lab.2026-11-23 storage/scratch/group/lab/2026-11-23"),
        (
            reading("#1001", Some(1001)),
            "ID 2.5 scratch.group.1001.2026-11-23 storage/scratch/group/1001/2026-11-23",
        ),
        // The report resolves the id to a name, and the table has the id.
        (
            reading("other", Some(1001)),
            "ID 2.5 scratch.group.1001.2026-11-23 storage/scratch/group/1001/2026-11-23",
        ),
        // Both are in the table: the first row decides.
        (
            reading("lab", Some(1001)),
            "LAB 2.5 scratch.group.1001.2026-11-23 storage/scratch/group/1001/2026-11-23",
        ),
        // A name of digits is not the number.
        (
            reading("12345", None),
            "NAME 2.5 scratch.group.%312345.2026-11-23 storage/scratch/group/%312345/2026-11-23",
        ),
        (reading("nobody", None), "held unknown-owner"),
        (reading("#77", Some(77)), "held unknown-owner"),
        (reading("root", None), "skipped unassigned"),
        (reading("#0", None), "skipped unassigned"),
        (reading("wheel", Some(0)), "skipped unassigned"),
        (Reading { owner_kind: OwnerKind::User, ..reading("lab", None) }, "skipped other-owner-kind"),
        (Reading { bytes: 0, ..reading("lab", None) }, "zero scratch.group.lab.2026-11-23"),
    ] {
        assert_eq!(on(&rules, &reading), expected, "{reading:?}");
    }
    let mapper = StorageMapper::new(&rules, "scratch", OwnerKind::Group).unwrap();
    let unknown = reading("dom users,csv\"q", None);
    let StorageOutcome::Held(hold) = mapper.map(&unknown, 0) else { panic!("held") };
    assert!(
        hold.detail.contains("owner,project,username\n\"dom users,csv\"\"q\",<LocalProjectID>,<Username>"),
        "{}",
        hold.detail
    );
}

#[test]
fn intervals_begin_at_midnight_of_the_site_and_on_mondays() {
    let weekly = |zone| {
        let storage =
            StorageSpec { interval_days: 7, charge: "stored_gb * interval_days".to_owned(), ..storage() };
        compile(RulesSpec { timezone: zone, storage: vec![storage], ..spec(vec![]) })
    };
    // 2026-11-23 is a Monday.
    for (zone, collected, first) in [
        (chrono_tz::UTC, "2026-11-22T23:59:59Z", "2026-11-16"),
        (chrono_tz::UTC, "2026-11-23T00:00:00Z", "2026-11-23"),
        (chrono_tz::UTC, "2026-11-29T23:59:59Z", "2026-11-23"),
        (chrono_tz::America::Denver, "2026-11-23T06:59:59Z", "2026-11-16"),
        (chrono_tz::America::Denver, "2026-11-23T07:00:00Z", "2026-11-23"),
    ] {
        let text = outcome_at(&weekly(zone), &reading("lab", None), collected);
        assert_eq!(
            text,
            format!("LAB 17.5 scratch.group.lab.{first} storage/scratch/group/lab/{first}"),
            "{zone} {collected}"
        );
    }
    let rules = rules_of(storage());
    let lab = reading("lab", None);
    assert_eq!(
        outcome_at(&rules, &lab, "2026-11-22T23:59:59Z").split(' ').nth(2),
        Some("scratch.group.lab.2026-11-22")
    );
}

#[test]
fn quantities() {
    for (charge, expected) in [
        ("stored_gb", "2.5"),
        ("stored_gib", "2.328306"),
        ("allocated_gb", "5"),
        ("max(stored_gb, allocated_gb / 4) * interval_days", "2.5"),
        ("files / 1000", "0.007"),
    ] {
        let rules = rules_of(StorageSpec { charge: charge.to_owned(), ..storage() });
        assert_eq!(on(&rules, &reading("lab", None)).split(' ').nth(1), Some(expected), "{charge}");
    }
    let allocated = rules_of(StorageSpec { charge: "allocated_gb".to_owned(), ..storage() });
    let unlimited = Reading { bytes_limit: None, ..reading("lab", None) };
    assert_eq!(on(&allocated, &unlimited), "held missing-quantity");
    let odd = rules_of(StorageSpec { charge: "stored_gb / (files - 7)".to_owned(), ..storage() });
    assert_eq!(on(&odd, &reading("lab", None)), "held arithmetic");
}

#[test]
fn nothing_is_sent_while_it_is_not_known_what_the_service_does() {
    let rules = rules_of(StorageSpec { service_treats: None, ..storage() });
    assert_eq!(rules.warnings()[0].place, RulePlace::Storage { index: 0 });
    assert_eq!(on(&rules, &reading("lab", None)), "held service-treats-unset");
    assert_eq!(on(&rules, &reading("root", None)), "skipped unassigned");
}

#[test]
fn the_brake_holds_readings_too() {
    let policy = PolicySpec { limits: max_charge("2"), ..PolicySpec::default() };
    let rules = compile(RulesSpec { storage: vec![storage()], policy, ..spec(vec![]) });
    assert_eq!(on(&rules, &reading("lab", None)), "held above-max-charge 2.5");
}

#[test]
fn what_is_wrong_with_storage_rules() {
    let errors = |storage: Vec<StorageSpec>| {
        Rules::compile(RulesSpec { storage, ..spec(vec![]) })
            .unwrap_err()
            .into_iter()
            .map(|error| (error.place, error.message))
            .collect::<Vec<_>>()
    };
    let bad = StorageSpec {
        charge: "stored_gigs".to_owned(),
        interval_days: 0,
        owners: vec![owner("a", "P", 2), owner("a", "Q", 3), owner("b", "", 4)],
        ..storage()
    };
    let found = errors(vec![bad]);
    let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
    assert_eq!(
        places,
        [
            RulePlace::Storage { index: 0 },
            RulePlace::OwnerRow { storage: 0, line: 3 },
            RulePlace::OwnerRow { storage: 0, line: 4 },
            RulePlace::StorageFormula { index: 0, offset: 0, len: 11 },
        ],
        "{found:?}"
    );
    assert!(errors(vec![storage(), storage()])[0].1.contains("has a [[storage]] already"));
    let rules = rules_of(storage());
    let error = StorageMapper::new(&rules, "scrtach", OwnerKind::User).unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean `scratch`?"));
    let mut runs = storage();
    runs.charge = "core_hours".to_owned();
    assert!(errors(vec![runs])[0].1.contains("`core_hours` is no quantity"));
}
