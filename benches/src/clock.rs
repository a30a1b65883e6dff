//! Epoch seconds as the sources print them: seconds, or local time of a zone.

use chrono::{DateTime, Datelike, Offset, TimeZone, Timelike};
use chrono_tz::Tz;

/// 2026-01-05 00:00:00 UTC, a Monday: when the generated centre's records begin.
pub(crate) const BEGIN: u64 = 1_767_571_200;

/// Prints times of one zone, remembering the offset of the quarter hour that was asked for last: no zone has
/// changed its offset in between since 1972.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    zone: Tz,
    quarter: u64,
    offset: i64,
}

impl Clock {
    pub(crate) fn new(zone: Tz) -> Self {
        Self { zone, quarter: u64::MAX, offset: 0 }
    }

    /// Year, month, day, hour, minute, second of the zone's wall clock.
    fn civil(&mut self, epoch: u64) -> Option<[u32; 6]> {
        if epoch / 900 != self.quarter {
            let utc = DateTime::from_timestamp(epoch as i64, 0)?.naive_utc();
            self.offset = i64::from(self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc());
            self.quarter = epoch / 900;
        }
        let local = DateTime::from_timestamp(epoch as i64 + self.offset, 0)?;
        let year = u32::try_from(local.year()).ok()?;
        Some([year, local.month(), local.day(), local.hour(), local.minute(), local.second()])
    }

    /// `2026-01-05T00:00:00`, as Slurm prints it.
    pub(crate) fn iso(&mut self, epoch: u64, out: &mut Vec<u8>) {
        let Some([year, month, day, hour, minute, second]) = self.civil(epoch) else { return };
        digits(year, 4, out);
        for (separator, part) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
            out.push(separator);
            digits(part, 2, out);
        }
    }

    /// `01/05/2026 00:00:00`, as PBS prints it.
    pub(crate) fn american(&mut self, epoch: u64, out: &mut Vec<u8>) {
        let Some([year, month, day, hour, minute, second]) = self.civil(epoch) else { return };
        digits(month, 2, out);
        out.push(b'/');
        digits(day, 2, out);
        out.push(b'/');
        digits(year, 4, out);
        for (separator, part) in [(b' ', hour), (b':', minute), (b':', second)] {
            out.push(separator);
            digits(part, 2, out);
        }
    }
}

/// Seconds as `HH:MM:SS` with unbounded hours, as PBS prints them.
pub(crate) fn hours(seconds: u64, out: &mut Vec<u8>) {
    let whole = seconds / 3600;
    if whole < 10 {
        out.push(b'0');
    }
    number(whole, out);
    for part in [seconds / 60 % 60, seconds % 60] {
        out.push(b':');
        digits(part as u32, 2, out);
    }
}

/// A decimal number.
pub(crate) fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn digits(value: u32, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(zone: Tz, epoch: u64) -> String {
        let mut out = Vec::new();
        Clock::new(zone).iso(epoch, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn local_times_are_those_of_date() {
        // TZ=America/New_York date -d @1772953199 +%FT%T and one second later: the clock is put forward
        assert_eq!(iso(chrono_tz::America::New_York, 1_772_953_199), "2026-03-08T01:59:59");
        assert_eq!(iso(chrono_tz::America::New_York, 1_772_953_200), "2026-03-08T03:00:00");
        assert_eq!(iso(chrono_tz::UTC, BEGIN), "2026-01-05T00:00:00");
    }

    #[test]
    fn hours_are_not_bounded() {
        let mut out = Vec::new();
        hours(123 * 3600 + 4 * 60 + 5, &mut out);
        hours(59, &mut out);
        assert_eq!(out, b"123:04:0500:00:59");
    }
}
