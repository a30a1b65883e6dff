//! Delivers a batch: splits it into messages, bisects refusals, tries again within a budget, and says of each record
//! what is known.
//!
//! - A message is filled up to an exact number of bytes and records.
//! - A message that is refused whole (400, 413) is cut in halves, down to the records that are to blame: one guilty
//!   record among n costs 2 log2(n) posts.
//! - After five single records were refused with one text, it is not the records that are wrong: the delivery stops and
//!   marks none of them as refused.
//! - What may have been stored is sent again only where that overwrites. A record of which any POST may have arrived
//!   is never reported as not sent, and not as refused because a second try was refused whole.

use crate::retry::{self, Next, RetryBudget};
use crate::wire::{self, Resend};
use crate::{Client, Refused, SendOutcome, UsageType};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// Single refusals with one text that stop a delivery.
const SAME_REFUSALS: usize = 5;

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
#[derive(Debug, Clone)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// Not yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Asks all who hold a clone to stop.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// True once it was asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked.
    pub async fn cancelled(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
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
/// Ends at the latest one request after [`RetryBudget::delivery_limit`]. Whether records may be sent again after an
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
    let mut run = Run {
        client,
        usage_type,
        records,
        resend: client.settings().resend.of(usage_type),
        budget,
        cancel,
        started: Instant::now(),
        settled: vec![None; records.len()],
        maybe: vec![None; records.len()],
        singles: HashMap::new(),
        posts: 0,
    };
    let ended = run.deliver(limits).await;
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
    /// Records that were refused alone, by the shape of the text.
    singles: HashMap<String, Vec<usize>>,
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
            match self.post(part.clone()).await? {
                SendOutcome::Answered { refused, unmatched, .. } => {
                    self.settle(part, refused, unmatched.first().map(|record| record.error.as_str()));
                }
                SendOutcome::RefusedWhole { reason, .. } => self.split(part, &reason, &mut parts)?,
                SendOutcome::TooLarge { http_status } => {
                    self.split(part, &format!("too large (HTTP {http_status})"), &mut parts)?;
                }
                // `post` ends the delivery with any other.
                other => return Err(self.give_up(&other)),
            }
        }
        Ok(())
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
            attempt = attempt.saturating_add(1);
            self.posts = self.posts.saturating_add(1);
            let outcome = self.client.send(self.usage_type, records).await;
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
    fn split(
        &mut self,
        part: Range<usize>,
        reason: &str,
        parts: &mut Vec<Range<usize>>,
    ) -> Result<(), Ended> {
        if part.len() > 1 {
            let middle = part.start + part.len() / 2;
            parts.push(middle..part.end);
            parts.push(part.start..middle);
            return Ok(());
        }
        if let Some(settled) = self.settled.get_mut(part.start) {
            *settled = Some(match self.maybe.get(part.start) {
                Some(Some(maybe)) => {
                    RecordOutcome::Unknown(format!("{maybe}; sent again, it was refused: {reason}"))
                }
                _ => RecordOutcome::Refused(reason.to_owned()),
            });
        }
        let same = self.singles.entry(shape(reason)).or_default();
        same.push(part.start);
        if same.len() < SAME_REFUSALS {
            return Ok(());
        }
        // Not these records are wrong. None that was refused alone is marked.
        for index in self.singles.values().flatten() {
            if let Some(settled) = self.settled.get_mut(*index) {
                *settled = None;
            }
        }
        let text = format!(
            "{SAME_REFUSALS} records were refused with one text, so none is marked as refused: {reason}"
        );
        Err(Ended { stop: Some(Stop::SomethingWrong { text: text.clone() }), reason: text })
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

/// A text without its numbers: `record 17 is bad` and `record 18 is bad` are one text.
fn shape(reason: &str) -> String {
    let mut shape = String::with_capacity(reason.len());
    for character in reason.chars() {
        if !character.is_ascii_digit() {
            shape.push(character);
        } else if !shape.ends_with('#') {
            shape.push('#');
        }
    }
    shape
}
