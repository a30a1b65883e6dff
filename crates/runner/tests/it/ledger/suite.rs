//! What each method promises, crash by crash, on whatever database the parent module names.

// A slice of one clone reads as what it is: what was read again.
#![allow(clippy::cloned_ref_to_slice_refs)]

use super::super::{ADMIN, NOW, Run, chunk, failed, held, loaded, unknown};
use super::Site;
use amie_usage::UsageType;
use runner::ledger::restate::{COLLISION, RESTORED};
use runner::ledger::{
    Adjustment, AdjustmentVerdict, BatchId, CARRIED_DAYS, Carried, Chunk, Event, Find, HoldEnd, Ingested,
    LeaseRequest, LedgerError, List, NOT_THERE_ANY_MORE, Note, Person, Progress, QuarantinedText, REFUNDS,
    RecordOutcome, Recovered, Restored, Retry, SentRecord, Settled, Sighting, State, What, envelope_bytes,
};

#[test]
fn a_run_goes_from_the_input_to_the_books() {
    let Some(mut site) = Site::new() else { return };
    let runs = [Run::new(2, "2.5"), Run::new(1, "0.1")];
    let report = site.take(&runs);
    assert_eq!(report, Ingested { inserted: 2, ..Ingested::default() });
    assert_eq!(site.take(&runs), Ingested { unchanged: 2, ..Ingested::default() });

    let leased = site.lease(NOW + 1).unwrap();
    let payloads: Vec<_> = leased.records.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(payloads, [runs[1].payload().into_bytes(), runs[0].payload().into_bytes()], "in key order");
    assert_eq!(site.lease(NOW + 1), None, "nobody else gets them");
    let outcomes = [RecordOutcome::Accepted, RecordOutcome::Accepted];
    site.ledger().settle(leased.batch, &outcomes, "HTTP 200", NOW + 2).unwrap();
    let awaiting = site.ledger().awaiting().unwrap();
    assert_eq!((awaiting.len(), awaiting[0].records, awaiting[0].earliest_sent), (1, 2, NOW + 1));

    assert_eq!(site.load(&runs[0], "2.50", NOW + 60).loaded, 1);
    assert_eq!(site.load(&runs[0], "2.50", NOW + 60).again, 1);
    assert_eq!(site.load(&runs[1], "0.1", NOW + 61).loaded, 1);
    assert!(site.ledger().awaiting().unwrap().is_empty());
    let totals = site.ledger().totals().unwrap();
    assert_eq!(totals.states.into_iter().collect::<Vec<_>>(), [(State::Loaded, 2)]);
    assert_eq!(totals.charges.len(), 1);
    assert_eq!(totals.charges[0].charge.to_string(), "2.6");
    assert_eq!(site.words(&runs[0]), ["recorded", "leased", "accepted", "loaded"]);
}

#[test]
fn sums_are_exact_by_resource_project_and_state() {
    let Some(mut site) = Site::new() else { return };
    // 0.1 ten times is not 1 in binary floating point.
    let mut runs: Vec<Run> = (0..10).map(|number| Run::new(number, "0.1")).collect();
    runs.push(Run { project: "TG-2".into(), ..Run::new(20, "12345678901234567890.000001") });
    runs.push(Run { project: "TG-2".into(), ..Run::new(21, "0.000001") });
    site.take(&runs);
    let totals = site.ledger().totals().unwrap();
    let sums: Vec<_> = totals
        .charges
        .iter()
        .map(|total| (total.project.to_string(), total.records, total.charge.to_string()))
        .collect();
    assert_eq!(
        sums,
        [
            ("TG-1".to_owned(), 10, "1".to_owned()),
            ("TG-2".to_owned(), 2, "12345678901234567890.000002".to_owned())
        ]
    );
}

#[test]
fn a_dead_sender_leaves_unknown_and_the_same_bytes_go_again() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    let first = site.lease(NOW + 1).unwrap();
    assert_eq!(site.crash(NOW + 2), Recovered { batches: 1, records: 1 });
    site.sound();
    assert_eq!(site.state(&run), State::Unknown);
    // While its fate is open, a newer version waits behind it.
    site.take(&[run.restated("20")]);
    let again = site.lease(NOW + 3).unwrap();
    assert_eq!(again.records, first.records);
    assert_ne!(again.batch, first.batch);
    // The answer to the first batch comes too late to be believed.
    let late = site.ledger().settle(first.batch, &[RecordOutcome::Accepted], "", NOW + 4);
    assert!(matches!(late, Err(LedgerError::SettledBefore(_))), "{late:?}");
    site.ledger().settle(again.batch, &[RecordOutcome::Accepted], "", NOW + 4).unwrap();
    assert_eq!(site.load(&run, "10", NOW + 9).loaded, 1);
    assert_eq!(site.lease(NOW + 10).unwrap().records[0].version, 2);
    assert_eq!(site.crash(NOW + 11).records, 1);
    assert_eq!(
        site.words(&run),
        [
            "recorded", "leased", "lost", "restated", "leased", "accepted", "loaded", "promoted", "leased",
            "lost"
        ]
    );
}

#[test]
fn storage_of_unknown_fate_waits_for_a_sighting_or_a_person() {
    for usage_type in [UsageType::Storage, UsageType::Adjustment] {
        let Some(mut site) = Site::new() else { return };
        let runs: Vec<Run> = (1..=3).map(|number| Run { usage_type, ..Run::new(number, "10") }).collect();
        site.take(&runs);
        let request = LeaseRequest::new(usage_type, NOW + 1);
        assert_eq!(site.ledger().lease(&request).unwrap().unwrap().records.len(), 3);
        site.crash(NOW + 2);
        assert_eq!(site.ledger().lease(&request).unwrap(), None, "{usage_type:?}: never sent blindly again");
        assert_eq!(site.ledger().groups(List::Unknown, 1).unwrap()[0].count, 3);

        assert_eq!(site.load(&runs[0], "10", NOW + 5).loaded, 1);
        site.ledger().resolve_unknown(&[runs[1].key.clone()], true, ADMIN, NOW + 6).unwrap();
        site.ledger().resolve_unknown(&[runs[2].key.clone()], false, ADMIN, NOW + 6).unwrap();
        site.sound();
        let states: Vec<State> = runs.iter().map(|run| site.state(run)).collect();
        assert_eq!(states, [State::Loaded, State::Accepted, State::Pending]);
        let leased = site.ledger().lease(&request).unwrap().unwrap();
        assert_eq!(leased.records.len(), 1);
        let twice = site.ledger().resolve_unknown(&[runs[1].key.clone()], true, ADMIN, NOW + 6);
        assert!(matches!(twice, Err(LedgerError::Illegal { .. })));
        let history = site.ledger().history(&runs[1].key).unwrap();
        assert_eq!(history.last().unwrap().by.as_deref(), Some("root"));
    }
}

#[test]
fn accepting_the_old_version_does_not_settle_the_new_one() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let newer = run.restated("20");
    site.take(&[run.clone()]);
    let leased = site.lease(NOW + 1).unwrap();
    assert_eq!(site.take(&[newer.clone()]), Ingested { restated: 1, ..Ingested::default() });
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW + 2).unwrap();
    site.sound();
    assert_eq!(site.state(&run), State::Accepted);
    assert_eq!(site.lease(NOW + 3), None, "the new one waits for the old one");
    assert_eq!(site.load(&run, "20", NOW + 4).mismatched, 1, "nobody sent 20 yet");
    assert_eq!(site.load(&run, "10", NOW + 4).loaded, 1);
    let leased = site.lease(NOW + 5).unwrap();
    assert_eq!(leased.records[0].payload, newer.payload().into_bytes());
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW + 6).unwrap();
    // The load of the old charge is seen again, and confirms nothing.
    let again = site.load(&run, "10", NOW + 4 - 1_000);
    assert_eq!((again.loaded, again.stale), (0, 1));
    assert_eq!(site.load(&run, "20", NOW + 7).loaded, 1);
}

#[test]
fn a_new_version_goes_after_a_quiet_time() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.take(&[run.restated("20")]);
    let quiet = LeaseRequest { quiet_seconds: 100, ..LeaseRequest::new(UsageType::Compute, NOW + 99) };
    assert_eq!(site.ledger().lease(&quiet).unwrap(), None);
    let leased = site.ledger().lease(&LeaseRequest { now: NOW + 100, ..quiet }).unwrap().unwrap();
    assert_eq!(leased.records[0].version, 2);
    site.sound();
}

#[test]
fn a_new_version_of_the_same_charge_waits_until_the_old_one_is_loaded() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    // What the service shows says nothing of projects: a load of the old version would be taken for one of the new.
    let other = Run { project: "TG-2".into(), ..run.restated("10") };
    assert_eq!(site.take(&[other.clone()]).restated, 1);
    let quiet = LeaseRequest { quiet_seconds: 100, ..LeaseRequest::new(UsageType::Compute, NOW + 1_000) };
    assert_eq!(site.ledger().lease(&quiet).unwrap(), None);
    assert_eq!(site.load(&run, "10", NOW + 1_001).loaded, 1);
    let leased = site.ledger().lease(&quiet).unwrap().unwrap();
    assert_eq!(leased.records[0].payload, other.payload().into_bytes());
    site.sound();
}

#[test]
fn not_sent_is_pending_again_and_zero_then_takes_it_back() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    let settled = site.send(&RecordOutcome::NotSent("connection refused".into()), NOW);
    assert_eq!(settled, Settled { not_sent: 1, ..Settled::default() });
    let zero = run.restated("0");
    assert_eq!(site.take(&[zero.clone()]), Ingested { superseded: 1, ..Ingested::default() });
    assert_eq!(site.take(&[zero]), Ingested { ignored: 1, ..Ingested::default() });
    assert_eq!(site.lease(NOW + 1), None);
    assert_eq!(site.take(&[run.restated("5")]), Ingested { revived: 1, ..Ingested::default() });
    assert_eq!(site.lease(NOW + 1).unwrap().records[0].payload, run.restated("5").payload().into_bytes());
}

#[test]
fn a_zero_is_sent_only_where_the_service_may_hold_something() {
    let Some(mut site) = Site::new() else { return };
    let (never, maybe) = (Run::new(1, "0"), Run::new(2, "7"));
    assert_eq!(site.take(&[never]), Ingested { ignored: 1, ..Ingested::default() });
    site.take(&[maybe.clone()]);
    site.send(&unknown(), NOW);
    let mut zero = maybe.restated("0");
    zero.facts.end -= 30;
    assert_eq!(site.take(&[zero.clone()]), Ingested { restated: 1, ..Ingested::default() });
    site.send(&RecordOutcome::Accepted, NOW + 1);
    site.load(&maybe, "7", NOW + 2);
    site.send(&RecordOutcome::Accepted, NOW + 3);
    assert_eq!(site.load(&maybe, "0", NOW + 4).loaded, 1);
}

#[test]
fn a_batch_is_settled_once_and_whole() {
    let Some(mut site) = Site::new() else { return };
    site.take(&[Run::new(1, "10"), Run::new(2, "10")]);
    let leased = site.lease(NOW).unwrap();
    let few = site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW);
    assert!(matches!(few, Err(LedgerError::OutcomeCount { records: 2, outcomes: 1, .. })), "{few:?}");
    let none = site.ledger().settle(BatchId(99), &[], "", NOW);
    assert!(matches!(none, Err(LedgerError::NoSuchBatch(99))), "{none:?}");
    let outcomes = [RecordOutcome::Accepted, RecordOutcome::Refused("no such user".into())];
    let settled = site.ledger().settle(leased.batch, &outcomes, "HTTP 200", NOW).unwrap();
    assert_eq!(settled, Settled { accepted: 1, rejected: 1, ..Settled::default() });
    let before = site.ledger().totals().unwrap();
    let twice = site.ledger().settle(leased.batch, &[unknown(), unknown()], "", NOW);
    assert!(matches!(twice, Err(LedgerError::SettledBefore(_))), "{twice:?}");
    assert_eq!(site.ledger().totals().unwrap(), before);
    site.sound();
    assert_eq!(site.words(&Run::new(1, "10")), ["recorded", "leased", "accepted"]);
    assert_eq!(site.words(&Run::new(2, "10")), ["recorded", "leased", "refused"]);
}

#[test]
fn refused_rows_wait_for_a_change_or_a_person() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone(), Run::new(2, "10")]);
    site.send(&RecordOutcome::Refused("no such user".into()), NOW);
    assert_eq!(site.lease(NOW + 1), None);
    assert_eq!(site.take(&[run.clone()]).unchanged, 1);
    let groups = site.ledger().groups(List::Rejected, 1).unwrap();
    assert_eq!(
        (groups[0].reason.as_str(), groups[0].count, groups[0].examples.len()),
        ("no such user", 2, 1)
    );
    assert_eq!(site.ledger().troubled(State::Rejected, "", 10).unwrap().len(), 2);

    // Another login, and even another resource: the service holds nothing of it.
    let mapped = Run { user: "alice2".into(), resource: "gpu.example".into(), ..run.clone() };
    assert_eq!(site.take(&[mapped.clone()]), Ingested { replaced: 1, ..Ingested::default() });
    assert_eq!(site.ledger().retry(&Retry::Rejected(Some("other".into())), ADMIN, NOW + 2).unwrap().done, 0);
    assert_eq!(site.ledger().retry(&Retry::Rejected(None), ADMIN, NOW + 2).unwrap().done, 1);
    site.sound();
    assert_eq!(site.send(&RecordOutcome::Accepted, NOW + 3).accepted, 2);
    assert_eq!(site.load(&run, "10", NOW + 4).foreign, 1, "the old identity is nobody's");
    assert_eq!(site.load(&mapped, "10", NOW + 4).loaded, 1);
    let wrong = site.ledger().retry(&Retry::Keys(vec![run.key.clone()]), ADMIN, NOW + 2);
    assert!(matches!(wrong, Err(LedgerError::Illegal { .. })), "{wrong:?}");
}

#[test]
fn failures_are_believed_once() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    let failure = failed(&run, "no allocation", "7", None);
    assert_eq!(site.ledger().confirm(&[failure.clone()], NOW + 10).unwrap().failed, 1);
    assert_eq!(site.state(&run), State::Failed);
    site.ledger().retry(&Retry::Failed(None), ADMIN, NOW + 20).unwrap();
    site.send(&RecordOutcome::Accepted, NOW + 30);
    assert_eq!(site.ledger().confirm(&[failure], NOW + 40).unwrap().stale, 1, "that one is known");
    let old = failed(&run, "no allocation", "8", Some(NOW - 1_000));
    assert_eq!(site.ledger().confirm(&[old], NOW + 40).unwrap().stale, 1, "that one is of an earlier send");
    assert_eq!(site.state(&run), State::Accepted);
    assert_eq!(site.load(&run, "10", NOW + 50).loaded, 1);
    // No submit time and no reference of ours: it could be any run of this job.
    let Sighting::Failed { usage_type, resource, local_record_id, error, .. } = failed(&run, "x", "9", None)
    else {
        unreachable!()
    };
    let vague = Sighting::Failed {
        usage_type,
        resource,
        local_record_id,
        submit: None,
        error,
        failed_id: None,
        local_reference: None,
        processed_at: None,
    };
    assert_eq!(site.ledger().confirm(&[vague], NOW + 60).unwrap().incomplete, 1);
}

#[test]
fn a_late_load_of_an_older_charge_is_an_alarm_noted_once() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.load(&run, "10", NOW + 10);
    for _ in 0..2 {
        assert_eq!(site.load(&run, "9", NOW + 20).mismatched, 1, "it is counted as long as it is so");
    }
    let noted = site.ledger().history(&run.key).unwrap();
    let alarms = noted.iter().filter(|entry| entry.what == What::Noted(Note::Mismatched)).count();
    assert_eq!(alarms, 1);
    let Sighting::Loaded { usage_type, resource, local_record_id, charge, charge_places, loaded_at, .. } =
        loaded(&run, "10", NOW + 20)
    else {
        unreachable!()
    };
    let other = Sighting::Loaded {
        usage_type,
        resource: resource.clone(),
        local_record_id: local_record_id.clone(),
        submit: Some(run.submit + 1),
        charge,
        charge_places,
        loaded_at,
    };
    let none = Sighting::Loaded {
        usage_type,
        resource,
        local_record_id,
        submit: None,
        charge,
        charge_places,
        loaded_at,
    };
    let confirmed = site.ledger().confirm(&[other, none], NOW + 30).unwrap();
    assert_eq!(
        (confirmed.foreign, confirmed.incomplete),
        (1, 1),
        "another run of the same job, and who knows which"
    );
}

#[test]
fn rules_and_mapping_never_reprice_silently() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone(), Run::new(2, "1.5")]);
    site.send(&RecordOutcome::Accepted, NOW);
    let priced = Run { charge: "11".parse().unwrap(), ..run.clone() };
    let moved = Run { project: "TG-9".into(), ..run.clone() };
    assert_eq!(
        site.take(&[priced.clone()]),
        Ingested { drifted: 1, drifted_first: 1, ..Ingested::default() }
    );
    assert_eq!(site.take(&[priced.clone()]), Ingested { drifted: 1, ..Ingested::default() });
    assert_eq!(site.take(&[moved]), Ingested { drifted: 1, ..Ingested::default() });
    assert_eq!(site.state(&run), State::Accepted);
    assert_eq!(site.words(&run), ["recorded", "leased", "accepted", "drifted"]);

    let report = site.ledger().restate(&chunk(&[priced.clone()]), ADMIN, NOW + 1).unwrap();
    assert_eq!(report, Ingested { restated: 1, ..Ingested::default() });
    site.load(&run, "10", NOW + 2);
    assert_eq!(site.lease(NOW + 3).unwrap().records[0].payload, priced.payload().into_bytes());
}

#[test]
fn rules_that_go_back_and_change_again_are_news_again() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let priced = Run { charge: "11".parse().unwrap(), ..run.clone() };
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    let first = Ingested { drifted: 1, drifted_first: 1, ..Ingested::default() };
    assert_eq!(site.take(&[priced.clone()]), first);
    let told = site.ledger().news().unwrap();
    site.ledger().mark_reported(&told).unwrap();
    assert_eq!(site.take(&[priced.clone()]), Ingested { drifted: 1, ..Ingested::default() });
    for _ in 0..2 {
        assert_eq!(site.take(&[run.clone()]), Ingested { unchanged: 1, ..Ingested::default() });
    }
    assert!(site.ledger().news().unwrap().is_empty());
    assert!(!site.ledger().find(&Find::Key(run.key.clone()), 1).unwrap()[0].drifted);
    assert_eq!(site.take(&[priced]), first);
    assert_eq!(site.ledger().news().unwrap().drifted, 1);
    assert_eq!(site.words(&run), ["recorded", "leased", "accepted", "drifted", "drifted"]);
}

#[test]
fn another_source_digest_with_the_same_payload_does_not_open_a_back_door_for_repricing() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    // The source changed in something that is not charged; then a rate changes.
    let touched = Run { source: 2, ..run.clone() };
    assert_eq!(site.take(&[touched.clone()]).unchanged, 1);
    let priced = Run { charge: "11".parse().unwrap(), ..touched };
    assert_eq!(site.take(&[priced]).drifted, 1);
}

#[test]
fn false_restatements_are_held_beside_the_row() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone(), Run::new(2, "10")]);
    site.send(&RecordOutcome::Accepted, NOW);
    let mut grown = run.restated("12");
    grown.facts.requeued = true;
    let mut repaired = Run::new(2, "0");
    repaired.source = 2;
    repaired.facts.elapsed = 0;
    repaired.facts.end = repaired.facts.start;
    let both = [grown.clone(), repaired.clone()];
    assert_eq!(site.take(&both), Ingested { held: 2, ..Ingested::default() });
    assert_eq!(site.take(&both), Ingested { held_again: 2, ..Ingested::default() });
    assert_eq!(site.state(&run), State::Accepted);
    assert_eq!(site.ledger().totals().unwrap().held_total, 2);
    let reasons: Vec<String> =
        site.ledger().groups(List::Holds, 3).unwrap().into_iter().map(|group| group.reason).collect();
    assert_eq!(reasons, ["grown-by-requeue", "runaway-repair"]);
    // One was true after all, the other is waived and stays so.
    assert_eq!(site.ledger().approve(&[grown.key.clone()], ADMIN, NOW + 1).unwrap().done, 1);
    site.ledger().close_holds(&[repaired.key.clone()], HoldEnd::Waived, ADMIN, NOW + 1).unwrap();
    site.sound();
    assert_eq!(site.take(&both), Ingested { unchanged: 1, waived: 1, ..Ingested::default() });
    assert_eq!(site.ledger().totals().unwrap().held_total, 0);
    site.load(&run, "10", NOW + 2);
    assert_eq!(site.lease(NOW + 3).unwrap().records[0].payload, grown.payload().into_bytes());
}

#[test]
fn a_frozen_identity_does_not_change() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let renamed = Run { id: "1.c1".into(), ..run.clone() };
    site.take(&[run.clone()]);
    assert_eq!(site.take(&[renamed.clone()]).replaced, 1, "nothing was sent yet");
    assert_eq!(site.take(&[run.clone()]).replaced, 1);
    let leased = site.lease(NOW).unwrap();
    assert_eq!(site.take(&[renamed.clone()]).held, 1, "it is on the wire");
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW).unwrap();
    assert_eq!(site.take(&[renamed.clone()]).held_again, 1);
    let refused = site.ledger().approve(&[run.key.clone()], ADMIN, NOW);
    assert!(matches!(refused, Err(LedgerError::CannotApprove { .. })), "{refused:?}");
    let hold = site.ledger().hold(&run.key).unwrap().unwrap();
    assert!(hold.reason == "identity-changed" && hold.detail.contains("1.c1"), "{hold:?}");
    assert_eq!(site.load(&run, "10", NOW + 1).loaded, 1);
}

#[test]
fn two_keys_never_share_an_identity() {
    let Some(mut site) = Site::new() else { return };
    let first = Run::new(1, "10");
    let twin = Run { key: "pbs/s1/1".into(), ..Run::new(1, "20") };
    // In one chunk (the fast path), and again in another.
    assert_eq!(
        site.take(&[first.clone(), twin.clone()]),
        Ingested { inserted: 1, held: 1, ..Ingested::default() }
    );
    let (owner, held) = if site.state(&twin) == State::Pending { (twin, first) } else { (first, twin) };
    assert_eq!(site.take(&[held.clone()]), Ingested { held_again: 1, ..Ingested::default() });
    assert_eq!(site.ledger().hold(&held.key).unwrap().unwrap().reason, COLLISION);
    let refused = site.ledger().approve(&[held.key.clone()], ADMIN, NOW);
    assert!(matches!(refused, Err(LedgerError::CannotApprove { .. })), "{refused:?}");
    // The owner's run is gone: now the other one may use the identity.
    assert_eq!(site.take(&[owner.restated("0")]).superseded, 1);
    assert_eq!(site.take(&[held.clone()]).released, 1);
    assert_eq!(site.take(&[owner.restated("3")]), Ingested { held: 1, ..Ingested::default() });
    assert_eq!(site.lease(NOW).unwrap().records.len(), 1);
}

#[test]
fn a_held_run_is_released_when_it_maps() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let unmapped = held(&run, "unknown-project", false);
    assert_eq!(site.ledger().ingest(&unmapped, NOW).unwrap().held, 1);
    assert_eq!(site.ledger().ingest(&unmapped, NOW + 1).unwrap().held_again, 1);
    site.sound();
    let found = site.ledger().find(&Find::Job("1".into()), 10).unwrap();
    assert_eq!((found.len(), found[0].state), (1, State::Held));
    assert!(site.ledger().open_holds_with_other_rules(1, "", 10).unwrap().is_empty());
    let open = site.ledger().open_holds_with_other_rules(2, "", 10).unwrap();
    assert_eq!((open.len(), open[0].run.as_str(), open[0].first_seen), (1, r#"{"job_id":"1"}"#, NOW));
    assert_eq!((open[0].last_seen, open[0].file.as_str()), (NOW + 1, "sacct.txt"));
    assert!(site.ledger().open_holds_with_other_rules(2, &run.key, 10).unwrap().is_empty(), "pages end");
    let nothing = site.ledger().approve(&[run.key.clone()], ADMIN, NOW);
    assert!(matches!(nothing, Err(LedgerError::CannotApprove { .. })), "there is no record to approve");

    assert_eq!(site.take(&[run.clone()]), Ingested { released: 1, ..Ingested::default() });
    assert_eq!(site.ledger().hold(&run.key).unwrap().unwrap().closed.unwrap().how, "released");
    assert_eq!(site.state(&run), State::Pending);
    // And back, as long as nothing was taken.
    assert_eq!(site.ledger().ingest(&unmapped, NOW + 2).unwrap().held, 1);
    site.sound();
    assert_eq!(site.state(&run), State::Held);
    assert_eq!(site.words(&run), ["held", "released", "hold-closed", "held"]);
}

#[test]
fn a_waiver_stays_while_reason_and_source_stay() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.ledger().ingest(&held(&run, "unknown-user", false), NOW).unwrap();
    site.ledger().close_holds(&[run.key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    site.sound();
    assert_eq!(site.state(&run), State::Superseded);
    assert_eq!(site.ledger().ingest(&held(&run, "unknown-user", false), NOW).unwrap().waived, 1);
    assert_eq!(site.take(&[run.clone()]).waived, 1, "a person said never");
    assert_eq!(site.ledger().ingest(&held(&run, "unknown-project", false), NOW).unwrap().held, 1);
    site.sound();
    let other = Run { source: 2, ..run.clone() };
    site.ledger().close_holds(&[run.key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    assert_eq!(site.ledger().ingest(&held(&other, "unknown-project", false), NOW).unwrap().held, 1);
    site.ledger().close_holds(&[run.key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    site.ledger().reopen_holds(&[run.key.clone()], ADMIN, NOW).unwrap();
    site.sound();
    assert_eq!(site.state(&run), State::Held);
    let none = site.ledger().reopen_holds(&[run.key.clone()], ADMIN, NOW);
    assert!(matches!(none, Err(LedgerError::NoSuchHold { .. })), "{none:?}");
    let none = site.ledger().close_holds(&["nobody".to_owned()], HoldEnd::Waived, ADMIN, NOW);
    assert!(matches!(none, Err(LedgerError::NoSuchHold { .. })), "{none:?}");
}

#[test]
fn a_brake_is_let_go_by_an_approval() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "1000000");
    let braked = held(&run, "max-charge", true);
    site.ledger().ingest(&braked, NOW).unwrap();
    assert_eq!(site.lease(NOW), None);
    assert_eq!(site.ledger().hold(&run.key).unwrap().unwrap().candidate, Some(run.payload().into_bytes()));
    assert_eq!(site.ledger().approve(&[run.key.clone()], ADMIN, NOW + 1).unwrap().done, 1);
    site.sound();
    // Every later night sees the same run, and mapping brakes it again.
    let again = site.ledger().ingest(&braked, NOW + 2).unwrap();
    assert_eq!(again, Ingested { unchanged: 1, ..Ingested::default() });
    let leased = site.lease(NOW + 3).unwrap();
    assert_eq!(leased.records[0].payload, run.payload().into_bytes());
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW + 3).unwrap();
    assert_eq!(site.ledger().ingest(&braked, NOW + 4).unwrap().unchanged, 1);
    let twice = site.ledger().approve(&[run.key.clone()], ADMIN, NOW + 5);
    assert!(matches!(twice, Err(LedgerError::NoSuchHold { .. })), "{twice:?}");
    let history = site.ledger().history(&run.key).unwrap();
    let approval = history.iter().find(|entry| entry.what == What::Moved(Event::Released)).unwrap();
    assert_eq!((approval.by.as_deref(), approval.detail.as_str()), (Some("root"), "asked the user"));
}

#[test]
fn a_held_run_beside_a_sent_row_leaves_it_alone() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    // Only the tables lost the project: the row stays what it is.
    let same = site.ledger().ingest(&held(&run, "unknown-project", false), NOW).unwrap();
    assert_eq!(same, Ingested { drifted: 1, drifted_first: 1, ..Ingested::default() });
    // The source changed too: somebody must look, or the change would be lost.
    let changed = held(&run.restated("12"), "unknown-project", false);
    assert_eq!(site.ledger().ingest(&changed, NOW).unwrap().held, 1);
    site.sound();
    assert_eq!(site.state(&run), State::Accepted);
    assert_eq!(site.take(&[run.restated("12")]).restated, 1);
    assert_eq!(site.ledger().totals().unwrap().held_total, 0);
}

#[test]
fn quarantined_texts_are_counted_once() {
    let Some(mut site) = Site::new() else { return };
    let text = |text: &str, line| QuarantinedText {
        reason: "columns".into(),
        detail: "18 of 19".into(),
        text: text.into(),
        file: 0,
        line,
    };
    let with = |texts: Vec<QuarantinedText>| Chunk { quarantined: texts, ..chunk(&[]) };
    let first =
        site.ledger().ingest(&with(vec![text("a|b", 3), text("c", 9), text("a|b", 12)]), NOW).unwrap();
    assert_eq!((first.quarantined, first.quarantined_again), (2, 1));
    let second = site.ledger().ingest(&with(vec![text("c", 4)]), NOW + 1).unwrap();
    assert_eq!((second.quarantined, second.quarantined_again), (0, 1));
    let other = Chunk { source: "pbs".into(), ..with(vec![text("c", 4)]) };
    assert_eq!(site.ledger().ingest(&other, NOW).unwrap().quarantined, 1, "another source");
    assert_eq!(site.ledger().totals().unwrap().quarantined_open, 3);
    let groups = site.ledger().groups(List::Quarantine, 2).unwrap();
    assert_eq!((groups[0].count, groups[0].examples[0].as_str()), (3, "sacct.txt:3"));
    let open = site.ledger().quarantined(0, 10).unwrap();
    assert_eq!((open[0].text.as_slice(), open[1].last_seen), (b"a|b".as_slice(), NOW + 1));
    assert_eq!(site.ledger().close_quarantine(&[open[0].id, open[0].id], ADMIN, NOW).unwrap(), 1);
    assert_eq!(site.ledger().totals().unwrap().quarantined_open, 2);
}

#[test]
fn a_text_that_was_there_no_more_is_a_new_question_when_it_is_seen_again() {
    let Some(mut site) = Site::new() else { return };
    let text = |text: &str, file| QuarantinedText {
        reason: "columns".into(),
        detail: "18 of 19".into(),
        text: text.into(),
        file,
        line: 3,
    };
    let both = |file| Chunk {
        files: vec!["a.txt".into(), "b.txt".into()],
        quarantined: vec![text("dismissed", file), text("gone", file)],
        ..chunk(&[])
    };
    site.ledger().ingest(&both(0), NOW).unwrap();
    let told = site.ledger().news().unwrap();
    site.ledger().mark_reported(&told).unwrap();
    let ids: Vec<i64> = site.ledger().quarantined(0, 10).unwrap().iter().map(|text| text.id).collect();
    let gone = Person { why: NOT_THERE_ANY_MORE, ..ADMIN };
    site.ledger().close_quarantine(&ids[..1], ADMIN, NOW).unwrap();
    site.ledger().close_quarantine(&ids[1..], gone, NOW).unwrap();
    let again = site.ledger().ingest(&both(1), NOW + 1).unwrap();
    assert_eq!((again.quarantined, again.quarantined_again), (1, 1));
    let open = site.ledger().quarantined(0, 10).unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].text.as_slice(), open[0].file.as_str()), (b"gone".as_slice(), "b.txt"));
    assert_eq!(site.ledger().news().unwrap().quarantined, 1);
    let more = site.ledger().ingest(&both(1), NOW + 2).unwrap();
    assert_eq!((more.quarantined, more.quarantined_again), (0, 2));
    assert_eq!(site.ledger().quarantined(0, 10).unwrap()[0].id, open[0].id);
    site.sound();
}

#[test]
fn a_chunk_that_contradicts_itself_is_refused_whole() {
    let Some(mut site) = Site::new() else { return };
    let progress = Progress { path: "sacct.txt".into(), offset: 100, frames: 2, complete: true };
    let mut beyond = chunk(&[Run::new(1, "10"), Run::new(2, "10")]);
    beyond.progress = Some(progress.clone());
    beyond.records[1].payload = 10..100_000;
    let mut nofile = chunk(&[Run::new(1, "10")]);
    nofile.records[0].file = 1;
    let mut swapped = held(&Run::new(1, "10"), "max-charge", true);
    swapped.held[0].key = "another".into();
    for bad in [beyond, nofile, swapped] {
        let refused = site.ledger().ingest(&bad, NOW);
        assert!(matches!(refused, Err(LedgerError::BadChunk(_))), "{refused:?}");
    }
    assert_eq!(site.ledger().totals().unwrap().states.len(), 0);
    assert_eq!(site.ledger().progress("slurm", "sacct.txt").unwrap(), None);

    let good = Chunk { progress: Some(progress.clone()), ..chunk(&[Run::new(1, "10")]) };
    site.ledger().ingest(&good, NOW).unwrap();
    site.crash(NOW);
    assert_eq!(site.ledger().progress("slurm", "sacct.txt").unwrap(), Some(progress));
    assert_eq!(site.ledger().progress("pbs", "sacct.txt").unwrap(), None);
}

#[test]
fn what_a_reading_carries_is_kept_with_its_rows_and_forgotten_when_nobody_passes_there() {
    let Some(mut site) = Site::new() else { return };
    let carried = |point: &str, state: &[u8]| Carried {
        point: point.into(),
        after: "20261101".into(),
        state: state.into(),
    };
    let first = vec![carried("a", &[1, 0, 255]), carried(Carried::END, b"later")];
    let mut refused = Chunk { carried: first.clone(), ..chunk(&[Run::new(1, "10")]) };
    refused.records[0].file = 1;
    assert!(site.ledger().ingest(&refused, NOW).is_err());
    assert_eq!(site.ledger().carried("slurm", "a").unwrap(), None, "neither the rows nor what was carried");

    site.ledger().ingest(&Chunk { carried: first.clone(), ..chunk(&[Run::new(1, "10")]) }, NOW).unwrap();
    site.crash(NOW);
    assert_eq!(site.ledger().carried("slurm", "a").unwrap().as_ref(), first.first());
    assert_eq!(site.ledger().carried("slurm", Carried::END).unwrap().as_ref(), first.last());
    assert_eq!(site.ledger().carried("slurm", "b").unwrap(), None);
    assert_eq!(site.ledger().carried("pbs", "a").unwrap(), None);

    // The newest counts; what no reading passes any more is forgotten at last.
    for day in 1..=CARRIED_DAYS {
        let night = Chunk { carried: vec![carried(Carried::END, b"newer")], ..chunk(&[]) };
        site.ledger().ingest(&night, NOW + day * 86_400).unwrap();
    }
    assert_eq!(site.ledger().carried("slurm", Carried::END).unwrap().unwrap().state, b"newer");
    assert!(site.ledger().carried("slurm", "a").unwrap().is_some());
    let later = NOW + (CARRIED_DAYS + 1) * 86_400;
    site.ledger().ingest(&Chunk { carried: vec![carried("b", b"")], ..chunk(&[]) }, later).unwrap();
    assert_eq!(site.ledger().carried("slurm", "a").unwrap(), None);
    assert!(site.ledger().carried("slurm", Carried::END).unwrap().is_some());
    site.sound();
}

#[test]
fn the_same_key_twice_in_one_chunk_is_taken_in_turn() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let twice = [run.clone(), run.clone(), run.restated("12")];
    assert_eq!(site.take(&twice), Ingested { inserted: 1, unchanged: 1, replaced: 1, ..Ingested::default() });
    assert_eq!(site.lease(NOW).unwrap().records[0].payload, run.restated("12").payload().into_bytes());
}

#[test]
fn many_records_in_any_order_go_in_and_come_out() {
    let Some(mut site) = Site::new() else { return };
    // Past full groups, half of them known already, in an order that is nobody's.
    let runs: Vec<Run> = (0..333).map(|number| Run::new(number * 7_919 % 1_000, "1")).collect();
    let half: Vec<Run> = runs.iter().step_by(2).cloned().collect();
    assert_eq!(site.take(&half).inserted, 167);
    let rest = site.take(&runs);
    assert_eq!((rest.inserted, rest.unchanged), (166, 167));
    let mut seen = Vec::new();
    while let Some(leased) = site
        .ledger()
        .lease(&LeaseRequest { max_records: 50, ..LeaseRequest::new(UsageType::Compute, NOW) })
        .unwrap()
    {
        seen.extend(leased.records.iter().map(|record| (record.key.clone(), record.payload.clone())));
    }
    let mut expected: Vec<_> = runs.iter().map(|run| (run.key.clone(), run.payload().into_bytes())).collect();
    expected.sort();
    assert_eq!(seen, expected);
    site.sound();
}

#[test]
fn a_message_is_as_full_as_it_may_be_and_no_fuller() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> =
        (0..200).map(|number| Run::new(number, &"9".repeat(1 + number as usize % 30))).collect();
    site.take(&runs);
    let mut left = runs.len();
    let request = LeaseRequest { max_bytes: 1_000, ..LeaseRequest::new(UsageType::Compute, NOW) };
    let mut previous: Option<(usize, usize)> = None;
    while let Some(leased) = site.ledger().lease(&request).unwrap() {
        let body = format!(
            r#"{{"UsageType":"Compute","Records":[{}]}}"#,
            leased
                .records
                .iter()
                .map(|r| String::from_utf8_lossy(&r.payload).into_owned())
                .collect::<Vec<_>>()
                .join(",")
        );
        assert!(body.len() <= 1_000, "{}", body.len());
        if let Some((length, _)) = previous {
            assert!(length + 1 + leased.records[0].payload.len() > 1_000, "one more would have fitted");
        }
        previous = Some((body.len(), leased.records.len()));
        left -= leased.records.len();
    }
    assert_eq!(left, 0);
    assert_eq!(envelope_bytes(UsageType::Storage), r#"{"UsageType":"Storage","Records":[]}"#.len());
    // What fits no message goes alone: the service decides.
    site.take(&[Run::new(900, "1"), Run::new(901, "1")]);
    let tiny = LeaseRequest { max_bytes: 10, ..request };
    assert_eq!(site.ledger().lease(&tiny).unwrap().unwrap().records.len(), 1);
}

#[test]
fn rows_are_found_by_job_and_record_id() {
    let Some(mut site) = Site::new() else { return };
    let ids = ["91", "91_4", "91.pbssrv", "910", "9"];
    let runs: Vec<Run> =
        (0..).zip(ids).map(|(number, id)| Run { id: id.into(), ..Run::new(number, "1") }).collect();
    site.take(&runs);
    let mut found = |what: Find| -> Vec<String> {
        let rows = site.ledger().find(&what, 10).unwrap();
        rows.into_iter().map(|row| row.wanted.unwrap().identity.local_record_id).collect()
    };
    assert_eq!(found(Find::Job("91".into())), ["91", "91_4", "91.pbssrv"]);
    assert_eq!(found(Find::Record("91".into())), ["91"]);
    assert_eq!(found(Find::Record("%".into())), Vec::<String>::new());
    assert_eq!(found(Find::Key(runs[3].key.clone())), ["910"]);
    let payload = site.ledger().payload(&runs[3].key).unwrap();
    assert_eq!(payload, Some(runs[3].payload().into_bytes()));
    assert!(matches!(site.ledger().payload("nobody"), Err(LedgerError::NoSuchKey(_))));
    assert_eq!(site.ledger().history("nobody").unwrap(), []);
}

#[test]
fn a_failure_and_a_later_load_in_one_list_are_in_the_history_in_this_order() {
    let Some(mut site) = Site::new() else { return };
    let (one, other) = (Run::new(1, "10"), Run::new(2, "10"));
    site.take(&[one.clone(), other.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    let shown = [
        loaded(&one, "10", NOW + 5),
        failed(&other, "no allocation", "7", Some(NOW + 6)),
        loaded(&other, "10", NOW + 7),
    ];
    let report = site.ledger().confirm(&shown, NOW + 10).unwrap();
    assert_eq!((report.loaded, report.failed), (2, 1));
    site.sound();
    assert!(site.words(&other).ends_with(&["failed", "loaded"]), "{:?}", site.words(&other));
}

#[test]
fn what_a_restored_ledger_might_have_sent_waits_for_a_person() {
    let Some(mut site) = Site::new() else { return };
    let of = |usage_type, number| Run { usage_type, ..Run::new(number, "10") };
    let compute = Run::new(1, "10");
    let (storage, taken) = (of(UsageType::Storage, 2), of(UsageType::Storage, 3));
    let adjustment = of(UsageType::Adjustment, 4);
    // One that the service took and could not load, and that a person wants sent again.
    site.take(&[taken.clone()]);
    let request = |usage_type| LeaseRequest::new(usage_type, NOW + 9);
    let leased = site.ledger().lease(&request(UsageType::Storage)).unwrap().unwrap();
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW).unwrap();
    site.ledger().confirm(&[failed(&taken, "no such owner", "7", Some(NOW + 99))], NOW + 99).unwrap();
    site.ledger().retry(&Retry::Keys(vec![taken.key.clone()]), ADMIN, NOW + 99).unwrap();
    site.take(&[compute.clone(), storage.clone(), adjustment.clone()]);

    let might_add = [UsageType::Storage, UsageType::Adjustment];
    let done = site.ledger().accept_restored(&might_add, ADMIN, NOW).unwrap();
    assert_eq!(done, Restored { held: 2, unknown: 1 });
    site.sound();
    let all = [&compute, &storage, &taken, &adjustment];
    let states: Vec<State> = all.iter().map(|run| site.state(run)).collect();
    assert_eq!(states, [State::Pending, State::Held, State::Unknown, State::Held]);
    for usage_type in might_add {
        assert_eq!(site.ledger().lease(&request(usage_type)).unwrap(), None);
    }
    assert_eq!(site.lease(NOW + 9).unwrap().records.len(), 1, "a compute record overwrites");
    let holds = site.ledger().groups(List::Holds, 5).unwrap();
    assert_eq!((holds.len(), holds[0].reason.as_str(), holds[0].count), (1, RESTORED, 2));

    // What was read before, and this ledger takes for new; and what is new.
    let before = of(UsageType::Storage, 5);
    let imported = of(UsageType::Storage, 6);
    let after = Run { submit: NOW + 1, ..of(UsageType::Storage, 7) };
    let sent = SentRecord {
        usage_type: UsageType::Storage,
        resource: imported.resource.to_string(),
        local_record_id: imported.id.clone(),
        submit: imported.submit,
        charge: imported.charge,
        charge_places: imported.charge.places(),
        username: String::new(),
        project: String::new(),
        loaded_at: None,
        line: 1,
    };
    site.ledger().import_sent(&[sent], "a table", ADMIN, NOW).unwrap();
    let runs = [before.clone(), imported, after.clone(), Run::new(8, "10"), storage.clone()];
    let report = site.take(&runs);
    let expected = Ingested { held: 1, held_again: 1, adopted: 1, inserted: 2, ..Ingested::default() };
    assert_eq!(report, expected);
    let report = site.take(&runs);
    assert_eq!(
        (report.held, report.held_again, report.unchanged),
        (0, 2, 3),
        "reading it again asks nothing new"
    );
    let leased = site.ledger().lease(&request(UsageType::Storage)).unwrap().unwrap();
    assert_eq!(leased.records.iter().map(|record| &record.key).collect::<Vec<_>>(), [&after.key]);

    // A person looked at the service.
    site.ledger().approve(&[before.key.clone(), adjustment.key.clone()], ADMIN, NOW).unwrap();
    site.ledger().close_holds(&[storage.key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    let report = site.take(&[before.clone(), storage.clone()]);
    assert_eq!(report, Ingested { unchanged: 1, waived: 1, ..Ingested::default() });
    let leased = site.ledger().lease(&request(UsageType::Storage)).unwrap().unwrap();
    assert_eq!(leased.records[0].payload, before.payload().into_bytes());
    assert_eq!(site.ledger().lease(&request(UsageType::Adjustment)).unwrap().unwrap().records.len(), 1);
    let events = site.ledger().events(0, 1_000).unwrap();
    let noted: Vec<_> = events.iter().filter(|one| one.entry.what == What::Noted(Note::Restored)).collect();
    assert_eq!((noted.len(), noted[0].entry.detail.as_str()), (1, ADMIN.why));
    site.sound();
    assert_eq!(
        site.ledger().watched_since(NOW + 9).unwrap(),
        Some(NOW + 9 - 14 * 86_400),
        "what was restated since is looked for"
    );
}

#[test]
fn imported_records_whose_names_have_slashes_are_each_kept() {
    let Some(mut site) = Site::new() else { return };
    let sent = |resource: &str, id: &str| SentRecord {
        usage_type: UsageType::Compute,
        resource: resource.into(),
        local_record_id: id.into(),
        submit: 5,
        charge: "1".parse().unwrap(),
        charge_places: 0,
        username: String::new(),
        project: String::new(),
        loaded_at: None,
        line: 1,
    };
    let records = [sent("x", "y/z"), sent("x/y", "z"), sent("x%2Fy", "z"), sent("plain", "7")];
    let done = site.ledger().import_sent(&records, "a table", ADMIN, NOW).unwrap();
    assert_eq!((done.imported, done.known), (4, 0));
    let again = site.ledger().import_sent(&records, "a table", ADMIN, NOW).unwrap();
    assert_eq!((again.imported, again.known), (0, 4));
    assert_eq!(site.ledger().find(&Find::Key("imported/Compute/plain/7/5".into()), 1).unwrap().len(), 1);
    site.sound();
}

#[test]
fn where_compute_records_might_add_up_a_restored_ledger_holds_them_too() {
    let Some(mut site) = Site::new() else { return };
    site.take(&[Run::new(1, "10")]);
    assert_eq!(site.ledger().accept_restored(&UsageType::ALL, ADMIN, NOW).unwrap().held, 1);
    let mut later = Run::new(3, "10");
    later.facts.end = NOW + 1;
    assert_eq!(
        site.take(&[Run::new(2, "10"), later]),
        Ingested { held: 1, inserted: 1, ..Ingested::default() }
    );
    assert_eq!(site.lease(NOW + 9).unwrap().records.len(), 1);
    let _ = site.ledger().restate(&chunk(&[Run::new(2, "10")]), ADMIN, NOW).unwrap();
    assert_eq!(site.state(&Run::new(2, "10")), State::Held, "re-pricing a period is another question");
    site.sound();
}

#[test]
fn an_older_file_undoes_neither_a_newer_version_nor_an_approval() {
    let Some(mut site) = Site::new() else { return };
    let older = [Run::new(1, "10"), Run::new(2, "10")];
    let mut newer = [older[0].restated("12"), older[1].restated("12")];
    newer[0].facts.requeued = true;
    site.take(&older);
    site.send(&RecordOutcome::Accepted, NOW);
    for run in &older {
        site.load(run, "10", NOW + 1);
    }
    assert_eq!(site.take(&newer), Ingested { held: 1, restated: 1, ..Ingested::default() });
    site.ledger().approve(&[newer[0].key.clone()], ADMIN, NOW + 2).unwrap();
    site.send(&RecordOutcome::Accepted, NOW + 3);
    for run in &newer {
        assert_eq!(site.load(run, "12", NOW + 1_000).loaded, 1);
    }
    // Every night reads both files whole; one night the newer one is missing; the older one may come last.
    let both: Vec<Run> = older.iter().chain(&newer).cloned().collect();
    let turned: Vec<Run> = newer.iter().chain(&older).cloned().collect();
    for night in [&both, &both, &turned, &older.to_vec(), &both] {
        let report = site.take(night);
        let unchanged = night.len() as u64 - 2;
        assert_eq!(report, Ingested { outdated: 2, unchanged, ..Ingested::default() });
        assert_eq!(site.lease(NOW + 2_000), None, "nothing is sent again");
    }
    // A person knows better.
    let report = site.ledger().restate(&chunk(&older[1..]), ADMIN, NOW + 3_000).unwrap();
    assert_eq!(report, Ingested { restated: 1, ..Ingested::default() });
    site.sound();
    assert_eq!(site.take(&both), Ingested { outdated: 2, unchanged: 2, ..Ingested::default() });
    let leased = site.lease(NOW + 4_000).unwrap();
    assert_eq!(leased.records[0].payload, older[1].payload().into_bytes());
}

#[test]
fn an_older_file_does_not_win_either_where_nothing_was_sent() {
    let Some(mut site) = Site::new() else { return };
    let (first, second) = (Run::new(1, "10"), Run::new(1, "10").restated("12"));
    let (last, zero) = (second.restated("9"), Run { charge: "0".parse().unwrap(), ..Run::new(2, "7") });
    let sent = Run { source: 9, charge: "7".parse().unwrap(), ..zero.clone() };
    site.take(&[first.clone(), sent.clone()]);
    assert_eq!(
        site.take(&[second.clone(), zero.clone()]),
        Ingested { replaced: 1, superseded: 1, ..Ingested::default() }
    );
    assert_eq!(site.take(&[first.clone(), sent.clone()]).outdated, 2);
    assert_eq!(site.state(&zero), State::Superseded);
    // Held, by mapping: the older one neither asks its question again nor is it let go in its place.
    let unmapped = |run: &Run| held(run, "unknown-project", false);
    assert_eq!(site.ledger().ingest(&unmapped(&last), NOW).unwrap().held, 1);
    for run in [&first, &second] {
        assert_eq!(site.ledger().ingest(&unmapped(run), NOW).unwrap().outdated, 1);
        assert_eq!(site.take(&[run.clone()]).outdated, 1);
        assert_eq!(site.state(run), State::Held);
    }
    assert_eq!(site.take(&[last.clone()]).released, 1);
    let leased = site.lease(NOW).unwrap();
    assert_eq!(leased.records.len(), 1);
    assert_eq!(leased.records[0].payload, last.payload().into_bytes());
}

#[test]
fn what_was_waived_or_asked_before_something_newer_came_is_outdated_too() {
    let Some(mut site) = Site::new() else { return };
    let runs = [Run::new(1, "10"), Run::new(2, "10")];
    site.take(&runs);
    site.send(&RecordOutcome::Accepted, NOW);
    let grown = runs.clone().map(|run| {
        let mut grown = run.restated("12");
        grown.facts.requeued = true;
        grown
    });
    assert_eq!(site.take(&grown).held, 2);
    site.ledger().close_holds(&[grown[0].key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    let newest = grown.clone().map(|run| Run { facts: runs[0].facts, ..run.restated("9") });
    assert_eq!(site.take(&newest).restated, 2);
    assert_eq!(site.take(&runs).outdated, 2);
    assert_eq!(site.take(&grown).outdated, 2, "neither asked again nor taken");
    assert_eq!(site.take(&newest).unchanged, 2);
    assert_eq!(site.ledger().totals().unwrap().held_total, 0);
}

#[test]
fn a_waiver_can_not_be_taken_back_once_the_source_says_something_newer() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=3).map(|number| Run::new(number, "10")).collect();
    site.take(&runs);
    let leased = site.lease(NOW).unwrap();
    let refused = RecordOutcome::Refused("no such user".into());
    let outcomes = [RecordOutcome::Accepted, RecordOutcome::Accepted, refused];
    site.ledger().settle(leased.batch, &outcomes, "", NOW).unwrap();
    for run in &runs {
        let mut grown = run.restated("12");
        grown.facts.requeued = true;
        assert_eq!(site.ledger().ingest(&held(&grown, "above-max-charge", true), NOW).unwrap().held, 1);
        site.ledger().close_holds(&[run.key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    }
    // Another charge; the same record; and nothing at all, of what was refused.
    let newest = [
        Run { source: 3, ..runs[0].restated("9") },
        Run { source: 3, ..runs[1].clone() },
        Run { source: 3, charge: "0".parse().unwrap(), ..runs[2].clone() },
    ];
    let expected = Ingested { restated: 1, unchanged: 1, superseded: 1, ..Ingested::default() };
    assert_eq!(site.take(&newest), expected);
    for run in &runs {
        let reopened = site.ledger().reopen_holds(&[run.key.clone()], ADMIN, NOW);
        assert!(
            matches!(reopened, Err(LedgerError::NoSuchHold { .. })),
            "approved, what it asks would undo what the source says: {reopened:?}"
        );
    }
    site.sound();
}

#[test]
fn an_older_text_of_the_same_record_opens_no_back_door_for_repricing() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let touched = Run { source: 2, ..run.clone() };
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    for _ in 0..2 {
        assert_eq!(site.take(&[run.clone(), touched.clone()]).unchanged, 2, "two sources have it");
    }
    let priced = |run: &Run| Run { charge: "11".parse().unwrap(), ..run.clone() };
    let report = site.take(&[priced(&run), priced(&touched)]);
    assert_eq!((report.outdated, report.drifted, report.restated), (1, 1, 0));
}

#[test]
fn a_run_whose_log_was_incomplete_for_a_night_is_let_go_when_all_of_it_is_read_again() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let part = Run { source: 7, ..run.clone() };
    site.take(&[run.clone()]);
    let half = held(&part, "log-incomplete", false);
    assert_eq!(site.ledger().ingest(&half, NOW).unwrap().held, 1);
    assert_eq!(site.state(&run), State::Held);
    assert_eq!(site.take(&[run.clone()]).released, 1);
    // From here on it is known that the half of it is no news.
    assert_eq!(site.ledger().ingest(&half, NOW).unwrap().outdated, 1);
    assert_eq!(site.state(&run), State::Pending);
}

#[test]
fn an_older_version_does_not_withhold_what_a_newer_one_wants() {
    let Some(mut site) = Site::new() else { return };
    let (older, newer) = (Run::new(1, "10"), Run::new(1, "10").restated("12"));
    site.take(&[older.clone(), newer.clone()]);
    let live = [("cpu.example".to_owned(), newer.facts.end)].into();
    site.ledger().keep_go_live(&live, NOW).unwrap();
    assert_eq!(site.take(&[older]), Ingested { outdated: 1, ..Ingested::default() });
    assert_eq!(site.state(&newer), State::Pending);
}

fn refund(run: &Run, charge: &str) -> Adjustment {
    Adjustment {
        key: format!("{REFUNDS}{}/ticket-{charge}", run.key),
        resource: run.resource.clone(),
        local_record_id: format!("{}-ticket-{charge}", run.id),
        start: run.submit,
        username: run.user.clone(),
        project: run.project.clone(),
        charge: charge.parse().unwrap(),
        payload: format!(r#"{{"AdjustmentType":"refund","LocalRecordID":"{}","Charge":"{charge}"}}"#, run.id)
            .into_bytes(),
        refunds: Some(run.key.clone()),
        file: "".into(),
        line: 0,
    }
}

#[test]
fn a_charge_below_what_was_refunded_is_asked_about() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=4).map(|number| Run::new(number, "10")).collect();
    site.take(&runs);
    site.send(&RecordOutcome::Accepted, NOW);
    for run in &runs {
        site.load(run, "10", NOW + 1);
    }
    let refunds: Vec<_> = runs.iter().take(3).map(|run| refund(run, "8")).collect();
    assert_eq!(site.ledger().adjust(&refunds, ADMIN, NOW + 2).unwrap(), 3);
    let mut repaired = Run { source: 2, charge: "0".parse().unwrap(), ..runs[2].clone() };
    repaired.facts.elapsed = 0;
    let night = [runs[0].restated("5"), runs[1].restated("8"), repaired.clone(), runs[3].restated("5")];
    assert_eq!(site.take(&night), Ingested { held: 2, restated: 2, ..Ingested::default() });
    assert_eq!(
        site.take(&night),
        Ingested { held_again: 2, unchanged: 2, ..Ingested::default() },
        "what was refunded in part may be charged as much, and what was not may be charged less"
    );
    let hold = site.ledger().hold(&runs[0].key).unwrap().unwrap();
    assert_eq!(hold.reason, "below-refund");
    assert!(hold.detail.contains("10") && hold.detail.contains('8') && hold.detail.contains('5'), "{hold:?}");
    // Who approves that it was repaired did not know of the refund.
    let decided = site.ledger().approve(&[repaired.key.clone()], ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.asked_again), (0, 1));
    assert_eq!(site.ledger().hold(&repaired.key).unwrap().unwrap().reason, "below-refund");
    let both = [runs[0].key.clone(), repaired.key.clone()];
    assert_eq!(site.ledger().approve(&both, ADMIN, NOW + 3).unwrap().done, 2);
    site.sound();
    assert_eq!(site.lease(NOW + 4).unwrap().records.len(), 4);
}

#[test]
fn nothing_is_refunded_of_a_run_that_the_service_does_not_hold() {
    let Some(mut site) = Site::new() else { return };
    let (run, other) = (Run::new(1, "10"), Run::new(2, "10"));
    site.take(&[run.clone(), other.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.ledger().confirm(&[failed(&run, "no allocation", "7", None)], NOW + 1).unwrap();
    site.load(&other, "10", NOW + 1);
    let verdicts = |site: &mut Site| {
        let refunds = [refund(&run, "1"), refund(&other, "1")];
        site.ledger().judge_adjustments(&refunds).unwrap()
    };
    assert_eq!(
        verdicts(&mut site),
        [AdjustmentVerdict::NotCharged(Some(State::Failed)), AdjustmentVerdict::New]
    );
    site.ledger().retry(&Retry::Failed(None), ADMIN, NOW + 2).unwrap();
    site.take(&[other.restated("12")]);
    let pending = AdjustmentVerdict::NotCharged(Some(State::Pending));
    assert_eq!(
        verdicts(&mut site),
        [pending, AdjustmentVerdict::New],
        "the one failed, the other is charged"
    );
    site.lease(NOW + 3).unwrap();
    let sending = AdjustmentVerdict::NotCharged(Some(State::Sending));
    assert_eq!(verdicts(&mut site), [sending, AdjustmentVerdict::New]);
}

/// Everything is sent from this run's end on.
fn goes_live_with(site: &mut Site, run: &Run) {
    let live = [("cpu.example".to_owned(), run.facts.end)].into();
    site.ledger().keep_go_live(&live, NOW + 2).unwrap();
}

#[test]
fn what_never_arrived_is_not_sent_again_where_it_ended_before_a_later_go_live() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=2).map(|number| Run::new(number, "10")).collect();
    let late = Run::new(3, "10").restated("10");
    site.take(&[runs[0].clone(), runs[1].clone(), late.clone()]);
    assert_eq!(site.lease(NOW).unwrap().records.len(), 3);
    assert_eq!(site.crash(NOW + 1).records, 3);
    goes_live_with(&mut site, &late);
    let missing = [runs[0].key.clone(), late.key.clone()];
    let decided = site.ledger().resolve_unknown(&missing, false, ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.withheld), (1, 1));
    // What did arrive is charged, whenever it ended.
    let decided = site.ledger().resolve_unknown(&[runs[1].key.clone()], true, ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.withheld), (1, 0));
    site.sound();
    let states = [&runs[0], &runs[1], &late].map(|run| site.state(run));
    assert_eq!(states, [State::Superseded, State::Accepted, State::Pending]);
    assert!(site.words(&runs[0]).ends_with(&["absent", "withheld"]), "{:?}", site.words(&runs[0]));
}

#[test]
fn what_ended_before_a_later_go_live_is_not_sent_by_an_approval_or_a_retry() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=4).map(|number| Run::new(number, "10")).collect();
    let late = Run::new(5, "10").restated("10");
    site.take(&runs[..2]);
    let leased = site.lease(NOW).unwrap();
    let refused = RecordOutcome::Refused("no such user".into());
    site.ledger().settle(leased.batch, &[refused, RecordOutcome::Accepted], "", NOW).unwrap();
    site.ledger().confirm(&[failed(&runs[1], "no allocation", "7", None)], NOW + 1).unwrap();
    for run in [&runs[2], &runs[3], &late] {
        site.ledger().ingest(&held(run, "above-max-charge", true), NOW).unwrap();
    }
    goes_live_with(&mut site, &late);
    let keys = [runs[2].key.clone(), late.key.clone()];
    let decided = site.ledger().approve(&keys, ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.withheld), (1, 1));
    // What the service may hold goes on as ever.
    let keys = [runs[0].key.clone(), runs[1].key.clone()];
    let decided = site.ledger().retry(&Retry::Keys(keys.to_vec()), ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.withheld), (1, 1));
    site.sound();
    let states = [State::Superseded, State::Pending, State::Superseded, State::Held];
    assert_eq!(runs.iter().map(|run| site.state(run)).collect::<Vec<_>>(), states);
    assert_eq!(site.lease(NOW + 4).unwrap().records.len(), 2);
    assert!(site.words(&runs[2]).ends_with(&["withheld"]), "{:?}", site.words(&runs[2]));
    // A person may say otherwise, and the source is read again.
    site.ledger().set_go_live("cpu.example", None, ADMIN, NOW + 5).unwrap();
    site.ledger().ingest(&held(&runs[2], "above-max-charge", true), NOW + 5).unwrap();
    assert_eq!(site.ledger().approve(&[runs[2].key.clone()], ADMIN, NOW + 6).unwrap().done, 1);
    assert_eq!(site.take(&runs[..1]).revived, 1);
}

#[test]
fn what_waits_is_withheld_also_where_it_is_a_person_who_says_a_later_go_live() {
    let Some(mut site) = Site::new() else { return };
    let (early, late) = (Run::new(1, "10"), Run::new(2, "10").restated("10"));
    site.take(&[early.clone(), late.clone()]);
    site.ledger().set_go_live("cpu.example", Some(late.facts.end), ADMIN, NOW + 2).unwrap();
    site.sound();
    assert_eq!([&early, &late].map(|run| site.state(run)), [State::Superseded, State::Pending]);
    // The configuration says the same, and there is nothing left to do for it.
    goes_live_with(&mut site, &late);
    assert_eq!(site.lease(NOW + 3).unwrap().records.len(), 1);
}

#[test]
fn what_was_refused_and_ended_before_a_later_go_live_is_not_sent_by_a_change_or_an_approval() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=3).map(|number| Run::new(number, "10")).collect();
    let late = Run::new(4, "10").restated("10");
    site.take(&runs);
    site.send(&RecordOutcome::Refused("no such user".into()), NOW);
    let asked = Run { source: 2, charge: "900".parse().unwrap(), ..runs[1].clone() };
    assert_eq!(site.ledger().ingest(&held(&asked, "above-max-charge", true), NOW + 1).unwrap().held, 1);
    goes_live_with(&mut site, &late);
    assert!(runs.iter().all(|run| site.state(run) == State::Rejected), "nothing of it waits");
    // Tables changed; a person approves; and nothing changed.
    let other = Run { project: "TG-2".into(), ..runs[0].clone() };
    assert_eq!(site.take(&[other]), Ingested { withheld: 1, ..Ingested::default() });
    let decided = site.ledger().approve(&[asked.key.clone()], ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.withheld), (0, 1));
    assert_eq!(site.take(&[runs[2].clone()]), Ingested { withheld: 1, ..Ingested::default() });
    site.sound();
    assert!(runs.iter().all(|run| site.state(run) == State::Superseded));
    assert_eq!(site.lease(NOW + 4), None);
}

#[test]
fn what_comes_back_after_a_later_go_live_is_not_sent_once_more() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=3).map(|number| Run::new(number, "10")).collect();
    let late = Run::new(4, "10").restated("10");
    let mut night = runs.clone();
    night.push(late.clone());
    site.take(&night);
    let leased = site.lease(NOW).unwrap();
    // Another runner takes in a newer version, and a later go-live, while all of it is on the wire.
    site.take(
        &[runs[1].restated("11"), runs[2].restated("11")].map(|run| Run { facts: runs[1].facts, ..run }),
    );
    goes_live_with(&mut site, &late);
    let never_left = RecordOutcome::NotSent("refused".into());
    let refused = RecordOutcome::Refused("no such user".into());
    let outcomes = [never_left.clone(), refused, RecordOutcome::Accepted, never_left];
    site.ledger().settle(leased.batch, &outcomes, "", NOW + 3).unwrap();
    site.sound();
    let states = [State::Superseded, State::Superseded, State::Accepted, State::Pending];
    assert_eq!([&runs[0], &runs[1], &runs[2], &late].map(|run| site.state(run)), states);
    assert!(site.words(&runs[0]).ends_with(&["not-sent", "withheld"]), "{:?}", site.words(&runs[0]));
}

#[test]
fn what_was_refused_and_then_never_arrived_was_never_taken() {
    let Some(mut site) = Site::new() else { return };
    let (run, late) = (Run::new(1, "10"), Run::new(2, "10").restated("10"));
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Refused("no such user".into()), NOW);
    site.ledger().retry(&Retry::Rejected(None), ADMIN, NOW + 1).unwrap();
    site.send(&unknown(), NOW + 1);
    goes_live_with(&mut site, &late);
    let decided = site.ledger().resolve_unknown(&[run.key.clone()], false, ADMIN, NOW + 3).unwrap();
    assert_eq!((decided.done, decided.withheld), (0, 1));
    assert_eq!(site.state(&run), State::Superseded);
    site.sound();
}

/// A record as the service takes it, so that zero can be made of it.
fn whole(run: &Run) -> Chunk {
    let mut whole = chunk(&[run.clone()]);
    let text = format!(
        r#"{{"Username":"{}","LocalProjectID":"{}","LocalRecordID":"{}","Resource":"{}","SubmitTime":"2023-11-14T22:13:20Z","StartTime":"2023-11-14T22:15:00Z","EndTime":"2023-11-14T23:15:00Z","Charge":"{}","Attributes":{{"NodeCount":1}},"LocalReference":"{}"}}"#,
        run.user, run.project, run.id, run.resource, run.charge, run.key
    );
    whole.records[0].payload = 0..text.len();
    whole.payloads = text.into_bytes();
    whole
}

/// A run on its way to another identity: its zero is accepted. And as it will be known then.
fn moving(site: &mut Site, loads: bool) -> (Run, Run) {
    let run = Run::new(1, "10");
    let renamed = Run { id: "1.c1".into(), ..run.clone() };
    site.ledger().ingest(&whole(&run), NOW).unwrap();
    site.send(&RecordOutcome::Accepted, NOW);
    if loads {
        assert_eq!(site.load(&run, "10", NOW + 1).loaded, 1);
    }
    assert_eq!(site.ledger().restate(&whole(&renamed), ADMIN, NOW + 2).unwrap().restated, 1);
    let quiet = LeaseRequest { quiet_seconds: 1, ..LeaseRequest::new(UsageType::Compute, NOW + 10) };
    let leased = site.ledger().lease(&quiet).unwrap().unwrap();
    assert!(String::from_utf8_lossy(&leased.records[0].payload).contains(r#""Charge":"0""#));
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", NOW + 10).unwrap();
    site.sound();
    (run, renamed)
}

const DAYS: i64 = 30 * 86_400;

#[test]
fn a_record_moves_on_by_quiet_only_where_the_service_shows_no_loads() {
    let Some(mut site) = Site::new() else { return };
    let (run, renamed) = moving(&mut site, true);
    assert_eq!(
        site.ledger().finish_moves(3_600, NOW + DAYS).unwrap(),
        0,
        "its zero may be stuck, and fail yet"
    );
    site.load(&run, "0", NOW + DAYS);
    assert_eq!(site.ledger().finish_moves(3_600, NOW + DAYS + 1).unwrap(), 1);
    site.sound();
    assert_eq!(site.ledger().watched_since(NOW + DAYS + 2).unwrap(), Some(NOW + DAYS + 1));
    site.send(&RecordOutcome::Accepted, NOW + DAYS + 3);
    assert_eq!(site.load(&renamed, "10", NOW + DAYS + 4).loaded, 1);

    // Another run's load, or another sender's, says so too.
    for load in [None, Some("2"), Some("77")] {
        let Some(mut site) = Site::new() else { return };
        let other = Run::new(2, "3");
        moving(&mut site, false);
        site.ledger().ingest(&whole(&other), NOW).unwrap();
        site.send(&RecordOutcome::Accepted, NOW + 11);
        if let Some(id) = load {
            site.load(&Run { id: id.into(), ..other }, "3", NOW + 12);
        }
        let moved = site.ledger().finish_moves(3_600, NOW + DAYS).unwrap();
        assert_eq!(moved, u64::from(load.is_none()), "{load:?}");
    }
}

#[test]
fn what_is_charged_under_an_identity_that_was_left_is_an_alarm() {
    let Some(mut site) = Site::new() else { return };
    let (run, _) = moving(&mut site, true);
    site.load(&run, "0", NOW + 20);
    assert_eq!(site.ledger().finish_moves(3_600, NOW + 30).unwrap(), 1);
    for (charge, at, alarm) in
        [("0", NOW + 20, 0), ("10", NOW + 1, 0), ("10", NOW + 40, 1), ("10", NOW + 40, 1)]
    {
        let report = site.load(&run, charge, at);
        assert_eq!((report.mismatched, report.again, report.foreign), (alarm, 1 - alarm, 0), "{charge} {at}");
    }
    assert_eq!(site.ledger().news().unwrap().mismatched, 1, "noted once");
    let failure = failed(&run, "no allocation", "7", None);
    assert_eq!(site.ledger().confirm(&[failure.clone()], NOW + 50).unwrap().mismatched, 0, "zero was loaded");
    assert_eq!(site.load(&Run { id: "9".into(), ..run.clone() }, "1", NOW + 50).foreign, 1);

    // Moved on by quiet: that its zero failed after all is known when the service says so.
    let Some(mut site) = Site::new() else { return };
    let (run, _) = moving(&mut site, false);
    assert_eq!(site.ledger().finish_moves(3_600, NOW + DAYS).unwrap(), 1);
    assert_eq!(site.ledger().confirm(&[failure], NOW + DAYS + 1).unwrap().mismatched, 1);
    assert_eq!(site.load(&run, "10", NOW + 15).mismatched, 1);
    site.sound();
}

#[test]
fn after_an_approval_the_loads_of_the_version_before_are_looked_for_too() {
    let Some(mut site) = Site::new() else { return };
    let (run, new) = (Run::new(1, "10"), Run::new(2, "10"));
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.load(&run, "10", NOW + 1);
    site.ledger().ingest(&held(&new, "above-max-charge", true), NOW).unwrap();
    site.ledger().approve(&[new.key.clone()], ADMIN, NOW + 2).unwrap();
    assert_eq!(site.ledger().watched_since(NOW + 3).unwrap(), None, "there is no version before");
    let mut grown = run.restated("12");
    grown.facts.requeued = true;
    assert_eq!(site.take(&[grown.clone()]).held, 1);
    assert_eq!(site.ledger().watched_since(NOW + 3).unwrap(), None);
    site.ledger().approve(&[grown.key.clone()], ADMIN, NOW + 4).unwrap();
    assert_eq!(site.ledger().watched_since(NOW + 5).unwrap(), Some(NOW + 4));
}

#[test]
fn what_is_refused_is_news_however_many_of_a_message_are() {
    for refused in 1..=3 {
        let Some(mut site) = Site::new() else { return };
        let runs: Vec<Run> = (1..=3).map(|number| Run::new(number, "10")).collect();
        site.take(&runs);
        let leased = site.lease(NOW).unwrap();
        let outcomes: Vec<RecordOutcome> = (1..=3)
            .map(|number| match number <= refused {
                true => RecordOutcome::Refused("no such user".into()),
                false => RecordOutcome::Accepted,
            })
            .collect();
        site.ledger().settle(leased.batch, &outcomes, "HTTP 200", NOW).unwrap();
        site.sound();
        assert_eq!(site.ledger().news().unwrap().refused, refused, "{refused}");
        let history = site.ledger().history(&runs[0].key).unwrap();
        assert!(history.last().unwrap().detail.ends_with("no such user"), "{history:?}");
    }
}

#[test]
fn what_happens_while_a_runner_reports_is_news_for_the_next() {
    let Some(mut site) = Site::new() else { return };
    let (one, other) = (Run::new(1, "10"), Run::new(2, "10"));
    let text = |text: &str| {
        let text = QuarantinedText {
            reason: "columns".into(),
            detail: "18 of 19".into(),
            text: text.into(),
            file: 0,
            line: 1,
        };
        Chunk { quarantined: vec![text], ..chunk(&[]) }
    };
    site.ledger().ingest(&held(&one, "unknown-user", false), NOW).unwrap();
    site.ledger().ingest(&text("a|b"), NOW).unwrap();
    let first = site.ledger().news().unwrap();
    assert_eq!((first.held, first.quarantined, first.is_empty()), (1, 1, false));
    // Another runner, or another host.
    site.ledger().ingest(&held(&other, "unknown-user", false), NOW).unwrap();
    site.ledger().ingest(&text("c"), NOW).unwrap();
    site.ledger().mark_reported(&first).unwrap();
    let second = site.ledger().news().unwrap();
    assert_eq!((second.held, second.quarantined), (1, 1));
    site.ledger().mark_reported(&second).unwrap();
    // Whoever was slower takes nothing back.
    site.ledger().mark_reported(&first).unwrap();
    assert!(site.ledger().news().unwrap().is_empty());
}

#[test]
fn a_question_about_what_the_source_has_taken_back_is_closed_also_where_the_charge_is_as_before() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.load(&run, "10", NOW + 1);
    let mut grown = run.restated("12");
    grown.facts.requeued = true;
    assert_eq!(site.take(&[grown.clone()]).held, 1);
    // It was no requeue after all: the record is what was sent.
    let taken_back = Run { source: 9, ..run.clone() };
    assert_eq!(site.take(&[taken_back.clone()]).unchanged, 1);
    assert_eq!(site.ledger().totals().unwrap().held_total, 0, "approved, it would undo what the source says");
    assert_eq!(
        site.take(&[run, grown, taken_back]),
        Ingested { outdated: 1, unchanged: 2, ..Ingested::default() }
    );
}

fn sent_before(run: &Run, charge: &str, charge_places: u8) -> SentRecord {
    SentRecord {
        usage_type: run.usage_type,
        resource: run.resource.to_string(),
        local_record_id: run.id.clone(),
        submit: run.submit,
        charge: charge.parse().unwrap(),
        charge_places,
        username: String::new(),
        project: String::new(),
        loaded_at: Some(NOW - 1_000),
        line: 1,
    }
}

#[test]
fn an_imported_charge_is_compared_to_the_digits_that_were_given() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=3).map(|number| Run::new(number, "12.4")).collect();
    // A whole number may be a rounded one; `12.00` is 12. (It comes as 12: trailing zeros are no part of a number.)
    let sent =
        [sent_before(&runs[0], "12", 0), sent_before(&runs[1], "12.00", 2), sent_before(&runs[2], "12.4", 1)];
    assert_eq!(site.ledger().import_sent(&sent, "sent.csv", ADMIN, NOW).unwrap().imported, 3);
    assert_eq!(site.take(&runs).adopted, 3);
    let drifted: Vec<bool> = runs
        .iter()
        .map(|run| site.ledger().find(&Find::Key(run.key.clone()), 1).unwrap().remove(0).drifted)
        .collect();
    assert_eq!(drifted, [false, true, false]);
    assert_eq!(site.ledger().news().unwrap().drifted, 1);
}

#[test]
fn a_run_of_zero_charge_takes_over_what_was_sent_of_it_and_is_said() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=4).map(|number| Run::new(number, "0")).collect();
    let others: Vec<Run> = (5..=8).map(|number| Run::new(number, "1")).collect();
    site.ledger().ingest(&held(&runs[2], "unknown-project", false), NOW).unwrap();
    let sent = [sent_before(&runs[0], "5", 0), sent_before(&runs[1], "0", 0), sent_before(&runs[2], "7", 0)];
    assert_eq!(site.ledger().import_sent(&sent, "sent.csv", ADMIN, NOW).unwrap().imported, 3);
    let night: Vec<Run> = runs.iter().chain(&others).cloned().collect();
    assert_eq!(site.take(&night), Ingested { adopted: 3, ignored: 1, inserted: 4, ..Ingested::default() });
    assert_eq!(site.ledger().news().unwrap().drifted, 2, "charged, and should not have been");
    let report = site.take(&night);
    assert_eq!((report.drifted, report.unchanged, report.ignored), (2, 5, 1));
    // A person has it put right.
    let report = site.ledger().restate(&chunk(&runs), ADMIN, NOW + 1).unwrap();
    assert_eq!((report.restated, report.unchanged, report.ignored), (2, 1, 1));
    site.sound();
    let zeros = site.lease(NOW + 2).unwrap().records;
    assert_eq!(zeros.len(), 6);
    assert_eq!(zeros[0].payload, runs[0].payload().into_bytes());
}

#[test]
fn what_waits_or_was_refused_is_not_sent_where_another_program_sent_it() {
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<Run> = (1..=4).map(|number| Run::new(number, "10")).collect();
    site.take(&runs[..2]);
    let leased = site.lease(NOW).unwrap();
    let refused = RecordOutcome::Refused("no such user".into());
    site.ledger().settle(leased.batch, &[refused, RecordOutcome::Accepted], "", NOW).unwrap();
    site.take(&runs[2..]);
    // A question beside what was refused is answered, too.
    let asked = Run { source: 2, charge: "900".parse().unwrap(), ..runs[0].clone() };
    assert_eq!(site.ledger().ingest(&held(&asked, "above-max-charge", true), NOW).unwrap().held, 1);
    let sent =
        [("10", 0), ("12", 1), ("10", 2), ("12", 3)].map(|(charge, at)| sent_before(&runs[at], charge, 0));
    for (imported, known) in [(3, 1), (0, 4)] {
        let told = site.ledger().import_sent(&sent, "sent.csv", ADMIN, NOW + 1).unwrap();
        assert_eq!((told.imported, told.known), (imported, known), "what we sent ourselves is ours");
        site.sound();
    }
    let states = [State::Loaded, State::Accepted, State::Loaded, State::Loaded];
    assert_eq!(runs.iter().map(|run| site.state(run)).collect::<Vec<_>>(), states);
    assert_eq!((site.lease(NOW + 2), site.ledger().totals().unwrap().held_total), (None, 0));
    assert_eq!(site.ledger().news().unwrap().drifted, 1, "another charge is said");
    assert_eq!(site.take(&runs[1..]), Ingested { unchanged: 2, drifted: 1, ..Ingested::default() });
    // A person has it put right.
    let restated = site.ledger().restate(&chunk(&runs[3..]), ADMIN, NOW + 3).unwrap();
    assert_eq!(restated, Ingested { restated: 1, ..Ingested::default() });
    assert_eq!(site.lease(NOW + 4).unwrap().records[0].payload, runs[3].payload().into_bytes());
}

#[test]
fn neither_a_brake_nor_a_refusal_keeps_a_run_from_being_what_another_program_sent() {
    let Some(mut site) = Site::new() else { return };
    let (braked, refused) = (Run::new(1, "900"), Run::new(2, "10"));
    site.take(&[refused.clone()]);
    site.send(&RecordOutcome::Refused("no such resource".into()), NOW);
    let renamed = Run { id: "2.server".into(), ..refused };
    let sent = [sent_before(&braked, "900", 0), sent_before(&renamed, "10", 0)];
    assert_eq!(site.ledger().import_sent(&sent, "sent.csv", ADMIN, NOW + 1).unwrap().imported, 2);
    let report = site.ledger().ingest(&held(&braked, "above-max-charge", true), NOW + 2).unwrap();
    assert_eq!(report, Ingested { adopted: 1, ..Ingested::default() });
    assert_eq!(site.take(&[renamed.clone()]), Ingested { adopted: 1, ..Ingested::default() });
    assert_eq!([&braked, &renamed].map(|run| site.state(run)), [State::Loaded; 2]);
    assert_eq!((site.lease(NOW + 3), site.ledger().totals().unwrap().held_total), (None, 0));
}
