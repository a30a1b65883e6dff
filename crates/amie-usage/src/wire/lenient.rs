//! How forgiving values are read: strings or numbers, `null`, `[null]` parents, keys in other spellings, and numbers by
//! their exact text.

use crate::Decimal;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The most entries of a list in an answer. A page of loaded records has 25,000; without a limit, 64 MiB of `0,0,0,...`
/// would become gigabytes.
const MAX_ENTRIES: usize = 250_000;
/// The most fields of an object; a record has about twenty.
const MAX_FIELDS: usize = 1_000;

// For the derived `Deserialize` of the record types. All go through the JSON's own text, because a number that has been a
// float, or a job id of more than 19 digits that has been one, is another number.

/// Text, or a number as the text that it is: some senders write job ids as numbers.
pub(crate) fn text<'de, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    optional_text(deserializer)?.ok_or_else(|| Error::custom("null where a text is needed"))
}

/// The same, or `null`.
pub(crate) fn optional_text<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    match raw.get() {
        "null" => Ok(None),
        json => match text_or_number(json) {
            Some(text) => Ok(Some(Cow::Owned(text))),
            None => Err(Error::custom(format_args!("{} where a text is needed", shown(json)))),
        },
    }
}

/// A count, as a number or as its text: the reference client documents its counts as strings.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    optional_count(deserializer)?.ok_or_else(|| Error::custom("null where a count is needed"))
}

/// The same, or `null`.
pub(crate) fn optional_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = optional_text(deserializer)? else { return Ok(None) };
    match whole(&text) {
        Some(count) => Ok(Some(count)),
        None => Err(Error::custom(format_args!("\"{}\" is no count", shown(&text)))),
    }
}

/// `ParentRecordID`: a string, a number, null, or the reference client's `[null]` (which means none).
pub(crate) fn parent<'de, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let one = |json: &str| text_or_number(json).filter(|text| !text.is_empty()).map(Cow::Owned);
    match raw.get() {
        "null" => Ok(None),
        json => match (list(json), text_or_number(json)) {
            (Some(parents), _) => Ok(parents.into_iter().find_map(|parent| one(parent.get()))),
            (None, Some(_)) => Ok(one(json)),
            (None, None) => Err(Error::custom(format_args!("ParentRecordID cannot be {}", shown(json)))),
        },
    }
}

/// A decimal by its text, quoted or not.
pub(crate) fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let Some(text) = text_or_number(raw.get()) else {
        return Err(Error::custom(format_args!("{} where a decimal number is needed", shown(raw.get()))));
    };
    text.trim().parse().map_err(Error::custom)
}

/// The beginning of a text, for an error about it.
fn shown(text: &str) -> String {
    super::printable(text, 100)
}

// For answers.

/// A JSON object whose values are still text: one unreadable value does not cost the others, a repeated key or an
/// unknown one is no error, and numbers keep all their digits. Keys are found in any spelling: `FailedRecordID`,
/// `FailedRecordId` and `failed_record_id` are one.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The object that the text is, if it is one.
    pub(crate) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The text of the first of these keys that is there and not `null`.
    pub(crate) fn raw(&self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().find_map(|key| self.all(key).next())
    }

    /// The texts of one key, which may be there more than once, `null` left out.
    pub(crate) fn all<'s>(&'s self, key: &'s str) -> impl Iterator<Item = &'a str> + 's {
        let named = self.0.iter().filter(move |(name, _)| same_name(name, key));
        named.map(|(_, value)| value.get()).filter(|text| *text != "null")
    }

    /// Keys and values beside these.
    pub(crate) fn others<'s>(&'s self, keys: &'s [&str]) -> impl Iterator<Item = (&'s str, &'a str)> + 's {
        let others = self.0.iter().filter(|(name, _)| !keys.iter().any(|key| same_name(name, key)));
        others.map(|(name, value)| (&**name, value.get()))
    }

    /// True where one of these keys is there, `null` or not.
    pub(crate) fn has(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|(name, _)| keys.iter().any(|key| same_name(name, key)))
    }

    /// A text, a number or a boolean, as text.
    pub(crate) fn text(&self, keys: &[&str]) -> Option<String> {
        scalar(self.raw(keys)?)
    }

    /// A count: `12`, `"12"`, `12.0`.
    pub(crate) fn count(&self, keys: &[&str]) -> Option<u64> {
        whole(&self.text(keys)?)
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

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Fields<'a> {
            type Value = Object<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'a>, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'a>, &'a RawValue>()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(Error::custom("an object with too many fields"));
                    }
                    fields.push((name.0, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The entries of a JSON array, each still text; none where it is no array, or one of too many entries.
pub(crate) fn list(json: &str) -> Option<Vec<&RawValue>> {
    struct Entries<'a>(Vec<&'a RawValue>);
    impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_seq(Elements(PhantomData))
        }
    }
    struct Elements<'a>(PhantomData<&'a ()>);
    impl<'de: 'a, 'a> Visitor<'de> for Elements<'a> {
        type Value = Entries<'a>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries<'a>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() == MAX_ENTRIES {
                    return Err(Error::custom("a list of too many entries"));
                }
                entries.push(entry);
            }
            Ok(Entries(entries))
        }
    }
    serde_json::from_str::<Entries<'_>>(json).ok().map(|entries| entries.0)
}

/// True where two keys differ in nothing but case and separators.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    let letters =
        |name| str::bytes(name).filter(|byte| !b"_- ".contains(byte)).map(|b| b.to_ascii_lowercase());
    a == b || letters(a).eq(letters(b))
}

/// A JSON string's text, or a number or boolean as it is written; none for the rest.
fn scalar(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

/// The same without booleans.
fn text_or_number(raw: &str) -> Option<String> {
    scalar(raw).filter(|_| !raw.starts_with(['t', 'f']))
}

/// A count that may be written with a point.
fn whole(text: &str) -> Option<u64> {
    let number: Decimal = text.trim().parse().ok()?;
    (number.places() == 0).then(|| u64::try_from(number.units()).ok()).flatten()
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
    fn keys_are_found_in_any_spelling_and_all_of_them() {
        let object =
            Object::read(r#"{"failed_record_id": 1, "Failed-Record-Id": 2, "FAILEDRECORDID": null, "\u0046ailedRecordID": 3}"#)
                .unwrap();
        assert_eq!(object.all("FailedRecordID").collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(object.text(&["FailedRecordID"]).as_deref(), Some("1"));
        assert_eq!(object.others(&["FailedRecordID"]).count(), 0);
        assert!(!object.has(&["FailedRecordIDs", "RecordID", ""]));
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

    #[test]
    fn an_answer_of_nothing_but_entries_cannot_fill_the_memory() {
        let entries = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert_eq!(list(&entries(MAX_ENTRIES)).map(|entries| entries.len()), Some(MAX_ENTRIES));
        assert!(list(&entries(MAX_ENTRIES + 1)).is_none());
        let fields = |count: usize| format!("{{{}\"\":0}}", "\"\":0,".repeat(count - 1));
        assert!(Object::read(&fields(MAX_FIELDS)).is_some());
        assert!(Object::read(&fields(MAX_FIELDS + 1)).is_none());
    }
}
