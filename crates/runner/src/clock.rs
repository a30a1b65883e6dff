//! The one place where the time of day is read.

use chrono::{NaiveDate, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use std::time::Duration;

/// Now, epoch seconds.
#[must_use]
#[allow(clippy::disallowed_methods)] // this is the clock module that the ban points to
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}

/// Time since this host was started, with the time for which it slept; nobody can set it.
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Epoch seconds as people read them: `2026-11-23 13:26:44Z`.
#[must_use]
pub fn show(epoch: i64) -> String {
    amie_usage::wire::format_time(epoch)
        .map_or_else(|| epoch.to_string(), |text| String::from_utf8_lossy(&text).replacen('T', " ", 1))
}

/// The first second of a day in a time zone, epoch seconds. Where clocks are put forward at midnight there is none: the
/// day begins after the gap.
#[must_use]
pub fn day_begins(date: NaiveDate, zone: Tz) -> Option<i64> {
    (0..180).find_map(|minutes| {
        let time = NaiveTime::MIN.overflowing_add_signed(TimeDelta::minutes(minutes)).0;
        zone.from_local_datetime(&date.and_time(time)).earliest().map(|time| time.timestamp())
    })
}

/// Measures wall time and this process's CPU time, for `--bench`.
#[derive(Debug)]
pub struct Stopwatch {
    started: std::time::Instant,
    cpu: Duration,
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    pub fn start() -> Self {
        Self { started: std::time::Instant::now(), cpu: cpu_time() }
    }

    /// Seconds by the clock on the wall.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Seconds of CPU time, user and system, of all threads.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        cpu_time().saturating_sub(self.cpu).as_secs_f64()
    }
}
