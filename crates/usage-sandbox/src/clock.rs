//! The clock: the one place of this crate that reads the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC.
#[allow(clippy::disallowed_methods)] // a stand-in for a remote service has that service's own clock
pub(crate) fn now() -> i64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

/// The time of day so many seconds from now, as HTTP writes it.
#[allow(clippy::disallowed_methods)] // the same clock
pub(crate) fn http_date(seconds_ahead: u64) -> String {
    // The format ends with the year 9999.
    let ahead = Duration::from_secs(seconds_ahead.min(100 * 365 * 86_400));
    httpdate::fmt_http_date(SystemTime::now() + ahead)
}

/// A duration in milliseconds; the longest ones are taken as 292 million years.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
