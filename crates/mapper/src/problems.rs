//! Collects what is wrong with rules, so that all of it is said at once.

use crate::formula::FormulaError;
use crate::spec::{RuleError, RulePlace};

#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) errors: Vec<RuleError>,
    pub(crate) warnings: Vec<RuleError>,
}

impl Problems {
    pub(crate) fn error(&mut self, place: RulePlace, message: impl Into<String>, help: Option<&str>) {
        self.errors.push(RuleError { place, message: message.into(), help: help.map(str::to_owned) });
    }

    pub(crate) fn warning(&mut self, place: RulePlace, message: impl Into<String>, help: Option<&str>) {
        self.warnings.push(RuleError { place, message: message.into(), help: help.map(str::to_owned) });
    }

    /// Errors of one formula; `place` makes the place of an offset and a length.
    pub(crate) fn formula(&mut self, errors: Vec<FormulaError>, place: impl Fn(usize, usize) -> RulePlace) {
        self.errors.extend(errors.into_iter().map(|error| RuleError {
            place: place(error.offset, error.len),
            message: error.message,
            help: error.help,
        }));
    }
}
