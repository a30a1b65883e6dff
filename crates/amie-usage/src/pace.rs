//! How often the service is asked: requests start at least so far apart.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all clones of a client. Evenly spaced, without bursts: that keeps below a limit however the service counts.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// When the next request may start.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, next: Mutex::new(None) }
    }

    /// Takes the next place in the row and waits for its time. A place that is not waited for is lost.
    pub(crate) async fn turn(&self) {
        if self.interval.is_zero() {
            return;
        }
        let wait = self.place(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long after `now` the next request may start.
    fn place(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or(now, |next| next.max(now));
        *next = at.checked_add(self.interval);
        at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spaced_and_time_that_passed_is_not_saved_up() {
        let pace = Pace::new(Duration::from_millis(100));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let places: Vec<u128> =
            [0, 0, 50, 1000, 1000].into_iter().map(|ms| pace.place(at(ms)).as_millis()).collect();
        assert_eq!(places, [0, 100, 150, 0, 100]);
    }
}
