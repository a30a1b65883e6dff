//! A record as it stands in the JSON: its members in order, each with the very text of its value.
//!
//! `serde_json::Value` would read `1e3` and `0.10` as binary floating point and keep only the last of two equal names;
//! both are what a sandbox is there to notice.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The members of a JSON object.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object; `None` where the value is none.
    pub(crate) fn read(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.iter().find(|(member, _)| *member == name).map(|(_, value)| value)
    }

    /// Names and values in the order of the text.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The text of a string or number, by a path such as `Attributes.Queue`.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        match path.split_once('.') {
            None => self.get(path).map(text),
            Some((name, rest)) => Members::read(self.get(name)?)?.text(rest),
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The string, or `None` where the value is not one.
pub(crate) fn string(raw: &RawValue) -> Option<String> {
    // Without this look at the first byte, every number would be parsed only to be refused.
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// True for a number.
pub(crate) fn is_number(raw: &RawValue) -> bool {
    raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// A string's content, or the text of any other value.
pub(crate) fn text(raw: &RawValue) -> String {
    string(raw).unwrap_or_else(|| raw.get().to_owned())
}
