//! One run from two sources whose times are of two zones: it is not charged twice.

use super::{ADMIN, NOW, Run, Site};
use runner::ledger::{Ledger, SourceFacts, State};

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
        let mut site = Site::new();
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

#[test]
fn both_in_one_chunk_or_among_many_are_found_too() {
    let mut site = Site::new();
    let run = Run::new(1, "10");
    let report = site.take(&[run.clone(), off_by(&run, 3600), Run::new(2, "1")]);
    assert_eq!((report.inserted, report.held), (2, 1));
    let mut site = Site::new();
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
        let mut site = Site::new();
        site.take(&[run.clone()]);
        let report = site.take(&[other]);
        assert_eq!((report.inserted, report.held), (1, 0), "{what}");
    }
}
