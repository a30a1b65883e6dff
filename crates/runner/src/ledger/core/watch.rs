//! After a restatement: since when the service's loads must be looked at, although nothing is awaited any more.
//!
//! The API has no fencing. A copy of an old version that was sent twice, or got stuck in the service's queue, may load after
//! the newer one did, and would then be what is charged. Nobody would ask again about a row that is loaded; so for a
//! while after a restatement every reconciliation looks at all loads since the last one that did.

use super::session::Session;
use crate::ledger::LedgerError;
use crate::ledger::store::Store;

const RESTATED: &str = "restated_at";
const LOOKED: &str = "loads_looked_at";

/// How long after the last restatement loads are looked at, seconds: 14 days. Queues were seen to take hours.
const WATCH: i64 = 14 * 86_400;

fn time<S: Store>(session: &Session<'_, S>, name: &str) -> Result<Option<i64>, S::Fail> {
    let Some(text) = session.store.meta(name)? else { return Ok(None) };
    let time = text.parse();
    Ok(Some(time.map_err(|_| LedgerError::Inconsistent(format!("{name} is \"{text}\"")))?))
}

/// Something that the service may hold was restated now.
pub(in crate::ledger) fn restated<S: Store>(session: &Session<'_, S>, now: i64) -> Result<(), S::Fail> {
    session.store.set_meta(RESTATED, &now.to_string())
}

/// What was restated lately is not known: all loads of that time are looked at.
pub(in crate::ledger) fn forgotten<S: Store>(session: &Session<'_, S>, now: i64) -> Result<(), S::Fail> {
    restated(session, now)?;
    if time(session, LOOKED)?.is_none() {
        looked(session, now.saturating_sub(WATCH))?;
    }
    Ok(())
}

/// All loads up to a time were looked at.
pub(in crate::ledger) fn looked<S: Store>(session: &Session<'_, S>, at: i64) -> Result<(), S::Fail> {
    session.store.set_meta(LOOKED, &at.to_string())
}

/// Since when loads must be looked at; `None` where nothing was restated lately.
pub(in crate::ledger) fn watched_since<S: Store>(
    session: &Session<'_, S>,
    now: i64,
) -> Result<Option<i64>, S::Fail> {
    let oldest = now.saturating_sub(WATCH);
    let Some(restated) = time(session, RESTATED)?.filter(|restated| *restated > oldest) else {
        return Ok(None);
    };
    Ok(Some(time(session, LOOKED)?.unwrap_or(restated).max(oldest)))
}
