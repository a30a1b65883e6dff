//! Payloads that a transaction puts aside outside of ingestion: approved, moved, adjusted records.

use super::session::Session;
use crate::ledger::LedgerError;
use crate::ledger::row::PayloadRef;
use crate::ledger::store::Store;

/// One chunk for each set of rules, so that a row still tells what it was priced by.
pub(super) struct Kept {
    source: &'static str,
    chunk: Option<Chunk>,
}

struct Chunk {
    id: i64,
    rules_digest: u128,
    bytes: Vec<u8>,
}

impl Kept {
    pub(super) fn new(source: &'static str) -> Self {
        Self { source, chunk: None }
    }

    /// Puts a payload aside and says where it will lie.
    pub(super) fn place<S: Store>(
        &mut self,
        session: &mut Session<'_, S>,
        rules_digest: u128,
        payload: &[u8],
        now: i64,
    ) -> Result<PayloadRef, S::Fail> {
        // Offsets are 32 bits: what would go beyond begins another chunk.
        let fits = |chunk: &Chunk| {
            chunk.rules_digest == rules_digest
                && u32::try_from(chunk.bytes.len().saturating_add(payload.len())).is_ok()
        };
        if !self.chunk.as_ref().is_some_and(fits) {
            self.finish(session)?;
        }
        let chunk = match &mut self.chunk {
            Some(chunk) => chunk,
            none => {
                let id = session.store.new_chunk(self.source, rules_digest, now)?;
                none.insert(Chunk { id, rules_digest, bytes: Vec::new() })
            }
        };
        let small = |value: usize| {
            u32::try_from(value).map_err(|_| LedgerError::BadChunk("a record of 4 GiB or more".to_owned()))
        };
        let place =
            PayloadRef { chunk: chunk.id, offset: small(chunk.bytes.len())?, len: small(payload.len())? };
        chunk.bytes.extend_from_slice(payload);
        Ok(place)
    }

    /// Stores what was put aside; to be called after the rows that refer to it are saved.
    pub(super) fn finish<S: Store>(&mut self, session: &mut Session<'_, S>) -> Result<(), S::Fail> {
        match self.chunk.take() {
            Some(chunk) if session.refers_to(chunk.id) => session.store_payloads(chunk.id, &chunk.bytes),
            Some(chunk) => session.store.drop_chunk(chunk.id),
            None => Ok(()),
        }
    }
}
