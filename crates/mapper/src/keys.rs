//! The values of a run that rules look at.

use bstr::BStr;
use parsers::{Run, Scheduler};

use crate::source::SourceRules;
use crate::spec::ProjectFrom;
use std::borrow::Cow;

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
    /// Whether `account` is compared without regard to case, as by the source's rules.
    pub fold_account: bool,
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
            fold_account: source.fold_accounts.unwrap_or(run.scheduler == Scheduler::Slurm),
        }
    }

    /// The account as tables are looked up by it: in lower case where case does not matter.
    pub(crate) fn folded_account(&self) -> Option<Cow<'a, [u8]>> {
        self.account.map(|account| folded(account, self.fold_account))
    }

    /// True where the run's account is `wanted`.
    pub(crate) fn is_account(&self, wanted: &[u8]) -> bool {
        self.account.is_some_and(|account| {
            if self.fold_account { account.eq_ignore_ascii_case(wanted) } else { **account == *wanted }
        })
    }

    /// Every name; the source of a mapper is one, so that `fold_account` is the same for all runs of a scheduler.
    pub(crate) fn all(&self) -> [Option<&'a BStr>; 8] {
        let Self { cluster, account, group, project, user, partition, qos, reservation, fold_account: _ } =
            *self;
        [cluster, account, group, project, user, partition, qos, reservation]
    }
}

/// In lower case, as Slurm folds accounts (ASCII letters only), where `fold` says so.
pub(crate) fn folded(account: &[u8], fold: bool) -> Cow<'_, [u8]> {
    if fold && account.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(account.to_ascii_lowercase())
    } else {
        Cow::Borrowed(account)
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
