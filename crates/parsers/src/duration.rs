//! Durations as Slurm prints them: `[D-]HH:MM:SS`.

use crate::Malformed;
use nom::bytes::complete::tag;
use nom::character::complete::{digit1, u64 as number};
use nom::combinator::{all_consuming, map_opt, map_res, opt, verify};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

/// Seconds of `[D-]HH:MM:SS`. `None` where the text says that there is no number: empty, `INVALID` (Slurm's word for a
/// negative duration), `UNLIMITED`.
pub(crate) fn seconds(text: &[u8]) -> Result<Option<u64>, Malformed> {
    match text {
        // Nearly all: less than a day.
        [h1, h0, b':', m1, m0, b':', s1, s0] => {
            match (below(24, *h1, *h0), below(60, *m1, *m0), below(60, *s1, *s0)) {
                (Some(hours), Some(minutes), Some(seconds)) => {
                    Ok(Some(hours * 3600 + minutes * 60 + seconds))
                }
                _ => Err(Malformed),
            }
        }
        _ => by_grammar(text),
    }
}

pub(crate) fn by_grammar(text: &[u8]) -> Result<Option<u64>, Malformed> {
    match text {
        b"" | b"INVALID" | b"UNLIMITED" => Ok(None),
        _ => grammar(text).map(|(_, seconds)| Some(seconds)).map_err(|_| Malformed),
    }
}

fn below(limit: u64, tens: u8, ones: u8) -> Option<u64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    let value = u64::from(tens) * 10 + u64::from(ones);
    (tens < 10 && ones < 10 && value < limit).then_some(value)
}

fn two_digits(limit: u64) -> impl Fn(&[u8]) -> IResult<&[u8], u64> {
    move |input| {
        let text = verify(digit1, |digits: &[u8]| digits.len() == 2);
        verify(map_res(text, |digits| number::<_, nom::error::Error<_>>(digits).map(|(_, n)| n)), |n| {
            *n < limit
        })
        .parse(input)
    }
}

fn grammar(input: &[u8]) -> IResult<&[u8], u64> {
    let clock =
        (two_digits(24), preceded(tag(&b":"[..]), two_digits(60)), preceded(tag(&b":"[..]), two_digits(60)));
    all_consuming(map_opt(
        (opt(terminated(number, tag(&b"-"[..]))), clock),
        |(days, (hours, minutes, seconds))| {
            days.unwrap_or(0).checked_mul(86_400)?.checked_add(hours * 3600 + minutes * 60 + seconds)
        },
    ))
    .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_hours_minutes_and_seconds() {
        assert_eq!(seconds(b"00:01:27"), Ok(Some(87)));
        assert_eq!(seconds(b"3-04:05:06"), Ok(Some(3 * 86_400 + 4 * 3600 + 5 * 60 + 6)));
        assert_eq!(seconds(b"49710-06:28:15"), Ok(Some(u64::from(u32::MAX))));
    }

    #[test]
    fn words_without_a_number_are_none_and_never_zero() {
        for word in ["", "INVALID", "UNLIMITED"] {
            assert_eq!(seconds(word.as_bytes()), Ok(None), "{word}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in [
            "1:02:03",
            "24:00:00",
            "00:60:00",
            "00:00:60",
            "00:00.011",
            "-00:00:01",
            "1-",
            "00:00:00 ",
            "999999999999999999-00:00:00",
        ] {
            assert_eq!(seconds(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn the_shortcut_agrees_with_the_grammar_on_every_field_of_the_fixtures() {
        let mut durations = 0;
        for field in crate::fixtures::fields() {
            if let Ok(Some(value)) = seconds(&field) {
                assert_eq!(grammar(&field).map(|(_, value)| value), Ok(value), "{}", field.escape_ascii());
                durations += 1;
            } else {
                assert!(grammar(&field).is_err(), "{}", field.escape_ascii());
            }
        }
        assert!(durations > 30, "{durations}");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(value in 0..u64::from(u32::MAX)) {
            let (days, hours) = (value / 86_400, value / 3600 % 24);
            let clock = format!("{hours:02}:{:02}:{:02}", value / 60 % 60, value % 60);
            let text = if days == 0 { clock } else { format!("{days}-{clock}") };
            prop_assert_eq!(seconds(text.as_bytes()), Ok(Some(value)));
        }

        #[test]
        fn the_shortcut_agrees_with_the_grammar(text in "[0-9:a]{8}") {
            let reference = grammar(text.as_bytes()).map(|(_, seconds)| Some(seconds)).map_err(|_| Malformed);
            prop_assert_eq!(seconds(text.as_bytes()), reference);
        }
    }
}
