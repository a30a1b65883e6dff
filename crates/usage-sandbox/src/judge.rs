//! Judgement: what the service would refuse at once, first of a whole message, then of each record.
//!
//! Strict on purpose. A real service may ignore a field that it does not know; here it is refused by name, because it can
//! only be a mistake of the sender. What the documentation leaves open is let through: a start before the submit time,
//! an empty list of records. Errors name fields and never values, so that equal mistakes have equal texts.

use crate::record::{Members, is_number, string, text};
use crate::settings::{Allocation, Known, Rule};
use crate::wire::{Field, Kind, UsageType};
use crate::{decimal, time};
use serde_json::value::RawValue;

/// Records need three levels; most readers of JSON give up at 128, and refused records are echoed.
const MAX_DEPTH: usize = 64;

/// A message as it came in: its type and its records.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) usage_type: UsageType,
    pub(crate) records: Vec<&'a RawValue>,
}

/// What the sandbox needs to know of a record that is well formed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) resource: String,
    pub(crate) local_record_id: String,
    /// See [`UsageType::identity_time`].
    pub(crate) identity_time: String,
    pub(crate) username: String,
    pub(crate) project: String,
    /// A plain decimal, as it was sent.
    pub(crate) charge: String,
    /// Of an adjustment only.
    pub(crate) adjustment_type: Option<String>,
    pub(crate) local_reference: Option<String>,
}

/// Why a whole message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400
    Bad(String),
    /// 413
    TooMany(String),
}

/// Reads the body of a POST.
pub(crate) fn message(body: &[u8], max_records: usize) -> Result<Message<'_>, Refusal> {
    let bad = |reason: &str| Refusal::Bad(reason.to_owned());
    let body = std::str::from_utf8(body).map_err(|_| bad("the body is not UTF-8"))?;
    let raw: &RawValue =
        serde_json::from_str(body).map_err(|error| Refusal::Bad(format!("the body is not JSON: {error}")))?;
    if depth(raw) > MAX_DEPTH {
        return Err(bad("the body is nested too deeply"));
    }
    let members = Members::read(raw).ok_or_else(|| bad("the body is not a JSON object"))?;
    let known = |name: &str| matches!(name, "UsageType" | "Records");
    if let Some((name, _)) = members.iter().find(|(name, _)| !known(name)) {
        return Err(Refusal::Bad(format!("unknown field {}", shown(name))));
    }
    if let Some(name) = repeated(&members) {
        return Err(Refusal::Bad(format!("{name} appears twice")));
    }
    let usage_type = members.get("UsageType").ok_or_else(|| bad("UsageType is missing"))?;
    let usage_type = string(usage_type)
        .and_then(|word| UsageType::from_word(&word))
        .ok_or_else(|| bad("UsageType must be Compute, Storage or Adjustment"))?;
    let records = members.get("Records").ok_or_else(|| bad("Records is missing"))?;
    let records: Vec<&RawValue> =
        serde_json::from_str(records.get()).map_err(|_| bad("Records must be a list"))?;
    if records.len() > max_records {
        return Err(Refusal::TooMany(format!(
            "{} records in one message; at most {max_records}",
            records.len()
        )));
    }
    for record in &records {
        let record = Members::read(record).ok_or_else(|| bad("each record must be a JSON object"))?;
        if record.text("UsageType").is_some_and(|word| word != usage_type.word()) {
            return Err(bad("all records of one message must be of its UsageType"));
        }
    }
    Ok(Message { usage_type, records })
}

/// How deep a value's lists and objects are nested.
fn depth(json: &RawValue) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.get().bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            // To the end of the string; what follows a backslash is not an end.
            b'"' => loop {
                match bytes.next() {
                    None | Some(b'"') => break,
                    Some(b'\\') => drop(bytes.next()),
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    deepest
}

/// Holds one record against the table of the wire.
///
/// # Errors
/// Everything that is wrong with it, in the order of the table.
pub(crate) fn record(usage_type: UsageType, record: &Members<'_>) -> Result<Facts, String> {
    let mut errors = Vec::new();
    check_object(record, usage_type.fields(), "", &mut errors);
    let time_of = |name| record.text(name).as_deref().and_then(time::parse);
    if let (Some(start), Some(end)) = (time_of("StartTime"), time_of("EndTime"))
        && end < start
    {
        errors.push("EndTime is before StartTime".to_owned());
    }
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    let field = |name| record.text(name).unwrap_or_default();
    Ok(Facts {
        resource: field("Resource"),
        local_record_id: field("LocalRecordID"),
        identity_time: field(usage_type.identity_time()),
        username: field("Username"),
        project: field("LocalProjectID"),
        charge: field("Charge"),
        adjustment_type: record.text("AdjustmentType"),
        local_reference: record.text("LocalReference"),
    })
}

/// Holds an object against its fields; `prefix` is the path to it.
fn check_object(object: &Members<'_>, fields: &[Field], prefix: &str, errors: &mut Vec<String>) {
    for field in fields {
        let name = format!("{prefix}{}", field.name);
        match object.get(field.name) {
            None if field.required => errors.push(format!("{name} is missing")),
            None => {}
            Some(value) => check_value(value, field.kind, &name, errors),
        }
    }
    for (name, _) in object.iter().filter(|(name, _)| !fields.iter().any(|field| field.name == *name)) {
        errors.push(format!("unknown field {prefix}{}", shown(name)));
    }
    if let Some(name) = repeated(object) {
        errors.push(format!("{prefix}{name} appears twice"));
    }
}

fn check_value(value: &RawValue, kind: Kind, name: &str, errors: &mut Vec<String>) {
    let objection: Option<String> = match kind {
        Kind::Name => match string(value) {
            None => Some("must be a string".to_owned()),
            Some(text) => text.is_empty().then(|| "must not be empty".to_owned()),
        },
        Kind::Text => string(value).is_none().then(|| "must be a string".to_owned()),
        Kind::Word(words) => (!string(value).is_some_and(|word| words.contains(&word.as_str())))
            .then(|| format!("must be one of {}", words.join(", "))),
        Kind::Time => string(value)
            .as_deref()
            .and_then(time::parse)
            .is_none()
            .then(|| "must be a UTC time in whole seconds like 2026-10-02T00:00:00Z".to_owned()),
        Kind::Charge if is_number(value) || value.get().starts_with('"') => {
            decimal::objection(&text(value)).map(str::to_owned)
        }
        Kind::Charge => Some("must be a string or a number".to_owned()),
        Kind::Count => (value.get().is_empty() || !value.get().bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| "must be a whole number, not negative".to_owned()),
        Kind::Number => (!is_number(value) || value.get().starts_with('-'))
            .then(|| "must be a number, not negative".to_owned()),
        Kind::Loose => {
            (!is_number(value) && string(value).is_none()).then(|| "must be a string or a number".to_owned())
        }
        Kind::Parent => {
            let list = || serde_json::from_str::<Vec<Option<String>>>(value.get()).is_ok();
            (string(value).is_none() && !list()).then(|| "must be a string".to_owned())
        }
        Kind::Object(fields) => match Members::read(value) {
            None => Some("must be an object".to_owned()),
            Some(object) => {
                check_object(&object, fields, &format!("{name}."), errors);
                None
            }
        },
    };
    errors.extend(objection.map(|objection| format!("{name} {objection}")));
}

/// The first name that an object has twice.
fn repeated(object: &Members<'_>) -> Option<String> {
    let mut names: Vec<&str> = object.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(shown(a)),
        _ => None,
    })
}

/// A sender's name for a field, cut to what an error message can carry.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Why this site's service refuses a well-formed record at once, or nothing.
pub(crate) fn refusal(
    record: &Members<'_>,
    facts: &Facts,
    known: Option<&Known>,
    rules: &[Rule],
) -> Option<String> {
    let unknown = known.and_then(|known| {
        [
            (&known.users, &facts.username, "Username"),
            (&known.projects, &facts.project, "LocalProjectID"),
            (&known.resources, &facts.resource, "Resource"),
        ]
        .into_iter()
        .find(|(names, name, _)| !names.is_empty() && !names.contains(*name))
        .map(|(_, _, field)| format!("{field} is not known"))
    });
    unknown.or_else(|| error_of(record, facts, rules))
}

/// Why a record that was accepted will fail to load, or nothing.
pub(crate) fn load_failure(
    usage_type: UsageType,
    record: &Members<'_>,
    facts: &Facts,
    known: Option<&Known>,
    rules: &[Rule],
) -> Option<String> {
    let allocations = known.map_or(&[][..], |known| &known.allocations);
    error_of(record, facts, rules).or_else(|| no_allocation(usage_type, record, facts, allocations))
}

/// The error of the first rule that the record falls under.
fn error_of(record: &Members<'_>, facts: &Facts, rules: &[Rule]) -> Option<String> {
    let falls_under =
        |rule: &&Rule| record.text(&rule.field).is_some_and(|value| rule.value == "*" || rule.value == value);
    rules.iter().find(falls_under).map(|rule| rule.error.replace("<login>", &facts.username))
}

/// The errors that the real service was seen to give when it looked for the allocation.
fn no_allocation(
    usage_type: UsageType,
    record: &Members<'_>,
    facts: &Facts,
    allocations: &[Allocation],
) -> Option<String> {
    if allocations.is_empty() {
        return None;
    }
    let mine = || {
        allocations
            .iter()
            .filter(|allocation| allocation.project == facts.project && allocation.resource == facts.resource)
    };
    let at = record.text(usage_type.allocation_time()).as_deref().and_then(time::parse)?;
    let begun = |allocation: &Allocation| allocation.from.is_none_or(|from| from <= at);
    let not_over = |allocation: &Allocation| allocation.until.is_none_or(|until| at < until);
    if mine().any(|allocation| begun(allocation) && not_over(allocation)) {
        None
    } else if mine().next().is_some() && !mine().any(begun) {
        Some("The start time is before the start of the allocation".to_owned())
    } else {
        Some(format!("Allocation could not be found for user {}", facts.username))
    }
}
