//! How forgiving values are read: strings or numbers, `null`, `[null]` parents, and numbers by their exact text.

use crate::Decimal;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

// For the derived `Deserialize` of the record types.

/// Text, or a number as the text that it is: some senders write job ids as numbers.
pub(crate) fn text<'de, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    optional_text(deserializer)?.ok_or_else(|| Error::custom("null where a text is needed"))
}

/// The same, or `null`.
pub(crate) fn optional_text<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(Some(Cow::Owned(text))),
        Value::Number(number) => Ok(Some(Cow::Owned(number.to_string()))),
        Value::Null => Ok(None),
        other => Err(Error::custom(format_args!("{other} where a text is needed"))),
    }
}

/// A count, as a number or as its text: the reference client documents its counts as strings.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    optional_count(deserializer)?.ok_or_else(|| Error::custom("null where a count is needed"))
}

/// The same, or `null`.
pub(crate) fn optional_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = optional_text(deserializer)? else { return Ok(None) };
    match text.trim().parse() {
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(Error::custom(format_args!("\"{text}\" is no count"))),
    }
}

/// `ParentRecordID`: a string, a number, null, or the reference client's `[null]` (which means none).
pub(crate) fn parent<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(Cow::Owned(text.clone())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    };
    match Value::deserialize(deserializer)? {
        Value::Array(parents) => Ok(parents.iter().find_map(one)),
        value @ (Value::String(_) | Value::Number(_) | Value::Null) => Ok(one(&value)),
        other => Err(Error::custom(format_args!("ParentRecordID cannot be {other}"))),
    }
}

// For answers.

/// A JSON object whose values are still text: one unreadable value does not cost the others, a repeated key or an
/// unknown one is no error, and numbers keep all their digits.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// The object that the text is, if it is one.
    pub(crate) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok().map(Self)
    }

    /// The text of the first of these keys that is there and not `null`.
    pub(crate) fn raw(&self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().filter_map(|key| self.0.get(*key)).map(|value| value.get()).find(|text| *text != "null")
    }

    /// True where one of these keys is there, `null` or not.
    pub(crate) fn has(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.0.contains_key(*key))
    }

    /// A text, a number or a boolean, as text.
    pub(crate) fn text(&self, keys: &[&str]) -> Option<String> {
        scalar(self.raw(keys)?)
    }

    /// A count: `12`, `"12"`, `12.0`.
    pub(crate) fn count(&self, keys: &[&str]) -> Option<u64> {
        let number: Decimal = self.text(keys)?.trim().parse().ok()?;
        (number.places() == 0).then(|| u64::try_from(number.units()).ok()).flatten()
    }

    /// A decimal, and how many digits behind the point it was written with.
    pub(crate) fn decimal(&self, keys: &[&str]) -> Option<(Decimal, u8)> {
        let text = self.text(keys)?;
        let text = text.trim();
        Some((text.parse().ok()?, written_places(text)))
    }

    /// A time: ISO 8601, or epoch seconds as a number.
    pub(crate) fn time(&self, keys: &[&str]) -> Option<i64> {
        let raw = self.raw(keys)?;
        match scalar(raw)? {
            text if raw.starts_with('"') => super::parse_time(text.trim()),
            number => number.parse().ok(),
        }
    }
}

/// The entries of a JSON array, each still text.
pub(crate) fn list(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

/// A JSON string's text, or a number or boolean as it is written; none for the rest.
fn scalar(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

/// Digits behind the point in a decimal text, an exponent counted in.
fn written_places(text: &str) -> u8 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let places =
        i64::try_from(fraction).unwrap_or(0) - exponent.parse::<i64>().unwrap_or(0).clamp(-1000, 1000);
    u8::try_from(places.clamp(0, 38)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_numbers_or_strings() {
        let object = Object::read(
            r#"{"a": 12, "b": "12", "c": 12.0, "d": 1.5, "e": null, "f": -1, "g": {}, "h": "\ud800", "a2": true}"#,
        )
        .unwrap();
        assert_eq!(object.count(&["a"]), Some(12));
        assert_eq!(object.count(&["b"]), Some(12));
        assert_eq!(object.count(&["c"]), Some(12));
        for key in ["d", "e", "f", "g", "h", "a2", "absent"] {
            assert_eq!(object.count(&[key]), None, "{key}");
        }
        assert_eq!(object.text(&["e", "a"]).as_deref(), Some("12"));
        assert_eq!(object.text(&["h"]), None);
    }

    #[test]
    fn no_digit_of_a_charge_is_lost_to_floating_point() {
        let object =
            Object::read(r#"{"a": 0.10000000000000000001, "b": "12.50", "c": 1.25e1, "d": 7}"#).unwrap();
        assert_eq!(object.decimal(&["a"]), Some((Decimal::new(10_000_000_000_000_000_001, 20), 20)));
        assert_eq!(object.decimal(&["b"]), Some((Decimal::new(125, 1), 2)));
        assert_eq!(object.decimal(&["c"]), Some((Decimal::new(125, 1), 1)));
        assert_eq!(object.decimal(&["d"]), Some((Decimal::new(7, 0), 0)));
    }

    #[test]
    fn times_are_texts_or_epoch_seconds() {
        let object = Object::read(
            r#"{"a": "2026-10-02T00:00:00Z", "b": 1790899200, "c": "2026-10-02 00:00:00.5", "d": "soon"}"#,
        )
        .unwrap();
        for key in ["a", "b", "c"] {
            assert_eq!(object.time(&[key]), Some(1_790_899_200), "{key}");
        }
        assert_eq!(object.time(&["d"]), None);
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in ["", "[]", "null", "\"a\"", "{", "<html>", "{\"a\":NaN}"] {
            assert!(Object::read(text).is_none(), "{text}");
        }
    }
}
