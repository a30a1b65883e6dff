//! Charges against an independent exact oracle: random formulas over random runs, computed here with big rationals
//! from trees that the crate only ever sees as text.

use crate::support::*;
use mapper::spec::*;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use parsers::{Assigned, Requested, Run};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Expr {
    Literal(String),
    Quantity(&'static str),
    Factor(&'static str),
    /// Operator and both sides.
    Binary(char, Box<Expr>, Box<Expr>),
    Minus(Box<Expr>),
    If(Box<Test>, Box<Expr>, Box<Expr>),
    Call(&'static str, Vec<Expr>),
    Round(Box<Expr>, Option<u8>),
}

#[derive(Debug, Clone)]
enum Test {
    Compare(&'static str, Expr, Expr),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
}

/// Why there is no value.
#[derive(Debug, PartialEq)]
enum Without {
    Quantity,
    Division,
}

const QUANTITIES: [&str; 31] = [
    "cores",
    "nodes",
    "gpus",
    "mem_gb",
    "mem_gib",
    "billing",
    "seconds",
    "hours",
    "core_hours",
    "node_hours",
    "gpu_hours",
    "suspended_hours",
    "requested.cores",
    "requested.nodes",
    "requested.gpus",
    "requested.mem_gb",
    "requested.mem_gib",
    "assigned.cores",
    "assigned.nodes",
    "assigned.gpus",
    "assigned.mem_gb",
    "assigned.mem_gib",
    "gpus.a",
    "gpus.\"b-2\"",
    "gpus.'c'",
    "resource.n",
    "resource.size",
    "cores_per_node",
    "gpus_per_node",
    "exclusive.cores",
    "supplied",
];

/// What the rules of `charges_agree_with_big_rationals` say a node has, and the charge that they supply.
const CORES_PER_NODE: u64 = 48;
const GPUS_PER_NODE: u64 = 4;
const SUPPLIED: &str = "12.75";

/// What was asked for of two resources of PBS: text, number or `None`.
type Asked = (&'static str, Option<(u64, u64)>);
const NUMBERS: [Asked; 4] = [
    ("", None),
    (" Resource_List.n=3", Some((3, 1))),
    (" Resource_List.n=0.125", Some((1, 8))),
    (" Resource_List.n=premium", None),
];
const SIZES: [Asked; 4] = [
    ("", None),
    (" Resource_List.size=2gb", Some((2 << 30, 1))),
    (" Resource_List.size=3kw", Some((3 * 1024 * 8, 1))),
    (" Resource_List.size=1e9", None),
];

/// GPUs of types `a` and `b-2`, as far as they are listed, as the text says them.
fn listed(run: &Run<'_>) -> [Option<u64>; 2] {
    let text = run.tres.map(ToString::to_string).unwrap_or_default();
    ["a", "b-2"].map(|kind| {
        let front = format!("gres/gpu:{kind}=");
        text.split(',').find_map(|pair| pair.strip_prefix(&front)?.parse().ok())
    })
}

fn ratio(num: impl Into<BigInt>, den: impl Into<BigInt>) -> BigRational {
    BigRational::new(num.into(), den.into())
}

fn quantity(name: &str, run: &Run<'_>) -> Option<BigRational> {
    let whole = |value: Option<u64>| value.map(|value| ratio(value, 1));
    let hours = whole(run.elapsed).map(|seconds| seconds / ratio(3600, 1));
    Some(match name {
        "cores" => whole(run.cores)?,
        "nodes" => whole(run.nodes)?,
        "gpus" => whole(run.gpus)?,
        "mem_gb" => whole(run.mem_bytes)? / ratio(1_000_000_000, 1),
        "mem_gib" => whole(run.mem_bytes)? / ratio(1024 * 1024 * 1024, 1),
        "billing" => whole(run.billing)?,
        "seconds" => whole(run.elapsed)?,
        "hours" => hours?,
        "core_hours" => whole(run.cores)? * hours?,
        "node_hours" => whole(run.nodes)? * hours?,
        "gpu_hours" => whole(run.gpus)? * hours?,
        "requested.cores" => whole(run.requested.cores)?,
        "suspended_hours" => whole(run.suspended)? / ratio(3600, 1),
        "requested.nodes" => whole(run.requested.nodes)?,
        "requested.gpus" => whole(run.requested.gpus)?,
        "requested.mem_gb" => whole(run.requested.mem_bytes)? / ratio(1_000_000_000, 1),
        "requested.mem_gib" => whole(run.requested.mem_bytes)? / ratio(1024 * 1024 * 1024, 1),
        "assigned.cores" => whole(run.assigned.cores)?,
        "assigned.nodes" => whole(run.assigned.nodes)?,
        "assigned.gpus" => whole(run.assigned.gpus)?,
        "assigned.mem_gb" => whole(run.assigned.mem_bytes)? / ratio(1_000_000_000, 1),
        "assigned.mem_gib" => whole(run.assigned.mem_bytes)? / ratio(1024 * 1024 * 1024, 1),
        "gpus.a" | "gpus.\"b-2\"" | "gpus.'c'" => {
            let [a, b] = listed(run);
            let own = match name {
                "gpus.a" => a,
                "gpus.'c'" => None,
                _ => b,
            };
            let all_are_typed = run.gpus == Some(a.unwrap_or(0) + b.unwrap_or(0));
            whole(own.or(all_are_typed.then_some(0)))?
        }
        "resource.n" | "resource.size" => {
            let text = format!(" {}", run.resources);
            let known = if name == "resource.n" { &NUMBERS } else { &SIZES };
            let (_, value) = known.iter().rfind(|(written, _)| text.contains(written))?;
            let (num, den) = (*value)?;
            ratio(num, den)
        }
        "cores_per_node" => ratio(CORES_PER_NODE, 1),
        "gpus_per_node" => ratio(GPUS_PER_NODE, 1),
        "exclusive.cores" => whole(run.nodes)? * ratio(CORES_PER_NODE, 1),
        "supplied" => literal(SUPPLIED),
        _ => panic!("{name}"),
    })
}

/// A decimal literal: all its digits over a power of ten.
fn literal(text: &str) -> BigRational {
    let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits: BigInt = text.replace('.', "").parse().unwrap();
    ratio(digits, BigInt::from(10).pow(u32::try_from(places).unwrap()))
}

impl Expr {
    fn value(&self, run: &Run<'_>) -> Result<BigRational, Without> {
        Ok(match self {
            Self::Literal(text) => literal(text),
            Self::Quantity(name) => quantity(name, run).ok_or(Without::Quantity)?,
            // The tables of `rules` below.
            Self::Factor("qos") => ratio(5, 4),
            Self::Factor("queue") => ratio(7, 10),
            // a 1.5, b-2 0.25, others not at all: the mean over all GPUs.
            Self::Factor("gpu_type") => {
                let ([a, b], gpus) = (listed(run), run.gpus.ok_or(Without::Quantity)?);
                let (a, b) = (a.unwrap_or(0), b.unwrap_or(0));
                match gpus {
                    0 => BigRational::zero(),
                    gpus if gpus == a + b => (ratio(3 * a, 2) + ratio(b, 4)) / ratio(gpus, 1),
                    _ => return Err(Without::Quantity),
                }
            }
            Self::Factor(_) => return Err(Without::Quantity),
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.value(run)?, right.value(run)?);
                match operator {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left * right,
                    _ if right.is_zero() => return Err(Without::Division),
                    _ => left / right,
                }
            }
            Self::Minus(inner) => -inner.value(run)?,
            Self::If(test, then, otherwise) => {
                if test.holds(run)? {
                    then.value(run)?
                } else {
                    otherwise.value(run)?
                }
            }
            Self::Call(name, arguments) => {
                let values =
                    arguments.iter().map(|argument| argument.value(run)).collect::<Result<Vec<_>, _>>()?;
                match *name {
                    "min" => values.into_iter().min().unwrap(),
                    "max" => values.into_iter().max().unwrap(),
                    "ceil" => values[0].ceil(),
                    _ => values[0].floor(),
                }
            }
            Self::Round(inner, places) => {
                let scale = ratio(BigInt::from(10).pow(u32::from(places.unwrap_or(0))), 1);
                round(&(inner.value(run)? * &scale), RoundingMode::HalfEven) / scale
            }
        })
    }

    /// How tightly it binds: a sum 1, a product 2, a sign 3, the rest 4.
    fn binding(&self) -> u8 {
        match self {
            Self::Binary('+' | '-', ..) => 1,
            Self::Binary(..) => 2,
            Self::Minus(_) => 3,
            _ => 4,
        }
    }

    /// As text, with no more brackets than are needed.
    fn text(&self) -> String {
        let within = |inner: &Self, least: u8| {
            if inner.binding() < least { format!("({})", inner.text()) } else { inner.text() }
        };
        match self {
            Self::Literal(text) => text.clone(),
            Self::Quantity(name) => (*name).to_owned(),
            Self::Factor(name) => format!("factor.{name}"),
            Self::Binary(operator, left, right) => {
                let own = self.binding();
                // Operators of one rank are taken from the left.
                format!("{} {operator} {}", within(left, own), within(right, own + 1))
            }
            Self::Minus(inner) => format!("-{}", within(inner, 3)),
            Self::If(test, then, otherwise) => {
                format!("if({}, {}, {})", test.text(), then.text(), otherwise.text())
            }
            Self::Call(name, arguments) => {
                let arguments: Vec<_> = arguments.iter().map(Self::text).collect();
                format!("{name}({})", arguments.join(","))
            }
            Self::Round(inner, None) => format!("round({})", inner.text()),
            Self::Round(inner, Some(places)) => format!("round({}, {places})", inner.text()),
        }
    }

    /// A literal zero as divisor is refused when the rules are read.
    fn divides_by_literal_zero(&self) -> bool {
        let literal_zero = |expr: &Self| matches!(expr, Self::Literal(text) if literal(text).is_zero());
        match self {
            Self::Literal(_) | Self::Quantity(_) | Self::Factor(_) => false,
            Self::Binary(operator, left, right) => {
                (*operator == '/' && literal_zero(right))
                    || left.divides_by_literal_zero()
                    || right.divides_by_literal_zero()
            }
            Self::Minus(inner) | Self::Round(inner, _) => inner.divides_by_literal_zero(),
            Self::If(test, then, otherwise) => {
                test.divides_by_literal_zero()
                    || then.divides_by_literal_zero()
                    || otherwise.divides_by_literal_zero()
            }
            Self::Call(_, arguments) => arguments.iter().any(Self::divides_by_literal_zero),
        }
    }
}

impl Test {
    fn holds(&self, run: &Run<'_>) -> Result<bool, Without> {
        Ok(match self {
            Self::Compare(sign, left, right) => {
                let (left, right) = (left.value(run)?, right.value(run)?);
                match *sign {
                    "=" | "==" => left == right,
                    "!=" => left != right,
                    "<" => left < right,
                    "<=" => left <= right,
                    ">" => left > right,
                    _ => left >= right,
                }
            }
            Self::And(left, right) => left.holds(run)? && right.holds(run)?,
            Self::Or(left, right) => left.holds(run)? || right.holds(run)?,
            Self::Not(inner) => !inner.holds(run)?,
        })
    }

    fn binding(&self) -> u8 {
        match self {
            Self::Or(..) => 1,
            Self::And(..) => 2,
            Self::Not(_) => 3,
            Self::Compare(..) => 4,
        }
    }

    fn text(&self) -> String {
        let within = |inner: &Self, least: u8| {
            if inner.binding() < least { format!("({})", inner.text()) } else { inner.text() }
        };
        match self {
            Self::Compare(sign, left, right) => format!("{} {sign} {}", left.text(), right.text()),
            Self::And(left, right) => format!("{} and {}", within(left, 2), within(right, 3)),
            Self::Or(left, right) => format!("{} or {}", within(left, 1), within(right, 2)),
            Self::Not(inner) => format!("not {}", within(inner, 3)),
        }
    }

    fn divides_by_literal_zero(&self) -> bool {
        match self {
            Self::Compare(_, left, right) => {
                left.divides_by_literal_zero() || right.divides_by_literal_zero()
            }
            Self::And(left, right) | Self::Or(left, right) => {
                left.divides_by_literal_zero() || right.divides_by_literal_zero()
            }
            Self::Not(inner) => inner.divides_by_literal_zero(),
        }
    }
}

/// What formulas are made of, in any order: now and then it is one.
const WORDS: [&str; 30] = [
    "cores",
    "hours",
    "gpus.",
    "gpus.a",
    "resource.",
    "factor.",
    "factor.qos",
    "if(",
    "min(",
    "max(",
    "ceil(",
    "round(",
    "(",
    ")",
    ",",
    "+",
    "-",
    "*",
    "/",
    "=",
    "<",
    " and ",
    " or ",
    "not ",
    "0",
    "1.5",
    "\"",
    "'",
    ".",
    " ",
];

/// To an integer, in the words of the standards: to nearest with ties to even, ties away from zero, away from zero,
/// towards zero.
fn round(value: &BigRational, mode: RoundingMode) -> BigRational {
    let (below, above) = (value.floor(), value.ceil());
    if below == above {
        return below;
    }
    let (towards, away) = if value.is_negative() { (above, below) } else { (below, above) };
    let (near, far) = ((value - &towards).abs(), (value - &away).abs());
    match mode {
        RoundingMode::Down => towards,
        RoundingMode::Up => away,
        RoundingMode::HalfUp | RoundingMode::HalfEven if near < far => towards,
        RoundingMode::HalfUp | RoundingMode::HalfEven if near > far => away,
        RoundingMode::HalfUp => away,
        RoundingMode::HalfEven => {
            let even = (towards.to_integer() % BigInt::from(2)).is_zero();
            if even { towards } else { away }
        }
    }
}

fn count() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        8 => (0_u64..300).prop_map(Some),
        4 => (0_u64..5_000_000_000_000).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        1 => Just(None),
    ]
}

/// A list of what was allocated with GPUs of two types, and all of them: some of no type, and sometimes not said.
fn any_gpus() -> impl Strategy<Value = (Option<u64>, String)> {
    let some = || prop::option::of(0_u64..6);
    (some(), some(), prop_oneof![4 => Just(0), 1 => 1_u64..3], prop::bool::weighted(0.9)).prop_map(
        |(a, b, untyped, said)| {
            let typed = [("a", a), ("b-2", b)];
            let listed =
                typed.iter().filter_map(|(kind, count)| Some(format!("gres/gpu:{kind}={}", (*count)?)));
            let total = a.unwrap_or(0) + b.unwrap_or(0) + untyped;
            let list: Vec<_> = listed.chain([format!("gres/gpu={total}")]).collect();
            (said.then_some(total), list.join(","))
        },
    )
}

fn any_run() -> impl Strategy<Value = Run<'static>> {
    let counts = prop::collection::vec(count(), 14);
    let asked = (prop::sample::select(&NUMBERS[..]), prop::sample::select(&SIZES[..]));
    (counts, any_gpus(), asked).prop_map(|(counts, (gpus, tres), ((n, _), (size, _)))| {
        let count = |index: usize| counts[index];
        Run {
            elapsed: count(0),
            nodes: count(1).or(Some(1)),
            cores: count(2),
            gpus,
            // A test's texts live as long as it does.
            tres: Some(bstr::BStr::new(tres.leak())),
            resources: bstr::BStr::new(format!("{n}{size}").trim().to_owned().leak()),
            mem_bytes: count(3),
            billing: count(4),
            suspended: count(5),
            requested: Requested { cores: count(6), nodes: count(7), gpus: count(8), mem_bytes: count(9) },
            assigned: Assigned { cores: count(10), nodes: count(11), gpus: count(12), mem_bytes: count(13) },
            ..run()
        }
    })
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        2 => prop::sample::select(&["0", "1", "2", "3", "0.5", ".25", "3600", "62.5", "0.000001", "1000", "007"][..])
            .prop_map(|text| Expr::Literal(text.to_owned())),
        1 => "[0-9]{1,20}(\\.[0-9]{1,17})?".prop_map(Expr::Literal),
        5 => prop::sample::select(&QUANTITIES[..]).prop_map(Expr::Quantity),
        1 => prop::sample::select(&["qos", "queue", "account", "gpu_type"][..]).prop_map(Expr::Factor),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let signs = prop::sample::select(&["=", "==", "!=", "<", "<=", ">", ">="][..]);
        let compare =
            (signs, inner.clone(), inner.clone()).prop_map(|(sign, a, b)| Test::Compare(sign, a, b));
        let test = compare.prop_recursive(2, 6, 2, |test| {
            let pair = (test.clone(), test.clone());
            prop_oneof![
                pair.clone().prop_map(|(a, b)| Test::And(Box::new(a), Box::new(b))),
                pair.prop_map(|(a, b)| Test::Or(Box::new(a), Box::new(b))),
                test.prop_map(|test| Test::Not(Box::new(test))),
            ]
        });
        let operator = prop::sample::select(&['+', '-', '*', '*', '/'][..]);
        prop_oneof![
            6 => (operator, inner.clone(), inner.clone())
                .prop_map(|(operator, a, b)| Expr::Binary(operator, Box::new(a), Box::new(b))),
            1 => inner.clone().prop_map(|inner| Expr::Minus(Box::new(inner))),
            2 => (test, inner.clone(), inner.clone())
                .prop_map(|(test, a, b)| Expr::If(Box::new(test), Box::new(a), Box::new(b))),
            2 => (prop::sample::select(&["min", "max"][..]), prop::collection::vec(inner.clone(), 2..4))
                .prop_map(|(name, arguments)| Expr::Call(name, arguments)),
            1 => (prop::sample::select(&["ceil", "floor"][..]), inner.clone())
                .prop_map(|(name, argument)| Expr::Call(name, vec![argument])),
            1 => (inner, prop::option::of(0_u8..=18)).prop_map(|(inner, places)| Expr::Round(Box::new(inner), places)),
        ]
    })
}

fn any_rounding() -> impl Strategy<Value = Rounding> {
    let modes = [RoundingMode::HalfEven, RoundingMode::HalfUp, RoundingMode::Up, RoundingMode::Down];
    (prop_oneof![Just(6_u8), 0_u8..=18], prop::sample::select(modes.to_vec()))
        .prop_map(|(places, mode)| Rounding { places, mode })
}

/// What the whole way from the formula to the charge must give.
fn expected(expr: &Expr, run: &Run<'_>, round_to: Rounding, minimum: Option<&str>, zero: bool) -> String {
    let value = match expr.value(run) {
        Ok(value) => value,
        Err(Without::Quantity) => return "held missing-quantity".to_owned(),
        Err(Without::Division) => return "held arithmetic".to_owned(),
    };
    if value.is_negative() {
        return "held arithmetic".to_owned();
    }
    let value = if zero { BigRational::zero() } else { value };
    let value = match minimum.map(literal) {
        Some(minimum) if !value.is_zero() && value < minimum => minimum,
        _ => value,
    };
    let scale = BigInt::from(10).pow(u32::from(round_to.places));
    let units = round(&(value * ratio(scale, 1)), round_to.mode).to_integer();
    if units > BigInt::from(i128::MAX) {
        return "held arithmetic".to_owned();
    }
    if units.is_zero() {
        return "zero".to_owned();
    }
    // Digits with a point so many places from the right, without zeros at the end.
    let digits = format!("{units:0>width$}", width = usize::from(round_to.places) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(round_to.places));
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("mapped {whole}") } else { format!("mapped {whole}.{fraction}") }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn charges_agree_with_big_rationals(
        expr in any_expr(),
        run in any_run(),
        round in any_rounding(),
        minimum in prop::option::of(prop::sample::select(&["1", "0.01", "250"][..])),
        zero in prop::bool::weighted(0.1),
    ) {
        let text = expr.text();
        prop_assume!(text.len() <= 4096);
        let tables = [("qos", "normal", "1.25"), ("queue", "cpu", "0.70"), ("account", "other", "3")];
        let rate = tables.into_iter().fold(rate(&text), |rate, (table, value, factor)| {
            factors(rate, table, &[(value, factor)])
        });
        let rate = factors(rate, "gpu_type", &[("a", "1.5"), ("b-2", "0.25")]);
        let rate = RateSpec { round, minimum: minimum.map(str::to_owned), ..rate };
        let row = SuppliedRow { job_id: "123".to_owned(), charge: SUPPLIED.to_owned(), ..SuppliedRow::default() };
        let mut spec = spec(vec![ResourceSpec {
            cores_per_node: Some(CORES_PER_NODE),
            gpus_per_node: Some(GPUS_PER_NODE),
            supplied: Some(vec![row]),
            ..resource(vec![rate])
        }]);
        if zero {
            spec.policy.failed = Charged::Zero;
        }
        let run = Run { state: if zero { parsers::State::Failed } else { parsers::State::Completed }, ..run };
        match mapper::Rules::compile(spec) {
            Err(errors) => {
                prop_assert!(expr.divides_by_literal_zero(), "{} {:?}", text, errors);
                prop_assert!(errors.iter().all(|error| error.message == "division by zero"));
            }
            Ok(rules) => {
                prop_assert!(!expr.divides_by_literal_zero(), "{}", text);
                let expected = expected(&expr, &run, round, minimum, zero);
                prop_assert_eq!(outcome(&rules, &source(), &run), expected, "{}", text);
            }
        }
    }

    /// No bytes whatever make reading a formula panic, nor charging by one that can be read; errors lie within it.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40),
        run in any_run(),
    ) {
        for text in [String::from_utf8_lossy(&bytes).into_owned(), words.concat()] {
            match mapper::Rules::compile(spec(vec![resource(vec![rate(&text)])])) {
                Ok(rules) => drop(outcome(&rules, &source(), &run)),
                Err(errors) => {
                    prop_assert!(!errors.is_empty());
                    for error in errors {
                        if let RulePlace::Formula { offset, len, .. } = error.place {
                            prop_assert!(text.get(offset..offset + len).is_some(), "{:?} {} {}", text, offset, len);
                        }
                    }
                }
            }
        }
    }

    /// The same of texts that look like formulas.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9_.+*/()<>=!,& \n\u{e9}-]{0,60}") {
        let refused = mapper::Rules::compile(spec(vec![resource(vec![rate(&text)])]));
        for error in refused.err().unwrap_or_default() {
            if let RulePlace::Formula { offset, len, .. } = error.place {
                prop_assert!(text.get(offset..offset + len).is_some(), "{:?} {} {}", text, offset, len);
            }
        }
    }
}

#[test]
fn the_oracle_itself_is_right_where_it_was_worked_out_by_hand() {
    let tie = |num, mode| round(&ratio(num, 2), mode).to_integer();
    assert_eq!(tie(1, RoundingMode::HalfEven), BigInt::zero());
    assert_eq!(tie(3, RoundingMode::HalfEven), BigInt::from(2));
    assert_eq!(tie(1, RoundingMode::HalfUp), BigInt::one());
    assert_eq!(tie(-3, RoundingMode::HalfEven), BigInt::from(-2));
    let sum = Expr::Binary(
        '-',
        Box::new(Expr::Literal("1".to_owned())),
        Box::new(Expr::Binary(
            '-',
            Box::new(Expr::Literal("2".to_owned())),
            Box::new(Expr::Quantity("cores")),
        )),
    );
    assert_eq!(sum.text(), "1 - (2 - cores)");
    assert_eq!(sum.value(&run()), Ok(BigRational::zero()));
}
