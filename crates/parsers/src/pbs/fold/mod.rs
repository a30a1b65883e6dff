//! Makes runs of what records say of them, in the order of the log.
//!
//! An `E` or `R` is a run by its own record. What it does not say stands in records before it, days ago and in other files: nodes that
//! were given back (`u`, `c`, `e`), suspension (`z`, `r`), a restart from a checkpoint (`T`), what exclusive placement took (`S`). The
//! fold keeps what matters of every run under way, and says of each `E` and `R` what is to change.
//!
//! # What is not believed
//!
//! The server subtracts what `u` records said from the walltime of the `E`. Where the `S` of a run was seen and no record since could
//! have been missed, a walltime below the time from start to end has honest reasons (files staged out, a dead execution host). Where the
//! `S` was not seen, more than [`SHORTFALL`] seconds without a reason are [`Finding::LogIncomplete`].

mod change;
mod clocks;
mod ended;
mod open;
mod phases;
mod saved;

pub use change::{Amendment, Change, Changed, Counts, OpenRun, OpenState};
pub use saved::LoadError;

use super::event::{Event, Events, Ran, Said};
use super::job::{Part, Started};
use crate::run::Finding;
use clocks::{Anchor, Clocks, Moment, server};
use ended::{EndedRun, EndedRuns};
use open::{Deletion, MAX_MARKS, Mark, Open, What};
use phases::{Span, Suspensions, phases};
use std::collections::HashMap;

/// Seconds by which an honest walltime falls short of the time from start to end, where nothing in the log says why. Measured: up to 5
/// in 200 runs of OpenPBS and TORQUE and in logs of a large centre, but for runs whose host died or whose files could not be copied.
const SHORTFALL: u64 = 30;

/// A run that is this long beyond its walltime will not end any more.
const OVERDUE: u64 = 86_400;

/// How much a fold remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoldOptions {
    /// Runs under way, about 250 bytes each. When there are more, the oldest eighth is forgotten, and held when it ends.
    pub open_runs: usize,
    /// Runs that ended, about 150 bytes each, to know their records if they come again.
    pub ended_runs: usize,
}

impl Default for FoldOptions {
    /// 131,072 of both: ten times what runs and ends in a day at a large centre.
    fn default() -> Self {
        Self { open_runs: 1 << 17, ended_runs: 1 << 17 }
    }
}

/// What is known of the runs of a source. See [`Fold::block`].
///
/// ```
/// use parsers::pbs::{Changed, Events, Fold, FoldOptions, Reader};
/// use parsers::Frame;
///
/// let log = b"\
/// 11/23/2026 02:29:37;S;7.s;user=a group=g jobname=j queue=q ctime=1795426177 start=1795426177 exec_host=n1/0+n2/0 exec_vnode=(n1:ncpus=1)+(n2:ncpus=1)\n\
/// 11/23/2026 02:29:47;u;7.s;user=a group=g jobname=j queue=q ctime=1795426177 start=1795426177 exec_host=n1/0+n2/0 exec_vnode=(n1:ncpus=1)+(n2:ncpus=1) session=5 run_count=1  resources_used.walltime=00:00:08\n\
/// 11/23/2026 02:29:47;c;7.s;user=a group=g jobname=j queue=q ctime=1795426177 start=1795426177 exec_host=n1/0 exec_vnode=(n1:ncpus=1)\n\
/// 11/23/2026 02:30:07;e;7.s;user=a group=g jobname=j queue=q ctime=1795426177 start=1795426177 exec_host=n1/0 exec_vnode=(n1:ncpus=1) session=5 run_count=1  resources_used.walltime=00:00:20\n\
/// 11/23/2026 02:30:07;E;7.s;user=a group=g jobname=j queue=q ctime=1795426177 start=1795426177 exec_host=n1/0+n2/0 exec_vnode=(n1:ncpus=1)+(n2:ncpus=1) session=5 end=1795426207 Exit_status=0 resources_used.walltime=00:00:20 run_count=1\n";
///
/// let (reader, mut fold) = (Reader::default(), Fold::new(&FoldOptions::default()));
/// let (mut events, mut runs) = (Events::default(), Vec::new());
/// reader.frames(log, 0..log.len(), true, &mut events, &mut |frame| {
///     if let Frame::Run(run) = frame {
///         runs.push(run);
///     }
/// });
/// let mut changes = Vec::new();
/// fold.block(1, &events, &mut changes);
///
/// // The fifth frame, the E, has two nodes and the last 20 seconds by its own record.
/// let Changed::Amended(amendment) = &changes[0].what else { panic!("{changes:?}") };
/// assert_eq!(changes[0].frame, 4);
/// amendment.apply(&mut runs[0]);
/// let phases: Vec<_> = runs[0].phases.iter().map(|phase| (phase.seconds, phase.nodes)).collect();
/// assert_eq!(phases, [(10, Some(2)), (20, Some(1))]);
/// assert_eq!(runs[0].elapsed, Some(30));
/// ```
#[derive(Debug, Clone)]
pub struct Fold {
    limit: usize,
    open: HashMap<Box<[u8]>, Open>,
    ended: EndedRuns,
    clocks: Clocks,
    /// How often something could not be read that may concern any run.
    tears: u64,
    /// The latest start of the runs that were forgotten.
    forgotten_until: Option<i64>,
    counts: Counts,
}

/// What was found out about a run that ended.
#[derive(Debug, Default)]
struct Outcome {
    amendment: Amendment,
    /// Nodes were released in this run or an earlier one of its job.
    released: bool,
    /// Nodes may have been, before the log begins or where it has a hole.
    unsure: bool,
    /// See [`EndedRun::began`].
    began: Option<i64>,
    /// See [`EndedRun::marks`].
    marks: Box<[u64]>,
}

impl Fold {
    /// A fold that has seen nothing yet.
    #[must_use]
    pub fn new(options: &FoldOptions) -> Self {
        Self {
            limit: options.open_runs.max(8),
            open: HashMap::new(),
            ended: EndedRuns::new(options.ended_runs),
            clocks: Clocks::default(),
            tears: 0,
            forgotten_until: None,
            counts: Counts::default(),
        }
    }

    /// Takes what the next block of the source says, and adds to `changes` what is to change in its frames, in their order.
    ///
    /// Blocks are given in the order of the log, each once; where they end does not matter. `file` is any number that tells the source's
    /// files apart.
    pub fn block(&mut self, file: u64, events: &Events, changes: &mut Vec<Change>) {
        for (id, event) in events.iter() {
            if id.is_empty() {
                self.interrupted();
                self.counts.torn = self.counts.torn.saturating_add(1);
            } else if let Some(what) = self.event(file, id, event) {
                changes.push(Change { frame: event.frame, what });
            }
        }
    }

    /// Says that the log is not continuous here: a day's file is missing, or the source was not read for a while. Runs that are under way
    /// are judged as if their start had not been seen.
    pub fn interrupted(&mut self) {
        self.tears = self.tears.saturating_add(1);
    }

    /// What was counted since the fold was made or loaded.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The runs that began and have no end yet, in the order of their ids. They are never charged.
    #[must_use]
    pub fn open_runs(&self) -> Vec<OpenRun> {
        let mut list: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| !open.waits)
            .map(|(id, open)| {
                let now = self.clocks.0.iter().find(|clock| *clock.server == *server(id));
                let state = match open.deletion {
                    Deletion::NodeDown => OpenState::Lost,
                    _ if is_overdue(open, now.and_then(|clock| clock.last).map(|last| last.at)) => {
                        OpenState::Lost
                    }
                    Deletion::Asked => OpenState::Deleted,
                    Deletion::No => OpenState::Running,
                };
                OpenRun { id: id.to_vec(), start: open.start, state }
            })
            .collect();
        list.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        list
    }

    fn event(&mut self, file: u64, id: &[u8], event: &Event) -> Option<Changed> {
        let instant = match &event.said {
            Said::Started(started) => Some(started.start),
            Said::Ran(ran) => Some(ran.end),
            _ => None,
        };
        let anchor = instant.and_then(|instant| Anchor::of(event.date, instant));
        if let Some(anchor) = anchor {
            self.show(server(id), anchor);
        }
        match &event.said {
            Said::Started(started) => self.started(id, started, anchor),
            Said::Pruned(started) => self.pruned(id, started),
            Said::Released(_)
            | Said::Continued(_)
            | Said::Last(_)
            | Said::Suspended
            | Said::Resumed
            | Said::Checkpointed
            | Said::Restarted => self.mark(id, event),
            Said::Deleted { node_down } => self.deleted(id, *node_down),
            Said::Moved => {
                self.open.remove(id);
            }
            Said::RanWithoutRecord => self.ran_without_record(file, id, event),
            Said::Torn => {
                self.counts.torn = self.counts.torn.saturating_add(1);
                if let Some(open) = self.open.get_mut(id) {
                    open.torn = true;
                }
            }
            Said::Ran(ran) => return self.ran(file, id, event, ran, anchor),
        }
        None
    }

    /// A server showed an epoch time beside its date: what waited for one has it.
    fn show(&mut self, server: &[u8], anchor: Anchor) {
        for id in self.clocks.show(server, anchor) {
            let Some(open) = self.open.get_mut(&id) else { continue };
            for mark in open.marks.iter_mut().rev().take_while(|mark| mark.moment.after.is_none()) {
                mark.moment.after = Some(anchor);
            }
        }
    }

    fn started(&mut self, id: &[u8], started: &Started, anchor: Option<Anchor>) {
        if self.ended.of(id).any(|run| run.began_with(started.start, started.number)) {
            return;
        }
        let mut next = Open::began(started, anchor, self.tears);
        let Some(open) = self.open.get_mut(id) else {
            self.insert(id.into(), next);
            return;
        };
        if open.waits {
            (next.released_before, next.torn) = (open.released_before, open.torn);
        } else if open.has_begun_with(started) {
            return; // read before
        } else if open.goes_on_with(started) {
            self.counts.server_restarts = self.counts.server_restarts.saturating_add(1);
            open.start = Some(started.start);
            return;
        } else {
            self.counts.lost = self.counts.lost.saturating_add(u64::from(open.seen));
            next.released_before = open.released_before || open.has_releases();
            next.torn = !open.seen; // of a run that was under way before the log began, or of this one
        }
        *open = next;
    }

    fn pruned(&mut self, id: &[u8], started: &Started) {
        if self.ended.of(id).any(|run| run.began_with(started.start, started.number)) {
            return;
        }
        let pruned = Open::began(started, None, self.tears);
        match self.open.get_mut(id) {
            Some(open) if open.is(started.submit, started.start) => {
                open.placed = pruned.placed;
                open.assigned = pruned.assigned;
                open.pruned = true;
            }
            _ => self.insert(id.into(), Open { pruned: true, ..pruned }),
        }
    }

    /// Something that happened to a run under way.
    fn mark(&mut self, id: &[u8], event: &Event) {
        let Some(what) = What::of(&event.said) else { return };
        let part = what.part();
        if part.is_some_and(|part| self.ended.of(id).any(|run| run.began_with(part.start, None))) {
            return;
        }
        let is_of_it = |open: &Open| match part {
            Some(Part { submit, start, .. }) => open.is(*submit, *start),
            None => !open.waits,
        };
        // It says nothing of which run it is: an earlier one's, if it was one's before.
        if part.is_none() && self.ended.of(id).any(|run| run.marks.contains(&event.fingerprint)) {
            return;
        }
        match self.open.get(id) {
            Some(open) if is_of_it(open) => {}
            None if part.is_none() && self.ended.knows(id) => return,
            other => {
                let earlier = other.is_some_and(|open| open.released_before || open.has_releases());
                let (start, submit) = part.map(|part| (part.start, part.submit)).unzip();
                let unseen = Open {
                    start,
                    submit: submit.flatten(),
                    released_before: earlier,
                    ..Open::unseen(self.tears)
                };
                self.insert(id.into(), unseen);
            }
        }
        let before = self.clocks.last(server(id));
        let Some(open) = self.open.get_mut(id) else { return };
        if open.marks.iter().rev().any(|mark| mark.fingerprint == event.fingerprint) {
            return;
        }
        if open.marks.len() >= MAX_MARKS {
            open.torn = true;
            return;
        }
        if let Some(part) = what.part() {
            open.start = open.start.or(Some(part.start));
            open.submit = open.submit.or(part.submit);
        }
        let moment = Moment { date: event.date, before, after: None };
        open.marks.push(Mark { moment, fingerprint: event.fingerprint, what });
        self.clocks.wait(id);
    }

    fn deleted(&mut self, id: &[u8], node_down: bool) {
        match self.open.get_mut(id) {
            Some(open) if open.waits => {
                self.open.remove(id);
            }
            Some(open) => open.deletion = if node_down { Deletion::NodeDown } else { Deletion::Asked },
            None if self.ended.knows(id) => {}
            None => self.counts.deleted_without_start = self.counts.deleted_without_start.saturating_add(1),
        }
    }

    fn ran_without_record(&mut self, file: u64, id: &[u8], event: &Event) {
        if self.ended.of(id).any(|run| run.fingerprint == event.fingerprint) {
            return;
        }
        self.counts.without_record = self.counts.without_record.saturating_add(1);
        let open = self.open.remove(id);
        let open = open.unwrap_or_else(|| Open::unseen(self.tears));
        let start = open.start.unwrap_or(0);
        let run = EndedRun {
            start,
            began: open.began.unwrap_or(start),
            number: open.number,
            fingerprint: event.fingerprint,
            file,
            amended: false,
            marks: EndedRun::marks_of(&open.marks),
        };
        self.ended.insert(id.into(), run);
    }

    /// An `E` or `R`.
    fn ran(
        &mut self,
        file: u64,
        id: &[u8],
        event: &Event,
        ran: &Ran,
        anchor: Option<Anchor>,
    ) -> Option<Changed> {
        let fingerprint = event.fingerprint;
        let known = self.ended.of(id).filter(|run| run.is(ran.start, ran.number));
        let (mut same, mut other) = (None, false);
        for run in known {
            if run.fingerprint == fingerprint { same = Some(run.file) } else { other = true }
        }
        if let Some(before) = same {
            let same_file = before == file;
            self.counts.repeated = self.counts.repeated.saturating_add(1);
            self.counts.repeated_in_file = self.counts.repeated_in_file.saturating_add(u64::from(same_file));
            return Some(Changed::Repeated { same_file });
        }
        if ran.finding == Some(Finding::DateDisagrees) {
            return None; // whoever wrote it, it is held, and no reason to forget what is known of the run
        }
        let outcome = if ran.start == 0 {
            // Deleted before it ever began.
            self.open.remove(id);
            Outcome::default()
        } else {
            self.outcome(id, ran, anchor, other)
        };
        let Outcome { amendment, released, unsure, began, marks } = outcome;
        let amended = amendment != Amendment::default();
        let (start, number) = (ran.start, ran.number);
        let began = began.unwrap_or(start);
        let ended = EndedRun { start, began, number, fingerprint, file, amended, marks };
        self.ended.insert(id.into(), ended);
        if ran.rerun && (released || (unsure && ran.may_release)) {
            // The server goes on subtracting from later runs.
            let next =
                Open { waits: true, released_before: released, torn: unsure, ..Open::unseen(self.tears) };
            self.insert(id.into(), next);
        }
        amended.then(|| Changed::Amended(Box::new(amendment)))
    }

    /// What other records say of a run that ended.
    fn outcome(&mut self, id: &[u8], ran: &Ran, anchor: Option<Anchor>, ended_before: bool) -> Outcome {
        let (open, mut earlier) = match self.open.get(id) {
            Some(open) if open.is(ran.submit, ran.start) || open.waits => (self.open.remove(id), false),
            // Of another run of the job, whose end may still come.
            Some(open) => {
                (None, open.start < Some(ran.start) && (open.released_before || open.has_releases()))
            }
            None => (None, false),
        };
        let open = open.unwrap_or_else(|| Open::unseen(self.tears));
        earlier |= open.released_before;
        count(&mut self.counts.no_start_seen, !open.seen);
        count(&mut self.counts.from_checkpoint, open.was_restarted());
        let released = earlier || open.has_releases();
        let marks = EndedRun::marks_of(&open.marks);
        let unsure = !self.is_whole(&open);
        let mut outcome = Outcome { released, unsure, began: open.began, marks, ..Outcome::default() };
        outcome.amendment.assigned = open.assigned.as_deref().copied();
        let judged = if ended_before {
            Err(Finding::EndedTwice)
        } else if ran.finding.is_some() {
            Ok(()) // held for what its own record says
        } else {
            self.judge(&open, ran, anchor, earlier, &mut outcome.amendment)
        };
        if let Err(finding) = judged {
            count(&mut self.counts.doubted, true);
            outcome.amendment.finding = Some(finding);
        }
        outcome
    }

    /// True if no record of the run can have been missed.
    fn is_whole(&self, open: &Open) -> bool {
        open.seen && !open.torn && open.tears == self.tears
    }

    fn judge(
        &mut self,
        open: &Open,
        ran: &Ran,
        anchor: Option<Anchor>,
        released_before: bool,
        amendment: &mut Amendment,
    ) -> Result<(), Finding> {
        let whole = self.is_whole(open);
        let from = match open.began {
            Some(began) if whole && !open.was_restarted() => began,
            _ => ran.start,
        };
        let span = Span { from, until: ran.end, own: [open.anchor, anchor] };
        let suspensions = Suspensions::of(open, &span);
        let suspended = suspensions.as_ref().map(|all| all.within(from, ran.end));
        if whole {
            amendment.suspended = suspensions.as_ref().filter(|all| !all.is_empty()).and(suspended);
            count(&mut self.counts.suspended, amendment.suspended.is_some());
        }
        let lasted = u64::try_from(ran.end.saturating_sub(from)).unwrap_or(0);
        if open.has_releases() {
            let suspensions = suspensions.ok_or(Finding::AmbiguousTime)?;
            let phases = phases(open, ran, &span, &suspensions)?;
            let elapsed = phases.iter().fold(0, |sum: u64, phase| sum.saturating_add(phase.seconds));
            // What was seen fits together, but a suspension before it may be missing.
            let lasted_longer = ran.walltime > Some(lasted.saturating_add(SHORTFALL));
            if lasted_longer || !whole && elapsed.abs_diff(open.used_by_parts(ran)) > SHORTFALL {
                return Err(Finding::LogIncomplete);
            }
            (amendment.phases, amendment.elapsed) = (phases, Some(elapsed));
            count(&mut self.counts.in_phases, true);
            return Ok(());
        }
        if released_before {
            if !whole {
                return Err(Finding::LogIncomplete);
            }
            let suspended = suspended.ok_or(Finding::AmbiguousTime)?;
            amendment.elapsed = Some(lasted.saturating_sub(suspended));
            count(&mut self.counts.after_releases, true);
            return Ok(());
        }
        let ended_a_phase = open.marks.iter().any(|mark| matches!(mark.what, What::Last(_)));
        if ended_a_phase && !open.pruned {
            return Err(Finding::LogIncomplete); // its u and c are missing
        }
        let used = ran.walltime.unwrap_or(lasted);
        let explained = used.saturating_add(suspended.unwrap_or(0)).saturating_add(SHORTFALL);
        // It began before the start that is known: of two `S` of one run, the log has the second or none.
        if ran.may_release && used > lasted.saturating_add(SHORTFALL) {
            return Err(Finding::LogIncomplete);
        }
        let forgotten = !open.seen && self.forgotten_until >= Some(ran.start);
        if !whole && ran.may_release && (explained < lasted || forgotten) {
            return Err(Finding::LogIncomplete);
        }
        Ok(())
    }

    /// Keeps a run under way, and no more of them than the limit.
    fn insert(&mut self, id: Box<[u8]>, open: Open) {
        self.open.insert(id, open);
        if self.open.len() <= self.limit {
            return;
        }
        let mut starts: Vec<_> = self.open.values().map(|open| open.start).collect();
        let eighth = (self.limit / 8).min(starts.len().saturating_sub(1));
        let (_, oldest, _) = starts.select_nth_unstable(eighth);
        let oldest = *oldest;
        let before = self.open.len();
        self.open.retain(|_, open| open.start > oldest);
        let forgotten = before.saturating_sub(self.open.len());
        self.counts.forgotten = self.counts.forgotten.saturating_add(forgotten as u64);
        self.forgotten_until = self.forgotten_until.max(oldest);
    }
}

fn count(counter: &mut u64, yes: bool) {
    *counter = counter.saturating_add(u64::from(yes));
}

/// True for a run that would be over for more than a day if its walltime had been kept.
fn is_overdue(open: &Open, now: Option<i64>) -> bool {
    let (Some(start), Some(limit), Some(now)) = (open.start, open.limit, now) else { return false };
    let longest = limit.saturating_add(OVERDUE);
    i64::try_from(longest).is_ok_and(|longest| start.saturating_add(longest) < now)
}
