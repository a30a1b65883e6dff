//! Charge formulas: a small exact language, compiled once and evaluated per run.
//!
//! [`grammar`] reads the text, this module gives names their meaning and refuses what has none, [`evaluate`] computes.

pub(crate) mod evaluate;
pub(crate) mod grammar;
mod time;

use crate::number::Number;
use crate::quantity::{Quantity, RESOURCE, Subject};
use crate::suggest::closest;
use grammar::{Comparison, Expr, Kind};
use nom::Offset;
use std::borrow::Cow;
use std::ops::Range;

/// A formula that cannot be used: where in its text, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormulaError {
    /// Byte of the formula.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) len: usize,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// A formula whose every name is known and whose every condition is one.
#[derive(Debug)]
pub(crate) struct Formula {
    pub(crate) text: Box<str>,
    pub(crate) root: Node,
    /// The factor tables that it names, in the order of [`Op::Factor`].
    pub(crate) factors: Vec<FactorUse>,
    /// The quantities that it names, and where.
    pub(crate) quantities: Vec<(Quantity, Range<usize>)>,
    pub(crate) power: Power,
    /// True where the charges of a run's phases may be added up (see [`time`]).
    pub(crate) proportional: bool,
}

/// A factor table that a formula names, and where it does first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FactorUse {
    pub(crate) name: FactorName,
    pub(crate) span: Range<usize>,
}

/// A number.
#[derive(Debug)]
pub(crate) struct Node {
    /// Bytes of the formula, for explanations.
    pub(crate) span: Range<usize>,
    pub(crate) op: Op,
}

#[derive(Debug)]
pub(crate) enum Op {
    Constant(Number),
    Quantity(Quantity),
    /// Index into [`Formula::factors`].
    Factor(usize),
    Negate(Box<Node>),
    /// Each part with whether it is subtracted.
    Sum(Parts),
    /// Each part with whether it divides.
    Product(Parts),
    If(Box<(Condition, Node, Node)>),
    Least(Vec<Node>),
    Greatest(Vec<Node>),
    Ceil(Box<Node>),
    Floor(Box<Node>),
    /// To this many places, half to even.
    Round(Box<Node>, u8),
}

/// True or false.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) span: Range<usize>,
    pub(crate) test: Test,
}

#[derive(Debug)]
pub(crate) enum Test {
    Compare(Box<(Node, Comparison, Node)>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// Which of a run's values a factor table is looked up by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FactorName {
    Qos,
    Partition,
    Account,
    User,
    Reservation,
    Cluster,
    Group,
    Project,
    NodeType,
    /// The mean over the run's GPUs, each by its type: times the GPUs it is the exact sum over types.
    GpuType,
    /// A resource of PBS: its text.
    Resource(Box<str>),
}

/// Where PBS sites keep the priority that a job asked for.
const PRIORITY: &str = "job_priority";

impl FactorName {
    const ALL: [(&'static str, Self); 11] = [
        ("qos", Self::Qos),
        ("partition", Self::Partition),
        ("queue", Self::Partition),
        ("account", Self::Account),
        ("user", Self::User),
        ("reservation", Self::Reservation),
        ("cluster", Self::Cluster),
        ("group", Self::Group),
        ("project", Self::Project),
        ("node_type", Self::NodeType),
        ("gpu_type", Self::GpuType),
    ];

    /// `queue` is another name of `partition`, `priority` of `resource.job_priority`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if name == "priority" {
            return Some(Self::Resource(PRIORITY.into()));
        }
        if let Some(resource) = name.strip_prefix(RESOURCE).filter(|resource| !resource.is_empty()) {
            return Some(Self::Resource(resource.into()));
        }
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, factor)| factor.clone())
    }

    /// True for what is not among a run's [`Keys`](crate::Keys): each run decides it for itself.
    pub(crate) fn is_of_run(&self) -> bool {
        matches!(self, Self::NodeType | Self::GpuType | Self::Resource(_))
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, _)| *name).chain(["priority", "resource.NAME"])
    }

    pub(crate) fn as_str(&self) -> Cow<'static, str> {
        match self {
            Self::Resource(name) if **name == *PRIORITY => return Cow::Borrowed("priority"),
            Self::Resource(name) => return Cow::Owned(format!("{RESOURCE}{name}")),
            _ => {}
        }
        let name = Self::ALL.iter().find(|(_, factor)| factor == self);
        Cow::Borrowed(name.map_or("factor", |(name, _)| *name))
    }
}

/// The power of time in an expression: the only dimension there is, since counts and bytes are plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// A literal number: beside hours it stands for hours.
    Plain,
    Of(i32),
    /// Hours and plain quantities are added or compared.
    Mixed,
}

impl Power {
    /// Of a sum, a comparison, a choice.
    fn beside(self, other: Self) -> Self {
        match (self, other) {
            (Self::Plain, power) | (power, Self::Plain) => power,
            (Self::Of(a), Self::Of(b)) if a == b => Self::Of(a),
            _ => Self::Mixed,
        }
    }

    fn times(self, other: Self, divided: bool) -> Self {
        match (self, other) {
            (Self::Mixed, _) | (_, Self::Mixed) => Self::Mixed,
            (Self::Plain, Self::Plain) => Self::Plain,
            (a, b) => {
                let exponent = |power| if let Self::Of(exponent) = power { exponent } else { 0 };
                let (a, b) = (exponent(a), exponent(b));
                Self::Of(if divided { a.saturating_sub(b) } else { a.saturating_add(b) })
            }
        }
    }
}

impl Formula {
    /// Reads and checks `text`.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub(crate) fn compile(text: &str, subject: Subject) -> Result<Self, Vec<FormulaError>> {
        let expr = grammar::parse(text).map_err(|error| vec![error])?;
        let mut compiler = Compiler {
            formula: text,
            subject,
            factors: Vec::new(),
            quantities: Vec::new(),
            errors: Vec::new(),
        };
        let compiled = compiler.number(&expr);
        match compiled {
            Some((root, power)) if compiler.errors.is_empty() => {
                let Compiler { factors, quantities, .. } = compiler;
                let proportional = Self::is_proportional(&root);
                Ok(Self { text: text.into(), root, factors, quantities, power, proportional })
            }
            _ => Err(compiler.errors),
        }
    }

    /// The text of a part.
    pub(crate) fn part(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or("")
    }
}

/// Gives every part of the tree a meaning; goes on after an error, to find all of them.
struct Compiler<'a> {
    formula: &'a str,
    subject: Subject,
    factors: Vec<FactorUse>,
    quantities: Vec<(Quantity, Range<usize>)>,
    errors: Vec<FormulaError>,
}

/// Each part with whether it is subtracted or divides.
type Parts = Vec<(bool, Node)>;

const FUNCTIONS: [&str; 6] = ["if", "min", "max", "ceil", "floor", "round"];
/// Most places that `round` takes: as many as a charge has.
pub(crate) const MAX_PLACES: u8 = 18;

impl Compiler<'_> {
    fn span(&self, text: &str) -> Range<usize> {
        let start = self.formula.offset(text);
        start..start.saturating_add(text.len())
    }

    fn error(&mut self, text: &str, message: String, help: Option<String>) {
        let span = self.span(text);
        self.errors.push(FormulaError { offset: span.start, len: span.len(), message, help });
    }

    /// `None` where an error was noted.
    fn number(&mut self, expr: &Expr<'_>) -> Option<(Node, Power)> {
        let (op, power) = match &expr.kind {
            Kind::Number => self.literal(expr.text)?,
            Kind::Name => self.name(expr.text)?,
            Kind::Minus(inner) => {
                let (inner, power) = self.number(inner)?;
                (Op::Negate(Box::new(inner)), power)
            }
            Kind::Sum(parts) => {
                let (parts, powers) = self.parts(parts)?;
                (Op::Sum(parts), powers.into_iter().fold(Power::Plain, Power::beside))
            }
            Kind::Product(parts) => self.product(parts)?,
            Kind::Call(name, arguments) => self.call(expr, name, arguments)?,
            Kind::Compare(..) | Kind::All(_) | Kind::Any(_) | Kind::Not(_) => {
                let message = format!("`{}` is a condition, and a number is expected here", expr.text);
                self.error(expr.text, message, Some("choose by it: if(condition, then, else)".to_owned()));
                return None;
            }
        };
        Some((Node { span: self.span(expr.text), op }, power))
    }

    fn literal(&mut self, digits: &str) -> Option<(Op, Power)> {
        let number = Number::decimal(digits);
        if number.is_none() {
            self.error(digits, "a number has at most 38 digits".to_owned(), None);
        }
        number.map(|number| (Op::Constant(number), Power::Plain))
    }

    fn name(&mut self, name: &str) -> Option<(Op, Power)> {
        let plain = unquoted(name);
        if let Some((quantity, power)) = self.subject.quantity(&plain) {
            self.quantities.push((quantity.clone(), self.span(name)));
            return Some((Op::Quantity(quantity), Power::Of(power)));
        }
        if self.subject == Subject::Run
            && let Some(table) = plain.strip_prefix("factor.")
        {
            let Some(factor) = FactorName::parse(table) else {
                let known: Vec<_> = FactorName::names().collect();
                let help = match closest(table, FactorName::names()) {
                    Some(close) => format!("did you mean `factor.{close}`?"),
                    None => format!("factors are looked up by {}", known.join(", ")),
                };
                self.error(name, format!("runs have no value named `{table}`"), Some(help));
                return None;
            };
            let index = self.factors.iter().position(|known| known.name == factor).unwrap_or_else(|| {
                let span = self.span(name);
                self.factors.push(FactorUse { name: factor, span });
                self.factors.len().saturating_sub(1)
            });
            return Some((Op::Factor(index), Power::Of(0)));
        }
        let help = if FUNCTIONS.contains(&name) {
            format!("`{name}` is a function: {name}(...)")
        } else {
            match closest(name, self.subject.names()) {
                Some(close) => format!("did you mean `{close}`?"),
                None => {
                    format!("the quantities are {}", self.subject.names().collect::<Vec<_>>().join(", "))
                }
            }
        };
        self.error(name, format!("`{name}` is no quantity"), Some(help));
        None
    }

    /// All parts are looked at, so that all errors are found.
    fn parts(&mut self, parts: &[(bool, Expr<'_>)]) -> Option<(Parts, Vec<Power>)> {
        let compiled: Vec<_> = parts.iter().map(|(inverse, part)| (*inverse, self.number(part))).collect();
        let mut nodes = Vec::with_capacity(compiled.len());
        let mut powers = Vec::with_capacity(compiled.len());
        for (inverse, part) in compiled {
            let (node, power) = part?;
            nodes.push((inverse, node));
            powers.push(power);
        }
        Some((nodes, powers))
    }

    fn product(&mut self, parts: &[(bool, Expr<'_>)]) -> Option<(Op, Power)> {
        let (nodes, powers) = self.parts(parts)?;
        for ((divides, node), (_, expr)) in nodes.iter().zip(parts) {
            if *divides && matches!(&node.op, Op::Constant(constant) if constant.is_zero()) {
                self.error(expr.text, "division by zero".to_owned(), None);
            }
        }
        let power = nodes
            .iter()
            .zip(powers)
            .fold(Power::Plain, |product, ((divides, _), power)| product.times(power, *divides));
        Some((Op::Product(nodes), power))
    }

    fn call(&mut self, expr: &Expr<'_>, name: &str, arguments: &[Expr<'_>]) -> Option<(Op, Power)> {
        let arity = |compiler: &mut Self, right: bool, form: &str| {
            if !right {
                let message = format!("`{name}` is written {form}, and has {} here", plural(arguments.len()));
                compiler.error(expr.text, message, None);
            }
            right.then_some(())
        };
        match (name, arguments) {
            ("if", _) => {
                arity(self, arguments.len() == 3, "if(condition, then, else)")?;
                let [condition, then, otherwise] = arguments else { return None };
                let (condition, then, otherwise) =
                    (self.condition(condition), self.number(then), self.number(otherwise));
                let ((then, a), (otherwise, b)) = (then?, otherwise?);
                Some((Op::If(Box::new((condition?, then, otherwise))), a.beside(b)))
            }
            ("min" | "max", _) => {
                arity(self, arguments.len() >= 2, &format!("{name}(a, b, ...)"))?;
                let compiled: Vec<_> = arguments.iter().map(|argument| self.number(argument)).collect();
                let mut nodes = Vec::with_capacity(compiled.len());
                let mut power = Power::Plain;
                for argument in compiled {
                    let (node, of) = argument?;
                    nodes.push(node);
                    power = power.beside(of);
                }
                Some((if name == "min" { Op::Least(nodes) } else { Op::Greatest(nodes) }, power))
            }
            ("ceil" | "floor", _) => {
                arity(self, arguments.len() == 1, &format!("{name}(a)"))?;
                let (node, power) = self.number(arguments.first()?)?;
                let node = Box::new(node);
                Some((if name == "ceil" { Op::Ceil(node) } else { Op::Floor(node) }, power))
            }
            ("round", _) => {
                arity(self, matches!(arguments.len(), 1 | 2), "round(a) or round(a, places)")?;
                let compiled = self.number(arguments.first()?);
                let places = match arguments.get(1) {
                    None => 0,
                    Some(places) => {
                        let read: Option<u8> =
                            if places.kind == Kind::Number { places.text.parse().ok() } else { None };
                        match read.filter(|places| *places <= MAX_PLACES) {
                            Some(read) => read,
                            None => {
                                let message = format!("places are a plain number from 0 to {MAX_PLACES}");
                                self.error(places.text, message, None);
                                return None;
                            }
                        }
                    }
                };
                let (node, power) = compiled?;
                Some((Op::Round(Box::new(node), places), power))
            }
            _ => {
                let help = closest(name, FUNCTIONS).map_or_else(
                    || format!("the functions are {}", FUNCTIONS.join(", ")),
                    |close| format!("did you mean `{close}`?"),
                );
                self.error(name, format!("`{name}` is no function"), Some(help));
                None
            }
        }
    }

    fn condition(&mut self, expr: &Expr<'_>) -> Option<Condition> {
        let test = match &expr.kind {
            Kind::Compare(left, sign, right) => {
                let (left, right) = (self.number(left), self.number(right));
                Test::Compare(Box::new((left?.0, *sign, right?.0)))
            }
            Kind::All(parts) => Test::All(self.conditions(parts)?),
            Kind::Any(parts) => Test::Any(self.conditions(parts)?),
            Kind::Not(inner) => Test::Not(Box::new(self.condition(inner)?)),
            Kind::Number | Kind::Name | Kind::Sum(_) | Kind::Product(_) | Kind::Minus(_) | Kind::Call(..) => {
                let message = format!("`{}` is a number, and a condition is expected here", expr.text);
                self.error(expr.text, message, Some(format!("compare it: {} > 0", expr.text)));
                return None;
            }
        };
        Some(Condition { span: self.span(expr.text), test })
    }

    fn conditions(&mut self, parts: &[Expr<'_>]) -> Option<Vec<Condition>> {
        let compiled: Vec<_> = parts.iter().map(|part| self.condition(part)).collect();
        compiled.into_iter().collect()
    }
}

/// A name without the quotes around its parts.
fn unquoted(name: &str) -> Cow<'_, str> {
    if name.contains(['"', '\'']) { Cow::Owned(name.replace(['"', '\''], "")) } else { Cow::Borrowed(name) }
}

fn plural(arguments: usize) -> String {
    if arguments == 1 { "1 argument".to_owned() } else { format!("{arguments} arguments") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<FormulaError> {
        Formula::compile(text, Subject::Run).unwrap_err()
    }

    #[test]
    fn names_and_types_are_checked_and_all_errors_are_found() {
        for (text, offset, len, message, help) in [
            ("core_hour", 0, 9, "`core_hour` is no quantity", "did you mean `core_hours`?"),
            ("coers * hours", 0, 5, "`coers` is no quantity", "did you mean `cores`?"),
            ("stored_gb", 0, 9, "`stored_gb` is no quantity", "the quantities are cores"),
            ("hours * factor.qso", 8, 10, "runs have no value named `qso`", "did you mean `factor.qos`?"),
            ("mx(cores, 1)", 0, 2, "`mx` is no function", "did you mean `max`?"),
            ("max", 0, 3, "`max` is no quantity", "`max` is a function"),
            ("max(cores)", 0, 10, "`max` is written max(a, b, ...), and has 1 argument here", ""),
            ("if(gpus, 1, 2)", 3, 4, "`gpus` is a number", "compare it: gpus > 0"),
            ("hours * (cores > 1)", 8, 11, "`(cores > 1)` is a condition", "if(condition"),
            ("round(hours, cores)", 13, 5, "places are a plain number", ""),
            ("round(hours, 19)", 13, 2, "places are a plain number from 0 to 18", ""),
            ("hours / 0.0", 8, 3, "division by zero", ""),
            ("123456789012345678901234567890123456789", 0, 39, "at most 38 digits", ""),
        ] {
            let errors = errors(text);
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
            let error = &errors[0];
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert!(error.help.as_deref().unwrap_or("").contains(help), "{text}: {:?}", error.help);
            assert_eq!((error.offset, error.len), (offset, len), "{text}");
        }
        let errors = errors("max(coers, memgb) * if(not hours, ours, 1)");
        let offsets: Vec<_> = errors.iter().map(|error| error.offset).collect();
        assert_eq!(offsets, [4, 11, 27, 34]);
    }

    #[test]
    fn power_of_time() {
        for (text, power) in [
            ("core_hours", Power::Of(1)),
            ("cores * seconds / 3600", Power::Of(1)),
            ("max(cores, mem_gb / 2) * hours * factor.qos", Power::Of(1)),
            ("if(gpus > 0, gpu_hours, core_hours / 16)", Power::Of(1)),
            ("max(core_hours, 1)", Power::Of(1)),
            ("if(hours > 1, core_hours, 0)", Power::Of(1)),
            ("billing / 1000", Power::Of(0)),
            ("core_hours * hours", Power::Of(2)),
            ("core_hours / hours", Power::Of(0)),
            ("core_hours + nodes", Power::Mixed),
            ("1", Power::Plain),
            ("1 / hours", Power::Of(-1)),
        ] {
            assert_eq!(Formula::compile(text, Subject::Run).unwrap().power, power, "{text}");
        }
    }
}
