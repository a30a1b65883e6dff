//! One run from two sources whose times are of two zones: it is not charged twice.

use super::super::{ADMIN, NOW, Run};
use super::Site;
use runner::ledger::{SourceFacts, State};

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
