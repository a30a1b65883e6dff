//! The times of a run by its marks: how long it was suspended, and its phases where nodes were released.
//!
//! The walltimes of `u` and `e` records are those of the last time that the server asked the execution host, up to minutes ago, and a
//! server that was killed forgets what it subtracted. Phases therefore lie between the dates of the records.

use super::SHORTFALL;
use super::clocks::{Anchor, SLACK};
use super::open::{Mark, Open, What};
use crate::pbs::counts::Allocation;
use crate::pbs::event::Ran;
use crate::pbs::job::Part;
use crate::run::{Assigned, Finding, Phase};

/// `u` and `c` of one release are written in one pass of the server; `e` and `E` likewise.
const ONE_PASS: u64 = 60;

/// From when to when a run lasted, and how far the clock was from UTC then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) own: [Option<Anchor>; 2],
}

impl Span {
    /// The instant of a mark.
    fn instant(&self, mark: &Mark) -> Option<i64> {
        mark.moment.instant(self.from, self.until, self.own)
    }
}

/// When a run was suspended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Suspensions(Vec<(i64, i64)>);

impl Suspensions {
    /// From each `z` to the next `r`, or the end. `None` where a date names no certain instant.
    pub(super) fn of(open: &Open, span: &Span) -> Option<Self> {
        let mut list = Vec::new();
        let mut since = None;
        for mark in &open.marks {
            match (&mark.what, since) {
                (What::Suspended, None) => since = Some(span.instant(mark)?),
                (What::Resumed, Some(from)) => {
                    list.push((from, span.instant(mark)?));
                    since = None;
                }
                _ => {}
            }
        }
        list.extend(since.map(|from| (from, span.until)));
        Some(Self(list))
    }

    /// True if the run never was suspended.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seconds suspended within `from..until`.
    pub(super) fn within(&self, from: i64, until: i64) -> u64 {
        self.0.iter().fold(0_u64, |sum, &(start, end)| {
            let seconds = end.min(until).saturating_sub(start.max(from));
            sum.saturating_add(u64::try_from(seconds).unwrap_or(0))
        })
    }
}

/// A release: what the run had before it (`u`), and after it (`c`). One of the two may be missing, both never are.
#[derive(Debug, Clone, Copy)]
struct Release<'a> {
    at: i64,
    date: i64,
    before: Option<&'a Part>,
    after: Option<&'a Part>,
}

/// What a run had for a while.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    allocation: Allocation,
    assigned: Assigned,
}

/// The phases of a run with releases.
///
/// Every record must continue the one before it: what `c` says the run goes on with is what the next `u`, or the `e` at the end, says
/// it had. A record that is missing, or one that a user imitated, breaks the chain.
///
/// # Errors
/// [`Finding::AmbiguousTime`] where dates name no certain instants, [`Finding::NodeRelease`] where the chain is broken.
pub(super) fn phases(
    open: &Open,
    ran: &Ran,
    span: &Span,
    suspensions: &Suspensions,
) -> Result<Vec<Phase>, Finding> {
    let releases = releases(open, span)?;
    // What was used by then cannot be more than has passed without suspension: else the run began before the first `S` that was seen.
    let too_much = |release: &Release<'_>| {
        let passed = u64::try_from(release.at.saturating_sub(span.from)).unwrap_or(0);
        let awake = passed.saturating_sub(suspensions.within(span.from, release.at));
        let used = release.before.and_then(|part| part.walltime);
        used > Some(awake.saturating_add(SHORTFALL))
    };
    if releases.iter().any(too_much) {
        return Err(Finding::LogIncomplete);
    }
    let at_the_end = at_the_end(open, ran, span)?;
    let stretches = chain(open, ran, &releases, at_the_end)?;

    let ends = releases.iter().map(|release| release.at).chain(std::iter::once(span.until));
    let mut from = span.from;
    let mut phases = Vec::with_capacity(stretches.len());
    for (stretch, end) in stretches.iter().zip(ends) {
        // A server's clock may lag by seconds: never backwards.
        let end = end.max(from);
        let seconds = u64::try_from(end.saturating_sub(from)).unwrap_or(0);
        let Allocation { cores, nodes, gpus, mem_bytes } = stretch.allocation;
        phases.push(Phase {
            seconds: seconds.saturating_sub(suspensions.within(from, end)),
            cores,
            nodes,
            gpus,
            mem_bytes,
            assigned: stretch.assigned,
        });
        from = end;
    }
    Ok(phases)
}

/// The releases in their order.
fn releases<'a>(open: &'a Open, span: &Span) -> Result<Vec<Release<'a>>, Finding> {
    let mut releases = Vec::<Release<'a>>::new();
    for mark in &open.marks {
        let (before, after) = match &mark.what {
            What::Released(part) => (Some(&**part), None),
            What::Continued(part) => (None, Some(&**part)),
            _ => continue,
        };
        let date = mark.moment.date;
        match releases.last_mut() {
            Some(release)
                if before.is_none() && release.after.is_none() && release.date.abs_diff(date) <= ONE_PASS =>
            {
                release.after = after;
            }
            _ => {
                let at = span.instant(mark).ok_or(Finding::AmbiguousTime)?;
                releases.push(Release { at, date, before, after });
            }
        }
    }
    let in_order = releases
        .iter()
        .zip(releases.iter().skip(1))
        .all(|(one, next)| one.at.saturating_sub(SLACK) <= next.at);
    if in_order { Ok(releases) } else { Err(Finding::NodeRelease) }
}

/// What the run had at its end: the `e` of the same pass as its `E`, or what an `R` says, which is written without one.
fn at_the_end(open: &Open, ran: &Ran, span: &Span) -> Result<(u64, Stretch), Finding> {
    if ran.rerun {
        return Ok((ran.placed, Stretch { allocation: ran.allocation, assigned: Assigned::default() }));
    }
    let [_, at_the_end] = span.own;
    let written = at_the_end.and_then(|anchor| span.until.checked_add(anchor.offset));
    let written = written.ok_or(Finding::AmbiguousTime)?;
    let last = open.marks.iter().rev().find_map(|mark| match &mark.what {
        What::Last(part) if mark.moment.date.abs_diff(written) <= ONE_PASS => Some(part),
        _ => None,
    });
    let part = last.ok_or(Finding::NodeRelease)?;
    Ok((part.placed, Stretch { allocation: part.allocation, assigned: part.assigned }))
}

/// What the run had in each phase.
fn chain(
    open: &Open,
    ran: &Ran,
    releases: &[Release<'_>],
    (end_placed, at_the_end): (u64, Stretch),
) -> Result<Vec<Stretch>, Finding> {
    let of = |part: &Part| Stretch { allocation: part.allocation, assigned: part.assigned };
    // An E has what the run had at first; so has an S.
    let original = if ran.rerun { open.placed } else { Some(ran.placed) };
    let assigned = open.assigned.as_deref().copied().unwrap_or_default();
    let mut stretches = Vec::with_capacity(releases.len().saturating_add(1));
    let mut before: Option<(u64, Stretch)> = None;
    for release in releases {
        let known = match (before, release.before) {
            (Some((placed, stretch)), Some(part)) if placed == part.placed => stretch,
            (Some((_, stretch)), None) => stretch,
            (None, Some(part)) if stretches.is_empty() && original == Some(part.placed) => {
                Stretch { assigned, ..of(part) }
            }
            (None, Some(part)) if !stretches.is_empty() => of(part),
            // The `u` is missing: what the run had at first is what its E says.
            (None, None) if stretches.is_empty() && !ran.rerun && open.seen => {
                Stretch { allocation: ran.allocation, assigned }
            }
            _ => return Err(Finding::NodeRelease),
        };
        stretches.push(known);
        before = release.after.map(|part| (part.placed, of(part)));
    }
    match before {
        Some((placed, stretch)) if placed == end_placed => stretches.push(stretch),
        None => stretches.push(at_the_end),
        Some(_) => return Err(Finding::NodeRelease),
    }
    Ok(stretches)
}
