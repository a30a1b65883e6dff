//! One run that came from two sources: by epoch times from the one, by local times of a zone that is not the cluster's from the other.
//!
//! Their keys differ in the submit time, so that nothing else would keep the run from being charged twice. No zone is off by
//! anything but whole quarter hours, and by no more than from one side of the date line to the other.

use crate::ledger::{Candidate, Row};

/// Off by this, at most: the zones reach from UTC-12 to UTC+14.
const FARTHEST: i64 = 26 * 3600;
const QUARTER: i64 = 15 * 60;

/// The keys of one job of Slurm begin so, up to the submit time; `None` for any other key. (PBS writes epoch seconds, always.)
pub(in crate::ledger) fn job_of(key: &str) -> Option<&str> {
    let slash = key.strip_prefix("slurm/").and_then(|_| key.rfind('/'))?;
    key.get(..slash.checked_add(1)?)
}

/// Before all keys of the job that `key` is of, and behind those of any other; the key itself where it is of no job.
pub(in crate::ledger) fn front(key: &str) -> &str {
    job_of(key).unwrap_or(key)
}

/// Behind all keys of the job that `key` is of, and before those of any other.
pub(in crate::ledger) fn behind(key: &str) -> String {
    // Submit times are digits, a sign, or `%`.
    job_of(key).map_or_else(|| key.to_owned(), |job| format!("{job}~"))
}

/// True where two keys are of one job.
pub(super) fn same_job(one: &str, other: &str) -> bool {
    job_of(one).is_some_and(|job| job_of(other) == Some(job))
}

/// True where `candidate`, of the same job as `row`, is the same run by other times: all three are off by the same quarter
/// hours, and it took as long.
///
/// A run that was put back into the queue is no such thing: a `scrontab` job runs under one id every quarter hour, and may take
/// as long each time.
pub(super) fn is_twin(row: &Row, candidate: &Candidate) -> bool {
    let Some(wanted) = &row.wanted else { return false };
    let (known, new) = (wanted.facts, candidate.facts);
    let Some(off) = candidate.submit.checked_sub(wanted.identity.submit) else { return false };
    off != 0
        && off.checked_rem(QUARTER) == Some(0)
        && (-FARTHEST..=FARTHEST).contains(&off)
        && new.start.checked_sub(known.start) == Some(off)
        && new.end.checked_sub(known.end) == Some(off)
        && new.elapsed == known.elapsed
        && new.elapsed > 0
        && !new.requeued
        && !known.requeued
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_job_lie_between_its_front_and_what_is_behind() {
        let key = "slurm/c1/0000000123/1795427125";
        assert_eq!(job_of(key), Some("slurm/c1/0000000123/"));
        for other in ["slurm/c1/0000000123/%", "slurm/c1/0000000123/-5", "slurm/c1/0000000123/999999999999"] {
            assert!(same_job(key, other));
            assert!(*"slurm/c1/0000000123/" < *other && *other < *behind(key), "{other}");
        }
        assert!(!same_job(key, "slurm/c1/0000000124/1795427125"));
        assert!(
            *behind(key) < *"slurm/c1/0000000124/%"
                && *behind(key) < *"slurm/c1/0000000123+1/5".replace("123+1", "124")
        );
        assert_eq!(job_of("pbs/s/0000000091/1795427125/1"), None);
        assert_eq!(behind("storage/a/user/1/2026-01-01"), "storage/a/user/1/2026-01-01");
    }
}
