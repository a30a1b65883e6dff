//! Sending what the ledger owes: lease, POST, settle; several batches in flight, one place that writes the ledger.
//!
//! No POST starts before the lease that holds its records is durable, and each answer is settled as soon as it is
//! there. Whatever kills this process leaves leased rows, which the next run takes for "may have arrived".

use crate::clock;
use crate::config::Api;
use crate::crash;
use crate::ledger::{BatchId, LeaseRequest, Leased, Ledger, LedgerError, Settled};
use amie_usage::{Cancel, Client, Delivery, Limits, RetryBudget, Stop, UsageType, deliver};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a round of sending did.
#[derive(Debug, Default)]
pub struct Submission {
    /// Records that the service took into its queue.
    pub accepted: u64,
    /// Records that it refused.
    pub refused: u64,
    /// Records that may have arrived.
    pub unknown: u64,
    /// Records that surely did not arrive; they stay pending.
    pub not_sent: u64,
    /// POSTs.
    pub posts: u64,
    /// Why sending stopped before everything was sent.
    pub stop: Option<Stop>,
    /// The same in words.
    pub stop_reason: Option<String>,
    /// True where a signal asked to stop.
    pub interrupted: bool,
    /// What else people should know.
    pub remarks: Vec<String>,
}

impl Submission {
    /// Adds what another round did.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.not_sent += other.not_sent;
        self.posts += other.posts;
        if self.stop.is_none() {
            self.stop = other.stop;
            self.stop_reason = other.stop_reason;
        }
        self.interrupted |= other.interrupted;
        self.remarks.extend(other.remarks);
    }
}

/// Sends everything that the ledger owes, until nothing is left, something stops it, or `cancel` is called.
///
/// # Errors
/// Where the ledger cannot be written. What is in flight then is settled by the next run.
pub async fn submit(
    ledger: &mut dyn Ledger,
    client: &Client,
    api: &Api,
    cancel: &Cancel,
) -> Result<Submission, LedgerError> {
    let mut round = Round {
        client: client.clone(),
        limits: Limits { max_body_bytes: api.max_body_bytes, max_records: api.max_records },
        budget: Arc::new(RetryBudget::new(api.retries)),
        cancel: cancel.clone(),
        lease_seconds: lease_seconds(api),
        sendable: Duration::from_secs(lease_seconds(api).into()).saturating_sub(api.total_timeout),
        flight: JoinSet::new(),
        sum: Submission::default(),
    };
    for usage_type in UsageType::ALL {
        round.send_all(ledger, usage_type, api).await?;
    }
    round.sum.interrupted = cancel.is_cancelled();
    Ok(round.sum)
}

/// A lease outlives the longest delivery that can be going on under it, twice over.
fn lease_seconds(api: &Api) -> u32 {
    let longest = RetryBudget::new(api.retries).delivery_limit() + api.total_timeout;
    u32::try_from(longest.as_secs().saturating_mul(2)).unwrap_or(u32::MAX)
}

struct Round {
    client: Client,
    limits: Limits,
    budget: Arc<RetryBudget>,
    cancel: Cancel,
    lease_seconds: u32,
    /// How long after a lease began a POST may still begin under it: long enough to be answered.
    sendable: Duration,
    flight: JoinSet<(BatchId, Delivery)>,
    sum: Submission,
}

impl Round {
    /// Leases and sends batches of one type until there are none.
    async fn send_all(
        &mut self,
        ledger: &mut dyn Ledger,
        usage_type: UsageType,
        api: &Api,
    ) -> Result<(), LedgerError> {
        loop {
            while self.flight.len() < api.concurrency
                && self.sum.stop.is_none()
                && !self.cancel.is_cancelled()
            {
                let request = LeaseRequest {
                    max_records: api.max_records,
                    max_bytes: api.max_body_bytes,
                    lease_seconds: self.lease_seconds,
                    resend_unknown: api.may_resend(usage_type),
                    ..LeaseRequest::new(usage_type, clock::now())
                };
                let leased_at = clock::since_boot();
                match ledger.lease(&request)? {
                    None => break,
                    Some(leased) => {
                        crash::point("leased");
                        self.start(leased, leased_at + self.sendable);
                    }
                }
            }
            match self.flight.join_next().await {
                None => return Ok(()),
                Some(Ok((batch, delivery))) => {
                    crash::point("answered");
                    self.settle(ledger, batch, delivery)?;
                    crash::point("settled");
                }
                // A task that panicked leaves its batch leased: the next run takes it for unknown.
                Some(Err(error)) => tracing::error!(%error, "a delivery ended without an answer"),
            }
        }
    }

    /// Begins to send what was leased. `until` is a time since the host was started: one that slept past its lease must not
    /// send, for somebody else may have what it leased.
    fn start(&mut self, leased: Leased, until: Duration) {
        let (client, limits) = (self.client.clone(), self.limits);
        let cancel = self.cancel.or_when(move || clock::since_boot() >= until);
        let budget = Arc::clone(&self.budget);
        self.flight.spawn(async move {
            let records: Vec<&[u8]> = leased.records.iter().map(|record| record.payload.as_slice()).collect();
            let delivery = deliver(&client, leased.usage_type, &records, &limits, &budget, &cancel).await;
            (leased.batch, delivery)
        });
    }

    fn settle(
        &mut self,
        ledger: &mut dyn Ledger,
        batch: BatchId,
        delivery: Delivery,
    ) -> Result<(), LedgerError> {
        let note = delivery.stop_reason.clone().unwrap_or_else(|| format!("{} POST(s)", delivery.posts));
        let settled = match ledger.settle(batch, &delivery.outcomes, &note, clock::now()) {
            Err(LedgerError::SettledBefore(_)) => self.taken_over(batch, delivery.outcomes.len() as u64),
            settled => settled?,
        };
        self.sum.accepted += settled.accepted;
        self.sum.refused += settled.rejected;
        self.sum.unknown += settled.unknown;
        self.sum.not_sent += settled.not_sent;
        self.sum.posts += u64::from(delivery.posts);
        // Records that were not sent, or whose fate is unknown, would be leased again at once: leave them to the next run.
        let unresolved = settled.not_sent + settled.unknown > 0;
        let stop = delivery.stop.or_else(|| unresolved.then_some(Stop::ApiDown));
        if self.sum.stop.is_none() {
            self.sum.stop = stop;
            self.sum.stop_reason = delivery.stop_reason;
        }
        Ok(())
    }

    /// Another runner has settled this batch: what is answered now changes nothing any more, and the others go on.
    fn taken_over(&mut self, BatchId(batch): BatchId, records: u64) -> Settled {
        self.sum.unknown += records;
        self.sum.remarks.push(format!(
            "another runner took batch {batch} over, since its lease had ended before it was answered (was this host \
             suspended?): the answer for its {records} record(s) is not noted, and that runner sees to them"
        ));
        Settled::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::ledger::{Binding, SqliteLedger, State};
    use crate::{engine, nightly, plan};
    use std::path::Path;

    #[test]
    fn what_was_leased_for_too_long_is_not_sent_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo/config.toml"));
        let config = Config::load(demo).unwrap();
        let api = config.api.as_ref().unwrap();
        let binding = Binding { endpoint: api.url.clone(), site: config.site.clone() };
        let mut ledger = SqliteLedger::open(&folder.path().join("ledger.db"), &binding, 1).unwrap();
        let planned = plan::plan(&config, Some("pbs"), &[]).unwrap();
        engine::ingest(&config, &planned, &mut ledger, 1).unwrap();
        let owed = ledger.totals().unwrap().count(State::Pending);
        let key = amie_usage::ApiKey::new("k").unwrap();
        // Nobody is there; a POST would be counted all the same.
        let nowhere = Api { url: "https://127.0.0.1:9/".to_owned(), ..api.clone() };
        let mut round = Round {
            client: nightly::client(&config, &nowhere, key).unwrap(),
            limits: Limits::default(),
            budget: Arc::new(RetryBudget::new(0)),
            cancel: Cancel::new(),
            lease_seconds: lease_seconds(api),
            sendable: Duration::ZERO,
            flight: JoinSet::new(),
            sum: Submission::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(round.send_all(&mut ledger, UsageType::Compute, api)).unwrap();
        assert!(owed > 10);
        assert_eq!((round.sum.posts, round.sum.not_sent), (0, owed));
        assert_eq!(ledger.totals().unwrap().count(State::Pending), owed, "the next run sends it");
        assert!(round.sum.stop_reason.unwrap().contains("too late to send"));
    }
}
