//! Everything that is guessed or open about the wire, in one place.
//!
//! The service's documentation is thin; what is known of it was read in its reference client and in the scripts of
//! sites that use it. A site that learns better changes [`Settings`] (paths, headers, parameter names, page size, charges
//! as strings or numbers, what may be sent again), or one file of this module:
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | what a status means ([`verdict`]) |
//! | `settings.rs` | names, paths and limits ([`Settings`]) |
//! | `time.rs` | how times are written, and which spellings are read |
//! | `render.rs` | the exact bytes of records and messages |
//! | `lenient.rs` | how forgiving values are read: numbers or strings, `[null]` parents |
//! | `answer.rs` | the shapes in which answers come |
//! | `text.rs` | error bodies, JSON or HTML, as one readable line |

mod answer;
pub(crate) mod lenient;
mod render;
mod settings;
mod text;
pub mod time;

pub use answer::{
    FailedRecord, LoadedPage, LoadedRecord, ResourceStatus, StatusError, Unreadable, read_failed,
    read_loaded, read_record, read_sent, read_status,
};
pub use render::{
    TimeOutOfRange, envelope_len, message_body, render_adjustment, render_compute, render_storage,
};
pub use settings::{ChargeForm, Resend, ResendRules, Settings, SettingsError};
pub use text::{error_text, is_html, printable};
pub use time::{format_time, parse_time};

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
}
