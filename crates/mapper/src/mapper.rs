//! Maps runs to records: the order of decisions, and the cache that makes them once per combination.

use crate::cache::Plans;
use crate::identity::{RunKey, parent, write_key};
use crate::keys::{Keys, Times};
use crate::outcome::{Hold, HoldReason, MappedRun, Outcome, RunFacts, Skip, SkipReason};
use crate::plan::{Plan, Verdict, no_time};
use crate::quantity::{Measures, Quantity};
use crate::rules::Rules;
use crate::source::SourceRules;
use crate::terms::Terms;
use crate::text::{MAX_FIELD, shown, unfit};
use amie_usage::wire::format_time;
use amie_usage::{ComputeAttributes, ComputeUsageRecord, Decimal};
use bstr::{BStr, ByteSlice};
use parsers::{Run, State};
use std::borrow::Cow;

/// Maps the runs of one source. One per worker: it remembers what the rules said of each combination of names.
///
/// ```no_run
/// # fn example(rules: &mapper::Rules, source: &mapper::SourceRules, runs: &[parsers::Run<'_>]) {
/// use mapper::{Mapper, Outcome};
///
/// let mut mapper = Mapper::new(rules, source);
/// for run in runs {
///     match mapper.map(run) {
///         Outcome::Mapped(mapped) => println!("{} {}", mapped.key, mapped.record.charge),
///         Outcome::Held(hold) => eprintln!("{}: {}", hold.reason, hold.detail),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Mapper<'r> {
    rules: &'r Rules,
    source: &'r SourceRules,
    plans: Plans<'r>,
    /// The key of the run at hand: records borrow it.
    key: String,
}

impl<'r> Mapper<'r> {
    /// A mapper with nothing remembered.
    #[must_use]
    pub fn new(rules: &'r Rules, source: &'r SourceRules) -> Self {
        Self { rules, source, plans: Plans::default(), key: String::new() }
    }

    /// The ledger's key of `run`, whatever becomes of it.
    #[must_use]
    pub fn key(&self, run: &Run<'_>) -> RunKey {
        RunKey::of(run, self.source.cluster.as_deref().map(BStr::new))
    }

    pub(crate) fn rules(&self) -> &'r Rules {
        self.rules
    }

    pub(crate) fn source(&self) -> &'r SourceRules {
        self.source
    }

    /// Makes a record of `run`, which is of kind [`Run`](parsers::Kind::Run), or says why there is none.
    ///
    /// Decided in this order: ended, allocated, forgeable, project, user, resource, rate, what the parser found, charge.
    pub fn map<'m>(&'m mut self, run: &'m Run<'m>) -> Outcome<'m> {
        let Self { rules, source, plans, key } = self;
        if run.state.is_live() || run.end.is_none() {
            return Outcome::Skipped(Skip { reason: SkipReason::NotEnded });
        }
        if !run.allocated || run.start.is_none() {
            return Outcome::Skipped(Skip { reason: SkipReason::NothingAllocated });
        }
        if source.hold_forgeable {
            let detail = "text of this source can be forged by users, and its configuration says `forgeable = \"hold\"`: compare the run with `sacct -j`, or read the source by `collect`";
            return Outcome::Held(Hold::new(HoldReason::Forgeable, detail));
        }
        let keys = Keys::of(run, source);
        let plan = plans.get(rules, &keys, Times::of(run));
        let terms = match &plan.verdict {
            Verdict::Charge(terms) => terms,
            Verdict::Skip(reason) => return Outcome::Skipped(Skip { reason: *reason }),
            Verdict::Hold(hold) => return Outcome::Held(hold.clone()),
            Verdict::NeedsTime(what) => return Outcome::Held(finding(run).unwrap_or_else(|| no_time(what))),
        };
        if let Some(hold) = finding(run) {
            return Outcome::Held(hold);
        }
        let times = match record_times(run) {
            Ok(times) => times,
            Err(hold) => return Outcome::Held(hold),
        };
        let charge = match terms.charge(&Measures::of(run), &Measures::of_phases(run), rules.policy.of(run).1)
        {
            Ok(charge) => charge,
            Err(hold) => return Outcome::Held(hold),
        };
        key.clear();
        write_key(key, run, keys.cluster);
        let record = match record(run, &keys, terms, times, charge, key, source) {
            Ok(record) => record,
            Err(hold) => return Outcome::Held(hold),
        };
        let mapped = MappedRun {
            key: RunKey::from_text(key.clone()),
            record,
            facts: RunFacts {
                start: times.start,
                end: times.end,
                elapsed: run.elapsed,
                requeued: run.state == State::Requeued,
            },
        };
        match terms.resource.limits.check(run, charge) {
            Some(hold) => Outcome::HeldForApproval(mapped, hold),
            None if charge.is_zero() && !rules.policy.send_zero => Outcome::Zero(mapped),
            None => Outcome::Mapped(mapped),
        }
    }

    pub(crate) fn plan(&self, run: &Run<'_>) -> Plan<'r> {
        self.rules.plan(&Keys::of(run, self.source), Times::of(run))
    }
}

/// What the parser found, or a state that nobody knows.
fn finding(run: &Run<'_>) -> Option<Hold> {
    if let Some(finding) = run.finding {
        let detail = format!(
            "{}. Look at the source's text, and waive the run (`held waive --reason`) or correct the source",
            finding.message()
        );
        return Some(Hold::new(HoldReason::Finding(finding), detail));
    }
    (run.state == State::Unknown).then(|| {
        let detail = format!("the state `{}` is not one that this version knows", shown(run.state_text));
        Hold::new(HoldReason::UnknownState, detail)
    })
}

/// The times of a record, all of them there and in the years 0 to 9999.
#[derive(Debug, Clone, Copy)]
struct RecordTimes {
    submit: i64,
    start: i64,
    end: i64,
}

fn record_times(run: &Run<'_>) -> Result<RecordTimes, Hold> {
    let submit = run.submit.ok_or_else(|| no_time("submit"))?;
    let start = run.start.ok_or_else(|| no_time("start"))?;
    let end = run.end.ok_or_else(|| no_time("end"))?;
    let (least, most) = (submit.min(start).min(end), submit.max(start).max(end));
    // Nearly all times lie between 1970 and 9999.
    let writable = (0..=253_402_300_799).contains(&least) && most <= 253_402_300_799
        || format_time(least).is_some() && format_time(most).is_some();
    if !writable {
        let detail = "a time lies outside the years 0 to 9999: look at the source's text";
        return Err(Hold::new(HoldReason::Inconsistent, detail));
    }
    if end < start {
        let detail = "the run ends before it starts: look at the source's text and its timezone";
        return Err(Hold::new(HoldReason::Inconsistent, detail));
    }
    Ok(RecordTimes { submit, start, end })
}

fn record<'m>(
    run: &'m Run<'m>,
    keys: &Keys<'m>,
    terms: &'m Terms<'_>,
    times: RecordTimes,
    charge: Decimal,
    key: &'m str,
    source: &SourceRules,
) -> Result<ComputeUsageRecord<'m>, Hold> {
    if keys.cluster.is_none() {
        let detail = "neither the run nor its source names a cluster, so that runs of two clusters could not be told apart: set `cluster` in [[source]]";
        return Err(Hold::new(HoldReason::Identity, detail));
    }
    let unsendable = |what: &str, value: &[u8], why: &str| {
        Hold::new(HoldReason::Identity, format!("{what} `{}` {why}, and cannot be sent", shown(value)))
    };
    let local_record_id = source
        .local_record_id
        .fill(run, keys.cluster)
        .map_err(|why| unsendable("LocalRecordID of", run.job_id, why))?;
    let parent_record_id = match (&source.parent_record_id, parent(run)) {
        (Some(template), Some(parent)) => {
            let filled = template.fill_parent(run, keys.cluster, &parent);
            Some(filled.map_err(|why| unsendable("ParentRecordID of", run.job_id, why))?)
        }
        _ => None,
    };
    if key.len() > MAX_FIELD {
        return Err(unsendable("LocalReference", key.as_bytes(), "is longer than 255 characters"));
    }
    let Some(node_count) = run.nodes else {
        let detail = format!(
            "the record needs NodeCount, and the source does not say it: {}",
            Quantity::Nodes.where_from()
        );
        return Err(Hold::new(HoldReason::MissingQuantity, detail));
    };
    let queue = keys.partition.map(|queue| queue.to_str_lossy());
    if let Some(queue) = &queue
        && let Some(why) = unfit(queue)
    {
        return Err(unsendable("the queue", queue.as_bytes(), why));
    }
    Ok(ComputeUsageRecord {
        username: Cow::Borrowed(&*terms.username),
        local_project_id: Cow::Borrowed(&*terms.project),
        local_record_id,
        resource: Cow::Borrowed(&terms.resource.name),
        submit_time: times.submit,
        start_time: times.start,
        end_time: times.end,
        charge,
        attributes: ComputeAttributes {
            node_count,
            cpu_core_count: run.cores,
            job_name: if source.send_job_name { run.name.and_then(job_name) } else { None },
            memory: None,
            queue,
        },
        parent_record_id,
        local_reference: Some(Cow::Borrowed(key)),
    })
}

/// A job's name is written by its user and identifies nothing: what cannot be sent in it is replaced, not held.
fn job_name(name: &BStr) -> Option<Cow<'_, str>> {
    let text = name.to_str_lossy();
    if text.is_empty() {
        return None;
    }
    if unfit(&text).is_none() {
        return Some(text);
    }
    let clean = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    Some(Cow::Owned(clean.take(MAX_FIELD).collect()))
}
