//! The grammar of charge formulas, in nom: text in, syntax tree out.
//!
//! ```text
//! formula     = disjunction
//! disjunction = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation    = "not" negation | comparison
//! comparison  = sum [ ( "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" ) sum ]
//! sum         = product { ( "+" | "-" ) product }
//! product     = unary { ( "*" | "/" ) unary }
//! unary       = "-" unary | primary
//! primary     = number | "(" disjunction ")" | name [ "(" disjunction { "," disjunction } ")" ]
//! number      = digits [ "." digits ] | "." digits
//! name        = word { "." ( part | quoted ) }
//! ```
//!
//! A word is letters, digits and `_`, not a digit first; a part may begin with a digit; what has other characters is quoted:
//! `gpus."a100-80gb"`.
//!
//! Chains (`a + b + c`) become one node with many parts, so that the tree is only as deep as the text is nested; and
//! nesting is limited to [`MAX_DEPTH`]: no formula can exhaust the stack.

use super::FormulaError;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{char, digit0, digit1, multispace0};
use nom::combinator::{cut, not, opt, recognize, value, verify};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{many0, separated_list1};
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{IResult, Offset, Parser};

/// Parentheses, calls and signs within each other.
pub(crate) const MAX_DEPTH: usize = 32;
/// Bytes of a formula.
pub(crate) const MAX_LENGTH: usize = 4096;

/// A part of a formula, with the text that it was read from.
#[derive(Debug, PartialEq)]
pub(crate) struct Expr<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind<'a>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Kind<'a> {
    Number,
    Name,
    /// Each part with whether it is subtracted.
    Sum(Vec<(bool, Expr<'a>)>),
    /// Each part with whether it divides.
    Product(Vec<(bool, Expr<'a>)>),
    Minus(Box<Expr<'a>>),
    Compare(Box<Expr<'a>>, Comparison, Box<Expr<'a>>),
    All(Vec<Expr<'a>>),
    Any(Vec<Expr<'a>>),
    Not(Box<Expr<'a>>),
    Call(&'a str, Vec<Expr<'a>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Reads a whole formula.
pub(crate) fn parse(text: &str) -> Result<Expr<'_>, FormulaError> {
    if text.len() > MAX_LENGTH {
        return Err(FormulaError {
            offset: 0,
            len: text.len(),
            message: format!("the formula has {} bytes, more than {MAX_LENGTH}", text.len()),
            help: None,
        });
    }
    match preceded(multispace0, |input| disjunction(input, 0)).parse(text) {
        Ok(("", expr)) => Ok(expr),
        Ok((rest, _)) => Err(Fault { at: rest, what: What::Operator }.explain(text)),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Err(fault.explain(text)),
        Err(nom::Err::Incomplete(_)) => Err(Fault { at: "", what: What::Operand }.explain(text)),
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Fault<'a>>;

fn disjunction(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    if depth > MAX_DEPTH {
        return Err(nom::Err::Failure(Fault { at: input, what: What::TooDeep }));
    }
    chain(input, |i| conjunction(i, depth), |i| keyword(i, "or"), |_| true, |parts| Kind::Any(plain(parts)))
}

fn conjunction(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    chain(input, |i| negation(i, depth), |i| keyword(i, "and"), |_| true, |parts| Kind::All(plain(parts)))
}

fn negation(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    let Ok((rest, _)) = keyword(input, "not") else { return comparison(input, depth) };
    if depth >= MAX_DEPTH {
        return Err(nom::Err::Failure(Fault { at: input, what: What::TooDeep }));
    }
    let (rest, inner) = cut(|i| negation(i, depth.saturating_add(1))).parse(rest)?;
    Ok((rest, Expr { text: between(input, rest), kind: Kind::Not(Box::new(inner)) }))
}

fn comparison(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    let (rest, left) = sum(input, depth)?;
    let (rest, right) = opt(pair(comparison_sign, cut(|i| sum(i, depth)))).parse(rest)?;
    let Some((sign, right)) = right else { return Ok((rest, left)) };
    let kind = Kind::Compare(Box::new(left), sign, Box::new(right));
    Ok((rest, Expr { text: between(input, rest), kind }))
}

fn comparison_sign(input: &str) -> Parsed<'_, Comparison> {
    token(alt((
        value(Comparison::LessOrEqual, tag("<=")),
        value(Comparison::GreaterOrEqual, tag(">=")),
        value(Comparison::NotEqual, tag("!=")),
        value(Comparison::Equal, tag("==")),
        value(Comparison::Equal, tag("=")),
        value(Comparison::Less, tag("<")),
        value(Comparison::Greater, tag(">")),
    )))
    .parse(input)
}

fn sum(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    chain(input, |i| product(i, depth), |i| sign(i, '+', '-'), |sign| sign == '-', Kind::Sum)
}

fn product(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    chain(input, |i| unary(i, depth), |i| sign(i, '*', '/'), |sign| sign == '/', Kind::Product)
}

fn unary(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    let minus: Parsed<'_, char> = token(char('-')).parse(input);
    let Ok((rest, _)) = minus else { return primary(input, depth) };
    if depth >= MAX_DEPTH {
        return Err(nom::Err::Failure(Fault { at: input, what: What::TooDeep }));
    }
    let (rest, inner) = cut(|i| unary(i, depth.saturating_add(1))).parse(rest)?;
    Ok((rest, Expr { text: between(input, rest), kind: Kind::Minus(Box::new(inner)) }))
}

fn primary(input: &str, depth: usize) -> Parsed<'_, Expr<'_>> {
    let deeper = depth.saturating_add(1);
    let mut group = delimited(
        token(char('(')),
        cut(|i| disjunction(i, deeper)),
        cut(expected(What::Closing, token(char(')')))),
    );
    let grouped = group.parse(input);
    if !matches!(grouped, Err(nom::Err::Error(_))) {
        return grouped.map(|(rest, inner)| {
            let text = match inner.kind {
                // The text of a name or number is its meaning.
                Kind::Name | Kind::Number => inner.text,
                // The parentheses belong to the text, so that explanations and messages show them.
                _ => between(input, rest),
            };
            (rest, Expr { text, ..inner })
        });
    }
    if let Ok((rest, digits)) = token(number).parse(input) {
        return Ok((rest, Expr { text: digits, kind: Kind::Number }));
    }
    let (rest, name) = expected(What::Operand, token(name)).parse(input)?;
    let arguments = delimited(
        token(char('(')),
        cut(separated_list1(token(char(',')), |i| disjunction(i, deeper))),
        cut(expected(What::Closing, token(char(')')))),
    );
    match opt(arguments).parse(rest)? {
        (rest, Some(arguments)) => {
            Ok((rest, Expr { text: between(input, rest), kind: Kind::Call(name, arguments) }))
        }
        (rest, None) => Ok((rest, Expr { text: name, kind: Kind::Name })),
    }
}

/// `12`, `0.5`, `.5`.
fn number(input: &str) -> Parsed<'_, &str> {
    recognize(alt((
        recognize(pair(digit1, opt(preceded(char('.'), digit1)))),
        recognize((digit0, char('.'), digit1)),
    )))
    .parse(input)
}

/// `cores`, `factor.qos`, `gpus."a100-80gb"`; not a word of the grammar.
fn name(input: &str) -> Parsed<'_, &str> {
    let quote = |quote: char| delimited(char(quote), take_while1(move |c| c != quote), char(quote));
    let part = alt((take_while1(is_word), quote('"'), quote('\'')));
    let dotted = recognize(pair(word, many0(preceded(char('.'), part))));
    verify(dotted, |name: &str| !matches!(name, "and" | "or" | "not")).parse(input)
}

fn word(input: &str) -> Parsed<'_, &str> {
    recognize(pair(take_while1(|c: char| c.is_ascii_alphabetic() || c == '_'), take_while(is_word)))
        .parse(input)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn keyword<'a>(input: &'a str, expected: &str) -> Parsed<'a, char> {
    let (rest, _) = token(verify(take_while1(is_word), |found: &str| found == expected)).parse(input)?;
    Ok((rest, ' '))
}

fn sign(input: &str, one: char, other: char) -> Parsed<'_, char> {
    // `**` is no sign: the message about it should show both.
    token(terminated(alt((char(one), char(other))), not(char('*')))).parse(input)
}

/// `part { operator part }`: the part itself where there is only one.
fn chain<'a>(
    input: &'a str,
    part: impl Fn(&'a str) -> Parsed<'a, Expr<'a>>,
    operator: impl Fn(&'a str) -> Parsed<'a, char>,
    is_inverse: impl Fn(char) -> bool,
    build: impl Fn(Vec<(bool, Expr<'a>)>) -> Kind<'a>,
) -> Parsed<'a, Expr<'a>> {
    let (rest, first) = part(input)?;
    let (rest, others) = many0(pair(&operator, cut(&part))).parse(rest)?;
    if others.is_empty() {
        return Ok((rest, first));
    }
    let parts = std::iter::once((false, first))
        .chain(others.into_iter().map(|(operator, part)| (is_inverse(operator), part)))
        .collect();
    Ok((rest, Expr { text: between(input, rest), kind: build(parts) }))
}

fn plain(parts: Vec<(bool, Expr<'_>)>) -> Vec<Expr<'_>> {
    parts.into_iter().map(|(_, part)| part).collect()
}

/// What was read between two rests of one text, without the white space after it.
fn between<'a>(input: &'a str, rest: &'a str) -> &'a str {
    input.get(..input.len().saturating_sub(rest.len())).unwrap_or(input).trim()
}

/// With the white space after it, which is not part of the result.
fn token<'a, O>(
    parser: impl Parser<&'a str, Output = O, Error = Fault<'a>>,
) -> impl Parser<&'a str, Output = O, Error = Fault<'a>> {
    terminated(parser, multispace0)
}

/// Says what was expected where `parser` fails.
fn expected<'a, O>(
    what: What,
    mut parser: impl Parser<&'a str, Output = O, Error = Fault<'a>>,
) -> impl Parser<&'a str, Output = O, Error = Fault<'a>> {
    move |input: &'a str| parser.parse(input).map_err(|error| error.map(|fault| Fault { what, ..fault }))
}

/// Where reading stopped, and what would have been right there.
#[derive(Debug)]
struct Fault<'a> {
    at: &'a str,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Operand,
    Operator,
    Closing,
    TooDeep,
}

impl<'a> ParseError<&'a str> for Fault<'a> {
    fn from_error_kind(input: &'a str, _: ErrorKind) -> Self {
        Self { at: input, what: What::Operand }
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl Fault<'_> {
    fn explain(&self, formula: &str) -> FormulaError {
        let found = offending(self.at);
        let message = match self.what {
            What::TooDeep => format!("nested deeper than {MAX_DEPTH}"),
            What::Operand if found.is_empty() => {
                "the formula ends where a number or a quantity is expected".to_owned()
            }
            What::Operand => format!("expected a number, a quantity, a function or ( here, found `{found}`"),
            What::Closing if found.is_empty() => "a ( is not closed".to_owned(),
            What::Closing => format!("expected an operator or ) here, found `{found}`"),
            What::Operator => format!("expected an operator or the end here, found `{found}`"),
        };
        let help = match found {
            "&&" => Some("write `and`"),
            "||" => Some("write `or`"),
            "!" => Some("write `not`"),
            "^" | "**" => Some("there are no powers: write the product"),
            "%" => Some("write a fraction: 5 % is 0.05"),
            "," if self.what == What::Operator => Some("decimal numbers have a point: 0.5"),
            "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" => Some("join comparisons with `and`"),
            found if self.what == What::Operator && found.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Some("write the multiplication: 2 * cores")
            }
            _ => None,
        };
        FormulaError {
            offset: formula.offset(self.at).min(formula.len()),
            len: found.len(),
            message,
            help: help.map(str::to_owned),
        }
    }
}

/// The word or sign at the front of `rest`.
fn offending(rest: &str) -> &str {
    const SIGNS: [&str; 8] = ["&&", "||", "**", "<=", ">=", "!=", "==", "<>"];
    if let Some(sign) = SIGNS.iter().find_map(|sign| rest.get(..sign.len()).filter(|front| front == sign)) {
        return sign;
    }
    let words = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let len = if words > 0 { words } else { rest.chars().next().map_or(0, char::len_utf8) };
    rest.get(..len).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as text with every operation in brackets.
    fn shape(expr: &Expr<'_>) -> String {
        let all = |parts: &[Expr<'_>]| parts.iter().map(shape).collect::<Vec<_>>().join(" ");
        let signed = |name: &str, parts: &[(bool, Expr<'_>)]| {
            let parts = parts.iter().map(|(inverse, part)| {
                let mark = if *inverse { "~" } else { "" };
                format!("{mark}{}", shape(part))
            });
            format!("({name} {})", parts.collect::<Vec<_>>().join(" "))
        };
        match &expr.kind {
            Kind::Number | Kind::Name => expr.text.to_owned(),
            Kind::Sum(parts) => signed("+", parts),
            Kind::Product(parts) => signed("*", parts),
            Kind::Minus(inner) => format!("(- {})", shape(inner)),
            Kind::Compare(left, sign, right) => format!("({sign:?} {} {})", shape(left), shape(right)),
            Kind::All(parts) => format!("(and {})", all(parts)),
            Kind::Any(parts) => format!("(or {})", all(parts)),
            Kind::Not(inner) => format!("(not {})", shape(inner)),
            Kind::Call(name, arguments) => format!("({name} {})", all(arguments)),
        }
    }

    #[test]
    fn precedence() {
        for (text, expected) in [
            ("core_hours", "core_hours"),
            (" 1 + 2 * 3 ", "(+ 1 (* 2 3))"),
            ("(1 + 2) * 3", "(* (+ 1 2) 3)"),
            ("a - b - c", "(+ a ~b ~c)"),
            ("a / b * c", "(* a ~b c)"),
            ("-a * b", "(* (- a) b)"),
            ("--a", "(- (- a))"),
            ("2 - -3", "(+ 2 ~(- 3))"),
            ("max(cores, mem_gb / 2) * hours * factor.qos", "(* (max cores (* mem_gb ~2)) hours factor.qos)"),
            (
                "if(gpus > 0, gpu_hours, core_hours / 16)",
                "(if (Greater gpus 0) gpu_hours (* core_hours ~16))",
            ),
            (
                "if(not a = 1 and b <= 2 or c != 3, 1, 0)",
                "(if (or (and (not (Equal a 1)) (LessOrEqual b 2)) (NotEqual c 3)) 1 0)",
            ),
            ("a==b", "(Equal a b)"),
            (".5*notes", "(* .5 notes)"),
            ("orange", "orange"),
            ("a\n *\tb", "(* a b)"),
        ] {
            assert_eq!(shape(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn parts_know_their_text() {
        let text = "  max( cores , (mem_gb / 2) ) * hours  ";
        let Kind::Product(parts) = parse(text).unwrap().kind else { panic!("a product") };
        assert_eq!(parts[0].1.text, "max( cores , (mem_gb / 2) )");
        let Kind::Call(_, arguments) = &parts[0].1.kind else { panic!("a call") };
        assert_eq!(arguments[0].text, "cores");
        assert_eq!(arguments[1].text, "(mem_gb / 2)");
    }

    #[test]
    fn errors_point_at_the_text() {
        for (text, offset, len, message) in [
            ("", 0, 0, "the formula ends where"),
            ("cores *", 7, 0, "the formula ends where"),
            ("cores * * hours", 8, 1, "expected a number, a quantity, a function or ( here, found `*`"),
            ("(cores", 6, 0, "a ( is not closed"),
            ("max(cores, 2", 12, 0, "a ( is not closed"),
            ("max(cores 2)", 10, 1, "expected an operator or ) here, found `2`"),
            ("max()", 4, 1, "expected a number"),
            ("cores)", 5, 1, "expected an operator or the end here, found `)`"),
            ("2cores", 1, 5, "expected an operator or the end here, found `cores`"),
            ("cores ** 2", 6, 2, "expected an operator or the end here, found `**`"),
            ("1 < cores < 3", 10, 1, "expected an operator or the end here, found `<`"),
            ("if(a && b, 1, 0)", 5, 2, "expected an operator or ) here, found `&&`"),
            ("0,5 * cores", 1, 1, "expected an operator or the end here, found `,`"),
            ("5 % hours", 2, 1, "expected an operator or the end here, found `%`"),
            ("é", 0, 2, "expected a number"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert_eq!((error.offset, error.len), (offset, len), "{text}: {}", error.message);
        }
    }

    #[test]
    fn hostile_nesting_is_an_error_and_not_a_crash() {
        for (open, close) in [("(", ")"), ("-", ""), ("not ", ""), ("max(", ")"), ("-(", ")")] {
            let depth = MAX_LENGTH / (open.len() + close.len() + 1);
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let error = parse(&text).unwrap_err();
            assert_eq!(error.message, format!("nested deeper than {MAX_DEPTH}"), "{open}");
            let levels = if open == "-(" { MAX_DEPTH / 2 } else { MAX_DEPTH };
            parse(&format!("{}1{}", open.repeat(levels), close.repeat(levels))).unwrap();
            parse(&format!("{}1{}", open.repeat(levels + 1), close.repeat(levels + 1))).unwrap_err();
        }
        let long = "1+".repeat(MAX_LENGTH);
        assert!(parse(&long).unwrap_err().message.contains("more than 4096"));
        let wide = format!("{}1", "1+".repeat(MAX_LENGTH / 2 - 1));
        parse(&wide).unwrap();
    }
}
