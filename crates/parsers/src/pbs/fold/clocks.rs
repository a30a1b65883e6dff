//! Local dates as instants, by what the log itself says: a record with an epoch time beside its date shows how far the server's wall
//! clock is from UTC, and holds for the records without one on either side of it.

use std::collections::VecDeque;

/// A server writes the time of its last pass through its loop: seconds late, seldom more than a few.
pub(super) const SLACK: i64 = 120;

/// All zones of this century differ from UTC by whole quarters of an hour.
const QUARTER: i64 = 900;
const FARTHEST: i64 = 14 * 3600;

/// Servers that are told apart: a log is one server's, and a merged one that of a few.
const MAX_SERVERS: usize = 64;
/// Runs of a server that wait for its next date with an epoch time: the records between two of them.
const MAX_WAITING: usize = 4096;

/// How far a server's wall clock was from UTC, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) offset: i64,
    pub(super) at: i64,
}

impl Anchor {
    /// By a date (seconds on the wall clock) and the instant at which it was written.
    pub(super) fn of(date: i64, instant: i64) -> Option<Self> {
        let ahead = date.checked_sub(instant)?;
        let offset = ahead.checked_add(QUARTER / 2)?.div_euclid(QUARTER).checked_mul(QUARTER)?;
        let is_near = ahead.abs_diff(offset) <= SLACK.unsigned_abs();
        (is_near && offset.abs() <= FARTHEST).then_some(Self { offset, at: instant })
    }
}

/// A date without an epoch time, between two that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) date: i64,
    pub(super) before: Option<Anchor>,
    pub(super) after: Option<Anchor>,
}

impl Moment {
    /// The instant within `from..=until`, if there is just one that fits. `own`: how far the clock was from UTC when the run began
    /// and when it ended, where that is known.
    pub(super) fn instant(&self, from: i64, until: i64, own: [Option<Anchor>; 2]) -> Option<i64> {
        let by = |anchor: Option<Anchor>| {
            let offset = anchor?.offset;
            let fits_own = own.iter().flatten().any(|own| own.offset == offset) || own == [None; 2];
            let instant = self.date.checked_sub(offset)?;
            let within = from.saturating_sub(SLACK) <= instant && instant <= until.saturating_add(SLACK);
            (fits_own && within).then_some(instant)
        };
        let ordered = |instant: &i64| {
            self.before.is_none_or(|before| before.at.saturating_sub(SLACK) <= *instant)
                && self.after.is_none_or(|after| *instant <= after.at.saturating_add(SLACK))
        };
        let instant = match (by(self.before), by(self.after)) {
            (Some(one), Some(other)) if one != other => {
                // The clock was changed between the two.
                match (ordered(&one), ordered(&other)) {
                    (true, false) => one,
                    (false, true) => other,
                    _ => return None,
                }
            }
            (one, other) => one.or(other)?,
        };
        Some(instant.clamp(from, until.max(from)))
    }
}

/// A server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) server: Box<[u8]>,
    /// What it showed last; nothing yet where the log begins.
    pub(super) last: Option<Anchor>,
    /// Runs with a moment that has nothing behind it yet.
    pub(super) waiting: Vec<Box<[u8]>>,
}

/// The clocks of the servers, the one that was used last in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clocks(pub(super) VecDeque<Clock>);

/// The server's part of a job's id.
pub(super) fn server(id: &[u8]) -> &[u8] {
    id.iter().position(|byte| *byte == b'.').and_then(|dot| id.get(dot..)).unwrap_or_default()
}

impl Clocks {
    /// The clock of this server, moved to the front.
    fn of(&mut self, server: &[u8]) -> Option<&mut Clock> {
        match self.0.iter().position(|clock| *clock.server == *server) {
            Some(0) => {}
            Some(place) => {
                let clock = self.0.remove(place)?;
                self.0.push_front(clock);
            }
            None => {
                self.0.push_front(Clock { server: server.into(), last: None, waiting: Vec::new() });
                self.0.truncate(MAX_SERVERS);
            }
        }
        self.0.front_mut()
    }

    /// What the clock of this server showed last.
    pub(super) fn last(&mut self, server: &[u8]) -> Option<Anchor> {
        self.of(server)?.last
    }

    /// Has the run told of the next epoch time of its server.
    pub(super) fn wait(&mut self, id: &[u8]) {
        if let Some(clock) = self.of(server(id))
            && clock.waiting.len() < MAX_WAITING
            && clock.waiting.last().is_none_or(|last| **last != *id)
        {
            clock.waiting.push(id.into());
        }
    }

    /// A server showed an epoch time; gives the runs that waited for it.
    pub(super) fn show(&mut self, server: &[u8], anchor: Anchor) -> Vec<Box<[u8]>> {
        let Some(clock) = self.of(server) else { return Vec::new() };
        clock.last = Some(anchor);
        std::mem::take(&mut clock.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    /// 2026-11-01 08:00 UTC: clocks in Denver go from 02:00 back to 01:00.
    const CHANGE: i64 = 1_793_520_000;

    fn summer(at: i64) -> Option<Anchor> {
        Some(Anchor { offset: -6 * HOUR, at })
    }

    fn winter(at: i64) -> Option<Anchor> {
        Some(Anchor { offset: -7 * HOUR, at })
    }

    #[test]
    fn an_offset_is_what_the_date_is_ahead_of_the_instant() {
        assert_eq!(Anchor::of(1000 - 7 * HOUR, 1000), Some(Anchor { offset: -7 * HOUR, at: 1000 }));
        assert_eq!(
            Anchor::of(1000 + 20_700 - 3, 1000),
            Some(Anchor { offset: 20_700, at: 1000 }),
            "Kathmandu, 3 s late"
        );
        assert_eq!(Anchor::of(1000, 1000), Some(Anchor { offset: 0, at: 1000 }));
        assert_eq!(Anchor::of(1000 + 300, 1000), None, "no zone");
        assert_eq!(Anchor::of(1000 + 15 * HOUR, 1000), None, "beyond all zones");
        assert_eq!(Anchor::of(i64::MIN, i64::MAX), None);
        assert_eq!(Anchor::of(i64::MAX, 0), None);
    }

    #[test]
    fn a_date_between_two_of_the_same_offset_has_one_instant() {
        let moment = Moment { date: 5000 - 7 * HOUR, before: winter(4000), after: winter(6000) };
        assert_eq!(moment.instant(4000, 9000, [winter(4000), winter(9000)]), Some(5000));
        assert_eq!(moment.instant(5050, 9000, [None, None]), Some(5050), "the server's clock lagged");
        assert_eq!(moment.instant(5500, 9000, [None, None]), None, "not within the run");
        assert_eq!(moment.instant(4000, 9000, [summer(4000), None]), None, "the run knows no such offset");
        let alone = Moment { date: 5000 - 7 * HOUR, before: None, after: None };
        assert_eq!(alone.instant(4000, 9000, [None, None]), None);
    }

    #[test]
    fn the_hour_that_comes_twice_is_told_by_its_neighbours() {
        let own = [summer(CHANGE - 2 * HOUR), winter(CHANGE + 3 * HOUR)];
        let of = |date: i64, before, after| {
            Moment { date, before, after }.instant(CHANGE - 2 * HOUR, CHANGE + 3 * HOUR, own)
        };
        // 01:30, for the first and for the second time.
        let half_past_one = CHANGE - HOUR / 2 - 6 * HOUR;
        let (first, second) = (CHANGE - HOUR / 2, CHANGE + HOUR / 2);
        assert_eq!(of(half_past_one, summer(first - 60), summer(first + 60)), Some(first));
        assert_eq!(of(half_past_one, winter(second - 60), winter(second + 60)), Some(second));
        // The clock was changed between the neighbours: 01:55 before it, or 01:10 behind it.
        assert_eq!(of(half_past_one, summer(CHANGE - 300), winter(second + 60)), Some(second));
        assert_eq!(of(half_past_one, summer(first - 60), winter(CHANGE + 300)), Some(first));
        assert_eq!(of(half_past_one, summer(first - 60), winter(second + 60)), None, "nothing tells");
    }

    #[test]
    fn clocks_are_kept_for_so_many_servers() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.last(b".a"), None);
        assert!(clocks.show(b".a", Anchor { offset: 0, at: 1 }).is_empty());
        clocks.wait(b"1.a");
        clocks.wait(b"1.a");
        for other in 0..MAX_SERVERS - 1 {
            clocks.show(format!(".x{other}").as_bytes(), Anchor { offset: 0, at: 1 });
        }
        assert_eq!(clocks.show(b".a", Anchor { offset: 900, at: 2 }), [(*b"1.a").into()]);
        for other in 0..MAX_SERVERS {
            clocks.show(format!(".y{other}").as_bytes(), Anchor { offset: 0, at: 1 });
        }
        assert_eq!(clocks.last(b".a"), None);
        assert_eq!(clocks.0.len(), MAX_SERVERS);
        assert_eq!((server(b"12[3].a.b"), server(b"12")), (&b".a.b"[..], &b""[..]));
    }
}
