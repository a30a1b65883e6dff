//! The shapes in which answers come.
//!
//! Keys have had more than one spelling, numbers come as strings, fields are missing or new: all of that is read. What
//! is not read is an answer whose shape says nothing: it is [`Unreadable`], never an empty list.

use super::lenient::{Object, list};
use super::text::{error_text, printable};
use crate::{Decimal, UsageType};

/// An answer that is not in any of the shapes that the API is known to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be read: {reason}")]
pub struct Unreadable {
    /// What it is instead.
    pub reason: String,
}

/// A record that was refused or failed to load, as the service returned it. What it left out is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedRecord {
    /// The type of the record.
    pub usage_type: Option<UsageType>,
    /// Why, in the service's words. Not escaped: see [`printable`](super::printable).
    pub error: String,
    /// What acknowledges it; only in the list of failed records.
    pub failed_record_id: Option<String>,
    /// Wire identity, first part.
    pub resource: Option<String>,
    /// Wire identity, second part.
    pub local_record_id: Option<String>,
    /// Wire identity, third part, epoch seconds: the submit time (storage: collection time; adjustment: start time).
    pub submit_time: Option<i64>,
    /// The login.
    pub username: Option<String>,
    /// The project.
    pub local_project_id: Option<String>,
    /// The charge.
    pub charge: Option<Decimal>,
    /// The ledger's key, echoed.
    pub local_reference: Option<String>,
}

impl FailedRecord {
    fn read(object: &Object<'_>) -> Self {
        let usage_type = object.text(&["UsageType"]).and_then(|word| {
            UsageType::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(&word))
        });
        let submit_time = match usage_type {
            Some(UsageType::Compute) => object.time(&["SubmitTime"]),
            Some(UsageType::Storage) => object.time(&["CollectionTime"]),
            Some(UsageType::Adjustment) => object.time(&["StartTime"]),
            // A compute record has a start time too, which is not its identity.
            None if object.has(&["AdjustmentType"]) => object.time(&["StartTime"]),
            None => object.time(&["SubmitTime", "CollectionTime"]),
        };
        Self {
            usage_type,
            error: object
                .text(&["Error"])
                .or_else(|| object.raw(&["Error"]).map(str::to_owned))
                .unwrap_or_default(),
            failed_record_id: object.text(&["FailedRecordID"]).filter(|id| !id.is_empty()),
            resource: object.text(&["Resource"]),
            local_record_id: object.text(&["LocalRecordID"]),
            submit_time,
            username: object.text(&["Username"]),
            local_project_id: object.text(&["LocalProjectID"]),
            charge: object.decimal(&["Charge"]).map(|(charge, _)| charge),
            local_reference: object.text(&["LocalReference"]).filter(|reference| !reference.is_empty()),
        }
    }

    /// An entry of a list of failures; what is no object is kept as the error's text.
    fn entry(json: &str) -> Self {
        match Object::read(json) {
            Some(object) => Self::read(&object),
            None => {
                let error = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
                Self { error, ..Self::default() }
            }
        }
    }
}

/// What was processed for one resource in an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceStatus {
    /// AMIE resource name.
    pub resource: String,
    /// Records loaded.
    pub loaded_record_count: Option<u64>,
    /// Records that failed (`FailedJobCount` or `FailedRecordCount`).
    pub failed_record_count: Option<u64>,
    /// Sum of the loaded charges.
    pub total_charge: Option<Decimal>,
    /// Why records failed. Old errors show up again in wider intervals.
    pub errors: Vec<StatusError>,
}

/// One reason, and the records that failed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusError {
    /// In the service's words.
    pub error: String,
    /// The records; each carries the reason too.
    pub records: Vec<FailedRecord>,
}

/// A record that the service has loaded (and so charged).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedRecord {
    /// Wire identity, first part.
    pub resource: String,
    /// Wire identity, second part.
    pub local_record_id: String,
    /// Wire identity, third part, epoch seconds.
    pub submit_time: Option<i64>,
    /// When it was loaded, epoch seconds.
    pub loaded_time: Option<i64>,
    /// The charge as returned; the service may keep fewer digits than were sent.
    pub charge: Option<Decimal>,
    /// Digits behind the point in the charge as returned, trailing zeros counted: `12.50` has 2.
    pub charge_places: u8,
    /// The service's own number of the record.
    pub accounting_db_record_id: Option<String>,
}

/// One page of loaded records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadedPage {
    /// The records.
    pub records: Vec<LoadedRecord>,
    /// Entries without a resource or a record id.
    pub unreadable: u64,
    /// True where the page is as long as was asked for: there may be more behind it.
    pub full: bool,
}

/// The identity of a rendered record of ours, read with the same eyes as an answer. `None` where it is no object.
#[must_use]
pub fn read_record(usage_type: UsageType, rendered: &[u8]) -> Option<FailedRecord> {
    let object = Object::read(std::str::from_utf8(rendered).ok()?)?;
    let mut record = FailedRecord::read(&object);
    record.usage_type = Some(usage_type);
    record.submit_time = object.time(match usage_type {
        UsageType::Compute => &["SubmitTime"],
        UsageType::Storage => &["CollectionTime"],
        UsageType::Adjustment => &["StartTime"],
    });
    Some(record)
}

const FAILED_KEYS: &[&str] = &["ValidationFailedRecords", "FailedRecords"];

/// Reads the body of a 2xx to `POST /usage/`: the records that were refused. All others were taken.
///
/// ```
/// use amie_usage::wire::read_sent;
/// let body = br#"{"Message": "1 failed", "ValidationFailedRecords": [{"LocalRecordID": 7, "Error": "no such user"}]}"#;
/// let refused = read_sent(body)?;
/// assert_eq!(refused[0].local_record_id.as_deref(), Some("7"));
/// assert!(read_sent(b"<html>Welcome to the guest network</html>").is_err());
/// # Ok::<(), amie_usage::wire::Unreadable>(())
/// ```
///
/// # Errors
/// Where the body is no object, or carries neither `Message` nor a list of failures: then nobody knows what was taken.
pub fn read_sent(body: &[u8]) -> Result<Vec<FailedRecord>, Unreadable> {
    let text = lossy(body);
    let Some(object) = Object::read(json(&text)) else { return Err(unreadable(body)) };
    let refused = failures_under_keys(&object).ok_or_else(|| unreadable(body))?;
    let known = object.has(&["Message"]) || object.has(FAILED_KEYS);
    // `{"error": ...}` with 200 is no acceptance.
    let in_error = object.raw(&["Error"]).is_some();
    // Nor is an answer that speaks of failures in a way that nobody has seen yet.
    let speaks_of_more = object.others(FAILED_KEYS).any(|(key, value)| speaks_of_failures(key, value));
    if !known || speaks_of_more || (in_error && refused.is_empty()) {
        return Err(unreadable(body));
    }
    Ok(refused)
}

/// True where a value that nobody asked for may name records that failed.
fn speaks_of_failures(key: &str, value: &str) -> bool {
    let nested = value.starts_with(['[', '{']) && value.len() > 2;
    let names = |text: &str, words: &[&str]| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    let records = value.starts_with('[') && value.contains('{');
    nested
        && (records
            || names(key, &["fail", "error", "reject", "refuse", "invalid"])
            || names(value, &["\"error", "fail", "recordid", "record_id"]))
}

/// Reads the body of `GET /usage/failed`.
///
/// # Errors
/// Where it is neither a list nor an object with one.
pub fn read_failed(body: &[u8]) -> Result<Vec<FailedRecord>, Unreadable> {
    let text = lossy(body);
    let text = json(&text);
    if let Some(failures) = failures_in(text) {
        return Ok(failures);
    }
    let object = Object::read(text).filter(|object| object.has(FAILED_KEYS));
    object.and_then(|object| failures_under_keys(&object)).ok_or_else(|| unreadable(body))
}

/// Reads the body of `GET /usage/status`.
///
/// # Errors
/// Where it is neither a list of resources nor one resource.
pub fn read_status(body: &[u8]) -> Result<Vec<ResourceStatus>, Unreadable> {
    let text = lossy(body);
    let text = json(&text);
    let entries: Vec<&str> = match list(text) {
        Some(entries) => entries.into_iter().map(|entry| entry.get()).collect(),
        None => vec![text],
    };
    entries.into_iter().map(|entry| resource_status(entry).ok_or_else(|| unreadable(body))).collect()
}

fn resource_status(json: &str) -> Option<ResourceStatus> {
    let object = Object::read(json)?;
    let errors = object.raw(&["Errors"]).and_then(list).unwrap_or_default();
    Some(ResourceStatus {
        resource: object.text(&["Resource"])?,
        loaded_record_count: object.count(&["LoadedRecordCount"]),
        failed_record_count: object.count(&["FailedJobCount", "FailedRecordCount"]),
        total_charge: object.decimal(&["TotalCharge"]).map(|(charge, _)| charge),
        errors: errors.into_iter().map(|error| status_error(error.get())).collect(),
    })
}

fn status_error(json: &str) -> StatusError {
    let failure = FailedRecord::entry(json);
    let Some(records) = Object::read(json).and_then(|object| list(object.raw(&["Records"])?)) else {
        // A flat entry is its own record.
        let records = if failure.local_record_id.is_some() { vec![failure.clone()] } else { Vec::new() };
        return StatusError { error: failure.error, records };
    };
    let records = records.into_iter().map(|record| {
        let mut record = FailedRecord::entry(record.get());
        record.usage_type = record.usage_type.or(failure.usage_type);
        if record.error.is_empty() {
            record.error.clone_from(&failure.error);
        }
        record
    });
    StatusError { records: records.collect(), error: failure.error }
}

/// Reads the body of `GET /usage/loaded`, asked for `limit` records.
///
/// # Errors
/// Where it is neither a list nor an object with one.
pub fn read_loaded(body: &[u8], limit: u32) -> Result<LoadedPage, Unreadable> {
    const KEYS: &[&str] = &["Records", "LoadedRecords"];
    let text = lossy(body);
    let text = json(&text);
    let entries = match list(text) {
        Some(entries) => entries,
        None => {
            let object = Object::read(text).filter(|object| object.has(KEYS));
            let Some(object) = object else { return Err(unreadable(body)) };
            match object.raw(KEYS) {
                Some(records) => list(records).ok_or_else(|| unreadable(body))?,
                None => Vec::new(),
            }
        }
    };
    let mut page = LoadedPage {
        full: usize::try_from(limit).is_ok_and(|limit| limit > 0 && entries.len() >= limit),
        ..LoadedPage::default()
    };
    for entry in entries {
        match loaded_record(entry.get()) {
            Some(record) => page.records.push(record),
            None => page.unreadable = page.unreadable.saturating_add(1),
        }
    }
    Ok(page)
}

fn loaded_record(json: &str) -> Option<LoadedRecord> {
    let object = Object::read(json)?;
    let charge = object.decimal(&["Charge"]);
    Some(LoadedRecord {
        resource: object.text(&["Resource"])?,
        local_record_id: object.text(&["LocalRecordID"])?,
        submit_time: object.time(&["SubmitTime"]),
        loaded_time: object.time(&["LoadedTime"]),
        charge: charge.map(|(charge, _)| charge),
        charge_places: charge.map_or(0, |(_, places)| places),
        accounting_db_record_id: object.text(&["AccountingDbRecordID"]),
    })
}

/// The failures under all keys that they come under; `None` where one of them holds something else than a list.
fn failures_under_keys(object: &Object<'_>) -> Option<Vec<FailedRecord>> {
    let mut failures = Vec::new();
    for json in FAILED_KEYS.iter().flat_map(|key| object.all(key)) {
        failures.extend(failures_in(json)?);
    }
    Some(failures)
}

fn failures_in(json: &str) -> Option<Vec<FailedRecord>> {
    Some(list(json)?.into_iter().map(|entry| FailedRecord::entry(entry.get())).collect())
}

/// Bytes that are not UTF-8 are replaced: one bad byte in a job name must not hide a whole answer.
fn lossy(body: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(body)
}

/// The text without byte order mark and white space around it.
fn json(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// The first bytes tell what it is; a whole page of data need not be looked at for that.
fn unreadable(body: &[u8]) -> Unreadable {
    const ENOUGH: usize = 64 * 1024;
    let shown = error_text(body.get(..ENOUGH).unwrap_or(body));
    Unreadable { reason: printable(&shown, 300) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_partial_failure_names_its_records() {
        let body = br#"{"Message": "ignored", "ValidationFailedRecords": [
            {"UsageType": "Compute", "Error": "no such user", "Username": "ada", "LocalProjectID": "P1",
             "LocalRecordID": 123, "Resource": "r", "SubmitTime": "2026-10-02T00:00:00Z",
             "StartTime": "2026-10-02T00:01:00Z", "Charge": 12.5, "ParentRecordID": [null],
             "LocalReference": "slurm/testhpc/123/1790899200", "NodeCount": "1"},
            {"UsageType": "Adjustment", "Error": ["a", "b"], "StartTime": "2026-10-02T00:00:00Z"},
            "what"]}"#;
        let failed = read_sent(body).unwrap();
        assert_eq!(failed.len(), 3);
        assert_eq!(failed[0].local_record_id.as_deref(), Some("123"));
        assert_eq!(failed[0].submit_time, Some(1_790_899_200));
        assert_eq!(failed[0].charge, Some(Decimal::new(125, 1)));
        assert_eq!(failed[0].local_reference.as_deref(), Some("slurm/testhpc/123/1790899200"));
        assert_eq!(failed[1].submit_time, Some(1_790_899_200));
        assert_eq!(failed[1].error, r#"["a", "b"]"#);
        assert_eq!(failed[2].error, "what");
    }

    #[test]
    fn a_start_time_is_never_taken_for_a_submit_time() {
        let failed =
            read_sent(br#"{"ValidationFailedRecords": [{"StartTime": "2026-10-02T00:00:00Z"}]}"#).unwrap();
        assert_eq!(failed[0].submit_time, None);
    }

    #[test]
    fn acceptance_is_read_only_from_a_known_shape() {
        for accepted in [
            r#"{"Message": "ok", "ValidationFailedRecords": []}"#,
            r#"{"Message": "ok"}"#,
            r#"{"ValidationFailedRecords": null}"#,
            r#"{"FailedRecords": [], "New": {"a": [1]}}"#,
            r#"{"Message": "ok", "error": null}"#,
            "\u{feff} {\"Message\": null, \"Message\": \"twice\"}",
        ] {
            assert_eq!(read_sent(accepted.as_bytes()), Ok(Vec::new()), "{accepted}");
        }
        for unknown in [
            "",
            "{}",
            "[]",
            "null",
            "\"OK\"",
            r#"{"error": "no"}"#,
            r#"{"Message": "ok", "error": "no"}"#,
            r#"{"ValidationFailedRecords": [], "error": "no"}"#,
            r#"{"Message": "ok", "ValidationFailedRecords": 3}"#,
            r#"{"Message": "ok""#,
            "<html><title>Login</title></html>",
        ] {
            assert!(read_sent(unknown.as_bytes()).is_err(), "{unknown}");
        }
        let both =
            br#"{"ValidationFailedRecords": [], "FailedRecords": [{"LocalRecordID": "1", "Error": "e"}]}"#;
        assert_eq!(read_sent(both).unwrap().len(), 1);
        assert_eq!(read_sent(b"<title>Log in</title>").unwrap_err().reason, "a web page, \"Log in\"");
    }

    #[test]
    fn failed_records_come_under_either_key_or_bare() {
        let record = r#"{"FailedRecordID": 17, "UsageType": "Storage", "Error": "e", "LocalRecordID": "s1",
            "CollectionTime": "2026-10-02T00:00:00Z"}"#;
        for body in [
            format!(r#"{{"FailedRecords": [{record}]}}"#),
            format!(r#"{{"ValidationFailedRecords": [{record}]}}"#),
            format!(r#"{{"ValidationFailedRecords": null, "FailedRecords": [{record}]}}"#),
            format!("[{record}]"),
        ] {
            let failed = read_failed(body.as_bytes()).unwrap();
            assert_eq!(failed.len(), 1, "{body}");
            assert_eq!(failed[0].failed_record_id.as_deref(), Some("17"));
            assert_eq!(failed[0].usage_type, Some(UsageType::Storage));
            assert_eq!(failed[0].submit_time, Some(1_790_899_200));
        }
        assert_eq!(read_failed(b"{\"FailedRecords\": null}"), Ok(Vec::new()));
        for unknown in ["", "{}", "{\"Message\":\"none\"}", "<html>"] {
            assert!(read_failed(unknown.as_bytes()).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_status_is_read_in_all_its_spellings() {
        let body = br#"[
            {"Resource": "cpu", "LoadedRecordCount": 10, "FailedJobCount": "2", "TotalCharge": "1234.50",
             "Errors": [{"Error": "Allocation could not be found for user ada", "UsageType": "Compute",
                         "Records": [{"LocalRecordID": "1", "SubmitTime": "2026-10-02T00:00:00Z"}, {"Error": "own"}]}]},
            {"Resource": "gpu", "FailedRecordCount": 1, "TotalCharge": null, "Errors": [{"Error": "flat", "LocalRecordID": 5}]},
            {"Resource": "disk", "Errors": null}]"#;
        let status = read_status(body).unwrap();
        assert_eq!(status.len(), 3);
        assert_eq!((status[0].loaded_record_count, status[0].failed_record_count), (Some(10), Some(2)));
        assert_eq!(status[0].total_charge, Some(Decimal::new(12345, 1)));
        let records = &status[0].errors[0].records;
        assert_eq!(records[0].error, "Allocation could not be found for user ada");
        assert_eq!(records[0].submit_time, Some(1_790_899_200));
        assert_eq!(records[1].error, "own");
        assert_eq!(status[1].failed_record_count, Some(1));
        assert_eq!(status[1].errors[0].records[0].local_record_id.as_deref(), Some("5"));
        assert_eq!((status[2].total_charge, status[2].errors.len()), (None, 0));
        assert_eq!(read_status(b"[]"), Ok(Vec::new()));
        assert_eq!(read_status(br#"{"Resource": "one"}"#).unwrap().len(), 1);
        for unknown in ["", "null", "{}", "[1]", "<html>"] {
            assert!(read_status(unknown.as_bytes()).is_err(), "{unknown}");
        }
    }

    #[test]
    fn loaded_records_keep_the_places_they_came_with() {
        let record = r#"{"AccountingDbRecordID": 99, "LocalRecordID": "1", "Resource": "cpu",
            "SubmitTime": "2026-10-02T00:00:00Z", "LoadedTime": "2026-10-03T00:00:00.25Z", "Charge": 12.50}"#;
        for body in [format!("[{record}, {{}}]"), format!(r#"{{"Records": [{record}, 7]}}"#)] {
            let page = read_loaded(body.as_bytes(), 2).unwrap();
            assert_eq!((page.records.len(), page.unreadable, page.full), (1, 1, true));
            let loaded = &page.records[0];
            assert_eq!((loaded.charge, loaded.charge_places), (Some(Decimal::new(125, 1)), 2));
            assert_eq!(loaded.submit_time, Some(1_790_899_200));
            assert_eq!(loaded.loaded_time, Some(1_790_985_600));
            assert_eq!(loaded.accounting_db_record_id.as_deref(), Some("99"));
            assert!(!read_loaded(body.as_bytes(), 3).unwrap().full);
        }
        assert!(read_loaded(b"{}", 1).is_err());
        assert!(read_loaded(b"", 1).is_err());
    }

    #[test]
    fn one_byte_that_is_not_utf8_does_not_hide_an_answer() {
        let failed = read_sent(
            b"{\"ValidationFailedRecords\": [{\"JobName\": \"caf\xe9\", \"LocalRecordID\": \"1\"}]}",
        );
        assert_eq!(failed.unwrap()[0].local_record_id.as_deref(), Some("1"));
    }

    proptest! {
        #[test]
        fn no_body_makes_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_sent(&body), read_failed(&body), read_status(&body), read_loaded(&body, 5), error_text(&body));
        }

        #[test]
        fn no_json_makes_a_reader_panic(body in r#"[\[\]{}":,0-9a-zA-Z<>\\ ]{0,60}"#) {
            let body = body.as_bytes();
            let _ = (read_sent(body), read_failed(body), read_status(body), read_loaded(body, 5), error_text(body));
        }
    }
}
