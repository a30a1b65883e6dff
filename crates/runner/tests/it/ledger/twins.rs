//! One run from two sources whose times are of two zones: it is not charged twice.

use super::super::{ADMIN, NOW, Run, held};
use super::Site;
use runner::ledger::{Decided, HoldEnd, RecordOutcome, SourceFacts, State};

/// The same run, all of whose times are off by so many seconds.
fn off_by(run: &Run, seconds: i64) -> Run {
    let submit = run.submit + seconds;
    let SourceFacts { start, end, .. } = run.facts;
    let (job, _) = run.key.rsplit_once('/').unwrap();
    Run {
        key: format!("{job}/{submit}"),
        submit,
        facts: SourceFacts { start: start + seconds, end: end + seconds, ..run.facts },
        ..run.clone()
    }
}

#[test]
fn a_run_that_is_known_by_other_times_is_held() {
    // Seven hours: Denver's times taken for UTC. A quarter hour: nobody's zone, but zones are made of them.
    for seconds in [7 * 3600, -7 * 3600, 900, 26 * 3600] {
        let Some(mut site) = Site::new() else { return };
        let run = Run::new(1, "10");
        site.take(&[run.clone()]);
        let other = off_by(&run, seconds);
        let report = site.take(&[other.clone()]);
        assert_eq!((report.inserted, report.held), (0, 1), "{seconds}");
        assert_eq!((site.state(&run), site.state(&other)), (State::Pending, State::Held));
        let hold = site.ledger().holds(None, "", 9).unwrap().remove(0);
        assert_eq!(hold.reason, "known-by-other-times");
        assert!(hold.detail.contains(&run.key), "{}", hold.detail);
        // Read again, it stays held; a person may know better.
        assert_eq!(site.take(&[other.clone()]).inserted, 0);
        assert_eq!(site.state(&other), State::Held);
        site.ledger().approve(std::slice::from_ref(&other.key), ADMIN, NOW).unwrap();
        site.sound();
        assert_eq!(site.state(&other), State::Pending);
    }
}

/// The same run, whose times are off by so many seconds each.
fn off_each(run: &Run, submit: i64, start: i64, end: i64) -> Run {
    let SourceFacts { start: started, end: ended, .. } = run.facts;
    let facts = SourceFacts { start: started + start, end: ended + end, ..run.facts };
    Run { facts, ..off_by(run, submit) }
}

const HOUR: i64 = 3600;

#[test]
fn a_run_over_a_change_of_daylight_saving_is_known_by_other_times_too() {
    for (submit, start, end) in [
        // Denver taken for UTC: submitted in winter, run in summer; and the night of the change itself, both ways.
        (7 * HOUR, 6 * HOUR, 6 * HOUR),
        (7 * HOUR, 7 * HOUR, 6 * HOUR),
        (6 * HOUR, 7 * HOUR, 7 * HOUR),
        (6 * HOUR, 6 * HOUR, 7 * HOUR),
        // Lord Howe Island moves its clocks by half an hour.
        (-11 * HOUR, -10 * HOUR - 1800, -10 * HOUR - 1800),
    ] {
        let Some(mut site) = Site::new() else { return };
        let run = Run::new(1, "10");
        site.take(&[run.clone()]);
        let report = site.take(&[off_each(&run, submit, start, end)]);
        assert_eq!((report.inserted, report.held), (0, 1), "{submit} {start} {end}");
    }
    for (submit, start, end) in [
        (7 * HOUR, 5 * HOUR, 5 * HOUR),
        (7 * HOUR, 8 * HOUR, 6 * HOUR),
        (7 * HOUR, 6 * HOUR + 900, 6 * HOUR + 900),
    ] {
        let Some(mut site) = Site::new() else { return };
        let run = Run::new(1, "10");
        site.take(&[run.clone()]);
        let report = site.take(&[off_each(&run, submit, start, end)]);
        assert_eq!((report.inserted, report.held), (1, 0), "{submit} {start} {end}: no clock does that");
    }
}

#[test]
fn all_runs_of_a_job_are_compared_however_many_there_are() {
    for before in [150, 1_500] {
        let Some(mut site) = Site::new() else { return };
        // A job that was put back into the queue every minute, days before and after, and was left alone once.
        let run = Run::new(1, "10");
        let others = (1..=before).map(|minute| {
            let mut other = off_by(&run, -60 * minute);
            other.facts.requeued = true;
            other
        });
        let mut runs: Vec<Run> = others.collect();
        runs.push(run.clone());
        assert_eq!(site.take(&runs).inserted, runs.len() as u64);
        let mut later = off_by(&run, 25 * HOUR);
        later.facts.requeued = true;
        let report = site.take(&[off_by(&run, 7 * HOUR), later]);
        assert_eq!((report.inserted, report.held), (1, 1), "{before}");
    }
}

#[test]
fn both_in_one_chunk_or_among_many_are_found_too() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let report = site.take(&[run.clone(), off_by(&run, 3600), Run::new(2, "1")]);
    assert_eq!((report.inserted, report.held), (2, 1));
    let Some(mut site) = Site::new() else { return };
    let runs: Vec<_> = (1..400).map(|number| Run::new(number, "10")).collect();
    site.take(&runs);
    let others: Vec<_> = runs.iter().map(|run| off_by(run, -6 * 3600)).chain([Run::new(500, "1")]).collect();
    let report = site.take(&others);
    assert_eq!((report.inserted, report.held), (1, 399));
}

#[test]
fn other_runs_of_a_job_are_other_runs() {
    let run = Run::new(1, "10");
    let hour = off_by(&run, 3600);
    let facts = |facts: SourceFacts| Run { facts, ..hour.clone() };
    for (what, other) in [
        ("no quarter hour", off_by(&run, 3601)),
        ("too far for any zone", off_by(&run, 27 * 3600)),
        ("another time to wait", facts(SourceFacts { start: hour.facts.start + 1, ..hour.facts })),
        ("another end", facts(SourceFacts { end: hour.facts.end + 1, ..hour.facts })),
        ("another elapsed", facts(SourceFacts { elapsed: 3599, ..hour.facts })),
        // A scrontab job runs every quarter hour under one id.
        ("put back into the queue", facts(SourceFacts { requeued: true, ..hour.facts })),
        (
            "another job",
            Run { key: hour.key.replace("00000001/", "00000002/"), id: "2".into(), ..hour.clone() },
        ),
        ("another cluster", Run { key: hour.key.replace("/c1/", "/c2/"), id: "3".into(), ..hour.clone() }),
    ] {
        let Some(mut site) = Site::new() else { return };
        site.take(&[run.clone()]);
        let report = site.take(&[other]);
        assert_eq!((report.inserted, report.held), (1, 0), "{what}");
    }
}

/// The reason of the open hold of a run.
fn asked(site: &mut Site, run: &Run) -> Option<String> {
    let hold = site.ledger().hold(&run.key).unwrap()?;
    hold.closed.is_none().then_some(hold.reason)
}

const OTHER_TIMES: Option<&str> = Some("known-by-other-times");

#[test]
fn a_brake_does_not_let_a_run_pass_that_is_known_by_other_times() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let other = off_by(&run, 7 * 3600);
    site.take(&[run]);
    let braked = held(&other, "above-max-charge", true);
    for _ in 0..2 {
        site.ledger().ingest(&braked, NOW).unwrap();
        site.sound();
        assert_eq!(asked(&mut site, &other).as_deref(), OTHER_TIMES, "that is the question");
    }
    // Waived once, it is not asked of the brake.
    site.ledger().close_holds(&[other.key.clone()], HoldEnd::Waived, ADMIN, NOW).unwrap();
    assert_eq!(site.ledger().ingest(&braked, NOW).unwrap().waived, 1);
    // The other way round: the one that the brake holds was there first.
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    site.ledger().ingest(&braked, NOW).unwrap();
    assert_eq!(site.take(&[run.clone()]).held, 1);
    assert_eq!(asked(&mut site, &run).as_deref(), OTHER_TIMES);
    let decided = site.ledger().approve(&[other.key.clone()], ADMIN, NOW).unwrap();
    assert_eq!(decided, Decided { done: 1, ..Decided::default() }, "the other one of the two waits");
    assert_eq!((site.state(&run), site.state(&other)), (State::Held, State::Pending));
}

#[test]
fn approving_a_brake_asks_again_where_the_run_is_known_by_other_times_since() {
    let Some(mut site) = Site::new() else { return };
    let mut run = Run::new(1, "10");
    let (other, free) = (off_by(&run, 7 * 3600), Run::new(2, "10"));
    run.facts.elapsed -= 60;
    run.facts.end -= 60;
    site.take(&[run.clone()]);
    for run in [&other, &free] {
        site.ledger().ingest(&held(run, "above-max-charge", true), NOW).unwrap();
    }
    assert_eq!(site.take(&[run.restated("11")]).replaced, 1);
    let keys = [other.key.clone(), free.key.clone()];
    let decided = site.ledger().approve(&keys, ADMIN, NOW).unwrap();
    site.sound();
    assert_eq!(decided, Decided { done: 1, asked_again: 1, ..Decided::default() });
    assert_eq!((site.state(&other), site.state(&free)), (State::Held, State::Pending));
    // Whatever is read of it meanwhile, the question stays, and a person may know better.
    site.ledger().ingest(&held(&other, "above-max-charge", true), NOW).unwrap();
    assert_eq!(asked(&mut site, &other).as_deref(), OTHER_TIMES);
    assert_eq!(site.ledger().approve(&keys[..1], ADMIN, NOW).unwrap().done, 1);
    assert_eq!(site.state(&other), State::Pending);
}

#[test]
fn a_run_that_is_wanted_again_or_changes_while_it_waits_may_be_known_by_other_times() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let other = off_by(&run, 7 * 3600);
    site.ledger().ingest(&held(&other, "unknown-project", false), NOW).unwrap();
    site.ledger().close_holds(&[other.key.clone()], HoldEnd::Skipped, ADMIN, NOW).unwrap();
    assert_eq!(site.take(&[run.clone()]).inserted, 1);
    assert_eq!(site.take(&[other.clone()]).held, 1);
    assert_eq!(asked(&mut site, &other).as_deref(), OTHER_TIMES);
    // Its source is corrected in the one zone before the other: it is the same run as before.
    assert_eq!(site.take(&[other.restated("12")]).held_again, 1);
    assert_eq!(asked(&mut site, &other).as_deref(), OTHER_TIMES);
    assert_eq!(site.lease(NOW).unwrap().records.len(), 1);
}

#[test]
fn what_a_person_is_asked_about_is_known_too() {
    let Some(mut site) = Site::new() else { return };
    let run = Run::new(1, "10");
    let grown = run.restated("12");
    site.take(&[run]);
    site.send(&RecordOutcome::Accepted, NOW);
    site.ledger().ingest(&held(&grown, "above-max-charge", true), NOW).unwrap();
    let report = site.take(&[off_by(&grown, 7 * 3600)]);
    assert_eq!(
        (report.inserted, report.held),
        (0, 1),
        "sent, it would be charged twice once that is approved"
    );
}
