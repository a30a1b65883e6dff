//! The values of a run that rules look at.

use bstr::BStr;
use parsers::{Run, Scheduler};

use crate::source::SourceRules;
use crate::spec::ProjectFrom;

/// The names by which a run's project, user, resource and factors are found. Runs with equal keys, at times for which
/// a [`Plan`](crate::Plan) is valid, are charged by the same plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys<'a> {
    /// Slurm cluster; PBS server.
    pub cluster: Option<&'a BStr>,
    /// What the project is found by: Slurm's account; for PBS whatever `project_from` says.
    pub account: Option<&'a BStr>,
    /// PBS Unix group.
    pub group: Option<&'a BStr>,
    /// PBS project.
    pub project: Option<&'a BStr>,
    /// Login of the owner.
    pub user: Option<&'a BStr>,
    /// Partition or queue.
    pub partition: Option<&'a BStr>,
    /// Quality of service.
    pub qos: Option<&'a BStr>,
    /// Reservation.
    pub reservation: Option<&'a BStr>,
}

/// What PBS says of a job that was given no project.
const PBS_NO_PROJECT: &[u8] = b"_pbs_project_default";

impl<'a> Keys<'a> {
    /// The keys of a run of `source`. Empty names count as none.
    #[must_use]
    pub fn of(run: &Run<'a>, source: &'a SourceRules) -> Self {
        let named = |name: Option<&'a BStr>| name.filter(|name| !name.is_empty());
        let account = match run.scheduler {
            Scheduler::Slurm => named(run.account),
            Scheduler::Pbs => source.project_from.iter().find_map(|from| match from {
                ProjectFrom::Account => named(run.account),
                ProjectFrom::Project => named(run.project).filter(|project| **project != *PBS_NO_PROJECT),
                ProjectFrom::Group => named(run.group),
            }),
        };
        Self {
            cluster: named(run.cluster).or_else(|| source.cluster.as_deref().map(BStr::new)),
            account,
            group: named(run.group),
            project: named(run.project),
            user: named(run.user),
            partition: named(run.partition),
            qos: named(run.qos),
            reservation: named(run.reservation),
        }
    }

    pub(crate) fn all(&self) -> [Option<&'a BStr>; 8] {
        let Self { cluster, account, group, project, user, partition, qos, reservation } = *self;
        [cluster, account, group, project, user, partition, qos, reservation]
    }
}

/// The times by which rules are chosen, epoch seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// When it was submitted.
    pub submit: Option<i64>,
    /// When it started.
    pub start: Option<i64>,
    /// When it ended.
    pub end: Option<i64>,
}

impl Times {
    /// The times of `run`.
    #[must_use]
    pub fn of(run: &Run<'_>) -> Self {
        Self { submit: run.submit, start: run.start, end: run.end }
    }
}
