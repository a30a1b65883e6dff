//! Any bytes as a quota report.

use super::conserved;
use parsers::quota::{Format, read};
use parsers::{Place, QuotaFrame};

const HEADER: &str = "Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,\
                      FileSoftLimit,FileHardLimit,FileGrace\n";

/// The first byte says whether the rest is a report or the rows of one.
pub(crate) fn check(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else { return };
    let head = if how & 1 == 0 { HEADER.as_bytes() } else { b"" };
    let report = [head, rest].concat();
    for format in Format::ALL {
        report_of(format, &report);
    }
}

fn report_of(format: Format, report: &[u8]) {
    let mut frames: Vec<(&[u8], Place)> = Vec::new();
    let mut readings = Vec::new();
    let result = read(format, report, &mut |frame| {
        frames.push(match &frame {
            QuotaFrame::Reading(it) => (it.text, it.place),
            QuotaFrame::Note(it) => (it.text, it.place),
            QuotaFrame::Quarantined(it) => (it.text, it.place),
        });
        if let QuotaFrame::Reading(reading) = frame {
            readings.push(reading);
        }
    });
    match result {
        Ok(()) => conserved(frames, report),
        Err(error) => {
            assert!(frames.is_empty(), "a report that is refused shows nothing");
            assert!(!error.to_string().is_empty());
        }
    }
    for reading in readings {
        assert!(report.get(reading.place.offset + reading.place.len) == Some(&b'\n'), "its line is whole");
        assert!(!reading.owner_name.is_empty() && reading.text.starts_with(reading.owner_name));
        // The same numbers, by another way: the columns from the right.
        let line = reading.text.strip_suffix(b"\r").unwrap_or(reading.text);
        let columns: Vec<_> = line.rsplit(|byte| *byte == b',').take(10).collect();
        let number =
            |at: usize| std::str::from_utf8(columns[at]).expect("digits").parse::<u64>().expect("a number");
        assert_eq!(reading.bytes, number(7) * 1024);
        assert_eq!(reading.files, Some(number(3)));
        assert_eq!(reading.bytes_limit.unwrap_or(0), number(5) * 1024);
        assert_eq!(reading.files_limit.unwrap_or(0), number(1));
    }
}
