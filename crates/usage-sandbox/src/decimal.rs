//! Plain decimals as text: which texts are one, exact sums of any length, and rounding to fewer places.

use std::fmt;

/// Why a text is not a charge, or nothing.
pub(crate) fn objection(text: &str) -> Option<&'static str> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.bytes().any(|byte| matches!(byte, b'e' | b'E')) && text.bytes().any(|byte| byte.is_ascii_digit())
    {
        Some("must not have an exponent")
    } else if !digits(whole) || !digits(fraction) {
        Some("must be a plain decimal number")
    } else if unsigned.len() != text.len() {
        Some("must not be negative")
    } else {
        None
    }
}

/// An exact sum of plain decimals without sign, as long as it needs to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Digits before the point, the least one first.
    whole: Vec<u8>,
    /// Digits behind the point, the greatest one first.
    fraction: Vec<u8>,
}

impl Sum {
    /// Adds a text that [`objection`] has nothing against. Other bytes count as 0.
    pub(crate) fn add(&mut self, text: &str) {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if self.fraction.len() < fraction.len() {
            self.fraction.resize(fraction.len(), 0);
        }
        if self.whole.len() < whole.len() {
            self.whole.resize(whole.len(), 0);
        }
        let mut carry = 0;
        for (place, digit) in self.fraction.iter_mut().take(fraction.len()).zip(fraction.bytes()).rev() {
            carry = add_digit(place, digit, carry);
        }
        let mut digits = whole.bytes().rev();
        for place in &mut self.whole {
            match digits.next() {
                None if carry == 0 => return,
                digit => carry = add_digit(place, digit.unwrap_or(b'0'), carry),
            }
        }
        if carry > 0 {
            self.whole.push(carry);
        }
    }
}

/// Adds one ASCII digit and a carry to one place; answers the next carry.
fn add_digit(place: &mut u8, digit: u8, carry: u8) -> u8 {
    // At most 9 + 9 + 1.
    let sum = place.saturating_add(digit.wrapping_sub(b'0').min(9)).saturating_add(carry);
    *place = sum % 10;
    sum / 10
}

impl fmt::Display for Sum {
    /// Without superfluous zeros: `12.5`, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: String = digits(self.whole.iter().rev());
        let fraction: String = digits(self.fraction.iter());
        let whole = whole.trim_start_matches('0');
        f.write_str(if whole.is_empty() { "0" } else { whole })?;
        match fraction.trim_end_matches('0') {
            "" => Ok(()),
            fraction => write!(f, ".{fraction}"),
        }
    }
}

/// Digits as text.
fn digits<'a>(places: impl Iterator<Item = &'a u8>) -> String {
    places.map(|digit| char::from(b'0'.saturating_add(*digit))).collect()
}

/// The number without superfluous zeros.
pub(crate) fn shortest(text: &str) -> String {
    let mut sum = Sum::default();
    sum.add(text);
    sum.to_string()
}

/// Rounded half to even to at most `places` places, as a data base with a fixed column keeps it.
pub(crate) fn rounded(text: &str, places: usize) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (kept, rest) = fraction.split_at_checked(places).unwrap_or((fraction, ""));
    let last_is_odd = format!("{whole}{kept}").bytes().last().is_some_and(|digit| digit % 2 == 1);
    let up = match rest.split_at_checked(1) {
        Some(("5", tail)) if tail.bytes().all(|digit| digit == b'0') => last_is_odd,
        Some((first, _)) => first >= "5",
        None => false,
    };
    let mut sum = Sum::default();
    sum.add(&format!("{whole}.{kept}"));
    if up && places == 0 {
        sum.add("1");
    } else if up {
        sum.add(&format!("0.{:0>places$}", 1));
    }
    sum.to_string()
}

#[cfg(test)]
mod tests {
    use super::{Sum, objection, rounded, shortest};
    use proptest::prelude::*;

    fn sum(texts: &[&str]) -> String {
        let mut sum = Sum::default();
        texts.iter().for_each(|text| sum.add(text));
        sum.to_string()
    }

    #[test]
    fn sums_are_exact() {
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(
            sum(&["999999999999999999999999999999999999999.9", "0.1"]),
            "1".to_owned() + &"0".repeat(39)
        );
        assert_eq!(sum(&["12.500000", "7"]), "19.5");
        assert_eq!(sum(&["0.000001"; 1000]), "0.001");
        assert_eq!(sum(&["007.00"]), "7");
    }

    #[test]
    fn charges_are_plain_decimals() {
        for text in ["0", "0.0", "12", "12.500000", "0.000001", "123456789012345678901234567890.5"] {
            assert_eq!(objection(text), None, "{text}");
        }
        for text in ["1e3", "1E-7", "1.5e0", "-1e3"] {
            assert_eq!(objection(text), Some("must not have an exponent"), "{text}");
        }
        for text in ["-1", "-0", "-0.5"] {
            assert_eq!(objection(text), Some("must not be negative"), "{text}");
        }
        for text in
            ["", ".", ".5", "5.", "+5", " 5", "5 ", "1,5", "1.2.3", "NaN", "inf", "0x10", "١", "--1", "1_000"]
        {
            assert_eq!(objection(text), Some("must be a plain decimal number"), "{text}");
        }
    }

    #[test]
    fn rounding_is_half_to_even() {
        for (text, places, expected) in [
            ("2.5", 0, "2"),
            ("3.5", 0, "4"),
            ("2.51", 0, "3"),
            ("0.125", 2, "0.12"),
            ("0.135", 2, "0.14"),
            ("0.1250001", 2, "0.13"),
            ("9.999", 2, "10"),
            ("7", 2, "7"),
            ("7.1", 2, "7.1"),
            ("0.4", 0, "0"),
        ] {
            assert_eq!(rounded(text, places), expected, "{text} to {places}");
        }
        assert_eq!(shortest("0012.500"), "12.5");
    }

    proptest! {
        #[test]
        fn agrees_with_integers(a in any::<u64>(), b in any::<u64>(), c in any::<u32>()) {
            let mut sum = Sum::default();
            for (units, places) in [(u128::from(a), 6_u32), (u128::from(b), 3), (u128::from(c), 0)] {
                let one = 10_u128.pow(places);
                let width = places as usize;
                sum.add(&if places == 0 { units.to_string() } else { format!("{}.{:0>width$}", units / one, units % one) });
            }
            let total = u128::from(a) + u128::from(b) * 1000 + u128::from(c) * 1_000_000;
            let text = format!("{}.{:06}", total / 1_000_000, total % 1_000_000);
            prop_assert_eq!(sum.to_string(), text.trim_end_matches('0').trim_end_matches('.'));
        }
    }
}
