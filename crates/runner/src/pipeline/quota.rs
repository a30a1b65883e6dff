//! Quota reports: small files that are read whole, each line a reading of one owner.

use super::mapping::{At, Collector, HeldEntry, MappedBlock, Record, Said};
use super::parsing::{Parsed, Unreadable};
use crate::config::CollectedAt;
use crate::input::{InputError, open};
use crate::ledger::SourceFacts;
use crate::tally::Tally;
use amie_usage::{UsageType, wire};
use chrono::{NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;
use mapper::{MappedReading, StorageMapper, StorageOutcome};
use parsers::quota::{Format, read};
use parsers::{OwnerKind, QuotaFrame, Reading};
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// Largest report that is read: a million owners are some 100 MB.
const LARGEST: u64 = 256 << 20;

/// Reads a whole report.
///
/// # Errors
/// Where it cannot be read, or is larger than any such report.
pub fn read_report(path: &Path) -> Result<Vec<u8>, InputError> {
    let opened = open(path)?;
    let mut text = Vec::new();
    let read = opened.reader.take(LARGEST + 1).read_to_end(&mut text);
    read.map_err(|error| InputError::Read { path: path.to_owned(), error })?;
    if text.len() as u64 > LARGEST {
        return Err(InputError::TooLarge { path: path.to_owned(), limit: LARGEST });
    }
    Ok(text)
}

/// When a report was made, epoch seconds.
///
/// # Errors
/// Where the file's name does not say it, or the file's time cannot be read.
pub fn collected_at(path: &Path, how: &CollectedAt, zone: Tz) -> Result<i64, InputError> {
    let fail = |problem: String| InputError::Format { path: path.to_owned(), problem };
    match how {
        CollectedAt::Mtime => {
            let modified = std::fs::metadata(path)
                .and_then(|meta| meta.modified())
                .map_err(|error| InputError::Read { path: path.to_owned(), error })?;
            let since = modified
                .duration_since(std::time::UNIX_EPOCH)
                .map_err(|_| fail("was modified before 1970".to_owned()))?;
            i64::try_from(since.as_secs())
                .map_err(|_| fail("was modified in no year that a record can hold".to_owned()))
        }
        CollectedAt::Name(pattern) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let date = pattern
                .captures(&name)
                .and_then(|groups| groups.get(1))
                .ok_or_else(|| {
                    fail(format!("its name does not match collected_at.pattern {}", pattern.as_str()))
                })?
                .as_str();
            let date: NaiveDate = date.parse().map_err(|_| {
                fail(format!("\"{}\" in its name is not a date like 2026-11-23", date.escape_debug()))
            })?;
            zone.from_local_datetime(&date.and_time(NaiveTime::MIN))
                .earliest()
                .map(|time| time.timestamp())
                .ok_or_else(|| fail(format!("{date} has no midnight in {zone}")))
        }
    }
}

/// A report as JSON lines, for `parse`.
///
/// # Errors
/// Where the report as a whole cannot be trusted.
pub fn parse_lines(format: Format, path: &Path, text: &[u8]) -> Result<Parsed, InputError> {
    #[derive(Serialize)]
    struct Line<'a> {
        owner_kind: &'a str,
        owner_id: Option<u32>,
        owner_name: String,
        bytes: u64,
        files: Option<u64>,
        bytes_limit: Option<u64>,
        files_limit: Option<u64>,
        scope: Option<String>,
        file: &'a str,
        line: u64,
    }
    let file = path.to_string_lossy();
    let mut parsed = Parsed::default();
    let outcome = read(format, text, &mut |frame| {
        parsed.tally.frames += 1;
        match frame {
            QuotaFrame::Reading(reading) => {
                parsed.tally.contributing += 1;
                parsed.tally.runs += 1;
                parsed.tally.mapped += 1;
                let line = Line {
                    owner_kind: reading.owner_kind.as_str(),
                    owner_id: reading.owner_id,
                    owner_name: reading.owner_name.to_string(),
                    bytes: reading.bytes,
                    files: reading.files,
                    bytes_limit: reading.bytes_limit,
                    files_limit: reading.files_limit,
                    scope: reading.scope.map(ToString::to_string),
                    file: &file,
                    line: reading.place.line as u64 + 1,
                };
                if serde_json::to_writer(&mut parsed.lines, &line).is_ok() {
                    parsed.lines.push(b'\n');
                }
            }
            QuotaFrame::Note(note) => parsed.tally.inform(&note.kind.to_string(), 1),
            QuotaFrame::Quarantined(bad) => {
                parsed.tally.quarantine(bad.reason.code());
                parsed.quarantined.push(Unreadable::new(&bad, &file, bad.place.line as u64 + 1));
            }
        }
    });
    match outcome {
        Ok(()) => Ok(parsed),
        Err(error) => Err(InputError::Format { path: path.to_owned(), problem: error.to_string() }),
    }
}

/// What a quota source's reports are read with.
#[derive(Debug, Clone)]
pub struct ReportSource<'a> {
    /// Format.
    pub format: Format,
    /// The kind of owner that the source takes.
    pub owner: OwnerKind,
    /// When a report was made.
    pub collected_at: &'a CollectedAt,
    /// The site's zone.
    pub zone: Tz,
}

/// Maps one report's readings.
///
/// # Errors
/// Where the report as a whole cannot be trusted: then none of its readings counts.
pub fn map_report<C: Collector>(
    source: &ReportSource<'_>,
    mapper: &StorageMapper<'_>,
    path: &Path,
    index: u32,
    mut kept: C,
) -> Result<(MappedBlock<C>, u64), InputError> {
    let text = read_report(path)?;
    let collected = collected_at(path, source.collected_at, source.zone)?;
    let file = path.to_string_lossy();
    let mut tally = Tally::default();
    let outcome = read(source.format, &text, &mut |frame| {
        tally.frames += 1;
        match frame {
            QuotaFrame::Reading(reading) => {
                tally.contributing += 1;
                tally.runs += 1;
                let at = At { path: &file, index, line: reading.place.line as u64 + 1 };
                map_reading(mapper, &reading, collected, at, &mut tally, &mut kept);
            }
            QuotaFrame::Note(note) => tally.inform(&note.kind.to_string(), 1),
            QuotaFrame::Quarantined(bad) => {
                tally.quarantine(bad.reason.code());
                kept.quarantined(Unreadable::new(&bad, &file, bad.place.line as u64 + 1), index);
            }
        }
    });
    outcome.map_err(|error| InputError::Format { path: path.to_owned(), problem: error.to_string() })?;
    Ok((MappedBlock { tally, kept }, text.len() as u64))
}

fn map_reading<C: Collector>(
    mapper: &StorageMapper<'_>,
    reading: &Reading<'_>,
    collected: i64,
    at: At<'_>,
    tally: &mut Tally,
    kept: &mut C,
) {
    let outcome = mapper.map(reading, collected);
    let (mapped, hold, zero) = match &outcome {
        StorageOutcome::Mapped(mapped) => (Some(mapped), None, false),
        StorageOutcome::Zero(mapped) => (Some(mapped), None, true),
        StorageOutcome::HeldForApproval(mapped, hold) => (Some(mapped), Some(hold), false),
        StorageOutcome::Held(hold) => (None, Some(hold), false),
        StorageOutcome::Skipped(skip) => return tally.skip(skip.reason.code()),
    };
    let mut payload = Vec::new();
    // The collection time comes from a date or a file's time: always a year that JSON can say.
    let mapped = mapped.filter(|mapped| wire::render_storage(&mapped.record, &mut payload).is_ok());
    let record = mapped.map(|mapped| record_of(mapped, &payload));
    match (record, hold) {
        (Some(record), None) => {
            if zero {
                tally.skip("zero-charge");
            } else {
                tally.charge(record.resource, record.project, record.charge);
            }
            kept.record(&record, zero, at);
        }
        (record, hold) => {
            let (reason, detail) = hold
                .map_or(("no-time", "the time of collection is not one that a record can hold"), |hold| {
                    (hold.reason.code(), hold.detail.as_str())
                });
            tally.hold(reason);
            let stored = || {
                serde_json::json!({
                    "owner": reading.owner_name.to_string(),
                    "bytes": reading.bytes,
                    "files": reading.files,
                    "collected_at": collected,
                    "file": at.path,
                    "line": at.line,
                })
                .to_string()
            };
            let key = mapper.key(reading, collected);
            let held = HeldEntry {
                usage_type: UsageType::Storage,
                key: key.as_str(),
                reason,
                detail,
                said: Said::Reading(mapper.source_digest(reading, collected)),
                stored: &stored,
                record,
            };
            kept.held(&held, at);
        }
    }
}

fn record_of<'a>(mapped: &'a MappedReading<'_>, payload: &'a [u8]) -> Record<'a> {
    let record = &mapped.record;
    Record {
        usage_type: UsageType::Storage,
        key: mapped.key.as_str(),
        resource: &record.resource,
        local_record_id: &record.local_record_id,
        submit: record.collection_time,
        username: &record.username,
        project: &record.local_project_id,
        charge: record.charge,
        said: Said::Reading(mapped.source_digest),
        facts: SourceFacts::default(),
        payload,
    }
}
