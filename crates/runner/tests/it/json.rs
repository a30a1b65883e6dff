//! Documents of `sacct --json`: whole, torn, refused, from a pipe, in blocks.

use crate::support::{Said, Site, amie_runner, fixtures, run, unpacked};
use flate2::{Compression, write::GzEncoder};
use runner::input::blocks::LONGEST_FRAME;
use runner::pipeline::format::Format;
use runner::pipeline::parsing::{ParseWork, Parsed};
use runner::pipeline::{self, Emitted};
use runner::tally::Tally;
use serde_json::Value;
use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn parse(folder: &Path, file: &str) -> Said {
    run(folder, &["parse", "--format", "sacct-json", "--quarantine", "q", file])
}

/// Line, reason and length of what is quarantined.
type Bad = (u64, String, usize);

/// What a file reads to in blocks of about `size` bytes: lines, quarantined, counts, problems.
fn in_blocks(file: &Path, size: usize) -> (Vec<u8>, Vec<Bad>, Tally, Vec<String>) {
    let (mut out, mut bad, mut tally) = (Vec::new(), Vec::new(), Tally::default());
    let remarks =
        pipeline::run(&Format::SacctJson, &[PathBuf::from(file)], Some(size), None, &ParseWork, |emitted| {
            if let Emitted::Output(_, Parsed { lines, quarantined, tally: counts }, _) = emitted {
                out.extend(lines);
                bad.extend(quarantined.into_iter().map(|bad| (bad.line, bad.code, bad.text.len())));
                tally.merge(&counts);
            }
            Ok::<_, Infallible>(())
        })
        .unwrap();
    tally.check().unwrap();
    (out, bad, tally, remarks.problems.iter().map(ToString::to_string).collect())
}

/// The line of each job's first brace, found by its indentation.
fn places(text: &str, indent: &str) -> Vec<u64> {
    let open = format!("{indent}{{");
    (1..).zip(text.lines()).filter(|(_, line)| *line == open).map(|(number, _)| number).collect()
}

#[test]
fn every_job_has_the_line_of_its_first_brace() {
    let folder = tempfile::tempdir().unwrap();
    for (version, jobs) in [("22.05", 112), ("24.05", 113)] {
        let text = unpacked(&format!("{version}/json-default-D.json.gz"));
        std::fs::write(folder.path().join("jobs.json"), &text).unwrap();
        let said = parse(folder.path(), "jobs.json");
        assert_eq!(said.status, 0, "{}", said.stderr);
        let found: Vec<u64> = lines(&said.stdout).iter().map(|line| line["line"].as_u64().unwrap()).collect();
        let (list, _) = text.split_once("\n  ]").unwrap(); // warnings follow, which look alike
        let list = if version == "22.05" { text.as_str() } else { list };
        assert_eq!(found, places(list, "    "));
        assert_eq!(found.len(), jobs);
        assert!(
            said.stderr.contains(&format!("{jobs} frames: {jobs} runs, 0 informational")),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn blocks_of_any_size_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.json");
    let text = unpacked("24.05/json-default-D.json.gz");
    // One job is wrong, and the document is torn in another.
    let wrong = text.replacen("\"elapsed\": 74,", "\"elapsed\": \"74\",", 1);
    let torn = &wrong[..wrong.len() / 2];
    for (text, bad, problems) in [(text.as_str(), 0, 0), (wrong.as_str(), 1, 0), (torn, 2, 1)] {
        std::fs::write(&file, text).unwrap();
        let whole = in_blocks(&file, 64 << 20);
        assert_eq!((whole.1.len(), whole.3.len()), (bad, problems), "{:?}", whole.3);
        for size in [1, 1000, 20_000, 65_537, 1 << 20] {
            assert_eq!(in_blocks(&file, size), whole, "{size}");
        }
    }
}

#[test]
fn a_pipe_and_compressed_files_are_read_as_plain_ones() {
    let folder = tempfile::tempdir().unwrap();
    let text = unpacked("24.05/json-v0.0.41-D.json.gz");
    std::fs::write(folder.path().join("jobs.json"), &text).unwrap();
    let without_file = |stdout: &str| -> Vec<Value> {
        let mut lines = lines(stdout);
        lines.iter_mut().for_each(|line| line["file"] = Value::Null);
        lines
    };
    let plain = without_file(&parse(folder.path(), "jobs.json").stdout);
    assert_eq!(plain.len(), 113);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    std::fs::write(folder.path().join("jobs.gz"), gzip.finish().unwrap()).unwrap();
    std::fs::write(folder.path().join("jobs.zst"), zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
    for file in ["jobs.gz", "jobs.zst"] {
        assert_eq!(without_file(&parse(folder.path(), file).stdout), plain, "{file}");
    }
    let piped = amie_runner(folder.path())
        .args(["parse", "--format", "sacct-json", "-"])
        .write_stdin(text)
        .output()
        .unwrap();
    assert_eq!(
        without_file(&String::from_utf8_lossy(&piped.stdout)),
        plain,
        "{}",
        String::from_utf8_lossy(&piped.stderr)
    );
}

#[test]
fn a_document_that_reports_errors_gives_nothing_wherever_they_stand() {
    let site = Site::new();
    site.read_json("24.05/json-default-D.json.gz");
    let good = site.read("jobs.json");
    // The errors of 24.05 stand behind the jobs.
    let bad = good.replacen("\"errors\": [\n  ]", "\"errors\": [{\"description\": \"slurmdbd is gone\"}]", 1);
    assert_ne!(good, bad);
    site.write("jobs.json", &bad);
    let said = site.run(&["transform", "--source", "slurm"]);
    assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{}", said.stderr);
    assert!(
        said.stderr.contains("jobs.json: reports errors") && said.stderr.contains("slurmdbd is gone"),
        "{}",
        said.stderr
    );
    for (text, says) in [
        ("JobID|State\n", "begins with \"J\""),
        ("{\"errors\": []}", "holds no list \"jobs\""),
        ("", "is not a document"),
    ] {
        site.write("jobs.json", text);
        let said = parse(site.folder.path(), "jobs.json");
        assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{text}: {}", said.stderr);
        assert!(said.stderr.contains(says), "{text}: {}", said.stderr);
    }
    let refused = fixtures().join("slurm/24.05/rest-v0.0.41-jobs-epoch.json");
    let said = parse(site.folder.path(), refused.to_str().unwrap());
    assert!(said.status == 1 && said.stderr.contains("for timestamp failed"), "{}", said.stderr);
}

#[test]
fn a_torn_document_gives_its_whole_jobs_and_is_remarked() {
    let folder = tempfile::tempdir().unwrap();
    let text = unpacked("24.05/json-default-D.json.gz");
    let starts = places(&text, "    ");
    let begin: usize = text.split_inclusive('\n').take(starts[40] as usize).map(str::len).sum();
    std::fs::write(folder.path().join("jobs.json"), &text[..begin + 500]).unwrap();
    let said = parse(folder.path(), "jobs.json");
    assert_eq!(said.status, 1);
    assert_eq!(lines(&said.stdout).len(), 40);
    assert!(said.stderr.contains("jobs.json: ends before the document does"), "{}", said.stderr);
    let quarantined = lines(&std::fs::read_to_string(folder.path().join("q")).unwrap());
    assert_eq!(quarantined.len(), 1);
    assert_eq!((&quarantined[0]["code"], &quarantined[0]["line"]), (&"cut-off".into(), &starts[40].into()));
}

#[test]
fn an_element_too_long_to_be_a_job_is_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.json");
    let job = |id: u64, name: &str| {
        format!(
            "{{\n\"job_id\": {id}, \"name\": \"{name}\", \"state\": {{\"current\": [\"COMPLETED\"]}}, \"time\": {{\"submission\": 1}},\n\"tres\": {{\"allocated\": []}}}}"
        )
    };
    let long = "]},\\\"\\\\ ".repeat(LONGEST_FRAME / 4);
    std::fs::write(
        &file,
        format!("{{\"jobs\": [{},\n{},\n{}\n], \"errors\": []}}", job(1, "a"), job(2, &long), job(3, "b")),
    )
    .unwrap();
    for size in [1, 4096, 1 << 20] {
        let (out, bad, tally, problems) = in_blocks(&file, size);
        let found: Vec<_> = lines(&String::from_utf8(out).unwrap())
            .iter()
            .map(|line| (line["job_id"].as_str().unwrap().to_owned(), line["line"].as_u64().unwrap()))
            .collect();
        assert_eq!(found, [("1".to_owned(), 1), ("3".to_owned(), 7)], "{size}");
        assert_eq!((bad, tally.frames, problems.len()), (vec![(4, "too-long".to_owned(), 4096)], 3, 0));
    }
}

#[test]
fn run_explain_and_check_know_the_source() {
    let site = Site::new();
    site.read_json("24.05/json-default-D.json.gz");
    let said = site.run(&["check"]);
    assert!(
        said.stderr.contains("sacct-json: 1 file(s)") || said.stdout.contains("sacct-json: 1 file(s)"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    let said = site.run(&["explain", "66_1"]);
    assert_eq!(said.status, 0, "{}", said.stderr);
    // The requeued run and the one after it.
    assert_eq!(said.stdout.matches("jobs.json:").count(), 2, "{}", said.stdout);
    assert!(said.stdout.contains("\"job_id\":83") && !said.stdout.contains("\"steps\""), "{}", said.stdout);
    // A file that no source's pattern names is told by its first byte.
    std::fs::copy(site.path("jobs.json"), site.path("elsewhere")).unwrap();
    let named = site.run(&["transform", "--source", "slurm"]).stdout;
    let looked = site.run(&["transform", "elsewhere"]);
    assert_eq!(looked.stdout.lines().count(), named.lines().count(), "{}", looked.stderr);
    assert!(named.lines().count() > 40);
}
