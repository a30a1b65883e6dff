//! Runs under way: what was seen of each since it began.

use super::clocks::{Anchor, Moment};
use crate::pbs::event::{Ran, Said};
use crate::pbs::job::{Part, Started};
use crate::run::Assigned;

/// Marks of one run: a run that is suspended every hour for a year has 17,520.
pub(super) const MAX_MARKS: usize = 20_000;

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) moment: Moment,
    /// Digest of the record.
    pub(super) fingerprint: u64,
    pub(super) what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Released(Box<Part>),
    Continued(Box<Part>),
    Last(Box<Part>),
    Suspended,
    Resumed,
    Checkpointed,
    Restarted,
}

impl What {
    /// What a record says that leaves a mark.
    pub(super) fn of(said: &Said) -> Option<Self> {
        Some(match said {
            Said::Released(part) => Self::Released(part.clone()),
            Said::Continued(part) => Self::Continued(part.clone()),
            Said::Last(part) => Self::Last(part.clone()),
            Said::Suspended => Self::Suspended,
            Said::Resumed => Self::Resumed,
            Said::Checkpointed => Self::Checkpointed,
            Said::Restarted => Self::Restarted,
            _ => return None,
        })
    }

    /// The part of the run that the record describes.
    pub(super) fn part(&self) -> Option<&Part> {
        match self {
            Self::Released(part) | Self::Continued(part) | Self::Last(part) => Some(part),
            _ => None,
        }
    }
}

/// Whether a run was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    No,
    Asked,
    NodeDown,
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// Its `S` was seen.
    pub(super) seen: bool,
    /// A record of it is missing or could not be read.
    pub(super) torn: bool,
    /// How many tears that concern all runs the log had when it began.
    pub(super) tears: u64,
    /// No run, but what is known of the job's earlier ones, until the next begins.
    pub(super) waits: bool,
    /// Nodes were released in an earlier run of the job.
    pub(super) released_before: bool,
    /// It lost nodes before it began.
    pub(super) pruned: bool,
    pub(super) deletion: Deletion,
    /// As the last `S` says.
    pub(super) start: Option<i64>,
    /// As the first `S` of this run says: the server may write another when it is restarted.
    pub(super) began: Option<i64>,
    pub(super) submit: Option<i64>,
    pub(super) number: Option<u32>,
    pub(super) placed: Option<u64>,
    pub(super) limit: Option<u64>,
    /// The server's clock when it began.
    pub(super) anchor: Option<Anchor>,
    pub(super) assigned: Option<Box<Assigned>>,
    pub(super) marks: Vec<Mark>,
}

impl Open {
    /// A run of which nothing is known.
    pub(super) fn unseen(tears: u64) -> Self {
        Self {
            seen: false,
            torn: false,
            tears,
            waits: false,
            released_before: false,
            pruned: false,
            deletion: Deletion::No,
            start: None,
            began: None,
            submit: None,
            number: None,
            placed: None,
            limit: None,
            anchor: None,
            assigned: None,
            marks: Vec::new(),
        }
    }

    /// A run that began.
    pub(super) fn began(started: &Started, anchor: Option<Anchor>, tears: u64) -> Self {
        let assigned = (started.assigned != Assigned::default()).then(|| Box::new(started.assigned));
        Self {
            seen: true,
            start: Some(started.start),
            began: Some(started.start),
            submit: started.submit,
            number: started.number,
            placed: Some(started.placed),
            limit: started.limit,
            anchor,
            assigned,
            ..Self::unseen(tears)
        }
    }

    /// Nodes were released in this run.
    pub(super) fn has_releases(&self) -> bool {
        self.marks.iter().any(|mark| matches!(mark.what, What::Released(_) | What::Continued(_)))
    }

    /// The seconds that the server took from the walltime of the `E`, and those that it left.
    pub(super) fn used_by_parts(&self, ran: &Ran) -> u64 {
        self.marks.iter().fold(ran.walltime.unwrap_or(0), |sum, mark| match &mark.what {
            What::Released(part) => sum.saturating_add(part.walltime.unwrap_or(0)),
            _ => sum,
        })
    }

    /// It was started again from a checkpoint: its start moves.
    pub(super) fn was_restarted(&self) -> bool {
        self.marks.iter().any(|mark| mark.what == What::Restarted)
    }

    /// Where it is placed now.
    fn placed_now(&self) -> Option<u64> {
        let continued = self.marks.iter().rev().find_map(|mark| match &mark.what {
            What::Continued(part) => Some(part.placed),
            _ => None,
        });
        continued.or(self.placed)
    }

    /// True if this `S` was read before.
    pub(super) fn has_begun_with(&self, started: &Started) -> bool {
        let start = Some(started.start);
        self.seen
            && self.submit == started.submit
            && self.number == started.number
            && self.began <= start
            && start <= self.start
    }

    /// True if another `S` is of this run: the server was restarted while it ran.
    pub(super) fn goes_on_with(&self, started: &Started) -> bool {
        self.submit == started.submit
            && self.number == started.number
            && self.placed_now() == Some(started.placed)
    }

    /// True if a record with these times is of this run.
    pub(super) fn is(&self, submit: Option<i64>, start: i64) -> bool {
        let same_job = self.submit.is_none() || submit.is_none() || self.submit == submit;
        // The server writes the start that it knows: an older one before it was restarted.
        let same_start = self.start.is_none_or(|known| {
            start == known
                || (start < known && self.began <= Some(start))
                || (start > known && self.was_restarted())
        });
        same_job && same_start && !self.waits
    }
}
