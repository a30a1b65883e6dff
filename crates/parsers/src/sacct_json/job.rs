//! One element of `jobs`: what is read of it, and the run that it says.

use super::value::{Loose, Name, Number, Resources, Standing, Status, Text};
use crate::run::{Assigned, Finding, Kind, Place, Reason, Requested, Run, Scheduler, State};
use bstr::BStr;
use serde::Deserialize;
use std::fmt::Write;

/// What is read of an element; every other key is passed over, `steps` among them.
#[derive(Deserialize)]
pub(super) struct Job<'a> {
    #[serde(default)]
    job_id: Number,
    #[serde(borrow, default)]
    array: Option<Array<'a>>,
    #[serde(default)]
    het: Option<Het>,
    #[serde(borrow, default)]
    cluster: Option<Text<'a>>,
    #[serde(borrow, default)]
    user: Option<Text<'a>>,
    #[serde(borrow, default)]
    account: Option<Text<'a>>,
    #[serde(borrow, default)]
    partition: Option<Text<'a>>,
    #[serde(borrow, default)]
    qos: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    reservation: Option<Reservation<'a>>,
    #[serde(borrow, default)]
    state: Option<Current<'a>>,
    #[serde(default)]
    time: Option<Times>,
    #[serde(default)]
    exit_code: Option<ExitCode>,
    #[serde(borrow, default)]
    nodes: Option<Text<'a>>,
    #[serde(default)]
    allocation_nodes: Number,
    #[serde(default)]
    required: Option<Required>,
    #[serde(default)]
    tres: Option<TresLists>,
}

#[derive(Deserialize)]
struct Array<'a> {
    #[serde(default)]
    job_id: Number,
    #[serde(default)]
    task_id: Number,
    #[serde(borrow, default)]
    task: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Het {
    #[serde(default)]
    job_id: Number,
    #[serde(default)]
    job_offset: Number,
}

#[derive(Deserialize)]
struct Reservation<'a> {
    #[serde(borrow, default)]
    name: Name<'a>,
}

#[derive(Deserialize)]
struct Current<'a> {
    #[serde(borrow)]
    current: Standing<'a>,
}

#[derive(Deserialize)]
struct Times {
    #[serde(default)]
    submission: Number,
    #[serde(default)]
    eligible: Number,
    #[serde(default)]
    start: Number,
    #[serde(default)]
    end: Number,
    #[serde(default)]
    elapsed: Number,
    #[serde(default)]
    suspended: Number,
}

#[derive(Deserialize)]
struct ExitCode {
    #[serde(default)]
    status: Status,
    #[serde(default)]
    return_code: Loose,
    #[serde(default)]
    signal: Option<Signal>,
}

#[derive(Deserialize)]
struct Signal {
    /// From v0.0.40 on.
    #[serde(default)]
    id: Number,
    /// Up to v0.0.39.
    #[serde(default)]
    signal_id: Number,
}

#[derive(Deserialize)]
struct Required {
    #[serde(rename = "CPUs", default)]
    cpus: Number,
}

#[derive(Deserialize)]
struct TresLists {
    #[serde(default)]
    allocated: Option<Resources>,
    #[serde(default)]
    requested: Option<Resources>,
}

/// Where the ids of a job are put together.
#[derive(Debug, Default)]
pub(super) struct Ids {
    shown: String,
    raw: String,
}

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    /// The tasks of an array that have not been split off.
    Array,
}

impl Ids {
    /// Puts the ids of a job together as `sacct`'s text shows them (`slurmdb_get_job_id_str()`).
    fn set(&mut self, job: &Job<'_>) -> Option<Form> {
        let id = job.job_id.0?;
        self.shown.clear();
        self.raw.clear();
        // Writing to memory cannot fail.
        _ = write!(self.raw, "{id}");
        let of = |number: Number| number.0.filter(|id| *id != 0);
        if let Some((array, of)) = job.array.as_ref().and_then(|array| Some((array, of(array.job_id)?))) {
            if let Some(task) = array.task_id.0 {
                _ = write!(self.shown, "{of}_{task}");
                return Some(Form::Single);
            }
            let tasks = array.task.as_ref().map_or(b"" as &[u8], Text::bytes);
            _ = write!(self.shown, "{of}_[{}]", BStr::new(tasks));
            return Some(Form::Array);
        }
        match job.het.as_ref().and_then(|het| Some((of(het.job_id)?, het.job_offset.0?))) {
            Some((of, offset)) => _ = write!(self.shown, "{of}+{offset}"),
            None => self.shown.push_str(&self.raw),
        }
        Some(Form::Single)
    }
}

/// Seconds since the epoch: 0 is written for what has not happened.
fn time(number: Number) -> Option<i64> {
    number.0.filter(|seconds| *seconds != 0).and_then(|seconds| i64::try_from(seconds).ok())
}

impl<'a> Job<'a> {
    /// Reads an element.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, Reason> {
        if !text.starts_with(b"{") {
            // Said here: serde takes a list for a struct, its fields in their order.
            return Err(Reason::Json { problem: "an object is expected".to_owned() });
        }
        serde_json::from_slice(text).map_err(|error| Reason::Json { problem: error.to_string() })
    }

    /// The run that the element says; `text` is what stands for it in the frame.
    pub(super) fn run<'f>(
        &'f self,
        ids: &'f mut Ids,
        text: &'f [u8],
        place: Place,
    ) -> Result<Run<'f>, Reason> {
        let form = ids.set(self).ok_or(Reason::Missing { field: "job_id" })?;
        let times = self.time.as_ref().ok_or(Reason::Missing { field: "time" })?;
        let Current { current: standing } = self.state.as_ref().ok_or(Reason::Missing { field: "state" })?;
        let lists = self.tres.as_ref().ok_or(Reason::Missing { field: "tres" })?;
        let allocated = lists.allocated.as_ref().ok_or(Reason::Missing { field: "tres.allocated" })?;

        let (submit, start, end) = (time(times.submission), time(times.start), time(times.end));
        let elapsed = times.elapsed.0;
        let state = standing.state;
        let is_allocated = !allocated.is_empty && start.is_some();
        let kind = match form {
            Form::Array if !is_allocated || elapsed.unwrap_or(0) == 0 => Kind::Parent,
            _ => Kind::Run,
        };
        let tres = if is_allocated { allocated.tres } else { Default::default() };
        let counted = self.allocation_nodes.0.filter(|_| is_allocated);
        let disagree = matches!((tres.nodes, counted), (Some(one), Some(other)) if one != other);
        let finding = if kind == Kind::Run && end.is_some() && !state.is_live() {
            Finding::of_times(submit, start, end, elapsed, 2)
                .or((disagree && state != State::Resizing).then_some(Finding::TresDisagree))
        } else {
            None
        };
        let (exit_code, signal) = self.exit();
        let said = |text: &'f Option<Text<'a>>| text.as_ref().and_then(Text::said);

        Ok(Run {
            scheduler: Scheduler::Slurm,
            kind,
            job_id: BStr::new(ids.shown.as_str()),
            raw_id: BStr::new(ids.raw.as_str()),
            cluster: said(&self.cluster),
            user: said(&self.user),
            account: said(&self.account),
            group: None,
            project: None,
            partition: said(&self.partition),
            qos: said(&self.qos),
            reservation: self.reservation.as_ref().and_then(|reservation| said(&reservation.name.0)),
            name: said(&self.name),
            state,
            state_text: BStr::new(standing.text.bytes()),
            submit,
            eligible: time(times.eligible),
            start,
            end,
            elapsed,
            suspended: times.suspended.0,
            nodes: tres.nodes.or(counted),
            cores: tres.cores,
            gpus: is_allocated.then_some(tres.gpus.unwrap_or(0)),
            mem_bytes: tres.mem_bytes,
            billing: is_allocated.then_some(tres.billing.unwrap_or(0)),
            tres: (is_allocated && !allocated.gpu_types.is_empty())
                .then(|| BStr::new(allocated.gpu_types.as_slice())),
            node_list: said(&self.nodes).filter(|_| is_allocated),
            allocated: is_allocated,
            requested: self.requested(lists.requested.as_ref()),
            assigned: Assigned::default(),
            phases: Vec::new(),
            resources: BStr::new(b""),
            exit_code,
            signal,
            run_count: None,
            finding: finding.or((state == State::Unknown).then_some(Finding::UnknownState)),
            text: BStr::new(text),
            place,
        })
    }

    fn requested(&self, list: Option<&Resources>) -> Requested {
        let listed = list.filter(|list| !list.is_empty);
        let tres = listed.map(|list| list.tres).unwrap_or_default();
        Requested {
            cores: tres.cores.or(self.required.as_ref().and_then(|required| required.cpus.0)),
            nodes: tres.nodes,
            gpus: listed.map(|_| tres.gpus.unwrap_or(0)),
            mem_bytes: tres.mem_bytes,
        }
    }

    /// Exit code and signal, where the version can be trusted to say them.
    fn exit(&self) -> (Option<i32>, Option<i32>) {
        let Some(exit) = &self.exit_code else { return (None, None) };
        let small = |number: Number| number.0.and_then(|number| i32::try_from(number).ok());
        let signal = exit.signal.as_ref();
        match exit.status {
            // A signal was never seen to be wrong; a code of 0 was.
            Status::Word => (None, signal.and_then(|signal| small(signal.signal_id)).filter(|id| *id != 0)),
            Status::List { signaled } => {
                let code = small(exit.return_code.0);
                let signal = signal.and_then(|signal| small(signal.id));
                // As the wait status has it: who was killed has no code, who was not has no signal.
                (code.or(signaled.then_some(0)), signal.or((!signaled).then_some(0)))
            }
        }
    }
}
