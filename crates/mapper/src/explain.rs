//! Why a run is charged what it is: every rule that was asked, and the arithmetic with numbers put in.

use crate::formula::Formula;
use crate::formula::evaluate::Trace;
use crate::identity::RunKey;
use crate::keys::{Keys, Times};
use crate::mapper::Mapper;
use crate::number::{Direction, Number};
use crate::outcome::{Hold, MappedRun, Outcome};
use crate::plan::{Verdict, instant};
use crate::projects::ProjectAnswer;
use crate::quantity::Measures;
use crate::resources;
use crate::spec::{Charged, RoundingMode};
use crate::supplied::SuppliedAnswer;
use crate::terms::{Pricing, Terms};
use crate::text::{shown, shown_or_dash};
use crate::users::UserAnswer;
use bstr::BStr;
use parsers::{Run, Scheduler};
use std::fmt;
use std::ops::Range;

/// How one run is mapped, step by step, for people. `Display` gives it as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The run's key in the ledger.
    pub key: RunKey,
    /// In the order in which it is decided; sections after a decision that ends it are absent.
    pub sections: Vec<Section>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `Run`, `Project`, `User`, `Resource`, `Rate`, `Charge`, `Result`.
    pub title: &'static str,
    /// What there is to say.
    pub lines: Vec<Line>,
}

/// One fact: `cores = 3`. Text from the source is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub label: String,
    /// What it is.
    pub text: String,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    fn line(&mut self, label: impl Into<String>, text: impl Into<String>) -> &mut Self {
        self.lines.push(Line { label: label.into(), text: text.into() });
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        for section in &self.sections {
            let widest = section.lines.iter().map(|line| line.label.chars().count()).max().unwrap_or(0);
            // A long part of a formula does not push the others' values off the screen.
            let width = widest.min(44);
            for (number, line) in section.lines.iter().enumerate() {
                let title = if number == 0 { section.title } else { "" };
                write!(f, "\n{title:<10}{:<width$}  ", line.label)?;
                for (number, text) in line.text.lines().enumerate() {
                    if number > 0 {
                        write!(f, "\n{:indent$}{text}", "", indent = width.saturating_add(12))?;
                    } else {
                        f.write_str(text)?;
                    }
                }
            }
        }
        f.write_str("\n")
    }
}

impl Mapper<'_> {
    /// How `run` is mapped, step by step. The last section is what [`Mapper::map`] makes of it.
    pub fn explain(&mut self, run: &Run<'_>) -> Explanation {
        let keys = Keys::of(run, self.source());
        let mut sections = vec![describe_run(run, &keys)];
        sections.extend(self.decisions(run, &keys));
        let key = self.key(run);
        sections.push(result(&self.map(run)));
        Explanation { key, sections }
    }

    /// Project, user, resource, rate and charge, as far as it comes to them.
    fn decisions(&self, run: &Run<'_>, keys: &Keys<'_>) -> Vec<Section> {
        let mut sections = Vec::new();
        let ended = !run.state.is_live() && run.end.is_some() && run.allocated && run.start.is_some();
        if !ended || self.source().hold_forgeable {
            return sections;
        }
        let (rules, times) = (self.rules(), Times::of(run));
        let mut around = crate::interval::Interval::ALWAYS;

        let mut project = Section::new("Project");
        let account = match run.scheduler {
            Scheduler::Slurm => "account",
            Scheduler::Pbs => "account (by project_from)",
        };
        project.line(account, shown_or_dash(keys.account));
        let answer = rules.projects.find(keys, times.submit, &mut around);
        let (found, pi, text) = match &answer {
            ProjectAnswer::Row { project, pi, line } => {
                (true, *pi, format!("{project}, by line {line} of the project table"))
            }
            ProjectAnswer::Pattern { project, index } => {
                (true, None, format!("{project}, by pattern {} of projects.match", index.saturating_add(1)))
            }
            ProjectAnswer::Skip { index } => {
                (false, None, format!("not reported, by rule {} of projects.skip", index.saturating_add(1)))
            }
            ProjectAnswer::NeedsSubmit => {
                (false, None, "depends on the submit time, which is not known".to_owned())
            }
            ProjectAnswer::Unfit { .. } | ProjectAnswer::Unknown | ProjectAnswer::NoAccount => {
                (false, None, "none".to_owned())
            }
        };
        project.line("project", text);
        sections.push(project);
        if !found {
            return sections;
        }

        let mut user = Section::new("User");
        user.line("user", shown_or_dash(keys.user));
        let answer = rules.users.find(keys, pi, times.submit, &mut around);
        let text = match &answer {
            UserAnswer::Row { username, line } => format!("{username}, by line {line} of the user table"),
            UserAnswer::Same { username } => {
                format!("{username}, as the scheduler has it: there is no user table")
            }
            UserAnswer::Pi { username } => {
                format!("{username}, the PI of the project: the user is in users.pi_fallback")
            }
            UserAnswer::NeedsSubmit => "depends on the submit time, which is not known".to_owned(),
            UserAnswer::Unfit { .. } | UserAnswer::Unknown | UserAnswer::NoUser | UserAnswer::NoPi => {
                "none".to_owned()
            }
        };
        user.line("username", text);
        sections.push(user);
        if answer.username().is_none() {
            return sections;
        }

        let mut section = Section::new("Resource");
        let Some((index, resource)) = resources::find(&rules.resources, keys) else {
            section.line("resource", "none covers this run");
            sections.push(section);
            return sections;
        };
        section.line("resource", resource.name.as_str());
        let covers = format!("{} (resource {})", resource.when.describe(), index.saturating_add(1));
        section.line("covers", covers);
        sections.push(section);

        let plan = self.plan(run);
        let mut rate = Section::new("Rate");
        let by = resource.rate_by;
        let time = by.of(times).map_or_else(|| "not known".to_owned(), instant);
        rate.line(format!("by {} time", by.as_str()), time);
        let Verdict::Charge(terms) = &plan.verdict else {
            rate.line("rate", format!("none is valid then ({})", resource.periods()));
            sections.push(rate);
            return sections;
        };
        rate.line(
            "valid",
            format!(
                "{}, midnight in {} (rate {})",
                terms.rate.period(),
                rules.timezone(),
                terms.rate.index.saturating_add(1)
            ),
        );
        rate.line("formula", terms.rate.formula.text.trim());
        sections.push(rate);
        sections.push(charge(run, terms, rules.policy.of(run)));
        sections
    }
}

fn describe_run(run: &Run<'_>, keys: &Keys<'_>) -> Section {
    let mut section = Section::new("Run");
    section.line("job", shown(run.job_id)).line("state", shown(run.state_text));
    let names: [(&str, Option<&BStr>); 6] = [
        ("cluster", keys.cluster),
        ("partition", keys.partition),
        ("qos", keys.qos),
        ("group", keys.group),
        ("project", keys.project),
        ("reservation", keys.reservation),
    ];
    for (label, name) in names {
        if let Some(name) = name {
            section.line(label, shown(name));
        }
    }
    for (label, time) in [("submit", run.submit), ("start", run.start), ("end", run.end)] {
        section.line(label, time.map_or_else(|| "not known".to_owned(), instant));
    }
    let seconds = |seconds: Option<u64>| seconds.map(|seconds| format!("{seconds} s"));
    let count = |count: Option<u64>| count.map(|count| count.to_string());
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| format!("{bytes} bytes"));
    for (label, value) in [
        ("elapsed", seconds(run.elapsed)),
        ("suspended", seconds(run.suspended)),
        ("nodes", count(run.nodes)),
        ("cores", count(run.cores)),
        ("gpus", count(run.gpus)),
        ("memory", bytes(run.mem_bytes)),
        ("billing", count(run.billing)),
        ("types of GPUs", gpu_types(run)),
        ("hosts", run.node_list.map(|list| shown(list))),
    ] {
        if let Some(value) = value {
            section.line(label, value);
        }
    }
    for (index, phase) in Measures::of_phases(run).iter().enumerate() {
        section.line(format!("phase {}", index.saturating_add(1)), allocation(phase));
    }
    section
}

fn gpu_types(run: &Run<'_>) -> Option<String> {
    let types: Vec<_> = run.gpu_types().map(|(name, count)| format!("{count} {}", shown(name))).collect();
    (!types.is_empty()).then(|| types.join(", "))
}

/// Notes every step of an evaluation as a line.
struct Steps<'a> {
    formula: &'a Formula,
    phases: &'a [Measures<'a>],
    section: Section,
    /// Lines before those of the phase at hand.
    before: usize,
}

impl Steps<'_> {
    /// A part that occurs twice in a formula has one value, and one line.
    fn note(&mut self, span: &Range<usize>, text: String) {
        let label = self.formula.part(span).split_whitespace().collect::<Vec<_>>().join(" ");
        if !self.section.lines.iter().skip(self.before).any(|line| line.label == label) {
            self.section.line(label, text);
        }
    }
}

impl Trace for Steps<'_> {
    fn number(&mut self, span: &Range<usize>, value: &Number) {
        self.note(span, exact(value));
    }

    fn condition(&mut self, span: &Range<usize>, holds: bool) {
        self.note(span, if holds { "true" } else { "false" }.to_owned());
    }

    fn phase(&mut self, index: usize) {
        let text = self.phases.get(index).map(allocation).unwrap_or_default();
        self.section.line(format!("phase {}", index.saturating_add(1)), text);
        self.before = self.section.lines.len();
    }

    fn sum(&mut self, value: &Number) {
        self.section.line("sum of the phases", exact(value));
    }
}

/// `20 s on 6 cores, 3 nodes, 0 GPUs, 3221225472 bytes`.
fn allocation(measures: &Measures<'_>) -> String {
    let counts = [
        (measures.cores, "core"),
        (measures.nodes, "node"),
        (measures.gpus, "GPU"),
        (measures.mem_bytes, "byte"),
    ];
    let said = counts.iter().filter_map(|(count, unit)| Some((count.as_ref()?, unit)));
    let counts: Vec<_> =
        said.map(|(count, unit)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" })).collect();
    let seconds = measures.seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
    format!("{seconds} s on {}", counts.join(", "))
}

/// The exact value; beside a fraction its first digits.
fn exact(value: &Number) -> String {
    let text = value.to_string();
    match value.to_decimal(12, Direction::Down) {
        Some(decimal) if text.contains('/') => format!("= {text} = {decimal}..."),
        _ => format!("= {text}"),
    }
}

fn charge(run: &Run<'_>, terms: &Terms<'_>, (ended, policy): (&'static str, Charged)) -> Section {
    let rate = terms.rate;
    let measures = Measures::of(run);
    let charged = measures.at_least(rate.minimum_seconds);
    let mut phases = Measures::of_phases(run);
    Measures::phases_at_least(&mut phases, rate.minimum_seconds);
    let ruled = terms.ruled(charged);
    let factors = terms.factors(&ruled);
    let parts = terms.parts(&ruled, &phases);
    let shown = if parts.is_empty() { &[][..] } else { &phases };
    let mut steps =
        Steps { formula: &rate.formula, phases: shown, section: Section::new("Charge"), before: 0 };
    if rate.needs_node_type {
        steps.section.line("node type", ruled.node_type.describe());
    }
    if let Some(SuppliedAnswer::Row { line, .. }) = &ruled.supplied {
        steps.section.line("supplied charge", format!("by line {line} of the table of supplied charges"));
    }
    if charged != measures {
        let text = format!("{} s are charged", rate.minimum_seconds);
        steps.section.line("minimum_seconds", text);
    }
    let unpriced = Pricing {
        formula: &rate.formula,
        factors: &factors,
        policy: Charged::Charge,
        minimum: None,
        round: rate.round,
    };
    let pricing = Pricing { policy, minimum: rate.minimum.as_ref(), ..unpriced };
    let by = |pricing: &Pricing<'_>, steps: &mut Steps<'_>| match parts.as_slice() {
        [] => pricing.charge(&ruled, steps),
        parts => pricing.charge_phases(parts, steps),
    };
    let charge = by(&pricing, &mut steps);
    let mut section = std::mem::replace(&mut steps.section, Section::new("Charge"));
    match charge {
        Err(fault) => {
            let Hold { detail, .. } = terms.explain(&fault, Some(&ruled));
            section.line("no value", detail);
        }
        Ok(charge) => {
            if policy == Charged::Zero {
                section.line(format!("policy.{ended}"), "zero: runs that end so are not charged");
            }
            if let Some(minimum) = &rate.minimum {
                let lifted = by(&unpriced, &mut steps).is_ok_and(|before| before != charge);
                let text = match () {
                    () if charge.is_zero() => "does not lift a zero",
                    () if lifted => "lifts the charge",
                    () => "is below the charge",
                };
                section.line("minimum", format!("{minimum} {text}"));
            }
            let mode = match rate.round.mode {
                RoundingMode::HalfEven => "half-even",
                RoundingMode::HalfUp => "half-up",
                RoundingMode::Up => "up",
                RoundingMode::Down => "down",
            };
            section.line(format!("rounded to {} places, {mode}", rate.round.places), format!("= {charge}"));
        }
    }
    section
}

fn result(outcome: &Outcome<'_>) -> Section {
    let mut section = Section::new("Result");
    let held = |section: &mut Section, hold: &Hold| {
        section.line("held", format!("{}: {}", hold.reason, hold.detail));
    };
    match outcome {
        Outcome::Mapped(mapped) => record(&mut section, mapped),
        Outcome::Zero(mapped) => {
            section.line("skipped", "zero-charge: sent only if an earlier charge of this run was sent");
            record(&mut section, mapped);
        }
        Outcome::Skipped(skip) => {
            section.line("skipped", skip.reason.code());
        }
        Outcome::Held(hold) => held(&mut section, hold),
        Outcome::HeldForApproval(mapped, hold) => {
            held(&mut section, hold);
            record(&mut section, mapped);
        }
    }
    section
}

fn record(section: &mut Section, mapped: &MappedRun<'_>) {
    let record = &mapped.record;
    section
        .line("charge", record.charge.to_string())
        .line("LocalProjectID", &*record.local_project_id)
        .line("Username", &*record.username)
        .line("Resource", &*record.resource)
        .line("LocalRecordID", &*record.local_record_id)
        .line("SubmitTime", instant(record.submit_time));
}
