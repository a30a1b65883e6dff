//! Judgement: what the service would refuse at once, first of a whole message, then of each record.
//!
//! Strict on purpose. A real service may ignore a field that it does not know; here it is refused by name, because it can
//! only be a mistake of the sender. What the documentation leaves open is let through: a start before the submit time,
//! an empty list of records. Errors name fields and never values, so that equal mistakes have equal texts.

use crate::known::{Allocation, Known};
use crate::record::{Members, is_number, string, text};
use crate::settings::Rule;
use crate::wire::{Field, Kind, UsageType};
use crate::{decimal, time};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Records need two levels; most readers of JSON give up at 128, and refused records are echoed.
const MAX_DEPTH: usize = 62;
/// No object of the table has more fields.
const MAX_FIELDS: usize = 16;

/// A message as it came in: its type and its records.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) usage_type: UsageType,
    pub(crate) records: Vec<&'a RawValue>,
}

/// What the sandbox needs to know of a record that is well formed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    pub(crate) resource: Cow<'a, str>,
    pub(crate) local_record_id: Cow<'a, str>,
    /// Epoch seconds; see [`UsageType::identity_time`].
    pub(crate) identity_time: i64,
    /// Epoch seconds; see [`UsageType::allocation_time`].
    allocation_time: i64,
    pub(crate) username: Cow<'a, str>,
    pub(crate) project: Cow<'a, str>,
    /// A plain decimal, as it was sent.
    pub(crate) charge: Cow<'a, str>,
    /// Of an adjustment only.
    pub(crate) adjustment_type: Option<Cow<'a, str>>,
    pub(crate) local_reference: Option<Cow<'a, str>>,
}

/// Why a whole message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400
    Bad(String),
    /// 413
    TooMany(String),
}

/// The outer object of a message, read in one go.
#[derive(Default)]
struct Envelope<'a> {
    usage_type: Option<&'a RawValue>,
    records: Option<Records<'a>>,
    /// The first field that the table has not.
    unknown: Option<String>,
    /// The first field that came twice.
    twice: Option<&'static str>,
}

/// `Records`, which may be anything.
enum Records<'a> {
    List(Vec<&'a RawValue>),
    NoList,
}

/// Reads the body of a POST.
pub(crate) fn message(body: &[u8], max_records: usize) -> Result<Message<'_>, Refusal> {
    let bad = |reason: &str| Refusal::Bad(reason.to_owned());
    let body = std::str::from_utf8(body).map_err(|_| bad("the body is not UTF-8"))?;
    let envelope = match serde_json::from_str::<Envelope<'_>>(body) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => return Err(bad("the body is not a JSON object")),
        Err(error) => return Err(Refusal::Bad(format!("the body is not JSON: {error}"))),
    };
    if let Some(name) = envelope.unknown {
        return Err(Refusal::Bad(format!("unknown field {}", shown(&name))));
    }
    if let Some(name) = envelope.twice {
        return Err(Refusal::Bad(format!("{name} appears twice")));
    }
    let usage_type = envelope.usage_type.ok_or_else(|| bad("UsageType is missing"))?;
    let usage_type = string(usage_type)
        .and_then(|word| UsageType::from_word(&word))
        .ok_or_else(|| bad("UsageType must be Compute, Storage or Adjustment"))?;
    let records = match envelope.records {
        None => return Err(bad("Records is missing")),
        Some(Records::NoList) => return Err(bad("Records must be a list")),
        Some(Records::List(records)) => records,
    };
    if records.len() > max_records {
        return Err(Refusal::TooMany(format!(
            "{} records in one message; at most {max_records}",
            records.len()
        )));
    }
    Ok(Message { usage_type, records })
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outer;
        impl<'de> Visitor<'de> for Outer {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "UsageType" if envelope.usage_type.is_some() => {
                            envelope.twice.get_or_insert("UsageType");
                            map.next_value::<IgnoredAny>()?;
                        }
                        "Records" if envelope.records.is_some() => {
                            envelope.twice.get_or_insert("Records");
                            map.next_value::<IgnoredAny>()?;
                        }
                        "UsageType" => envelope.usage_type = Some(map.next_value()?),
                        "Records" => envelope.records = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            envelope.unknown.get_or_insert(name);
                        }
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Outer)
    }
}

impl<'de> Deserialize<'de> for Records<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Records<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = list.next_element()? {
                    records.push(record);
                }
                Ok(Records::List(records))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Records::NoList)
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Records::NoList)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Records::NoList)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Records::NoList)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Records::NoList)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Records::NoList)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Records::NoList)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reads a record of a message of this type. One that is refused may not be nested so deeply that nobody could read the
/// answer; what is accepted is no deeper than the table.
///
/// # Errors
/// Why the whole message is refused.
pub(crate) fn members<'a>(usage_type: UsageType, record: &'a RawValue) -> Result<Members<'a>, Refusal> {
    let bad = |reason: &str| Refusal::Bad(reason.to_owned());
    let members = Members::read(record).ok_or_else(|| bad("each record must be a JSON object"))?;
    if members.get("UsageType").is_some_and(|word| text(word) != usage_type.word()) {
        return Err(bad("all records of one message must be of its UsageType"));
    }
    Ok(members)
}

/// Whether a record is nested too deeply to be echoed.
pub(crate) fn is_too_deep(record: &RawValue) -> bool {
    depth(record) > MAX_DEPTH
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
pub(crate) fn record<'a>(usage_type: UsageType, record: &Members<'a>) -> Result<Facts<'a>, String> {
    let mut errors = Vec::new();
    check_object(record, usage_type.fields(), "", &mut errors);
    let time_of = |name| record.get(name).and_then(string).as_deref().and_then(time::parse);
    if let (Some(start), Some(end)) = (time_of("StartTime"), time_of("EndTime"))
        && end < start
    {
        errors.push("EndTime is before StartTime".to_owned());
    }
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    let field = |name| record.get(name).map(text).unwrap_or_default();
    Ok(Facts {
        resource: field("Resource"),
        local_record_id: field("LocalRecordID"),
        identity_time: time_of(usage_type.identity_time()).unwrap_or_default(),
        allocation_time: time_of(usage_type.allocation_time()).unwrap_or_default(),
        username: field("Username"),
        project: field("LocalProjectID"),
        charge: field("Charge"),
        adjustment_type: record.get("AdjustmentType").map(text),
        local_reference: record.get("LocalReference").map(text),
    })
}

/// Holds an object against its fields; `prefix` is the path to it.
fn check_object(object: &Members<'_>, fields: &'static [Field], prefix: &str, errors: &mut Vec<String>) {
    // Senders write the fields in one order, mostly the table's: each is looked for behind the one before.
    let mut values: [Option<&RawValue>; MAX_FIELDS] = [None; MAX_FIELDS];
    let (mut next, mut strange) = (0_usize, fields.len() > MAX_FIELDS);
    for (name, value) in object.iter() {
        let behind = fields.iter().enumerate().cycle().skip(next).take(fields.len());
        match behind.into_iter().find(|(_, field)| field.name == name) {
            Some((index, _)) => {
                next = index.saturating_add(1);
                match values.get_mut(index) {
                    Some(place @ None) => *place = Some(value),
                    _ => strange = true,
                }
            }
            None => strange = true,
        }
    }
    for (field, value) in fields.iter().zip(values) {
        match value {
            None if field.required => errors.push(format!("{prefix}{} is missing", field.name)),
            None => {}
            Some(value) => check_value(value, field.kind, prefix, field.name, errors),
        }
    }
    if strange {
        for (name, _) in object.iter().filter(|(name, _)| !fields.iter().any(|field| field.name == *name)) {
            errors.push(format!("unknown field {prefix}{}", shown(name)));
        }
        if let Some(name) = repeated(object) {
            errors.push(format!("{prefix}{name} appears twice"));
        }
    }
}

fn check_value(value: &RawValue, kind: Kind, prefix: &str, name: &str, errors: &mut Vec<String>) {
    let wrong = |wrong: bool, objection: &'static str| wrong.then_some(Cow::Borrowed(objection));
    let objection: Option<Cow<'static, str>> = match kind {
        Kind::Name => match string(value) {
            None => Some("must be a string".into()),
            Some(text) => wrong(text.is_empty(), "must not be empty"),
        },
        Kind::Text => wrong(string(value).is_none(), "must be a string"),
        Kind::Word(words) => (!string(value).is_some_and(|word| words.contains(&word.as_ref())))
            .then(|| format!("must be one of {}", words.join(", ")).into()),
        Kind::Time => wrong(
            string(value).as_deref().and_then(time::parse).is_none(),
            "must be a UTC time in whole seconds like 2026-10-02T00:00:00Z",
        ),
        Kind::Charge if is_number(value) || value.get().starts_with('"') => {
            decimal::objection(&text(value)).map(Cow::Borrowed)
        }
        Kind::Charge => Some("must be a string or a number".into()),
        Kind::Count => wrong(
            value.get().is_empty() || !value.get().bytes().all(|byte| byte.is_ascii_digit()),
            "must be a whole number, not negative",
        ),
        Kind::Number => {
            wrong(!is_number(value) || value.get().starts_with('-'), "must be a number, not negative")
        }
        Kind::Loose => wrong(!is_number(value) && string(value).is_none(), "must be a string or a number"),
        Kind::Parent => {
            let list = || serde_json::from_str::<Vec<Option<String>>>(value.get()).is_ok();
            wrong(string(value).is_none() && !list(), "must be a string")
        }
        Kind::Object(fields) => match Members::read(value) {
            None => Some("must be an object".into()),
            Some(object) => {
                check_object(&object, fields, &format!("{prefix}{name}."), errors);
                None
            }
        },
    };
    errors.extend(objection.map(|objection| format!("{prefix}{name} {objection}")));
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
    facts: &Facts<'_>,
    known: Option<&Known>,
    rules: &[Rule],
) -> Option<String> {
    let stranger = known.filter(|known| known.refuse_strangers).and_then(|known| known.stranger(facts));
    stranger.map(|field| format!("{field} is not known")).or_else(|| error_of(record, facts, rules))
}

/// Why a record that was accepted will fail to load, or nothing.
pub(crate) fn load_failure(
    record: &Members<'_>,
    facts: &Facts<'_>,
    known: Option<&Known>,
    rules: &[Rule],
) -> Option<String> {
    error_of(record, facts, rules).or_else(|| known.and_then(|known| no_allocation(facts, known)))
}

/// The error of the first rule that the record falls under.
fn error_of(record: &Members<'_>, facts: &Facts<'_>, rules: &[Rule]) -> Option<String> {
    let falls_under =
        |rule: &&Rule| record.text(&rule.field).is_some_and(|value| rule.value == "*" || rule.value == value);
    rules.iter().find(falls_under).map(|rule| rule.error.replace("<login>", &facts.username))
}

impl Known {
    /// The first field of a record whose value is not known.
    fn stranger(&self, facts: &Facts<'_>) -> Option<&'static str> {
        [
            (&self.users, &facts.username, "Username"),
            (&self.projects, &facts.project, "LocalProjectID"),
            (&self.resources, &facts.resource, "Resource"),
        ]
        .into_iter()
        .find(|(names, name, _)| !names.is_empty() && !names.contains(name.as_ref()))
        .map(|(_, _, field)| field)
    }
}

/// The errors that the real service was seen to give when it looked for the allocation.
fn no_allocation(facts: &Facts<'_>, known: &Known) -> Option<String> {
    let not_found = || Some(format!("Allocation could not be found for user {}", facts.username));
    if known.stranger(facts).is_some() {
        return not_found();
    }
    if known.allocations.is_empty() {
        return None;
    }
    let mine = || {
        known.allocations.iter().filter(|allocation| {
            allocation.project == facts.project
                && allocation.resource == facts.resource
                && (allocation.users.is_empty() || allocation.users.contains(facts.username.as_ref()))
        })
    };
    let at = facts.allocation_time;
    let begun = |allocation: &Allocation| allocation.from.is_none_or(|from| from <= at);
    let not_over = |allocation: &Allocation| allocation.until.is_none_or(|until| at < until);
    if mine().any(|allocation| begun(allocation) && not_over(allocation)) {
        None
    } else if mine().next().is_some() && !mine().any(begun) {
        Some("The start time is before the start of the allocation".to_owned())
    } else {
        not_found()
    }
}
