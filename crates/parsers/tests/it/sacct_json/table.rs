//! Every run against slurmdbd's own job table, against the text of the same cluster, and the versions against each other.

use super::*;
use parsers::sacct::{Layout, Options};
use std::collections::{BTreeMap, HashMap};

type Key = (String, i64);

fn by_key(facts: Vec<Facts>) -> BTreeMap<Key, Facts> {
    let count = facts.len();
    let map: BTreeMap<_, _> =
        facts.into_iter().map(|fact| ((fact.raw_id.clone(), fact.times[0].unwrap()), fact)).collect();
    assert_eq!(map.len(), count, "(job, submit) is a key, also of duplicates");
    map
}

fn cell<T: std::str::FromStr>(row: &HashMap<String, String>, column: &str) -> Option<T> {
    let cell = &row[column];
    (!cell.is_empty()).then(|| cell.parse().ok().unwrap_or_else(|| panic!("{column}: {cell}")))
}

#[test]
fn every_number_is_the_job_tables() {
    for (version, file, exit_codes, expected) in [
        ("22.05", "json-default-D.json.gz", false, 112),
        ("24.05", "json-v0.0.39-D.json.gz", false, 113),
        ("24.05", "json-v0.0.40-D.json.gz", true, 113),
        ("24.05", "json-v0.0.41-D.json.gz", true, 113),
        ("24.05", "json-default-D.json.gz", true, 113),
    ] {
        let rows = tsv(&format!("expected/slurm-{version}-runs.tsv"));
        let rows: HashMap<Key, _> = rows
            .into_iter()
            .map(|row| ((row["id_job"].clone(), cell(&row, "submit").unwrap()), row))
            .collect();
        let found = by_key(facts(&fixture(&format!("slurm/{version}/{file}"))));
        assert_eq!(found.len(), expected);
        let (mut ended, mut without_user) = (0, 0);
        for (key, run) in &found {
            let (row, at) = (&rows[key], format!("{version}/{file} {key:?}"));
            let word = |index: usize| {
                run.words[index].as_ref().map(|word| String::from_utf8_lossy(word).into_owned())
            };
            assert_eq!(
                (run.job_id.as_str(), run.cluster.as_str()),
                (row["job_id"].as_str(), "testhpc"),
                "{at}"
            );
            assert_eq!(word(1).unwrap_or_default(), row["account"], "{at}");
            assert_eq!(word(2).as_deref(), Some(row["partition"].as_str()), "{at}");
            assert_eq!(word(3).as_deref(), Some(row["qos"].as_str()), "{at}");
            // The table knows the user of an association; from 23.02 on the JSON knows the others too, 22.05 says null.
            match word(0) {
                Some(user) if row["user"].is_empty() => assert_ne!(version, "22.05", "{at}: {user}"),
                Some(user) => assert_eq!(user, row["user"], "{at}"),
                None => {
                    assert_eq!(row["user"], "", "{at}");
                    without_user += 1;
                }
            }
            assert_eq!(run.times[2], cell(row, "start"), "{at}");
            assert_eq!(run.allocated, !row["cpus"].is_empty() && run.times[2].is_some(), "{at}");
            let counts = ["nodes", "cpus", "gpus", "mem_bytes"].map(|column| cell(row, column));
            assert_eq!(run.counts[..4], counts, "{at}");
            let billing = run.allocated.then(|| cell(row, "billing").unwrap_or(0));
            assert_eq!(run.counts[4], billing, "{at}");
            if run.times[3].is_none() {
                continue; // printed before the table was dumped, and ended in between
            }
            ended += 1;
            assert_eq!(run.times[3], cell(row, "end"), "{at}");
            assert_eq!(run.times[1], cell(row, "eligible"), "{at}");
            assert_eq!(run.seconds, [cell(row, "elapsed"), cell(row, "suspended")], "{at}");
            assert_eq!(run.state_text, row["state"], "{at}");
            let said = [cell(row, "exit_code"), cell(row, "signal")];
            if exit_codes {
                assert_eq!(run.exit, said, "{at}");
            } else {
                assert_eq!(run.exit, [None, said[1].filter(|signal| *signal != 0)], "{at}");
            }
        }
        assert!(ended > 100, "{version}/{file}: {ended}");
        assert!((1..=6).contains(&without_user), "{version}/{file}: {without_user}");
    }
}

/// The runs of a text of `sacct`.
fn text_of(path: &str) -> BTreeMap<Key, Facts> {
    let text = fixture(path);
    let header = text.split(|byte| *byte == b'\n').next().unwrap();
    let layout = Layout::from_header(header, &Options::default()).unwrap();
    let mut facts = Vec::new();
    layout.read(&text, 0..text.len(), true, |frame| {
        if let Frame::Run(run) = frame {
            facts.push(Facts::of(&run));
        }
    });
    by_key(facts)
}

#[test]
fn all_is_as_the_text_of_the_same_cluster_says() {
    for (version, text, json, least) in [
        ("22.05", "P-D-X-usual-epoch.txt", "json-default-D.json.gz", 110),
        ("24.05", "P-D-X-usual-epoch.txt", "json-default-D.json.gz", 110),
        ("26.05-sample", "P-D-X-usual-head.txt", "json-v0.0.45-sample.json.gz", 10),
    ] {
        let json = by_key(facts(&fixture(&format!("slurm/{version}/{json}"))));
        let text = text_of(&format!("slurm/{version}/{text}"));
        let mut compared = 0;
        for (key, mut said) in text {
            let Some(run) = json.get(&key) else {
                assert_eq!(version, "26.05-sample", "{key:?}"); // a sample of the jobs
                continue;
            };
            // What the text says and the JSON does not, or otherwise.
            said.seconds[1] = run.seconds[1]; // this text has no Suspended column
            said.exit = run.exit; // the text takes 128 from codes of 128 and more; the table is what codes are held against
            said.state_text = said.state_text.split(' ').next().unwrap().to_owned(); // CANCELLED by 20005
            said.words[4].clone_from(&run.words[4]); // and none for the reservation
            // 22.05 names no user without an association; of a Unix user that is gone, 24.05 prints the number in text only.
            let number = |user: &Vec<u8>| user.iter().all(u8::is_ascii_digit);
            if run.words[0].is_none() && (version == "22.05" || said.words[0].as_ref().is_some_and(number)) {
                said.words[0] = None;
            }
            if said.times[3].is_none() {
                // It still ran, and the JSON was written some seconds later: it runs longer, or has ended.
                (said.seconds[0], said.times[3]) = (run.seconds[0], run.times[3]);
                (said.state, said.state_text) = (run.state, run.state_text.clone());
            }
            assert_eq!(*run, said, "{version}: {key:?}");
            compared += 1;
        }
        assert!(compared >= least, "{version}: {compared}");
    }
}

#[test]
fn only_the_resized_job_of_22_05_is_doubted() {
    let mut doubted = Vec::new();
    for (version, file) in [
        ("22.05", "json-default-D.json.gz"),
        ("24.05", "json-default-D.json.gz"),
        ("24.05", "json-v0.0.39-D.json.gz"),
        ("26.05-sample", "json-v0.0.45-sample.json.gz"),
    ] {
        let found = facts(&fixture(&format!("slurm/{version}/{file}")));
        doubted.extend(found.into_iter().filter_map(|run| Some((version, run.job_id, run.finding?))));
    }
    assert_eq!(doubted, [("22.05", "92".to_owned(), Finding::StartBeforeSubmit)]);
}

#[test]
fn the_shapes_of_one_cluster_say_the_same() {
    let newest = by_key(facts(&fixture("slurm/24.05/json-default-D.json.gz")));
    for (file, expected) in [
        ("json-v0.0.39-D.json.gz", 113),
        ("json-v0.0.40-D.json.gz", 113),
        ("json-v0.0.41-D.json.gz", 113),
        ("json-v0.0.40-D-complex.json.gz", 3),
        ("json-v0.0.41-D-complex.json.gz", 3),
        ("json-v0.0.41-D-fast.json.gz", 3),
        ("rest-v0.0.39-jobs.json.gz", 13),
        ("rest-v0.0.40-jobs.json.gz", 13),
        ("rest-v0.0.41-jobs.json.gz", 13),
        ("rest-v0.0.41-job5.json", 1),
    ] {
        let found = by_key(facts(&fixture(&format!("slurm/24.05/{file}"))));
        assert_eq!(found.len(), expected, "{file}");
        for (key, mut run) in found {
            let mut said = newest[&key].clone();
            if file.contains("v0.0.39") {
                (run.exit, said.exit) = ([None; 2], [None; 2]);
            }
            if said.times[3].is_none() || run.times[3].is_none() {
                // Written some seconds apart: what still ran has gone on.
                for facts in [&mut run, &mut said] {
                    (facts.seconds, facts.times[3]) = ([None; 2], None);
                }
            }
            assert_eq!(run, said, "{file}: {key:?}");
        }
    }
}

#[test]
fn a_sample_says_what_its_whole_says() {
    for version in ["22.05", "24.05"] {
        let whole = by_key(facts(&fixture(&format!("slurm/{version}/json-default-D.json.gz"))));
        let sample = by_key(facts(&fixture(&format!("slurm/{version}/json-default-sample.json.gz"))));
        assert!(sample.len() >= 25);
        for (key, run) in sample {
            assert_eq!(run, whole[&key], "{version}: {key:?}");
        }
    }
}

#[test]
fn the_data_parsers_of_26_05_agree() {
    let newest = by_key(facts(&fixture("slurm/26.05-sample/json-v0.0.45-sample.json.gz")));
    for file in ["json-v0.0.42-sample.json.gz", "json-v0.0.43-sample.json.gz"] {
        let older = by_key(facts(&fixture(&format!("slurm/26.05-sample/{file}"))));
        let mut compared = 0;
        for (key, run) in older {
            let Some(said) = newest.get(&key) else { continue };
            if said.times[3].is_some() {
                assert_eq!(run, *said, "{file}: {key:?}");
                compared += 1;
            }
        }
        assert!(compared > 25, "{file}: {compared}");
    }
    let resized: Vec<_> = newest.values().filter(|run| run.state == State::Resizing).collect();
    assert!(!resized.is_empty());
}

#[test]
fn requeued_and_resized_runs_are_ends_with_their_own_usage() {
    for (version, file) in
        [("24.05", "json-v0.0.41-D.json.gz"), ("26.05-sample", "json-v0.0.45-sample.json.gz")]
    {
        let found = facts(&fixture(&format!("slurm/{version}/{file}")));
        for state in [State::Requeued, State::Resizing, State::Preempted] {
            let runs: Vec<_> = found.iter().filter(|run| run.state == state).collect();
            assert!(!runs.is_empty(), "{version} {state:?}");
            assert!(
                runs.iter().all(|run| run.allocated && run.times[3].is_some() && run.counts[1] > Some(0)),
                "{version} {state:?}"
            );
        }
    }
}
