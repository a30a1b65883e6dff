//! Times of the wire: in records ISO 8601 UTC in whole seconds, `2026-10-02T00:00:00Z`, and nothing else; in queries a
//! little more.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// Epoch seconds of `2026-10-02T00:00:00Z`; `None` for every other way of writing a time.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bytes: [u8; 20] = text.as_bytes().try_into().ok()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z'] = bytes
    else {
        return None;
    };
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(number([y1, y2, y3, y4])?).ok()?,
        number([m1, m2])?,
        number([d1, d2])?,
    )?;
    let time = date.and_hms_opt(number([h1, h2])?, number([n1, n2])?, number([s1, s2])?)?;
    Some(time.and_utc().timestamp())
}

/// The number of a few ASCII digits.
fn number<const DIGITS: usize>(digits: [u8; DIGITS]) -> Option<u32> {
    digits.into_iter().try_fold(0_u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit).wrapping_sub(u32::from(b'0')))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Epoch seconds of a time in a query, where the reference client writes what Python's `isoformat` gives: an offset, a
/// fraction of a second, or no zone at all, which can only mean UTC.
pub(crate) fn parse_parameter(text: &str) -> Option<i64> {
    let naive = || text.parse::<NaiveDateTime>().ok().map(|time| time.and_utc().timestamp());
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp()).or_else(naive)
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
