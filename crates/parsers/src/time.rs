//! Times as Slurm prints them, and the zones that local times are read in.
//!
//! `sacct` prints local times without an offset unless it is told otherwise. A local time is resolved by its own date's rules:
//! where the clock was put back it names two instants, where it was put forward none. [`Zone`] holds the offset of every local day
//! from 1970 to 2099 in a table, so that this costs one look-up, and the changes themselves for the days on which one fell.

use crate::Malformed;
use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::{digit1, one_of};
use nom::combinator::{all_consuming, map, map_opt, opt, value, verify};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use std::sync::Arc;

const DAY: i64 = 86_400;
/// Days of the table: 1970-01-01 up to and without 2100-01-01.
const DAYS: i64 = 47_482;
/// No offset: the clock was changed on that day.
const CHANGED: i32 = i32::MIN;

/// What a local time names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// One instant, epoch seconds.
    Once(i64),
    /// Two instants: the clock was put back over it.
    Twice {
        /// The earlier one, epoch seconds.
        earlier: i64,
        /// The later one, epoch seconds.
        later: i64,
    },
    /// None: the clock was put forward over it.
    Never,
}

/// From `at` (epoch seconds) on, local time is UTC plus `offset` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    at: i64,
    before: i32,
    offset: i32,
}

#[derive(Debug)]
struct Rules {
    /// The offset before the first change.
    first: i32,
    changes: Vec<Change>,
    /// The offset of each local day, or [`CHANGED`]. Empty where there are no changes.
    days: Vec<i32>,
}

/// The offsets of a time zone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Zone(Arc<Rules>);

impl Zone {
    /// The rules of a zone of the IANA database, from 1970 to 2099.
    ///
    /// ```
    /// use parsers::time::{Local, Zone};
    ///
    /// let zone = Zone::new(chrono_tz::America::New_York);
    /// // 2026-11-01 01:30 came twice: at 05:30 and at 06:30 UTC.
    /// let local = 1_793_496_600;
    /// assert_eq!(zone.resolve(local), Local::Twice { earlier: local + 4 * 3600, later: local + 5 * 3600 });
    /// ```
    #[must_use]
    pub fn new(zone: Tz) -> Self {
        let offset = |at: i64| match chrono::DateTime::from_timestamp(at, 0) {
            Some(instant) => zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc(),
            None => 0,
        };
        let first = offset(0);
        if zone == Tz::UTC {
            return Self::from_changes(first, &[]);
        }
        let mut changes = Vec::new();
        let mut known = first;
        for day in 1..=DAYS {
            let now = offset(day * DAY);
            if now == known {
                continue;
            }
            // Changed since the midnight before: narrow it down to the second.
            let (mut before, mut after) = ((day - 1) * DAY, day * DAY);
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if offset(middle) == known { before = middle } else { after = middle }
            }
            changes.push((after, now));
            known = now;
        }
        Self::from_changes(first, &changes)
    }

    /// A zone whose local time is UTC plus `first` seconds until the first of the `changes`, and from the instant (epoch
    /// seconds) of each change UTC plus its offset in seconds. Changes are in order of time.
    #[must_use]
    pub fn from_changes(first: i32, changes: &[(i64, i32)]) -> Self {
        let mut before = first;
        let mut list = Vec::with_capacity(changes.len());
        for &(at, offset) in changes {
            list.push(Change { at, before, offset });
            before = offset;
        }
        let days = if list.is_empty() { Vec::new() } else { days(first, &list) };
        Self(Arc::new(Rules { first, changes: list, days }))
    }

    /// The instants that a local time names; `local` is the seconds that an epoch would count if the clock on the wall were UTC's.
    #[inline]
    #[must_use]
    pub fn resolve(&self, local: i64) -> Local {
        let rules = &*self.0;
        if rules.changes.is_empty() {
            return Local::Once(local - i64::from(rules.first));
        }
        let day = usize::try_from(local.div_euclid(DAY)).unwrap_or(usize::MAX);
        match rules.days.get(day) {
            Some(&offset) if offset != CHANGED => Local::Once(local - i64::from(offset)),
            _ => rules.resolve_by_changes(local),
        }
    }
}

/// The offset of each local day, from midnight to midnight.
fn days(first: i32, changes: &[Change]) -> Vec<i32> {
    let mut days: Vec<i32> = Vec::new();
    let length = usize::try_from(DAYS).unwrap_or(0);
    let index = |local: i64| usize::try_from(local.div_euclid(DAY)).unwrap_or(0).min(length);
    let mut offset = first;
    for change in changes {
        // The local times that this change repeats or leaves out lie between these two.
        let from = change.at.saturating_add(i64::from(change.before.min(change.offset)));
        let until = change.at.saturating_add(i64::from(change.before.max(change.offset)));
        days.resize(days.len().max(index(from)), offset);
        days.truncate(index(from)); // two changes on one day
        days.resize((index(until.saturating_sub(1)) + 1).min(length), CHANGED);
        offset = change.offset;
    }
    days.resize(length, offset);
    days
}

impl Rules {
    fn offset_at(&self, instant: i64) -> i32 {
        let passed = self.changes.partition_point(|change| change.at <= instant);
        passed
            .checked_sub(1)
            .and_then(|last| self.changes.get(last))
            .map_or(self.first, |change| change.offset)
    }

    /// Tries every offset that was in force within two days: an instant is named if its own offset leads back to it.
    #[cold]
    fn resolve_by_changes(&self, local: i64) -> Local {
        let near = self
            .changes
            .iter()
            .skip(self.changes.partition_point(|change| change.at < local.saturating_sub(2 * DAY)))
            .take_while(|change| change.at <= local.saturating_add(2 * DAY));
        let in_force = self.offset_at(local.saturating_sub(2 * DAY));
        let mut found: Option<(i64, i64)> = None;
        for offset in std::iter::once(in_force).chain(near.map(|change| change.offset)) {
            let instant = local.saturating_sub(i64::from(offset));
            if self.offset_at(instant) == offset {
                let (earlier, later) = found.unwrap_or((instant, instant));
                found = Some((earlier.min(instant), later.max(instant)));
            }
        }
        match found {
            None => Local::Never,
            Some((earlier, later)) if earlier == later => Local::Once(earlier),
            Some((earlier, later)) => Local::Twice { earlier, later },
        }
    }
}

/// A time as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Empty, `Unknown` (Slurm: not yet) or `None` (never).
    Absent,
    /// Epoch seconds, or a time with its offset.
    Instant(i64),
    /// Seconds on the wall's clock: see [`Zone::resolve`].
    Wall(i64),
}

/// Reads a time: `2026-11-23T09:35:40`, the same with an offset, epoch seconds, or a word for none.
#[inline]
pub(crate) fn stamp(text: &[u8]) -> Result<Stamp, Malformed> {
    if let Some(text) = text.first_chunk::<19>().filter(|_| text.len() == 19) {
        return match wall(text) {
            Some(seconds) => Ok(Stamp::Wall(seconds)),
            None => by_grammar(text),
        };
    }
    if text.len() == 10
        && let Some(seconds) = crate::memory::integer(text)
        && seconds > 0
    {
        return Ok(Stamp::Instant(seconds as i64)); // ten digits
    }
    by_grammar(text)
}

/// The shortcut for `YYYY-MM-DDTHH:MM:SS`: all digits are checked eight bytes at a time.
#[inline]
fn wall(text: &[u8; 19]) -> Option<i64> {
    // XOR leaves digits as 0 to 9 and the punctuation that must be there as 0.
    let date = u64::from_le_bytes(*text.first_chunk()?) ^ u64::from_le_bytes(*b"0000-00-");
    let clock = u64::from_le_bytes(*text.get(8..)?.first_chunk()?) ^ u64::from_le_bytes(*b"00T00:00");
    let [colon, tens, ones] = *text.last_chunk::<3>()?;
    let (tens, ones) = (tens ^ b'0', ones ^ b'0');
    // A byte above 9 shows in its own high bit, or after 0x76 is added; where none does, nothing was carried.
    let above_nine = |word: u64| (word | word.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080;
    let punctuation = (date & 0xff00_00ff_0000_0000) | (clock & 0x0000_ff00_00ff_0000);
    if above_nine(date) | above_nine(clock) | punctuation | u64::from(colon ^ b':') != 0
        || tens > 9
        || ones > 9
    {
        return None;
    }
    let [y3, y2, y1, y0, _, m1, m0, _] = date.to_le_bytes().map(i64::from);
    let [d1, d0, _, h1, h0, _, n1, n0] = clock.to_le_bytes().map(i64::from);
    civil(
        y3 * 1000 + y2 * 100 + y1 * 10 + y0,
        m1 * 10 + m0,
        d1 * 10 + d0,
        h1 * 10 + h0,
        n1 * 10 + n0,
        i64::from(tens) * 10 + i64::from(ones),
    )
}

/// Seconds since 1970-01-01 00:00 of a date and time of the Gregorian calendar, from 1970 on; `None` if there is no such date or time.
#[inline]
pub(crate) fn civil(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || day < 1 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years are counted from March, so that the leap day is the last one of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * DAY + hour * 3600 + minute * 60 + second)
}

pub(crate) fn by_grammar(text: &[u8]) -> Result<Stamp, Malformed> {
    grammar(text).map(|(_, stamp)| stamp).map_err(|_| Malformed)
}

/// The grammar of all forms.
fn grammar(input: &[u8]) -> IResult<&[u8], Stamp> {
    let absent = value(Stamp::Absent, alt((tag(&b"Unknown"[..]), tag(&b"None"[..]))));
    let nothing = value(Stamp::Absent, nom::combinator::eof);
    let epoch = map_opt(verify(digit1, |digits: &[u8]| digits.len() <= 12), |digits| {
        i64::try_from(crate::memory::integer(digits)?).ok().filter(|seconds| *seconds > 0).map(Stamp::Instant)
    });
    let calendar = map((date_and_time, opt(offset)), |(seconds, offset)| match offset {
        Some(offset) => Stamp::Instant(seconds - offset),
        None => Stamp::Wall(seconds),
    });
    alt((all_consuming(absent), nothing, all_consuming(calendar), all_consuming(epoch))).parse(input)
}

fn digits(count: usize) -> impl Fn(&[u8]) -> IResult<&[u8], i64> {
    move |input| {
        map_opt(take_while_m_n(count, count, |byte: u8| byte.is_ascii_digit()), |digits| {
            i64::try_from(crate::memory::integer(digits)?).ok()
        })
        .parse(input)
    }
}

fn date_and_time(input: &[u8]) -> IResult<&[u8], i64> {
    let after = |mark: &'static [u8]| preceded(tag(mark), digits(2));
    let date = (digits(4), after(b"-"), after(b"-"));
    let clock = (preceded(one_of(&b"T "[..]), digits(2)), after(b":"), after(b":"));
    map_opt((date, clock), |((year, month, day), (hour, minute, second))| {
        civil(year, month, day, hour, minute, second)
    })
    .parse(input)
}

/// `Z`, `+0530`, `-05:00`: seconds east of UTC.
fn offset(input: &[u8]) -> IResult<&[u8], i64> {
    let sign = alt((value(1, tag(&b"+"[..])), value(-1, tag(&b"-"[..]))));
    let minutes = verify(preceded(opt(tag(&b":"[..])), digits(2)), |minutes| *minutes < 60);
    let signed = map((sign, verify(digits(2), |hours| *hours < 24), minutes), |(sign, hours, minutes)| {
        sign * (hours * 3600 + minutes * 60)
    });
    alt((value(0, tag(&b"Z"[..])), signed)).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{MappedLocalTime, NaiveDate};
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Stamp, Malformed> {
        stamp(text.as_bytes())
    }

    #[test]
    fn every_form_that_slurm_prints() {
        assert_eq!(read("2026-11-23T09:35:40"), Ok(Stamp::Wall(1_795_426_540)));
        assert_eq!(read("1795426540"), Ok(Stamp::Instant(1_795_426_540)));
        assert_eq!(read("2026-11-23T04:35:40-0500"), Ok(Stamp::Instant(1_795_426_540)));
        assert_eq!(read("2026-11-23T09:35:40+0000"), Ok(Stamp::Instant(1_795_426_540)));
        assert_eq!(read("2026-11-23T15:05:40+05:30"), Ok(Stamp::Instant(1_795_426_540)));
        assert_eq!(read("2026-11-23T09:35:40Z"), Ok(Stamp::Instant(1_795_426_540)));
        assert_eq!(read("2026-11-23 09:35:40"), Ok(Stamp::Wall(1_795_426_540)));
        assert_eq!(read("2000-02-29T00:00:00"), Ok(Stamp::Wall(951_782_400)));
    }

    #[test]
    fn words_for_no_time_are_absent() {
        for word in ["", "Unknown", "None"] {
            assert_eq!(read(word), Ok(Stamp::Absent), "{word}");
        }
    }

    #[test]
    fn what_is_no_time_is_malformed() {
        for text in [
            "09:35:40",
            "2026-11-23T0",
            "2026-11-23T09:35",
            "2026-02-29T00:00:00",
            "2026-13-01T00:00:00",
            "2026-11-23T24:00:00",
            "2026-11-23T09:35:60",
            "2026-11-23T09:35:4x",
            "2026.11.23T09:35:40",
            "2026-11-23T09:35:40-05",
            "2026-11-23T09:35:40 ",
            "1969-12-31T23:59:59",
            "0",
            "-1",
            "1795426540.5",
            "unknown",
            "9999999999999",
            "2026-11-00T00:00:00",
            "2026,11-23T09:35:40",
        ] {
            assert_eq!(read(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn the_shortcuts_agree_with_the_grammar_on_every_field_of_the_fixtures() {
        let mut times = 0;
        for field in crate::fixtures::fields() {
            assert_eq!(stamp(&field), by_grammar(&field), "{}", field.escape_ascii());
            times += usize::from(stamp(&field).is_ok());
        }
        assert!(times > 500, "{times}");
    }

    proptest! {
        /// Against chrono's calendar, which the shortcut does not use.
        #[test]
        fn every_printed_time_is_read(seconds in 0..253_402_300_800_i64) {
            let text = chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%S").to_string();
            prop_assert_eq!(read(&text), Ok(Stamp::Wall(seconds)));
        }

        #[test]
        fn the_shortcut_agrees_with_the_grammar(text in "(19|20|2x)[0-9]{2}[-,.][0-3][0-9][-/][0-3][0-9][TU][0-2][0-9][:;][0-6][0-9]:[0-6][0-9:]") {
            let text = text.as_bytes();
            prop_assert_eq!(stamp(text), by_grammar(text));
        }

        #[test]
        fn the_shortcut_agrees_with_the_grammar_on_any_bytes(position in 0..19usize, byte in any::<u8>()) {
            let mut text = *b"2026-11-23T09:35:40";
            text[position] = byte;
            prop_assert_eq!(stamp(&text), by_grammar(&text));
        }

        /// Against chrono-tz's own resolution of local times.
        #[test]
        fn zones_resolve_as_the_database_says(index in 0..ZONES.len(), local in 86_400..DAYS * DAY - DAY, near in any::<bool>(), by in -7200..7200_i64) {
            let (zone, table) = &ZONES[index];
            // Half of the tries fall near a change of the clock.
            let changes = &table.0.changes;
            let local = if near && !changes.is_empty() {
                let change = changes[usize::try_from(local).unwrap() % changes.len()];
                (change.at + i64::from(change.before) + by).max(DAY)
            } else {
                local
            };
            let naive = chrono::DateTime::from_timestamp(local, 0).unwrap().naive_utc();
            let expected = match zone.from_local_datetime(&naive) {
                MappedLocalTime::None => Local::Never,
                MappedLocalTime::Single(instant) => Local::Once(instant.timestamp()),
                MappedLocalTime::Ambiguous(one, other) => Local::Twice {
                    earlier: one.timestamp().min(other.timestamp()),
                    later: one.timestamp().max(other.timestamp()),
                },
            };
            prop_assert_eq!(table.resolve(local), expected, "{} {}", zone, naive);
        }
    }

    static ZONES: std::sync::LazyLock<Vec<(Tz, Zone)>> = std::sync::LazyLock::new(|| {
        use chrono_tz::*;
        [
            America::New_York,
            America::Denver,
            America::Phoenix,
            Europe::Berlin,
            Europe::London,
            Australia::Lord_Howe,
            Pacific::Apia,
            Asia::Kathmandu,
            Africa::Casablanca,
            America::St_Johns,
            Pacific::Chatham,
            UTC,
        ]
        .map(|zone| (zone, Zone::new(zone)))
        .to_vec()
    });

    #[test]
    fn a_time_that_the_clock_jumped_over_does_not_exist() {
        let zone = Zone::new(chrono_tz::America::Denver);
        let local =
            NaiveDate::from_ymd_opt(2026, 3, 8).unwrap().and_hms_opt(2, 30, 0).unwrap().and_utc().timestamp();
        assert_eq!(zone.resolve(local), Local::Never);
        assert_eq!(zone.resolve(local - 1800 - 1), Local::Once(local - 1801 + 7 * 3600));
        assert_eq!(zone.resolve(local + 1800), Local::Once(local + 1800 + 6 * 3600));
    }

    #[test]
    fn two_changes_on_one_day() {
        let zone = Zone::from_changes(0, &[(10 * DAY + 3600, 3600), (10 * DAY + 7200, 0)]);
        assert_eq!(zone.resolve(10 * DAY), Local::Once(10 * DAY));
        assert_eq!(zone.resolve(10 * DAY + 3600 + 10), Local::Never);
        assert_eq!(
            zone.resolve(10 * DAY + 7210),
            Local::Twice { earlier: 10 * DAY + 3610, later: 10 * DAY + 7210 }
        );
        assert_eq!(zone.resolve(11 * DAY), Local::Once(11 * DAY));
        assert_eq!(zone.resolve(200_000 * DAY), Local::Once(200_000 * DAY));
    }
}
