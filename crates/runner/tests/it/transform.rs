//! `parse` and `transform`: their contracts, and that threads and blocks change nothing.

use crate::support::{Site, expected_records, fixtures, run};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::io::Write;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn transform_writes_the_expected_records_in_input_order() {
    let site = Site::new();
    let said = site.run(&["transform"]);
    assert_eq!(said.status, 1, "some runs are held: {}", said.stderr);
    let mut found: Vec<[String; 4]> = lines(&said.stdout)
        .iter()
        .map(|line| {
            let record = &line["Record"];
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            [text("Resource"), text("LocalRecordID"), text("SubmitTime"), text("Charge")]
        })
        .collect();
    found.sort();
    assert_eq!(found, expected_records());
    let places: Vec<(String, u64)> = lines(&said.stdout)
        .iter()
        .map(|line| {
            (line["Source"]["file"].as_str().unwrap().to_owned(), line["Source"]["line"].as_u64().unwrap())
        })
        .collect();
    let slurm: Vec<u64> =
        places.iter().filter(|(file, _)| file.contains("sacct/")).map(|(_, line)| *line).collect();
    assert!(slurm.is_sorted() && slurm.len() > 40, "{slurm:?}");
}

#[test]
fn threads_do_not_change_a_byte() {
    let site = Site::new();
    // Large enough for many blocks: the example's rows, again and again.
    let sacct = site.read("sacct/testhpc-2026-11-23.txt");
    let (header, rows) = sacct.split_once('\n').unwrap();
    let mut large = format!("{header}\n");
    for _ in 0..250 {
        large.push_str(rows);
    }
    site.write("sacct/large.txt", &large);
    let one = site.run(&["--threads", "1", "transform"]);
    for threads in ["2", "3", "8"] {
        let more = site.run(&["--threads", threads, "transform"]);
        assert!(more.stdout == one.stdout, "{threads} threads write other bytes than one");
    }
    assert!(one.stdout.len() > 4 << 20, "{} bytes are too few for several blocks", one.stdout.len());
}

#[test]
fn compressed_input_is_read_as_it_was_before() {
    let site = Site::new();
    let plain = site.run(&["transform", "--source", "slurm"]);
    let text = std::fs::read(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt")).unwrap();
    let records = |stdout: &str| lines(stdout).iter().map(|line| line["Record"].clone()).collect::<Vec<_>>();
    // Two gzip members in one file, as logrotate and `cat` make them.
    let middle =
        text.iter().skip(text.len() / 2).position(|byte| *byte == b'\n').unwrap() + text.len() / 2 + 1;
    let mut gzip = Vec::new();
    for part in [&text[..middle], &text[middle..]] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part).unwrap();
        gzip.extend(encoder.finish().unwrap());
    }
    std::fs::write(site.path("sacct/testhpc-2026-11-23.txt.gz"), gzip).unwrap();
    let unpacked = site.run(&["transform", "--source", "slurm"]);
    assert_eq!(records(&unpacked.stdout), records(&plain.stdout), "{}", unpacked.stderr);
    std::fs::remove_file(site.path("sacct/testhpc-2026-11-23.txt.gz")).unwrap();
    std::fs::write(
        site.path("sacct/testhpc-2026-11-23.txt.zst"),
        zstd::encode_all(text.as_slice(), 3).unwrap(),
    )
    .unwrap();
    let unpacked = site.run(&["transform", "--source", "slurm"]);
    assert_eq!(records(&unpacked.stdout), records(&plain.stdout), "{}", unpacked.stderr);
}

#[test]
fn paths_find_their_source_by_pattern_or_by_first_line() {
    let site = Site::new();
    let named = site.run(&["transform", "--source", "pbs", "pbs/20261101"]);
    let found = site.run(&["transform", "pbs/20261101"]);
    assert_eq!((found.status, &found.stdout), (named.status, &named.stdout), "{}", found.stderr);
    std::fs::copy(site.path("pbs/20261101"), site.path("elsewhere.log")).unwrap();
    let looked = site.run(&["transform", "elsewhere.log"]);
    assert_eq!(lines(&looked.stdout).len(), lines(&named.stdout).len(), "{}", looked.stderr);
    site.write("what.txt", "no such thing\n");
    let unknown = site.run(&["transform", "what.txt"]);
    assert_eq!(unknown.status, 2);
    assert!(unknown.stderr.contains("which source does this belong to"), "{}", unknown.stderr);
}

#[test]
fn bench_prints_what_the_contract_says() {
    let site = Site::new();
    let said = site.run(&["transform", "--bench", "--json"]);
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    for name in ["bytes", "runs", "seconds", "cpu_seconds", "mb_per_second"] {
        assert!(value[name].is_number(), "{name}: {value}");
    }
    assert!(site.run(&["transform", "--bench"]).stdout.contains("MB/s"));
}

#[test]
fn parse_gives_every_field_of_the_contract_and_null_for_what_is_not_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = fixtures().join("slurm/24.05/P-D-X-usual-epoch.txt");
    let said =
        run(folder.path(), &["parse", "--format", "sacct", "--quarantine", "q", file.to_str().unwrap()]);
    assert_eq!(said.status, 1, "two frames are quarantined: {}", said.stderr);
    let lines = lines(&said.stdout);
    let fields = [
        "job_id",
        "raw_id",
        "cluster",
        "user",
        "account",
        "partition",
        "qos",
        "name",
        "state",
        "submit",
        "eligible",
        "start",
        "end",
        "elapsed",
        "suspended",
        "nodes",
        "cores",
        "gpus",
        "mem_bytes",
        "exit_code",
        "signal",
        "kind",
        "file",
        "line",
    ];
    for line in &lines {
        for field in fields {
            assert!(line.get(field).is_some(), "{field} is missing in {line}");
        }
    }
    assert_eq!(lines.len(), 112);
    // This file has no Suspended column: not said is null, never 0.
    assert!(lines.iter().all(|line| line["suspended"].is_null()));
    let quarantined = std::fs::read_to_string(folder.path().join("q")).unwrap();
    for line in quarantined.lines() {
        let bad: Value = serde_json::from_str(line).unwrap();
        assert!(
            bad["file"].is_string()
                && bad["line"].is_u64()
                && bad["reason"].is_string()
                && bad["text"].is_string()
        );
    }
    assert_eq!(quarantined.lines().count(), 2);
}

#[test]
fn parse_reads_what_standard_input_brings() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read(fixtures().join("pbs/openpbs/20261101")).unwrap();
    let output = crate::support::amie_runner(folder.path())
        .args(["parse", "--format", "pbs", "-"])
        .write_stdin(text)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 5);
}

#[test]
fn parse_of_a_quota_report_gives_readings() {
    let folder = tempfile::tempdir().unwrap();
    let file = fixtures().join("demo/quota/scratch-2026-11-23.csv");
    let said = run(folder.path(), &["parse", "--format", "quota:repquota-csv", file.to_str().unwrap()]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    let lines = lines(&said.stdout);
    let first = lines.iter().find(|line| line["owner_id"] == 1001).unwrap();
    assert_eq!(
        (&first["bytes"], &first["bytes_limit"], &first["owner_kind"]),
        (&(504 * 1024).into(), &(2000 * 1024).into(), &"project".into())
    );
}

/// The records of a source by (resource, id, submit time).
fn records(stdout: &str) -> std::collections::BTreeMap<[String; 3], Value> {
    let lines = lines(stdout);
    let count = lines.len();
    let by_identity: std::collections::BTreeMap<_, _> = lines
        .into_iter()
        .map(|mut line| {
            let record = line["Record"].take();
            (
                ["Resource", "LocalRecordID", "SubmitTime"]
                    .map(|name| record[name].as_str().unwrap().to_owned()),
                record,
            )
        })
        .collect();
    assert_eq!(by_identity.len(), count, "an identity stands twice");
    by_identity
}

#[test]
fn the_json_of_a_cluster_gives_the_records_of_its_text() {
    let site = Site::new();
    let text = records(&site.run(&["transform", "--source", "slurm"]).stdout);
    site.read_json("24.05/json-default-D.json.gz");
    let said = site.run(&["transform", "--source", "slurm", "--summary", "summary.json"]);
    assert_eq!(said.status, 1, "some runs are held: {}", said.stderr);
    assert!(said.stderr.contains("warns: Unknown association with id#0"), "{}", said.stderr);
    assert!(!said.stderr.contains("forge"), "{}", said.stderr);
    let json = records(&said.stdout);
    // The one row that the text loses beside a torn one is of an account that is skipped.
    assert_eq!(json, text);
    assert!(text.len() > 40, "{}", text.len());
    let summary = site.summary();
    assert_eq!(
        (&summary["frames"], &summary["runs"], &summary["quarantined"]),
        (&113.into(), &113.into(), &0.into())
    );

    // In other shapes the same.
    for file in ["24.05/json-v0.0.39-D.json.gz", "24.05/json-v0.0.40-D.json.gz"] {
        site.read_json(file);
        assert_eq!(records(&site.run(&["transform", "--source", "slurm"]).stdout), json, "{file}");
    }
}

#[test]
fn forgeable_hold_holds_what_could_be_forged_and_nothing_else() {
    let site = Site::new();
    site.configure("forgeable = \"warn\"", "forgeable = \"hold\"");
    let summary = || -> Value { serde_json::from_str(&site.read("summary.json")).unwrap() };
    let held = site.run(&["transform", "--source", "slurm", "--summary", "summary.json"]);
    assert_eq!((held.stdout.as_str(), &summary()["mapped"]), ("", &0.into()), "{}", held.stderr);
    assert_eq!(summary()["held"]["forgeable"], 102, "{}", held.stderr);
    // The same rows without the column that users write: line 48 was the rest of a name.
    let text = site.read("sacct/testhpc-2026-11-23.txt");
    let safe: String = text
        .lines()
        .map(|line| line.splitn(27, '|').collect::<Vec<_>>())
        .filter(|fields| fields.len() == 27)
        .map(|fields| format!("{}\n", fields[..26].join("|")))
        .collect();
    site.write("sacct/testhpc-2026-11-23.txt", &safe);
    let said = site.run(&["transform", "--source", "slurm", "--summary", "summary.json"]);
    assert_eq!(summary()["held"].get("forgeable"), None, "{}", said.stderr);
    assert!(summary()["mapped"].as_u64() >= Some(51), "{}", said.stderr);
    let explained = site.run(&["explain", "4"]);
    assert!(!explained.stdout.contains("forgeable"), "{}", explained.stdout);
}

#[test]
fn rows_counted_out_by_a_delimiter_that_nobody_knew_are_all_read_and_cannot_be_forged() {
    let site = Site::new();
    let text = site.read("sacct/testhpc-2026-11-23.txt");
    let by_lines = site.run(&["transform", "--source", "slurm", "--summary", "lines.json"]);
    assert!(by_lines.stderr.contains("rows could be forged"), "{}", by_lines.stderr);
    // The same rows as `sacct -p --delimiter=NONCE` prints them: the name with a newline is one field.
    let nonce = "<5d0c4a37f1be4c0a9a1d6b7f3e2c8d90>";
    let mut counted = String::new();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let mut row: Vec<&str> = line.splitn(27, '|').collect();
        if row.len() < 27 {
            continue; // the second line of a name, written with its first
        }
        let continued = lines.get(number + 1).filter(|next| next.matches('|').count() < 26);
        let name = continued.map_or(row[26].to_owned(), |next| format!("{}\n{next}", row[26]));
        row[26] = &name;
        for field in &row {
            counted.push_str(field);
            counted.push_str(nonce);
        }
        counted.push('\n');
    }
    site.write("sacct/testhpc-2026-11-23.txt", &counted);
    site.configure("forgeable = \"warn\"", "framing = \"counted\"");
    let said = site.run(&["transform", "--source", "slurm", "--summary", "counted.json"]);
    assert!(!said.stderr.contains("forged"), "{}", said.stderr);
    let summary = |name: &str| -> Value { serde_json::from_str(&site.read(name)).unwrap() };
    assert_eq!(summary("counted.json")["quarantined"], 0, "{}", said.stderr);
    let runs = |name: &str| summary(name)["runs"].as_u64().unwrap();
    assert_eq!(runs("counted.json"), runs("lines.json") + 1, "the row that was doubted is read");
    let found = lines_of(&said.stdout);
    assert!(lines_of(&by_lines.stdout).iter().all(|record| found.contains(record)));
    // Cut within a row: sacct did not finish, and nothing of it is believed.
    site.write("sacct/testhpc-2026-11-23.txt", &counted[..counted.len() / 2]);
    let partial = site.run(&["transform", "--source", "slurm"]);
    assert_eq!((partial.status, partial.stdout.as_str()), (1, ""), "{}", partial.stderr);
    assert!(partial.stderr.contains("A partial read is refused whole"), "{}", partial.stderr);
}

fn lines_of(stdout: &str) -> Vec<Value> {
    lines(stdout).iter().map(|line| line["Record"].clone()).collect()
}
