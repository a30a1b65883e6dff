//! Which resource a run used, and at which rate.

use crate::formula::{FactorName, Formula, FormulaError, Power};
use crate::interval::Interval;
use crate::keys::{Keys, Times};
use crate::limits::Limits;
use crate::node_types::NodeType;
use crate::number::Number;
use crate::problems::Problems;
use crate::quantity::{Quantity, Subject};
use crate::spec::{RateBy, RateSpec, ResourceSpec, Rounding, RulePlace, When};
use crate::suggest::closest;
use crate::supplied::Supplied;
use crate::text::unfit;
use bstr::BStr;
use chrono::NaiveDate;
use chrono_tz::Tz;
use std::collections::{BTreeMap, HashMap};

/// A compiled `[[resource]]`.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) when: When,
    /// By beginning, without overlaps.
    rates: Vec<Rate>,
    pub(crate) rate_by: RateBy,
    pub(crate) cores_per_node: Option<u64>,
    pub(crate) gpus_per_node: Option<u64>,
    pub(crate) supplied: Option<Supplied>,
    pub(crate) limits: Limits,
}

/// A compiled `[[resource.rate]]`.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Position in the configuration, from 0.
    pub(crate) index: usize,
    pub(crate) from: NaiveDate,
    pub(crate) until: Option<NaiveDate>,
    pub(crate) valid: Interval,
    pub(crate) formula: Formula,
    pub(crate) round: Rounding,
    pub(crate) minimum: Option<Number>,
    pub(crate) minimum_seconds: u64,
    /// By the index of the formula's factors.
    tables: Vec<FactorTable>,
    /// The formula or a factor depends on the type of the run's nodes.
    pub(crate) needs_node_type: bool,
    /// The formula speaks of what is said of a run as a whole, and of no quantity that a phase of it has.
    pub(crate) is_of_whole_run: bool,
    /// All that the formula names was measured, or is decided by the run's keys.
    pub(crate) is_plain: bool,
}

#[derive(Debug)]
struct FactorTable {
    entries: HashMap<Vec<u8>, Number>,
    default: Option<Number>,
}

/// The rate of a resource at some time.
#[derive(Debug)]
pub(crate) enum RateAnswer<'r> {
    Rate(&'r Rate),
    /// No rate is valid then, nor anywhere in this period around it.
    Gap(Interval),
    /// The time that decides is not known.
    NeedsTime,
}

impl RateBy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Start => "start",
            Self::End => "end",
        }
    }

    pub(crate) fn of(self, times: Times) -> Option<i64> {
        match self {
            Self::Submit => times.submit,
            Self::Start => times.start,
            Self::End => times.end,
        }
    }
}

impl When {
    /// The lists with the run's value for each; the names are those of the configuration.
    fn conditions<'w, 'k>(&'w self, keys: &Keys<'k>) -> [(&'static str, &'w [String], Option<&'k BStr>); 5] {
        let Self { cluster, partition, qos, account, user } = self;
        [
            ("cluster", cluster, keys.cluster),
            ("partition", partition, keys.partition),
            ("qos", qos, keys.qos),
            ("account", account, keys.account),
            ("user", user, keys.user),
        ]
    }

    fn lists(&self) -> [&[String]; 5] {
        self.conditions(&Keys::default()).map(|(_, list, _)| list)
    }

    fn meets(&self, keys: &Keys<'_>) -> bool {
        self.conditions(keys).iter().all(|(name, list, value)| {
            list.is_empty()
                || list.iter().any(|wanted| match *name {
                    "account" => keys.is_account(wanted.as_bytes()),
                    _ => value.is_some_and(|value| *wanted.as_bytes() == **value),
                })
        })
    }

    /// The conditions as the configuration writes them, for explanations.
    pub(crate) fn describe(&self) -> String {
        let conditions = self.conditions(&Keys::default());
        let given = conditions.iter().filter(|(_, list, _)| !list.is_empty());
        let text: Vec<_> = given.map(|(name, list, _)| format!("{name} = {}", list.join(" | "))).collect();
        if text.is_empty() { "any run".to_owned() } else { text.join(", ") }
    }

    /// True where some run can meet both.
    fn overlaps(&self, other: &Self) -> bool {
        self.lists().iter().zip(other.lists()).all(|(one, other)| {
            one.is_empty() || other.is_empty() || one.iter().any(|value| other.contains(value))
        })
    }

    /// True where every run that meets `other` meets this.
    fn includes(&self, other: &Self) -> bool {
        self.lists().iter().zip(other.lists()).all(|(wide, narrow)| {
            wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|value| wide.contains(value)))
        })
    }
}

/// The first resource that covers a run.
pub(crate) fn find<'r>(resources: &'r [Resource], keys: &Keys<'_>) -> Option<(usize, &'r Resource)> {
    resources.iter().enumerate().find(|(_, resource)| resource.when.meets(keys))
}

impl Resource {
    /// The rate at the time that `rate_by` names; `valid` shrinks to the times around it with the same answer.
    pub(crate) fn rate(&self, times: Times, valid: &mut Interval) -> RateAnswer<'_> {
        let Some(time) = self.rate_by.of(times) else { return RateAnswer::NeedsTime };
        let mut around = Interval::ALWAYS;
        let found = self.rates.iter().find(|rate| around.decide(rate.valid, time));
        // What is left around the time lies in the rate that decides, or in the gap.
        valid.from = valid.from.max(around.from);
        valid.until = valid.until.min(around.until);
        found.map_or(RateAnswer::Gap(around), RateAnswer::Rate)
    }

    /// True where a formula names what exclusive placement took.
    pub(crate) fn reads_assigned(&self) -> bool {
        let mut quantities = self.rates.iter().flat_map(|rate| &rate.formula.quantities);
        quantities.any(|(quantity, _)| quantity.is_assigned())
    }

    /// `2020-01-01 to 2026-01-01, from 2026-01-01`.
    pub(crate) fn periods(&self) -> String {
        self.rates.iter().map(Rate::period).collect::<Vec<_>>().join(", ")
    }
}

impl Rate {
    pub(crate) fn period(&self) -> String {
        match self.until {
            Some(until) => format!("{} to {until}", self.from),
            None => format!("from {}", self.from),
        }
    }

    /// The factors of a run with `keys`; `None` where a table has neither an entry nor a default, and where each run decides
    /// for itself.
    pub(crate) fn factors(&self, keys: &Keys<'_>) -> Vec<Option<Number>> {
        let uses = self.formula.factors.iter().enumerate();
        uses.map(|(index, factor)| match factor.name {
            _ if factor.name.is_of_run() => None,
            FactorName::Account => self.factor(index, keys.folded_account().as_deref()),
            _ => self.factor(index, factor.name.of(keys).map(|value| &**value)),
        })
        .collect()
    }

    /// What the table of the formula's factor says of a value: its entry, else the default.
    pub(crate) fn factor(&self, index: usize, value: Option<&[u8]>) -> Option<Number> {
        let table = self.tables.get(index)?;
        value.and_then(|value| table.entries.get(value)).or(table.default.as_ref()).cloned()
    }
}

impl FactorName {
    /// The run's value that the table is looked up by, where it is among the keys.
    pub(crate) fn of<'a>(&self, keys: &Keys<'a>) -> Option<&'a BStr> {
        match self {
            Self::Qos => keys.qos,
            Self::Partition => keys.partition,
            Self::Account => keys.account,
            Self::User => keys.user,
            Self::Reservation => keys.reservation,
            Self::Cluster => keys.cluster,
            Self::Group => keys.group,
            Self::Project => keys.project,
            Self::NodeType | Self::GpuType | Self::Resource(_) => None,
        }
    }
}

/// `defaults`: the limits of `[policy]`; `node_types`: for what formulas ask of nodes.
pub(crate) fn compile(
    specs: Vec<ResourceSpec>,
    defaults: &Limits,
    node_types: &[NodeType],
    zone: Tz,
    problems: &mut Problems,
) -> Vec<Resource> {
    let resources: Vec<Resource> = specs
        .into_iter()
        .enumerate()
        .map(|(index, spec)| compile_resource(spec, index, defaults, node_types, zone, problems))
        .collect();
    for (index, later) in resources.iter().enumerate() {
        let earlier = resources.iter().take(index).enumerate();
        for (number, earlier) in earlier.filter(|(_, earlier)| earlier.when.overlaps(&later.when)) {
            let what = if earlier.when.includes(&later.when) {
                "is never reached: every run that it covers is covered by"
            } else {
                "shares some runs with"
            };
            let message = format!(
                "resource {} ({}) {what} resource {} ({}), and the first decides",
                index.saturating_add(1),
                later.name,
                number.saturating_add(1),
                earlier.name
            );
            let help = "put the more special one first, or narrow its `when`";
            problems.warning(RulePlace::Resource { index }, message, Some(help));
        }
    }
    resources
}

fn compile_resource(
    spec: ResourceSpec,
    index: usize,
    defaults: &Limits,
    node_types: &[NodeType],
    zone: Tz,
    problems: &mut Problems,
) -> Resource {
    let place = RulePlace::Resource { index };
    if let Some(why) = unfit(&spec.name) {
        problems.error(place, format!("the resource's name {why}"), None);
    }
    let rate_by = spec.rates.first().map_or(RateBy::Submit, |rate| rate.rate_by);
    if spec.rates.is_empty() {
        problems.error(
            place,
            "the resource has no rate",
            Some("add a [[resource.rate]] with `from` and `charge`"),
        );
    }
    let mut rates = Vec::with_capacity(spec.rates.len());
    for (number, rate) in spec.rates.into_iter().enumerate() {
        let place = RulePlace::Rate { resource: index, rate: number };
        if rate.rate_by != rate_by {
            let message = format!(
                "rate_by = \"{}\" here and \"{}\" in the first rate: a run could fit both or none",
                rate.rate_by.as_str(),
                rate_by.as_str()
            );
            problems.error(place, message, Some("choose all rates of a resource by the same time"));
        }
        rates.extend(compile_rate(rate, index, number, zone, problems));
    }
    rates.sort_by_key(|rate| rate.valid.from);
    for (earlier, later) in rates.iter().zip(rates.iter().skip(1)) {
        let place = RulePlace::Rate { resource: index, rate: later.index };
        if earlier.valid.overlaps(later.valid) {
            let message =
                format!("overlaps the rate {}: both are valid from {}", earlier.period(), later.from);
            problems.error(place, message, Some("end the earlier one with `until`, which is exclusive"));
        } else if earlier.valid.until < later.valid.from {
            let until = earlier.until.map_or_else(String::new, |until| until.to_string());
            let message =
                format!("no rate is valid from {until} to {}: runs of that time are held", later.from);
            problems.warning(place, message, None);
        }
    }
    for (what, count) in [("cores_per_node", spec.cores_per_node), ("gpus_per_node", spec.gpus_per_node)] {
        if count.is_some_and(|count| count == 0 || count > 1 << 20) {
            problems.error(place, format!("{what}: no node has so many"), None);
        }
    }
    let resource = Resource {
        name: spec.name,
        when: spec.when,
        rates,
        rate_by,
        cores_per_node: spec.cores_per_node,
        gpus_per_node: spec.gpus_per_node,
        supplied: spec.supplied.map(|rows| Supplied::compile(rows, index, problems)),
        limits: Limits::compile(spec.limits, place, problems).or(defaults),
    };
    check_quantities(&resource, index, node_types, problems);
    resource
}

/// What formulas name, and no run can have: it would hold every one of them.
fn check_quantities(resource: &Resource, index: usize, node_types: &[NodeType], problems: &mut Problems) {
    let uses = resource
        .rates
        .iter()
        .flat_map(|rate| rate.formula.quantities.iter().map(|(quantity, span)| (rate.index, quantity, span)));
    let uses: Vec<_> = uses.collect();
    for (rate, quantity, span) in &uses {
        let (missing, help) = match quantity {
            Quantity::Supplied => (
                resource.supplied.is_none(),
                "name the table: supplied = \"charges.csv\" in the [[resource]]",
            ),
            Quantity::CoresPerNode | Quantity::ExclusiveCores => (
                resource.cores_per_node.is_none() && node_types.iter().all(|found| found.cores.is_none()),
                "set cores_per_node in the [[resource]], or `cores` in a [[node_type]]",
            ),
            Quantity::GpusPerNode | Quantity::ExclusiveGpus => (
                resource.gpus_per_node.is_none() && node_types.iter().all(|found| found.gpus.is_none()),
                "set gpus_per_node in the [[resource]], or `gpus` in a [[node_type]]",
            ),
            _ => continue,
        };
        if missing {
            let error = FormulaError {
                offset: span.start,
                len: span.len(),
                message: format!("the configuration does not say `{}`", quantity.name()),
                help: Some(help.to_owned()),
            };
            let place = |offset, len| RulePlace::Formula { resource: index, rate: *rate, offset, len };
            problems.formula(vec![error], place);
        }
    }
    if resource.supplied.is_some() && !uses.iter().any(|(_, quantity, _)| **quantity == Quantity::Supplied) {
        let help = "write charge = \"supplied\"";
        let message = "the table of supplied charges is not used by any rate";
        problems.warning(RulePlace::Resource { index }, message, Some(help));
    }
}

/// `None` where the formula cannot be used; what else is wrong is noted beside it.
fn compile_rate(
    spec: RateSpec,
    resource: usize,
    index: usize,
    zone: Tz,
    problems: &mut Problems,
) -> Option<Rate> {
    let place = RulePlace::Rate { resource, rate: index };
    let valid = Interval::of_dates(Some(spec.from), spec.until, zone);
    if valid.is_empty() {
        problems.error(place, "`until` is not after `from`: the rate never holds", None);
    }
    check_rounding(spec.round, place, problems);
    let minimum = spec.minimum.and_then(|text| {
        let minimum = Number::decimal(&text);
        if minimum.is_none() {
            problems.error(place, format!("minimum: \"{text}\" is no plain number, 0 or above"), None);
        }
        minimum
    });
    let formula_place = |offset, len| RulePlace::Formula { resource, rate: index, offset, len };
    let mut tables = compile_tables(spec.factors, resource, index, problems);
    let formula = match Formula::compile(&spec.charge, Subject::Run) {
        Ok(formula) => formula,
        Err(errors) => {
            problems.formula(errors, formula_place);
            return None;
        }
    };
    check_power(formula.power, formula_place(0, spec.charge.len()), problems);
    let mut used = Vec::with_capacity(formula.factors.len());
    for factor in &formula.factors {
        let Some((_, table)) = tables.remove(&factor.name) else {
            used.push(FactorTable { entries: HashMap::new(), default: None });
            let error = FormulaError {
                offset: factor.span.start,
                len: factor.span.len(),
                message: format!("the rate has no table [resource.rate.factor.{}]", factor.name.as_str()),
                help: Some("add it, with `default = 1` for what it does not name".to_owned()),
            };
            problems.formula(vec![error], formula_place);
            continue;
        };
        used.push(table);
    }
    for (name, _) in tables.into_values() {
        let message = format!("the table factor.{name} is not used by the formula");
        let help = format!("multiply by it: ... * factor.{name}");
        problems.warning(RulePlace::Factor { resource, rate: index }, message, Some(&help));
    }
    let of_run = formula.factors.iter().any(|factor| factor.name.is_of_run());
    let of_rules =
        formula.quantities.iter().any(|(named, _)| named.is_of_nodes() || *named == Quantity::Supplied);
    let is_of_whole_run =
        !formula.quantities.is_empty() && formula.quantities.iter().all(|(named, _)| named.is_of_whole_run());
    let needs_node_type = formula.factors.iter().any(|factor| factor.name == FactorName::NodeType)
        || formula.quantities.iter().any(|(named, _)| named.is_of_nodes());
    Some(Rate {
        index,
        from: spec.from,
        until: spec.until,
        valid,
        formula,
        round: spec.round,
        minimum,
        minimum_seconds: spec.minimum_seconds.unwrap_or(0),
        tables: used,
        needs_node_type,
        is_of_whole_run,
        is_plain: !of_run && !of_rules,
    })
}

/// Name of the run's value -> the name that the configuration gives the table, and the table.
fn compile_tables(
    specs: BTreeMap<String, BTreeMap<String, String>>,
    resource: usize,
    rate: usize,
    problems: &mut Problems,
) -> BTreeMap<FactorName, (String, FactorTable)> {
    let place = RulePlace::Factor { resource, rate };
    let mut tables = BTreeMap::new();
    for (name, spec) in specs {
        let Some(factor) = FactorName::parse(&name) else {
            let help = closest(&name, FactorName::names()).map_or_else(
                || format!("tables are {}", FactorName::names().collect::<Vec<_>>().join(", ")),
                |close| format!("did you mean `{close}`?"),
            );
            problems.error(place, format!("factor.{name}: runs have no value named `{name}`"), Some(&help));
            continue;
        };
        let mut table = FactorTable { entries: HashMap::with_capacity(spec.len()), default: None };
        for (value, text) in spec {
            let Some(number) = Number::decimal(&text) else {
                let message = format!("factor.{name}.{value}: \"{text}\" is no plain number, 0 or above");
                problems.error(place, message, None);
                continue;
            };
            if value == "default" {
                table.default = Some(number);
                continue;
            }
            if factor == FactorName::Account && value.bytes().any(|byte| byte.is_ascii_uppercase()) {
                // Sources whose accounts have no case look them up in lower case.
                table
                    .entries
                    .entry(value.to_ascii_lowercase().into_bytes())
                    .or_insert_with(|| number.clone());
            }
            table.entries.insert(value.into_bytes(), number);
        }
        if tables.insert(factor, (name, table)).is_some() {
            problems.error(place, "two of its tables are the same one under two names (queue and partition, priority and resource.job_priority): keep one of them", None);
        }
    }
    tables
}

pub(crate) fn check_rounding(round: Rounding, place: RulePlace, problems: &mut Problems) {
    if round.places > crate::formula::MAX_PLACES {
        problems.error(place, format!("round.places is {}, and at most 18", round.places), None);
    }
}

fn check_power(power: Power, place: RulePlace, problems: &mut Problems) {
    let message = match power {
        Power::Of(1) => return,
        Power::Mixed => "adds or compares hours with plain quantities".to_owned(),
        Power::Plain | Power::Of(0) => "the charge does not depend on how long a run took".to_owned(),
        Power::Of(power) => format!("the charge has hours to the power {power}, not 1"),
    };
    let help =
        "a charge is some amount times hours: for example core_hours, or max(cores, mem_gb / 2) * hours";
    problems.warning(place, message, Some(help));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(partition: &[&str], qos: &[&str]) -> When {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        When { partition: list(partition), qos: list(qos), ..When::default() }
    }

    #[test]
    fn overlap_and_inclusion() {
        for (one, other, overlaps, includes) in [
            (when(&["cpu"], &[]), when(&["gpu"], &[]), false, false),
            (when(&["cpu", "shared"], &[]), when(&["cpu"], &[]), true, true),
            (when(&["cpu"], &[]), when(&["cpu", "shared"], &[]), true, false),
            (when(&[], &[]), when(&["cpu"], &["high"]), true, true),
            (when(&["cpu"], &["high"]), when(&["cpu"], &["low"]), false, false),
            (when(&["cpu"], &[]), when(&[], &["high"]), true, false),
            (when(&[], &[]), when(&[], &[]), true, true),
        ] {
            assert_eq!(one.overlaps(&other), overlaps, "{one:?} {other:?}");
            assert_eq!(one.includes(&other), includes, "{one:?} {other:?}");
        }
    }
}
