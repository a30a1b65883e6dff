//! A row out of its columns.

use crate::ledger::codes::{charge, digest, small, state, unsigned, usage_type};
use crate::ledger::flags::Flags;
use crate::ledger::row::{Identity, PayloadRef, Sent, Wanted};
use crate::ledger::store::Glance;
use crate::ledger::{LedgerError, Row, SourceFacts};
use amie_usage::Decimal;
use std::sync::Arc;

/// The columns of a stored row, one after the other; nothing where there is NULL.
pub(super) trait Columns {
    /// What can go wrong.
    type Fail: From<LedgerError>;

    /// A code or flags, which a database may keep in fewer bytes.
    fn code(&mut self) -> Result<i64, Self::Fail>;

    /// A number.
    fn number(&mut self) -> Result<Option<i64>, Self::Fail>;

    /// True or false.
    fn truth(&mut self) -> Result<bool, Self::Fail>;

    /// A text.
    fn text(&mut self) -> Result<Option<&str>, Self::Fail>;

    /// Bytes.
    fn bytes(&mut self) -> Result<Option<&[u8]>, Self::Fail>;

    /// Passes over some.
    fn skip(&mut self, columns: usize);
}

/// The columns of the row of a key.
struct Reader<'c, C> {
    columns: &'c mut C,
    key: &'c str,
}

impl<C: Columns> Reader<'_, C> {
    fn lacking(&self) -> C::Fail {
        LedgerError::Inconsistent(format!("\"{}\" lacks a part of itself", self.key)).into()
    }

    fn number(&mut self) -> Result<i64, C::Fail> {
        self.columns.number()?.ok_or_else(|| self.lacking())
    }

    fn charge(&mut self) -> Result<Decimal, C::Fail> {
        let found = self.columns.text()?.map(charge).transpose()?;
        found.ok_or_else(|| self.lacking())
    }

    fn digest(&mut self) -> Result<u128, C::Fail> {
        let found = self.columns.bytes()?.map(digest).transpose()?;
        found.ok_or_else(|| self.lacking())
    }

    /// Chunk, offset, length; nothing where there is no chunk.
    fn payload(&mut self) -> Result<Option<PayloadRef>, C::Fail> {
        let Some(chunk) = self.columns.number()? else {
            self.columns.skip(2);
            return Ok(None);
        };
        Ok(Some(PayloadRef { chunk, offset: small(self.number()?)?, len: small(self.number()?)? }))
    }

    /// Version, charge, first and last time; nothing where there is no version.
    fn sent(&mut self) -> Result<Option<Sent>, C::Fail> {
        let Some(version) = self.columns.number()? else {
            self.columns.skip(3);
            return Ok(None);
        };
        let (version, charge) = (small(version)?, self.charge()?);
        Ok(Some(Sent { version, charge, first_at: self.number()?, last_at: self.number()? }))
    }

    /// Time and charge of a load.
    fn loaded(&mut self) -> Result<Option<(i64, Decimal)>, C::Fail> {
        let Some(at) = self.columns.number()? else {
            self.columns.skip(1);
            return Ok(None);
        };
        Ok(Some((at, self.charge()?)))
    }

    /// Resource to payload; nothing where mapping never made a record.
    fn wanted(
        &mut self,
        version: u32,
        name: impl Fn(i64) -> Result<Arc<str>, C::Fail>,
    ) -> Result<Option<Wanted>, C::Fail> {
        if version == 0 {
            self.columns.skip(11);
            return self.payload()?.map_or(Ok(None), |_| Err(self.lacking()));
        }
        let resource = name(self.number()?)?;
        let local_record_id = self.columns.text()?.map(str::to_owned);
        let local_record_id = local_record_id.ok_or_else(|| self.lacking())?;
        Ok(Some(Wanted {
            identity: Identity { resource, local_record_id, submit: self.number()? },
            username: name(self.number()?)?,
            project: name(self.number()?)?,
            charge: self.charge()?,
            digest: self.digest()?,
            facts: SourceFacts {
                start: self.number()?,
                end: self.number()?,
                elapsed: unsigned(self.number()?),
                requeued: self.columns.truth()?,
            },
            payload: self.payload()?,
        }))
    }
}

/// A row of all its columns: key, state, usage type, version, digest of the source, flags, file, line; resource to payload;
/// chunk that made it; sent version, its payload, the one before; batch, reconciliation, load, error.
pub(super) fn row<C: Columns>(
    columns: &mut C,
    name: impl Fn(i64) -> Result<Arc<str>, C::Fail>,
) -> Result<Row, C::Fail> {
    let key = columns.text()?.unwrap_or_default().to_owned();
    let state = state(columns.code()?)?;
    let usage_type = usage_type(columns.code()?)?;
    let mut reader = Reader { columns, key: &key };
    let version = small(reader.number()?)?;
    let source_digest = reader.digest()?;
    let flags = Flags(reader.columns.code()?);
    let file = name(reader.number()?)?;
    let line = unsigned(reader.number()?);
    let wanted = reader.wanted(version, &name)?;
    Ok(Row {
        usage_type,
        state,
        version,
        wanted,
        source_digest,
        born: reader.columns.number()?,
        sent: reader.sent()?,
        sent_payload: reader.payload()?,
        before: reader.sent()?,
        resend: flags.resend(),
        taken: flags.taken(),
        drifted: flags.drifted(),
        on_hold: flags.on_hold(),
        batch: reader.columns.number()?,
        confirm: reader.columns.number()?,
        loaded: reader.loaded()?,
        error: reader.columns.text()?.map(str::to_owned),
        file,
        line,
        key,
    })
}

/// A glance at the row of a key: digest of the newest version, digest of the source, state, flags.
pub(super) fn glance<C: Columns>(key: &str, columns: &mut C) -> Result<Glance, C::Fail> {
    let newest = columns.bytes()?.map(digest).transpose()?;
    let source_digest = Reader { columns, key }.digest()?;
    let state = state(columns.code()?)?;
    let flags = Flags(columns.code()?);
    Ok(Glance { digest: newest, source_digest, state, on_hold: flags.on_hold(), drifted: flags.drifted() })
}
