//! Quota reports: real `repquota` output against what was derived from it independently.

use parsers::quota::{Format, ReportError, read};
use parsers::{OwnerKind, QuotaFrame, Reading};
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::Path;

fn fixture(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// Rows of the expectations: file -> rows by column name.
fn expected() -> HashMap<String, Vec<HashMap<String, String>>> {
    let text = fixture("expected/quota-readings.tsv");
    let mut lines =
        text.lines().map(|line| line.split('\t').map(|cell| cell.replace("\\\\", "\\")).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let mut files: HashMap<_, Vec<_>> = HashMap::new();
    for row in lines {
        files.entry(row[0].clone()).or_default().push(header.iter().cloned().zip(row).collect());
    }
    files
}

/// The reports that were joined in one text, each with the line it begins at (from 0).
fn reports(text: &str) -> Vec<(usize, String)> {
    let mut reports: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.contains(",BlockStatus,") || line.contains(",SpaceStatus,") {
            reports.push((number, String::new()));
        }
        let report = &mut reports.last_mut().unwrap().1;
        report.push_str(line);
        report.push('\n');
    }
    reports
}

fn check(reading: &Reading<'_>, row: &HashMap<String, String>) {
    let number = |name: &str| {
        Some(&row[name]).filter(|text| !text.is_empty()).map(|text| text.parse::<u64>().unwrap())
    };
    assert_eq!(reading.owner_kind.as_str(), row["owner_kind"]);
    assert_eq!(reading.owner_name.to_string(), row["owner"]);
    assert_eq!(reading.owner_id.map(u64::from), number("owner_id"));
    assert_eq!(Some(reading.bytes), number("bytes"));
    assert_eq!(reading.files, number("files"));
    assert_eq!(reading.bytes_limit, number("bytes_hard"));
    assert_eq!(reading.files_limit, number("files_hard"));
    assert_eq!(reading.scope, None);
}

#[test]
fn every_row_is_read_as_expected() {
    let mut readings = 0;
    for (file, rows) in expected() {
        let text = match file.as_str() {
            "scratch-2026-11-23.csv" => fixture("demo/quota/scratch-2026-11-23.csv"),
            _ => fixture(&format!("quota/{file}")),
        };
        for (first, report) in reports(&text) {
            let result = read(Format::RepquotaCsv, report.as_bytes(), &mut |frame| match frame {
                QuotaFrame::Reading(reading) => {
                    let row = &rows[first + reading.place.line];
                    assert_eq!(
                        (row["line"].parse(), row["kind"].as_str()),
                        (Ok(first + reading.place.line + 1), "reading")
                    );
                    check(&reading, row);
                    readings += 1;
                }
                QuotaFrame::Note(note) => {
                    assert_eq!(rows[first + note.place.line]["kind"], "header");
                }
                QuotaFrame::Quarantined(it) => panic!("{file}: {}: {}", it.reason, it.text),
            });
            let refused = rows.iter().any(|row| row["kind"] == "refused");
            assert_eq!(
                matches!(result, Err(ReportError::HumanReadable { .. })),
                refused,
                "{file}: {result:?}"
            );
        }
    }
    assert_eq!(readings, 18 + 29 + 29 + 19 + 6 + 29 + 29);
}

#[test]
fn joined_reports_of_real_commands_are_refused() {
    for (file, line) in [
        ("ext4-repquota-csv.out", 20),
        ("ext4-repquota-csv-p-n.out", 20),
        ("xfs-repquota-csv.out", 20),
        ("ext4b-repquota-csv.out", 20),
    ] {
        let text = fixture(&format!("quota/{file}"));
        let error = read(Format::RepquotaCsv, text.as_bytes(), &mut |_| panic!("visited")).unwrap_err();
        assert!(
            matches!(error, ReportError::SeveralReports { line: found, .. } if found == line),
            "{file}: {error}"
        );
        assert!(error.to_string().contains("once for each"));
    }
}

#[test]
fn a_user_whose_name_is_a_number_is_not_an_id() {
    let text = fixture("quota/ext4-repquota-csv-C.out");
    let mut found = None;
    read(Format::RepquotaCsv, text.as_bytes(), &mut |frame| {
        if let QuotaFrame::Reading(reading) = frame
            && reading.owner_name == "12345"
        {
            found = Some((reading.owner_kind, reading.owner_id, reading.bytes));
        }
    })
    .unwrap();
    assert_eq!(found, Some((OwnerKind::User, None, 12 * 1024)));
}

#[test]
fn a_report_cut_at_any_byte_gives_no_other_number() {
    let text = fixture("demo/quota/scratch-2026-11-23.csv");
    let readings = |text: &str| {
        let mut readings = Vec::new();
        let _ = read(Format::RepquotaCsv, text.as_bytes(), &mut |frame| {
            if let QuotaFrame::Reading(reading) = frame {
                readings.push((
                    reading.owner_name.to_string(),
                    reading.bytes,
                    reading.files,
                    reading.bytes_limit,
                ));
            }
        });
        readings
    };
    let all = readings(&text);
    assert_eq!(all.len(), 6);
    for end in 0..text.len() {
        let some = readings(&text[..end]);
        assert_eq!(some, all[..some.len()], "cut at {end}");
        let newlines = text[..end].matches('\n').count();
        assert_eq!(some.len(), newlines.saturating_sub(1));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_every_line_is_a_frame(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        with_header: bool,
    ) {
        let header = "Group,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,\
                      FileSoftLimit,FileHardLimit,FileGrace\n";
        let mut text = if with_header { header.as_bytes().to_vec() } else { Vec::new() };
        text.extend(body);
        let mut length = 0;
        let mut frames = 0;
        let result = read(Format::RepquotaCsv, &text, &mut |frame| {
            frames += 1;
            length += match frame {
                QuotaFrame::Reading(it) => it.text.len(),
                QuotaFrame::Note(it) => it.text.len(),
                QuotaFrame::Quarantined(it) => it.text.len(),
            };
        });
        if result.is_ok() {
            let newlines = text.iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(length + newlines, text.len());
            prop_assert!(frames >= newlines);
        } else {
            prop_assert_eq!(frames, 0);
        }
    }
}
