//! Amounts with the units of Slurm: `4000M`, `1.50G`, `1K` nodes, and the requested memory of older versions, `2Gc`.
//!
//! Units are powers of 1024. A fraction is what is left of a number that was rounded for people; it is computed exactly as it
//! stands (2.50G is 2,684,354,560 bytes) and cut to whole bytes.

use crate::Malformed;
use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{digit1, one_of};
use nom::combinator::{all_consuming, map, map_opt, opt, value};
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// A decimal number and its unit, as printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount {
    /// The digits without the point.
    digits: u64,
    /// How many of them stand after the point.
    decimals: u32,
    /// The power of two that the unit stands for; `None` without a unit.
    shift: Option<u32>,
}

impl Amount {
    /// The whole number, and whether nothing was cut off. `None` where 64 bits do not hold it.
    fn whole(self) -> Option<(u64, bool)> {
        let product = u128::from(self.digits).checked_mul(1 << self.shift.unwrap_or(0))?;
        let divisor = 10u128.checked_pow(self.decimals)?;
        Some((u64::try_from(product / divisor).ok()?, product % divisor == 0))
    }
}

fn amount(input: &[u8]) -> IResult<&[u8], Amount> {
    let point = opt(preceded(tag(&b"."[..]), digit1));
    let unit = opt(map(one_of(&b"KMGTPE"[..]), |letter| match letter {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        'P' => 50,
        _ => 60,
    }));
    map_opt((digit1, point, unit), |(whole, fraction, shift)| {
        let fraction: &[u8] = fraction.unwrap_or(b"");
        Some(Amount {
            digits: integer_of([whole, fraction])?,
            decimals: u32::try_from(fraction.len()).ok()?,
            shift,
        })
    })
    .parse(input)
}

fn integer_of(parts: [&[u8]; 2]) -> Option<u64> {
    parts
        .into_iter()
        .flatten()
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))))
}

/// A number of decimal digits and nothing else.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// A count: `16`, or `1K` where `sacct` converted it. A count that is no whole number was rounded for people and is malformed:
/// nothing can be charged by it.
pub(crate) fn count(text: &[u8]) -> Result<u64, Malformed> {
    if let Some(count) = integer(text) {
        return Ok(count);
    }
    count_by_grammar(text)
}

pub(crate) fn count_by_grammar(text: &[u8]) -> Result<u64, Malformed> {
    match all_consuming(amount).parse(text) {
        Ok((_, amount)) => count_of(amount),
        Err(_) => Err(Malformed),
    }
}

/// `0.00G` is what `--units=G` makes of one node: no count.
fn count_of(amount: Amount) -> Result<u64, Malformed> {
    match amount.whole() {
        Some((0, _)) if amount.shift.is_some() => Err(Malformed),
        Some((count, true)) => Ok(count),
        _ => Err(Malformed),
    }
}

/// Bytes of memory. Slurm prints allocated and requested memory with a unit (`--noconvert`: always `M`), so that a bare number
/// other than 0 could be bytes or mebibytes and is malformed.
pub(crate) fn bytes(text: &[u8]) -> Result<u64, Malformed> {
    // Whole mebibytes below 16 TiB, as nearly all are.
    if let [digits @ .., b'M'] = text
        && digits.len() <= 8
        && let Some(mebibytes) = integer(digits)
    {
        return Ok(mebibytes << 20);
    }
    bytes_by_grammar(text)
}

pub(crate) fn bytes_by_grammar(text: &[u8]) -> Result<u64, Malformed> {
    match all_consuming(amount).parse(text) {
        Ok((_, amount)) => bytes_of(amount),
        Err(_) => Err(Malformed),
    }
}

fn bytes_of(amount: Amount) -> Result<u64, Malformed> {
    if amount.shift.is_none() && amount.digits != 0 {
        return Err(Malformed);
    }
    amount.whole().map(|(bytes, _)| bytes).ok_or(Malformed)
}

/// What an amount of requested memory is multiplied by. Slurm before 21.08 printed it by node or by core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    Job,
    Node,
    Core,
}

/// `ReqMem`: bytes, and what they are multiplied by.
pub(crate) fn requested(text: &[u8]) -> Result<(u64, Per), Malformed> {
    let per = opt(alt((value(Per::Node, tag(&b"n"[..])), value(Per::Core, tag(&b"c"[..])))));
    match all_consuming((amount, per)).parse(text) {
        Ok((_, (amount, per))) => Ok((bytes_of(amount)?, per.unwrap_or(Per::Job))),
        Err(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fractions_are_exact() {
        assert_eq!(bytes(b"2.50G"), Ok(2_684_354_560));
        assert_eq!(bytes(b"1.50G"), Ok(1_610_612_736));
        assert_eq!(bytes(b"0.10G"), Ok(107_374_182)); // 107,374,182.4: `--units=G` has lost the rest
        assert_eq!(bytes(b"4.25P"), Ok(4_785_074_604_081_152));
    }

    #[test]
    fn units_are_powers_of_1024() {
        for (text, value) in [
            ("1K", 1u64 << 10),
            ("1M", 1 << 20),
            ("1G", 1 << 30),
            ("1T", 1 << 40),
            ("1P", 1 << 50),
            ("4000M", 4_194_304_000),
        ] {
            assert_eq!(bytes(text.as_bytes()), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_bare_number_could_be_bytes_or_mebibytes_and_is_refused() {
        assert_eq!(bytes(b"4000"), Err(Malformed));
        assert_eq!(bytes(b"0"), Ok(0));
        for text in
            ["", "M", "1.G", ".5G", "1MB", "-1M", "1 M", "1m", "99999999999999999999M", "9999999999P", "16E"]
        {
            assert_eq!(bytes(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn counts_of_a_thousand_nodes_and_more_are_converted_by_sacct() {
        assert_eq!(count(b"16"), Ok(16));
        assert_eq!(count(b"1K"), Ok(1024));
        assert_eq!(count(b"1.50K"), Ok(1536));
        assert_eq!(count(b"18446744073709551615"), Ok(u64::MAX));
        for text in ["1.01K", "0.5", "0.00G", "0K", "18446744073709551616", "", "K", "1,5"] {
            assert_eq!(count(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn requested_memory_by_node_or_by_core_before_21_08() {
        assert_eq!(requested(b"4000Mn"), Ok((4_194_304_000, Per::Node)));
        assert_eq!(requested(b"2Gc"), Ok((1 << 31, Per::Core)));
        assert_eq!(requested(b"100M"), Ok((104_857_600, Per::Job)));
        assert_eq!(requested(b"0n"), Ok((0, Per::Node)));
        assert_eq!(requested(b"4000Mx"), Err(Malformed));
    }

    #[test]
    fn the_shortcuts_agree_with_the_grammar_on_every_field_of_the_fixtures() {
        let mut amounts = 0;
        for field in crate::fixtures::fields() {
            let reference =
                all_consuming(amount).parse(&field[..]).map(|(_, amount)| amount).map_err(|_| Malformed);
            assert_eq!(bytes(&field), reference.and_then(bytes_of), "{}", field.escape_ascii());
            assert_eq!(count(&field), reference.and_then(count_of), "{}", field.escape_ascii());
            amounts += usize::from(reference.is_ok());
        }
        assert!(amounts > 500, "{amounts}");
    }

    proptest! {
        #[test]
        fn the_shortcuts_agree_with_the_grammar(text in "[0-9]{0,12}[.]?[0-9]{0,2}[KMGTPEx]?") {
            let text = text.as_bytes();
            let reference = all_consuming(amount).parse(text).map_err(|_| Malformed);
            prop_assert_eq!(bytes(text), reference.and_then(|(_, amount)| bytes_of(amount)));
            prop_assert_eq!(count(text), reference.and_then(|(_, amount)| count_of(amount)));
        }
    }
}
