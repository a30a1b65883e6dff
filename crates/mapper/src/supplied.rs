//! Charges that a site has computed itself, by job.

use crate::number::Number;
use crate::problems::Problems;
use crate::spec::{RulePlace, SuppliedRow};
use crate::text::{cell, shown};
use bstr::BStr;
use parsers::{Run, Scheduler, State};
use std::collections::HashMap;

/// The compiled table `supplied` of a resource.
#[derive(Debug)]
pub(crate) struct Supplied(HashMap<Vec<u8>, Vec<Row>>);

#[derive(Debug)]
struct Row {
    cluster: Option<String>,
    submit: Option<i64>,
    start: Option<i64>,
    charge: Number,
    line: u64,
}

/// What the table says of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SuppliedAnswer<'r> {
    Row {
        charge: &'r Number,
        line: u64,
    },
    /// The job is not in the table, or under conditions that the run does not meet.
    Missing,
    /// Two rows fit.
    Several([u64; 2]),
    /// The row names a job that may have run more than once, and not which run of it.
    WhichRun(u64),
}

impl Supplied {
    pub(crate) fn compile(rows: Vec<SuppliedRow>, resource: usize, problems: &mut Problems) -> Self {
        let mut table: HashMap<Vec<u8>, Vec<Row>> = HashMap::with_capacity(rows.len());
        for row in rows {
            let place = RulePlace::SuppliedRow { resource, line: row.line };
            if row.job_id.is_empty() {
                problems.error(place, "the job_id is empty", None);
            }
            let Some(charge) = Number::decimal(&row.charge) else {
                let message = format!("charge: \"{}\" is no plain number, 0 or above", row.charge);
                problems.error(place, message, None);
                continue;
            };
            let cluster = row.cluster.filter(|cluster| !cluster.is_empty());
            let same = table.entry(row.job_id.clone().into_bytes()).or_default();
            let twice = same.iter().find(|earlier| {
                (&earlier.cluster, earlier.submit, earlier.start) == (&cluster, row.submit, row.start)
            });
            if let Some(earlier) = twice {
                let message = format!("job `{}` is in line {} already", row.job_id, earlier.line);
                let help =
                    "tell runs of one job apart by submit or start, and jobs of two clusters by cluster";
                problems.error(place, message, Some(help));
            }
            same.push(Row { cluster, submit: row.submit, start: row.start, charge, line: row.line });
        }
        Self(table)
    }

    /// What the table says of `run`, which ran on `cluster`.
    pub(crate) fn find(&self, run: &Run<'_>, cluster: Option<&BStr>) -> SuppliedAnswer<'_> {
        let rows = self.0.get(&**run.job_id).map_or(&[][..], Vec::as_slice);
        let mut fitting = rows.iter().filter(|row| row.meets(run, cluster));
        match (fitting.next(), fitting.next()) {
            (None, _) => SuppliedAnswer::Missing,
            (Some(one), Some(other)) => SuppliedAnswer::Several([one.line, other.line]),
            (Some(row), None) if !row.names_one_run(run) => SuppliedAnswer::WhichRun(row.line),
            (Some(row), None) => SuppliedAnswer::Row { charge: &row.charge, line: row.line },
        }
    }
}

impl Row {
    fn meets(&self, run: &Run<'_>, cluster: Option<&BStr>) -> bool {
        self.cluster
            .as_ref()
            .is_none_or(|wanted| cluster.is_some_and(|cluster| **cluster == *wanted.as_bytes()))
            && self.submit.is_none_or(|submit| run.submit == Some(submit))
            && self.start.is_none_or(|start| run.start == Some(start))
    }

    /// False where the job may have run again: the same charge would be taken for each run. Runs of a Slurm job differ in
    /// their submit time, except the parts of a resized one; those of a PBS job share it.
    fn names_one_run(&self, run: &Run<'_>) -> bool {
        let may_be_one_of_many = match run.scheduler {
            Scheduler::Slurm => matches!(
                run.state,
                State::Requeued | State::Preempted | State::NodeFail | State::BootFail | State::Resizing
            ),
            Scheduler::Pbs => *run.state_text == b"R"[..] || run.run_count.is_some_and(|count| count > 1),
        };
        let submit_tells = run.scheduler == Scheduler::Slurm && run.state != State::Resizing;
        !may_be_one_of_many || self.start.is_some() || (submit_tells && self.submit.is_some())
    }
}

impl SuppliedAnswer<'_> {
    /// What is wrong and what to do, where the table says no charge.
    pub(crate) fn problem(&self, run: &Run<'_>) -> Option<String> {
        Some(match self {
            Self::Row { .. } => return None,
            Self::Missing => format!(
                "no row of the table of supplied charges fits job `{}`. Add to it:\njob_id,charge\n{},<charge>",
                shown(run.job_id),
                cell(run.job_id)
            ),
            Self::Several([one, other]) => format!(
                "lines {one} and {other} of the table of supplied charges both fit job `{}`: tell them apart by cluster, submit or start",
                shown(run.job_id)
            ),
            Self::WhichRun(line) => format!(
                "line {line} of the table of supplied charges names job `{}`, which may have run more than once ({}), and not which run: add its `submit` or `start`",
                shown(run.job_id),
                shown(run.state_text)
            ),
        })
    }
}
