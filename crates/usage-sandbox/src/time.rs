//! Times of the wire: in records ISO 8601 UTC in whole seconds, `2026-10-02T00:00:00Z`, and nothing else; in queries a
//! little more.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// Epoch seconds of `2026-10-02T00:00:00Z`; `None` for every other way of writing a time.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    Some(date.and_hms_opt(hour, minute, second)?.and_utc().timestamp())
}

/// Epoch seconds of a time in a query, where the reference client writes what Python's `isoformat` gives: an offset, a
/// fraction of a second, or no zone at all, which can only mean UTC.
pub(crate) fn parse_parameter(text: &str) -> Option<i64> {
    let naive = || text.parse::<NaiveDateTime>().ok().map(|time| time.and_utc().timestamp());
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp()).or_else(naive)
}

/// Three numbers of exactly these widths, in ASCII digits.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[u32; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        // `parse` alone would take a sign.
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

/// Epoch seconds as the wire writes them.
pub(crate) fn format(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0)
        .map_or_else(|| seconds.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Epoch milliseconds as the wire writes them: the second that they are in.
pub(crate) fn format_milliseconds(milliseconds: i64) -> String {
    format(milliseconds.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::{format, format_milliseconds, parse, parse_parameter};

    #[test]
    fn reads_and_writes_the_documented_form() {
        // `date -u -d 2026-10-02T03:04:05Z +%s`
        assert_eq!(parse("2026-10-02T03:04:05Z"), Some(1_790_910_245));
        assert_eq!(format(1_790_910_245), "2026-10-02T03:04:05Z");
        assert_eq!(format_milliseconds(1_790_910_245_999), "2026-10-02T03:04:05Z");
        assert_eq!(parse("2024-02-29T00:00:00Z"), Some(1_709_164_800));
    }

    #[test]
    fn queries_may_hold_what_isoformat_writes() {
        for text in [
            "2026-10-02T03:04:05Z",
            "2026-10-02T03:04:05+00:00",
            "2026-10-02T05:04:05.250000+02:00",
            "2026-10-02T03:04:05",
            "2026-10-02T03:04:05.123456",
        ] {
            assert_eq!(parse_parameter(text), Some(1_790_910_245), "{text}");
        }
        for text in ["", "2026-10-02", "1790910245", "yesterday"] {
            assert_eq!(parse_parameter(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_every_other_form() {
        for text in [
            "",
            "2026-10-02",
            "2026-10-02T03:04:05",
            "2026-10-02 03:04:05Z",
            "2026-10-02T03:04:05+00:00",
            "2026-10-02T03:04:05.000Z",
            "2026-10-02T03:04:05z",
            "2026-10-02T03:04:60Z",
            "2026-10-02T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-1-002T00:00:00Z",
            "2026-10-02T03:04:+5Z",
            "2026-10-02-01T03:04:05Z",
            "+026-10-02T03:04:05Z",
            "1790910245",
            "٢٠٢٦-10-02T03:04:05Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
