//! The same client for programs that know no async: each call waits for its answer.
//!
//! ```
//! # let service = tokio::runtime::Runtime::new()?;
//! # let sandbox = service.block_on(usage_sandbox::Sandbox::start(usage_sandbox::Settings::default()))?;
//! # let url = sandbox.base_url();
//! use amie_usage::blocking::Client;
//! use amie_usage::{ApiKey, Cancel, ClientConfig, Limits, RecordOutcome, RetryBudget, UsageType};
//!
//! let record = br#"{"Username":"ada","LocalProjectID":"TG-ABC123456","LocalRecordID":"123","Resource":"cpu.example.org",
//!     "SubmitTime":"2026-10-02T00:00:00Z","StartTime":"2026-10-02T00:01:00Z","EndTime":"2026-10-02T01:01:00Z",
//!     "Charge":"12.5","Attributes":{"NodeCount":1}}"#;
//! let client = Client::new(ClientConfig::new(url, "TestSite", ApiKey::new("a-key")?))?;
//! let (limits, budget, cancel) = (Limits::default(), RetryBudget::default(), Cancel::new());
//! let delivery = client.deliver(UsageType::Compute, &[record], &limits, &budget, &cancel);
//! assert_eq!(delivery.outcomes, [RecordOutcome::Accepted]);
//! assert!(client.failed()?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::wire::{FailedRecord, LoadedPage, ResourceStatus};
use crate::{
    CallError, Cancel, ClientConfig, ConfigError, Delivery, Limits, LoadedQuery, RecordOutcome, RetryBudget,
    SendOutcome, UsageType,
};
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};

/// What is wrong with a call from within an async program.
const WITHIN_ASYNC: &str =
    "the blocking client cannot wait within an async program: use amie_usage::Client there";

/// A [client](crate::Client) whose calls wait. Cheap to clone; clones share connections, and may be used from several
/// threads at once. Within an async program it must not wait: its calls then answer that nothing was sent.
#[derive(Debug, Clone)]
pub struct Client {
    inner: crate::Client,
    waiter: Arc<Waiter>,
}

/// The runtime on which calls wait.
#[derive(Debug)]
struct Waiter(Option<Runtime>);

impl Drop for Waiter {
    fn drop(&mut self) {
        // To wait for the end of its threads is not allowed where the last clone may be dropped: within an async program.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// See [`crate::Client::new`].
    ///
    /// # Errors
    /// Where the configuration cannot be used, or the system gives no event queue.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let inner = crate::Client::new(config)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ConfigError::Runtime { reason: error.to_string() })?;
        Ok(Self { inner, waiter: Arc::new(Waiter(Some(runtime))) })
    }

    /// The client that does the work.
    #[must_use]
    pub fn inner(&self) -> &crate::Client {
        &self.inner
    }

    /// Waits for an answer; none within an async program, where waiting would panic.
    fn wait<F: Future>(&self, call: F) -> Option<F::Output> {
        match (&self.waiter.0, Handle::try_current()) {
            (Some(runtime), Err(_)) => Some(runtime.block_on(call)),
            _ => None,
        }
    }

    fn ask<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let impossible = || Err(CallError::Impossible { reason: WITHIN_ASYNC.to_owned() });
        self.wait(call).unwrap_or_else(impossible)
    }

    /// See [`crate::Client::send`].
    #[must_use]
    pub fn send(&self, usage_type: UsageType, records: &[&[u8]]) -> SendOutcome {
        let not_sent = || SendOutcome::NotSent { reason: WITHIN_ASYNC.to_owned() };
        self.wait(self.inner.send(usage_type, records)).unwrap_or_else(not_sent)
    }

    /// See [`crate::deliver`].
    #[must_use]
    pub fn deliver(
        &self,
        usage_type: UsageType,
        records: &[&[u8]],
        limits: &Limits,
        budget: &RetryBudget,
        cancel: &Cancel,
    ) -> Delivery {
        let delivery = crate::deliver(&self.inner, usage_type, records, limits, budget, cancel);
        self.wait(delivery).unwrap_or_else(|| Delivery {
            outcomes: vec![RecordOutcome::NotSent(WITHIN_ASYNC.to_owned()); records.len()],
            stop: None,
            stop_reason: Some(WITHIN_ASYNC.to_owned()),
            posts: 0,
        })
    }

    /// See [`crate::Client::status`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn status(&self, from: i64, to: i64) -> Result<Vec<ResourceStatus>, CallError> {
        self.ask(self.inner.status(from, to))
    }

    /// See [`crate::Client::failed`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn failed(&self) -> Result<Vec<FailedRecord>, CallError> {
        self.ask(self.inner.failed())
    }

    /// See [`crate::Client::clear_failed`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn clear_failed(&self, ids: &[String]) -> Result<(), CallError> {
        self.ask(self.inner.clear_failed(ids))
    }

    /// See [`crate::Client::loaded`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn loaded(&self, query: &LoadedQuery) -> Result<LoadedPage, CallError> {
        self.ask(self.inner.loaded(query))
    }

    /// See [`crate::Client::loaded_pages`]; an iterator, which ends behind the last page or the first error.
    #[must_use]
    pub fn loaded_pages(&self, query: LoadedQuery) -> LoadedPages {
        LoadedPages { client: self.clone(), pages: self.inner.loaded_pages(query), broken: false }
    }
}

/// Walks through loaded records; made by [`Client::loaded_pages`].
#[derive(Debug)]
pub struct LoadedPages {
    client: Client,
    pages: crate::LoadedPages,
    broken: bool,
}

impl LoadedPages {
    /// See [`crate::LoadedPages::position`].
    #[must_use]
    pub fn position(&self) -> &LoadedQuery {
        self.pages.position()
    }
}

impl Iterator for LoadedPages {
    type Item = Result<LoadedPage, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let page = self.client.ask(self.pages.next()).transpose();
        self.broken = matches!(page, Some(Err(_)));
        page
    }
}
