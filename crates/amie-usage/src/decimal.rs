//! An exact decimal number, as charges travel.
//!
//! One value has one text: no exponent, no superfluous zeros, no negative zero. `12.5`, never `12.500000` or `1.25e1`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// An exact decimal: `units` / 10^`places`, kept in lowest terms (no trailing zeros in `units` while `places` > 0).
///
/// ```
/// use amie_usage::Decimal;
/// let charge: Decimal = "12.500000".parse()?;
/// assert_eq!(charge.to_string(), "12.5");
/// assert_eq!(charge, Decimal::new(125, 1));
/// # Ok::<(), amie_usage::DecimalError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Decimal {
    units: i128,
    places: u8,
}

/// A text that is not a plain decimal number, or one with more than 38 digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a plain decimal number of at most 38 digits")]
pub struct DecimalError {
    /// The offending text, at most 64 characters of it.
    pub text: String,
}

/// The most places a `Decimal` has.
pub(crate) const MAX_PLACES: u8 = 38;

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { units: 0, places: 0 };

    /// `units` / 10^`places`. Places above 38 are taken as 38.
    #[must_use]
    pub fn new(units: i128, places: u8) -> Self {
        let mut decimal = Self { units, places: places.min(MAX_PLACES) };
        while decimal.places > 0 && decimal.units % 10 == 0 {
            decimal.units /= 10;
            decimal.places -= 1;
        }
        decimal
    }

    /// The number as units of 10^-[`places`](Self::places).
    #[must_use]
    pub fn units(self) -> i128 {
        self.units
    }

    /// Digits behind the point, without trailing zeros.
    #[must_use]
    pub fn places(self) -> u8 {
        self.places
    }

    /// True for 0.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.units == 0
    }

    /// True below 0.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.units < 0
    }

    /// The exact sum, or `None` where it does not fit 38 digits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let sum = self.at(places)?.checked_add(other.at(places)?)?;
        Some(Self::new(sum, places))
    }

    /// The number in units of 10^-`places`, or `None` where it does not fit or would lose digits.
    fn at(self, places: u8) -> Option<i128> {
        let factor = 10_i128.checked_pow(u32::from(places.checked_sub(self.places)?))?;
        self.units.checked_mul(factor)
    }

    /// The same for a number below 2^63 and at most 18 more places; where it has more places itself, as it stands.
    fn small_at(self, places: u8) -> Option<i128> {
        const POWERS: [i64; 19] = {
            let mut powers = [1; 19];
            let mut place = 1;
            while place < powers.len() {
                powers[place] = powers[place - 1] * 10;
                place += 1;
            }
            powers
        };
        let factor = *POWERS.get(usize::from(places.saturating_sub(self.places)))?;
        // A product of two 64-bit numbers always fits 128 bits.
        Some(i128::from(i64::try_from(self.units).ok()?) * i128::from(factor))
    }

    /// Rounded half to even to at most `places` places: how a service that keeps fewer digits would return it.
    #[must_use]
    pub fn rounded(self, places: u8) -> Self {
        if self.places <= places {
            return self;
        }
        let divisor = 10_i128.pow(u32::from(self.places - places));
        let (quotient, rest) = (self.units / divisor, (self.units % divisor).abs());
        let twice = rest.checked_mul(2);
        let up = match twice.map(|twice| twice.cmp(&divisor)) {
            None | Some(std::cmp::Ordering::Greater) => true,
            Some(std::cmp::Ordering::Less) => false,
            Some(std::cmp::Ordering::Equal) => quotient % 2 != 0,
        };
        Self::new(if up { quotient + self.units.signum() } else { quotient }, places)
    }

    /// The exact difference, or `None` where it does not fit 38 digits.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self { units: other.units.checked_neg()?, places: other.places })
    }

    /// Appends the one text of the value: what `Display` writes, without its cost.
    pub(crate) fn render(self, out: &mut Vec<u8>) {
        if self.units < 0 {
            out.push(b'-');
        }
        self.render_magnitude(out);
    }

    fn render_magnitude(self, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.units.unsigned_abs()).as_bytes();
        let places = usize::from(self.places);
        match digits.len().checked_sub(places).and_then(|whole| digits.split_at_checked(whole)) {
            Some((whole, [])) => out.extend_from_slice(whole),
            Some((whole, fraction)) => {
                out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            None => {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + places - digits.len(), b'0');
                out.extend_from_slice(digits);
            }
        }
    }

    /// Exact comparison by value.
    #[must_use]
    pub fn compare(self, other: Self) -> std::cmp::Ordering {
        if self.places == other.places {
            return self.units.cmp(&other.units);
        }
        if self.units.signum() != other.units.signum() {
            return self.units.signum().cmp(&other.units.signum());
        }
        // Charges and limits are small: scaled up, both fit 128 bits without a check.
        if let (Some(a), Some(b)) = (self.small_at(other.places), other.small_at(self.places)) {
            return a.cmp(&b);
        }
        // Integer parts first, so that scaling the fractions up cannot overflow.
        let split = |d: Self| {
            let one = 10_i128.pow(u32::from(d.places));
            (d.units / one, Self { units: d.units % one, places: d.places })
        };
        let ((a, a_rest), (b, b_rest)) = (split(self), split(other));
        a.cmp(&b).then_with(|| {
            let places = self.places.max(other.places);
            // Fractions are below 10^38 in any case: they fit.
            a_rest.at(places).cmp(&b_rest.at(places))
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.compare(*other)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(44);
        self.render_magnitude(&mut text);
        f.pad_integral(self.units >= 0, "", std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    /// Reads `[+-]digits[.digits]` and, because services send numbers as they like, an exponent (`1e-7`).
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        parse(text).ok_or_else(|| DecimalError { text: text.chars().take(64).collect() })
    }
}

fn parse(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, mantissa.get(1..)?),
        b'+' => (false, mantissa.get(1..)?),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut units: i128 = 0;
    for byte in whole.bytes().chain(fraction.trim_end_matches('0').bytes()) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        units = units.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    if negative {
        units = -units;
    }
    if units == 0 {
        return fraction.bytes().all(|b| b.is_ascii_digit()).then_some(Decimal::ZERO);
    }
    let places = i32::try_from(fraction.trim_end_matches('0').len()).ok()?.checked_sub(exponent)?;
    if places < 0 {
        units = units.checked_mul(10_i128.checked_pow(places.unsigned_abs())?)?;
        return Some(Decimal::new(units, 0));
    }
    let places = u8::try_from(places).ok().filter(|places| *places <= MAX_PLACES)?;
    Some(Decimal::new(units, places))
}

impl Serialize for Decimal {
    /// As a string: production senders of the API use strings and numbers, and a string cannot be rounded on the way.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    /// Reads a JSON string or number by its own text, so that no digit is lost: `0.10000000000000000001` stays what it is.
    ///
    /// That text is `serde_json`'s to give. From what has buffered or converted the number before (another format,
    /// `#[serde(flatten)]`, an untagged enum) it cannot be had, and reading is an error instead of a rounded number;
    /// only a `serde_json::Value` still answers, with the digits that it kept.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::wire::lenient::decimal(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use num_rational::BigRational;
    use num_traits::Signed;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    #[test]
    fn one_value_has_one_text() {
        for (text, expected) in [
            ("12.500000", "12.5"),
            ("0", "0"),
            ("-0.0", "0"),
            ("0.000001", "0.000001"),
            ("1e-7", "0.0000001"),
            ("2.5E3", "2500"),
            (".5", "0.5"),
            ("-3.25", "-3.25"),
            ("100", "100"),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn extremes_are_written_in_full() {
        assert_eq!(Decimal::new(1, 38).to_string(), "0.00000000000000000000000000000000000001");
        assert_eq!(Decimal::new(i128::MIN, 38).to_string(), "-1.70141183460469231731687303715884105728");
        assert_eq!(Decimal::new(i128::MIN, 0).to_string(), i128::MIN.to_string());
        assert_eq!(
            format!("{:>8}|{:+}|{:08}", Decimal::new(125, 1), Decimal::new(5, 1), Decimal::new(-5, 1)),
            "    12.5|+0.5|-00000.5"
        );
    }

    #[test]
    fn sums_and_differences_are_exact() {
        let (a, b) = (Decimal::new(1, 1), Decimal::new(2, 1));
        assert_eq!(a.checked_add(b), Some(Decimal::new(3, 1)));
        assert_eq!(a.checked_sub(b), Some(Decimal::new(-1, 1)));
        assert_eq!(Decimal::ZERO.checked_sub(Decimal::new(i128::MIN, 0)), None);
    }

    proptest! {
        #[test]
        fn every_value_survives_its_text(units in any::<i128>(), places in 0_u8..=38) {
            let value = Decimal::new(units, places);
            let text = value.to_string();
            prop_assert_eq!(text.parse::<Decimal>(), Ok(value));
            let mut rendered = Vec::new();
            value.render(&mut rendered);
            prop_assert_eq!(rendered, text.into_bytes());
        }

        // The oracle is arithmetic on fractions of arbitrary size, not of this file.
        #[test]
        fn rounding_and_order_agree_with_rationals(a in any::<i64>(), b in any::<i64>(), p in 0_u8..20, q in 0_u8..20) {
            let rational = |units: i128, places: u8| BigRational::new(units.into(), BigInt::from(10).pow(places.into()));
            let (x, y) = (Decimal::new(a.into(), p), Decimal::new(b.into(), q));
            prop_assert_eq!(x.cmp(&y), rational(a.into(), p).cmp(&rational(b.into(), q)));
            let rounded = x.rounded(q);
            let error = (rational(a.into(), p) - rational(rounded.units(), rounded.places())).abs();
            let half = rational(5, q + 1);
            prop_assert!(error <= half);
            if error == half {
                // A tie goes to the even last digit.
                let last = rounded.units() * 10_i128.pow(u32::from(q - rounded.places()));
                prop_assert_eq!(last % 2, 0);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eE]{0,60}") {
            let _ = text.parse::<Decimal>();
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", ".", "-", "1.2.3", "1,5", "NaN", "inf", "0x10", "1e", " 1", "0.x", "1e999999999999"]
        {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_numbers_are_read_by_their_digits() {
        let read = |json: &str| serde_json::from_str::<Decimal>(json);
        assert_eq!(read("0.10000000000000000001").unwrap().to_string(), "0.10000000000000000001");
        assert_eq!(read("98765432109876543210.123456").unwrap().to_string(), "98765432109876543210.123456");
        assert_eq!(read(" 1.25e1 ").unwrap(), Decimal::new(125, 1));
        assert_eq!(read("\" 12.50 \"").unwrap(), Decimal::new(125, 1));
        for json in ["true", "null", "[]", "{}", "\"\"", "\"12,5\"", "1e99"] {
            assert!(read(json).is_err(), "{json}");
        }
        // What was a float before is refused, or has the digits that were kept: never silently others.
        #[derive(Debug, Deserialize)]
        struct Flat {
            #[serde(flatten)]
            inner: Inner,
        }
        #[derive(Debug, Deserialize)]
        struct Inner {
            charge: Decimal,
        }
        let flat = serde_json::from_str::<Flat>(r#"{"charge": 0.10000000000000000001}"#);
        assert!(flat.as_ref().is_err(), "{:?}", flat.map(|flat| flat.inner.charge));
        let value: serde_json::Value = serde_json::from_str("12.25").unwrap();
        assert_eq!(serde_json::from_value::<Decimal>(value).unwrap(), Decimal::new(1225, 2));
    }

    #[test]
    fn rounds_half_to_even() {
        for (text, places, expected) in [
            ("0.5", 0, "0"),
            ("1.5", 0, "2"),
            ("2.5", 0, "2"),
            ("-2.5", 0, "-2"),
            ("-1.5", 0, "-2"),
            ("0.0000005", 6, "0"),
            ("0.0000015", 6, "0.000002"),
            ("0.00000051", 6, "0.000001"),
            ("7", 6, "7"),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().rounded(places).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn compares_by_value_even_where_scaling_would_overflow() {
        let huge = Decimal::new(i128::MAX, 0);
        let tiny = Decimal::new(1, 38);
        assert_eq!(huge.compare(tiny), Ordering::Greater);
        assert_eq!(tiny.compare(huge), Ordering::Less);
        assert_eq!(Decimal::new(15, 1).compare(Decimal::new(150, 2)), Ordering::Equal);
        assert_eq!(Decimal::new(-15, 1).compare(Decimal::new(-16, 1)), Ordering::Greater);
        assert_eq!(huge.checked_add(tiny), None);
    }

    proptest::proptest! {
        /// Against the same numbers in units of 10^-18, which hold them all.
        #[test]
        fn compares_as_whole_numbers_do(
            a in any::<i32>(), b in any::<i32>(),
            a_places in 0_u8..=18, b_places in 0_u8..=18, near in proptest::bool::ANY,
        ) {
            let units = |units: i32, places: u8| i128::from(units) * 10_i128.pow(18 - u32::from(places));
            let x = Decimal::new(i128::from(a), a_places);
            // Now and then the same value, or its neighbour, with other places.
            let y = if near && b_places >= a_places {
                Decimal::new(i128::from(a) * 10_i128.pow(u32::from(b_places - a_places)) + i128::from(b % 2), b_places)
            } else {
                Decimal::new(i128::from(b), b_places)
            };
            let exact = if near && b_places >= a_places {
                0.cmp(&(b % 2))
            } else {
                units(a, a_places).cmp(&units(b, b_places))
            };
            proptest::prop_assert_eq!(x.compare(y), exact);
            proptest::prop_assert_eq!(y.compare(x), exact.reverse());
        }
    }
}
