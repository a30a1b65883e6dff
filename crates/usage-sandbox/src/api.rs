//! The calls: which path and method is which, and what each answers.

use crate::decimal::{self, Sum};
use crate::fault::{Call, Fault, RecordFaults};
use crate::http::{Answer, Head};
use crate::judge::{self, Refusal};
use crate::page;
use crate::record::Members;
use crate::service::Service;
use crate::state::{Live, totals};
use crate::store::{Fate, Reader, Store, Version};
use crate::time;
use crate::wire::UsageType;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

/// The path of the API, as the real test service has it.
pub(crate) const BASE: &str = "/api/v1_test";
/// The most records of one answer of `usage/loaded`.
const MAX_LIMIT: usize = 25_000;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Post,
    Status,
    Failed,
    /// Comma-joined numbers.
    Clear(&'a str),
    Loaded,
    Summary,
    Page,
    State,
    Totals,
    Faults,
    Arm,
    Disarm,
    Settle,
    /// The methods that the path has.
    WrongMethod(&'static str),
    Nowhere,
}

impl<'a> Route<'a> {
    pub(crate) fn of(head: &'a Head) -> Self {
        let path = head.path.as_str();
        let method = head.method.as_str();
        if let Some(call) = path.strip_prefix(BASE) {
            return match (call.strip_suffix('/').unwrap_or(call), method) {
                ("/usage", "POST") => Self::Post,
                ("/usage", _) => Self::WrongMethod("POST"),
                ("/usage/status", "GET") => Self::Status,
                ("/usage/failed", "GET") => Self::Failed,
                ("/usage/loaded", "GET") => Self::Loaded,
                ("/usage/summary", "GET") => Self::Summary,
                ("/usage/status" | "/usage/failed" | "/usage/loaded" | "/usage/summary", _) => {
                    Self::WrongMethod("GET")
                }
                (call, method) => match (call.strip_prefix("/usage/failed/"), method) {
                    (None, _) => Self::Nowhere,
                    (Some(numbers), "DELETE") => Self::Clear(numbers),
                    (Some(_), _) => Self::WrongMethod("DELETE"),
                },
            };
        }
        match (path, method) {
            ("/", "GET") => Self::Page,
            ("/sandbox/state", "GET") => Self::State,
            ("/sandbox/totals", "GET") => Self::Totals,
            ("/sandbox/faults", "GET") => Self::Faults,
            ("/sandbox/faults", "POST") => Self::Arm,
            ("/sandbox/faults", "DELETE") => Self::Disarm,
            ("/sandbox/settle", "POST") => Self::Settle,
            ("/" | "/sandbox/state" | "/sandbox/totals", _) => Self::WrongMethod("GET"),
            ("/sandbox/faults", _) => Self::WrongMethod("GET, POST, DELETE"),
            ("/sandbox/settle", _) => Self::WrongMethod("POST"),
            _ => Self::Nowhere,
        }
    }

    /// The call that faults can be tied to; `None` for what is not the API's.
    pub(crate) fn call(self) -> Option<Call> {
        match self {
            Self::Post => Some(Call::Post),
            Self::Status => Some(Call::Status),
            Self::Failed | Self::Clear(_) => Some(Call::Failed),
            Self::Loaded => Some(Call::Loaded),
            Self::Summary => Some(Call::Any),
            _ => None,
        }
    }
}

/// Serves one request.
pub(crate) fn answer(
    service: &Service,
    route: Route<'_>,
    head: &Head,
    body: &[u8],
    faults: RecordFaults,
) -> Answer {
    if route.call().is_some()
        && let Err(reason) = authorised(service, head)
    {
        if route == Route::Post {
            return turned(service, 401, reason);
        }
        return error(401, reason);
    }
    match route {
        Route::Post => post(service, head, body, faults),
        Route::Status => status(service, head).unwrap_or_else(|reason| error(400, &reason)),
        Route::Failed => failed(service),
        Route::Clear(numbers) => clear(service, numbers),
        Route::Loaded => loaded(service, head).unwrap_or_else(|reason| error(400, &reason)),
        Route::Summary => error(501, "usage/summary is not implemented"),
        Route::Page => page::answer(service),
        Route::State => {
            let faults = service.faults();
            service.look(|store| json_answer(&Live { store, faults }))
        }
        Route::Totals => json_answer(&service.look(totals)),
        Route::Faults => json_answer(&service.faults()),
        Route::Arm => arm(service, body),
        Route::Disarm => {
            service.clear_faults();
            json_answer(&service.faults())
        }
        Route::Settle => match service.settle() {
            Ok(()) => json_answer(&json!({"Message": "everything queued was processed"})),
            Err(problem) => broken(&problem),
        },
        Route::WrongMethod(methods) => {
            let mut answer = error(405, &format!("this path takes {methods}"));
            answer.fields.push(("Allow", methods.to_owned()));
            answer
        }
        Route::Nowhere => error(404, &format!("there is nothing here; the API is under {BASE}/usage")),
    }
}

/// Whether the request says who sends it.
fn authorised(service: &Service, head: &Head) -> Result<(), &'static str> {
    let right = |name, wanted: &Option<String>| match (head.field(name), wanted) {
        (None | Some(""), _) => false,
        (Some(_), None) => true,
        (Some(given), Some(wanted)) => given == wanted,
    };
    if !right("xa-site", &service.settings.site) {
        Err("XA-SITE is missing, or is not this site")
    } else if !right("xa-api-key", &service.settings.key) {
        Err("XA-API-KEY is missing, or is not this site's key")
    } else {
        Ok(())
    }
}

/// `POST usage`
fn post(service: &Service, head: &Head, body: &[u8], faults: RecordFaults) -> Answer {
    let content_type =
        head.field("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    if !content_type.trim().eq_ignore_ascii_case("application/json") {
        return turned(service, 415, "Content-Type must be application/json");
    }
    let message = judge::message(body, service.settings.max_records);
    let judged = match message.and_then(|message| service.judge(&message, faults)) {
        Ok(judged) => judged,
        Err(Refusal::Bad(reason)) => return turned(service, 400, &reason),
        Err(Refusal::TooMany(reason)) => return turned(service, 413, &reason),
    };
    let judged = match service.post(judged) {
        Ok(judged) => judged,
        Err(problem) => return broken(&problem),
    };
    let failed = judged.refused.iter().map(|refused| Flat {
        record: Cow::Borrowed(refused.record),
        usage_type: judged.usage_type,
        error: Some(&refused.error),
        failed_record_id: None,
    });
    let failed: Vec<Flat<'_>> = failed.collect();
    let message = format!("{} records queued, {} failed validation", judged.accepted.len(), failed.len());
    json_answer(&Posted { message, failed })
}

/// The answer to a POST.
#[derive(Serialize)]
struct Posted<'a> {
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "ValidationFailedRecords")]
    failed: Vec<Flat<'a>>,
}

/// A record as answers carry it: its own members, and beside them what the service has to say.
struct Flat<'a> {
    record: Cow<'a, RawValue>,
    usage_type: UsageType,
    error: Option<&'a str>,
    failed_record_id: Option<u64>,
}

impl<'a> Flat<'a> {
    /// A record that failed to load.
    fn failed(store: &'a Store, reader: &mut Reader<'a>, number: u64, version: &Version) -> Self {
        Self {
            record: Cow::Owned(reader.record(version)),
            usage_type: version.usage_type,
            error: version.fails.map(|error| store.name(error)),
            failed_record_id: Some(number),
        }
    }
}

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ours = ["UsageType", "Error", "FailedRecordID"];
        let members = Members::read(&self.record).unwrap_or_default();
        let mut map = serializer.serialize_map(None)?;
        // A name is written once, whatever was sent: JSON with two of them is read differently by everyone.
        let mut written = std::collections::BTreeSet::from(ours);
        for (name, value) in members.iter().filter(|(name, _)| written.insert(name)) {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("UsageType", self.usage_type.word())?;
        if let Some(error) = self.error {
            map.serialize_entry("Error", error)?;
        }
        if let Some(number) = self.failed_record_id {
            map.serialize_entry("FailedRecordID", &number)?;
        }
        map.end()
    }
}

/// What `usage/status` counts of one resource.
#[derive(Default)]
struct ResourceStatus<'a> {
    loaded: u64,
    failed_jobs: u64,
    failed: u64,
    charge: Sum,
    errors: BTreeMap<&'a str, Vec<Flat<'a>>>,
}

/// One resource of `usage/status`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusEntry<'a> {
    resource: &'a str,
    loaded_record_count: u64,
    failed_job_count: u64,
    failed_record_count: u64,
    total_charge: Box<RawValue>,
    errors: Vec<StatusError<'a>>,
}

/// One error, and the records that met it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusError<'a> {
    error: &'a str,
    records: Vec<Flat<'a>>,
}

/// `GET usage/status`: what was processed in an interval, both ends included. Adjustments do not count as charge.
fn status(service: &Service, head: &Head) -> Result<Answer, String> {
    only(head, &["FromTime", "ToTime"])?;
    let from = time_parameter(head, "FromTime")?.unwrap_or(i64::MIN);
    let to = time_parameter(head, "ToTime")?.unwrap_or(i64::MAX);
    Ok(service.look(|store| json_answer(&status_of(service, store, from, to))))
}

fn status_of<'a>(service: &Service, store: &'a Store, from: i64, to: i64) -> Vec<StatusEntry<'a>> {
    let mut resources: BTreeMap<&str, ResourceStatus<'_>> = BTreeMap::new();
    let mut reader = store.reader();
    for (number, version) in store.numbered() {
        // A failure stays in its interval when it is cleared: clearing acknowledges it, and does not undo it.
        let (Fate::Loaded { at } | Fate::Failed { at } | Fate::Cleared { at }) = version.fate else {
            continue;
        };
        if !(from..=to).contains(&at.div_euclid(1000)) {
            continue;
        }
        let status = resources.entry(store.name(version.resource)).or_default();
        if let Some(error) = version.fails {
            status.failed = status.failed.saturating_add(1);
            let job = u64::from(version.usage_type == UsageType::Compute);
            status.failed_jobs = status.failed_jobs.saturating_add(job);
            // The error stands above its records.
            let record = Flat { error: None, ..Flat::failed(store, &mut reader, number, version) };
            status.errors.entry(store.name(error)).or_default().push(record);
        } else {
            status.loaded = status.loaded.saturating_add(1);
            if version.usage_type != UsageType::Adjustment {
                status.charge.add(store.charge(version));
            }
        }
    }
    resources
        .into_iter()
        .map(|(resource, status)| StatusEntry {
            resource,
            loaded_record_count: status.loaded,
            failed_job_count: status.failed_jobs,
            failed_record_count: status.failed,
            total_charge: charge(service, &status.charge.to_string()),
            errors: status
                .errors
                .into_iter()
                .map(|(error, records)| StatusError { error, records })
                .collect(),
        })
        .collect()
}

/// `GET usage/failed`
fn failed(service: &Service) -> Answer {
    service.look(|store| {
        let mut reader = store.reader();
        let failed: Vec<Flat<'_>> = store
            .numbered()
            .filter(|(_, version)| matches!(version.fate, Fate::Failed { .. }))
            .map(|(number, version)| Flat::failed(store, &mut reader, number, version))
            .collect();
        // The name is not documented; this is where the reference client looks.
        json_answer(&BTreeMap::from([("ValidationFailedRecords", failed)]))
    })
}

/// `DELETE usage/failed/{number,number,...}`: all of them, or none. Clearing one again is no error.
fn clear(service: &Service, numbers: &str) -> Answer {
    let Ok(numbers) = numbers.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>() else {
        return error(400, "FailedRecordIDs are numbers, joined by commas");
    };
    let text = format!("{} failures cleared", numbers.len());
    match service.acknowledge(numbers) {
        Ok(None) => json_answer(&json!({"Message": text})),
        Ok(Some(stranger)) => {
            error(404, &format!("there is no failed record {stranger}; nothing was cleared"))
        }
        Err(problem) => broken(&problem),
    }
}

/// One record of `usage/loaded`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LoadedRecord<'a> {
    #[serde(rename = "AccountingDbRecordID")]
    accounting_db_record_id: u64,
    #[serde(rename = "LocalRecordID")]
    local_record_id: &'a str,
    resource: &'a str,
    submit_time: String,
    loaded_time: String,
    charge: Box<RawValue>,
}

/// `GET usage/loaded`: compute records that are loaded now, in the order of loading.
fn loaded(service: &Service, head: &Head) -> Result<Answer, String> {
    only(head, &["MinLoadedTime", "Limit", "Offset", "LocalRecordID"])?;
    let from = time_parameter(head, "MinLoadedTime")?.unwrap_or(i64::MIN);
    let limit = count_parameter(head, "Limit")?.unwrap_or(MAX_LIMIT);
    if limit > MAX_LIMIT {
        return Err(format!("Limit must be at most {MAX_LIMIT}"));
    }
    let offset = count_parameter(head, "Offset")?.unwrap_or(0);
    let id = parameter(head, "LocalRecordID");
    let wanted = |store: &Store, version: &Version, at: i64| {
        version.usage_type == UsageType::Compute
            && at.div_euclid(1000) >= from
            && id.is_none_or(|id| store.local_record_id(version) == id)
    };
    Ok(service.look(|store| {
        let records: Vec<LoadedRecord<'_>> = store
            .loaded()
            .filter(|(_, at, version)| wanted(store, version, *at))
            .skip(offset)
            .take(limit)
            .map(|(number, at, version)| LoadedRecord {
                accounting_db_record_id: number,
                local_record_id: store.local_record_id(version),
                resource: store.name(version.resource),
                submit_time: time::format(version.identity_time),
                loaded_time: time::format_milliseconds(at),
                charge: charge(service, store.charge(version)),
            })
            .collect();
        json_answer(&BTreeMap::from([("Records", records)]))
    }))
}

/// A charge as this service returns it.
fn charge(service: &Service, text: &str) -> Box<RawValue> {
    let text = match service.settings.charge_places {
        Some(places) => decimal::rounded(text, places),
        None if service.settings.charges_as_numbers => decimal::shortest(text),
        None => text.to_owned(),
    };
    // Digits and a point need no escapes.
    let json = if service.settings.charges_as_numbers { text } else { format!("\"{text}\"") };
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// `POST /sandbox/faults`: a JSON list of faults, or one a line.
fn arm(service: &Service, body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let faults: Result<Vec<Fault>, String> = if text.trim_start().starts_with('[') {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| line.parse().map_err(|error: crate::FaultError| error.to_string())).collect()
    };
    match faults {
        Ok(faults) => {
            faults.into_iter().for_each(|fault| service.inject(fault));
            json_answer(&service.faults())
        }
        Err(reason) => error(400, &reason),
    }
}

/// Refuses parameters that the call does not have: a wrong spelling would go unseen.
fn only(head: &Head, names: &[&str]) -> Result<(), String> {
    match head.query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("unknown parameter {name}; there are {}", names.join(", "))),
        None => Ok(()),
    }
}

fn parameter<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    head.query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

fn time_parameter(head: &Head, name: &str) -> Result<Option<i64>, String> {
    let read = |text| {
        time::parse_parameter(text).ok_or_else(|| {
            format!("{name} must be a time like 2026-10-02T00:00:00Z or 2026-10-02T00:00:00+00:00")
        })
    };
    parameter(head, name).map(read).transpose()
}

fn count_parameter(head: &Head, name: &str) -> Result<Option<usize>, String> {
    let read = |text: &str| text.parse().map_err(|_| format!("{name} must be a whole number"));
    parameter(head, name).map(read).transpose()
}

/// Refuses a whole message, and remembers it.
pub(crate) fn turned(service: &Service, status: u16, reason: &str) -> Answer {
    match service.turn(format!("{status}: {reason}")) {
        Ok(()) => error(status, reason),
        Err(problem) => broken(&problem),
    }
}

/// The state file cannot be written: nothing was stored.
fn broken(problem: &io::Error) -> Answer {
    error(500, &format!("the sandbox cannot write its state file: {problem}"))
}

pub(crate) fn error(status: u16, reason: &str) -> Answer {
    Answer::new(status, "application/json", json!({"error": reason}).to_string())
}

fn json_answer(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => Answer::new(200, "application/json", body),
        Err(problem) => error(500, &problem.to_string()),
    }
}
