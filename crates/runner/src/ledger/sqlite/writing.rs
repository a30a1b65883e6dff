//! One row written: what changed of it, and nothing else. A record goes through several changes of state, and most of its
//! columns never change.

use super::packed::{Course, Packed};
use super::{Fail, SqliteStore};
use crate::ledger::codes::{state_code, type_code};
use crate::ledger::flags::flags;
use crate::ledger::store::Names;
use crate::ledger::{Row, State};
use amie_usage::Decimal;
use rusqlite::{Statement, ToSql};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Columns of `record`; all of them behind the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    State,
    UsageType,
    Flags,
    Charge,
    Waiting,
    Body,
    Course,
    Error,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::State,
        Self::UsageType,
        Self::Flags,
        Self::Charge,
        Self::Waiting,
        Self::Body,
        Self::Course,
        Self::Error,
    ];

    fn column(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::UsageType => "usage_type",
            Self::Flags => "flags",
            Self::Charge => "charge",
            Self::Waiting => "waiting",
            Self::Body => "body",
            Self::Course => "course",
            Self::Error => "error",
        }
    }

    fn differs(self, one: &Row, other: &Row) -> bool {
        match self {
            Self::State => one.state != other.state,
            Self::UsageType => one.usage_type != other.usage_type,
            Self::Flags => flags(one) != flags(other),
            Self::Charge => charge(one) != charge(other),
            Self::Waiting => waiting_since(one) != waiting_since(other),
            Self::Body => {
                (one.version, one.source_digest, one.line, one.born)
                    != (other.version, other.source_digest, other.line, other.born)
                    || one.file != other.file
                    || one.wanted != other.wanted
            }
            Self::Course => {
                (one.sent, one.sent_payload, one.before, one.batch, one.confirm, one.loaded)
                    != (
                        other.sent,
                        other.sent_payload,
                        other.before,
                        other.batch,
                        other.confirm,
                        other.loaded,
                    )
            }
            Self::Error => one.error != other.error,
        }
    }
}

/// The charge of the newest version.
fn charge(row: &Row) -> Option<Decimal> {
    row.wanted.as_ref().map(|wanted| wanted.charge)
}

/// When the version that was accepted was sent last, where a newer one waits behind it.
pub(super) fn waiting_since(row: &Row) -> Option<i64> {
    let accepted = row.state == State::Accepted && row.waiting();
    row.sent.filter(|_| accepted).map(|sent| sent.last_at)
}

/// Statements by the parts that they write, made when they are needed first.
#[derive(Debug, Default)]
pub(super) struct Updates {
    by_parts: HashMap<u8, Arc<str>>,
}

impl Updates {
    fn sql(&mut self, parts: &[Part]) -> Arc<str> {
        let set = parts.iter().fold(0_u8, |set, part| set | 1 << *part as u8);
        let sql = self.by_parts.entry(set).or_insert_with(|| {
            let assignments: Vec<String> =
                parts.iter().map(|part| format!("{} = ?", part.column())).collect();
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
        let mut statement = self.connection.prepare_cached(&INSERT)?;
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
            Part::UsageType => binder.value(type_code(row.usage_type)),
            Part::Flags => binder.value(flags(row)),
            Part::Charge => binder.value(charge(row).map(|charge| charge.to_string())),
            Part::Waiting => binder.value(waiting_since(row)),
            Part::Body => {
                let mut body = Vec::new();
                Packed::of_row(row, |name| self.id(name))?.write(&mut body)?;
                binder.value(body)
            }
            Part::Course => binder.value(Course::of_row(row)?),
            Part::Error => binder.value(row.error.as_deref()),
        })
    }
}

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let columns = Part::ALL.map(Part::column).join(", ");
    format!("INSERT INTO record (key, {columns}) VALUES (?{})", ", ?".repeat(Part::ALL.len()))
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::rows::COLUMNS;

    #[test]
    fn the_parts_are_all_columns() {
        assert_eq!(format!("key, {}", Part::ALL.map(Part::column).join(", ")), COLUMNS);
        assert!(Part::ALL.into_iter().enumerate().all(|(at, part)| part as usize == at));
    }
}
