//! One row written: what changed of it, and nothing else. A record goes through several changes of state, and most of its
//! columns never change.

use super::{Fail, SqliteStore};
use crate::ledger::Row;
use crate::ledger::codes::{signed, state_code, type_code};
use crate::ledger::columns::flags;
use crate::ledger::row::{PayloadRef, Sent, Wanted};
use crate::ledger::store::Names;
use rusqlite::{Statement, ToSql};
use std::collections::HashMap;
use std::sync::Arc;

/// Columns of `record` that change together; all of them behind the key, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    State,
    Version,
    SourceDigest,
    Flags,
    Place,
    Wanted,
    Payload,
    Born,
    Sent,
    SentPayload,
    Before,
    Batch,
    Confirm,
    Loaded,
    Error,
}

impl Part {
    const ALL: [Self; 15] = [
        Self::State,
        Self::Version,
        Self::SourceDigest,
        Self::Flags,
        Self::Place,
        Self::Wanted,
        Self::Payload,
        Self::Born,
        Self::Sent,
        Self::SentPayload,
        Self::Before,
        Self::Batch,
        Self::Confirm,
        Self::Loaded,
        Self::Error,
    ];

    fn columns(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Version => "usage_type, version",
            Self::SourceDigest => "source_digest",
            Self::Flags => "flags",
            Self::Place => "file, line",
            Self::Wanted => {
                "resource, local_record_id, submit, username, project, charge, digest, start, end, elapsed, requeued"
            }
            Self::Payload => "chunk, offset, len",
            Self::Born => "born",
            Self::Sent => "sent_version, sent_charge, sent_first, sent_last",
            Self::SentPayload => "sent_chunk, sent_offset, sent_len",
            Self::Before => "before_version, before_charge, before_first, before_last",
            Self::Batch => "batch",
            Self::Confirm => "confirm",
            Self::Loaded => "loaded_at, loaded_charge",
            Self::Error => "error",
        }
    }

    fn differs(self, one: &Row, other: &Row) -> bool {
        match self {
            Self::State => one.state != other.state,
            Self::Version => (one.usage_type, one.version) != (other.usage_type, other.version),
            Self::SourceDigest => one.source_digest != other.source_digest,
            Self::Flags => flags(one) != flags(other),
            Self::Place => one.line != other.line || one.file != other.file,
            Self::Wanted => !same_wanted(one.wanted.as_ref(), other.wanted.as_ref()),
            Self::Payload => payload(one) != payload(other),
            Self::Born => one.born != other.born,
            Self::Sent => one.sent != other.sent,
            Self::SentPayload => one.sent_payload != other.sent_payload,
            Self::Before => one.before != other.before,
            Self::Batch => one.batch != other.batch,
            Self::Confirm => one.confirm != other.confirm,
            Self::Loaded => one.loaded != other.loaded,
            Self::Error => one.error != other.error,
        }
    }
}

fn payload(row: &Row) -> Option<PayloadRef> {
    row.wanted.as_ref().and_then(|wanted| wanted.payload)
}

/// The same but for where the payload lies.
fn same_wanted(one: Option<&Wanted>, other: Option<&Wanted>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let Wanted { identity, username, project, charge, digest, facts, payload: _ } = one;
            *identity == other.identity
                && *username == other.username
                && *project == other.project
                && *charge == other.charge
                && *digest == other.digest
                && *facts == other.facts
        }
        _ => false,
    }
}

/// Statements by the parts that they write, made when they are needed first.
#[derive(Debug, Default)]
pub(super) struct Updates {
    by_parts: HashMap<u16, Arc<str>>,
}

impl Updates {
    fn sql(&mut self, parts: &[Part]) -> Arc<str> {
        let set = parts.iter().fold(0_u16, |set, part| set | 1 << *part as u16);
        let sql = self.by_parts.entry(set).or_insert_with(|| {
            let columns: Vec<&str> = parts.iter().flat_map(|part| part.columns().split(", ")).collect();
            let assignments: Vec<String> = columns.iter().map(|name| format!("{name} = ?")).collect();
            format!("UPDATE record SET {} WHERE key = ?", assignments.join(", ")).into()
        });
        Arc::clone(sql)
    }
}

/// Values of a statement, bound one after the other.
pub(super) struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    at: usize,
}

impl<'s, 'c> Binder<'s, 'c> {
    pub(super) fn new(statement: &'s mut Statement<'c>) -> Self {
        Self { statement, at: 0 }
    }

    pub(super) fn value(&mut self, value: impl ToSql) -> Result<(), Fail> {
        self.at += 1;
        Ok(self.statement.raw_bind_parameter(self.at, value)?)
    }

    pub(super) fn payload(&mut self, payload: Option<PayloadRef>) -> Result<(), Fail> {
        self.value(payload.map(|payload| payload.chunk))?;
        self.value(payload.map(|payload| payload.offset))?;
        self.value(payload.map(|payload| payload.len))
    }

    fn sent(&mut self, sent: Option<Sent>) -> Result<(), Fail> {
        self.value(sent.map(|sent| sent.version))?;
        self.value(sent.map(|sent| sent.charge.to_string()))?;
        self.value(sent.map(|sent| sent.first_at))?;
        self.value(sent.map(|sent| sent.last_at))
    }
}

impl SqliteStore {
    /// Writes a new row, or what differs from what was stored.
    pub(super) fn write_row(&self, before: Option<&Row>, after: &Row) -> Result<(), Fail> {
        match before {
            None => self.insert_row(after),
            Some(before) => self.update_row(before, after),
        }
    }

    fn insert_row(&self, row: &Row) -> Result<(), Fail> {
        let columns: Vec<&str> = Part::ALL.iter().map(|part| part.columns()).collect();
        let columns = columns.join(", ");
        let places = vec!["?"; columns.split(',').count()].join(", ");
        let sql = format!("INSERT INTO record (key, {columns}) VALUES (?, {places})");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut binder = Binder::new(&mut statement);
        binder.value(&row.key)?;
        self.bind(&mut binder, &Part::ALL, row)?;
        statement.raw_execute()?;
        Ok(())
    }

    fn update_row(&self, before: &Row, after: &Row) -> Result<(), Fail> {
        let parts: Vec<Part> = Part::ALL.into_iter().filter(|part| part.differs(before, after)).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let sql = self.updates.borrow_mut().sql(&parts);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut binder = Binder::new(&mut statement);
        self.bind(&mut binder, &parts, after)?;
        binder.value(&after.key)?;
        statement.raw_execute()?;
        Ok(())
    }

    fn bind(&self, binder: &mut Binder<'_, '_>, parts: &[Part], row: &Row) -> Result<(), Fail> {
        parts.iter().try_for_each(|part| match part {
            Part::State => binder.value(state_code(row.state)),
            Part::Version => {
                binder.value(type_code(row.usage_type))?;
                binder.value(row.version)
            }
            Part::SourceDigest => binder.value(row.source_digest.to_be_bytes()),
            Part::Flags => binder.value(flags(row)),
            Part::Place => {
                binder.value(self.id(&row.file)?)?;
                binder.value(signed(row.line))
            }
            Part::Wanted => self.bind_wanted(binder, row.wanted.as_ref()),
            Part::Payload => binder.payload(payload(row)),
            Part::Born => binder.value(row.born),
            Part::Sent => binder.sent(row.sent),
            Part::SentPayload => binder.payload(row.sent_payload),
            Part::Before => binder.sent(row.before),
            Part::Batch => binder.value(row.batch),
            Part::Confirm => binder.value(row.confirm),
            Part::Loaded => {
                binder.value(row.loaded.map(|(at, _)| at))?;
                binder.value(row.loaded.map(|(_, charge)| charge.to_string()))
            }
            Part::Error => binder.value(row.error.as_deref()),
        })
    }

    fn bind_wanted(&self, binder: &mut Binder<'_, '_>, wanted: Option<&Wanted>) -> Result<(), Fail> {
        let id = |text: Option<&Arc<str>>| text.map(|text| self.id(text)).transpose();
        binder.value(id(wanted.map(|wanted| &wanted.identity.resource))?)?;
        binder.value(wanted.map(|wanted| wanted.identity.local_record_id.as_str()))?;
        binder.value(wanted.map(|wanted| wanted.identity.submit))?;
        binder.value(id(wanted.map(|wanted| &wanted.username))?)?;
        binder.value(id(wanted.map(|wanted| &wanted.project))?)?;
        binder.value(wanted.map(|wanted| wanted.charge.to_string()))?;
        binder.value(wanted.map(|wanted| wanted.digest.to_be_bytes()))?;
        binder.value(wanted.map(|wanted| wanted.facts.start))?;
        binder.value(wanted.map(|wanted| wanted.facts.end))?;
        binder.value(wanted.map(|wanted| signed(wanted.facts.elapsed)))?;
        binder.value(wanted.map(|wanted| wanted.facts.requeued))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::rows::COLUMNS;

    #[test]
    fn the_parts_are_all_columns_in_their_order() {
        let parts: Vec<&str> = Part::ALL.iter().map(|part| part.columns()).collect();
        let listed: Vec<&str> = COLUMNS.split(',').map(str::trim).collect();
        assert_eq!(format!("key, {}", parts.join(", ")), listed.join(", "));
        assert!(Part::ALL.into_iter().enumerate().all(|(at, part)| part as usize == at));
    }
}
