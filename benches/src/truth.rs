//! What a generated file contains, counted while it is written: a total that no parser had a hand in.

use serde::Serialize;
use std::collections::BTreeMap;

/// Counts and sums of one generated file. All sums are whole seconds times whole counts.
///
/// A *charged run* is one that was allocated something and ended, with its wall time in the record itself. It is what
/// `runs`, `core_seconds`, `gpu_seconds`, `node_seconds` are about; everything else has a count of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Truth {
    /// `sacct` or `pbs`.
    pub format: &'static str,
    /// The seed that makes the same file again.
    pub seed: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Newlines in the file.
    pub lines: u64,
    /// Records in the file: rows (and the header) of sacct, records of PBS however many lines they take.
    pub records: u64,
    /// Charged runs: ended, something allocated.
    pub runs: u64,
    /// Sum over charged runs of elapsed seconds times cores.
    pub core_seconds: u128,
    /// Sum over charged runs of elapsed seconds times GPUs.
    pub gpu_seconds: u128,
    /// Sum over charged runs of elapsed seconds times nodes (distinct hosts).
    pub node_seconds: u128,
    /// Sum over charged runs of elapsed seconds.
    pub elapsed_seconds: u128,
    /// sacct: rows of jobs that ended without having been given anything.
    pub never_started: u64,
    /// sacct: rows of jobs that had not ended.
    pub live: u64,
    /// sacct: step rows. PBS has none.
    pub steps: u64,
    /// Rows and records of whole arrays: `62_[1-9]`, `E` of `123[].server`.
    pub parents: u64,
    /// sacct: ended rows whose state is a word that Slurm does not have. Nobody can say what they cost: not in `runs`.
    pub unknown_states: u64,
    /// sacct: rows whose job name holds the delimiter or a newline. With a plain delimiter they cannot be read, and
    /// nothing of them is in the sums; with a random one they are ordinary rows and in the sums.
    pub torn: u64,
    /// PBS: runs that gave nodes back while they ran. What is in `E` alone does not tell their usage: they count by phases.
    pub node_releases: u64,
    /// PBS: records by letter. sacct: charged runs by state.
    pub kinds: BTreeMap<String, u64>,
}

impl Truth {
    /// Counts one charged run.
    pub(crate) fn run(&mut self, elapsed: u64, cores: u64, gpus: u64, nodes: u64) {
        self.runs += 1;
        self.used(elapsed, cores, gpus, nodes);
    }

    /// Counts what a run used, or used in one phase.
    pub(crate) fn used(&mut self, elapsed: u64, cores: u64, gpus: u64, nodes: u64) {
        let elapsed = u128::from(elapsed);
        self.elapsed_seconds += elapsed;
        self.core_seconds += elapsed * u128::from(cores);
        self.gpu_seconds += elapsed * u128::from(gpus);
        self.node_seconds += elapsed * u128::from(nodes);
    }

    /// Counts one record of that letter or state.
    pub(crate) fn kind(&mut self, name: &str) {
        match self.kinds.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.kinds.insert(name.to_owned(), 1);
            }
        }
    }
}
