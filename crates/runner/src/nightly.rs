//! The nightly run: recover, take in, look again at what was held, send, reconcile; and how it ended.

use crate::attention::{self, Item};
use crate::clock;
use crate::config::{Api, Config, KeySource, Source};
use crate::crash;
use crate::engine::{self, Collected};
use crate::exit::Exit;
use crate::ledger::{
    Binding, Braked, GoLive, HoldEnd, Ingested, LeaseRequest, Ledger, LedgerError, News, Person, Recovered,
    Totals,
};
use crate::pipeline::mapping::{Remapped, Rows, remap};
use crate::plan::Planned;
use crate::reconcile::{Reconciliation, reconcile};
use crate::stored::StoredRun;
use crate::submit::{Submission, submit};
use amie_usage::{ApiKey, Cancel, Client, ClientConfig, Stop, UsageType};
use std::sync::Arc;
use std::time::Duration;

/// Accepted records that were not seen loaded for this long are overdue, seconds: three days.
const OVERDUE: i64 = 3 * 86_400;

/// What a night did.
#[derive(Debug)]
pub struct Night {
    /// What was read and mapped.
    pub collected: Collected,
    /// What the ledger made of it.
    pub ingested: Ingested,
    /// What a run that died had left.
    pub recovered: Recovered,
    /// What was sent.
    pub submission: Submission,
    /// What the service said of it.
    pub reconciliation: Reconciliation,
    /// The ledger afterwards.
    pub totals: Totals,
    /// What needs a person.
    pub items: Vec<Item>,
    /// What of it no run has reported before.
    pub news: News,
    /// When the oldest compute record was sent that is still not seen loaded, where that is long ago; epoch seconds.
    pub overdue: Option<i64>,
    /// Resources whose new records were held, because this night charges far more than usual.
    pub braked: Vec<Braked>,
    /// From when on the runs of resources are sent, where the configuration says something of it.
    pub go_live: Vec<GoLive>,
    /// Tables that nobody has changed for longer than the configuration allows: a warning for each.
    pub old_tables: Vec<String>,
}

/// Why a night could not be.
#[derive(Debug, thiserror::Error)]
pub enum NightError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The client cannot be set up: configuration.
    #[error("{0}")]
    Client(String),
    /// A fault of this program.
    #[error(transparent)]
    Imbalance(#[from] crate::tally::Imbalance),
}

/// Reads the API key.
///
/// # Errors
/// In words: which key, what is wrong, what to do.
pub fn api_key(source: &KeySource) -> Result<ApiKey, String> {
    match source {
        KeySource::File(path) => ApiKey::from_file(path),
        KeySource::Environment(name) => ApiKey::from_env(name),
        KeySource::Credential(name) => ApiKey::from_credential(name),
    }
    .map_err(|error| error.to_string())
}

/// The client that a configuration describes.
///
/// # Errors
/// In words: what is wrong with the key or the address.
pub fn client(config: &Config, api: &Api, key: ApiKey) -> Result<Client, String> {
    let client = ClientConfig {
        connect_timeout: api.connect_timeout,
        read_timeout: api.read_timeout,
        total_timeout: api.total_timeout,
        ca_bundle: api.ca_bundle.clone(),
        allow_plain_http: api.allow_plain_http,
        user_agent: concat!("amie-runner/", env!("CARGO_PKG_VERSION")).to_owned(),
        settings: api.wire.clone(),
        min_interval: api.min_interval,
        ..ClientConfig::new(api.url.clone(), config.site.clone(), key)
    };
    Client::new(client).map_err(|error| error.to_string())
}

/// Opens the ledger of a configuration; `endpoint` is what it is bound to.
///
/// # Errors
/// Where it is in use, bound to another service, or cannot be opened.
pub fn open_ledger(config: &Config, endpoint: &str) -> Result<Box<dyn Ledger>, LedgerError> {
    let binding = Binding { endpoint: endpoint.to_owned(), site: config.site.clone() };
    config.ledger.open(&binding, clock::now())
}

/// One night.
///
/// # Errors
/// Where the ledger cannot be used. Trouble with the service is no error: it is in the result.
pub async fn night(
    config: &Config,
    planned: &[Planned<'_>],
    api: &Api,
    client: &Client,
    ledger: &mut dyn Ledger,
    wait: Duration,
    cancel: &Cancel,
) -> Result<Night, NightError> {
    let recovered = ledger.recover(clock::now())?;
    crash::point("recovered");
    let go_live = ledger.keep_go_live(&config.go_live, clock::now())?;
    let (collected, mut ingested) = engine::ingest(config, planned, ledger, clock::now())?;
    collected.tally.check()?;
    crash::point("ingested");
    ingested.merge(&retry_holds(config, ledger)?);
    let braked = before_sending(config, ledger)?;
    let mut submission = submit(ledger, client, api, cancel).await?;
    crash::point("submitted");
    let mut reconciliation = match submission.stop {
        Some(Stop::KeyRefused) => Reconciliation::default(),
        _ => reconcile(ledger, client, wait, cancel).await?,
    };
    // What is settled at zero under an old identity by now goes on under the new one in the same night.
    let asked = reconciliation.answered;
    if submission.stop.is_none() && !cancel.is_cancelled() && finish_moves(ledger, asked)? > 0 {
        submission.add(submit(ledger, client, api, cancel).await?);
        reconciliation.merge(reconcile(ledger, client, wait, cancel).await?);
    }
    let totals = ledger.totals()?;
    let items = attention::gather(ledger, 3)?;
    let news = ledger.news()?;
    let now = clock::now();
    // Loads of other types are not listed by the service: nobody can wait for them.
    let overdue = ledger
        .awaiting()?
        .iter()
        .filter(|awaiting| awaiting.usage_type == UsageType::Compute)
        .map(|awaiting| awaiting.earliest_sent)
        .min()
        .filter(|earliest| *earliest < now - OVERDUE);
    Ok(Night {
        collected,
        ingested,
        recovered,
        submission,
        reconciliation,
        totals,
        items,
        news,
        overdue,
        braked,
        go_live,
        old_tables: config.old_tables(now),
    })
}

/// What is left to do when everything is taken in and nothing is sent yet: records on their way to another identity go
/// on, and a night that charges far more than usual is held.
///
/// # Errors
/// Where the ledger cannot be written.
pub fn before_sending(config: &Config, ledger: &mut dyn Ledger) -> Result<Vec<Braked>, LedgerError> {
    finish_moves(ledger, false)?;
    let braked = match config.night_factor {
        Some(factor) => ledger.brake_night(factor, clock::now())?,
        None => Vec::new(),
    };
    Ok(braked)
}

/// Zero that was accepted and stayed quiet counts as settled only where the service has just been asked what failed: it may
/// have failed while no run asked, and the charge under the old identity would then be there still.
fn finish_moves(ledger: &mut dyn Ledger, asked: bool) -> Result<u64, LedgerError> {
    let now = clock::now();
    let quiet = if asked { LeaseRequest::new(UsageType::Compute, now).quiet_seconds } else { u32::MAX };
    let moved = ledger.finish_moves(quiet, now)?;
    crash::point("moved");
    Ok(moved)
}

/// Maps runs again that were held under other rules or tables, and whose input was not read again tonight.
///
/// # Errors
/// Where the ledger fails.
pub fn retry_holds(config: &Config, ledger: &mut dyn Ledger) -> Result<Ingested, LedgerError> {
    let mut sum = Ingested::default();
    for source in &config.sources {
        let digest = engine::rules_digest(config, source);
        let mut after = String::new();
        loop {
            let holds = ledger.open_holds_with_other_rules(digest, &after, 1000)?;
            let Some(last) = holds.last() else { break };
            after.clone_from(&last.key);
            sum.merge(&retry_source(config, source, digest, &holds, ledger)?);
        }
    }
    Ok(sum)
}

fn retry_source(
    config: &Config,
    source: &Source,
    digest: u128,
    holds: &[crate::ledger::Hold],
    ledger: &mut dyn Ledger,
) -> Result<Ingested, LedgerError> {
    let Some(rules) = engine::job_rules(source) else { return Ok(Ingested::default()) };
    let safe = rules.for_safe_text();
    let mut rows = Rows::new(&source.name, digest);
    let mut skipped = Vec::new();
    for hold in holds {
        // A reading of storage is no run: it is looked at again when its report is read again.
        let Ok(stored) = serde_json::from_str::<StoredRun>(&hold.run) else { continue };
        if stored.source != source.name {
            continue;
        }
        let index = u32::try_from(rows.chunk.files.len()).unwrap_or(u32::MAX);
        rows.chunk.files.push(Arc::from(stored.file.as_str()));
        // What was held for another reason came from a text that nobody could forge, or whose source does not mind.
        let rules = if hold.reason == "forgeable" { rules } else { &safe };
        if remap(&config.rules, rules, &stored, index, &mut rows) == Remapped::Skipped {
            skipped.push(hold.key.clone());
        }
    }
    let mut ingested = Ingested::default();
    if rows.chunk.rows() > 0 {
        ingested = ledger.ingest(&rows.chunk, clock::now())?;
    }
    if !skipped.is_empty() {
        let rules_changed = Person { by: "amie-runner", why: "the rules now skip this run" };
        skip(ledger, &skipped, rules_changed)?;
    }
    Ok(ingested)
}

/// Closes the holds of runs that the rules skip now; what another runner or a person closed meanwhile stays as it is.
fn skip(ledger: &mut dyn Ledger, keys: &[String], rules_changed: Person<'_>) -> Result<(), LedgerError> {
    let now = clock::now();
    let mut close = |keys: &[String]| ledger.close_holds(keys, HoldEnd::Skipped, rules_changed, now);
    match close(keys) {
        Err(LedgerError::NoSuchHold { .. }) => {}
        closed => return closed.map(|_| ()),
    }
    for key in keys {
        match close(std::slice::from_ref(key)) {
            Err(LedgerError::NoSuchHold { .. }) => {}
            closed => _ = closed?,
        }
    }
    Ok(())
}

impl Night {
    /// How it ended.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let mut exit = Exit::Well;
        let overdue = self.overdue.is_some() || !self.old_tables.is_empty();
        if !self.news.is_empty() || overdue || !self.collected.remarks.problems.is_empty() {
            exit = exit.and(Exit::Attention);
        }
        match self.submission.stop {
            None => {}
            Some(Stop::ApiDown) => exit = exit.and(Exit::Unreachable),
            Some(Stop::KeyRefused) => exit = exit.and(Exit::Usage),
            Some(Stop::SomethingWrong { .. }) => exit = exit.and(Exit::Attention),
        }
        if self.reconciliation.unreachable.is_some() || self.submission.interrupted {
            exit = exit.and(Exit::Unreachable);
        }
        if self.reconciliation.key_refused.is_some() {
            exit = exit.and(Exit::Usage);
        }
        exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Assume;
    use crate::ledger::SqliteLedger;
    use std::path::PathBuf;

    /// The shipped example, with one text replaced.
    fn example(from: &str, to: &str) -> Config {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo/config.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "the example does not contain {from:?}");
        Config::parse(&path, text.replacen(from, to, 1), Assume::default()).unwrap()
    }

    #[test]
    fn a_hold_that_another_runner_closed_meanwhile_ends_no_night() {
        let folder = tempfile::tempdir().unwrap();
        let binding = Binding { endpoint: "https://usage.example".into(), site: "EXAMPLE".into() };
        let mut ledger = SqliteLedger::open(&folder.path().join("ledger.db"), &binding, 1).unwrap();
        let before = example("TestSite", "TestSite");
        let planned = crate::plan::plan(&before, Some("slurm"), &[]).unwrap();
        engine::ingest(&before, &planned, &mut ledger, 1).unwrap();
        // The rules skip from now on what was held.
        let config = example("root|sysadmin", "root|nosuchacct");
        let source = config.sources.iter().find(|source| source.name == "slurm").unwrap();
        let digest = engine::rules_digest(&config, source);
        let holds = ledger.open_holds_with_other_rules(digest, "", 1000).unwrap();
        let skipped = "slurm/testhpc/0000000039/1795427134".to_owned();
        assert!(holds.len() > 1 && holds.iter().any(|hold| hold.key == skipped), "{holds:?}");
        // Another runner was there between the question and the answer.
        let person = Person { by: "pat", why: "a test job" };
        ledger.close_holds(std::slice::from_ref(&skipped), HoldEnd::Waived, person, 2).unwrap();
        retry_source(&config, source, digest, &holds, &mut ledger).unwrap();
        let hold = ledger.hold(&skipped).unwrap().unwrap();
        assert_eq!(hold.closed.map(|closed| closed.by), Some("pat".to_owned()), "what was decided stands");
        assert_eq!(ledger.verify().unwrap(), []);
    }
}
