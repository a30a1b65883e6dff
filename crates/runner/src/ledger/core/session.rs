//! One transaction on the ledger: rows are saved together with everything that follows from their change, and what the
//! changes add up to is written once, at the end.

use super::outdated::mark;
use crate::ledger::row::{Identity, PayloadRef};
use crate::ledger::store::{NewEvent, Past, Place, Store};
use crate::ledger::{Event, IllegalEvent, LedgerError, Row, State, What, codes};
use amie_usage::Decimal;
use foldhash::fast::RandomState;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Unpacked payloads of the chunks that were read last, 32 MiB of them at most (but at least one), and what packs new ones.
#[derive(Default)]
pub(in crate::ledger) struct Blobs {
    recent: VecDeque<(i64, Arc<Vec<u8>>)>,
    /// Kept, because making one clears megabytes.
    packer: Option<zstd::bulk::Compressor<'static>>,
    /// The same of a chunk's payloads while they are gathered.
    gathered: Vec<u8>,
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chunks = self.recent.iter().map(|(chunk, _)| chunk);
        formatter.debug_list().entries(chunks).finish()
    }
}

impl Blobs {
    fn pack(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let packer = match &mut self.packer {
            Some(packer) => packer,
            // Level 1: payloads are gone within days, and writing them is on the path of every first import.
            none => none.insert(zstd::bulk::Compressor::new(1)?),
        };
        packer.compress(bytes)
    }
}

const MOST_BLOB_BYTES: usize = 32 * 1024 * 1024;

/// One transaction.
#[derive(Debug)]
pub(in crate::ledger) struct Session<'a, S> {
    pub(in crate::ledger) store: &'a S,
    blobs: &'a RefCell<Blobs>,
    effects: Effects,
    /// From when on the runs of a resource are sent, as far as was asked.
    pub(super) go_live: RefCell<HashMap<String, Option<i64>, RandomState>>,
}

/// What the changes of one transaction add up to; written by [`Session::flush`].
#[derive(Debug, Default)]
struct Effects {
    tallies: BTreeMap<Place, (i64, Decimal)>,
    chunks: BTreeMap<i64, i64>,
    batches: BTreeMap<i64, i64>,
}

impl<'a> NewEvent<'a> {
    /// About a whole chunk, batch or reconciliation.
    pub(super) fn moved(at: i64, event: Event) -> Self {
        Self {
            at,
            what: What::Moved(event),
            key: None,
            version: None,
            chunk: None,
            batch: None,
            detail: "",
            person: None,
        }
    }

    /// About one row.
    pub(super) fn of(at: i64, what: What, row: &'a Row, detail: &'a str) -> Self {
        Self {
            what,
            key: Some(&row.key),
            version: (row.version > 0).then_some(row.version),
            detail,
            ..Self::moved(at, Event::Recorded)
        }
    }
}

/// A digest of bytes, as stored for payloads and quarantined texts.
pub(in crate::ledger) fn digest_of(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// Names the row in an illegal event.
pub(super) fn illegal(key: &str) -> impl FnOnce(IllegalEvent) -> LedgerError {
    let key = key.to_owned();
    |source| LedgerError::Illegal { key, source }
}

impl<'a, S: Store> Session<'a, S> {
    /// An empty buffer for payloads, with room for those of a usual chunk after the first.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.blobs.borrow_mut().gathered);
        buffer.clear();
        buffer
    }

    /// Takes it back.
    pub(super) fn keep_buffer(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= MOST_BLOB_BYTES {
            self.blobs.borrow_mut().gathered = buffer;
        }
    }

    pub(in crate::ledger) fn new(store: &'a S, blobs: &'a RefCell<Blobs>) -> Self {
        Self { store, blobs, effects: Effects::default(), go_live: RefCell::default() }
    }

    /// The row of a key that must be there.
    pub(super) fn existing(&self, key: &str) -> Result<Row, S::Fail> {
        let row = self.store.row(key)?;
        Ok(row.ok_or_else(|| LedgerError::NoSuchKey(key.to_owned()))?)
    }

    /// True where any key begins so.
    pub(super) fn any_begins(&self, with: &str) -> Result<bool, S::Fail> {
        let first = self.store.rows_after(None, with, 1)?;
        Ok(first.first().is_some_and(|row| row.key.starts_with(with)))
    }

    /// Writes a row as it is now. `before` is what was stored, or `None` for a new one. Nothing else writes rows, but
    /// for the fast way in of new ones.
    pub(in crate::ledger) fn save(&mut self, before: Option<&Row>, after: &Row) -> Result<(), S::Fail> {
        self.move_identity(before, after)?;
        if let Some(before) = before {
            self.keep_past(before.batch, after.batch, Past::Batch, &after.key)?;
            self.keep_past(before.confirm, after.confirm, Past::Confirm, &after.key)?;
            if before.source_digest != after.source_digest {
                self.store.keep_past(&after.key, Past::Source, mark(before.source_digest))?;
            }
            self.count(before, -1)?;
        }
        self.count(after, 1)?;
        self.store.put(before, after)
    }

    fn keep_past(
        &self,
        before: Option<i64>,
        after: Option<i64>,
        kind: Past,
        key: &str,
    ) -> Result<(), S::Fail> {
        match before {
            Some(id) if after != before => self.store.keep_past(key, kind, id),
            _ => Ok(()),
        }
    }

    fn move_identity(&self, before: Option<&Row>, after: &Row) -> Result<(), S::Fail> {
        fn owned(row: &Row) -> Option<&Identity> {
            row.wanted.as_ref().map(|wanted| &wanted.identity).filter(|_| row.owns_identity())
        }
        let (old, new) = (before.and_then(owned), owned(after));
        if old == new {
            return Ok(());
        }
        if let Some(old) = old {
            self.store.take(after.usage_type, old)?;
        }
        new.map_or(Ok(()), |new| self.store.give(after.usage_type, new, &after.key))
    }

    /// Adds a row to everything that is counted, or takes it away.
    fn count(&mut self, row: &Row, sign: i64) -> Result<(), S::Fail> {
        let (resource, project) = match &row.wanted {
            None => (0, 0),
            Some(wanted) => (self.store.id(&wanted.identity.resource)?, self.store.id(&wanted.project)?),
        };
        let place = (row.usage_type, resource, project, row.state);
        self.count_at(place, sign, row.charge().unwrap_or(Decimal::ZERO))?;
        let newest = row.wanted.as_ref().and_then(|wanted| wanted.payload);
        for payload in newest.into_iter().chain(row.sent_payload) {
            *self.effects.chunks.entry(payload.chunk).or_default() += sign;
        }
        if let Some(batch) = row.batch
            && matches!(row.state, State::Accepted | State::Unknown)
        {
            *self.effects.batches.entry(batch).or_default() += sign;
        }
        Ok(())
    }

    /// Counts one row.
    pub(super) fn count_at(&mut self, place: Place, sign: i64, charge: Decimal) -> Result<(), LedgerError> {
        let (records, sum) = self.effects.tallies.entry(place).or_default();
        *records += sign;
        let signed_charge = if sign < 0 { Decimal::new(-charge.units(), charge.places()) } else { charge };
        *sum = sum.checked_add(signed_charge).ok_or(LedgerError::ChargeOverflow)?;
        Ok(())
    }

    /// Counts references to the payloads of a chunk.
    pub(super) fn count_payloads(&mut self, chunk: i64, references: i64) {
        *self.effects.chunks.entry(chunk).or_default() += references;
    }

    /// True where rows refer to the payloads of a chunk that was made in this transaction.
    pub(super) fn refers_to(&self, chunk: i64) -> bool {
        self.effects.chunks.get(&chunk).is_some_and(|references| *references > 0)
    }

    /// Writes what the changes add up to. Nothing may be changed after it.
    pub(in crate::ledger) fn flush(&mut self) -> Result<(), S::Fail> {
        let Effects { mut tallies, mut chunks, mut batches } = std::mem::take(&mut self.effects);
        tallies.retain(|_, (records, sum)| *records != 0 || !sum.is_zero());
        chunks.retain(|_, references| *references != 0);
        batches.retain(|_, rows| *rows != 0);
        self.store.add_to_tallies(&tallies)?;
        self.store.add_references(&chunks)?;
        self.store.add_waiting(&batches)
    }

    /// Stores the payloads of a chunk.
    pub(super) fn store_payloads(&self, chunk: i64, bytes: &[u8]) -> Result<(), S::Fail> {
        let packed =
            self.blobs.borrow_mut().pack(bytes).map_err(|error| {
                LedgerError::Inconsistent(format!("payloads could not be packed: {error}"))
            })?;
        self.store.put_payloads(chunk, codes::signed(bytes.len() as u64), &packed)
    }

    /// The bytes of a payload.
    pub(super) fn payload(&self, payload: PayloadRef) -> Result<Vec<u8>, S::Fail> {
        let blob = self.blob(payload.chunk)?;
        let start = payload.offset as usize;
        let bytes = start.checked_add(payload.len as usize).and_then(|end| blob.get(start..end));
        let beyond =
            || LedgerError::Inconsistent(format!("a payload beyond the end of chunk {}", payload.chunk));
        Ok(bytes.ok_or_else(beyond)?.to_vec())
    }

    fn blob(&self, chunk: i64) -> Result<Arc<Vec<u8>>, S::Fail> {
        let mut blobs = self.blobs.borrow_mut();
        if let Some((_, blob)) = blobs.recent.iter().find(|(id, _)| *id == chunk) {
            return Ok(Arc::clone(blob));
        }
        let damaged = |why: String| LedgerError::Inconsistent(format!("payloads of chunk {chunk}: {why}"));
        let (bytes, packed) =
            self.store.packed_payloads(chunk)?.ok_or_else(|| damaged("not there".into()))?;
        let capacity = usize::try_from(bytes).map_err(|error| damaged(error.to_string()))?;
        let blob = zstd::bulk::decompress(&packed, capacity).map_err(|error| damaged(error.to_string()))?;
        let blob = Arc::new(blob);
        blobs.recent.push_front((chunk, Arc::clone(&blob)));
        let mut kept = 0;
        blobs.recent.retain(|(id, blob)| {
            kept += blob.len();
            *id == chunk || kept <= MOST_BLOB_BYTES
        });
        Ok(blob)
    }
}
