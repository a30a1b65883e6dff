//! Exact rational numbers: two 128-bit integers where they hold the value, wider ones where they do not.
//!
//! Nothing is rounded here but where rounding is asked for by name, and nothing wraps: an operation that does not
//! fit first brings its operands to lowest terms, and then moves to `num-bigint`.

use crate::spec::RoundingMode;
use amie_usage::Decimal;
use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::cmp::Ordering;
use std::fmt;

/// An exact rational number. Fractions are not kept in lowest terms: most are used once and rounded.
#[derive(Debug, Clone)]
pub(crate) struct Number(Width);

#[derive(Debug, Clone)]
enum Width {
    /// `num / den`, `den` > 0.
    Small { num: i128, den: i128 },
    /// What does not fit above, in lowest terms. Boxed: it is rare, and a `Number` is passed by value.
    Big(Box<Wide>),
}

#[derive(Debug, Clone)]
struct Wide {
    num: BigInt,
    den: BigInt,
}

/// Where a number between two representable ones goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    HalfEven,
    /// Ties away from zero.
    HalfUp,
    /// Away from zero.
    Up,
    /// Towards zero.
    Down,
    /// Towards plus infinity.
    Ceil,
    /// Towards minus infinity.
    Floor,
}

impl From<RoundingMode> for Direction {
    fn from(mode: RoundingMode) -> Self {
        match mode {
            RoundingMode::HalfEven => Self::HalfEven,
            RoundingMode::HalfUp => Self::HalfUp,
            RoundingMode::Up => Self::Up,
            RoundingMode::Down => Self::Down,
        }
    }
}

impl Direction {
    /// Whether the magnitude grows by one: `rest` is how the rest compares with half a unit, and is not zero.
    fn grows(self, negative: bool, odd: bool, rest: Ordering) -> bool {
        match self {
            Self::HalfEven => rest.is_gt() || (rest.is_eq() && odd),
            Self::HalfUp => rest.is_ge(),
            Self::Up => true,
            Self::Down => false,
            Self::Ceil => !negative,
            Self::Floor => negative,
        }
    }
}

/// The product; two factors below 2^63 are multiplied without the checks of 128-bit multiplication.
fn product(a: i128, b: i128) -> Option<i128> {
    match (i64::try_from(a), i64::try_from(b)) {
        // A product of two 64-bit numbers always fits 128 bits.
        (Ok(a), Ok(b)) => Some(i128::from(a).wrapping_mul(i128::from(b))),
        _ => a.checked_mul(b),
    }
}

impl Number {
    pub(crate) const ZERO: Self = Self(Width::Small { num: 0, den: 1 });

    pub(crate) fn integer(value: u64) -> Self {
        Self::small(i128::from(value), 1)
    }

    /// `num / den`; a denominator of 0 is taken as 1: callers give constants.
    pub(crate) fn ratio(num: u64, den: u64) -> Self {
        Self::small(i128::from(num), i128::from(den.max(1)))
    }

    /// `digits` are ASCII digits with at most one point among them, at most 38 of them; else `None`.
    pub(crate) fn decimal(digits: &str) -> Option<Self> {
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let count = whole.len().saturating_add(fraction.len());
        if count == 0 || count > 38 {
            return None;
        }
        let (mut num, mut den) = (0_i128, 1_i128);
        for digit in whole.bytes().chain(fraction.bytes()) {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            num = num.checked_mul(10)?.checked_add(i128::from(digit))?;
        }
        for _ in fraction.bytes() {
            den = den.checked_mul(10)?;
        }
        Some(Self::small(num, den))
    }

    fn small(num: i128, den: i128) -> Self {
        Self(Width::Small { num, den })
    }

    /// In lowest terms, and in the narrow form where it fits.
    fn wide(num: BigInt, den: BigInt) -> Self {
        let divisor = num.gcd(&den);
        let (num, den) = if divisor.is_zero() { (num, den) } else { (num / &divisor, den / divisor) };
        let (num, den) = if den.is_negative() { (-num, -den) } else { (num, den) };
        match (num.to_i128(), den.to_i128()) {
            (Some(num), Some(den)) => Self::small(num, den),
            _ => Self(Width::Big(Box::new(Wide { num, den }))),
        }
    }

    fn to_wide(&self) -> Wide {
        match &self.0 {
            Width::Small { num, den } => Wide { num: BigInt::from(*num), den: BigInt::from(*den) },
            Width::Big(wide) => Wide::clone(wide),
        }
    }

    /// Numerator and denominator in lowest terms, where they are narrow.
    fn lowest(&self) -> Option<(i128, i128)> {
        let Width::Small { num, den } = self.0 else { return None };
        let divisor = gcd(num.unsigned_abs(), den.unsigned_abs());
        match i128::try_from(divisor) {
            Ok(divisor) if divisor > 1 => Some((num / divisor, den / divisor)),
            _ => Some((num, den)),
        }
    }

    /// `narrow` on both as they are, then in lowest terms, then `wide`.
    fn combine(
        &self,
        other: &Self,
        narrow: impl Fn(i128, i128, i128, i128) -> Option<(i128, i128)>,
        wide: impl Fn(Wide, Wide) -> (BigInt, BigInt),
    ) -> Self {
        if let (Width::Small { num: a, den: b }, Width::Small { num: c, den: d }) = (&self.0, &other.0)
            && let Some((num, den)) = narrow(*a, *b, *c, *d)
        {
            return Self::small(num, den);
        }
        if let (Some((a, b)), Some((c, d))) = (self.lowest(), other.lowest())
            && let Some((num, den)) = narrow(a, b, c, d)
        {
            return Self::small(num, den);
        }
        let (num, den) = wide(self.to_wide(), other.to_wide());
        Self::wide(num, den)
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        self.combine(
            other,
            |a, b, c, d| {
                if b == d {
                    return Some((a.checked_add(c)?, b));
                }
                Some((product(a, d)?.checked_add(product(c, b)?)?, product(b, d)?))
            },
            |x, y| (&x.num * &y.den + &y.num * &x.den, x.den * y.den),
        )
    }

    pub(crate) fn negate(&self) -> Self {
        match &self.0 {
            Width::Small { num, den } => match num.checked_neg() {
                Some(num) => Self::small(num, *den),
                None => Self::wide(-BigInt::from(*num), BigInt::from(*den)),
            },
            Width::Big(wide) => Self::wide(-&wide.num, wide.den.clone()),
        }
    }

    pub(crate) fn subtract(&self, other: &Self) -> Self {
        self.add(&other.negate())
    }

    pub(crate) fn multiply(&self, other: &Self) -> Self {
        self.combine(
            other,
            |a, b, c, d| Some((product(a, c)?, product(b, d)?)),
            |x, y| (x.num * y.num, x.den * y.den),
        )
    }

    /// `None` where `other` is zero.
    pub(crate) fn divide(&self, other: &Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        Some(self.combine(
            other,
            |a, b, c, d| {
                let (num, den) = (product(a, d)?, product(b, c)?);
                if den < 0 { Some((num.checked_neg()?, den.checked_neg()?)) } else { Some((num, den)) }
            },
            |x, y| (x.num * y.den, x.den * y.num),
        ))
    }

    pub(crate) fn is_zero(&self) -> bool {
        match &self.0 {
            Width::Small { num, .. } => *num == 0,
            Width::Big(wide) => wide.num.is_zero(),
        }
    }

    pub(crate) fn is_negative(&self) -> bool {
        match &self.0 {
            Width::Small { num, .. } => *num < 0,
            Width::Big(wide) => wide.num.sign() == Sign::Minus,
        }
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        if let (Width::Small { num: a, den: b }, Width::Small { num: c, den: d }) = (&self.0, &other.0) {
            if b == d {
                return a.cmp(c);
            }
            if let (Some(left), Some(right)) = (product(*a, *d), product(*c, *b)) {
                return left.cmp(&right);
            }
        }
        let (x, y) = (self.to_wide(), other.to_wide());
        (x.num * y.den).cmp(&(y.num * x.den))
    }

    /// In units of 10^-`places`, rounded to an integer. Places above 38 are taken as 38.
    fn units(&self, places: u8, direction: Direction) -> Self {
        let scale = 10_i128.pow(u32::from(places.min(38)));
        if let Width::Small { num, den } = self.0
            && let Some(scaled) = product(num, scale)
        {
            let (mut quotient, rest) = divide_128(scaled, den);
            if rest == 0 {
                return Self::small(quotient, 1);
            }
            // rest against den - rest is rest against half, and cannot overflow.
            let half = rest.unsigned_abs().cmp(&(den.unsigned_abs().abs_diff(rest.unsigned_abs())));
            if direction.grows(scaled < 0, quotient % 2 != 0, half) {
                // The quotient is at most half of what an i128 holds: den is at least 2 where there is a rest.
                quotient = quotient.saturating_add(scaled.signum());
            }
            return Self::small(quotient, 1);
        }
        let Wide { num, den } = self.to_wide();
        let scaled = num * BigInt::from(scale);
        let (mut quotient, rest) = scaled.div_rem(&den);
        if !rest.is_zero() {
            let half = (rest.abs() * 2_u8).cmp(&den);
            if direction.grows(scaled.is_negative(), quotient.is_odd(), half) {
                quotient += scaled.signum();
            }
        }
        Self::wide(quotient, BigInt::one())
    }

    /// Rounded to `places` digits behind the point.
    pub(crate) fn rounded(&self, places: u8, direction: Direction) -> Self {
        let scale = 10_i128.pow(u32::from(places.min(38)));
        let units = self.units(places, direction);
        match &units.0 {
            Width::Small { num, .. } => Self::small(*num, scale),
            Width::Big(wide) => Self::wide(wide.num.clone(), BigInt::from(scale)),
        }
    }

    /// The whole part of a number from 0 on, where it fits 64 bits.
    pub(crate) fn to_whole(&self) -> Option<u64> {
        match self.units(0, Direction::Floor).0 {
            Width::Small { num, .. } => u64::try_from(num).ok(),
            Width::Big(_) => None,
        }
    }

    /// Rounded to `places` digits behind the point; `None` where that does not fit 128 bits.
    pub(crate) fn to_decimal(&self, places: u8, direction: Direction) -> Option<Decimal> {
        match self.units(places, direction).0 {
            Width::Small { num, .. } => Some(Decimal::new(num, places)),
            Width::Big(_) => None,
        }
    }
}

/// Truncating quotient and remainder (`divisor` > 0); by one 64-bit division where that does, since a 128-bit one
/// costs several times as much.
fn divide_128(dividend: i128, divisor: i128) -> (i128, i128) {
    match (u64::try_from(dividend), u64::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) if divisor != 0 => {
            (i128::from(dividend / divisor), i128::from(dividend % divisor))
        }
        _ => (dividend.checked_div(divisor).unwrap_or(0), dividend.checked_rem(divisor).unwrap_or(0)),
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A decimal where it is one (`0.0524288`), else the fraction in lowest terms (`37/1800`).
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wide { num, den } = self.to_wide();
        let divisor = num.gcd(&den);
        let (num, den) = (num / &divisor, den / divisor);
        // The denominator of a finite decimal divides a power of ten; 60 places are more than anyone reads.
        let mut scale = BigInt::one();
        for places in 0..=60_usize {
            if (&scale % &den).is_zero() {
                let units = num.abs() * (scale / den);
                let digits = format!("{:0>width$}", units.to_string(), width = places.saturating_add(1));
                let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
                let sign = if num.is_negative() { "-" } else { "" };
                return if places == 0 {
                    write!(f, "{sign}{whole}")
                } else {
                    write!(f, "{sign}{whole}.{fraction}")
                };
            }
            scale *= 10_u8;
        }
        write!(f, "{num}/{den}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_rational::BigRational;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (num, den) = digits.split_once('/').unwrap_or((digits, "1"));
        let value = Number::decimal(num).unwrap().divide(&Number::decimal(den).unwrap()).unwrap();
        if negative { value.negate() } else { value }
    }

    /// Worked out by hand. Columns: value, places, half-even, half-up, up, down, ceil, floor.
    #[test]
    fn rounding_table() {
        for (value, places, even, half_up, up, down, ceil, floor) in [
            ("0.5", 0, "0", "1", "1", "0", "1", "0"),
            ("1.5", 0, "2", "2", "2", "1", "2", "1"),
            ("2.5", 0, "2", "3", "3", "2", "3", "2"),
            ("-0.5", 0, "0", "-1", "-1", "0", "0", "-1"),
            ("-1.5", 0, "-2", "-2", "-2", "-1", "-1", "-2"),
            ("-2.5", 0, "-2", "-3", "-3", "-2", "-2", "-3"),
            ("2.4999999999", 0, "2", "2", "3", "2", "3", "2"),
            ("2.5000000001", 0, "3", "3", "3", "2", "3", "2"),
            ("1/3", 6, "0.333333", "0.333333", "0.333334", "0.333333", "0.333334", "0.333333"),
            ("2/3", 6, "0.666667", "0.666667", "0.666667", "0.666666", "0.666667", "0.666666"),
            ("-2/3", 6, "-0.666667", "-0.666667", "-0.666667", "-0.666666", "-0.666666", "-0.666667"),
            ("37/1800", 6, "0.020556", "0.020556", "0.020556", "0.020555", "0.020556", "0.020555"),
            ("0.0000005", 6, "0", "0.000001", "0.000001", "0", "0.000001", "0"),
            ("0.0000015", 6, "0.000002", "0.000002", "0.000002", "0.000001", "0.000002", "0.000001"),
            ("7", 2, "7", "7", "7", "7", "7", "7"),
            ("-7", 2, "-7", "-7", "-7", "-7", "-7", "-7"),
            ("0", 6, "0", "0", "0", "0", "0", "0"),
        ] {
            for (direction, expected) in [
                (Direction::HalfEven, even),
                (Direction::HalfUp, half_up),
                (Direction::Up, up),
                (Direction::Down, down),
                (Direction::Ceil, ceil),
                (Direction::Floor, floor),
            ] {
                let rounded = number(value).to_decimal(places, direction).unwrap();
                assert_eq!(rounded.to_string(), expected, "{value} to {places} places, {direction:?}");
                // The wide form rounds as the narrow one does: the same value over a denominator of 2^200 more.
                let Wide { num, den } = number(value).to_wide();
                let wide = Number(Width::Big(Box::new(Wide { num: num << 200_u8, den: den << 200_u8 })));
                let rounded = wide.to_decimal(places, direction).unwrap();
                assert_eq!(rounded.to_string(), expected, "{value} to {places} places, {direction:?}, wide");
            }
        }
    }

    #[test]
    fn overflow_moves_to_wider_integers_and_back() {
        let huge = Number::small(i128::MAX, 1);
        let product = huge.multiply(&huge);
        assert!(matches!(product.0, Width::Big(_)));
        let back = product.divide(&huge).unwrap();
        assert!(matches!(back.0, Width::Small { .. }));
        assert_eq!(back.compare(&huge), Ordering::Equal);
        let least = Number::small(i128::MIN, 1);
        assert_eq!(least.negate().to_string(), "170141183460469231731687303715884105728");
        assert_eq!(least.divide(&number("-1")).unwrap().compare(&least.negate()), Ordering::Equal);
        assert_eq!(huge.to_decimal(6, Direction::HalfEven), None, "38 digits and 6 places do not fit");
    }

    #[test]
    fn reads_and_prints() {
        for (text, expected) in [
            ("0.5", "0.5"),
            ("00.50", "0.5"),
            (".25", "0.25"),
            ("100", "100"),
            ("37/1800", "37/1800"),
            ("1/3", "1/3"),
            ("-1/8", "-0.125"),
            ("-7/7", "-1"),
        ] {
            assert_eq!(number(text).to_string(), expected, "{text}");
        }
        for text in ["", ".", "1.2.3", "1e5", "-1", "123456789012345678901234567890123456789012"] {
            assert!(Number::decimal(text).is_none(), "{text}");
        }
    }

    fn oracle(number: &Number) -> BigRational {
        let Wide { num, den } = number.to_wide();
        BigRational::new(num, den)
    }

    /// Small, around the limits of 64 and 128 bits, and anything.
    fn part() -> impl Strategy<Value = i128> {
        prop_oneof![
            -1000_i128..1000,
            (i128::from(i64::MAX) - 2)..(i128::from(i64::MAX) + 3),
            any::<i64>().prop_map(i128::from),
            any::<i128>(),
            Just(i128::MAX),
            Just(i128::MIN),
        ]
    }

    fn any_number() -> impl Strategy<Value = (Number, BigRational)> {
        (part(), part().prop_map(|den| den.checked_abs().unwrap_or(1).max(1))).prop_map(|(num, den)| {
            (Number::small(num, den), BigRational::new(BigInt::from(num), BigInt::from(den)))
        })
    }

    proptest! {
        #[test]
        fn agrees_with_big_rationals(a in any_number(), b in any_number(), c in any_number()) {
            let ((a, x), (b, y), (c, z)) = (a, b, c);
            prop_assert_eq!(oracle(&a.add(&b).add(&c)), &x + &y + &z);
            prop_assert_eq!(oracle(&a.subtract(&b)), &x - &y);
            prop_assert_eq!(oracle(&a.multiply(&b).multiply(&c)), &x * &y * &z);
            prop_assert_eq!(oracle(&a.multiply(&b).add(&c)), &x * &y + &z);
            prop_assert_eq!(a.compare(&b), x.cmp(&y));
            prop_assert_eq!(a.multiply(&b).compare(&c), (&x * &y).cmp(&z));
            match b.divide(&c) {
                Some(quotient) => prop_assert_eq!(oracle(&quotient), &y / &z),
                None => prop_assert!(z.is_zero()),
            }
            prop_assert_eq!(oracle(&a.rounded(0, Direction::Ceil)), x.ceil());
            prop_assert_eq!(oracle(&a.rounded(0, Direction::Floor)), x.floor());
            prop_assert_eq!(oracle(&a.rounded(0, Direction::Down)), x.trunc());
            prop_assert_eq!(oracle(&a.rounded(0, Direction::HalfUp)), x.round());
        }
    }
}
