//! Everything that is guessed or open about the wire, in one place.
//!
//! The service's documentation is thin; what is known of it was read in its reference client and in the scripts of
//! sites that use it. A site that learns better changes [`Settings`] (paths, parameter names, page size, what may be
//! sent again), or one file of this module:
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | names, paths and limits ([`Settings`]), and what a status means ([`verdict`]) |
//! | `time.rs` | how times are written, and which spellings are read |
//! | `render.rs` | the exact bytes of records and messages |
//! | `lenient.rs` | how forgiving values are read: numbers or strings, `[null]` parents |
//! | `answer.rs` | the shapes in which answers come |
//! | `text.rs` | error bodies, JSON or HTML, as one readable line |

mod answer;
pub(crate) mod lenient;
mod render;
mod text;
pub mod time;

pub use answer::{
    FailedRecord, LoadedPage, LoadedRecord, ResourceStatus, StatusError, Unreadable, read_failed,
    read_loaded, read_record, read_sent, read_status,
};
pub use render::{
    TimeOutOfRange, envelope_len, message_body, render_adjustment, render_compute, render_storage,
};
pub use text::{error_text, is_html, printable};
pub use time::{format_time, parse_time};

use crate::UsageType;
use serde::{Deserialize, Serialize};

/// Names, paths and limits of the service, as far as they are configurable. The default is what is known today.
///
/// ```
/// let settings = amie_usage::wire::Settings { loaded_limit: "PageSize".into(), ..Default::default() };
/// assert_eq!(settings.send_path, "/usage/");
/// assert_eq!(settings.loaded_page, 25_000);
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

/// What the status of an answer to `POST /usage/` says about the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken, except for the records that the body names.
    Taken,
    /// Refused as a whole: nothing was taken.
    RefusedWhole,
    /// Too large: nothing was taken, smaller parts may be.
    TooLarge,
    /// Not now.
    Busy {
        /// True where the message may have been stored before the answer was made.
        maybe_stored: bool,
    },
    /// Wrong site or key.
    KeyRefused,
    /// Not an answer of the API: a proxy, a redirect, a wrong address. Nothing was taken.
    NotTheApi,
}

/// What a status means; `html` is true where the body is a web page, which the API itself never sends with 401 or 403.
///
/// 400 and 422 are refusals whatever the body. 429 and 503 are given before a message is looked at; any other 5xx,
/// and 408, may come from a gateway that has passed the message on and lost patience.
#[must_use]
pub fn verdict(status: u16, html: bool) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        400 | 409 | 422 => Verdict::RefusedWhole,
        401 | 403 if !html => Verdict::KeyRefused,
        408 => Verdict::Busy { maybe_stored: true },
        413 => Verdict::TooLarge,
        425 | 429 | 503 => Verdict::Busy { maybe_stored: false },
        500..=599 => Verdict::Busy { maybe_stored: true },
        _ => Verdict::NotTheApi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_documented_meaning() {
        for (status, html, expected) in [
            (200, false, Verdict::Taken),
            (202, false, Verdict::Taken),
            (302, false, Verdict::NotTheApi),
            (400, false, Verdict::RefusedWhole),
            (400, true, Verdict::RefusedWhole),
            (401, false, Verdict::KeyRefused),
            (403, false, Verdict::KeyRefused),
            (403, true, Verdict::NotTheApi),
            (404, false, Verdict::NotTheApi),
            (407, true, Verdict::NotTheApi),
            (413, true, Verdict::TooLarge),
            (429, false, Verdict::Busy { maybe_stored: false }),
            (503, true, Verdict::Busy { maybe_stored: false }),
            (500, false, Verdict::Busy { maybe_stored: true }),
            (502, true, Verdict::Busy { maybe_stored: true }),
            (504, true, Verdict::Busy { maybe_stored: true }),
        ] {
            assert_eq!(verdict(status, html), expected, "{status} html={html}");
        }
    }

    #[test]
    fn settings_are_read_from_a_part_of_them() {
        let settings: Settings =
            serde_json::from_str(r#"{"send_path":"/usage","resend":{"storage":"overwrite"}}"#).unwrap();
        assert_eq!(settings.send_path, "/usage");
        assert_eq!(settings.resend.of(UsageType::Storage), Resend::Overwrite);
        assert_eq!(settings.resend.of(UsageType::Adjustment), Resend::ConfirmFirst);
        assert_eq!(settings.status_from, "FromTime");
        assert!(serde_json::from_str::<Settings>(r#"{"send_pth":"/usage"}"#).is_err());
    }
}
