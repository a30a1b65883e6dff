//! What a site may have to set differently, without waiting for a new version: names, paths, forms and limits.

use super::lenient::Object;
use crate::UsageType;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Names, paths and limits of the service, as far as they are configurable. The default is what is known today.
///
/// ```
/// let settings = amie_usage::wire::Settings { loaded_limit: "PageSize".into(), ..Default::default() };
/// assert_eq!(settings.send_path, "/usage/");
/// assert_eq!(settings.loaded_page, 25_000);
/// settings.check()?;
/// # Ok::<(), amie_usage::wire::SettingsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where records are posted. `/usage` and `/usage/` are both in production use.
    pub send_path: String,
    /// Counts and errors of what was processed in an interval.
    pub status_path: String,
    /// Records that failed to load; with ids behind it, what is acknowledged.
    pub failed_path: String,
    /// Records that were loaded.
    pub loaded_path: String,
    /// The header that carries the site's name.
    pub site_header: String,
    /// The header that carries the key.
    pub key_header: String,
    /// `status`: start of the interval.
    pub status_from: String,
    /// `status`: end of the interval.
    pub status_to: String,
    /// `loaded`: the earliest load time.
    pub loaded_min_time: String,
    /// `loaded`: records a page.
    pub loaded_limit: String,
    /// `loaded`: records to skip.
    pub loaded_offset: String,
    /// `loaded`: one record only.
    pub loaded_record_id: String,
    /// The most records that `loaded` answers at once.
    pub loaded_page: u32,
    /// How charges are written.
    pub charge: ChargeForm,
    /// What may be sent again after an unknown outcome.
    pub resend: ResendRules,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            send_path: "/usage/".to_owned(),
            status_path: "/usage/status".to_owned(),
            failed_path: "/usage/failed".to_owned(),
            loaded_path: "/usage/loaded".to_owned(),
            site_header: "XA-SITE".to_owned(),
            key_header: "XA-API-KEY".to_owned(),
            status_from: "FromTime".to_owned(),
            status_to: "ToTime".to_owned(),
            loaded_min_time: "MinLoadedTime".to_owned(),
            loaded_limit: "Limit".to_owned(),
            loaded_offset: "Offset".to_owned(),
            loaded_record_id: "LocalRecordID".to_owned(),
            loaded_page: 25_000,
            charge: ChargeForm::String,
            resend: ResendRules::default(),
        }
    }
}

/// Whether a record whose fate is unknown may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resend {
    /// Sending the same identity again replaces what was sent before: a blind re-send is safe.
    Overwrite,
    /// It may be counted twice: look first (status, loaded, failed, a person).
    ConfirmFirst,
}

/// [`Resend`] for each type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResendRules {
    /// The user guide says that equal (Resource, LocalRecordID, SubmitTime) overwrites.
    pub compute: Resend,
    /// Nothing is known.
    pub storage: Resend,
    /// Nothing is known.
    pub adjustment: Resend,
}

impl Default for ResendRules {
    fn default() -> Self {
        Self { compute: Resend::Overwrite, storage: Resend::ConfirmFirst, adjustment: Resend::ConfirmFirst }
    }
}

impl ResendRules {
    /// The rule for one type.
    #[must_use]
    pub fn of(&self, usage_type: UsageType) -> Resend {
        match usage_type {
            UsageType::Compute => self.compute,
            UsageType::Storage => self.storage,
            UsageType::Adjustment => self.adjustment,
        }
    }
}

/// How charges are written in what is sent. Both are in production use; what is read is not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChargeForm {
    /// `"Charge":"12.5"`: nobody can round it on the way.
    #[default]
    String,
    /// `"Charge":12.5`.
    Number,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} = \"{value}\": {reason}")]
pub struct SettingsError {
    /// Which one.
    pub name: &'static str,
    /// What it is set to, fit to be shown.
    pub value: String,
    /// Why not.
    pub reason: &'static str,
}

/// Headers that the client sets itself.
const OUR_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "transfer-encoding",
    "user-agent",
];

impl Settings {
    /// A rendered record as it is sent. Where charges are to be numbers, its charge loses its quotes; whatever is no
    /// record with a decimal charge stays as it is.
    ///
    /// ```
    /// use amie_usage::wire::{ChargeForm, Settings};
    /// let settings = Settings { charge: ChargeForm::Number, ..Settings::default() };
    /// let record = br#"{"LocalRecordID":"1","Charge":"12.5"}"#;
    /// assert_eq!(*settings.as_sent(record), *br#"{"LocalRecordID":"1","Charge":12.5}"#);
    /// ```
    #[must_use]
    pub fn as_sent<'a>(&self, record: &'a [u8]) -> Cow<'a, [u8]> {
        let unquoted = match self.charge {
            ChargeForm::String => None,
            ChargeForm::Number => unquoted_charge(record),
        };
        unquoted.map_or(Cow::Borrowed(record), Cow::Owned)
    }

    /// Whether all of it can be used.
    ///
    /// # Errors
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |name, value: &str, reason| {
            Err(SettingsError { name, value: super::printable(value, 100), reason })
        };
        for (name, path) in [
            ("send_path", &self.send_path),
            ("status_path", &self.status_path),
            ("failed_path", &self.failed_path),
            ("loaded_path", &self.loaded_path),
        ] {
            let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte));
            if !path.starts_with('/') || !plain {
                return refuse(name, path, "a path begins with / and has neither ? nor # nor blanks");
            }
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for (name, header) in [("site_header", &self.site_header), ("key_header", &self.key_header)] {
            if header.is_empty() || !header.bytes().all(token) {
                return refuse(name, header, "it cannot be the name of a header");
            }
            if OUR_HEADERS.contains(&header.to_ascii_lowercase().as_str()) {
                return refuse(name, header, "this header has another purpose");
            }
        }
        if self.site_header.eq_ignore_ascii_case(&self.key_header) {
            return refuse("key_header", &self.key_header, "the site's name and the key need two headers");
        }
        let of_status = [("status_from", &self.status_from), ("status_to", &self.status_to)];
        let of_loaded = [
            ("loaded_min_time", &self.loaded_min_time),
            ("loaded_limit", &self.loaded_limit),
            ("loaded_offset", &self.loaded_offset),
            ("loaded_record_id", &self.loaded_record_id),
        ];
        for parameters in [of_status.as_slice(), &of_loaded] {
            for (index, (name, parameter)) in parameters.iter().enumerate() {
                if parameter.is_empty() {
                    return refuse(name, parameter, "a parameter has a name");
                }
                if parameters.iter().take(index).any(|(_, other)| other == parameter) {
                    return refuse(name, parameter, "two parameters of one call need two names");
                }
            }
        }
        if self.loaded_page == 0 {
            return refuse("loaded_page", "0", "a page has at least one record");
        }
        Ok(())
    }
}

/// The record with its charge as a number, if it has one in quotes that can be a number.
fn unquoted_charge(record: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(record).ok()?;
    let object = Object::read(text)?;
    let quoted = object.raw(&["Charge"])?;
    let number = quoted.strip_prefix('"')?.strip_suffix('"')?;
    // What is between the quotes must be a JSON number, to the letter: `.5` and `+1` are none.
    serde_json::from_str::<serde_json::Number>(number).ok().filter(|_| number.trim() == number)?;
    // `quoted` is a part of `text`, so the difference of their addresses is where it stands.
    let start = quoted.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let (before, rest) = record.split_at_checked(start)?;
    let after = rest.get(quoted.len()..)?;
    Some([before, number.as_bytes(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn settings_are_read_from_a_part_of_them() {
        let settings: Settings = serde_json::from_str(
            r#"{"send_path":"/usage","charge":"number","resend":{"storage":"overwrite"}}"#,
        )
        .unwrap();
        assert_eq!((settings.send_path.as_str(), settings.charge), ("/usage", ChargeForm::Number));
        assert_eq!(settings.resend.of(UsageType::Storage), Resend::Overwrite);
        assert_eq!(settings.resend.of(UsageType::Adjustment), Resend::ConfirmFirst);
        assert_eq!(settings.status_from, "FromTime");
        assert!(serde_json::from_str::<Settings>(r#"{"send_pth":"/usage"}"#).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        assert_eq!(Settings::default().check(), Ok(()));
        type Change = fn(&mut Settings, String);
        let changes: [(&str, Change, &[&str]); 11] = [
            (
                "send_path",
                |s, v| s.send_path = v,
                &["", "usage", "/usage?x=1", "/usage#", "/us age", "/us\nage"],
            ),
            ("status_path", |s, v| s.status_path = v, &["status"]),
            ("failed_path", |s, v| s.failed_path = v, &["failed"]),
            ("loaded_path", |s, v| s.loaded_path = v, &["loaded"]),
            ("site_header", |s, v| s.site_header = v, &["", "X A", "X:A", "Host", "content-length"]),
            ("key_header", |s, v| s.key_header = v, &["", "X\r\nEvil", "xa-site", "Cookie"]),
            ("status_from", |s, v| s.status_from = v, &[""]),
            ("status_to", |s, v| s.status_to = v, &["", "FromTime"]),
            ("loaded_offset", |s, v| s.loaded_offset = v, &["", "Limit"]),
            ("loaded_record_id", |s, v| s.loaded_record_id = v, &["MinLoadedTime"]),
            ("loaded_page", |s, _| s.loaded_page = 0, &["0"]),
        ];
        for (name, change, values) in changes {
            for value in values {
                let mut settings = Settings::default();
                change(&mut settings, (*value).to_owned());
                assert_eq!(settings.check().map_err(|error| error.name), Err(name), "{value:?}");
            }
        }
    }

    #[test]
    fn a_charge_becomes_a_number_and_nothing_else_changes() {
        let number = Settings { charge: ChargeForm::Number, ..Settings::default() };
        for (record, sent) in [
            (r#"{"Charge":"12.5"}"#, r#"{"Charge":12.5}"#),
            (
                r#"{"a":"\"Charge\":\"9\"","Charge":"0.000001","b":"1"}"#,
                r#"{"a":"\"Charge\":\"9\"","Charge":0.000001,"b":"1"}"#,
            ),
            (
                r#"{"Attributes":{"Charge":"7"},"Charge":"-3"}"#,
                r#"{"Attributes":{"Charge":"7"},"Charge":-3}"#,
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&number.as_sent(record.as_bytes())), sent);
            assert_eq!(*Settings::default().as_sent(record.as_bytes()), *record.as_bytes());
        }
        for same in [
            r#"{"Charge":12.5}"#,
            r#"{"Charge":".5"}"#,
            r#"{"Charge":"+1"}"#,
            r#"{"Charge":"1 "}"#,
            r#"{"Charge":"NaN"}"#,
            r#"{"Charge":""}"#,
            r#"{"Charge":null}"#,
            "{}",
            "no record",
            "",
        ] {
            assert_eq!(String::from_utf8_lossy(&number.as_sent(same.as_bytes())), same);
        }
    }

    proptest! {
        #[test]
        fn every_charge_as_a_number_reads_back_as_it_was(units in any::<i128>(), places in 0_u8..=38, name in any::<String>()) {
            let charge = crate::Decimal::new(units, places);
            let record = serde_json::json!({"Username": name, "Charge": charge}).to_string();
            let settings = Settings { charge: ChargeForm::Number, ..Settings::default() };
            let sent = settings.as_sent(record.as_bytes()).into_owned();
            prop_assert_eq!(sent.len() + 2, record.len());
            let object = Object::read(std::str::from_utf8(&sent).unwrap()).unwrap();
            let written = charge.to_string();
            prop_assert_eq!(object.raw(&["Charge"]), Some(written.as_str()));
            prop_assert_eq!(object.text(&["Username"]), Some(name));
        }
    }
}
