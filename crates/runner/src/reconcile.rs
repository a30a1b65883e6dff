//! What became of accepted records: asks the service what it loaded and what failed, and tells the ledger.
//!
//! All three calls are optional: a service that does not offer one is said so once, and done without.

use crate::clock;
use crate::crash;
use crate::ledger::sight::CLOCK_SKEW;
use crate::ledger::{Confirmed, Ledger, LedgerError, Sighting};
use amie_usage::{
    CallError, Cancel, Client, FailedRecord, LoadedQuery, LoadedRecord, RetryBudget, UsageType, ask,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// The furthest that is looked back, seconds: 90 days. What was accepted earlier and never loaded is reported as overdue;
/// without a bound, one such record would make every night read the service's whole history.
const FURTHEST: i64 = 90 * 86_400;

/// Retries of one round of questions, and attempts of each: an answer that is not there tonight is there tomorrow.
const RETRIES: u32 = 6;
const ATTEMPTS: u32 = 3;

/// What reconciling found.
#[derive(Debug, Default)]
pub struct Reconciliation {
    /// What the sightings said.
    pub confirmed: Confirmed,
    /// Calls that the service does not offer, and other things to tell people once.
    pub remarks: BTreeSet<String>,
    /// The service could not be reached.
    pub unreachable: Option<String>,
    /// The service refuses the key.
    pub key_refused: Option<String>,
    /// In the last round of questions it answered each, or does not offer the call.
    pub answered: bool,
}

impl Reconciliation {
    fn add(&mut self, confirmed: &Confirmed) {
        let sum = &mut self.confirmed;
        sum.loaded += confirmed.loaded;
        sum.failed += confirmed.failed;
        sum.mismatched += confirmed.mismatched;
        sum.again += confirmed.again;
        sum.stale += confirmed.stale;
        sum.incomplete += confirmed.incomplete;
        sum.not_now += confirmed.not_now;
        sum.foreign += confirmed.foreign;
    }

    /// Adds what another round found.
    pub fn merge(&mut self, other: Self) {
        self.add(&other.confirmed);
        self.remarks.extend(other.remarks);
        self.unreachable = self.unreachable.take().or(other.unreachable);
        self.key_refused = self.key_refused.take().or(other.key_refused);
        self.answered = other.answered;
    }

    fn problem(&mut self, call: &str, error: CallError) {
        self.answered &= matches!(error, CallError::NotOffered { .. });
        match error {
            CallError::NotOffered { http_status, .. } => {
                self.remarks
                    .insert(format!("the service does not offer {call} (HTTP {http_status}); done without"));
            }
            CallError::KeyRefused { .. } => self.key_refused = Some(error.to_string()),
            CallError::Unreachable { .. } | CallError::Busy { .. } | CallError::Proxy { .. } => {
                self.unreachable = Some(format!("{call}: {error}"));
            }
            other => {
                self.remarks.insert(format!("{call}: {other}"));
            }
        }
    }
}

/// Asks until nothing waits for an answer, `wait` is over, or the service cannot be asked.
///
/// # Errors
/// Where the ledger cannot be read or written.
pub async fn reconcile(
    ledger: &mut dyn Ledger,
    client: &Client,
    wait: Duration,
    cancel: &Cancel,
) -> Result<Reconciliation, LedgerError> {
    let mut found = Reconciliation::default();
    let started = std::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    // Once a run: the loads of what is no longer awaited, after a restatement.
    let mut watched = ledger.watched_since(clock::now())?;
    loop {
        let awaiting = ledger.awaiting()?;
        let earliest = awaiting.iter().map(|awaiting| awaiting.earliest_sent).chain(watched).min();
        let Some(earliest) = earliest else { break };
        let earliest_compute = awaiting
            .iter()
            .filter(|awaiting| awaiting.usage_type == UsageType::Compute)
            .map(|awaiting| awaiting.earliest_sent)
            .min();
        let since = |sent: i64| (sent - CLOCK_SKEW).max(clock::now() - FURTHEST);
        let loads_from = earliest_compute.into_iter().chain(watched).min().map(since);
        let began = clock::now();
        if round(ledger, client, since(earliest), loads_from, cancel, &mut found).await? {
            ledger.looked_at_loads(began)?;
            watched = None;
        }
        let blocked = found.unreachable.is_some() || found.key_refused.is_some();
        // Loads of other types are not listed by the service: waiting for them is in vain.
        if blocked || earliest_compute.is_none() || started.elapsed() >= wait || cancel.is_cancelled() {
            break;
        }
        let still = ledger.awaiting()?.iter().any(|awaiting| awaiting.usage_type == UsageType::Compute);
        if !still {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => break,
        }
        pause = (pause * 2)
            .min(Duration::from_secs(30))
            .min(wait.saturating_sub(started.elapsed()).max(Duration::from_millis(50)));
    }
    Ok(found)
}

/// One round of questions: failures and errors since `from`, loads of compute records since `loads_from`. True where
/// all of the latter were shown.
async fn round(
    ledger: &mut dyn Ledger,
    client: &Client,
    from: i64,
    loads_from: Option<i64>,
    cancel: &Cancel,
    found: &mut Reconciliation,
) -> Result<bool, LedgerError> {
    let budget = RetryBudget::new(RETRIES).with_attempts(ATTEMPTS);
    // Failures first: a record that failed and was sent again may be in both lists, and the load is the newer word.
    found.answered = true;
    match ask(&budget, cancel, async || client.failed().await).await {
        Ok(failed) => {
            tell(ledger, failed.into_iter().filter_map(|record| failure(record, None)).collect(), found)?
        }
        Err(error) => found.problem("GET /usage/failed", error),
    }
    let now = clock::now();
    match ask(&budget, cancel, async || client.status(from, now + CLOCK_SKEW).await).await {
        Ok(resources) => {
            let errors = resources.into_iter().flat_map(|resource| resource.errors);
            let sightings = errors.flat_map(|error| {
                let text = error.error;
                error.records.into_iter().filter_map(move |record| failure(record, Some(&text)))
            });
            tell(ledger, sightings.collect(), found)?;
        }
        Err(error) => found.problem("GET /usage/status", error),
    }
    let Some(loads_from) = loads_from else { return Ok(false) };
    let since = LoadedQuery { min_loaded_time: Some(loads_from), ..LoadedQuery::default() };
    let mut pages = client.loaded_pages(since);
    loop {
        match ask(&budget, cancel, async || pages.next().await).await {
            Ok(None) => return Ok(true),
            Ok(Some(page)) => {
                if page.unreadable > 0 {
                    found.remarks.insert(format!("{} loaded records could not be read", page.unreadable));
                }
                tell(ledger, page.records.into_iter().map(load).collect(), found)?;
            }
            Err(error) => {
                found.problem("GET /usage/loaded", error);
                return Ok(false);
            }
        }
    }
}

fn tell(
    ledger: &mut dyn Ledger,
    sightings: Vec<Sighting>,
    found: &mut Reconciliation,
) -> Result<(), LedgerError> {
    if !sightings.is_empty() {
        crash::point("seen");
        let confirmed = ledger.confirm(&sightings, clock::now())?;
        crash::point("confirmed");
        found.add(&confirmed);
    }
    Ok(())
}

fn load(record: LoadedRecord) -> Sighting {
    Sighting::Loaded {
        usage_type: UsageType::Compute,
        resource: record.resource,
        local_record_id: record.local_record_id,
        submit: record.submit_time,
        charge: record.charge,
        charge_places: record.charge.map(|_| record.charge_places),
        loaded_at: record.loaded_time,
    }
}

/// A failure as a sighting; `None` where it does not even name a record.
pub(crate) fn failure(record: FailedRecord, error: Option<&str>) -> Option<Sighting> {
    let error = match error {
        Some(text) if record.error.is_empty() => text.to_owned(),
        _ => record.error,
    };
    Some(Sighting::Failed {
        usage_type: record.usage_type.unwrap_or(UsageType::Compute),
        resource: record.resource.unwrap_or_default(),
        local_record_id: record.local_record_id?,
        submit: record.submit_time,
        error,
        failed_id: record.failed_record_id,
        local_reference: record.local_reference,
        processed_at: None,
    })
}
