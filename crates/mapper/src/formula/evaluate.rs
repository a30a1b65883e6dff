//! Computes the value of a formula, exactly, and tells whoever listens about every step.

use super::grammar::Comparison;
use super::{Condition, Node, Op, Test};
use crate::number::{Direction, Number};
use crate::quantity::{Quantity, Values};
use std::cmp::Ordering;
use std::ops::Range;

/// Why a formula has no value for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoValue {
    /// The source does not say this quantity.
    Quantity(Quantity),
    /// The table has no entry for the run, and no default.
    Factor(usize),
    /// The part of the formula that divides by zero.
    DivisionByZero(Range<usize>),
}

/// Listens to the steps of an evaluation; `()` listens to nothing and costs nothing.
pub(crate) trait Trace {
    /// The part `span` of the formula is `value`.
    fn number(&mut self, span: &Range<usize>, value: &Number);
    /// The condition `span` is `holds`.
    fn condition(&mut self, span: &Range<usize>, holds: bool);
    /// What follows is of the phase with this index.
    fn phase(&mut self, index: usize);
    /// All phases come to `value`.
    fn sum(&mut self, value: &Number);
}

impl Trace for () {
    fn number(&mut self, _: &Range<usize>, _: &Number) {}
    fn condition(&mut self, _: &Range<usize>, _: bool) {}
    fn phase(&mut self, _: usize) {}
    fn sum(&mut self, _: &Number) {}
}

/// Where the values of a formula's names come from.
#[derive(Debug)]
pub(crate) struct Inputs<'a, V> {
    pub(crate) values: &'a V,
    /// By the index in [`Op::Factor`].
    pub(crate) factors: &'a [Option<Number>],
}

impl Node {
    /// The exact value.
    pub(crate) fn evaluate<V: Values, T: Trace>(
        &self,
        inputs: &Inputs<'_, V>,
        trace: &mut T,
    ) -> Result<Number, NoValue> {
        let value = match &self.op {
            Op::Constant(number) => return Ok(number.clone()),
            Op::Quantity(quantity) => {
                inputs.values.value(quantity).ok_or_else(|| NoValue::Quantity(quantity.clone()))?
            }
            Op::Factor(index) => {
                inputs.factors.get(*index).and_then(Clone::clone).ok_or(NoValue::Factor(*index))?
            }
            Op::Negate(inner) => inner.evaluate(inputs, trace)?.negate(),
            Op::Sum(parts) => {
                let mut sum = Number::ZERO;
                for (subtracted, part) in parts {
                    let part = part.evaluate(inputs, trace)?;
                    sum = if *subtracted { sum.subtract(&part) } else { sum.add(&part) };
                }
                sum
            }
            Op::Product(parts) => {
                let mut product: Option<Number> = None;
                for (divides, node) in parts {
                    let part = node.evaluate(inputs, trace)?;
                    product = Some(match product {
                        // The first part of a product never divides.
                        None => part,
                        Some(product) if *divides => {
                            product.divide(&part).ok_or_else(|| NoValue::DivisionByZero(node.span.clone()))?
                        }
                        Some(product) => product.multiply(&part),
                    });
                }
                product.unwrap_or(Number::ZERO)
            }
            Op::If(choice) => {
                let (condition, then, otherwise) = &**choice;
                // Only the branch that is taken is evaluated: the other may lack its quantities.
                if condition.holds(inputs, trace)? {
                    then.evaluate(inputs, trace)?
                } else {
                    otherwise.evaluate(inputs, trace)?
                }
            }
            Op::Least(nodes) => extreme(nodes, Ordering::Less, inputs, trace)?,
            Op::Greatest(nodes) => extreme(nodes, Ordering::Greater, inputs, trace)?,
            Op::Ceil(inner) => inner.evaluate(inputs, trace)?.rounded(0, Direction::Ceil),
            Op::Floor(inner) => inner.evaluate(inputs, trace)?.rounded(0, Direction::Floor),
            Op::Round(inner, places) => inner.evaluate(inputs, trace)?.rounded(*places, Direction::HalfEven),
        };
        trace.number(&self.span, &value);
        Ok(value)
    }
}

/// The first of `nodes` that no other beats.
fn extreme<V: Values, T: Trace>(
    nodes: &[Node],
    better: Ordering,
    inputs: &Inputs<'_, V>,
    trace: &mut T,
) -> Result<Number, NoValue> {
    let mut best: Option<Number> = None;
    for node in nodes {
        let value = node.evaluate(inputs, trace)?;
        best = match best {
            Some(best) if value.compare(&best) != better => Some(best),
            _ => Some(value),
        };
    }
    Ok(best.unwrap_or(Number::ZERO))
}

impl Condition {
    /// Parts after the one that decides are not evaluated.
    fn holds<V: Values, T: Trace>(&self, inputs: &Inputs<'_, V>, trace: &mut T) -> Result<bool, NoValue> {
        let holds = match &self.test {
            Test::Compare(comparison) => {
                let (left, sign, right) = &**comparison;
                let (left, right) = (left.evaluate(inputs, trace)?, right.evaluate(inputs, trace)?);
                let order = left.compare(&right);
                match sign {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                }
            }
            Test::All(parts) => {
                let mut all = true;
                for part in parts {
                    all = part.holds(inputs, trace)?;
                    if !all {
                        break;
                    }
                }
                all
            }
            Test::Any(parts) => {
                let mut any = false;
                for part in parts {
                    any = part.holds(inputs, trace)?;
                    if any {
                        break;
                    }
                }
                any
            }
            Test::Not(inner) => !inner.holds(inputs, trace)?,
        };
        trace.condition(&self.span, holds);
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formula::Formula;
    use crate::quantity::{Measures, Subject};

    fn run() -> Measures<'static> {
        Measures {
            seconds: Some(5400),
            cores: Some(3),
            nodes: Some(2),
            gpus: Some(0),
            mem_bytes: Some(10_500_000_000),
            ..Measures::default()
        }
    }

    fn value(text: &str) -> Result<String, NoValue> {
        let formula = Formula::compile(text, Subject::Run).unwrap();
        let inputs = Inputs { values: &run(), factors: &[None, Some(Number::ratio(3, 2))] };
        formula.root.evaluate(&inputs, &mut ()).map(|value| value.to_string())
    }

    #[test]
    fn values_by_hand() {
        for (text, expected) in [
            ("core_hours", "4.5"),
            ("cores * seconds / 3600", "4.5"),
            ("mem_gb", "10.5"),
            ("mem_gib * 1073741824", "10500000000"),
            ("node_hours - core_hours / 3", "1.5"),
            ("1 / 3 + 1 / 6", "0.5"),
            ("1 - 1 / 3", "2/3"),
            ("10 - 2 - 3", "5"),
            ("(cores) * ((2))", "6"),
            ("12 / 2 / 3", "2"),
            ("-cores", "-3"),
            ("min(cores, nodes, 5)", "2"),
            ("max(cores, nodes, mem_gb / 2)", "5.25"),
            ("ceil(mem_gb / 4) + floor(mem_gb / 4)", "5"),
            ("ceil(-2.5)", "-2"),
            ("floor(-2.5)", "-3"),
            ("round(2.5)", "2"),
            ("round(mem_gb / 7, 2)", "1.5"),
            ("round(1 / 3, 4)", "0.3333"),
            ("if(cores >= 3 and nodes = 2, 1, 0)", "1"),
            ("if(cores > 3 or nodes != 2, 1, 0)", "0"),
            ("if(not cores > 3, 1, 0)", "1"),
            ("if(0.1 + 0.2 = 0.3, 1, 0)", "1"),
            ("if(cores <= 3 and not (nodes < 2), hours, 0)", "1.5"),
        ] {
            assert_eq!(value(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_evaluated_may_be_missing() {
        assert_eq!(value("if(gpus > 0, billing, core_hours)").unwrap(), "4.5");
        assert_eq!(value("if(gpus = 0, core_hours, billing)").unwrap(), "4.5");
        assert_eq!(value("if(gpus = 0 or billing > 1, 1, 2)").unwrap(), "1");
        assert_eq!(value("if(gpus > 0 and billing > 1, 1, 2)").unwrap(), "2");
        assert_eq!(value("if(gpus > 0, 1 / gpus, 2)").unwrap(), "2");
        assert_eq!(value("if(gpus = 0, billing, 1)"), Err(NoValue::Quantity(Quantity::Billing)));
        assert_eq!(value("0 * billing"), Err(NoValue::Quantity(Quantity::Billing)), "never taken for 0");
        assert_eq!(value("max(1, requested.cores)"), Err(NoValue::Quantity(Quantity::RequestedCores)));
    }

    #[test]
    fn factors_and_zero_divisors() {
        assert_eq!(value("hours * if(cores > 9, factor.qos, factor.queue)").unwrap(), "2.25");
        assert_eq!(value("hours * factor.qos"), Err(NoValue::Factor(0)));
        assert_eq!(value("hours / (gpus * 2)"), Err(NoValue::DivisionByZero(8..18)));
    }
}
