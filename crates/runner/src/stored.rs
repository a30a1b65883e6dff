//! A run or reading as the ledger keeps it while it waits for a person: enough to map it again without its input.

use bstr::BStr;
use parsers::{Assigned, Finding, Kind, Phase, Place, Requested, Run, Scheduler, State};
use serde::{Deserialize, Serialize};

/// Bytes as JSON: text where they are UTF-8, else a list of numbers, so that nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Raw(Vec<u8>),
}

impl Bytes {
    /// What was not kept yet when the run was stored.
    fn none() -> Self {
        Self::Text(String::new())
    }

    fn of(bytes: &BStr) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Raw(bytes.to_vec()),
        }
    }

    fn get(&self) -> &BStr {
        match self {
            Self::Text(text) => BStr::new(text),
            Self::Raw(raw) => BStr::new(raw),
        }
    }
}

/// A run that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields of `parsers::Run`
pub struct StoredRun {
    /// The source's name: its mapping rules apply.
    pub source: String,
    pub pbs: bool,
    pub job_id: Bytes,
    pub raw_id: Bytes,
    pub cluster: Option<Bytes>,
    pub user: Option<Bytes>,
    pub account: Option<Bytes>,
    pub group: Option<Bytes>,
    pub project: Option<Bytes>,
    pub partition: Option<Bytes>,
    pub qos: Option<Bytes>,
    pub reservation: Option<Bytes>,
    pub name: Option<Bytes>,
    pub state: String,
    pub state_text: Bytes,
    pub submit: Option<i64>,
    pub eligible: Option<i64>,
    pub start: Option<i64>,
    pub end: Option<i64>,
    pub elapsed: Option<u64>,
    pub suspended: Option<u64>,
    pub nodes: Option<u64>,
    pub cores: Option<u64>,
    pub gpus: Option<u64>,
    pub mem_bytes: Option<u64>,
    pub billing: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tres: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_list: Option<Bytes>,
    pub allocated: bool,
    /// cores, nodes, gpus, memory in bytes
    pub requested: [Option<u64>; 4],
    /// likewise
    #[serde(default)]
    pub assigned: [Option<u64>; 4],
    #[serde(default)]
    pub phases: Vec<StoredPhase>,
    /// `Resource_List.*` of PBS.
    #[serde(default = "Bytes::none")]
    pub resources: Bytes,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub run_count: Option<u32>,
    pub finding: Option<String>,
    pub file: String,
    pub line: u64,
}

/// A phase of a stored run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields of `parsers::Phase`
pub struct StoredPhase {
    pub seconds: u64,
    /// cores, nodes, GPUs, memory in bytes
    pub allocated: [Option<u64>; 4],
    /// likewise
    pub assigned: [Option<u64>; 4],
}

impl StoredPhase {
    fn of(phase: &Phase) -> Self {
        Self {
            seconds: phase.seconds,
            allocated: [phase.cores, phase.nodes, phase.gpus, phase.mem_bytes],
            assigned: counts(&phase.assigned),
        }
    }

    fn phase(&self) -> Phase {
        let [cores, nodes, gpus, mem_bytes] = self.allocated;
        Phase { seconds: self.seconds, cores, nodes, gpus, mem_bytes, assigned: assigned(self.assigned) }
    }
}

fn counts(assigned: &Assigned) -> [Option<u64>; 4] {
    [assigned.cores, assigned.nodes, assigned.gpus, assigned.mem_bytes]
}

fn assigned([cores, nodes, gpus, mem_bytes]: [Option<u64>; 4]) -> Assigned {
    Assigned { cores, nodes, gpus, mem_bytes }
}

/// All findings, by name, for reading stored runs back.
const FINDINGS: [(&str, Finding); 11] = [
    ("start-before-submit", Finding::StartBeforeSubmit),
    ("elapsed-beyond-span", Finding::ElapsedBeyondSpan),
    ("tres-disagree", Finding::TresDisagree),
    ("end-before-start", Finding::EndBeforeStart),
    ("ambiguous-submit", Finding::AmbiguousSubmit),
    ("ambiguous-time", Finding::AmbiguousTime),
    ("unknown-state", Finding::UnknownState),
    ("node-release", Finding::NodeRelease),
    ("date-disagrees", Finding::DateDisagrees),
    ("log-incomplete", Finding::LogIncomplete),
    ("ended-twice", Finding::EndedTwice),
];

impl StoredRun {
    /// Keeps a run of a source.
    #[must_use]
    pub fn of(source: &str, run: &Run<'_>, file: &str, line: u64) -> Self {
        let keep = |bytes: Option<&BStr>| bytes.map(Bytes::of);
        Self {
            source: source.to_owned(),
            pbs: run.scheduler == Scheduler::Pbs,
            job_id: Bytes::of(run.job_id),
            raw_id: Bytes::of(run.raw_id),
            cluster: keep(run.cluster),
            user: keep(run.user),
            account: keep(run.account),
            group: keep(run.group),
            project: keep(run.project),
            partition: keep(run.partition),
            qos: keep(run.qos),
            reservation: keep(run.reservation),
            name: keep(run.name),
            state: run.state.as_str().to_owned(),
            state_text: Bytes::of(run.state_text),
            submit: run.submit,
            eligible: run.eligible,
            start: run.start,
            end: run.end,
            elapsed: run.elapsed,
            suspended: run.suspended,
            nodes: run.nodes,
            cores: run.cores,
            gpus: run.gpus,
            mem_bytes: run.mem_bytes,
            billing: run.billing,
            tres: keep(run.tres),
            node_list: keep(run.node_list),
            allocated: run.allocated,
            requested: [
                run.requested.cores,
                run.requested.nodes,
                run.requested.gpus,
                run.requested.mem_bytes,
            ],
            assigned: counts(&run.assigned),
            phases: run.phases.iter().map(StoredPhase::of).collect(),
            resources: Bytes::of(run.resources),
            exit_code: run.exit_code,
            signal: run.signal,
            run_count: run.run_count,
            finding: run.finding.and_then(|finding| {
                FINDINGS.iter().find(|(_, known)| *known == finding).map(|(name, _)| (*name).to_owned())
            }),
            file: file.to_owned(),
            line,
        }
    }

    /// The run, as it was read.
    #[must_use]
    pub fn run(&self) -> Run<'_> {
        fn give(bytes: &Option<Bytes>) -> Option<&BStr> {
            bytes.as_ref().map(Bytes::get)
        }
        let [cores, nodes, gpus, mem_bytes] = self.requested;
        Run {
            scheduler: if self.pbs { Scheduler::Pbs } else { Scheduler::Slurm },
            kind: Kind::Run,
            job_id: self.job_id.get(),
            raw_id: self.raw_id.get(),
            cluster: give(&self.cluster),
            user: give(&self.user),
            account: give(&self.account),
            group: give(&self.group),
            project: give(&self.project),
            partition: give(&self.partition),
            qos: give(&self.qos),
            reservation: give(&self.reservation),
            name: give(&self.name),
            state: State::from_word(self.state.as_bytes()),
            state_text: self.state_text.get(),
            submit: self.submit,
            eligible: self.eligible,
            start: self.start,
            end: self.end,
            elapsed: self.elapsed,
            suspended: self.suspended,
            nodes: self.nodes,
            cores: self.cores,
            gpus: self.gpus,
            mem_bytes: self.mem_bytes,
            billing: self.billing,
            tres: give(&self.tres),
            node_list: give(&self.node_list),
            allocated: self.allocated,
            requested: Requested { cores, nodes, gpus, mem_bytes },
            assigned: assigned(self.assigned),
            phases: self.phases.iter().map(StoredPhase::phase).collect(),
            resources: self.resources.get(),
            exit_code: self.exit_code,
            signal: self.signal,
            run_count: self.run_count,
            finding: self.finding.as_deref().and_then(|name| {
                FINDINGS.iter().find(|(known, _)| *known == name).map(|(_, finding)| *finding)
            }),
            text: BStr::new(""),
            place: Place::default(),
        }
    }
}
