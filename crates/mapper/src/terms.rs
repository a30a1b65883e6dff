//! How a run is charged once its project, user, resource and rate are decided: formula, policy, minimum, rounding.

use crate::formula::evaluate::{Inputs, NoValue, Trace};
use crate::formula::{FactorName, Formula};
use crate::node_types::{self, NodeType, NodeTypeAnswer};
use crate::number::{Direction, Number};
use crate::outcome::{Hold, HoldReason};
use crate::quantity::{Measures, Quantity, Values};
use crate::resources::{Rate, Resource};
use crate::spec::{Charged, Rounding};
use crate::supplied::SuppliedAnswer;
use crate::text::{shown, shown_or_dash};
use amie_usage::Decimal;
use bstr::BStr;
use parsers::Run;
use std::borrow::Cow;

/// How a run is charged.
#[derive(Debug)]
pub(crate) struct Terms<'r> {
    pub(crate) project: Box<str>,
    pub(crate) username: Box<str>,
    pub(crate) resource: &'r Resource,
    pub(crate) rate: &'r Rate,
    /// By the index of the formula's factors; those that each run decides for itself are `None` here.
    pub(crate) factors: Vec<Option<Number>>,
    /// The keys' values of the factors, for messages.
    pub(crate) factor_values: Vec<String>,
    /// The types that the run's nodes can be of.
    pub(crate) node_types: Vec<&'r NodeType>,
    /// The run's cluster, or its source's.
    pub(crate) cluster: Option<Box<[u8]>>,
}

impl<'r> Terms<'r> {
    /// `phases`: of a run that gave parts of its allocation back, else empty.
    pub(crate) fn charge(
        &self,
        measures: &Measures<'_>,
        phases: &[Measures<'_>],
        policy: Charged,
    ) -> Result<Decimal, Hold> {
        let least = self.rate.minimum_seconds;
        if self.rate.is_plain && phases.is_empty() {
            let pricing = self.pricing(&self.factors, policy);
            let charge = pricing.charge(&measures.at_least(least), &mut ());
            return charge.map_err(|fault| self.explain(&fault, None));
        }
        let ruled = self.ruled(measures.at_least(least));
        let factors = self.factors(&ruled);
        let pricing = self.pricing(&factors, policy);
        let mut phases = phases.to_vec();
        Measures::phases_at_least(&mut phases, least);
        let charge = match self.parts(&ruled, &phases).as_slice() {
            [] => pricing.charge(&ruled, &mut ()),
            parts => pricing.charge_phases(parts, &mut ()),
        };
        charge.map_err(|fault| self.explain(&fault, Some(&ruled)))
    }

    /// The phases that a run is charged by, with what rules add to each; none where the formula speaks of the run as a whole
    /// and of nothing else.
    pub(crate) fn parts<'a>(&'a self, ruled: &Ruled<'a>, phases: &[Measures<'a>]) -> Vec<Ruled<'a>> {
        if self.rate.is_of_whole_run {
            return Vec::new();
        }
        phases.iter().map(|phase| Ruled { measures: *phase, ..ruled.clone() }).collect()
    }

    pub(crate) fn pricing<'a>(&'a self, factors: &'a [Option<Number>], policy: Charged) -> Pricing<'a> {
        Pricing {
            formula: &self.rate.formula,
            factors,
            policy,
            minimum: self.rate.minimum.as_ref(),
            round: self.rate.round,
        }
    }

    /// What rules add to what was measured.
    pub(crate) fn ruled<'a>(&'a self, measures: Measures<'a>) -> Ruled<'a> {
        let node_type = if self.rate.needs_node_type {
            node_types::decide(&self.node_types, measures.run)
        } else {
            NodeTypeAnswer::None
        };
        let supplied = self
            .resource
            .supplied
            .as_ref()
            .zip(measures.run)
            .map(|(table, run)| table.find(run, self.cluster.as_deref().map(BStr::new)));
        Ruled { measures, node_type, supplied, resource: self.resource }
    }

    /// All factors of a run, those that it decides itself included.
    pub(crate) fn factors(&self, ruled: &Ruled<'_>) -> Vec<Option<Number>> {
        let mut factors = self.factors.clone();
        let uses = self.rate.formula.factors.iter().enumerate();
        for (index, (slot, (_, factor))) in factors.iter_mut().zip(uses).enumerate() {
            match factor.name {
                FactorName::GpuType => *slot = self.gpu_factor(index, ruled.measures.run),
                _ if factor.name.is_of_run() && ruled.node_problem(&factor.name).is_none() => {
                    *slot = self.rate.factor(index, ruled.factor_value(&factor.name));
                }
                _ => {}
            }
        }
        factors
    }

    /// The mean of the factors of the run's GPUs; of those that no type is said of, the default. 0 where it has no GPUs.
    fn gpu_factor(&self, index: usize, run: Option<&Run<'_>>) -> Option<Number> {
        let run = run?;
        let gpus = run.gpus?;
        if gpus == 0 {
            return Some(Number::ZERO);
        }
        let mut untyped = gpus;
        let mut sum = Number::ZERO;
        for (name, count) in run.gpu_types() {
            untyped = untyped.checked_sub(count)?;
            sum = sum.add(&self.rate.factor(index, Some(name))?.multiply(&Number::integer(count)));
        }
        if untyped > 0 {
            sum = sum.add(&self.rate.factor(index, None)?.multiply(&Number::integer(untyped)));
        }
        sum.divide(&Number::integer(gpus))
    }

    /// `ruled`: of the run whose formula failed, where rules add to what was measured.
    pub(crate) fn explain(&self, fault: &Fault, ruled: Option<&Ruled<'_>>) -> Hold {
        let problem = match (fault, ruled) {
            (Fault::NoValue(NoValue::Quantity(Quantity::Supplied)), Some(ruled)) => ruled.supplied_problem(),
            (Fault::NoValue(NoValue::Quantity(quantity)), Some(ruled)) if quantity.is_of_nodes() => {
                ruled.node_type.problem()
            }
            (Fault::NoValue(NoValue::Factor(index)), Some(ruled)) => {
                self.rate.formula.factors.get(*index).and_then(|factor| ruled.node_problem(&factor.name))
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Hold::new(HoldReason::MissingQuantity, problem);
        }
        let describe = |index: usize| {
            let Some(factor) = self.rate.formula.factors.get(index) else {
                return (Cow::from("?"), "-".to_owned());
            };
            let value = match ruled {
                Some(ruled) if factor.name == FactorName::GpuType => ruled.gpu_types(),
                Some(ruled) if factor.name.is_of_run() => {
                    shown_or_dash(ruled.factor_value(&factor.name).map(BStr::new))
                }
                _ => self.factor_values.get(index).cloned().unwrap_or_else(|| "-".to_owned()),
            };
            (factor.name.as_str(), value)
        };
        fault.explain(&self.resource.name, &self.rate.formula, &describe)
    }
}

/// What was measured, with what rules add to it: counts of whole nodes, and the charge that the site supplied.
#[derive(Debug, Clone)]
pub(crate) struct Ruled<'a> {
    pub(crate) measures: Measures<'a>,
    pub(crate) node_type: NodeTypeAnswer<'a>,
    /// `None` where the resource has no table.
    pub(crate) supplied: Option<SuppliedAnswer<'a>>,
    resource: &'a Resource,
}

impl Ruled<'_> {
    /// Cores or GPUs of a node: what the node's type says, else the resource.
    fn per_node(&self, of_type: fn(&NodeType) -> Option<u64>, of_resource: Option<u64>) -> Option<u64> {
        match &self.node_type {
            NodeTypeAnswer::Of(found) => of_type(found).or(of_resource),
            NodeTypeAnswer::None => of_resource,
            NodeTypeAnswer::Several(_) | NodeTypeAnswer::NoHosts(_) => None,
        }
    }

    fn cores_per_node(&self) -> Option<Number> {
        self.per_node(|found| found.cores, self.resource.cores_per_node).map(Number::integer)
    }

    fn gpus_per_node(&self) -> Option<Number> {
        self.per_node(|found| found.gpus, self.resource.gpus_per_node).map(Number::integer)
    }

    fn all_nodes(&self, per_node: Option<Number>) -> Option<Number> {
        Some(Number::integer(self.measures.nodes?).multiply(&per_node?))
    }

    /// The run's own value that a factor table is looked up by.
    fn factor_value(&self, name: &FactorName) -> Option<&[u8]> {
        match (name, &self.node_type) {
            (FactorName::NodeType, NodeTypeAnswer::Of(found)) => Some(found.name.as_bytes()),
            (FactorName::Resource(name), _) => {
                self.measures.run?.resource(name.as_bytes()).map(|text| &**text)
            }
            _ => None,
        }
    }

    /// The types of the run's GPUs, for messages.
    fn gpu_types(&self) -> String {
        let run = self.measures.run;
        let types: Vec<_> = run.iter().flat_map(|run| run.gpu_types()).map(|(name, _)| shown(name)).collect();
        if types.is_empty() { "-".to_owned() } else { types.join(", ") }
    }

    fn node_problem(&self, name: &FactorName) -> Option<String> {
        if *name == FactorName::NodeType { self.node_type.problem() } else { None }
    }

    fn supplied_problem(&self) -> Option<String> {
        self.supplied.as_ref()?.problem(self.measures.run?)
    }
}

impl Values for Ruled<'_> {
    fn value(&self, quantity: &Quantity) -> Option<Number> {
        match quantity {
            Quantity::CoresPerNode => self.cores_per_node(),
            Quantity::GpusPerNode => self.gpus_per_node(),
            Quantity::ExclusiveCores => self.all_nodes(self.cores_per_node()),
            Quantity::ExclusiveGpus => self.all_nodes(self.gpus_per_node()),
            Quantity::Supplied => match &self.supplied {
                Some(SuppliedAnswer::Row { charge, .. }) => Some((*charge).clone()),
                _ => None,
            },
            quantity => self.measures.value(quantity),
        }
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
    pub(crate) fn charge_phases<V: Values, T: Trace>(
        &self,
        phases: &[V],
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
    pub(crate) fn explain(
        &self,
        resource: &str,
        formula: &Formula,
        describe: &dyn Fn(usize) -> (Cow<'static, str>, String),
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
