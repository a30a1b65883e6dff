//! Periods of time, and where a date begins in a site's zone.

use chrono::{MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

/// From `from` to before `until`, epoch seconds. The ends of `i64` mean: open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Interval {
    pub(crate) const ALWAYS: Self = Self { from: i64::MIN, until: i64::MAX };

    /// From midnight of `from` to midnight of `until`, in `zone`.
    pub(crate) fn of_dates(from: Option<NaiveDate>, until: Option<NaiveDate>, zone: Tz) -> Self {
        Self {
            from: from.map_or(i64::MIN, |date| midnight(date, zone)),
            until: until.map_or(i64::MAX, |date| midnight(date, zone)),
        }
    }

    pub(crate) fn contains(self, time: i64) -> bool {
        self.from <= time && time < self.until
    }

    pub(crate) fn is_empty(self) -> bool {
        self.from >= self.until
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.from < other.until && other.from < self.until
    }

    /// True where every time of `other` is in this one.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.from <= other.from && other.until <= self.until
    }

    /// Whether `rule` holds at `time`; this interval shrinks to the times around it at which the answer is the same.
    pub(crate) fn decide(&mut self, rule: Self, time: i64) -> bool {
        if rule.contains(time) {
            self.from = self.from.max(rule.from);
            self.until = self.until.min(rule.until);
            return true;
        }
        if time < rule.from {
            self.until = self.until.min(rule.from);
        } else {
            self.from = self.from.max(rule.until);
        }
        false
    }
}

/// When `date` begins in `zone`, epoch seconds: its first instant where the clock is put forward over midnight, and
/// the earlier midnight where there are two.
pub(crate) fn midnight(date: NaiveDate, zone: Tz) -> i64 {
    let local = date.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => time.timestamp(),
        MappedLocalTime::Ambiguous(earlier, _) => earlier.timestamp(),
        MappedLocalTime::None => first_instant(local, zone),
    }
}

/// The first instant at which the clock in `zone` shows `local` or later, which it jumps over. Found by halving: no
/// zone is a day and a half from UTC.
fn first_instant(local: NaiveDateTime, zone: Tz) -> i64 {
    let as_utc = local.and_utc().timestamp();
    let reached = |time: i64| {
        chrono::DateTime::from_timestamp(time, 0)
            .is_none_or(|instant| instant.with_timezone(&zone).naive_local() >= local)
    };
    let reach = TimeDelta::hours(36).num_seconds();
    let (mut before, mut after) = (as_utc.saturating_sub(reach), as_utc.saturating_add(reach));
    while after.saturating_sub(before) > 1 {
        let middle = before.midpoint(after);
        if reached(middle) { after = middle } else { before = middle }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use amie_usage::wire::parse_time;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// Offsets by hand from the zones' published rules.
    #[test]
    fn midnights() {
        for (day, zone, instant) in [
            ("2026-01-01", Tz::UTC, "2026-01-01T00:00:00Z"),
            ("2026-01-01", Tz::America__Denver, "2026-01-01T07:00:00Z"),
            // The clock changes at 02:00: the day begins with the old offset, the next one with the new.
            ("2026-03-08", Tz::America__Denver, "2026-03-08T07:00:00Z"),
            ("2026-03-09", Tz::America__Denver, "2026-03-09T06:00:00Z"),
            ("2026-11-01", Tz::America__Denver, "2026-11-01T06:00:00Z"),
            ("2026-11-02", Tz::America__Denver, "2026-11-02T07:00:00Z"),
            // São Paulo put the clock forward at midnight: 2018-11-04 began at 01:00, -02:00.
            ("2018-11-04", Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z"),
            // and back at midnight to 23:00 of 2018-02-17: there is one midnight, at the new -03:00.
            ("2018-02-18", Tz::America__Sao_Paulo, "2018-02-18T03:00:00Z"),
            // Havana puts the clock back at 01:00 to 00:00: two midnights, the day begins with the earlier.
            ("2023-11-05", Tz::America__Havana, "2023-11-05T04:00:00Z"),
            // Samoa went over the date line and had no 2011-12-30: it begins when the 31st does.
            ("2011-12-30", Tz::Pacific__Apia, "2011-12-30T10:00:00Z"),
            ("2026-07-01", Tz::Asia__Kathmandu, "2026-06-30T18:15:00Z"),
        ] {
            assert_eq!(Some(midnight(date(day), zone)), parse_time(instant), "{day} {zone}");
        }
    }

    #[test]
    fn the_answer_holds_in_the_interval_that_is_left() {
        let rules = [Interval { from: 10, until: 20 }, Interval { from: 15, until: 30 }, Interval::ALWAYS];
        for time in 0..40 {
            let mut valid = Interval::ALWAYS;
            let answers = rules.map(|rule| valid.decide(rule, time));
            assert!(valid.contains(time));
            for other in 0..40 {
                let same = rules.map(|rule| rule.contains(other)) == answers;
                assert!(same || !valid.contains(other), "{time} {other} {valid:?}");
            }
        }
    }
}
