//! Job ids as Slurm prints them: `61`, `61_5`, `62_[1-9%2]`, `66+1`, and steps of all of them.

use crate::Malformed;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::digit1;
use nom::combinator::{all_consuming, opt, value, verify};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `61`.
    Job,
    /// `61_5`: a task of an array.
    Task,
    /// `66+1`: a component of a heterogeneous job.
    Component,
    /// `62_[1-9]`: the tasks of an array that have not been split off.
    Array,
    /// `61.batch`, `66+0.0`: whatever stands after the dot.
    Step,
}

/// Reads an id.
#[inline]
pub(super) fn form(text: &[u8]) -> Result<Form, Malformed> {
    match plain(text) {
        Some(form) => Ok(form),
        None => by_grammar(text),
    }
}

pub(super) fn by_grammar(text: &[u8]) -> Result<Form, Malformed> {
    grammar(text).map(|(_, form)| form).map_err(|_| Malformed)
}

/// The shortcut: digits, and at most one mark with digits or a step behind it.
#[inline]
fn plain(text: &[u8]) -> Option<Form> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 20 {
        return None;
    }
    let (form, rest) = match text.get(digits..)? {
        [] => return Some(Form::Job),
        [b'.', _, ..] => return Some(Form::Step),
        [b'_', rest @ ..] => (Form::Task, rest),
        [b'+', rest @ ..] => (Form::Component, rest),
        _ => return None,
    };
    (!rest.is_empty() && rest.len() <= 20 && rest.iter().all(u8::is_ascii_digit)).then_some(form)
}

fn number(input: &[u8]) -> IResult<&[u8], &[u8]> {
    verify(digit1, |digits: &[u8]| digits.len() <= 20).parse(input)
}

/// `[1-2,4-6,10-20%4]`, `[1-9:2]`; `...` where Slurm elided it (SLURM_BITSTR_LEN).
fn tasks(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let inside = take_while(|byte: u8| byte.is_ascii_digit() || b",-:%.".contains(&byte));
    delimited(tag(&b"["[..]), inside, tag(&b"]"[..])).parse(input)
}

fn job(input: &[u8]) -> IResult<&[u8], Form> {
    let mark = alt((
        value(Form::Array, preceded(tag(&b"_"[..]), tasks)),
        value(Form::Task, preceded(tag(&b"_"[..]), number)),
        value(Form::Component, preceded(tag(&b"+"[..]), number)),
    ));
    let (rest, form) = preceded(number, opt(mark)).parse(input)?;
    Ok((rest, form.unwrap_or(Form::Job)))
}

fn grammar(input: &[u8]) -> IResult<&[u8], Form> {
    let step = preceded(tag(&b"."[..]), take_while1(|_| true));
    alt((value(Form::Step, terminated(job, step)), all_consuming(job))).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_that_slurm_prints() {
        for (text, expected) in [
            ("61", Form::Job),
            ("67108865", Form::Job),
            ("61_5", Form::Task),
            ("66+1", Form::Component),
            ("62_[1-2,4-6,10-20%4]", Form::Array),
            ("62_[1-9:2]", Form::Array),
            ("62_[1-2,4...]", Form::Array),
            ("61.batch", Form::Step),
            ("61.extern", Form::Step),
            ("61.interactive", Form::Step),
            ("61.0", Form::Step),
            ("61.TBD", Form::Step),
            ("61.4294967291", Form::Step),
            ("61_5.0", Form::Step),
            ("66+0.0+1", Form::Step),
            ("61.a-suffix-of-next-year", Form::Step),
        ] {
            assert_eq!(form(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in [
            "",
            "JobID",
            "x61",
            "61x",
            "61_",
            "61_x",
            "61+",
            "61_[1",
            "61_[a]",
            "61.",
            " 61",
            "61 ",
            "-61",
            "61_5_6",
            "123456789012345678901",
        ] {
            assert_eq!(form(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn the_shortcut_agrees_with_the_grammar_on_every_field_of_the_fixtures() {
        let mut ids = 0;
        for field in crate::fixtures::fields() {
            let reference = grammar(&field).map(|(_, form)| form).map_err(|_| Malformed);
            assert_eq!(form(&field), reference, "{}", field.escape_ascii());
            ids += usize::from(reference.is_ok());
        }
        assert!(ids > 400, "{ids}");
    }

    proptest! {
        #[test]
        fn the_shortcut_agrees_with_the_grammar(text in "[0-9]{0,21}[_+.x]?[0-9x\\[\\]]{0,3}[.]?[0-9x]{0,2}") {
            let reference = grammar(text.as_bytes()).map(|(_, form)| form).map_err(|_| Malformed);
            prop_assert_eq!(form(text.as_bytes()), reference);
        }
    }
}
