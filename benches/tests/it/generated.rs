//! The same bytes from the same seed, and a truth that a recount of the text confirms.

use benches::{Columns, PbsOptions, SacctOptions, Times, Truth, pbs, sacct};
use std::collections::{BTreeMap, BTreeSet};

fn sacct_text(options: &SacctOptions) -> (String, Truth) {
    let mut text = Vec::new();
    let truth = sacct(options, &mut text).unwrap();
    (String::from_utf8(text).unwrap(), truth)
}

fn pbs_text(options: &PbsOptions) -> (String, Truth) {
    let mut text = Vec::new();
    let truth = pbs(options, &mut text).unwrap();
    (String::from_utf8(text).unwrap(), truth)
}

fn digest(text: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_every_machine() {
    let usual = SacctOptions { bytes: 1_000_000, ..Default::default() };
    let local = SacctOptions { times: Times::Local(chrono_tz::America::New_York), ..usual.clone() };
    let collect = SacctOptions {
        columns: Columns::Collect,
        delimiter: "<0123456789abcdef>".to_owned(),
        ..usual.clone()
    };
    let found = [
        digest(&sacct_text(&usual).0),
        digest(&sacct_text(&local).0),
        digest(&sacct_text(&collect).0),
        digest(&sacct_text(&SacctOptions { steps: true, hostile: true, ..usual.clone() }).0),
        digest(&pbs_text(&PbsOptions { bytes: 1_000_000, ..Default::default() }).0),
    ];
    let known = [
        "23063fb57cf7bdd82e8919b92012ab2c",
        "4acc0723b611446a27b8952c89e750a4",
        "31a8ece2161630d8c2ae3ad60b191226",
        "d58eed01ce275ea802180753378817f0",
        "a6a170c0ff0cbdb7ef1de7ceb91cc90f",
    ];
    assert_eq!(
        found, known,
        "a change of the generator makes measurements incomparable: say so in the changelog"
    );
}

#[test]
fn another_seed_gives_other_bytes() {
    let first = sacct_text(&SacctOptions { bytes: 10_000, ..Default::default() });
    let second = sacct_text(&SacctOptions { bytes: 10_000, seed: 2, ..Default::default() });
    assert_ne!(first.0, second.0);
}

#[test]
fn a_text_is_as_long_as_asked_for_and_the_shorter_is_the_start_of_the_longer() {
    let short = sacct_text(&SacctOptions { bytes: 50_000, ..Default::default() });
    let long = sacct_text(&SacctOptions { bytes: 500_000, ..Default::default() });
    assert!((50_000..52_000).contains(&short.1.bytes), "{}", short.1.bytes);
    assert!(long.0.starts_with(&short.0));
    assert_eq!(short.0.len() as u64, short.1.bytes);
}

/// `billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,node=1` as a table.
fn tres(cell: &str) -> BTreeMap<&str, u64> {
    cell.split(',')
        .filter_map(|part| part.split_once('='))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect()
}

/// Counts again what the truth claims, from the text alone.
fn recount_sacct(text: &str, delimiter: &str) -> Truth {
    let mut found = Truth { format: "sacct", seed: 1, bytes: text.len() as u64, ..Truth::default() };
    found.lines = text.matches('\n').count() as u64;
    let trailing = delimiter != "|";
    let mut columns: Vec<&str> = Vec::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        found.records += 1;
        let mut cells: Vec<&str> = line.split(delimiter).collect();
        if trailing {
            assert_eq!(cells.pop(), Some(""), "{line}");
        }
        if columns.is_empty() {
            columns = cells;
            continue;
        }
        assert_eq!(cells.len(), columns.len(), "{line}");
        let row: BTreeMap<&str, &str> = columns.iter().copied().zip(cells).collect();
        let id = row["JobID"];
        if id.contains('.') {
            found.steps += 1;
            continue;
        }
        assert!(keys.insert((row["JobIDRaw"].to_owned(), row["Submit"].to_owned())), "twice: {line}");
        let allocated = tres(row["AllocTRES"]);
        if id.contains('[') {
            found.parents += 1;
        } else if row["End"] == "Unknown" {
            found.live += 1;
        } else if allocated.is_empty() {
            found.never_started += 1;
        } else if row["State"] == "HIBERNATED" {
            found.unknown_states += 1;
        } else {
            let elapsed: u128 = row["ElapsedRaw"].parse().unwrap();
            let times = |name: &str| elapsed * u128::from(*allocated.get(name).unwrap_or(&0));
            found.runs += 1;
            found.elapsed_seconds += elapsed;
            found.core_seconds += times("cpu");
            found.gpu_seconds += times("gres/gpu");
            found.node_seconds += times("node");
            assert_eq!(allocated["node"].to_string(), row["NNodes"]);
            let state = row["State"].split(' ').next().unwrap();
            *found.kinds.entry(state.to_owned()).or_default() += 1;
            if let (Ok(start), Ok(end)) = (row["Start"].parse::<u128>(), row["End"].parse::<u128>()) {
                assert!(start + elapsed <= end && row["Submit"].parse::<u128>().unwrap() <= start, "{line}");
            }
        }
    }
    found
}

#[test]
fn the_truth_of_sacct_text_is_what_a_recount_finds() {
    for options in [
        SacctOptions { bytes: 20_000_000, ..Default::default() },
        SacctOptions { bytes: 5_000_000, steps: true, ..Default::default() },
        SacctOptions {
            bytes: 5_000_000,
            columns: Columns::Collect,
            delimiter: "<fedcba98>".to_owned(),
            ..Default::default()
        },
    ] {
        let (text, truth) = sacct_text(&options);
        assert_eq!(recount_sacct(&text, &options.delimiter), truth);
        assert!(truth.runs > 1000 && truth.gpu_seconds > 0 && truth.never_started > 0 && truth.parents > 0);
        assert_eq!(truth.steps > 0, options.steps);
    }
}

#[test]
fn times_are_local_where_asked_for() {
    let options = SacctOptions {
        bytes: 3_000_000,
        times: Times::Local(chrono_tz::America::New_York),
        ..Default::default()
    };
    let (local, truth) = sacct_text(&options);
    let (epoch, same) = sacct_text(&SacctOptions { times: Times::Epoch, bytes: 2_500_000, ..options });
    // the same centre: row by row the same but for how times are printed, New York being 5 hours behind in January
    for (local, epoch) in local.lines().zip(epoch.lines()).skip(1).take(1000) {
        let cells: Vec<&str> = local.split('|').collect();
        let seconds: Vec<&str> = epoch.split('|').collect();
        assert_eq!(cells[0], seconds[0]);
        let submit =
            chrono::DateTime::from_timestamp(seconds[10].parse::<i64>().unwrap() - 5 * 3600, 0).unwrap();
        assert_eq!(cells[10], submit.format("%Y-%m-%dT%H:%M:%S").to_string());
    }
    assert!(truth.runs > 1000 && same.runs > 1000);
}

#[test]
fn hostile_names_hold_delimiters_and_newlines_and_are_counted() {
    let options = SacctOptions { bytes: 5_000_000, hostile: true, ..Default::default() };
    let (text, truth) = sacct_text(&options);
    assert!(truth.torn > 0 && text.contains("line one\nline two\n"));
    assert!(truth.lines > truth.records);
    // a delimiter that no name can hold makes them ordinary rows
    let safe = sacct_text(&SacctOptions { delimiter: "<nonce>".to_owned(), ..options.clone() });
    assert!(safe.1.torn > 0);
    let fields = safe.0.matches("<nonce>").count() as u64;
    assert_eq!(fields, 27 * safe.1.records);
    let sorted =
        safe.1.runs + safe.1.never_started + safe.1.live + safe.1.parents + safe.1.unknown_states + 1;
    assert_eq!(sorted, safe.1.records, "every row is counted as one thing");
}

/// What stands behind ` key=` up to the next blank.
fn value<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    let start = record.find(&format!(" {key}="))? + key.len() + 2;
    record[start..].split(' ').next()
}

fn seconds(clock: &str) -> u128 {
    clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u128>().unwrap())
}

#[test]
fn the_truth_of_a_pbs_log_is_what_a_recount_finds() {
    let (text, truth) = pbs_text(&PbsOptions { bytes: 40_000_000, ..Default::default() });
    let mut found = Truth {
        format: "pbs",
        seed: 1,
        bytes: text.len() as u64,
        lines: text.lines().count() as u64,
        ..Truth::default()
    };
    // a record that continues on a second line does so in an account with a newline in it
    let joined = text.replace("line1\nline2", "line1 line2");
    // What a job had used when it gave nodes back, and what it kept.
    let (mut released, mut kept) = (BTreeMap::new(), BTreeMap::new());
    let mut open = BTreeSet::new();
    let mut last = String::new();
    for record in joined.lines() {
        found.records += 1;
        let mut parts = record.splitn(4, ';');
        let (date, letter) = (parts.next().unwrap(), parts.next().unwrap());
        let (id, message) = (parts.next().unwrap(), parts.next().unwrap());
        let sortable = format!("{}{}{}", &date[6..10], &date[..5], &date[10..]);
        assert!(sortable >= last, "out of order: {record}");
        last = sortable;
        *found.kinds.entry(letter.to_owned()).or_default() += 1;
        match letter {
            "S" => assert!(open.insert(id.to_owned()), "started twice: {record}"),
            "u" => {
                let used = seconds(value(message, "resources_used.walltime").unwrap());
                assert_eq!(released.insert(id.to_owned(), used), None);
            }
            "c" => assert!(kept.insert(id.to_owned(), message.to_owned()).is_none()),
            _ => {}
        }
        if letter != "E" && letter != "R" {
            continue;
        }
        assert!(open.remove(id), "ended without a start: {record}");
        if id.contains("[]") {
            found.parents += 1;
            continue;
        }
        let walltime = seconds(value(message, "resources_used.walltime").unwrap());
        let first = released.remove(id);
        let (start, end) = (value(message, "start").unwrap(), value(message, "end").unwrap());
        let whole = first.unwrap_or(0) + walltime;
        assert!(start.parse::<u128>().unwrap() + whole <= end.parse::<u128>().unwrap(), "{record}");
        found.runs += 1;
        found.node_releases += u64::from(first.is_some());
        let left = kept.remove(id);
        let phases = [(first.unwrap_or(walltime), Some(message)), (walltime, left.as_deref())];
        for (seconds, allocation) in phases {
            let Some(allocation) = allocation else { continue };
            let vnodes = value(allocation, "exec_vnode").unwrap();
            let sum = |what: &str| -> u128 {
                vnodes
                    .split(['(', ')', '+', ':'])
                    .filter_map(|part| part.strip_prefix(what)?.strip_prefix('='))
                    .map(|count| count.parse::<u128>().unwrap())
                    .sum()
            };
            let hosts: BTreeSet<&str> = value(allocation, "exec_host")
                .unwrap()
                .split('+')
                .map(|host| host.split('/').next().unwrap())
                .collect();
            found.elapsed_seconds += seconds;
            found.core_seconds += seconds * sum("ncpus");
            found.gpu_seconds += seconds * sum("ngpus");
            found.node_seconds += seconds * hosts.len() as u128;
        }
    }
    assert_eq!(found, truth);
    for letter in ["Q", "S", "E", "R", "D", "L", "u", "c", "e", "a", "z", "r", "U"] {
        assert!(truth.kinds.contains_key(letter), "no {letter}");
    }
    assert!(
        truth.parents > 0 && truth.lines > truth.records,
        "arrays and continued records are rare, not absent"
    );
}
