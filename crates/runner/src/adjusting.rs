//! Adjustments as people ask for them: read from a line of CSV or the command line, completed from the run that is
//! refunded, checked, and rendered.
//!
//! The same request has the same key for ever, so that a file that is given twice adds nothing the second time.

use crate::config::{Config, suggestion};
use crate::ledger::{ADJUSTMENTS, Adjustment, Find, Ledger, LedgerError, REFUNDS, Row};
use amie_usage::{AdjustmentType, AdjustmentUsageRecord, Decimal, UsageType, wire};
use chrono::{NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it does; the type gives the charge its sign.
    pub kind: AdjustmentType,
    /// How much, above 0.
    pub charge: Decimal,
    /// Refunds: record id or ledger key of the run; everything else but the charge comes from it.
    pub run: Option<String>,
    /// AMIE resource name.
    pub resource: Option<String>,
    /// AMIE project.
    pub project: Option<String>,
    /// AMIE login.
    pub username: Option<String>,
    /// What selects the allocation, epoch seconds.
    pub start: Option<i64>,
    /// Sent along.
    pub comment: Option<String>,
    /// Tells it from an equal one.
    pub id: Option<String>,
    /// Where it was asked for.
    pub file: Arc<str>,
    /// Line there, from 1.
    pub line: u64,
}

/// Why a request cannot be an adjustment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{why}")]
pub struct RequestError {
    /// `refunds.csv:3: `, or nothing.
    pub place: String,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Requests of one file: no site corrects more at once by hand, and they are taken in together.
const MOST: usize = 100_000;

/// Columns of a file of requests.
pub const COLUMNS: [&str; 9] =
    ["type", "charge", "run", "resource", "project", "username", "start", "comment", "id"];

fn place(file: &str, line: u64) -> String {
    if file.is_empty() { String::new() } else { format!("{file}:{line}: ") }
}

/// A charge as a person writes it.
///
/// # Errors
/// Where it is no plain decimal above 0.
pub fn charge(text: &str) -> Result<Decimal, String> {
    if text.contains(['e', 'E']) {
        return Err(format!("charge \"{}\": write a plain decimal number like 12.5", text.escape_debug()));
    }
    let charge: Decimal =
        text.trim().parse().map_err(|error| format!("charge \"{}\": {error}", text.escape_debug()))?;
    if charge.is_zero() || charge.is_negative() {
        return Err(format!("charge {charge}: must be above 0, for the type gives it its sign"));
    }
    Ok(charge)
}

/// A type by its name.
///
/// # Errors
/// Where there is no such type.
pub fn kind(text: &str) -> Result<AdjustmentType, String> {
    let names = AdjustmentType::ALL.map(AdjustmentType::as_str);
    AdjustmentType::ALL.into_iter().find(|kind| kind.as_str() == text.trim()).ok_or_else(|| {
        let near = suggestion(text, names).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        format!("type \"{}\" is not one of {}{near}", text.escape_debug(), names.join(", "))
    })
}

/// A time as a person writes it: `2026-10-01` is midnight in the site's zone, `2026-10-01T12:00:00Z` is itself.
///
/// # Errors
/// Where it is neither.
pub fn start(text: &str, zone: Tz) -> Result<i64, String> {
    let text = text.trim();
    let midnight = text
        .parse::<NaiveDate>()
        .ok()
        .and_then(|date| zone.from_local_datetime(&date.and_time(NaiveTime::MIN)).earliest());
    midnight.map(|time| time.timestamp()).or_else(|| wire::parse_time(text)).ok_or_else(|| {
        format!(
            "start \"{}\" is neither a date like 2026-10-01 nor a time like 2026-10-01T12:00:00Z",
            text.escape_debug()
        )
    })
}

/// Reads requests from a CSV file with a header; columns in any order.
///
/// # Errors
/// Every line that is none.
pub fn read_csv(path: &Path, zone: Tz) -> Result<Vec<Request>, Vec<RequestError>> {
    let name: Arc<str> = Arc::from(path.to_string_lossy().as_ref());
    let fail = |line: u64, why: String| RequestError { place: place(&name, line), why };
    let whole = |why: String| vec![RequestError { place: format!("{name}: "), why }];
    let file = std::fs::File::open(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file);
    let header = reader.headers().map_err(|error| whole(error.to_string()))?.clone();
    let mut columns = Vec::new();
    for column in header.iter().map(|name| name.trim_start_matches('\u{feff}')) {
        let Some(known) = COLUMNS.iter().find(|known| known.eq_ignore_ascii_case(column)) else {
            let near = suggestion(column, COLUMNS)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let why = format!(
                "unknown column \"{}\": the columns are {}{near}",
                column.escape_debug(),
                COLUMNS.join(",")
            );
            return Err(vec![fail(1, why)]);
        };
        if columns.contains(known) {
            return Err(vec![fail(1, format!("column {known} is there twice"))]);
        }
        columns.push(*known);
    }
    for needed in ["type", "charge"] {
        if !columns.contains(&needed) {
            return Err(vec![fail(1, format!("column {needed} is missing"))]);
        }
    }
    let (mut requests, mut errors) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                errors.push(fail(error.position().map_or(0, csv::Position::line), error.to_string()));
                break;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue;
        }
        if requests.len() + errors.len() >= MOST {
            errors.push(fail(line, format!("more than {MOST} adjustments in one file: split it")));
            break;
        }
        match request(&columns, &record, zone, &name, line) {
            Ok(request) => requests.push(request),
            Err(why) => errors.push(fail(line, why)),
        }
    }
    if errors.is_empty() { Ok(requests) } else { Err(errors) }
}

fn request(
    columns: &[&str],
    record: &csv::StringRecord,
    zone: Tz,
    file: &Arc<str>,
    line: u64,
) -> Result<Request, String> {
    if record.len() > columns.len() {
        return Err(format!(
            "{} fields, but the header has {}: a value that holds a comma must be quoted",
            record.len(),
            columns.len()
        ));
    }
    let field = |name: &str| {
        let position = columns.iter().position(|column| *column == name)?;
        record.get(position).filter(|field| !field.is_empty()).map(str::to_owned)
    };
    let needed = |name: &str| field(name).ok_or_else(|| format!("{name} is empty"));
    Ok(Request {
        kind: kind(&needed("type")?)?,
        charge: charge(&needed("charge")?)?,
        run: field("run"),
        resource: field("resource"),
        project: field("project"),
        username: field("username"),
        start: field("start").map(|text| start(&text, zone)).transpose()?,
        comment: field("comment"),
        id: field("id"),
        file: Arc::clone(file),
        line,
    })
}

/// Why requests cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum CompletionError {
    /// What was asked for.
    #[error("{} of the adjustments cannot be made", .0.len())]
    Requests(Vec<RequestError>),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Completes requests: refunds from their runs, keys and ids, and the bytes that are sent.
///
/// # Errors
/// Every request that cannot be an adjustment; or the ledger cannot be read.
pub fn complete(
    config: &Config,
    ledger: &dyn Ledger,
    requests: &[Request],
) -> Result<Vec<Adjustment>, CompletionError> {
    let totals = ledger.totals()?;
    let mut resources: Vec<String> = config.rules.resource_names().map(str::to_owned).collect();
    resources.extend(totals.charges.iter().map(|total| total.resource.to_string()));
    let (mut adjustments, mut errors) = (Vec::with_capacity(requests.len()), Vec::new());
    for request in requests {
        match adjustment(ledger, &resources, request) {
            Ok(adjustment) => adjustments.push(adjustment),
            Err(Fault::Request(why)) => {
                errors.push(RequestError { place: place(&request.file, request.line), why });
            }
            Err(Fault::Ledger(error)) => return Err(error.into()),
        }
    }
    if errors.is_empty() { Ok(adjustments) } else { Err(CompletionError::Requests(errors)) }
}

enum Fault {
    Request(String),
    Ledger(LedgerError),
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Request(why.into()))
}

fn adjustment(ledger: &dyn Ledger, resources: &[String], request: &Request) -> Result<Adjustment, Fault> {
    let run = match (&request.run, request.kind) {
        (Some(run), AdjustmentType::Refund) => Some(find_run(ledger, run)?),
        (None, AdjustmentType::Refund) => {
            return refuse("a refund names its run: run = record id or ledger key");
        }
        (Some(_), kind) => return refuse(format!("only a refund names a run, and this is a {kind}")),
        (None, _) => None,
    };
    let (resource, project, username, start) = match run.as_ref().and_then(|run| run.wanted.as_ref()) {
        Some(wanted) => {
            let own = [&*wanted.identity.resource, &*wanted.project, &*wanted.username];
            for (name, given, own) in [
                ("resource", &request.resource, own[0]),
                ("project", &request.project, own[1]),
                ("username", &request.username, own[2]),
            ] {
                if given.as_deref().is_some_and(|given| given != own) {
                    return refuse(format!("{name} of a refund is that of its run, {own}: leave it out"));
                }
            }
            if request.start.is_some_and(|start| start != wanted.identity.submit) {
                return refuse("start of a refund is the submit time of its run: leave it out");
            }
            (own[0].to_owned(), own[1].to_owned(), own[2].to_owned(), wanted.identity.submit)
        }
        None if run.is_some() => return refuse("the run that it refunds was never charged"),
        None => {
            let needed = |name: &str, value: &Option<String>| {
                value.clone().filter(|value| !value.is_empty()).ok_or_else(|| {
                    Fault::Request(format!(
                        "{name} is missing: a {} needs resource, project, username and start",
                        request.kind
                    ))
                })
            };
            let start = request.start.ok_or_else(|| {
                Fault::Request(format!(
                    "start is missing: it says which allocation of the project the {} is for",
                    request.kind
                ))
            })?;
            (
                needed("resource", &request.resource)?,
                needed("project", &request.project)?,
                needed("username", &request.username)?,
                start,
            )
        }
    };
    if !resources.contains(&resource) {
        let near = suggestion(&resource, resources.iter().map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        return refuse(format!(
            "resource \"{}\" is neither configured nor known to the ledger{near}",
            resource.escape_debug()
        ));
    }
    for (name, text) in
        [("project", Some(&project)), ("username", Some(&username)), ("comment", request.comment.as_ref())]
    {
        if text.is_some_and(|text| text.chars().any(char::is_control) || text.chars().count() > 255) {
            return refuse(format!("{name} holds control characters or more than 255 characters"));
        }
    }
    let run_key = run.as_ref().map(|run| run.key.as_str());
    let id = match &request.id {
        Some(id) => own_id(id)?,
        None => {
            let parts = [request.kind.as_str(), run_key.unwrap_or(""), &resource, &project, &username];
            format!(
                "{:016x}",
                xxh3_64(format!("{}\n{start}\n{}", parts.join("\n"), request.charge).as_bytes())
            )
        }
    };
    let key = match run_key {
        Some(run) => format!("{REFUNDS}{run}/{id}"),
        None => format!("{ADJUSTMENTS}{}/{resource}/{id}", request.kind),
    };
    let local_record_id = format!("{}-{id}", request.kind);
    let record = AdjustmentUsageRecord {
        adjustment_type: request.kind,
        charge: request.charge,
        start_time: start,
        local_project_id: Cow::Borrowed(&project),
        local_record_id: Cow::Borrowed(&local_record_id),
        resource: Cow::Borrowed(&resource),
        username: Cow::Borrowed(&username),
        comment: request.comment.as_deref().map(Cow::Borrowed),
        local_reference: Some(Cow::Borrowed(&key)),
    };
    let mut payload = Vec::new();
    if wire::render_adjustment(&record, &mut payload).is_err() {
        return refuse("start lies outside the years 0 to 9999");
    }
    Ok(Adjustment {
        resource: Arc::from(resource.as_str()),
        local_record_id: local_record_id.clone(),
        start,
        username: Arc::from(username.as_str()),
        project: Arc::from(project.as_str()),
        charge: request.charge,
        payload,
        refunds: run_key.map(str::to_owned),
        file: Arc::clone(&request.file),
        line: request.line,
        key,
    })
}

/// An id of a person's own, as it stands in keys and record ids.
fn own_id(id: &str) -> Result<String, Fault> {
    let plain = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if plain {
        Ok(id.to_owned())
    } else {
        refuse(format!("id \"{}\" must be 1 to 64 letters, digits, '.', '_' and '-'", id.escape_debug()))
    }
}

/// The run that a person names by its ledger key or its record id.
fn find_run(ledger: &dyn Ledger, name: &str) -> Result<Row, Fault> {
    let compute = |rows: Vec<Row>| -> Vec<Row> {
        rows.into_iter().filter(|row| row.usage_type == UsageType::Compute).collect()
    };
    let mut found = compute(ledger.find(&Find::Key(name.to_owned()), 1)?);
    if found.is_empty() {
        found = compute(ledger.find(&Find::Record(name.to_owned()), 20)?);
    }
    let several = found.len() > 1;
    match found.pop() {
        None => refuse(format!(
            "no run \"{}\" is in the ledger: name a record id or a ledger key",
            name.escape_debug()
        )),
        Some(last) if several => {
            let mut keys: Vec<String> = found.into_iter().map(|row| row.key).collect();
            keys.push(last.key);
            refuse(format!(
                "several runs have the record id \"{}\": name one by its key: {}",
                name.escape_debug(),
                keys.join(", ")
            ))
        }
        Some(row) => Ok(row),
    }
}

/// Refunds of a run, by its key, in key order; at most 1,000.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn refunds(ledger: &dyn Ledger, run: &str) -> Result<Vec<Row>, LedgerError> {
    let prefix = format!("{REFUNDS}{run}/");
    let mut rows = ledger.rows(None, &prefix, 1_000)?;
    rows.retain(|row| row.key.starts_with(&prefix));
    Ok(rows)
}
