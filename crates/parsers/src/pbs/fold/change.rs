//! What the fold says: which frames change and how, what it counted, which runs have no end.

use crate::run::{Assigned, Finding, Phase, Run};

/// A frame of a block that is not what its own record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the frame in its block, from 0, in the order in which [`super::super::Reader::frames`] visits them.
    pub frame: usize,
    /// What becomes of it.
    pub what: Changed,
}

/// What becomes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// This `E` or `R` was seen before, whole and identical: it is no run, and is to be counted as informational (`repeated`).
    Repeated {
        /// It came before in the same file, which no server and no copy does: somebody may have imitated it, to no effect.
        same_file: bool,
    },
    /// The run is amended by what other records say of it.
    Amended(Box<Amendment>),
}

/// What other records say of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amendment {
    pub(super) phases: Vec<Phase>,
    pub(super) elapsed: Option<u64>,
    pub(super) suspended: Option<u64>,
    pub(super) assigned: Option<Assigned>,
    pub(super) finding: Option<Finding>,
}

impl Amendment {
    /// Puts it into the run, as [`super::super::Reader::frames`] or [`super::super::Reader::run`] read it.
    pub fn apply(&self, run: &mut Run<'_>) {
        if let Some(first) = self.phases.first() {
            run.phases.clone_from(&self.phases);
            // An R says what was left at the end.
            (run.cores, run.nodes) = (first.cores, first.nodes);
            (run.gpus, run.mem_bytes) = (first.gpus, first.mem_bytes);
        }
        run.elapsed = self.elapsed.or(run.elapsed);
        run.suspended = self.suspended.or(run.suspended);
        run.assigned = self.assigned.unwrap_or(run.assigned);
        run.finding = run.finding.or(self.finding);
    }
}

/// What a fold came across since it was made or loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// `E` and `R` that were seen before, whole and identical.
    pub repeated: u64,
    /// Those of them that came before in the same file.
    pub repeated_in_file: u64,
    /// Runs whose `S` is not in the log: they began before it, or records are missing.
    pub no_start_seen: u64,
    /// Runs that gave nodes back and are charged by phases.
    pub in_phases: u64,
    /// Runs whose walltime is not believed because nodes were released in an earlier run of the job: charged from start to end.
    pub after_releases: u64,
    /// Runs that were suspended.
    pub suspended: u64,
    /// Runs that are held as [`Finding::LogIncomplete`], [`Finding::NodeRelease`], [`Finding::AmbiguousTime`] or
    /// [`Finding::EndedTwice`].
    pub doubted: u64,
    /// `S` of a run that was under way: the server was restarted.
    pub server_restarts: u64,
    /// Runs that were started again from a checkpoint: what they used before it is in no record, and not charged.
    pub from_checkpoint: u64,
    /// TORQUE's empty `R`: what these runs used is in no record, and not charged.
    pub without_record: u64,
    /// Runs that began and were followed by another run of their job without an end: not charged.
    pub lost: u64,
    /// `D` and `A` of jobs that were not running.
    pub deleted_without_start: u64,
    /// Runs that were forgotten because too many were under way: they are held when they end.
    pub forgotten: u64,
    /// Records that could not be read, and may have said something of a run under way.
    pub torn: u64,
}

/// A run that began and has no end in the log. It is never charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The job's id, as printed.
    pub id: Vec<u8>,
    /// Its start, epoch seconds, where its `S` was seen.
    pub start: Option<i64>,
    /// How it stands.
    pub state: OpenState,
}

/// How a run without an end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenState {
    /// It may still run.
    Running,
    /// Somebody asked for its deletion; its `E` is still to come.
    Deleted,
    /// It will have no `E`: its node went down and it may not rerun, or it is beyond its walltime by more than a day.
    Lost,
}
