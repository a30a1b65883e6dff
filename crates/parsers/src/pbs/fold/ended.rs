//! Runs that ended, remembered for a while, so that their records are known if they come again.

use super::open::Mark;
use std::collections::HashMap;

/// Runs of one job that are remembered: a job that is requeued without end is no reason to grow.
const MAX_RUNS: usize = 64;

/// Records of one run that are remembered.
const MAX_RECORDS: usize = 256;

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndedRun {
    /// 0: it never started.
    pub(super) start: i64,
    /// The start in its first `S`: another than `start` where the server was restarted meanwhile.
    pub(super) began: i64,
    pub(super) number: Option<u32>,
    /// Digest of its `E` or `R`.
    pub(super) fingerprint: u64,
    /// The file in which that stood.
    pub(super) file: u64,
    /// Its record alone does not say what was used: it is remembered longer.
    pub(super) amended: bool,
    /// Digests of the records of what happened while it ran.
    pub(super) marks: Box<[u64]>,
}

impl EndedRun {
    /// The digests of these marks, as many of the last as are remembered.
    pub(super) fn marks_of(marks: &[Mark]) -> Box<[u64]> {
        let last = marks.get(marks.len().saturating_sub(MAX_RECORDS)..).unwrap_or_default();
        last.iter().map(|mark| mark.fingerprint).collect()
    }

    /// True for a record of this very run.
    pub(super) fn is(&self, start: i64, number: Option<u32>) -> bool {
        self.start == start && (self.number == number || self.number.is_none() || number.is_none())
    }

    /// True for an `S`, or a record of a release, of this run: also for one from before a restart of the server, which has another start.
    pub(super) fn began_with(&self, start: i64, number: Option<u32>) -> bool {
        self.is(start, number) || (self.began..self.start).contains(&start)
    }
}

pub(super) type Jobs = HashMap<Box<[u8]>, Vec<EndedRun>>;

/// Jobs in two generations: when the younger is full, the older is forgotten. What is looked for is looked for in both.
#[derive(Debug, Clone)]
pub(super) struct EndedRuns {
    pub(super) young: Jobs,
    pub(super) old: Jobs,
    /// Most jobs of a generation.
    pub(super) limit: usize,
}

impl EndedRuns {
    /// Remembers about as many jobs as `limit` says.
    pub(super) fn new(limit: usize) -> Self {
        Self { young: Jobs::new(), old: Jobs::new(), limit: (limit / 2).max(1) }
    }

    /// The runs of a job.
    pub(super) fn of(&self, id: &[u8]) -> impl Iterator<Item = &EndedRun> {
        self.young.get(id).into_iter().chain(self.old.get(id)).flatten()
    }

    /// True if a run of the job is remembered.
    pub(super) fn knows(&self, id: &[u8]) -> bool {
        self.young.contains_key(id) || self.old.contains_key(id)
    }

    /// Remembers a run.
    pub(super) fn insert(&mut self, id: Box<[u8]>, run: EndedRun) {
        let runs = self.young.entry(id).or_default();
        if runs.len() >= MAX_RUNS {
            runs.remove(0);
        }
        runs.push(run);
        if self.young.len() >= self.limit {
            let mut aged = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            // Amended runs stay: if such an E came again without what amended it, it would be read as it stands.
            aged.retain(|_, runs| {
                runs.retain(|run| run.amended);
                !runs.is_empty()
            });
            if aged.len() < self.limit / 2 {
                self.young = aged;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: i64, amended: bool) -> EndedRun {
        EndedRun { start, began: start, number: None, fingerprint: 1, file: 1, amended, marks: [].into() }
    }

    fn id(number: usize) -> Box<[u8]> {
        format!("{number}.s").into_bytes().into()
    }

    #[test]
    fn the_older_half_is_forgotten_and_amended_runs_stay() {
        let mut ended = EndedRuns::new(20);
        ended.insert(id(1000), run(5, true));
        for number in 0..100 {
            ended.insert(id(number), run(5, false));
            assert!(ended.knows(&id(number)), "{number}");
            assert!(number < 9 || ended.knows(&id(number - 8)), "{number}");
            assert!(ended.young.len() + ended.old.len() <= 20);
        }
        assert!(!ended.knows(&id(0)) && ended.knows(&id(1000)));
    }

    #[test]
    fn runs_of_a_job_are_told_apart_and_are_not_endless() {
        let mut ended = EndedRuns::new(20);
        for start in 0..200 {
            ended.insert(id(1), run(start, false));
        }
        assert_eq!(ended.of(&id(1)).count(), MAX_RUNS);
        assert!(
            ended.of(&id(1)).any(|run| run.is(199, Some(3))) && !ended.of(&id(1)).any(|run| run.is(0, None))
        );
        let numbered = EndedRun { number: Some(2), ..run(5, false) };
        assert!(
            numbered.is(5, Some(2))
                && numbered.is(5, None)
                && !numbered.is(5, Some(3))
                && !numbered.is(6, Some(2))
        );
    }
}
