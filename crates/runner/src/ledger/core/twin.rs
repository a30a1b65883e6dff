//! One run that came from two sources: by epoch times from the one, by local times of a zone that is not the cluster's from the other.
//!
//! Their keys differ in the submit time, so that nothing else would keep the run from being charged twice. No zone is off by
//! anything but whole quarter hours, and by no more than from one side of the date line to the other.

use super::hold::StoredCandidate;
use super::session::Session;
use crate::ledger::restate::OTHER_TIMES;
use crate::ledger::row::Wanted;
use crate::ledger::store::Store;
use crate::ledger::{Row, SourceFacts, State};

/// Off by this, at most: the zones reach from UTC-12 to UTC+14.
const FARTHEST: i64 = 26 * 3600;
const QUARTER: i64 = 15 * 60;

/// Rows that are read together.
const PAGE: usize = 500;

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

/// What one run is told from another by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) submit: i64,
    pub(super) facts: SourceFacts,
}

/// The key of a known row that is the run of `key` by other times.
pub(super) fn known<S: Store>(
    session: &Session<'_, S>,
    key: &str,
    times: Times,
) -> Result<Option<String>, S::Fail> {
    let Some(job) = job_of(key).filter(|_| times.may_have_a_twin()) else { return Ok(None) };
    let (mut after, before) = around(key, job);
    loop {
        let rows = session.store.rows_of_job(&after, &before, PAGE)?;
        let Some(last) = rows.last() else { return Ok(None) };
        after.clone_from(&last.key);
        for row in rows {
            if row.key != key && has(session, &row, times)? {
                return Ok(Some(row.key));
            }
        }
    }
}

/// True where a row, or what a person is asked about it, is the run by other times.
fn has<S: Store>(session: &Session<'_, S>, row: &Row, times: Times) -> Result<bool, S::Fail> {
    let known = row.wanted.as_ref().map(Times::of);
    let is_twin = |known: Times| known.is_twin_of(times);
    if !row.on_hold {
        return Ok(known.is_some_and(is_twin));
    }
    let hold = session.store.hold(&row.key)?;
    // It waits as one of two itself, and is not charged before a person has said that it is another run.
    if row.state == State::Held && hold.is_some_and(|hold| hold.reason == OTHER_TIMES) {
        return Ok(false);
    }
    let asked = session.store.hold_candidate(&row.key)?;
    let asked = asked.map(|text| StoredCandidate::from_json(&row.key, &text)).transpose()?;
    Ok(known.into_iter().chain(asked.map(|stored| stored.times())).any(is_twin))
}

/// The question to a person.
pub(super) fn detail(known: &str, submit: i64) -> String {
    format!(
        "\"{known}\" is a run of the same job that took as long, and its times are off by as much as those of another zone \
         (this one was submitted at {submit}): one of them was read in the wrong zone, and both would be charged. Correct \
         `timezone` of its source; waive this one if it is the same run, approve it if it is another"
    )
}

/// Keys between which all runs of a job lie that were submitted no farther off than two zones can be.
fn around(key: &str, job: &str) -> (String, String) {
    let all = || (job.to_owned(), behind(key));
    let submit: Option<i64> = key.get(job.len()..).and_then(|submit| submit.parse().ok());
    let Some(submit) = submit else { return all() };
    let (first, last) = (submit.saturating_sub(FARTHEST + 1), submit.saturating_add(FARTHEST + 1));
    // Numbers are in the order of their texts where they are as long. (They are, since 2001.)
    if first > 0 && first.ilog10() == last.ilog10() {
        (format!("{job}{first}"), format!("{job}{last}"))
    } else {
        all()
    }
}

impl Times {
    pub(super) fn of(wanted: &Wanted) -> Self {
        Self { submit: wanted.identity.submit, facts: wanted.facts }
    }

    /// A run that was put back into the queue has no twin: a `scrontab` job runs under one id every quarter hour, and may
    /// take as long each time.
    fn may_have_a_twin(self) -> bool {
        self.facts.elapsed > 0 && !self.facts.requeued
    }

    /// True where two runs of a job are one by other times: all three times are off by the same quarter hours, and it took
    /// as long. Where the clocks of one zone changed in between, its times are off by an hour more or less from then on (on
    /// Lord Howe Island by half of one).
    fn is_twin_of(self, other: Self) -> bool {
        let off = |one: i64, other: i64| one.checked_sub(other);
        let Some(submit) = off(self.submit, other.submit) else { return false };
        let start = off(self.facts.start, other.facts.start);
        let end = off(self.facts.end, other.facts.end);
        submit != 0
            && submit.checked_rem(QUARTER) == Some(0)
            && (-FARTHEST..=FARTHEST).contains(&submit)
            && is_one_clock(Some(submit), start)
            && is_one_clock(Some(submit), end)
            && is_one_clock(start, end)
            && self.facts.elapsed == other.facts.elapsed
            && self.may_have_a_twin()
            && other.may_have_a_twin()
    }
}

/// True where two times of a run are off by as much, or by what a change of daylight saving between them makes of it.
fn is_one_clock(one: Option<i64>, other: Option<i64>) -> bool {
    let apart = one.zip(other).and_then(|(one, other)| one.checked_sub(other));
    apart.is_some_and(|apart| matches!(apart.unsigned_abs(), 0 | 1_800 | 3_600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_that_can_be_twins_lie_around_a_key() {
        let job = "slurm/c1/0000000123/";
        let (after, before) = around(&format!("{job}1795427125"), job);
        for off in [-FARTHEST, -1, 0, 1, FARTHEST] {
            let key = format!("{job}{}", 1_795_427_125 + off);
            assert!(after < key && key < before, "{off}");
        }
        for submit in ["5", "-5", "%", "999999999", "1000000000", "9223372036854775807"] {
            let (after, before) = around(&format!("{job}{submit}"), job);
            for key in [format!("{job}{submit}"), format!("{job}999999998"), format!("{job}1000000001")] {
                assert!(submit.len() > 10 || after < key && key < before, "{submit} {key}");
            }
        }
    }

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
