//! Failures that the service keeps: noted in the ledger first, then acknowledged, so that old errors do not come back.

use crate::clock;
use crate::ledger::{Ledger, LedgerError, Sighting};
use crate::reconcile::failure;
use amie_usage::{CallError, Client, FailedRecord};

/// What acknowledging came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// Failures that the service shows.
    pub shown: u64,
    /// Of those, noted for the first time.
    pub noted: u64,
    /// Acknowledged.
    pub cleared: u64,
    /// Of records that this ledger does not know: somebody else's, left as they are.
    pub foreign: u64,
    /// Without an id to acknowledge them by, or of records whose turn it is not.
    pub left: u64,
}

/// Why failures could not be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The service.
    #[error("{call}: {error}")]
    Service {
        /// Which call.
        call: &'static str,
        /// What came of it.
        error: Box<CallError>,
    },
}

/// Sightings that are told together.
const TOGETHER: usize = 500;

/// Notes in the ledger what failed, and acknowledges at the service what is noted. With `foreign`, also what this ledger
/// does not know.
///
/// # Errors
/// Where the ledger cannot be written, or the service does not answer; what was noted before stays noted.
pub async fn clear(ledger: &mut dyn Ledger, client: &Client, foreign: bool) -> Result<Cleared, ClearError> {
    let service = |call| move |error: CallError| ClearError::Service { call, error: Box::new(error) };
    let failed = client.failed().await.map_err(service("GET /usage/failed"))?;
    let mut cleared = Cleared { shown: failed.len() as u64, ..Cleared::default() };
    let mut ids = Vec::new();
    for together in failed.chunks(TOGETHER) {
        note(ledger, together, foreign, &mut cleared, &mut ids)?;
    }
    crate::crash::point("noted");
    client.clear_failed(&ids).await.map_err(service("DELETE /usage/failed"))?;
    cleared.cleared = ids.len() as u64;
    Ok(cleared)
}

/// Tells the ledger, and collects the ids of what it has noted. Where the ledger does not know all of them, they are
/// told apart by halves; what is told twice is noted once.
fn note(
    ledger: &mut dyn Ledger,
    failed: &[FailedRecord],
    foreign: bool,
    cleared: &mut Cleared,
    ids: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let sightings: Vec<Sighting> =
        failed.iter().cloned().filter_map(|record| failure(record, None)).collect();
    let told = if sightings.is_empty() {
        crate::ledger::Confirmed::default()
    } else {
        ledger.confirm(&sightings, clock::now())?
    };
    cleared.noted += told.failed;
    let known = told.failed + told.stale == failed.len() as u64;
    match failed {
        [] => {}
        [_] if known || (foreign && told.foreign == 1) => collect(failed, cleared, ids),
        [one] => {
            if told.foreign == 1 {
                cleared.foreign += 1;
            } else {
                cleared.left += 1;
            }
            tracing::debug!(record = ?one.local_record_id, "a failure is left with the service");
        }
        _ if known => collect(failed, cleared, ids),
        _ => {
            let (first, second) = failed.split_at(failed.len() / 2);
            note(ledger, first, foreign, cleared, ids)?;
            note(ledger, second, foreign, cleared, ids)?;
        }
    }
    Ok(())
}

fn collect(failed: &[FailedRecord], cleared: &mut Cleared, ids: &mut Vec<String>) {
    for record in failed {
        match &record.failed_record_id {
            Some(id) => ids.push(id.clone()),
            None => cleared.left += 1,
        }
    }
}
