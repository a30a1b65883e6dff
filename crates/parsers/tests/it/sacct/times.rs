//! Times: zones, offsets, the night when the clock was put back.

use super::*;
use parsers::Finding;
use parsers::sacct::Options;
use parsers::time::Zone;

fn in_zone(text: &[u8], zone: chrono_tz::Tz) -> Layout {
    Layout::lenient(header(text), &Options { zone, ..options_for(text) }).unwrap()
}

/// The job, and submit, start and end, of all runs.
fn times(found: &Sorted<'_>) -> Vec<(String, [Option<i64>; 3])> {
    found.runs.iter().map(|run| (run.job_id.to_string(), [run.submit, run.start, run.end])).collect()
}

#[test]
fn local_times_of_a_zone_are_the_epoch_times_of_the_table() {
    for version in VERSIONS {
        let table = tsv(&format!("expected/slurm-{version}-runs.tsv"));
        let text = fixture(&format!("slurm/{version}/P-times-ny.txt"));
        let found = understand(&in_zone(&text, chrono_tz::America::New_York), &text);
        assert_eq!(found.runs.len(), 102);
        for run in &found.runs {
            let same = |row: &&HashMap<String, String>| {
                row["job_id"] == *run.job_id && row["submit"].parse().ok() == run.submit
            };
            let row = table
                .iter()
                .find(same)
                .unwrap_or_else(|| panic!("{version}: {} {:?}", run.job_id, run.submit));
            assert_eq!(run.start.map(|start| start.to_string()).unwrap_or_default(), row["start"]);
            assert!(run.end.is_none() || run.end.map(|end| end.to_string()).as_ref() == Some(&row["end"]));
        }
    }
}

#[test]
fn offsets_are_obeyed_and_22_05_loses_them() {
    for version in VERSIONS {
        let ny = fixture(&format!("slurm/{version}/P-times-ny.txt"));
        let wide = fixture(&format!("slurm/{version}/P-times-offset-wide.txt"));
        let cut = fixture(&format!("slurm/{version}/P-times-offset.txt"));
        let expected = times(&understand(&in_zone(&ny, chrono_tz::America::New_York), &ny));
        // With an offset the configured zone does not matter.
        assert_eq!(times(&understand(&in_zone(&wide, chrono_tz::Asia::Tokyo), &wide)), expected);
        // 22.05 cuts `2026-11-23T04:35:40-0500` to 19 characters: the time reads as a local one, right in its own zone only.
        let as_tokyo = times(&understand(&in_zone(&cut, chrono_tz::Asia::Tokyo), &cut));
        assert_eq!(as_tokyo == expected, version != "22.05");
        assert_eq!(times(&understand(&in_zone(&cut, chrono_tz::America::New_York), &cut)), expected);
    }
}

#[test]
fn relative_times_are_refused_row_by_row() {
    let text = fixture("slurm/22.05/P-times-relative.txt");
    let found = understand(&lenient(&text), &text);
    assert!(found.runs.iter().all(|run| run.submit.is_some()), "no time is made up");
    assert!(found.quarantined.iter().all(|bad| is_value_of(&bad.reason, "Submit")));
    assert_eq!((found.runs.len(), found.quarantined.len()), (0, lines(&text) - 1));
}

/// The real rows of two real clusters, shown in a zone whose clock goes back in the middle of them.
#[test]
fn elapsed_tells_the_two_hours_of_the_night_when_the_clock_goes_back() {
    for (version, change) in [("22.05", 1_795_426_571), ("24.05", 1_795_427_153)] {
        let file = fixture(&format!("slurm/{version}/P-dst-back.txt"));
        let text = &file[header(&file).len() + 1..]; // the first line is a remark
        let remark = String::from_utf8_lossy(header(&file)).into_owned();
        let said =
            chrono::DateTime::from_timestamp(change, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        assert!(remark.ends_with(&said), "{remark}");

        let found = understand(&lenient(text).in_zone(Zone::from_changes(3600, &[(change, 0)])), text);
        let table = tsv(&format!("expected/slurm-{version}-runs.tsv"));
        let in_table = |run: &Run<'_>, exact: bool| {
            let same = |row: &&HashMap<String, String>| {
                let times = [("submit", run.submit), ("start", run.start), ("end", run.end)];
                row["job_id"] == *run.job_id
                    && times.iter().all(|(column, time)| {
                        let table: Option<i64> = row[*column].parse().ok();
                        let ended_after_the_dump = *column == "end" && table.is_none();
                        let off = table.zip(*time).map_or(0, |(table, time)| (table - time).abs());
                        table == *time || !exact && (ended_after_the_dump || off == 3600)
                    })
            };
            table.iter().any(|row| same(&row))
        };
        let (decided, ambiguous): (Vec<_>, Vec<_>) = found.runs.iter().partition(|run| run.finding.is_none());
        let misread: Vec<_> =
            decided.iter().filter(|run| !in_table(run, true)).map(|run| run.job_id.to_string()).collect();
        // The one that cannot be told: 22.05 lets the second part of a resized job start before it is submitted, here in the hour
        // that came twice, so that its submission looks like the hour before.
        assert_eq!(misread, if version == "22.05" { &["92"][..] } else { &[] }, "{version}");
        // What is not decided is off by the hour at most, and says so.
        for run in &ambiguous {
            assert!(
                matches!(run.finding, Some(Finding::AmbiguousSubmit | Finding::AmbiguousTime)),
                "{run:?}"
            );
            assert!(in_table(run, false), "{version}: {run:?}");
        }
        // Those that ran across the change end before they start in the text, and are decided to the second.
        let across: Vec<_> =
            found.runs.iter().filter(|run| run.start < Some(change) && run.end > Some(change)).collect();
        let textual = |run: &&&Run<'_>| {
            let fields: Vec<_> = run.text.split(|byte| *byte == b'|').collect();
            fields[3] < fields[2]
        };
        assert_eq!(across.iter().filter(textual).count(), 2, "{version}");
        for run in across {
            assert_eq!(
                run.end.unwrap() - run.start.unwrap() - run.elapsed.unwrap() as i64,
                if run.job_id == "86" { 5 } else { 0 }
            );
        }
    }
}

fn one_row(layout_header: &str, zone: chrono_tz::Tz, row: &str) -> Frame<'static> {
    let text: &'static [u8] = format!("{layout_header}\n{row}\n").into_bytes().leak();
    read(&in_zone(text, zone), text).remove(1)
}

#[test]
fn a_time_that_the_clock_jumped_over_is_set_aside_by_its_column() {
    let header = "JobID|Submit|Start|End|ElapsedRaw";
    let row = "61|2026-03-08T01:00:00|2026-03-08T02:30:00|2026-03-08T03:30:00|3600";
    let Frame::Quarantined(bad) = one_row(header, chrono_tz::America::Denver, row) else { panic!() };
    assert_eq!(bad.reason, Reason::NoSuchTime { field: "Start" });
    assert!(matches!(one_row(header, chrono_tz::America::Phoenix, row), Frame::Run(_)));
}

#[test]
fn an_ambiguous_submit_alone_is_the_earlier_one_and_is_found() {
    // 2026-11-01 01:30 came twice in Denver: 07:30 and 08:30 UTC.
    let header = "JobID|Submit|Start|End|ElapsedRaw";
    let row = "61|2026-11-01T01:30:00|2026-11-01T09:00:00|2026-11-01T10:00:00|3600";
    let Frame::Run(run) = one_row(header, chrono_tz::America::Denver, row) else { panic!() };
    assert_eq!((run.submit, run.finding), (Some(1_793_518_200), Some(Finding::AmbiguousSubmit)));
    // Epoch times are never ambiguous.
    let Frame::Run(run) =
        one_row(header, chrono_tz::America::Denver, "61|1793518200|1793548800|1793552400|3600")
    else {
        panic!()
    };
    assert_eq!(run.finding, None);
}

#[test]
fn words_for_no_time_are_none_also_beside_epoch_times() {
    let row = "61|PENDING|1795426540|Unknown|None|Unknown|0";
    let Frame::Run(run) = one_row("JobID|State|Submit|Eligible|Start|End|ElapsedRaw", chrono_tz::UTC, row)
    else {
        panic!()
    };
    assert_eq!((run.submit, run.eligible, run.start, run.end), (Some(1_795_426_540), None, None, None));
    assert!(!run.allocated);
}
