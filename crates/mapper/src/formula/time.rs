//! Whether a charge grows in proportion to time, so that the charges of a run's phases may be added up.
//!
//! `max(cores, mem_gb / 2) * hours` does: half the time is half the charge, whatever the counts are. `ceil(hours) * cores` does
//! not, nor `if(hours > 1, core_hours, 0)`: they speak of the run's whole time, and the sum over its phases would be another charge.

use super::{Condition, Formula, Node, Op, Test};

/// How an expression changes with time while all counts stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// It is 0 whatever the time is: both of the next two.
    Zero,
    /// Not at all.
    Constant,
    /// Twice the time, twice the value.
    Proportional,
    /// Otherwise, or it cannot be told from the text.
    Other,
}

impl Growth {
    /// Of a sum, the least or greatest of several, a choice between them.
    fn beside(self, other: Self) -> Self {
        match (self, other) {
            (Self::Zero, growth) | (growth, Self::Zero) => growth,
            (a, b) if a == b => a,
            _ => Self::Other,
        }
    }

    fn times(self, other: Self) -> Self {
        match (self, other) {
            (Self::Other, _) | (_, Self::Other) | (Self::Proportional, Self::Proportional) => Self::Other,
            (Self::Zero, _) | (_, Self::Zero) => Self::Zero,
            (Self::Constant, growth) | (growth, Self::Constant) => growth,
        }
    }

    fn divided_by(self, divisor: Self) -> Self {
        match (self, divisor) {
            (Self::Other, _) | (_, Self::Other | Self::Zero) | (Self::Constant, Self::Proportional) => {
                Self::Other
            }
            (growth, Self::Constant) => growth,
            (Self::Zero, Self::Proportional) => Self::Zero,
            (Self::Proportional, Self::Proportional) => Self::Constant,
        }
    }

    /// Rounding what grows makes steps of it.
    fn rounded(self) -> Self {
        if self == Self::Proportional { Self::Other } else { self }
    }
}

impl Formula {
    /// True where the charges of two stretches of time add up to the charge of both together, as long as the counts are the same.
    pub(super) fn is_proportional(root: &Node) -> bool {
        matches!(growth(root), Growth::Zero | Growth::Proportional)
    }
}

fn growth(node: &Node) -> Growth {
    let beside = |nodes: &[Node]| nodes.iter().map(growth).fold(Growth::Zero, Growth::beside);
    match &node.op {
        Op::Constant(number) if number.is_zero() => Growth::Zero,
        Op::Constant(_) | Op::Factor(_) => Growth::Constant,
        Op::Quantity(quantity) => match quantity.power() {
            _ if quantity.is_of_whole_run() => Growth::Other,
            0 => Growth::Constant,
            1 => Growth::Proportional,
            _ => Growth::Other,
        },
        Op::Negate(inner) => growth(inner),
        Op::Sum(parts) => parts.iter().map(|(_, part)| growth(part)).fold(Growth::Zero, Growth::beside),
        Op::Product(parts) => parts.iter().fold(Growth::Constant, |product, (divides, part)| {
            if *divides { product.divided_by(growth(part)) } else { product.times(growth(part)) }
        }),
        Op::If(choice) => {
            let (condition, then, otherwise) = &**choice;
            match growth(then).beside(growth(otherwise)) {
                growth if is_timeless(condition) => growth,
                _ => Growth::Other,
            }
        }
        Op::Least(nodes) | Op::Greatest(nodes) => beside(nodes),
        Op::Ceil(inner) | Op::Floor(inner) | Op::Round(inner, _) => growth(inner).rounded(),
    }
}

/// True where a condition holds for any time or for none: it compares counts with counts, or time with time.
fn is_timeless(condition: &Condition) -> bool {
    match &condition.test {
        Test::Compare(comparison) => {
            let (left, _, right) = &**comparison;
            growth(left).beside(growth(right)) != Growth::Other
        }
        Test::All(parts) | Test::Any(parts) => parts.iter().all(is_timeless),
        Test::Not(inner) => is_timeless(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Subject;

    #[test]
    fn what_grows_in_proportion_to_time() {
        for (text, expected) in [
            ("core_hours", true),
            ("cores * seconds / 3600", true),
            ("max(cores, mem_gb / 2) * hours * factor.qos", true),
            ("max(core_hours, gpu_hours * 16)", true),
            ("max(core_hours - node_hours, 0)", true),
            ("if(gpus > 0, gpu_hours, core_hours / 16)", true),
            ("if(core_hours > node_hours * 8, core_hours, 0)", true),
            ("ceil(cores / 4) * 4 * hours", true),
            ("core_hours / hours * seconds", true),
            ("0", true),
            // One charge a run, however long it took.
            ("cores", false),
            ("billing / 1000", false),
            ("1", false),
            ("core_hours / hours", false),
            // Steps and thresholds speak of the whole time.
            ("ceil(hours) * cores", false),
            ("round(core_hours, 2)", false),
            ("if(hours > 1, core_hours, 0)", false),
            ("if(gpus > 0 and not hours < 1, gpu_hours, 0)", false),
            ("max(core_hours, 1)", false),
            ("min(core_hours, 100)", false),
            ("core_hours + 1", false),
            ("core_hours + nodes", false),
            ("core_hours * hours", false),
            ("1 / hours", false),
            // Each phase would repeat what is said of the whole run.
            ("supplied", false),
            ("core_hours + 0.75 * suspended_hours * cores", false),
            // It is, and nobody writes it so.
            ("core_hours * hours / hours", false),
        ] {
            let formula = Formula::compile(text, Subject::Run).unwrap();
            assert_eq!(formula.proportional, expected, "{text}");
        }
    }
}
