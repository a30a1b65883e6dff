//! What the rules say of all runs with the same keys: decided once, then only measured.

use crate::formula::Formula;
use crate::formula::evaluate::{Inputs, NoValue, Trace};
use crate::interval::Interval;
use crate::keys::{Keys, Times};
use crate::number::{Direction, Number};
use crate::outcome::{Hold, HoldReason, SkipReason};
use crate::projects::ProjectAnswer;
use crate::quantity::{Measures, Values};
use crate::resources::{self, Rate, RateAnswer, Resource};
use crate::rules::Rules;
use crate::spec::{Charged, RateBy, Rounding};
use crate::text::{cell, shown, shown_or_dash};
use crate::users::UserAnswer;
use amie_usage::Decimal;
use amie_usage::wire::format_time;

/// What the rules say of all runs with the same [`Keys`], at the times for which it is [valid](Plan::is_valid).
#[derive(Debug)]
pub struct Plan<'r> {
    pub(crate) submits: Interval,
    /// For the time that the resource's rates are chosen by.
    rate_times: Interval,
    rate_by: RateBy,
    pub(crate) verdict: Verdict<'r>,
}

#[derive(Debug)]
pub(crate) enum Verdict<'r> {
    Charge(Terms<'r>),
    Skip(SkipReason),
    Hold(Hold),
    /// A time that decides is not known.
    NeedsTime(&'static str),
}

/// How a run is charged.
#[derive(Debug)]
pub(crate) struct Terms<'r> {
    pub(crate) project: Box<str>,
    pub(crate) username: Box<str>,
    pub(crate) resource: &'r Resource,
    pub(crate) rate: &'r Rate,
    pub(crate) factors: Vec<Option<Number>>,
    /// The keys' values of the factors, for messages.
    factor_values: Vec<String>,
}

impl Plan<'_> {
    /// Whether the rules say the same at these times.
    #[must_use]
    pub fn is_valid(&self, times: Times) -> bool {
        let within = |interval: Interval, time: Option<i64>| {
            time.map_or(interval == Interval::ALWAYS, |time| interval.contains(time))
        };
        within(self.submits, times.submit) && within(self.rate_times, self.rate_by.of(times))
    }

    /// What a run that used `measures` is charged; `policy` says whether ends like its own are charged at all.
    ///
    /// # Errors
    /// Why it cannot be charged. A run of an account that is skipped has no charge either: [`HoldReason::NoAccount`].
    pub fn charge(&self, measures: &Measures, policy: Charged) -> Result<Decimal, Hold> {
        self.charge_phases(measures, &[], policy)
    }

    /// What a run that gave parts of its allocation back is charged: the exact sum over its `phases`, before policy, minimum and
    /// rounding. Without phases this is [`charge`](Self::charge).
    ///
    /// # Errors
    /// As [`charge`](Self::charge), and [`HoldReason::Phases`] where the formula does not grow in proportion to time.
    pub fn charge_phases(
        &self,
        measures: &Measures,
        phases: &[Measures],
        policy: Charged,
    ) -> Result<Decimal, Hold> {
        match &self.verdict {
            Verdict::Charge(terms) => terms.charge(measures, phases, policy),
            Verdict::Skip(_) => Err(Hold::new(HoldReason::NoAccount, "the account is not reported")),
            Verdict::Hold(hold) => Err(hold.clone()),
            Verdict::NeedsTime(what) => Err(no_time(what)),
        }
    }
}

pub(crate) fn no_time(what: &str) -> Hold {
    let detail =
        format!("the record has no {what} time, which a usage record needs: look at its text in the source");
    Hold::new(HoldReason::NoTime, detail)
}

impl Terms<'_> {
    pub(crate) fn charge(
        &self,
        measures: &Measures,
        phases: &[Measures],
        policy: Charged,
    ) -> Result<Decimal, Hold> {
        let pricing = Pricing {
            formula: &self.rate.formula,
            factors: &self.factors,
            policy,
            minimum: self.rate.minimum.as_ref(),
            round: self.rate.round,
        };
        let charge = if phases.is_empty() {
            pricing.charge(&measures.at_least(self.rate.minimum_seconds), &mut ())
        } else {
            let mut phases = phases.to_vec();
            Measures::phases_at_least(&mut phases, self.rate.minimum_seconds);
            pricing.charge_phases(&phases, &mut ())
        };
        charge.map_err(|fault| self.explain(&fault))
    }

    pub(crate) fn explain(&self, fault: &Fault) -> Hold {
        let describe = |index: usize| {
            let name = self.rate.formula.factors.get(index).map_or("?", |factor| factor.name.as_str());
            (name, self.factor_values.get(index).map_or("-", String::as_str))
        };
        fault.explain(&self.resource.name, &self.rate.formula, &describe)
    }
}

/// The way from quantities to a charge: formula, policy, minimum, rounding.
#[derive(Debug)]
pub(crate) struct Pricing<'a> {
    pub(crate) formula: &'a Formula,
    pub(crate) factors: &'a [Option<Number>],
    pub(crate) policy: Charged,
    pub(crate) minimum: Option<&'a Number>,
    pub(crate) round: Rounding,
}

/// Why there is no charge.
#[derive(Debug)]
pub(crate) enum Fault {
    NoValue(NoValue),
    Negative(Number),
    TooLarge(Number),
    /// The run has phases, and their charges are not parts of one.
    Phases,
}

impl Pricing<'_> {
    pub(crate) fn charge<V: Values, T: Trace>(&self, values: &V, trace: &mut T) -> Result<Decimal, Fault> {
        self.price(self.value(values, trace)?)
    }

    /// The charge of a run by its phases.
    pub(crate) fn charge_phases<T: Trace>(
        &self,
        phases: &[Measures],
        trace: &mut T,
    ) -> Result<Decimal, Fault> {
        if !self.formula.proportional {
            return Err(Fault::Phases);
        }
        let mut sum = Number::ZERO;
        for (index, phase) in phases.iter().enumerate() {
            trace.phase(index);
            sum = sum.add(&self.value(phase, trace)?);
        }
        trace.sum(&sum);
        self.price(sum)
    }

    fn value<V: Values, T: Trace>(&self, values: &V, trace: &mut T) -> Result<Number, Fault> {
        let inputs = Inputs { values, factors: self.factors };
        self.formula.root.evaluate(&inputs, trace).map_err(Fault::NoValue)
    }

    /// Policy, minimum, rounding.
    fn price(&self, mut charge: Number) -> Result<Decimal, Fault> {
        if charge.is_negative() {
            return Err(Fault::Negative(charge));
        }
        if self.policy == Charged::Zero {
            return Ok(Decimal::ZERO);
        }
        if let Some(minimum) = self.minimum
            && !charge.is_zero()
            && charge.compare(minimum).is_lt()
        {
            charge = minimum.clone();
        }
        let direction = Direction::from(self.round.mode);
        charge.to_decimal(self.round.places, direction).ok_or(Fault::TooLarge(charge))
    }
}

impl Fault {
    /// `describe` gives name and value of the run for the index of a factor.
    pub(crate) fn explain<'v>(
        &self,
        resource: &str,
        formula: &Formula,
        describe: &dyn Fn(usize) -> (&'static str, &'v str),
    ) -> Hold {
        match self {
            Self::NoValue(NoValue::Quantity(quantity)) => Hold::new(
                HoldReason::MissingQuantity,
                format!(
                    "the formula of {resource} needs `{}`, and the source does not say it: {}. It is never taken for 0",
                    quantity.name(),
                    quantity.where_from()
                ),
            ),
            Self::NoValue(NoValue::Factor(index)) => {
                let (name, value) = describe(*index);
                let detail = format!(
                    "factor.{name} of {resource} has no entry for {name} `{value}` and no default: add `\"{value}\" = ...` or `default = ...` to [resource.rate.factor.{name}]"
                );
                Hold::new(HoldReason::MissingQuantity, detail)
            }
            Self::NoValue(NoValue::DivisionByZero(span)) => {
                let detail = format!(
                    "the formula of {resource} divides by `{}`, which is 0 for this run: guard it with if(...)",
                    formula.part(span)
                );
                Hold::new(HoldReason::Arithmetic, detail)
            }
            Self::Negative(value) => Hold::new(
                HoldReason::Arithmetic,
                format!("the formula of {resource} gives {value}, below 0, for this run: correct it"),
            ),
            Self::Phases => Hold::new(
                HoldReason::Phases,
                format!(
                    "nodes were released while it ran, and the charges of its phases do not add up to one: the formula of {resource} does not grow in proportion to time. Charge it by hand, then `held waive` it, or write the formula as some amount times hours"
                ),
            ),
            Self::TooLarge(value) => Hold::new(
                HoldReason::Arithmetic,
                format!(
                    "the charge {value} on {resource} has more than 38 digits: look at the run's numbers"
                ),
            ),
        }
    }
}

impl Rules {
    /// Decides project, user, resource and rate of all runs with these keys, at these times and around them.
    ///
    /// ```
    /// # use mapper::{Keys, Rules, Times, spec::*};
    /// # fn example(rules: &Rules) {
    /// let keys = Keys { account: Some("tg-abc123456".into()), ..Keys::default() };
    /// let times = Times { submit: Some(1_795_427_125), ..Times::default() };
    /// let plan = rules.plan(&keys, times);
    /// assert!(plan.is_valid(times));
    /// # }
    /// ```
    #[must_use]
    pub fn plan<'r>(&'r self, keys: &Keys<'_>, times: Times) -> Plan<'r> {
        let mut plan = Plan {
            submits: Interval::ALWAYS,
            rate_times: Interval::ALWAYS,
            rate_by: RateBy::Submit,
            verdict: Verdict::NeedsTime("submit"),
        };
        let project = self.projects.find(keys, times.submit, &mut plan.submits);
        let project: Box<str> = match project {
            ProjectAnswer::Row { project, .. } => project.into(),
            ProjectAnswer::Pattern { project, .. } => project.into(),
            ProjectAnswer::NeedsSubmit => return plan,
            ProjectAnswer::Skip { .. } => {
                return Plan { verdict: Verdict::Skip(SkipReason::AccountRule), ..plan };
            }
            answer => return Plan { verdict: Verdict::Hold(self.project_hold(&answer, keys)), ..plan },
        };
        let answer = self.users.find(keys, times.submit, &mut plan.submits);
        let username: Box<str> = match answer.username() {
            Some(username) => username.into(),
            None if answer == UserAnswer::NeedsSubmit => return plan,
            None => return Plan { verdict: Verdict::Hold(user_hold(&answer, keys)), ..plan },
        };
        let Some((_, resource)) = resources::find(&self.resources, keys) else {
            return Plan { verdict: Verdict::Hold(resource_hold(keys)), ..plan };
        };
        plan.rate_by = resource.rate_by;
        plan.verdict = match resource.rate(times, &mut plan.rate_times) {
            RateAnswer::Rate(rate) => {
                let values = rate.formula.factors.iter().map(|factor| shown_or_dash(factor.name.of(keys)));
                Verdict::Charge(Terms {
                    project,
                    username,
                    resource,
                    rate,
                    factors: rate.factors(keys),
                    factor_values: values.collect(),
                })
            }
            RateAnswer::Gap(gap) => Verdict::Hold(rate_hold(resource, gap)),
            RateAnswer::NeedsTime => Verdict::NeedsTime(resource.rate_by.as_str()),
        };
        plan
    }

    fn project_hold(&self, answer: &ProjectAnswer<'_>, keys: &Keys<'_>) -> Hold {
        let Some(account) = keys.account else {
            let detail = "the run names no account: Slurm writes none where the user has no association; for PBS, `project_from` of the source says where the project comes from. Find whose it is, or `held waive` it";
            return Hold::new(HoldReason::NoAccount, detail);
        };
        let (name, cluster) = (shown(account), shown_or_dash(keys.cluster));
        if let ProjectAnswer::Unfit { project, index, why } = answer {
            let detail = format!(
                "pattern {} makes the project `{}` of account `{name}`, which {why}: correct projects.match",
                index.saturating_add(1),
                shown(project)
            );
            return Hold::new(HoldReason::Identity, detail);
        }
        let hint = match self.projects.lines_of(account) {
            (lines, _) if lines.is_empty() => String::new(),
            (lines, other_letters) => {
                let lines: Vec<_> = lines.iter().map(u64::to_string).collect();
                let why = if other_letters {
                    "name it in other letters (Slurm folds accounts to lower case)"
                } else {
                    "name it, under conditions that this run does not meet"
                };
                format!(" Lines {} of the table {why}.", lines.join(", "))
            }
        };
        let detail = format!(
            "account `{name}` of cluster {cluster} is in no row of the project table that fits, and matches no pattern and no skip rule.{hint} To report it, add to the project table:\naccount,project\n{},<LocalProjectID>\nor, where it is not to be reported, name it in projects.skip",
            cell(account)
        );
        Hold::new(HoldReason::UnknownProject, detail)
    }
}

fn user_hold(answer: &UserAnswer<'_>, keys: &Keys<'_>) -> Hold {
    let Some(user) = keys.user else {
        let detail = "the run names no user: sacct leaves it empty where the Unix user is gone (its UID column still says who). Find who it was, or `held waive` it";
        return Hold::new(HoldReason::NoUser, detail);
    };
    let name = shown(user);
    match answer {
        UserAnswer::Unfit { why } => Hold::new(
            HoldReason::Identity,
            format!("user `{name}` {why}, and cannot be sent: map it in a user table (users.table)"),
        ),
        _ => Hold::new(
            HoldReason::UnknownUser,
            format!(
                "user `{name}` of cluster {} is in no row of the user table that fits. Add to it:\nuser,username\n{},<Username>",
                shown_or_dash(keys.cluster),
                cell(user)
            ),
        ),
    }
}

fn resource_hold(keys: &Keys<'_>) -> Hold {
    let detail = format!(
        "no [[resource]] covers cluster {}, partition {}, qos {}, account {}, user {}: add these to the `when` of the resource that it is, or add a [[resource]]",
        shown_or_dash(keys.cluster),
        shown_or_dash(keys.partition),
        shown_or_dash(keys.qos),
        shown_or_dash(keys.account),
        shown_or_dash(keys.user)
    );
    Hold::new(HoldReason::UnknownResource, detail)
}

fn rate_hold(resource: &Resource, gap: Interval) -> Hold {
    let from = if gap.from == i64::MIN { String::new() } else { format!(" from {}", instant(gap.from)) };
    let until = if gap.until == i64::MAX { String::new() } else { format!(" until {}", instant(gap.until)) };
    let detail = format!(
        "{} has no rate for a {} time{from}{until} (its rates: {}): add a [[resource.rate]] for that period",
        resource.name,
        resource.rate_by.as_str(),
        resource.periods()
    );
    Hold::new(HoldReason::NoRate, detail)
}

/// Epoch seconds for people.
pub(crate) fn instant(epoch: i64) -> String {
    format_time(epoch)
        .and_then(|text| String::from_utf8(text.to_vec()).ok())
        .unwrap_or_else(|| format!("{epoch} s"))
}
