//! The forms that values have: times, sizes, dates, counts.

use chrono::NaiveDate;
use nom::bytes::complete::{tag_no_case, take_while_m_n};
use nom::character::complete::{char, digit0, digit1, one_of, u64 as uint};
use nom::combinator::{all_consuming, map_opt, opt, recognize, value};
use nom::multi::{fold_many_m_n, fold_many0};
use nom::sequence::{pair, preceded, terminated};
use nom::{IResult, Parser};
use std::borrow::Cow;

use crate::run::{Reason, bounded};

pub(super) const A_NUMBER: &str = "a number";
pub(super) const SECONDS: &str = "seconds since 1970";
pub(super) const A_DURATION: &str = "hours:minutes:seconds";

/// Reads all of `text`, or says what was expected.
pub(super) fn whole<'a, T>(
    name: &'static str,
    text: &'a [u8],
    grammar: impl Parser<&'a [u8], Output = T, Error = nom::error::Error<&'a [u8]>>,
    expected: &'static str,
) -> Result<T, Reason> {
    all_consuming(grammar).parse(text).map(|(_, read)| read).map_err(|_| refused(name, text, expected))
}

/// The reason for a value that is not of its form.
#[cold]
pub(super) fn refused(name: &'static str, text: &[u8], expected: &'static str) -> Reason {
    Reason::Value { field: Cow::Borrowed(name), found: bounded(text), expected }
}

/// Seconds of `[[h+:]mm:]ss[.frac]`: hours are unbounded, digits may be unpadded, a fraction is rounded, half up.
/// The servers write `%02lu:%02u:%02u`; TORQUE also bare seconds, and log filters drop zeros (`19:23:4`).
pub(super) fn duration(input: &[u8]) -> IResult<&[u8], u64> {
    let lower = map_opt(preceded(char(':'), uint), |part| (part < 60).then_some(part));
    let (input, first) = uint(input)?;
    let (input, seconds) = map_opt(
        fold_many_m_n(
            0,
            2,
            lower,
            || Some(first),
            |sum: Option<u64>, part| sum?.checked_mul(60)?.checked_add(part),
        ),
        |sum| sum,
    )
    .parse(input)?;
    let (input, fraction) = opt(preceded(char('.'), digit1)).parse(input)?;
    let up = fraction.and_then(<[u8]>::first).is_some_and(|&tenths| tenths >= b'5');
    Ok((input, seconds.saturating_add(u64::from(up))))
}

/// Bytes of `<uint>[k|m|g|t|p][b|w]`: 1024 each, no unit is bytes, a word has 8 bytes (`attr_fn_size.c`, 64 bit).
pub(super) fn size(input: &[u8]) -> IResult<&[u8], u64> {
    let shift = opt(map_opt(one_of("kmgtpKMGTP"), |unit| {
        "kmgtp".find(unit.to_ascii_lowercase()).and_then(|place| u32::try_from(place).ok())
    }));
    let words = value(true, tag_no_case("w")).or(value(false, opt(tag_no_case("b"))));
    map_opt((uint, shift, words), |(number, shift, words)| {
        let unit = 1_u64.checked_shl(shift.map_or(0, |place| 10 * (place + 1)))?;
        number.checked_mul(unit)?.checked_mul(if words { 8 } else { 1 })
    })
    .parse(input)
}

/// Epoch seconds.
pub(super) fn epoch(input: &[u8]) -> IResult<&[u8], i64> {
    map_opt(uint, |seconds| i64::try_from(seconds).ok()).parse(input)
}

/// A number of so many digits.
fn digits<'a>(count: usize) -> impl Parser<&'a [u8], Output = u32, Error = nom::error::Error<&'a [u8]>> {
    map_opt(take_while_m_n(count, count, |byte: u8| byte.is_ascii_digit()), |text: &[u8]| {
        text.iter()
            .try_fold(0_u32, |sum, byte| sum.checked_mul(10)?.checked_add(u32::from(byte.wrapping_sub(b'0'))))
    })
}

/// `MM/DD/YYYY HH:MM:SS` as seconds since the epoch, taken for UTC. It is the server's local time and has no zone: good for
/// checks and for order, no more.
fn date(input: &[u8]) -> IResult<&[u8], i64> {
    let day = (terminated(digits(2), char('/')), terminated(digits(2), char('/')), digits(4));
    let time = (terminated(digits(2), char(':')), terminated(digits(2), char(':')), digits(2));
    map_opt((terminated(day, char(' ')), time), |((month, day, year), (hour, minute, second))| {
        // localtime() may write a leap second.
        let second = if second == 60 { 59 } else { second };
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        Some(date.and_hms_opt(hour, minute, second)?.and_utc().timestamp())
    })
    .parse(input)
}

/// A whole text that is a [`date`].
pub(super) fn date_of(text: &[u8]) -> Option<i64> {
    usual_date(text).or_else(|| all_consuming(date).parse(text).ok().map(|(_, seconds)| seconds))
}

/// The shortcut for a [`date`] from 1970 on.
fn usual_date(text: &[u8]) -> Option<i64> {
    let [m1, m0, b'/', d1, d0, b'/', y3, y2, y1, y0, b' ', h1, h0, b':', n1, n0, b':', s1, s0] = *text else {
        return None;
    };
    let digits = [m1, m0, d1, d0, y3, y2, y1, y0, h1, h0, n1, n0, s1, s0];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let [m1, m0, d1, d0, y3, y2, y1, y0, h1, h0, n1, n0, s1, s0] =
        digits.map(|digit| i64::from(digit.wrapping_sub(b'0')));
    let second = s1 * 10 + s0;
    crate::time::civil(
        y3 * 1000 + y2 * 100 + y1 * 10 + y0,
        m1 * 10 + m0,
        d1 * 10 + d0,
        h1 * 10 + h0,
        n1 * 10 + n0,
        if second == 60 { 59 } else { second },
    )
}

/// A host or vnode name, up to one of the bytes that end it.
pub(super) fn until<'a>(
    ends: &'static [u8],
) -> impl Parser<&'a [u8], Output = &'a [u8], Error = nom::error::Error<&'a [u8]>> {
    nom::bytes::complete::take_while1(move |byte: u8| !ends.contains(&byte))
}

/// `NUMBER[-NUMBER]`, as how many numbers that are.
pub(super) fn span(input: &[u8]) -> IResult<&[u8], u64> {
    map_opt((uint, opt(preceded(char('-'), uint))), |(low, high)| {
        high.unwrap_or(low).checked_sub(low)?.checked_add(1)
    })
    .parse(input)
}

/// The digits and brackets of a job's id in front of its server: `123`, `123[4]`, `123[]`, `123-4` (old TORQUE arrays).
pub(super) fn job_number(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let index = recognize((char('['), digit0, char(']'))).or(recognize(pair(char('-'), digit1)));
    recognize(pair(digit1, opt(index))).parse(input)
}

/// Sums what `item` reads, separated by `separator`; fails where the sum does not fit.
pub(super) fn sum<'a>(
    separator: char,
    mut item: impl FnMut(&'a [u8]) -> IResult<&'a [u8], u64>,
) -> impl FnMut(&'a [u8]) -> IResult<&'a [u8], u64> {
    move |input| {
        let (input, first) = item(input)?;
        map_opt(
            fold_many0(
                preceded(char(separator), &mut item),
                || Some(first),
                |sum: Option<u64>, next| sum?.checked_add(next),
            ),
            |sum| sum,
        )
        .parse(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &[u8] = b"";

    #[test]
    fn durations_are_hours_minutes_seconds() {
        for (text, seconds) in [
            ("00:00:03", 3),
            ("01:00:00", 3600),
            ("240:30:15", 865_815),
            ("1234:56:07", 4_445_767),
            ("19:23:4", 69_784),
            ("36", 36),
            ("0", 0),
            ("02:05", 125),
            ("00:00:01.4", 1),
            ("00:00:01.5", 2),
            ("1.49999", 1),
        ] {
            assert_eq!(duration(text.as_bytes()), Ok((REST, seconds)), "{text}");
        }
        assert_eq!(duration(b"1:2:3:4"), Ok((&b":4"[..], 3723)), "no days");
        assert_eq!(duration(b"01:60:00"), Ok((&b":60:00"[..], 1)), "60 minutes are an hour");
        assert!(duration(b"-5").is_err());
        assert!(duration(b":05").is_err());
        assert!(duration(b"").is_err());
        assert!(duration(b"18446744073709551616").is_err());
        assert!(duration(b"18446744073709551615:00").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024_and_words_of_8_bytes() {
        for (text, bytes) in [
            ("0kb", 0),
            ("0b", 0),
            ("17", 17),
            ("17b", 17),
            ("100mb", 104_857_600),
            ("3mw", 25_165_824),
            ("9gb", 9_663_676_416),
            ("10GB", 10_737_418_240),
            ("4224531456b", 4_224_531_456),
            ("2tb", 2_199_023_255_552),
            ("1p", 1_125_899_906_842_624),
            ("2w", 16),
            ("1k", 1024),
        ] {
            assert_eq!(size(text.as_bytes()), Ok((REST, bytes)), "{text}");
        }
        assert_eq!(size(b"12.27M"), Ok((&b".27M"[..], 12)));
        assert_eq!(size(b"1eb"), Ok((&b"eb"[..], 1)));
        assert!(size(b"kb").is_err());
        assert!(size(b"16384pb").is_err(), "2^64 bytes");
        assert!(size(b"2048pw").is_err(), "2^64 bytes");
    }

    #[test]
    fn dates_are_read_as_if_they_were_utc() {
        assert_eq!(date(b"01/01/1970 00:00:00;E"), Ok((&b";E"[..], 0)));
        assert_eq!(date(b"11/23/2026 02:29:41"), Ok((REST, 1_795_426_181 - 7 * 3600)));
        assert_eq!(date(b"02/29/2024 12:00:00"), Ok((REST, 1_709_208_000)));
        assert_eq!(date(b"12/31/2016 23:59:60"), Ok((REST, 1_483_228_799)));
        for no_date in
            ["13/01/2026 00:00:00", "02/29/2026 00:00:00", "11/23/2026 24:00:00", "1/2/2026 00:00:00"]
        {
            assert!(date(no_date.as_bytes()).is_err(), "{no_date}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_shortcut_for_dates_agrees_with_the_grammar(
            text in "(0[0-9]|1[0-3])/[0-3][0-9]/(19[67]|20[0-9])[0-9] [0-2][0-9]:[0-6][0-9]:[0-6][0-9]",
            other in "[0-9/: ]{18,20}",
        ) {
            for text in [text, other] {
                let by_grammar = all_consuming(date).parse(text.as_bytes()).ok().map(|(_, seconds)| seconds);
                let by_grammar = by_grammar.filter(|&seconds| seconds >= 0);
                proptest::prop_assert_eq!(usual_date(text.as_bytes()), by_grammar, "{}", text);
            }
        }
    }

    #[test]
    fn epochs_are_whole_and_not_negative() {
        assert_eq!(epoch(b"1795426181 x"), Ok((&b" x"[..], 1_795_426_181)));
        assert!(epoch(b"-1").is_err());
        assert!(epoch(b"9223372036854775808").is_err());
    }

    #[test]
    fn spans_count_both_ends() {
        assert_eq!(span(b"0-3,7"), Ok((&b",7"[..], 4)));
        assert_eq!(span(b"7"), Ok((REST, 1)));
        assert!(span(b"3-0").is_err());
        assert!(span(b"0-18446744073709551615").is_err());
    }

    #[test]
    fn job_numbers_may_have_an_index() {
        for text in ["123", "123[4]", "123[]", "123-4"] {
            assert_eq!(job_number(text.as_bytes()), Ok((REST, text.as_bytes())));
        }
        assert_eq!(job_number(b"123[4].srv"), Ok((&b".srv"[..], &b"123[4]"[..])));
        assert_eq!(job_number(b"123[a].srv"), Ok((&b"[a].srv"[..], &b"123"[..])));
        assert!(job_number(b"R12.srv").is_err());
    }

    #[test]
    fn sums_stop_where_the_form_ends_and_fail_where_they_overflow() {
        assert_eq!(sum('+', uint)(b"1+2+3,4"), Ok((&b",4"[..], 6)));
        assert!(sum('+', uint)(b"18446744073709551615+1").is_err());
    }
}
