//! The record that a hold would become, as it is kept beside the question; and the way from pending to held.

use super::session::{Session, digest_of, illegal};
use super::twin::Times;
use crate::ledger::row::{Identity, Wanted};
use crate::ledger::store::{NewEvent, NewHold, Store};
use crate::ledger::{Event, LedgerError, Row, SourceFacts, What};
use amie_usage::Decimal;
use serde::{Deserialize, Serialize};

/// The record that an approval would want, without its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredCandidate {
    resource: String,
    local_record_id: String,
    submit: i64,
    username: String,
    project: String,
    charge: Decimal,
    start: i64,
    end: i64,
    elapsed: u64,
    requeued: bool,
}

impl StoredCandidate {
    pub(super) fn of(wanted: &Wanted) -> Self {
        Self {
            resource: wanted.identity.resource.to_string(),
            local_record_id: wanted.identity.local_record_id.clone(),
            submit: wanted.identity.submit,
            username: wanted.username.to_string(),
            project: wanted.project.to_string(),
            charge: wanted.charge,
            start: wanted.facts.start,
            end: wanted.facts.end,
            elapsed: wanted.facts.elapsed,
            requeued: wanted.facts.requeued,
        }
    }

    pub(super) fn to_json(&self) -> Result<String, LedgerError> {
        serde_json::to_string(self)
            .map_err(|error| LedgerError::Inconsistent(format!("a candidate: {error}")))
    }

    pub(super) fn from_json(key: &str, text: &str) -> Result<Self, LedgerError> {
        serde_json::from_str(text)
            .map_err(|error| LedgerError::Inconsistent(format!("the candidate of \"{key}\": {error}")))
    }

    /// What it is told from other runs of its job by.
    pub(super) fn times(&self) -> Times {
        let Self { submit, start, end, elapsed, requeued, .. } = *self;
        Times { submit, facts: SourceFacts { start, end, elapsed, requeued } }
    }

    /// The version that it would become; `payload` is still to be placed.
    pub(super) fn wanted(self, payload: &[u8]) -> Wanted {
        let Self { resource, local_record_id, submit, username, project, charge, .. } = self;
        let (start, end, elapsed, requeued) = (self.start, self.end, self.elapsed, self.requeued);
        Wanted {
            identity: Identity { resource: resource.into(), local_record_id, submit },
            username: username.into(),
            project: project.into(),
            charge,
            digest: digest_of(payload),
            facts: SourceFacts { start, end, elapsed, requeued },
            payload: None,
        }
    }
}

/// Holds a pending row that the service took nothing of; an approval sends it as it is.
pub(super) fn hold_pending<S: Store>(
    session: &mut Session<'_, S>,
    before: Row,
    reason: &str,
    detail: &str,
    now: i64,
) -> Result<(), S::Fail> {
    let Some((wanted, payload)) = before.wanted.as_ref().and_then(|wanted| Some((wanted, wanted.payload?)))
    else {
        return Ok(());
    };
    let bytes = session.payload(payload)?;
    let mut row = before.clone();
    row.step(Event::Held).map_err(illegal(&row.key))?;
    row.on_hold = true;
    session.store.open_hold(
        &NewHold {
            key: &row.key,
            usage_type: row.usage_type,
            reason,
            detail,
            run: "",
            source_digest: row.source_digest,
            rules_digest: 0,
            file: &row.file,
            line: row.line,
            candidate: Some((StoredCandidate::of(wanted).to_json()?, &bytes)),
        },
        now,
    )?;
    session.save(Some(&before), &row)?;
    session.store.note(&NewEvent::of(now, What::Moved(Event::Held), &row, reason))?;
    Ok(())
}
