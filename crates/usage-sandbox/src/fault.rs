//! Faults: what goes wrong on purpose, on which call, how often; and the little syntax that names them.
//!
//! ```text
#![doc = include_str!("fault.txt")]
//! ```
//!
//! `refuse-connection` resets a connection that the kernel has already accepted, because no process is asked before
//! that: the client sees what it sees behind a load balancer without a server. For a port on which nobody listens, stop
//! the sandbox.

use crate::settings::Rule;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How faults are written, for help texts.
pub const SYNTAX: &str = include_str!("fault.txt");

/// What a rule says that gives no error of its own.
const RULE_ERROR: &str = "refused by a fault";

/// What goes wrong. The module's text says what each one does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The connection is reset before the body is read.
    RefuseConnection,
    /// The connection is closed before the body is read.
    DropBeforeReading,
    /// The records are stored, and the connection is closed without an answer.
    DropAfterStoring,
    /// An answer of this status instead of any work.
    Status {
        /// The HTTP status, 200 to 599.
        code: u16,
        /// When to come back.
        retry_after: Option<RetryAfter>,
    },
    /// The same with an HTML page as the body.
    Html {
        /// The HTTP status, 200 to 599.
        code: u16,
        /// When to come back.
        retry_after: Option<RetryAfter>,
    },
    /// The work is done; the answer ends in its middle.
    TruncatedBody,
    /// The work is done; the answer announces half of its length.
    WrongContentLength,
    /// The work is done; the head of the answer takes this long.
    SlowHeaders(Duration),
    /// The work is done; the body of the answer takes this long.
    SlowBody(Duration),
    /// 413 above this many bytes of body.
    TooLargeAt(usize),
    /// 400 for the whole message if one record of it is bad, without saying which.
    RefuseWholeForOneBadRecord,
    /// Records that fall under the rule are refused at once.
    Refuse(Rule),
    /// Records that fall under the rule are accepted, and fail when they are loaded.
    FailLoad(Rule),
    /// The records of the message load so much later than others.
    DelayLoad(Duration),
    /// Each record of the message loads up to so much later, at random.
    ShuffleLoads(Duration),
}

/// A `Retry-After` header, in one of its two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds.
    Seconds(u64),
    /// A date, so many seconds ahead.
    Date(u64),
}

/// The calls of the API that a fault can be tied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `POST usage`.
    Post,
    /// `GET usage/status`.
    Status,
    /// `GET usage/failed` and `DELETE usage/failed/{ids}`.
    Failed,
    /// `GET usage/loaded`.
    Loaded,
    /// All of them.
    Any,
}

/// How often a fault strikes, counted over the calls that it is tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// So many calls in a hundred, by the sandbox's seed.
    Probability {
        /// 0 to 100.
        percent: u8,
    },
    /// The next calls, then never again.
    Next {
        /// How many.
        count: u64,
    },
    /// These calls: 1 is the next. In ascending order.
    Calls(Vec<RangeInclusive<u64>>),
    /// All calls from one time to another, counted from when the fault was armed.
    Between {
        /// From then on.
        from: Duration,
        /// Until then.
        until: Duration,
    },
    /// Every call.
    Always,
}

/// One way to misbehave. [`FromStr`] and [`Display`](fmt::Display) speak the little syntax; so does its JSON, as a string.
///
/// ```
/// use usage_sandbox::{Call, Fault, FaultKind, When};
/// let fault: Fault = "html:503@post*2".parse()?;
/// let kind = FaultKind::Html { code: 503, retry_after: None };
/// assert_eq!(fault, Fault { kind, call: Call::Post, when: When::Next { count: 2 } });
/// assert_eq!(fault.to_string(), "html:503@post*2");
/// # Ok::<(), usage_sandbox::FaultError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// On which call.
    pub call: Call,
    /// How often.
    pub when: When,
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a fault: {reason}")]
pub struct FaultError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        parse(text.trim()).map_err(|reason| FaultError { text: text.chars().take(100).collect(), reason })
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, FaultError> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

/// Reads `KIND[:ARGUMENT][@CALL][WHEN][ RULE]`.
fn parse(text: &str) -> Result<Fault, String> {
    // A rule is text of any kind; nothing before it has a blank.
    let (head, rule) = match text.split_once(' ') {
        Some((head, rule)) => (head, Some(parse_rule(rule)?)),
        None => (text, None),
    };
    // No kind, argument or call contains a mark of WHEN.
    let (head, when) = match head.find(['*', '#', '%', '+']).and_then(|at| head.split_at_checked(at)) {
        Some((head, when)) => (head, parse_when(when)?),
        None => (head, When::Always),
    };
    let (kind, call) = match head.split_once('@') {
        Some((kind, call)) => (kind, parse_call(call)?),
        None => (head, Call::Any),
    };
    Ok(Fault { kind: parse_kind(kind, rule)?, call, when })
}

fn parse_kind(text: &str, rule: Option<Rule>) -> Result<FaultKind, String> {
    let (name, argument) =
        text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
    let plain = |kind| match argument {
        None => Ok(kind),
        Some(_) => Err(format!("{name} takes no argument")),
    };
    let needed = |example: &str| argument.ok_or_else(|| format!("write {name}:{example}"));
    let kind = match (name, &rule) {
        ("refuse" | "fail-load", None) => {
            return Err(format!("write a rule behind a blank: {name} FIELD=VALUE=ERROR"));
        }
        ("refuse", Some(rule)) => return plain(FaultKind::Refuse(rule.clone())),
        ("fail-load", Some(rule)) => return plain(FaultKind::FailLoad(rule.clone())),
        ("refuse-connection", _) => plain(FaultKind::RefuseConnection)?,
        ("drop-before-reading", _) => plain(FaultKind::DropBeforeReading)?,
        ("drop-after-storing", _) => plain(FaultKind::DropAfterStoring)?,
        ("status", _) => {
            let (code, retry_after) = parse_answer(needed("503")?)?;
            FaultKind::Status { code, retry_after }
        }
        ("html", _) => {
            let (code, retry_after) = parse_answer(needed("503")?)?;
            FaultKind::Html { code, retry_after }
        }
        ("truncated-body", _) => plain(FaultKind::TruncatedBody)?,
        ("wrong-content-length", _) => plain(FaultKind::WrongContentLength)?,
        ("slow-headers", _) => FaultKind::SlowHeaders(parse_duration(needed("2s")?)?),
        ("slow-body", _) => FaultKind::SlowBody(parse_duration(needed("2s")?)?),
        ("too-large-at", _) => FaultKind::TooLargeAt(number(needed("65536")?)?),
        ("refuse-whole", _) => plain(FaultKind::RefuseWholeForOneBadRecord)?,
        ("delay-load", _) => FaultKind::DelayLoad(parse_duration(needed("10s")?)?),
        ("shuffle-loads", _) => FaultKind::ShuffleLoads(parse_duration(needed("10s")?)?),
        _ => {
            return Err("the kinds are refuse-connection, drop-before-reading, drop-after-storing, status, html, \
                        truncated-body, wrong-content-length, slow-headers, slow-body, too-large-at, refuse-whole, \
                        refuse, fail-load, delay-load, shuffle-loads"
                .to_owned());
        }
    };
    match rule {
        None => Ok(kind),
        Some(_) => Err(format!("{name} takes no rule")),
    }
}

/// FIELD=VALUE or FIELD=VALUE=ERROR.
fn parse_rule(text: &str) -> Result<Rule, String> {
    let mut parts = text.trim().splitn(3, '=');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(field), Some(value), error) if !field.is_empty() => {
            Ok(Rule::new(field, value, error.unwrap_or(RULE_ERROR)))
        }
        _ => Err("a rule is FIELD=VALUE or FIELD=VALUE=ERROR".to_owned()),
    }
}

/// A status and when to come back: `429,retry-after=30`.
fn parse_answer(text: &str) -> Result<(u16, Option<RetryAfter>), String> {
    let Some((code, option)) = text.split_once(',') else { return Ok((parse_code(text)?, None)) };
    let retry_after = match option.split_once('=') {
        Some(("retry-after", seconds)) => RetryAfter::Seconds(number(seconds)?),
        Some(("retry-after-date", seconds)) => RetryAfter::Date(number(seconds)?),
        _ => return Err("write status:429,retry-after=30 or status:429,retry-after-date=30".to_owned()),
    };
    Ok((parse_code(code)?, Some(retry_after)))
}

fn parse_call(text: &str) -> Result<Call, String> {
    Ok(match text {
        "post" => Call::Post,
        "status" => Call::Status,
        "failed" => Call::Failed,
        "loaded" => Call::Loaded,
        "any" => Call::Any,
        _ => return Err("the calls are post, status, failed, loaded, any".to_owned()),
    })
}

fn parse_when(text: &str) -> Result<When, String> {
    if let Some(count) = text.strip_prefix('*') {
        return Ok(When::Next { count: number(count)? });
    }
    if let Some(calls) = text.strip_prefix('#') {
        return parse_calls(calls).map(When::Calls);
    }
    if let Some(times) = text.strip_prefix('+') {
        let (from, until) = times.split_once('-').ok_or("write a stretch of time as +10s-20s")?;
        let (from, until) = (parse_duration(from)?, parse_duration(until)?);
        return if from < until {
            Ok(When::Between { from, until })
        } else {
            Err("a stretch of time ends after it begins".to_owned())
        };
    }
    match number(text.strip_prefix('%').unwrap_or(text))? {
        percent @ 0..=100_u8 => Ok(When::Probability { percent }),
        _ => Err("a probability is at most %100".to_owned()),
    }
}

/// `2,5-7`: ascending, and apart from each other.
fn parse_calls(text: &str) -> Result<Vec<RangeInclusive<u64>>, String> {
    let mut calls: Vec<RangeInclusive<u64>> = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range: RangeInclusive<u64> = number(first)?..=number(last)?;
        let before = calls.last().map_or(0, |range| *range.end());
        if *range.start() <= before || range.is_empty() {
            return Err("the first call is #1, and a list of calls ascends: #2,5-7".to_owned());
        }
        calls.push(range);
    }
    Ok(calls)
}

fn parse_code(text: &str) -> Result<u16, String> {
    match number(text)? {
        code @ 200..=599 => Ok(code),
        _ => Err(format!("{text} is not a status from 200 to 599")),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms") {
        Some(milliseconds) => Ok(Duration::from_millis(number(milliseconds)?)),
        None => {
            Ok(Duration::from_secs(number(text.strip_suffix('s').ok_or("write a time as 2s or 250ms")?)?))
        }
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| format!("\"{text}\" is not a number that fits"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::RefuseConnection => f.write_str("refuse-connection"),
            FaultKind::DropBeforeReading => f.write_str("drop-before-reading"),
            FaultKind::DropAfterStoring => f.write_str("drop-after-storing"),
            FaultKind::Status { code, retry_after } => write!(f, "status:{code}{}", ComeBack(*retry_after)),
            FaultKind::Html { code, retry_after } => write!(f, "html:{code}{}", ComeBack(*retry_after)),
            FaultKind::TruncatedBody => f.write_str("truncated-body"),
            FaultKind::WrongContentLength => f.write_str("wrong-content-length"),
            FaultKind::SlowHeaders(time) => write!(f, "slow-headers:{}ms", time.as_millis()),
            FaultKind::SlowBody(time) => write!(f, "slow-body:{}ms", time.as_millis()),
            FaultKind::TooLargeAt(bytes) => write!(f, "too-large-at:{bytes}"),
            FaultKind::RefuseWholeForOneBadRecord => f.write_str("refuse-whole"),
            FaultKind::Refuse(_) => f.write_str("refuse"),
            FaultKind::FailLoad(_) => f.write_str("fail-load"),
            FaultKind::DelayLoad(time) => write!(f, "delay-load:{}ms", time.as_millis()),
            FaultKind::ShuffleLoads(time) => write!(f, "shuffle-loads:{}ms", time.as_millis()),
        }?;
        f.write_str(match self.call {
            Call::Post => "@post",
            Call::Status => "@status",
            Call::Failed => "@failed",
            Call::Loaded => "@loaded",
            Call::Any => "@any",
        })?;
        match &self.when {
            When::Always => Ok(()),
            When::Next { count } => write!(f, "*{count}"),
            When::Calls(calls) => calls.iter().enumerate().try_for_each(|(index, range)| {
                let mark = if index == 0 { '#' } else { ',' };
                match (range.start(), range.end()) {
                    (first, last) if first == last => write!(f, "{mark}{first}"),
                    (first, last) => write!(f, "{mark}{first}-{last}"),
                }
            }),
            When::Between { from, until } => write!(f, "+{}ms-{}ms", from.as_millis(), until.as_millis()),
            When::Probability { percent } => write!(f, "%{percent}"),
        }?;
        match &self.kind {
            FaultKind::Refuse(rule) | FaultKind::FailLoad(rule) => {
                write!(f, " {}={}={}", rule.field, rule.value, rule.error)
            }
            _ => Ok(()),
        }
    }
}

/// `,retry-after=30`, or nothing.
struct ComeBack(Option<RetryAfter>);

impl fmt::Display for ComeBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(RetryAfter::Seconds(seconds)) => write!(f, ",retry-after={seconds}"),
            Some(RetryAfter::Date(seconds)) => write!(f, ",retry-after-date={seconds}"),
        }
    }
}

/// The faults that are armed, and how many calls each has seen.
#[derive(Debug)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    random: u64,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    since: Instant,
    /// Calls it was tied to, this one included.
    seen: u64,
    /// Calls it struck.
    struck: u64,
}

/// What goes wrong with one call. Limits, strictness and what happens to records combine with one fault of the
/// transport: the first that strikes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Refuse, drop, answer, cut or delay.
    pub(crate) transport: Option<FaultKind>,
    /// 413 above so many bytes.
    pub(crate) too_large_at: Option<usize>,
    /// What happens to the records of a message.
    pub(crate) records: RecordFaults,
}

/// What happens to the records of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordFaults {
    /// One bad record refuses its message.
    pub(crate) refuse_whole: bool,
    /// Records that are refused at once.
    pub(crate) refuse: Vec<Rule>,
    /// Records that fail when they are loaded.
    pub(crate) fail_load: Vec<Rule>,
    /// How much later they all load.
    pub(crate) delay: Duration,
    /// How much later each of them loads at most, and where its part of that is drawn from.
    pub(crate) shuffle: Option<(Duration, u64)>,
}

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>, seed: u64) -> Self {
        let mut new = Self { armed: Vec::new(), random: seed };
        faults.into_iter().for_each(|fault| new.arm(fault));
        new
    }

    pub(crate) fn arm(&mut self, fault: Fault) {
        self.armed.push(Armed { fault, since: Instant::now(), seen: 0, struck: 0 });
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    /// The faults that can still strike.
    pub(crate) fn list(&self) -> Vec<Fault> {
        let armed = self.armed.iter().filter(|armed| !armed.is_over());
        armed.map(|armed| armed.fault.clone()).collect()
    }

    /// What goes wrong with the next call.
    pub(crate) fn decide(&mut self, call: Call) -> Decision {
        let mut decision = Decision::default();
        for armed in &mut self.armed {
            if armed.fault.call != Call::Any && armed.fault.call != call {
                continue;
            }
            armed.seen = armed.seen.saturating_add(1);
            let strikes = match &armed.fault.when {
                When::Always => true,
                When::Next { count } => armed.struck < *count,
                When::Calls(calls) => calls.iter().any(|range| range.contains(&armed.seen)),
                When::Between { from, until } => (*from..*until).contains(&armed.since.elapsed()),
                When::Probability { percent } => next_random(&mut self.random) % 100 < u64::from(*percent),
            };
            if strikes && decision.take(&armed.fault.kind, &mut self.random) {
                armed.struck = armed.struck.saturating_add(1);
            }
        }
        self.armed.retain(|armed| !armed.is_over());
        decision
    }
}

impl Armed {
    /// True where it cannot strike again.
    fn is_over(&self) -> bool {
        match &self.fault.when {
            When::Always | When::Probability { .. } => false,
            When::Next { count } => self.struck >= *count,
            When::Calls(calls) => calls.last().is_none_or(|range| self.seen >= *range.end()),
            When::Between { until, .. } => self.since.elapsed() >= *until,
        }
    }
}

impl Decision {
    /// Adds a fault; false where another one of the transport was first.
    fn take(&mut self, kind: &FaultKind, random: &mut u64) -> bool {
        let records = &mut self.records;
        match kind {
            FaultKind::TooLargeAt(bytes) => {
                self.too_large_at = Some(self.too_large_at.map_or(*bytes, |limit| limit.min(*bytes)));
            }
            FaultKind::RefuseWholeForOneBadRecord => records.refuse_whole = true,
            FaultKind::Refuse(rule) => records.refuse.push(rule.clone()),
            FaultKind::FailLoad(rule) => records.fail_load.push(rule.clone()),
            FaultKind::DelayLoad(time) => records.delay = records.delay.saturating_add(*time),
            FaultKind::ShuffleLoads(time) => records.shuffle = Some((*time, next_random(random))),
            _ if self.transport.is_some() => return false,
            kind => self.transport = Some(kind.clone()),
        }
        true
    }
}

impl RecordFaults {
    /// How much later the next record of the message loads, milliseconds.
    pub(crate) fn wait(&mut self) -> i64 {
        let delay = crate::clock::milliseconds(self.delay);
        match &mut self.shuffle {
            None => delay,
            Some((longest, random)) => {
                let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
                let part = next_random(random).checked_rem(longest).unwrap_or_default();
                delay.saturating_add(i64::try_from(part).unwrap_or(i64::MAX))
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Call, Decision, Fault, FaultKind, Faults, RetryAfter, When, next_random};
    use crate::Rule;
    use proptest::prelude::*;
    use std::time::Duration;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn the_syntax_names_every_fault() {
        let cases = [
            ("refuse-connection", FaultKind::RefuseConnection, Call::Any, When::Always),
            (
                "drop-before-reading@post#3",
                FaultKind::DropBeforeReading,
                Call::Post,
                When::Calls(vec![3..=3]),
            ),
            (
                "drop-after-storing@post%30",
                FaultKind::DropAfterStoring,
                Call::Post,
                When::Probability { percent: 30 },
            ),
            (
                "status:429,retry-after=7@status",
                FaultKind::Status { code: 429, retry_after: Some(RetryAfter::Seconds(7)) },
                Call::Status,
                When::Always,
            ),
            (
                "html:502,retry-after-date=9@loaded#2,5-7",
                FaultKind::Html { code: 502, retry_after: Some(RetryAfter::Date(9)) },
                Call::Loaded,
                When::Calls(vec![2..=2, 5..=7]),
            ),
            (
                "drop-before-reading+10s-15s",
                FaultKind::DropBeforeReading,
                Call::Any,
                When::Between { from: Duration::from_secs(10), until: Duration::from_millis(15_000) },
            ),
            (
                "refuse@post*2 Username=x@y*=no #1 of 50%: go = away",
                FaultKind::Refuse(Rule::new("Username", "x@y*", "no #1 of 50%: go = away")),
                Call::Post,
                When::Next { count: 2 },
            ),
            (
                "fail-load LocalRecordID=*",
                FaultKind::FailLoad(Rule::new("LocalRecordID", "*", "refused by a fault")),
                Call::Any,
                When::Always,
            ),
            (
                "delay-load:10s@post#1",
                FaultKind::DelayLoad(Duration::from_secs(10)),
                Call::Post,
                When::Calls(vec![1..=1]),
            ),
            (
                "shuffle-loads:50ms",
                FaultKind::ShuffleLoads(Duration::from_millis(50)),
                Call::Any,
                When::Always,
            ),
            (
                "status:500@any*1",
                FaultKind::Status { code: 500, retry_after: None },
                Call::Any,
                When::Next { count: 1 },
            ),
            (
                "html:503*2",
                FaultKind::Html { code: 503, retry_after: None },
                Call::Any,
                When::Next { count: 2 },
            ),
            ("truncated-body@failed", FaultKind::TruncatedBody, Call::Failed, When::Always),
            ("wrong-content-length@loaded", FaultKind::WrongContentLength, Call::Loaded, When::Always),
            ("slow-headers:2s", FaultKind::SlowHeaders(Duration::from_secs(2)), Call::Any, When::Always),
            ("slow-body:250ms", FaultKind::SlowBody(Duration::from_millis(250)), Call::Any, When::Always),
            ("too-large-at:65536@post", FaultKind::TooLargeAt(65536), Call::Post, When::Always),
            ("refuse-whole@post", FaultKind::RefuseWholeForOneBadRecord, Call::Post, When::Always),
        ];
        for (text, kind, call, when) in cases {
            assert_eq!(fault(text), Fault { kind, call, when }, "{text}");
        }
    }

    #[test]
    fn the_guide_has_the_whole_syntax() {
        let guide = include_str!("../../../docs/sandbox.md");
        assert!(guide.contains(super::SYNTAX), "docs/sandbox.md does not have what src/fault.txt says");
    }

    #[test]
    fn what_is_not_a_fault_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "the kinds are"),
            ("explode", "the kinds are"),
            ("html", "write html:503"),
            ("html:99", "not a status"),
            ("html:+503", "+10s-20s"),
            ("status:503,later", "retry-after=30"),
            ("truncated-body:3", "takes no argument"),
            ("slow-body:2", "2s or 250ms"),
            ("html:503@put", "the calls are"),
            ("html:503@post#0", "#1"),
            ("html:503@post%101", "at most %100"),
            ("html:503@post%", "not a number"),
            ("html:503@post*2*3", "not a number"),
            ("html:503#2,2", "ascends"),
            ("html:503#7-5", "ascends"),
            ("html:503+10s", "+10s-20s"),
            ("html:503+2s-2s", "after it begins"),
            ("html:503 Username=x", "takes no rule"),
            ("refuse", "write a rule"),
            ("fail-load Username", "a rule is"),
            ("fail-load:3 Username=x", "takes no argument"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(kind in 0..15_u8, argument in 200..600_u16, call in 0..5_u8, when in 0..5_u8, count in 1..100_u8) {
            let time = Duration::from_millis(u64::from(argument));
            let fault = Fault {
                kind: match kind {
                    0 => FaultKind::RefuseConnection,
                    1 => FaultKind::DropBeforeReading,
                    2 => FaultKind::DropAfterStoring,
                    3 => FaultKind::Status { code: argument, retry_after: (count > 50).then_some(RetryAfter::Seconds(u64::from(count))) },
                    4 => FaultKind::Html { code: argument, retry_after: (count > 50).then_some(RetryAfter::Date(u64::from(count))) },
                    5 => FaultKind::TruncatedBody,
                    6 => FaultKind::WrongContentLength,
                    7 => FaultKind::SlowHeaders(time),
                    8 => FaultKind::SlowBody(time),
                    9 => FaultKind::TooLargeAt(usize::from(argument)),
                    10 => FaultKind::Refuse(Rule::new("Username", "a b", "c=d")),
                    11 => FaultKind::FailLoad(Rule::new("Attributes.Queue", "*", "no: <login>")),
                    12 => FaultKind::DelayLoad(time),
                    13 => FaultKind::ShuffleLoads(time),
                    _ => FaultKind::RefuseWholeForOneBadRecord,
                },
                call: [Call::Post, Call::Status, Call::Failed, Call::Loaded, Call::Any][usize::from(call)],
                when: match when {
                    0 => When::Always,
                    1 => When::Next { count: u64::from(count) },
                    2 => When::Calls(vec![u64::from(count)..=u64::from(count), 200..=u64::from(argument)]),
                    3 => When::Between { from: time, until: time * 2 },
                    _ => When::Probability { percent: count },
                },
            };
            prop_assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC*") {
            let _ = text.parse::<Fault>();
        }
    }

    #[test]
    fn counted_faults_strike_and_go() {
        let mut faults = Faults::new(vec![fault("html:503@post*2"), fault("html:500@post#4")], 0);
        let codes: Vec<_> = (0..5).map(|_| faults.decide(Call::Post).transport).collect();
        let html = |code| Some(FaultKind::Html { code, retry_after: None });
        assert_eq!(codes, [html(503), html(503), None, html(500), None]);
        assert_eq!(faults.list(), []);
    }

    #[test]
    fn a_schedule_of_calls_strikes_those_and_goes() {
        let mut faults = Faults::new(vec![fault("html:503@post#2,4-5")], 0);
        let struck: Vec<_> = (0..7).map(|_| faults.decide(Call::Post).transport.is_some()).collect();
        assert_eq!(struck, [false, true, false, true, true, false, false]);
        assert_eq!(faults.list(), []);
    }

    #[test]
    fn a_schedule_of_time_begins_and_ends() {
        let mut faults = Faults::new(vec![fault("html:503+0ms-60s"), fault("html:500+50s-60s")], 0);
        assert!(faults.decide(Call::Post).transport.is_some());
        for armed in &mut faults.armed {
            armed.since -= Duration::from_secs(55);
        }
        let html = |code| Some(FaultKind::Html { code, retry_after: None });
        assert_eq!(faults.decide(Call::Post).transport, html(503));
        faults.armed.remove(0);
        assert_eq!(faults.decide(Call::Post).transport, html(500));
        faults.armed[0].since -= Duration::from_secs(5);
        assert_eq!(faults.list(), []);
        assert_eq!(faults.decide(Call::Post), Decision::default());
    }

    #[test]
    fn what_happens_to_records_combines() {
        let texts = [
            "refuse Username=a",
            "fail-load Username=b=no",
            "delay-load:1s",
            "delay-load:2s",
            "shuffle-loads:1s",
            "html:503",
        ];
        let mut decision = Faults::new(texts.map(fault).into(), 7).decide(Call::Post);
        assert!(decision.transport.is_some());
        assert_eq!((decision.records.refuse.len(), decision.records.fail_load.len()), (1, 1));
        let waits: Vec<_> = (0..100).map(|_| decision.records.wait()).collect();
        assert!(waits.iter().all(|wait| (3000..=4000).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 3300) && waits.iter().any(|wait| *wait > 3700), "{waits:?}");
    }

    #[test]
    fn a_fault_sees_its_own_call_only() {
        let mut faults = Faults::new(vec![fault("html:503@status#2")], 0);
        assert_eq!(faults.decide(Call::Status), Decision::default());
        for call in [Call::Post, Call::Failed, Call::Loaded] {
            assert_eq!(faults.decide(call), Decision::default());
        }
        let html = FaultKind::Html { code: 503, retry_after: None };
        assert_eq!(faults.decide(Call::Status).transport, Some(html));
    }

    #[test]
    fn limits_combine_with_the_first_transport_fault() {
        let texts = ["refuse-whole", "too-large-at:9", "html:503*1", "html:500*1", "too-large-at:7"];
        let mut faults = Faults::new(texts.map(fault).into(), 0);
        let first = faults.decide(Call::Post);
        let second = faults.decide(Call::Post);
        let html = |code| Some(FaultKind::Html { code, retry_after: None });
        assert_eq!((first.records.refuse_whole, first.too_large_at), (true, Some(7)));
        // The second page was not spent on the call that the first one hit.
        assert_eq!((first.transport, second.transport), (html(503), html(500)));
    }

    #[test]
    fn probability_follows_the_seed() {
        let run = |seed| {
            let mut faults = Faults::new(vec![fault("drop-after-storing@post%30")], seed);
            (0..1000).map(|_| faults.decide(Call::Post).transport.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let struck = run(7).into_iter().filter(|struck| *struck).count();
        assert!((240..360).contains(&struck), "{struck} of 1000");
        // The first output for state 0, from the reference implementation in C.
        assert_eq!(next_random(&mut 0), 0xe220_a839_7b1d_cdaf);
    }
}
