//! `--dry-run`: the exact messages that a run would send, worked out on a scratch copy of the ledger.

use crate::clock;
use crate::config::{Api, Config};
use crate::engine::{self, Collected};
use crate::ledger::{Binding, Ingested, LeaseRequest, LedgerError, Older, RecordOutcome};
use crate::nightly::{self, NightError};
use crate::plan::Planned;
use amie_usage::{UsageType, wire};

/// What a dry run found.
#[derive(Debug)]
pub struct DryRun {
    /// What was read and mapped.
    pub collected: Collected,
    /// What the ledger would make of it.
    pub ingested: Ingested,
    /// Messages that would be sent.
    pub messages: u64,
    /// Records in them.
    pub records: u64,
    /// What the ledger lacks, where it is older than what was seen of it: a real run refuses it.
    pub older: Option<Older>,
}

/// Why a dry run could not be.
#[derive(Debug)]
pub enum DryRunError<E> {
    /// As in a real run.
    Night(NightError),
    /// The caller's own.
    Emit(E),
}

impl<E> From<LedgerError> for DryRunError<E> {
    fn from(error: LedgerError) -> Self {
        Self::Night(NightError::Ledger(error))
    }
}

/// Hands each message's body to `emit`. The ledger itself is neither changed nor locked.
///
/// # Errors
/// As in a real run, and whatever `emit` answers.
pub fn dry_run<E>(
    config: &Config,
    planned: &[Planned<'_>],
    api: &Api,
    mut emit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<DryRun, DryRunError<E>> {
    let binding = Binding { endpoint: api.url.clone(), site: config.site.clone() };
    let now = clock::now();
    let mut rehearsal = config.ledger.rehearse(&binding, now)?;
    let ledger = rehearsal.ledger.as_mut();
    ledger.recover(now)?;
    ledger.keep_go_live(&config.go_live, now)?;
    let (collected, mut ingested) = engine::ingest(config, planned, ledger, now)?;
    collected.tally.check().map_err(|error| DryRunError::Night(error.into()))?;
    ingested.merge(&nightly::retry_holds(config, ledger)?);
    nightly::before_sending(config, ledger)?;
    let mut found = DryRun { collected, ingested, messages: 0, records: 0, older: ledger.older().cloned() };
    for usage_type in UsageType::ALL {
        let request = LeaseRequest {
            max_records: api.max_records,
            max_bytes: api.max_body_bytes,
            resend_unknown: api.may_resend(usage_type),
            ..LeaseRequest::new(usage_type, now)
        };
        while let Some(leased) = ledger.lease(&request)? {
            let records: Vec<_> =
                leased.records.iter().map(|record| api.wire.as_sent(&record.payload)).collect();
            emit(&wire::message_body(usage_type, records.iter().map(AsRef::as_ref)))
                .map_err(DryRunError::Emit)?;
            found.messages += 1;
            found.records += leased.records.len() as u64;
            let outcomes = vec![RecordOutcome::Accepted; leased.records.len()];
            ledger.settle(leased.batch, &outcomes, "dry run", now)?;
        }
    }
    Ok(found)
}
