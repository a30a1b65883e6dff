//! Brakes: what no honest run can have used is held until a person approves it.

use crate::number::Number;
use crate::outcome::{Hold, HoldReason};
use crate::problems::Problems;
use crate::spec::{LimitsSpec, RulePlace};
use amie_usage::Decimal;
use parsers::Run;

/// Compiled limits; `None` is no limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) max_charge: Option<Decimal>,
    max_cores: Option<u64>,
    /// Whole seconds, and the hours as the configuration writes them.
    max_hours: Option<(u64, String)>,
}

impl Limits {
    pub(crate) fn compile(spec: LimitsSpec, place: RulePlace, problems: &mut Problems) -> Self {
        let LimitsSpec { max_charge, max_cores, max_hours } = spec;
        let max_charge = max_charge.and_then(|text| {
            let number = text.parse::<Decimal>().ok().filter(|number| !number.is_negative());
            if number.is_none() {
                let message = format!("max_charge: \"{text}\" is no plain number, 0 or above");
                problems.error(place, message, None);
            }
            number
        });
        let max_hours = max_hours.and_then(|text| {
            let seconds = Number::decimal(&text).and_then(|hours| {
                hours.multiply(&Number::integer(3600)).to_whole().filter(|seconds| *seconds > 0)
            });
            if seconds.is_none() {
                let message = format!("max_hours: \"{text}\" is no number of hours above 0");
                problems.error(place, message, None);
            }
            seconds.map(|seconds| (seconds, text))
        });
        Self { max_charge, max_cores, max_hours }
    }

    /// These, and where one is not set the other's.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            max_charge: self.max_charge.or(other.max_charge),
            max_cores: self.max_cores.or(other.max_cores),
            max_hours: self.max_hours.or_else(|| other.max_hours.clone()),
        }
    }

    /// The first limit that `run`, charged so, is above.
    pub(crate) fn check(&self, run: &Run<'_>, charge: Decimal) -> Option<Hold> {
        if let (Some(max), Some(cores)) = (self.max_cores, run.cores)
            && cores > max
        {
            let detail = format!(
                "{cores} cores are more than the cluster has (max_cores = {max}): look at the source's text, then `held approve` the run or waive it"
            );
            return Some(Hold::new(HoldReason::AboveMaxCores, detail));
        }
        if let (Some((max, hours)), Some(elapsed)) = (&self.max_hours, run.elapsed)
            && elapsed > *max
        {
            let detail = format!(
                "{elapsed} s are longer than any run may take (max_hours = {hours}): look at the source's text, then `held approve` the run or waive it"
            );
            return Some(Hold::new(HoldReason::AboveMaxHours, detail));
        }
        self.above_max_charge(charge)
    }

    /// The hold of a record that is charged more than one may be.
    pub(crate) fn above_max_charge(&self, charge: Decimal) -> Option<Hold> {
        let max = self.max_charge.filter(|max| charge > *max)?;
        let detail =
            format!("the charge {charge} is above max_charge = {max}: look at it, then `held approve` it");
        Some(Hold::new(HoldReason::AboveMaxCharge, detail))
    }
}
