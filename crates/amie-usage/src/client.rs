//! The client: one method for each call of the API, each answer typed.

use crate::config::{ClientConfig, ConfigError, Endpoints, endpoints, http_client};
use crate::outcome::{Answer, SendOutcome, clean, judge};
use crate::pace::Pace;
use crate::pages::LoadedPages;
use crate::wire::{self, FailedRecord, LoadedPage, ResourceStatus, Settings, Verdict};
use crate::{ApiKey, UsageType};
use reqwest::Method;
use reqwest::header;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// Bytes of a body that are read where only its message matters.
const ERROR_BODY_BYTES: usize = 64 * 1024;
/// Bytes of ids that one acknowledgement carries: some servers take no address above 2,000.
const ID_BYTES: usize = 1500;

/// A client of the Usage API for one site. Cheap to clone; clones share connections.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use amie_usage::{ApiKey, Client, ClientConfig};
/// let key = ApiKey::from_file("/etc/amie-runner/api-key")?;
/// let client = Client::new(ClientConfig::new("https://usage.access-ci.org/api/v1_test", "TestSite", key))?;
/// for failed in client.failed().await? {
///     println!("{:?}: {}", failed.local_record_id, failed.error);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoints: Endpoints,
    site: String,
    key: ApiKey,
    settings: Settings,
    max_response_bytes: usize,
    pace: Arc<Pace>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.endpoints.send.as_str())
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// Which loaded records to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadedQuery {
    /// Loaded at this time or later, epoch seconds.
    pub min_loaded_time: Option<i64>,
    /// Only this record.
    pub local_record_id: Option<String>,
    /// Records to skip.
    pub offset: u64,
    /// Records to answer; none: as many as the service gives at once.
    pub limit: Option<u32>,
}

/// Why a call other than sending has no answer. All of them may be made again at any time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The service does not offer the call (404, 405, 501): do without.
    #[error("the service does not offer this call (HTTP {http_status}): {reason}")]
    NotOffered {
        /// The status.
        http_status: u16,
        /// What it said.
        reason: String,
    },
    /// Wrong site or key.
    #[error("the service refuses this site or its key (HTTP {http_status}): {reason}")]
    KeyRefused {
        /// The status.
        http_status: u16,
        /// What it said.
        reason: String,
    },
    /// The service refuses this question.
    #[error("the service refuses the call (HTTP {http_status}): {reason}")]
    Refused {
        /// The status.
        http_status: u16,
        /// What it said.
        reason: String,
    },
    /// Not now.
    #[error("the service is busy (HTTP {http_status}): {reason}")]
    Busy {
        /// The status.
        http_status: u16,
        /// How long it asks to be left alone, at most a day.
        retry_after: Option<Duration>,
        /// What it said.
        reason: String,
    },
    /// Somebody else answered.
    #[error("{reason}")]
    Proxy {
        /// The status.
        http_status: u16,
        /// What it said, and what to do.
        reason: String,
    },
    /// No answer, or not all of one.
    #[error("the service cannot be reached: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// An answer that is none.
    #[error("{reason}")]
    Unreadable {
        /// What it is instead.
        reason: String,
    },
    /// The question itself cannot be sent.
    #[error("{reason}")]
    Impossible {
        /// Why.
        reason: String,
    },
}

/// Why a request has no answer.
enum NoAnswer {
    /// Surely nothing left.
    NotSent(String),
    /// It may have arrived.
    Broken(String),
}

impl Client {
    /// Checks the configuration, reads certificates, and sets up connections (none is opened yet).
    ///
    /// # Errors
    /// Where the configuration cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let endpoints = endpoints(&config)?;
        let http = http_client(&config, &endpoints.send)?;
        Ok(Self {
            http,
            endpoints,
            site: config.site,
            key: config.key,
            settings: config.settings,
            max_response_bytes: config.max_response_bytes,
            pace: Arc::new(Pace::new(config.min_interval)),
        })
    }

    /// What may differ on the wire.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends one message with these rendered records, once. Never tries again: see [`deliver`](crate::deliver).
    pub async fn send(&self, usage_type: UsageType, records: &[&[u8]]) -> SendOutcome {
        let records: Vec<Cow<'_, [u8]>> =
            records.iter().map(|record| self.settings.as_sent(record)).collect();
        let records: Vec<&[u8]> = records.iter().map(AsRef::as_ref).collect();
        self.turn().await;
        self.post(usage_type, &records).await
    }

    /// Waits until another request may start.
    pub(crate) async fn turn(&self) {
        self.pace.turn().await;
    }

    /// No request starts for so long: the service wants to be left alone.
    pub(crate) fn hold(&self, wait: Duration) {
        self.pace.hold(wait);
    }

    /// Posts records that have the form in which they are sent. The caller has waited for its turn.
    pub(crate) async fn post(&self, usage_type: UsageType, records: &[&[u8]]) -> SendOutcome {
        let body = wire::message_body(usage_type, records.iter().copied());
        let bytes = body.len();
        let started = Instant::now();
        let outcome = match self.exchange(Method::POST, self.endpoints.send.clone(), Some(body)).await {
            Ok(answer) => judge(usage_type, records, &answer, &self.key),
            Err(NoAnswer::NotSent(reason)) => SendOutcome::NotSent { reason },
            Err(NoAnswer::Broken(reason)) => SendOutcome::Unknown { reason },
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(%usage_type, records = records.len(), bytes, duration_ms, outcome = outcome.name(), "POST");
        outcome
    }

    /// What the service processed between two times (epoch seconds), for each resource.
    ///
    /// # Errors
    /// See [`CallError`]; a site has found this call not offered.
    pub async fn status(&self, from: i64, to: i64) -> Result<Vec<ResourceStatus>, CallError> {
        let mut url = self.endpoints.status.clone();
        url.query_pairs_mut()
            .append_pair(&self.settings.status_from, &wire_time(from)?)
            .append_pair(&self.settings.status_to, &wire_time(to)?);
        let answer = self.call(Method::GET, url).await?;
        if answer.is_nothing() {
            return Ok(Vec::new());
        }
        let mut status = wire::read_status(&answer.body).map_err(|error| self.unreadable(&error))?;
        for resource in &mut status {
            self.key.redact_name(&mut resource.resource);
        }
        for error in status.iter_mut().flat_map(|resource| &mut resource.errors) {
            error.error = clean(&error.error, &self.key);
            self.clean_all(&mut error.records);
        }
        Ok(status)
    }

    /// Records that failed to load and are not yet acknowledged.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn failed(&self) -> Result<Vec<FailedRecord>, CallError> {
        let answer = self.call(Method::GET, self.endpoints.failed.clone()).await?;
        if answer.is_nothing() {
            return Ok(Vec::new());
        }
        let mut failed = wire::read_failed(&answer.body).map_err(|error| self.unreadable(&error))?;
        self.clean_all(&mut failed);
        Ok(failed)
    }

    /// Acknowledges failed records by their [`failed_record_id`](FailedRecord::failed_record_id). That does not send
    /// them again. Many ids go in several calls; after an error, some may be acknowledged.
    ///
    /// # Errors
    /// See [`CallError`]; an id that cannot be in a list is refused before anything is sent.
    pub async fn clear_failed(&self, ids: &[String]) -> Result<(), CallError> {
        let listable = |byte: u8| byte.is_ascii_graphic() && !b",/?#%\\".contains(&byte);
        if let Some(id) = ids
            .iter()
            .find(|id| id.is_empty() || matches!(id.as_str(), "." | "..") || !id.bytes().all(listable))
        {
            let id = wire::printable(id, 100);
            return Err(CallError::Impossible {
                reason: format!("\"{id}\" cannot be the id of a failed record"),
            });
        }
        let mut rest = ids;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|id| {
                bytes += id.len() + 1;
                bytes <= ID_BYTES
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            let mut url = self.endpoints.failed.clone();
            if let Ok(mut path) = url.path_segments_mut() {
                path.push(&now.join(","));
            }
            self.call(Method::DELETE, url).await?;
            rest = later;
        }
        Ok(())
    }

    /// One page of records that the service has loaded.
    ///
    /// # Errors
    /// See [`CallError`]; the call is optional, and knows compute records only.
    pub async fn loaded(&self, query: &LoadedQuery) -> Result<LoadedPage, CallError> {
        let settings = &self.settings;
        let limit = query.limit.unwrap_or(settings.loaded_page).clamp(1, settings.loaded_page.max(1));
        let mut url = self.endpoints.loaded.clone();
        {
            let mut pairs = url.query_pairs_mut();
            if let Some(time) = query.min_loaded_time {
                pairs.append_pair(&settings.loaded_min_time, &wire_time(time)?);
            }
            if let Some(id) = &query.local_record_id {
                pairs.append_pair(&settings.loaded_record_id, id);
            }
            pairs.append_pair(&settings.loaded_limit, &limit.to_string());
            pairs.append_pair(&settings.loaded_offset, &query.offset.to_string());
        }
        let answer = self.call(Method::GET, url).await?;
        if answer.is_nothing() {
            return Ok(LoadedPage::default());
        }
        let mut page = wire::read_loaded(&answer.body, limit).map_err(|error| self.unreadable(&error))?;
        for record in &mut page.records {
            self.key.redact_name(&mut record.resource);
            self.key.redact_name(&mut record.local_record_id);
            record.accounting_db_record_id.iter_mut().for_each(|id| self.key.redact_name(id));
        }
        Ok(page)
    }

    /// All loaded records from the query's offset on, page by page.
    ///
    /// ```no_run
    /// # async fn example(client: amie_usage::Client) -> Result<(), amie_usage::CallError> {
    /// use amie_usage::LoadedQuery;
    /// let since = LoadedQuery { min_loaded_time: Some(1_790_899_200), ..LoadedQuery::default() };
    /// let mut pages = client.loaded_pages(since);
    /// while let Some(page) = pages.next().await? {
    ///     println!("{} records; to go on later, from {}", page.records.len(), pages.position().offset);
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn loaded_pages(&self, query: LoadedQuery) -> LoadedPages {
        LoadedPages::new(self.clone(), query)
    }

    /// A call whose answer is wanted only if it is a good one.
    async fn call(&self, method: Method, url: Url) -> Result<Answer, CallError> {
        self.turn().await;
        let answer = match self.exchange(method, url, None).await {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(reason) | NoAnswer::Broken(reason)) => {
                return Err(CallError::Unreachable { reason });
            }
        };
        let http_status = answer.status;
        let reason = || answer.reason(&self.key);
        match answer.verdict() {
            Verdict::Taken => match &answer.broken {
                Some(broken) => Err(CallError::Unreachable { reason: broken.clone() }),
                // The login page of a guest network must not pass for an acknowledgement.
                None if answer.is_page() => {
                    let reason = format!("the answer cannot be read: {}", answer.reason(&self.key));
                    Err(CallError::Unreadable { reason })
                }
                None => Ok(answer),
            },
            _ if matches!(http_status, 404 | 405 | 501) => {
                Err(CallError::NotOffered { http_status, reason: reason() })
            }
            Verdict::KeyRefused => Err(CallError::KeyRefused { http_status, reason: reason() }),
            Verdict::Busy { .. } => {
                Err(CallError::Busy { http_status, retry_after: answer.retry_after(), reason: reason() })
            }
            Verdict::NotTheApi => {
                Err(CallError::Proxy { http_status, reason: answer.not_the_api(&self.key) })
            }
            Verdict::RefusedWhole | Verdict::TooLarge => {
                Err(CallError::Refused { http_status, reason: reason() })
            }
        }
    }

    /// One request and its answer, whatever the status, with a bounded body.
    async fn exchange(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Answer, NoAnswer> {
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(|error| {
            // Only these are raised before the first byte of a request leaves; anything later may have arrived.
            let surely_not = error.is_connect() || error.is_builder();
            let reason = self.describe(error);
            if surely_not { NoAnswer::NotSent(reason) } else { NoAnswer::Broken(reason) }
        })?;
        let text = |name: header::HeaderName| {
            response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            content_type: text(header::CONTENT_TYPE),
            location: text(header::LOCATION),
            retry_after: text(header::RETRY_AFTER),
            date: text(header::DATE),
            ..Answer::default()
        };
        let success = response.status().is_success();
        let limit =
            if success { self.max_response_bytes } else { ERROR_BODY_BYTES.min(self.max_response_bytes) };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = limit.saturating_sub(answer.body.len());
                    answer.body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                    if chunk.len() > room {
                        answer.broken = Some(format!("it is longer than {limit} bytes"));
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    answer.broken = Some(self.describe(error));
                    break;
                }
            }
        }
        Ok(answer)
    }

    fn describe(&self, error: reqwest::Error) -> String {
        let text = chain(&error.without_url());
        let advice = advice(&text).map(|advice| format!(" ({advice})")).unwrap_or_default();
        clean(&text, &self.key) + &advice
    }

    fn unreadable(&self, error: &wire::Unreadable) -> CallError {
        CallError::Unreadable { reason: clean(&error.to_string(), &self.key) }
    }

    fn clean_all(&self, records: &mut [FailedRecord]) {
        for record in records {
            crate::outcome::clean_record(record, &self.key);
        }
    }
}

impl SendOutcome {
    /// One word for logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answered { .. } => "answered",
            Self::RefusedWhole { .. } => "refused-whole",
            Self::TooLarge { .. } => "too-large",
            Self::Busy { .. } => "busy",
            Self::KeyRefused { .. } => "key-refused",
            Self::Proxy { .. } => "proxy",
            Self::NotSent { .. } => "not-sent",
            Self::Unknown { .. } => "unknown",
        }
    }
}

fn wire_time(epoch: i64) -> Result<String, CallError> {
    let text = wire::format_time(epoch).map(|text| String::from_utf8_lossy(&text).into_owned());
    text.ok_or_else(|| CallError::Impossible { reason: format!("{epoch} is outside the years 0 to 9999") })
}

/// What to do about a certificate that proves nothing, by the words of rustls.
fn advice(text: &str) -> Option<&'static str> {
    [
        (
            "UnknownIssuer",
            "this host does not trust the authority that signed the certificate: if it is the site's own, name its certificate as ca_bundle",
        ),
        ("certificate expired", "the certificate of the service, or of whoever answers for it, must be renewed"),
        ("not valid for name", "another host answers: check the API address, and proxies"),
    ]
    .into_iter()
    .find(|(words, _)| text.contains(words))
    .map(|(_, advice)| advice)
}

/// An error and its causes on one line, without repeating a cause that its parent already quotes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
