//! What was read and what became of it: the two conservation laws, counted.
//!
//! `frames = contributing + informational(by kind) + quarantined`, and
//! `runs = mapped + skipped(by reason) + held(by reason)`. [`Tally::check`] is called at the end of every command.

use amie_usage::Decimal;
use serde::Serialize;
use std::collections::BTreeMap;

/// Counts of one piece of input, or of a whole invocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Lines or records of the input.
    pub frames: u64,
    /// Frames that are a run or a reading.
    pub contributing: u64,
    /// Frames without usage of their own, by kind.
    pub informational: BTreeMap<String, u64>,
    /// Frames that could not be read.
    pub quarantined: u64,
    /// The same, by reason.
    pub quarantined_by: BTreeMap<String, u64>,
    /// Runs (and quota readings).
    pub runs: u64,
    /// Runs that became usage records.
    pub mapped: u64,
    /// Runs that are not reported, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Runs that wait for a person, by reason.
    pub held: BTreeMap<String, u64>,
    /// What a log says of runs beside their ends, by what it is: outside of the laws (see [`crate::pipeline::folding`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub observed: BTreeMap<String, u64>,
    /// Charge of the mapped runs, by resource.
    pub charge: BTreeMap<String, Decimal>,
    /// The same, by resource and project.
    pub charge_by_project: BTreeMap<String, BTreeMap<String, Decimal>>,
    /// True where a sum did not fit 38 digits.
    #[serde(skip)]
    pub overflow: bool,
}

/// A conservation law that does not hold: a fault of this program, never of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the counts do not add up ({law}: {left} against {right}): this is a fault of amie-runner; nothing of this run should be trusted, please report it"
)]
pub struct Imbalance {
    /// Which law.
    pub law: &'static str,
    /// Left side.
    pub left: u64,
    /// Right side.
    pub right: u64,
}

fn add(map: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    match map.get_mut(name) {
        Some(value) => *value += count,
        None => {
            map.insert(name.to_owned(), count);
        }
    }
}

impl Tally {
    /// Counts informational frames of a kind.
    pub fn inform(&mut self, kind: &str, count: u64) {
        add(&mut self.informational, kind, count);
    }

    /// Counts a quarantined frame.
    pub fn quarantine(&mut self, reason: &str) {
        self.quarantined += 1;
        add(&mut self.quarantined_by, reason, 1);
    }

    /// Counts a skipped run.
    pub fn skip(&mut self, reason: &str) {
        add(&mut self.skipped, reason, 1);
    }

    /// Counts a held run.
    pub fn hold(&mut self, reason: &str) {
        add(&mut self.held, reason, 1);
    }

    /// Counts what a log says of runs beside their ends.
    pub fn observe(&mut self, what: &str, count: u64) {
        if count > 0 {
            add(&mut self.observed, what, count);
        }
    }

    /// Counts a mapped run with its charge.
    pub fn charge(&mut self, resource: &str, project: &str, charge: Decimal) {
        self.mapped += 1;
        self.add_charge(resource, project, charge);
    }

    fn add_charge(&mut self, resource: &str, project: &str, charge: Decimal) {
        if !self.charge_by_project.contains_key(resource) {
            self.charge_by_project.insert(resource.to_owned(), BTreeMap::new());
            self.charge.insert(resource.to_owned(), Decimal::ZERO);
        }
        let mut put = |sum: &mut Decimal| match sum.checked_add(charge) {
            Some(more) => *sum = more,
            None => self.overflow = true,
        };
        if let Some(sum) = self.charge.get_mut(resource) {
            put(sum);
        }
        if let Some(projects) = self.charge_by_project.get_mut(resource) {
            match projects.get_mut(project) {
                Some(sum) => put(sum),
                None => {
                    projects.insert(project.to_owned(), charge);
                }
            }
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.contributing += other.contributing;
        self.quarantined += other.quarantined;
        self.runs += other.runs;
        self.mapped += other.mapped;
        self.overflow |= other.overflow;
        for (into, from) in [
            (&mut self.informational, &other.informational),
            (&mut self.quarantined_by, &other.quarantined_by),
            (&mut self.skipped, &other.skipped),
            (&mut self.held, &other.held),
            (&mut self.observed, &other.observed),
        ] {
            for (name, count) in from {
                add(into, name, *count);
            }
        }
        for (resource, projects) in &other.charge_by_project {
            for (project, charge) in projects {
                self.add_charge(resource, project, *charge);
            }
        }
    }

    /// Holds both laws against the counts.
    ///
    /// # Errors
    /// Which law does not hold, with both sides.
    pub fn check(&self) -> Result<(), Imbalance> {
        let sum = |map: &BTreeMap<String, u64>| map.values().sum::<u64>();
        let laws = [
            (
                "frames = contributing + informational + quarantined",
                self.frames,
                self.contributing + sum(&self.informational) + self.quarantined,
            ),
            ("quarantined = sum of its reasons", self.quarantined, sum(&self.quarantined_by)),
            ("contributing = runs", self.contributing, self.runs),
            ("runs = mapped + skipped + held", self.runs, self.mapped + sum(&self.skipped) + sum(&self.held)),
            ("sums of charges fit", 0, u64::from(self.overflow)),
        ];
        match laws.into_iter().find(|(_, left, right)| left != right) {
            None => Ok(()),
            Some((law, left, right)) => Err(Imbalance { law, left, right }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_vanishes_is_noticed() {
        let mut tally = Tally { frames: 2, contributing: 1, runs: 1, ..Tally::default() };
        tally.inform("header", 1);
        assert_eq!(tally.check().unwrap_err().law, "runs = mapped + skipped + held");
        tally.charge("r", "p", Decimal::new(5, 1));
        assert_eq!(tally.check(), Ok(()));
        tally.frames += 1;
        assert_eq!(tally.check().unwrap_err().law, "frames = contributing + informational + quarantined");
    }

    #[test]
    fn merging_in_any_order_gives_the_same() {
        let one = |project: &str, units| {
            let mut tally = Tally { frames: 1, contributing: 1, runs: 1, ..Tally::default() };
            tally.charge("r", project, Decimal::new(units, 6));
            tally
        };
        let (a, b, c) = (one("p", 1), one("q", 2), one("p", 999_999));
        let sum = |parts: [&Tally; 3]| {
            let mut sum = Tally::default();
            parts.into_iter().for_each(|part| sum.merge(part));
            sum
        };
        assert_eq!(sum([&a, &b, &c]), sum([&c, &a, &b]));
        assert_eq!(sum([&a, &b, &c]).charge["r"].to_string(), "1.000002");
    }
}
