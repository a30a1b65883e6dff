//! What the source of a run said before: read again, it is not taken up again.
//!
//! Sources are read whole every night, and their windows overlap: the file that a run was read from first is read again
//! beside the one that has it changed. Nothing in a text says which of the two is newer; that a row has left a version
//! for another does. [`Session::save`] keeps what a row has left, and the questions that it went on from are kept here.

use super::session::Session;
use crate::ledger::store::{Past, Store};
use crate::ledger::{HoldEnd, Row};

/// A digest of a source in 64 bits: few versions of one run are ever compared.
pub(super) fn mark(source_digest: u128) -> i64 {
    let [high, low] = [source_digest >> 64, source_digest & u128::from(u64::MAX)];
    let folded = u64::try_from(high ^ low).unwrap_or(u64::MAX);
    i64::from_ne_bytes(folded.to_ne_bytes())
}

/// True where this was said of a run before, and something else since.
pub(in crate::ledger) fn is_outdated<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    source_digest: u128,
) -> Result<bool, S::Fail> {
    if row.source_digest == source_digest {
        return Ok(false);
    }
    Ok(session.store.past(&row.key, Past::Source)?.contains(&mark(source_digest)))
}

/// What a person was asked about, or has waived, is outdated too once the source says something newer. Such a waiver is over:
/// taken back, it would ask about what the source does not say any more.
pub(super) fn leave_question<S: Store>(
    session: &Session<'_, S>,
    key: &str,
    newest: u128,
    now: i64,
) -> Result<(), S::Fail> {
    match session.store.hold(key)? {
        Some(hold) if hold.source_digest != newest => {
            session.store.keep_past(key, Past::Source, mark(hold.source_digest))?;
            if session.store.unwaive(key)? {
                session.store.close_hold(key, HoldEnd::Released, None, now)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
