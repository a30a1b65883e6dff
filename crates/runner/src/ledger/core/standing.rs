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
    let mut known: Vec<(String, Glance)> = Vec::new();
    let all = [(front(&first.candidate.key), behind(&last.candidate.key))];
    let most = group.len().saturating_mul(MOST_BETWEEN);
    if !store.glances(&all, most, |key, glance| known.push((key.to_owned(), glance)))? {
        known.clear();
        let mut jobs: Vec<(&str, String)> = Vec::with_capacity(group.len());
        for Incoming { candidate, .. } in group {
            let job = front(&candidate.key);
            if jobs.last().is_none_or(|(before, _)| *before != job) {
                jobs.push((job, behind(&candidate.key)));
            }
        }
        store.glances(&jobs, RUNS_OF_A_JOB, |key, glance| known.push((key.to_owned(), glance)))?;
    }
    Ok(beside(group, &known))
}

/// Goes through both lists side by side.
fn beside(group: &[Incoming<'_>], known: &[(String, Glance)]) -> Vec<Standing> {
    let mut behind = known.iter().peekable();
    let mut before: Option<&str> = None;
    let mut standings = Vec::with_capacity(group.len());
    for incoming in group {
        let key = incoming.candidate.key.as_str();
        while let Some((passed, _)) = behind.next_if(|(known, _)| known.as_str() < key) {
            before = Some(passed);
        }
        let of_job = |known: Option<&str>| known.is_some_and(|known| same_job(known, key));
        standings.push(match behind.peek() {
            Some((known, glance)) if known == key => {
                if glance.is_same(*incoming) {
                    Standing::Same
                } else {
                    Standing::Other
                }
            }
            next if of_job(before) || of_job(next.map(|(known, _)| known.as_str())) => Standing::Beside,
            _ => Standing::New,
        });
    }
    standings
}
