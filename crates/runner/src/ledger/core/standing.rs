//! How records on their way in stand to what is known: told for a whole group with one look, or a look a job.

use super::twin::{behind, front, same_job};
use crate::ledger::store::{Glance, Incoming, Store};

/// How a record stands to the rows that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Neither it nor another run of its job is known.
    New,
    /// It is not known, but another run of its job is: the same one by other times, perhaps.
    Beside,
    /// It is known and the same as before.
    Same,
    /// It is known, and something is not as before.
    Other,
}

/// Rows that are looked at for each record before it is cheaper to look for each job: where the jobs of a group lie far
/// apart, there are many others between them.
const MOST_BETWEEN: usize = 4;

/// Runs of one job that are looked at. Where there are more, a record that is not among them is beside the others.
const RUNS_OF_A_JOB: usize = 100;

/// The standings of records in key order, no key of which is there twice.
pub(super) fn standings<S: Store>(store: &S, group: &[Incoming<'_>]) -> Result<Vec<Standing>, S::Fail> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(Vec::new()) };
    let all = [(front(&first.candidate.key), behind(&last.candidate.key))];
    let most = group.len().saturating_mul(MOST_BETWEEN);
    let mut beside = SideBySide::new(group);
    if store.glances(&all, most, |key, glance| beside.known(key, glance))? {
        return Ok(beside.end());
    }
    let mut jobs: Vec<(&str, String)> = Vec::with_capacity(group.len());
    for Incoming { candidate, .. } in group {
        let job = front(&candidate.key);
        if jobs.last().is_none_or(|(before, _)| *before != job) {
            jobs.push((job, behind(&candidate.key)));
        }
    }
    let mut beside = SideBySide::new(group);
    store.glances(&jobs, RUNS_OF_A_JOB, |key, glance| beside.known(key, glance))?;
    Ok(beside.end())
}

/// A group and what is known, both in key order, gone through side by side.
struct SideBySide<'g, 'c> {
    rest: &'g [Incoming<'c>],
    standings: Vec<Standing>,
    /// The known key that was seen last; empty before there is one.
    before: String,
}

impl<'g, 'c> SideBySide<'g, 'c> {
    fn new(group: &'g [Incoming<'c>]) -> Self {
        Self { rest: group, standings: Vec::with_capacity(group.len()), before: String::new() }
    }

    /// The next key that is known.
    fn known(&mut self, known: &str, glance: Glance) {
        self.pass(Some(known));
        if let Some((incoming, rest)) = self.rest.split_first()
            && incoming.candidate.key == known
        {
            self.standings.push(if glance.is_same(*incoming) { Standing::Same } else { Standing::Other });
            self.rest = rest;
        }
        self.before.clear();
        self.before.push_str(known);
    }

    /// Passes the records before a known key, or all that are left: none of them is known.
    fn pass(&mut self, next: Option<&str>) {
        while let Some((incoming, rest)) = self.rest.split_first() {
            let key = incoming.candidate.key.as_str();
            if next.is_some_and(|next| next <= key) {
                break;
            }
            let beside = same_job(&self.before, key) || next.is_some_and(|next| same_job(next, key));
            self.standings.push(if beside { Standing::Beside } else { Standing::New });
            self.rest = rest;
        }
    }

    fn end(mut self) -> Vec<Standing> {
        self.pass(None);
        self.standings
    }
}
