//! Whether to try again, decided here and nowhere else, from the typed outcome of one request.

use crate::refusals::Refusals;
use crate::wire::Resend;
use crate::{CallError, Cancel, SendOutcome, Stop};
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How many times, how soon and for how long a run tries again. One budget serves all deliveries of a run, so that an
/// outage costs a run its budget once, and not once for each batch. What one delivery of the run learns about the service,
/// that it refuses the key or everything, the others know through the budget that they share.
///
/// ```
/// use amie_usage::RetryBudget;
/// use std::time::Duration;
/// let budget = RetryBudget::new(20).with_backoff(Duration::from_millis(500), Duration::from_secs(60));
/// assert_eq!(budget.left(), 20);
/// ```
#[derive(Debug)]
pub struct RetryBudget {
    left: AtomicU32,
    attempts: u32,
    base: Duration,
    longest: Duration,
    delivery_limit: Duration,
    jitter: AtomicU64,
    pub(crate) refusals: Refusals,
    stopped: OnceLock<(Stop, String)>,
}

impl Default for RetryBudget {
    /// 20 retries a run.
    fn default() -> Self {
        Self::new(20)
    }
}

impl RetryBudget {
    /// So many retries for all deliveries together; at most 5 attempts a message, waits of up to 1, 2, 4, 8 s (full
    /// jitter), none longer than 120 s, and no new POST in a delivery that has lasted 5 minutes.
    #[must_use]
    pub fn new(retries: u32) -> Self {
        // A process's hash keys are random: good enough to keep two hosts from retrying in step.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Self {
            left: AtomicU32::new(retries),
            attempts: 5,
            base: Duration::from_secs(1),
            longest: Duration::from_secs(120),
            delivery_limit: Duration::from_secs(300),
            jitter: AtomicU64::new(seed),
            refusals: Refusals::default(),
            stopped: OnceLock::new(),
        }
    }

    /// The first wait is up to `base`, each next one up to twice as long, none longer than `longest`. Where the service
    /// asks for more than `longest`, the delivery ends instead of asking too early.
    #[must_use]
    pub fn with_backoff(mut self, base: Duration, longest: Duration) -> Self {
        self.base = base;
        self.longest = longest;
        self
    }

    /// At most so many POSTs of the same message, the first one counted in.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// No delivery starts another POST after this time. A lease on its records must last this long, plus the longest
    /// time of one request.
    #[must_use]
    pub fn with_delivery_limit(mut self, limit: Duration) -> Self {
        self.delivery_limit = limit;
        self
    }

    /// Fixes the source of jitter, so that waits can be foretold.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.jitter = AtomicU64::new(seed);
        self
    }

    /// Retries that are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }

    /// How long a delivery may start new POSTs.
    #[must_use]
    pub fn delivery_limit(&self) -> Duration {
        self.delivery_limit
    }

    /// No delivery of this run posts any more.
    pub(crate) fn stop(&self, stop: Stop, reason: String) {
        // Where two find something wrong at once, the first word stands.
        let _ = self.stopped.set((stop, reason));
    }

    /// Why no delivery of this run posts any more.
    pub(crate) fn stopped(&self) -> Option<&(Stop, String)> {
        self.stopped.get()
    }

    /// True where the service asks for a longer wait than this run is willing to make.
    pub(crate) fn is_too_long(&self, asked: Duration) -> bool {
        asked > self.longest
    }

    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// A random part of `ceiling` (splitmix64, by S. Vigna; public domain).
    fn part_of(&self, ceiling: Duration) -> Duration {
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let nanos = u128::from(z).wrapping_mul(ceiling.as_nanos().min(u128::from(u64::MAX))) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The wait before attempt `attempt + 1`; `None` where the service asks for a longer one than is allowed.
    fn wait(&self, attempt: u32, retry_after: Option<Duration>) -> Option<Duration> {
        match retry_after {
            Some(asked) if self.is_too_long(asked) => None,
            // Never sooner than asked; a little later, so that all clients do not come back together.
            Some(asked) => Some(asked.saturating_add(self.part_of(self.base))),
            None => {
                let doublings = attempt.saturating_sub(1).min(31);
                let ceiling = self.base.saturating_mul(1_u32 << doublings).min(self.longest);
                Some(self.part_of(ceiling))
            }
        }
    }
}

/// What follows from one outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The answer settles the message.
    Settle,
    /// Refused whole: send smaller parts.
    Split,
    /// The same bytes again, after a wait.
    Again(Duration),
    /// Nothing more can be done now.
    GiveUp,
}

/// What to do after `attempt` POSTs (1 after the first) of a message of which re-sends are judged by `resend`.
pub(crate) fn next(outcome: &SendOutcome, resend: Resend, attempt: u32, budget: &RetryBudget) -> Next {
    let (maybe_stored, retry_after) = match outcome {
        SendOutcome::Answered { .. } => return Next::Settle,
        SendOutcome::RefusedWhole { .. } | SendOutcome::TooLarge { .. } => return Next::Split,
        SendOutcome::KeyRefused { .. } | SendOutcome::Proxy { .. } => return Next::GiveUp,
        SendOutcome::Busy { maybe_stored, retry_after, .. } => (*maybe_stored, *retry_after),
        SendOutcome::NotSent { .. } => (false, None),
        SendOutcome::Unknown { .. } => (true, None),
    };
    if maybe_stored && resend == Resend::ConfirmFirst {
        return Next::GiveUp;
    }
    again(attempt, retry_after, budget).map_or(Next::GiveUp, Next::Again)
}

/// The wait before another attempt, paid for from the budget; none where there is to be no other.
fn again(attempt: u32, retry_after: Option<Duration>, budget: &RetryBudget) -> Option<Duration> {
    if attempt >= budget.attempts {
        return None;
    }
    let wait = budget.wait(attempt, retry_after)?;
    budget.take().then_some(wait)
}

/// Makes a call, and makes it again where that may help: after a busy service or a broken connection, within the budget, with
/// the same waits as a message. For the calls that may be made twice, which are all but sending.
///
/// ```no_run
/// # async fn example(client: amie_usage::Client) -> Result<(), amie_usage::CallError> {
/// use amie_usage::{Cancel, RetryBudget, ask};
/// let (budget, cancel) = (RetryBudget::new(10), Cancel::new());
/// let failed = ask(&budget, &cancel, async || client.failed().await).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// The last error, where trying again does not help, is not allowed any more, or `cancel` was called.
pub async fn ask<T>(
    budget: &RetryBudget,
    cancel: &Cancel,
    mut call: impl AsyncFnMut() -> Result<T, CallError>,
) -> Result<T, CallError> {
    let mut attempt: u32 = 0;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        attempt = attempt.saturating_add(1);
        let wait = match &error {
            CallError::Busy { retry_after, .. } => again(attempt, *retry_after, budget),
            CallError::Unreachable { .. } => again(attempt, None, budget),
            // The same question gets the same answer.
            CallError::NotOffered { .. }
            | CallError::KeyRefused { .. }
            | CallError::Refused { .. }
            | CallError::Proxy { .. }
            | CallError::Unreadable { .. }
            | CallError::Impossible { .. } => None,
        };
        let Some(wait) = wait.filter(|_| !cancel.is_cancelled()) else { return Err(error) };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(attempt, wait_ms, %error, "asking again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn busy(maybe_stored: bool, retry_after: Option<u64>) -> SendOutcome {
        let retry_after = retry_after.map(Duration::from_secs);
        SendOutcome::Busy { http_status: 503, retry_after, reason: String::new(), maybe_stored }
    }

    fn unknown() -> SendOutcome {
        SendOutcome::Unknown { reason: String::new() }
    }

    fn is_again(next: &Next) -> bool {
        matches!(next, Next::Again(_))
    }

    #[test]
    fn what_may_have_been_stored_is_sent_again_only_where_that_overwrites() {
        let budget = RetryBudget::new(100);
        for outcome in [busy(true, None), unknown()] {
            assert!(is_again(&next(&outcome, Resend::Overwrite, 1, &budget)), "{outcome:?}");
            assert_eq!(next(&outcome, Resend::ConfirmFirst, 1, &budget), Next::GiveUp, "{outcome:?}");
        }
        let not_sent = SendOutcome::NotSent { reason: String::new() };
        for outcome in [busy(false, None), not_sent] {
            for resend in [Resend::Overwrite, Resend::ConfirmFirst] {
                assert!(is_again(&next(&outcome, resend, 1, &budget)), "{outcome:?} {resend:?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_never_sent_again_as_it_is() {
        let budget = RetryBudget::new(100);
        let reason = String::new;
        for (outcome, expected) in [
            (SendOutcome::RefusedWhole { http_status: 400, reason: reason() }, Next::Split),
            (SendOutcome::TooLarge { http_status: 413 }, Next::Split),
            (SendOutcome::KeyRefused { http_status: 401, reason: reason() }, Next::GiveUp),
            (SendOutcome::Proxy { http_status: 403, reason: reason() }, Next::GiveUp),
            (SendOutcome::Answered { refused: vec![], unmatched: vec![], http_status: 200 }, Next::Settle),
        ] {
            assert_eq!(next(&outcome, Resend::Overwrite, 1, &budget), expected, "{outcome:?}");
        }
        assert_eq!(budget.left(), 100);
    }

    #[test]
    fn a_budget_ends() {
        let budget = RetryBudget::new(2);
        let outcomes: Vec<_> =
            (0..4).map(|_| is_again(&next(&unknown(), Resend::Overwrite, 1, &budget))).collect();
        assert_eq!(outcomes, [true, true, false, false]);
        let budget = RetryBudget::new(100).with_attempts(3);
        let outcomes: Vec<_> =
            (1..5).map(|attempt| is_again(&next(&unknown(), Resend::Overwrite, attempt, &budget))).collect();
        assert_eq!(outcomes, [true, true, false, false]);
    }

    #[test]
    fn the_service_is_not_asked_sooner_than_it_says() {
        let budget = RetryBudget::new(100);
        for asked in [0, 1, 120] {
            let Next::Again(wait) = next(&busy(false, Some(asked)), Resend::Overwrite, 1, &budget) else {
                panic!()
            };
            let asked = Duration::from_secs(asked);
            assert!(wait >= asked && wait <= asked + Duration::from_secs(1), "{wait:?}");
        }
        assert_eq!(next(&busy(false, Some(121)), Resend::Overwrite, 1, &budget), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn waits_grow_and_are_bounded(seed in any::<u64>(), attempt in 1_u32..100) {
            let budget = RetryBudget::new(0).with_seed(seed);
            let ceiling = Duration::from_secs(1_u64 << (attempt - 1).min(7)).min(Duration::from_secs(120));
            prop_assert!(budget.wait(attempt, None).unwrap() <= ceiling);
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let budget = RetryBudget::new(0).with_seed(7);
        let waits: Vec<_> = (0..1000).map(|_| budget.wait(3, None).unwrap()).collect();
        let quarter = |n: u32| {
            let range = Duration::from_secs(1) * (n - 1)..Duration::from_secs(1) * n;
            waits.iter().filter(|wait| range.contains(wait)).count()
        };
        for n in 1..=4 {
            assert!((150..350).contains(&quarter(n)), "{n}: {}", quarter(n));
        }
        let same = RetryBudget::new(0).with_seed(7);
        assert_eq!(same.wait(3, None).as_ref(), waits.first());
    }
}
