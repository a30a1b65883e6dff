//! Local times that came twice, because the clock was put back: which of the two instants each one is.

use crate::run::Finding;
use crate::time::{Local, Stamp, Zone};

/// A time, as far as its own text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Absent,
    Known(i64),
    Twice { earlier: i64, later: i64 },
}

impl Moment {
    /// `None` for a local time that did not exist.
    #[inline]
    pub(super) fn new(stamp: Stamp, zone: &Zone) -> Option<Self> {
        match stamp {
            Stamp::Absent => Some(Self::Absent),
            Stamp::Instant(instant) => Some(Self::Known(instant)),
            Stamp::Wall(local) => match zone.resolve(local) {
                Local::Once(instant) => Some(Self::Known(instant)),
                Local::Twice { earlier, later } => Some(Self::Twice { earlier, later }),
                Local::Never => None,
            },
        }
    }

    fn candidates(self) -> impl Iterator<Item = Option<i64>> + Clone {
        let (first, second) = match self {
            Self::Absent => (None, None),
            Self::Known(instant) => (Some(instant), None),
            Self::Twice { earlier, later } => (Some(earlier), Some(later)),
        };
        std::iter::once(first).chain(second.map(Some))
    }
}

/// The times of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moments {
    pub(super) submit: Moment,
    pub(super) eligible: Moment,
    pub(super) start: Moment,
    pub(super) end: Moment,
}

/// The times of a row, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) submit: Option<i64>,
    pub(super) eligible: Option<i64>,
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
    /// Where nothing told which; the earliest possible times are given then.
    pub(super) finding: Option<Finding>,
}

impl Moments {
    /// The times of a row, decided by how long it ran (`elapsed` seconds, without `suspended` ones where that is known) and by
    /// the order of things.
    #[inline]
    pub(super) fn decide(self, elapsed: Option<u64>, suspended: Option<u64>) -> Times {
        let known = |moment| match moment {
            Moment::Absent => Some(None),
            Moment::Known(instant) => Some(Some(instant)),
            Moment::Twice { .. } => None,
        };
        match (known(self.submit), known(self.eligible), known(self.start), known(self.end)) {
            (Some(submit), Some(eligible), Some(start), Some(end)) => {
                Times { submit, eligible, start, end, finding: None }
            }
            _ => self.decide_between(elapsed, suspended),
        }
    }

    /// Holds every combination of candidates (at most sixteen) against elapsed, then against the order, and sees what is left.
    #[cold]
    fn decide_between(self, elapsed: Option<u64>, suspended: Option<u64>) -> Times {
        let mut best: Option<(Misfit, Times)> = None;
        let (mut same_submit, mut same_run) = (true, true);
        // Earlier candidates come first, so that of equals the earliest is kept.
        for submit in self.submit.candidates() {
            for eligible in self.eligible.candidates() {
                for start in self.start.candidates() {
                    for end in self.end.candidates() {
                        let times = Times { submit, eligible, start, end, finding: None };
                        let misfit = times.misfit(elapsed, suspended);
                        match &best {
                            Some((least, _)) if misfit > *least => {}
                            Some((least, kept)) if misfit == *least => {
                                same_submit &= kept.submit == submit;
                                same_run &= (kept.start, kept.end) == (start, end);
                            }
                            _ => {
                                best = Some((misfit, times));
                                (same_submit, same_run) = (true, true);
                            }
                        }
                    }
                }
            }
        }
        let nothing = Times { submit: None, eligible: None, start: None, end: None, finding: None };
        let mut times = best.map_or(nothing, |(_, times)| times);
        times.finding = match (same_submit, same_run) {
            (true, true) => None,
            (false, _) => Some(Finding::AmbiguousSubmit), // it is part of what identifies the run
            (true, false) => Some(Finding::AmbiguousTime),
        };
        times
    }
}

/// How badly a combination fits: less is better. Elapsed is held to before the order is: the second part of a resized job is
/// submitted after it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Misfit {
    elapsed: Option<Elapsed>,
    out_of_order: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Elapsed {
    /// It fits, and is off by so many seconds.
    By(u64),
    DoesNotFit,
}

impl Times {
    fn misfit(&self, elapsed: Option<u64>, suspended: Option<u64>) -> Misfit {
        let elapsed = match (self.start, self.end) {
            (Some(start), Some(end)) => Some(fit(i128::from(end) - i128::from(start), elapsed, suspended)),
            _ => None,
        };
        let begin = self.start.or(self.end);
        let order = [(self.submit, self.eligible), (self.eligible, self.start), (self.submit, begin)];
        let out_of_order =
            order.iter().any(|pair| matches!(pair, (Some(earlier), Some(later)) if earlier > later));
        Misfit { elapsed, out_of_order }
    }
}

fn fit(span: i128, elapsed: Option<u64>, suspended: Option<u64>) -> Elapsed {
    let off = match (elapsed, suspended) {
        // Clocks of a second's resolution are read at different moments: within 2 s.
        (Some(elapsed), Some(suspended)) => {
            let off = (span - i128::from(elapsed) - i128::from(suspended)).abs();
            if off > 2 { None } else { Some(off) }
        }
        // Suspension only makes the span longer: the shortest that elapsed fits into.
        (Some(elapsed), None) => (span >= i128::from(elapsed)).then_some(span - i128::from(elapsed)),
        (None, _) => (span >= 0).then_some(0),
    };
    off.and_then(|off| u64::try_from(off).ok()).map_or(Elapsed::DoesNotFit, Elapsed::By)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Moment::{Absent, Known};

    /// 01:10 and so on of the night when 01:00 to 02:00 came twice: minutes after the first 01:00.
    fn twice(minutes: i64) -> Moment {
        Moment::Twice { earlier: minutes * 60, later: minutes * 60 + 3600 }
    }

    fn decide(
        submit: Moment,
        start: Moment,
        end: Moment,
        elapsed: u64,
    ) -> (Option<i64>, Option<i64>, Option<i64>, Option<Finding>) {
        let times = Moments { submit, eligible: Absent, start, end }.decide(Some(elapsed), None);
        (times.submit, times.start, times.end, times.finding)
    }

    #[test]
    fn elapsed_decides_between_the_two_hours() {
        // From the first 01:50 to the second 01:10.
        assert_eq!(decide(Known(0), twice(50), twice(10), 1200), (Some(0), Some(3000), Some(4200), None));
        // From 00:30 to the second 01:10, and to the first.
        assert_eq!(
            decide(Known(-1800), Known(-1800), twice(10), 6000),
            (Some(-1800), Some(-1800), Some(4200), None)
        );
        assert_eq!(
            decide(Known(-1800), Known(-1800), twice(10), 2400),
            (Some(-1800), Some(-1800), Some(600), None)
        );
        // From the second 01:50 to 02:10, and from the first.
        assert_eq!(decide(Known(0), twice(50), Known(7800), 1200), (Some(0), Some(6600), Some(7800), None));
        assert_eq!(decide(Known(0), twice(50), Known(7800), 4800), (Some(0), Some(3000), Some(7800), None));
    }

    #[test]
    fn within_one_hour_nothing_tells_which_it_was() {
        let (_, start, end, finding) = decide(Known(0), twice(10), twice(20), 600);
        assert_eq!((start, end, finding), (Some(600), Some(1200), Some(Finding::AmbiguousTime)));
    }

    #[test]
    fn the_order_of_submit_and_start_decides_what_elapsed_does_not() {
        // Submitted at 01:50, ran from 01:10 to 01:20: it must have been the first 01:50 and the second 01:10.
        assert_eq!(decide(twice(50), twice(10), twice(20), 600), (Some(3000), Some(4200), Some(4800), None));
        // Started at the second 01:10 for sure: submitted at the first 01:50.
        assert_eq!(
            decide(twice(50), Known(4200), Known(4800), 600),
            (Some(3000), Some(4200), Some(4800), None)
        );
    }

    #[test]
    fn eligible_bounds_submit() {
        let moments =
            Moments { submit: twice(50), eligible: Known(3100), start: Known(9000), end: Known(9060) };
        let times = moments.decide(Some(60), None);
        assert_eq!((times.submit, times.finding), (Some(3000), None));
    }

    #[test]
    fn an_undecided_submit_is_the_earlier_one_and_is_found() {
        let (submit, _, _, finding) = decide(twice(10), Known(9000), Known(9060), 60);
        assert_eq!((submit, finding), (Some(600), Some(Finding::AmbiguousSubmit)));
    }

    #[test]
    fn known_suspension_makes_the_span_exact() {
        let moments = Moments { submit: Known(0), eligible: Absent, start: twice(10), end: Known(7200) };
        // From the first 01:10: 6600 s; from the second: 3000 s. Ran 3000 s: suspended for an hour, or not at all.
        assert_eq!(moments.decide(Some(3000), Some(3600)).start, Some(600));
        assert_eq!(moments.decide(Some(3000), Some(0)).start, Some(4200));
        assert_eq!(moments.decide(Some(2999), Some(0)).finding, None);
    }

    #[test]
    fn a_resized_part_that_starts_before_its_submission_is_still_decided_by_elapsed() {
        assert_eq!(
            decide(Known(6900), twice(50), Known(7800), 4800),
            (Some(6900), Some(3000), Some(7800), None)
        );
    }
}
