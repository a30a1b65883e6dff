//! What a record that the service shows (loaded or failed) says about a row: pure judgements.
//!
//! The service may keep fewer digits than were sent, may show an older version of the same identity, and repeats old
//! failures for as long as nobody acknowledges them. So nothing is believed by its id alone.

use super::State;
use super::row::Row;
use amie_usage::Decimal;

/// Clocks of this host and of the service may differ by this much, in seconds.
pub const CLOCK_SKEW: i64 = 300;

/// A record as the service shows it among the loaded ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The charge it shows.
    pub charge: Option<Decimal>,
    /// Digits behind the point as it wrote them (`12.50` has two), where known; else those of `charge`.
    pub charge_places: Option<u8>,
    /// When it loaded it, epoch seconds.
    pub loaded_at: Option<i64>,
}

/// What a load says about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadVerdict {
    /// The version that was sent last is charged.
    Confirms {
        /// When it was loaded.
        at: i64,
        /// The charge as shown.
        charge: Decimal,
    },
    /// Known already.
    Again,
    /// Newer than what was sent or confirmed, and another charge: somebody must look.
    Mismatch,
    /// An older version of the same identity.
    Stale,
    /// The service left out what it takes to tell.
    Incomplete,
    /// The row is not awaited now (it is being sent, or waits for its turn): ask again later.
    NotNow,
}

/// Judges a load of the row's identity.
#[must_use]
pub fn judge_load(row: &Row, load: &Load) -> LoadVerdict {
    if matches!(row.state, State::Held | State::Pending | State::Sending | State::Superseded) {
        return LoadVerdict::NotNow;
    }
    let (Some(sent), Some(charge), Some(at)) = (row.sent, load.charge, load.loaded_at) else {
        return LoadVerdict::Incomplete;
    };
    let places = load.charge_places.unwrap_or(charge.places()).max(charge.places());
    let equal = sent.charge.rounded(places) == charge;
    if row.state == State::Loaded {
        return match row.loaded {
            // In the same second, too: a load that is shown is what is charged, or was for a moment.
            Some((before, _)) if at >= before && !equal => LoadVerdict::Mismatch,
            _ => LoadVerdict::Again,
        };
    }
    // Both times are the service's own, so that no skew has to be allowed for: what it shows of the version before stays in
    // its list, and says nothing of this one.
    match row.loaded {
        Some((before, _)) if at < before => return LoadVerdict::Stale,
        Some((before, noted)) if at == before && charge == noted => return LoadVerdict::Again,
        _ => {}
    }
    if at < sent.first_at.saturating_sub(CLOCK_SKEW) {
        LoadVerdict::Stale
    } else if equal {
        LoadVerdict::Confirms { at, charge }
    } else {
        LoadVerdict::Mismatch
    }
}

/// How many places behind the point the service is seen to keep: it shows, digit for digit, what was sent.
///
/// A service that writes `2` may have rounded, or may leave out zeros. Once it has shown `1.6` where 1.6 was sent, `2` is not 1.6.
#[must_use]
pub fn places_kept(row: &Row, load: &Load) -> Option<u8> {
    let (sent, charge) = (row.sent?, load.charge?);
    (sent.charge == charge).then_some(charge.places())
}

/// A record as the service shows it among the failed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Its words.
    pub error: &'a str,
    /// True where it carries an id that was never seen for this row; `None` where it carries none.
    pub new_id: Option<bool>,
    /// When the service processed it, epoch seconds, where known.
    pub processed_at: Option<i64>,
}

/// What a failure says about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureVerdict {
    /// What was sent last could not be loaded.
    Fails,
    /// Known already, or of an earlier send.
    Stale,
    /// The row is being sent: ask again later.
    NotNow,
}

/// Judges a failure of the row's identity.
#[must_use]
pub fn judge_failure(row: &Row, failure: &Failure<'_>) -> FailureVerdict {
    match row.state {
        State::Sending => return FailureVerdict::NotNow,
        State::Accepted | State::Unknown => {}
        _ => return FailureVerdict::Stale,
    }
    let too_old = match (failure.processed_at, row.sent) {
        (Some(at), Some(sent)) => at < sent.last_at.saturating_sub(CLOCK_SKEW),
        _ => false,
    };
    // Without an id or a time, the same words as before cannot be told from the failure before.
    let nothing_new = failure.new_id.is_none()
        && failure.processed_at.is_none()
        && row.error.as_deref() == Some(failure.error);
    if too_old || failure.new_id == Some(false) || nothing_new {
        FailureVerdict::Stale
    } else {
        FailureVerdict::Fails
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Wanted;
    use super::super::row::tests::pending;
    use super::super::{Event, RecordOutcome};
    use super::*;

    fn accepted(charge: &str) -> Row {
        let mut row = pending();
        row.wanted.as_mut().unwrap().charge = charge.parse().unwrap();
        row.lease(1, 1_000).unwrap();
        row.settle(&RecordOutcome::Accepted).unwrap();
        row
    }

    fn load(charge: &str, at: i64) -> Load {
        Load { charge: charge.parse().ok(), charge_places: None, loaded_at: Some(at) }
    }

    #[test]
    fn a_load_confirms_by_charge_and_time() {
        let row = accepted("12.456789");
        let confirms = |charge: &str, at| {
            assert_eq!(
                judge_load(&row, &load(charge, at)),
                LoadVerdict::Confirms { at, charge: charge.parse().unwrap() }
            );
        };
        confirms("12.456789", 1_000);
        confirms("12.46", 700);
        confirms("12", 5_000);
        assert_eq!(judge_load(&row, &load("12.46", 699)), LoadVerdict::Stale);
        assert_eq!(judge_load(&row, &load("12.45", 1_000)), LoadVerdict::Mismatch);
        assert_eq!(judge_load(&row, &Load { charge: None, ..load("12", 1) }), LoadVerdict::Incomplete);
        assert_eq!(judge_load(&row, &Load { loaded_at: None, ..load("12", 1) }), LoadVerdict::Incomplete);
    }

    #[test]
    fn trailing_zeros_as_written_count_as_digits() {
        // 0.4 may be shown as 0 by a service that keeps whole units, but not as 0.00.
        let row = accepted("0.4");
        assert!(matches!(judge_load(&row, &load("0", 1_000)), LoadVerdict::Confirms { .. }));
        let written = Load { charge_places: Some(2), ..load("0.00", 1_000) };
        assert_eq!(judge_load(&row, &written), LoadVerdict::Mismatch);
    }

    #[test]
    fn what_is_shown_digit_for_digit_says_how_many_the_service_keeps() {
        let row = accepted("1.60");
        for (shown, kept) in [("1.6", Some(1)), ("2", None), ("1.61", None)] {
            assert_eq!(places_kept(&row, &load(shown, 1_000)), kept, "{shown}");
        }
        let known = Load { charge_places: Some(1), ..load("2", 1_000) };
        assert_eq!(judge_load(&row, &known), LoadVerdict::Mismatch);
    }

    #[test]
    fn a_newer_load_with_another_charge_is_an_alarm_even_after_loading() {
        let mut row = accepted("10");
        row.load(1, 2_000, Decimal::new(10, 0)).unwrap();
        assert_eq!(judge_load(&row, &load("10", 3_000)), LoadVerdict::Again);
        assert_eq!(judge_load(&row, &load("9", 1_900)), LoadVerdict::Again);
        assert_eq!(judge_load(&row, &load("9", 2_001)), LoadVerdict::Mismatch);
        assert_eq!(judge_load(&row, &load("9", 2_000)), LoadVerdict::Mismatch, "in the same second");
    }

    #[test]
    fn the_load_of_the_version_before_does_not_confirm_a_newer_one_of_the_same_charge() {
        // Loaded at 2,000, restated (to another project, say), and accepted a minute later: well within the skew of clocks.
        let mut row = accepted("10");
        row.load(1, 2_000, Decimal::new(10, 0)).unwrap();
        let wanted = Wanted { project: "TG-2".into(), digest: 2, ..row.wanted.clone().unwrap() };
        row.want(Event::Restated, wanted, 2).unwrap();
        row.lease(2, 2_060).unwrap();
        row.settle(&RecordOutcome::Accepted).unwrap();
        assert_eq!(judge_load(&row, &load("10", 2_000)), LoadVerdict::Again, "still listed");
        assert_eq!(judge_load(&row, &load("10", 1_990)), LoadVerdict::Stale);
        assert_eq!(judge_load(&row, &load("9", 1_990)), LoadVerdict::Stale, "no alarm: it is not the newest");
        assert_eq!(
            judge_load(&row, &load("9", 2_000)),
            LoadVerdict::Mismatch,
            "another one, in the same second"
        );
        let charge = Decimal::new(10, 0);
        assert_eq!(judge_load(&row, &load("10", 2_001)), LoadVerdict::Confirms { at: 2_001, charge });
        // Where the charge is another one, the load of the version before is no alarm, and the newer one's is one at once.
        let wanted = Wanted { charge: Decimal::new(20, 0), digest: 3, ..row.wanted.clone().unwrap() };
        row.load(2, 2_100, charge).unwrap();
        row.want(Event::Restated, wanted, 3).unwrap();
        row.lease(3, 2_160).unwrap();
        row.settle(&RecordOutcome::Accepted).unwrap();
        assert_eq!(judge_load(&row, &load("10", 2_100)), LoadVerdict::Again);
        let charge = Decimal::new(20, 0);
        assert_eq!(judge_load(&row, &load("20", 2_100)), LoadVerdict::Confirms { at: 2_100, charge });
        assert_eq!(judge_load(&row, &load("10", 2_101)), LoadVerdict::Mismatch);
    }

    #[test]
    fn an_old_failure_does_not_fail_a_new_send() {
        let row = accepted("10");
        let failure = Failure { error: "no allocation", new_id: Some(true), processed_at: None };
        assert_eq!(judge_failure(&row, &failure), FailureVerdict::Fails);
        assert_eq!(judge_failure(&row, &Failure { new_id: Some(false), ..failure }), FailureVerdict::Stale);
        let timed = |at| Failure { new_id: None, processed_at: Some(at), ..failure };
        assert_eq!(judge_failure(&row, &timed(699)), FailureVerdict::Stale);
        assert_eq!(judge_failure(&row, &timed(1_001)), FailureVerdict::Fails);
        let bare = Failure { new_id: None, ..failure };
        assert_eq!(judge_failure(&row, &bare), FailureVerdict::Fails);
        let mut retried = row.clone();
        retried.error = Some("no allocation".into());
        assert_eq!(judge_failure(&retried, &bare), FailureVerdict::Stale);
        assert_eq!(judge_failure(&pending(), &failure), FailureVerdict::Stale);
    }
}
