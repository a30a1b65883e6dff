//! Delivers a batch: splits it into messages, bisects refusals, tries again within a budget, and says of each record
//! what is known.
//!
//! - A message is filled up to an exact number of bytes and records.
//! - A message that is refused whole (400, 413) is cut in halves, down to the records that are to blame: one guilty
//!   record among n costs 2 log2(n) posts.
//! - After five single records were refused with one text, other records are tried alone. Where the service takes none of
//!   them, it is not the records that are wrong: the run stops, and marks none of them as refused (`refusals.rs`).
//! - What may have been stored is sent again only where that overwrites. A record of which any POST may have arrived
//!   is never reported as not sent, and not as refused because a second try was refused whole.

use crate::refusals::{Moment, PROBES};
use crate::retry::{self, Next, RetryBudget};
use crate::wire::{self, Resend};
use crate::{Client, Refused, SendOutcome, UsageType};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How large a message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of body.
    pub max_body_bytes: usize,
    /// Records.
    pub max_records: usize,
}

impl Default for Limits {
    /// 192 KiB and 1,000 records: the user guide says 256 KB and about 1,000 records, other limits are told as well.
    fn default() -> Self {
        Self { max_body_bytes: 192 * 1024, max_records: 1000 }
    }
}

/// Asks deliveries to stop: a POST that is under way is finished, and no other is started.
#[derive(Clone)]
pub struct Cancel {
    asked: Arc<watch::Sender<bool>>,
    over: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cancel").field("asked", &*self.asked.borrow()).finish_non_exhaustive()
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// Not yet.
    #[must_use]
    pub fn new() -> Self {
        Self { asked: Arc::new(watch::Sender::new(false)), over: None }
    }

    /// The same for a delivery whose time is over as soon as `over` says so: of records that are only leased. It is asked
    /// before each POST, and may go by a clock that counts the time for which the host slept; the
    /// [delivery limit](RetryBudget::with_delivery_limit) does not.
    #[must_use]
    pub fn or_when(&self, over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { asked: Arc::clone(&self.asked), over: Some(Arc::new(over)) }
    }

    /// True once the time of the delivery is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over())
    }

    /// Asks all who hold a clone to stop.
    pub fn cancel(&self) {
        self.asked.send_replace(true);
    }

    /// True once it was asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until it is asked.
    pub async fn cancelled(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.asked.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}

/// What is known of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOutcome {
    /// Taken: validated and queued, not yet loaded.
    Accepted,
    /// Refused, and why.
    Refused(String),
    /// It may have been taken, and why nobody knows.
    Unknown(String),
    /// Surely not taken, and why.
    NotSent(String),
}

/// Why a run should not go on with other batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The service refuses this site or its key.
    KeyRefused,
    /// The service cannot be reached or gives no usable answer: run again later.
    ApiDown,
    /// Something is wrong with the configuration, this program or the service.
    SomethingWrong {
        /// What it looks like.
        text: String,
    },
}

/// The result of [`deliver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// One for each record, in order.
    pub outcomes: Vec<RecordOutcome>,
    /// Set where the run should not go on.
    pub stop: Option<Stop>,
    /// Why it stopped, for people; also set after a cancel and at the time limit, which are no reason to stop others.
    pub stop_reason: Option<String>,
    /// POSTs that were made.
    pub posts: u32,
}

/// Delivers rendered records of one type, as few messages as the limits allow, one after the other.
///
/// To have several messages in flight, run several deliveries with one budget; they share what they learn. Ends at the latest one request after [`RetryBudget::delivery_limit`]. Whether records may be sent again after an
/// unknown outcome is said by [`wire::Settings::resend`]; the bytes are then identical.
///
/// ```no_run
/// # async fn example(client: amie_usage::Client, records: Vec<Vec<u8>>) {
/// use amie_usage::{Cancel, Limits, RecordOutcome, RetryBudget, UsageType, deliver};
/// let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
/// let budget = RetryBudget::default();
/// let delivery =
///     deliver(&client, UsageType::Compute, &records, &Limits::default(), &budget, &Cancel::new()).await;
/// for (index, outcome) in delivery.outcomes.iter().enumerate() {
///     if let RecordOutcome::Refused(reason) = outcome {
///         println!("record {index} was refused: {reason}");
///     }
/// }
/// # }
/// ```
pub async fn deliver(
    client: &Client,
    usage_type: UsageType,
    records: &[&[u8]],
    limits: &Limits,
    budget: &RetryBudget,
    cancel: &Cancel,
) -> Delivery {
    let sent: Vec<Cow<'_, [u8]>> = records.iter().map(|record| client.settings().as_sent(record)).collect();
    let sent: Vec<&[u8]> = sent.iter().map(AsRef::as_ref).collect();
    let mut run = Run {
        client,
        usage_type,
        records: &sent,
        resend: client.settings().resend.of(usage_type),
        budget,
        cancel,
        started: Instant::now(),
        settled: vec![None; records.len()],
        maybe: vec![None; records.len()],
        alone: Vec::new(),
        posts: 0,
    };
    let ended = run.deliver(limits).await;
    let ended = run.judge_refusals(ended);
    run.report(ended)
}

/// A delivery under way.
struct Run<'a> {
    client: &'a Client,
    usage_type: UsageType,
    records: &'a [&'a [u8]],
    resend: Resend,
    budget: &'a RetryBudget,
    cancel: &'a Cancel,
    started: Instant,
    /// What is settled for good.
    settled: Vec<Option<RecordOutcome>>,
    /// Of which records a POST may have arrived, and why nobody knows.
    maybe: Vec<Option<Arc<str>>>,
    /// Records that were refused alone, and when.
    alone: Vec<(usize, Moment)>,
    posts: u32,
}

/// A delivery that ends before all is settled.
struct Ended {
    stop: Option<Stop>,
    reason: String,
}

impl Run<'_> {
    async fn deliver(&mut self, limits: &Limits) -> Result<(), Ended> {
        // A stack: the next part to send is on top.
        let mut parts = self.pack(limits);
        parts.reverse();
        while let Some(part) = parts.pop() {
            self.handle(part, &mut parts).await?;
            if let Some(suspicion) = self.suspicion() {
                self.probe(&mut parts, &suspicion).await?;
            }
        }
        Ok(())
    }

    /// Sends one part, and settles it or puts its halves on the stack.
    async fn handle(&mut self, part: Range<usize>, parts: &mut Vec<Range<usize>>) -> Result<(), Ended> {
        let sent = self.budget.refusals.now();
        match self.post(part.clone()).await? {
            SendOutcome::Answered { refused, unmatched, .. } => {
                // Where a refusal names nobody, it is not known how many were taken.
                if unmatched.is_empty() && refused.len() < part.len() {
                    self.budget.refusals.taken(self.usage_type, sent);
                }
                self.settle(part, refused, unmatched.first().map(|record| record.error.as_str()));
            }
            SendOutcome::RefusedWhole { reason, .. } => self.split(part, &reason, parts),
            SendOutcome::TooLarge { http_status } => {
                self.split(part, &format!("too large (HTTP {http_status})"), parts);
            }
            // `post` ends the delivery with any other.
            other => return Err(self.give_up(&other)),
        }
        Ok(())
    }

    /// What looks wrong with refusals of which this delivery has some.
    fn suspicion(&self) -> Option<String> {
        let refusals = &self.budget.refusals;
        let ours = self.alone.iter().any(|(_, moment)| refusals.stands(*moment));
        ours.then(|| refusals.suspicion(self.usage_type)).flatten()
    }

    /// Sends other records alone, from all over what is left, to see whether the service takes any.
    async fn probe(&mut self, parts: &mut Vec<Range<usize>>, suspicion: &str) -> Result<(), Ended> {
        for probe in 0..PROBES {
            let waiting: usize = parts.iter().map(ExactSizeIterator::len).sum();
            // The last one first: what is wrong in the same way is often near, like the tasks of one array.
            let place = waiting.saturating_sub(1).saturating_mul(PROBES - 1 - probe) / (PROBES - 1);
            let Some(record) = take(parts, place) else { break };
            self.handle(record..record.saturating_add(1), parts).await?;
            if self.suspicion().is_none() {
                return Ok(());
            }
        }
        Err(self.something_wrong(suspicion))
    }

    fn something_wrong(&self, suspicion: &str) -> Ended {
        let last = self.alone.last().and_then(|(index, _)| self.settled.get(*index));
        let text = match last {
            Some(Some(RecordOutcome::Refused(reason) | RecordOutcome::Unknown(reason))) => reason.as_str(),
            _ => "",
        };
        let text = format!("{suspicion} and the service took no other, so none is marked as refused: {text}");
        let stop = Stop::SomethingWrong { text: text.clone() };
        self.budget.stop(stop.clone(), text.clone());
        Ended { stop: Some(stop), reason: text }
    }

    /// Takes back refusals that are not to be believed.
    fn judge_refusals(&mut self, ended: Result<(), Ended>) -> Result<(), Ended> {
        let refusals = &self.budget.refusals;
        let stopped = matches!(self.budget.stopped(), Some((Stop::SomethingWrong { .. }, _)));
        let suspicion = self.suspicion();
        if suspicion.is_none() && !stopped {
            return ended;
        }
        // Only those that stand are in doubt.
        let doubtful: Vec<usize> = self
            .alone
            .iter()
            .filter(|(_, moment)| refusals.stands(*moment))
            .map(|(index, _)| *index)
            .collect();
        let ended = match (ended, suspicion) {
            (Ok(()), Some(suspicion)) if !stopped => Err(self.something_wrong(&suspicion)),
            (Ok(()), _) => self.may_go_on(),
            (ended, _) => ended,
        };
        for index in doubtful {
            if let Some(settled) = self.settled.get_mut(index) {
                *settled = None;
            }
        }
        ended
    }

    /// Cuts the batch into messages, each as full as the limits allow. What does not fit alone is refused unsent.
    fn pack(&mut self, limits: &Limits) -> Vec<Range<usize>> {
        let envelope = wire::envelope_len(self.usage_type);
        let mut parts = Vec::new();
        let mut part = 0..0;
        let mut bytes = envelope;
        for (index, (record, settled)) in self.records.iter().zip(&mut self.settled).enumerate() {
            let alone = envelope.saturating_add(record.len());
            let oversized = alone > limits.max_body_bytes;
            // Within a message, a comma comes before the record.
            let longer = bytes.saturating_add(record.len()).saturating_add(1);
            let full = longer > limits.max_body_bytes || part.len() >= limits.max_records.max(1);
            if part.is_empty() || full || oversized {
                if !part.is_empty() {
                    parts.push(part);
                }
                part = index..index;
                bytes = envelope;
            }
            if oversized {
                let limit = limits.max_body_bytes;
                *settled = Some(RecordOutcome::Refused(format!(
                    "not sent: alone it makes a message of {alone} bytes, the limit is {limit}"
                )));
                continue;
            }
            bytes = if part.is_empty() { alone } else { longer };
            part.end = index.saturating_add(1);
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts
    }

    /// Sends one part until the outcome is an answer, or nothing more can be done.
    async fn post(&mut self, part: Range<usize>) -> Result<SendOutcome, Ended> {
        let records = self.records.get(part.clone()).unwrap_or_default();
        let mut attempt: u32 = 0;
        loop {
            self.may_go_on()?;
            let left = self.budget.delivery_limit().saturating_sub(self.started.elapsed());
            tokio::select! {
                () = self.client.turn() => {}
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(left) => {}
            }
            self.may_go_on()?;
            attempt = attempt.saturating_add(1);
            self.posts = self.posts.saturating_add(1);
            let outcome = self.client.post(self.usage_type, records).await;
            match &outcome {
                SendOutcome::Unknown { reason } => self.may_have_arrived(part.clone(), reason),
                SendOutcome::Busy { maybe_stored: true, http_status, reason, .. } => {
                    self.may_have_arrived(part.clone(), &format!("HTTP {http_status}: {reason}"));
                }
                _ => {}
            }
            match retry::next(&outcome, self.resend, attempt, self.budget) {
                Next::Settle | Next::Split => return Ok(outcome),
                Next::GiveUp => return Err(self.give_up(&outcome)),
                Next::Again(wait) => {
                    // The other messages in flight need not be told one by one.
                    if let SendOutcome::Busy { retry_after: Some(asked), .. } = &outcome {
                        self.client.hold(*asked);
                    }
                    if self.started.elapsed().saturating_add(wait) >= self.budget.delivery_limit() {
                        return Err(self.give_up(&outcome));
                    }
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    let records = records.len();
                    tracing::warn!(records, attempt, wait_ms, outcome = outcome.name(), "sending again");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.cancel.cancelled() => {}
                    }
                }
            }
        }
    }

    fn may_go_on(&self) -> Result<(), Ended> {
        if self.cancel.is_cancelled() {
            return Err(Ended { stop: None, reason: "stopped on request".to_owned() });
        }
        if self.started.elapsed() >= self.budget.delivery_limit() {
            return Err(Ended { stop: None, reason: "the delivery took too long".to_owned() });
        }
        if self.cancel.is_over() {
            let reason =
                "it is too late to send these records: their lease is over (was this host suspended?)";
            return Err(Ended { stop: None, reason: reason.to_owned() });
        }
        if let Some((stop, reason)) = self.budget.stopped() {
            return Err(Ended { stop: Some(stop.clone()), reason: reason.clone() });
        }
        Ok(())
    }

    fn may_have_arrived(&mut self, part: Range<usize>, reason: &str) {
        let reason: Arc<str> = reason.into();
        for maybe in self.maybe.get_mut(part).unwrap_or_default() {
            *maybe = Some(Arc::clone(&reason));
        }
    }

    /// A taken message: what was not refused was accepted, unless a refusal could not be matched.
    fn settle(&mut self, part: Range<usize>, refused: Vec<Refused>, unmatched: Option<&str>) {
        let start = part.start;
        let outcome = match unmatched {
            None => RecordOutcome::Accepted,
            Some(error) => RecordOutcome::Unknown(format!(
                "the message was taken, but the service refused a record that it did not name clearly: {error}"
            )),
        };
        for settled in self.settled.get_mut(part).unwrap_or_default() {
            *settled = Some(outcome.clone());
        }
        for Refused { index, reason } in refused {
            if let Some(settled) = self.settled.get_mut(start.saturating_add(index)) {
                *settled = Some(RecordOutcome::Refused(reason));
            }
        }
    }

    /// A message that was refused whole: its halves are next, or the one record is to blame.
    fn split(&mut self, part: Range<usize>, reason: &str, parts: &mut Vec<Range<usize>>) {
        if part.len() > 1 {
            let middle = part.start + part.len() / 2;
            parts.push(middle..part.end);
            parts.push(part.start..middle);
            return;
        }
        if let Some(settled) = self.settled.get_mut(part.start) {
            *settled = Some(match self.maybe.get(part.start) {
                Some(Some(maybe)) => {
                    RecordOutcome::Unknown(format!("{maybe}; sent again, it was refused: {reason}"))
                }
                _ => RecordOutcome::Refused(reason.to_owned()),
            });
        }
        self.alone.push((part.start, self.budget.refusals.refused(self.usage_type, reason)));
    }

    fn give_up(&self, outcome: &SendOutcome) -> Ended {
        let (stop, reason) = match outcome {
            SendOutcome::KeyRefused { http_status, reason } => (
                Stop::KeyRefused,
                format!("the service refuses this site or its key (HTTP {http_status}): {reason}"),
            ),
            // A proxy that blocks may stop blocking; a wrong address stays wrong.
            SendOutcome::Proxy { http_status: 401 | 403 | 407, reason } => (Stop::ApiDown, reason.clone()),
            SendOutcome::Proxy { reason, .. } => {
                (Stop::SomethingWrong { text: reason.clone() }, reason.clone())
            }
            SendOutcome::Busy { http_status, reason, .. } => {
                (Stop::ApiDown, format!("the service is busy (HTTP {http_status}): {reason}"))
            }
            SendOutcome::NotSent { reason } => {
                (Stop::ApiDown, format!("the service cannot be reached: {reason}"))
            }
            SendOutcome::Unknown { reason } => (Stop::ApiDown, reason.clone()),
            SendOutcome::Answered { http_status, .. }
            | SendOutcome::RefusedWhole { http_status, .. }
            | SendOutcome::TooLarge { http_status } => (Stop::ApiDown, format!("HTTP {http_status}")),
        };
        // The key, what somebody must put right, and the wish to be left alone for long are the same for all deliveries of
        // the run.
        let asked = match outcome {
            SendOutcome::Busy { retry_after: Some(asked), .. } => *asked,
            _ => Duration::ZERO,
        };
        if stop != Stop::ApiDown || self.budget.is_too_long(asked) {
            self.budget.stop(stop.clone(), reason.clone());
        }
        Ended { stop: Some(stop), reason }
    }

    fn report(self, ended: Result<(), Ended>) -> Delivery {
        let (stop, stop_reason) = match ended {
            Ok(()) => (None, None),
            Err(Ended { stop, reason }) => (stop, Some(reason)),
        };
        let outcomes =
            self.settled.into_iter().zip(self.maybe).map(|(settled, maybe)| match (settled, maybe) {
                (Some(outcome), _) => outcome,
                (None, Some(maybe)) => RecordOutcome::Unknown(maybe.to_string()),
                (None, None) => RecordOutcome::NotSent(stop_reason.clone().unwrap_or_default()),
            });
        let outcomes: Vec<_> = outcomes.collect();
        let count =
            |wanted: fn(&RecordOutcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
        tracing::info!(
            usage_type = %self.usage_type,
            posts = self.posts,
            accepted = count(|outcome| matches!(outcome, RecordOutcome::Accepted)),
            refused = count(|outcome| matches!(outcome, RecordOutcome::Refused(_))),
            unknown = count(|outcome| matches!(outcome, RecordOutcome::Unknown(_))),
            not_sent = count(|outcome| matches!(outcome, RecordOutcome::NotSent(_))),
            stop_reason = stop_reason.as_deref(),
            "delivered a batch"
        );
        Delivery { outcomes, stop, stop_reason, posts: self.posts }
    }
}

/// Takes one record out of the parts that wait, by its place among all of them in the order in which they would be sent.
fn take(parts: &mut Vec<Range<usize>>, place: usize) -> Option<usize> {
    let mut before = 0;
    // The next part is the last of the stack.
    for at in (0..parts.len()).rev() {
        let part = parts.get(at)?.clone();
        if place - before < part.len() {
            let record = part.start + (place - before);
            let rest = [record + 1..part.end, part.start..record];
            parts.splice(at..=at, rest.into_iter().filter(|rest| !rest.is_empty()));
            return Some(record);
        }
        before += part.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_is_taken_from_where_it_waits(lengths in proptest::collection::vec(1_usize..9, 0..6), place in 0_usize..60) {
            let mut end = 0;
            let mut parts: Vec<Range<usize>> = lengths.iter().map(|length| { end += length; end - length..end }).collect();
            parts.reverse();
            let taken = take(&mut parts, place);
            prop_assert_eq!(taken, (place < end).then_some(place));
            prop_assert!(parts.iter().all(|part| !part.is_empty()));
            let left: Vec<usize> = parts.into_iter().rev().flatten().collect();
            prop_assert_eq!(left, (0..end).filter(|record| Some(*record) != taken).collect::<Vec<_>>());
        }
    }
}
