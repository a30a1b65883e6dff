//! How often the service is asked: requests start at least so far apart, and none while it wants to be left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all clones of a client. Evenly spaced, without bursts: that keeps below a limit however the service counts.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    row: Mutex<Row>,
}

#[derive(Debug, Default)]
struct Row {
    /// When the next request may start.
    next: Option<Instant>,
    /// Until when none may, however long it has waited.
    held: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, row: Mutex::default() }
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next place in the row and waits for its time. A place that is not waited for is lost.
    pub(crate) async fn turn(&self) {
        let mut wait = self.place(Instant::now());
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            wait = self.held(Instant::now());
        }
    }

    /// The service asks to be left alone for so long: what it told one request holds for all.
    pub(crate) fn hold(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait);
        let mut row = self.row();
        row.held = row.held.max(until);
    }

    /// How long after `now` the next request may start.
    fn place(&self, now: Instant) -> Duration {
        let mut row = self.row();
        let at = row.next.max(row.held).map_or(now, |at| at.max(now));
        row.next = at.checked_add(self.interval);
        at.saturating_duration_since(now)
    }

    /// How much longer a request must wait whose turn has come.
    fn held(&self, now: Instant) -> Duration {
        self.row().held.map_or(Duration::ZERO, |held| held.saturating_duration_since(now))
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

    #[test]
    fn a_hold_is_for_all_and_only_grows() {
        let pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.place(Instant::now()), Duration::ZERO);
        pace.hold(Duration::from_secs(60));
        pace.hold(Duration::from_secs(1));
        for wait in [pace.place(Instant::now()), pace.held(Instant::now())] {
            assert!(wait > Duration::from_secs(59) && wait <= Duration::from_secs(60), "{wait:?}");
        }
    }
}
