//! Times on the wire: ISO 8601 UTC, whole seconds, `2026-10-02T00:00:00Z`.

use serde::{Deserializer, Serializer};

/// Writes epoch seconds as `2026-10-02T00:00:00Z`.
///
/// # Errors
/// Whatever the serializer answers, and a year outside 0 to 9999.
pub fn serialize<S: Serializer>(epoch: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match format_time(*epoch) {
        Some(text) => serializer.collect_str(std::str::from_utf8(&text).unwrap_or_default()),
        None => Err(serde::ser::Error::custom(format_args!("{epoch} is outside the years 0 to 9999"))),
    }
}

/// Reads ISO 8601 with `Z` or an offset, or epoch seconds as a number.
///
/// # Errors
/// Where the value is no such time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Time;
    impl serde::de::Visitor<'_> for Time {
        type Value = i64;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a time like 2026-10-02T00:00:00Z")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
            let not_a_time =
                || format!("\"{}\" is not a time like 2026-10-02T00:00:00Z", super::printable(text, 40));
            parse_time(text.trim()).ok_or_else(|| E::custom(not_a_time()))
        }
        fn visit_i64<E: serde::de::Error>(self, epoch: i64) -> Result<i64, E> {
            Ok(epoch)
        }
        fn visit_u64<E: serde::de::Error>(self, epoch: u64) -> Result<i64, E> {
            i64::try_from(epoch).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Time)
}

/// Epoch seconds as `2026-10-02T00:00:00Z`; `None` outside the years 0 to 9999.
///
/// ```
/// use amie_usage::wire::format_time;
/// assert_eq!(format_time(1_790_899_200).as_ref(), Some(b"2026-10-02T00:00:00Z"));
/// assert_eq!(format_time(i64::MAX), None);
/// ```
#[must_use]
pub fn format_time(epoch: i64) -> Option<[u8; 20]> {
    let (days, second) = (epoch.div_euclid(86_400), epoch.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days)?;
    let mut text = *b"0000-00-00T00:00:00Z";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for place in (at..at + width).rev() {
            if let Some(byte) = text.get_mut(place) {
                *byte = b'0' + u8::try_from(value % 10).unwrap_or(0);
            }
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3600);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    Some(text)
}

/// Days since 1970-01-01 to year, month, day (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    let shifted = days.checked_add(719_468)?;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (0..=9999).contains(&year).then_some((year, month, day))
}

/// Reads `2026-10-02T00:00:00Z`, with `Z`, an offset (`+01:00`), or nothing (UTC); fractions of a second are cut.
///
/// ```
/// use amie_usage::wire::parse_time;
/// assert_eq!(parse_time("2026-10-02T01:00:00+01:00"), Some(1_790_899_200));
/// assert_eq!(parse_time("2026-04-31T00:00:00Z"), None);
/// ```
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |at: usize, width: usize| -> Option<i64> {
        let digits = bytes.get(at..at + width)?;
        digits.iter().all(u8::is_ascii_digit).then_some(())?;
        Some(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    };
    let marks = (bytes.get(4)?, bytes.get(7)?, bytes.get(10)?, bytes.get(13)?, bytes.get(16)?);
    if !matches!(marks, (b'-', b'-', b'T' | b' ', b':', b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = bytes.get(19..)?;
    if let Some((b'.', fraction)) = rest.split_first() {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = fraction.get(digits..)?;
    }
    let pair = |tens: &u8, units: &u8, below: i64| -> Option<i64> {
        (tens.is_ascii_digit() && units.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(units - b'0'))
            .filter(|value| *value < below)
    };
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            let seconds = pair(h1, h2, 24)? * 3600 + pair(m1, m2, 60)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    // Days from civil, the inverse of `civil_from_days`.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    if civil_from_days(days)?.2 != day {
        return None; // 31 April
    }
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Epoch seconds below are GNU date's: `date -u -d '2024-02-29T23:59:59Z' +%s`.
    #[test]
    fn agrees_with_gnu_date() {
        for (text, epoch) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("2026-10-02T00:00:00Z", 1_790_899_200),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
        ] {
            assert_eq!(parse_time(text), Some(epoch), "{text}");
            assert_eq!(format_time(epoch).as_ref().map(|text| text.as_slice()), Some(text.as_bytes()));
        }
    }

    #[test]
    fn reads_the_spellings_that_senders_use() {
        for text in [
            "2026-10-02T00:00:00",
            "2026-10-02 00:00:00",
            "2026-10-02T00:00:00.123456Z",
            "2026-10-02T00:00:00+00:00",
            "2026-10-02T02:30:00+0230",
            "2026-10-01T19:00:00-05:00",
        ] {
            assert_eq!(parse_time(text), Some(1_790_899_200), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-10-02",
            "2026-13-02T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-10-00T00:00:00Z",
            "2026-10-02T24:00:00Z",
            "2026-10-02T00:60:00Z",
            "2026-10-02T00:00:00+25:00",
            "2026-10-02T00:00:00+0:1:0:0",
            "2026-10-02T00:00:00 UTC",
            "20261002T000000Z",
            "\u{ff12}026-10-02T00:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(format_time(253_402_300_800), None);
        assert_eq!(format_time(-62_167_219_201), None);
        assert_eq!(format_time(i64::MIN), None);
    }

    proptest! {
        #[test]
        fn every_second_survives_the_round_trip(epoch in -62_167_219_200_i64..253_402_300_800) {
            let text = format_time(epoch).unwrap();
            prop_assert_eq!(parse_time(std::str::from_utf8(&text).unwrap()), Some(epoch));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = parse_time(&text);
        }
    }
}
