//! From one identity to another, and what may come between: never two charges, and none that is forgotten.

use super::super::{ADMIN, NOW, Run, chunk, failed, held, loaded};
use super::Site;
use runner::ledger::{LedgerError, RecordOutcome, Retry, State};

/// The same run by another id.
fn renamed(run: &Run) -> Run {
    Run { id: "other".into(), ..run.clone() }
}

/// A run that was loaded, and a person approved its new id: zero is to be sent under the old one.
fn moving() -> Option<(Site, Run)> {
    let mut site = Site::new()?;
    let run = Run::new(1, "10").whole();
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.load(&run, "10", NOW + 1);
    restate(&mut site, &renamed(&run));
    assert_eq!(reason(&mut site, &run), Some("moving".to_owned()));
    Some((site, run))
}

fn restate(site: &mut Site, run: &Run) {
    site.ledger().restate(&chunk(&[run.clone()]), ADMIN, NOW + 2).unwrap();
    site.sound();
}

/// The reason of the open hold of a run.
fn reason(site: &mut Site, run: &Run) -> Option<String> {
    let hold = site.ledger().hold(&run.key).unwrap()?;
    hold.closed.is_none().then_some(hold.reason)
}

/// What is sent next is this record alone.
fn sends(site: &mut Site, run: &Run, at: i64) {
    let leased = site.lease(at).unwrap();
    let payloads: Vec<_> =
        leased.records.iter().map(|record| String::from_utf8(record.payload.clone()).unwrap()).collect();
    assert_eq!(payloads, [run.payload()]);
    site.ledger().settle(leased.batch, &[RecordOutcome::Accepted], "", at).unwrap();
    site.sound();
}

/// Zero is sent under the old id and loaded; the record goes on under its new one.
fn arrives(site: &mut Site, old: &Run, new: &Run) {
    assert_eq!(site.ledger().finish_moves(u32::MAX, NOW + 1_000).unwrap(), 0, "zero was not sent yet");
    sends(site, &Run { charge: "0".parse().unwrap(), facts: new.facts, ..old.clone() }, NOW + 1_000);
    assert_eq!(site.ledger().finish_moves(u32::MAX, NOW + 1_001).unwrap(), 0, "zero is not loaded yet");
    site.load(old, "0", NOW + 1_002);
    assert_eq!(site.ledger().finish_moves(u32::MAX, NOW + 1_003).unwrap(), 1);
    sends(site, new, NOW + 2_000);
    assert_eq!(site.load(new, &new.charge.to_string(), NOW + 2_001).loaded, 1);
}

#[test]
fn zero_goes_first_and_the_charge_when_it_is_loaded() {
    let Some((mut site, run)) = moving() else { return };
    arrives(&mut site, &run, &renamed(&run));
    assert_eq!(reason(&mut site, &run), None);
}

#[test]
fn what_the_source_says_meanwhile_is_what_goes_on_under_the_new_identity() {
    let Some((mut site, run)) = moving() else { return };
    let newer = renamed(&run.restated("12"));
    assert_eq!(site.take(&[newer.clone()]).held_again, 1);
    // Zero was made before: its times are those of then.
    sends(&mut site, &Run { charge: "0".parse().unwrap(), ..run.clone() }, NOW + 1_000);
    site.load(&run, "0", NOW + 1_002);
    assert_eq!(site.ledger().finish_moves(u32::MAX, NOW + 1_003).unwrap(), 1);
    sends(&mut site, &newer, NOW + 2_000);
}

#[test]
fn a_run_that_can_not_be_mapped_any_more_is_moved_all_the_same() {
    let Some((mut site, run)) = moving() else { return };
    let unmapped = held(&run.restated("12"), "unknown-project", false);
    assert_eq!(site.ledger().ingest(&unmapped, NOW + 3).unwrap().held_again, 1);
    arrives(&mut site, &run, &renamed(&run));
}

#[test]
fn a_false_change_of_the_source_does_not_take_the_place_of_a_move() {
    let Some((mut site, run)) = moving() else { return };
    // The template is put back, and the run was requeued after it had ended.
    let mut grown = run.restated("12");
    grown.facts.requeued = true;
    site.take(&[grown]);
    assert_eq!(reason(&mut site, &run), Some("moving".to_owned()));
    let waived = site.ledger().close_holds(&[run.key.clone()], runner::ledger::HoldEnd::Waived, ADMIN, NOW);
    assert!(matches!(waived, Err(LedgerError::Moving(_))), "waived, the charge would stay zero: {waived:?}");
    arrives(&mut site, &run, &renamed(&run));
}

#[test]
fn a_run_that_used_nothing_after_all_and_has_its_old_identity_again_ends_its_move() {
    let Some((mut site, run)) = moving() else { return };
    // The same record as the zero that is under way: only what the source says, and is not in the record, differs.
    let nothing = Run { charge: "0".parse().unwrap(), source: 2, ..run.clone() };
    assert_eq!(site.take(&[nothing.clone()]).unchanged, 1);
    assert_eq!(reason(&mut site, &run), None);
    sends(&mut site, &nothing, NOW + 1_000);
    site.load(&run, "0", NOW + 1_002);
    assert_eq!(site.ledger().finish_moves(u32::MAX, NOW + 1_003).unwrap(), 0);
    assert_eq!(site.lease(NOW + 2_000), None, "a charge that nobody owes");
}

#[test]
fn a_failure_from_before_an_identity_changed_hands_fails_nobody() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10").whole();
    site.take(&[run.clone()]);
    site.send(&RecordOutcome::Accepted, NOW);
    // The service does not say when it failed, and shows it until somebody acknowledges it.
    let failure = failed(&run, "no allocation", "7", None);
    assert_eq!(site.ledger().confirm(&[failure.clone()], NOW + 1).unwrap().failed, 1);
    restate(&mut site, &renamed(&run));
    site.ledger().retry(&Retry::Failed(None), ADMIN, NOW + 3).unwrap();
    arrives(&mut site, &run, &renamed(&run));
    // Another run has the first one's old id now.
    let heir = Run { id: run.id.clone(), ..Run::new(2, "3").whole() };
    site.take(&[heir.clone()]);
    sends(&mut site, &heir, NOW + 3_000);
    let told = site.ledger().confirm(&[failure], NOW + 3_001).unwrap();
    assert_eq!((told.failed, told.stale), (0, 1), "{told:?}");
    assert_eq!(site.state(&heir), State::Accepted);
    let told = site.ledger().confirm(&[loaded(&heir, "3", NOW + 3_002)], NOW + 3_002).unwrap();
    assert_eq!(told.loaded, 1);
}
