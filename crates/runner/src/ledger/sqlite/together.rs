//! New rows, many a statement: where a first import spends its time.

use super::packed::Packed;
use super::writing::Binder;
use super::{Fail, SqliteStore};
use crate::ledger::codes::type_code;
use crate::ledger::store::Fresh;
use std::sync::LazyLock;

/// A multi-row INSERT in the few sizes that any number of rows is made up of, so that few statements are compiled. `OR FAIL`, since
/// the caller takes all of it back: else SQLite keeps what it takes to undo each statement alone.
type Sizes = [(usize, String); 3];

fn sizes(head: &str, values: &str) -> Sizes {
    // Fifty rows a statement were measured at 371 ns a row, one at 652.
    [50, 10, 1].map(|rows| (rows, format!("{head} VALUES {}", vec![values; rows].join(", "))))
}

static RECORDS: LazyLock<Sizes> = LazyLock::new(|| {
    sizes("INSERT OR FAIL INTO record (key, state, usage_type, flags, charge, body)", "(?, 1, ?, 0, ?, ?)")
});

static IDENTITIES: LazyLock<Sizes> = LazyLock::new(|| {
    sizes(
        "INSERT OR FAIL INTO identity (local_record_id, submit, resource, usage_type, key)",
        "(?, ?, ?, ?, ?)",
    )
});

impl SqliteStore {
    /// Inserts pending rows and takes their wire identities. What fails is left for the caller to take back.
    pub(super) fn insert_together(&self, fresh: &[Fresh<'_>]) -> Result<(), Fail> {
        self.in_pieces(&IDENTITIES, fresh, |Fresh { incoming, resource, .. }, binder| {
            let candidate = incoming.candidate;
            binder.value(&candidate.local_record_id)?;
            binder.value(candidate.submit)?;
            binder.value(resource)?;
            binder.value(type_code(candidate.usage_type))?;
            binder.value(&candidate.key)
        })?;
        let mut body = Vec::new();
        self.in_pieces(&RECORDS, fresh, |fresh, binder| {
            let candidate = fresh.incoming.candidate;
            binder.value(&candidate.key)?;
            binder.value(type_code(candidate.usage_type))?;
            binder.value(candidate.charge.to_string())?;
            Packed::of_fresh(fresh).write(&mut body)?;
            binder.value(&body)
        })
    }

    /// Runs a statement over rows in as few pieces as its sizes allow; `values` binds those of one row, in order.
    fn in_pieces<T>(
        &self,
        sizes: &Sizes,
        mut rows: &[T],
        mut values: impl FnMut(&T, &mut Binder<'_, '_>) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        for (size, sql) in sizes {
            if rows.len() < *size {
                continue;
            }
            let mut statement = self.connection.prepare_cached(sql)?;
            while let Some((piece, rest)) = rows.split_at_checked(*size) {
                let mut binder = Binder::new(&mut statement);
                piece.iter().try_for_each(|row| values(row, &mut binder))?;
                statement.raw_execute()?;
                rows = rest;
            }
        }
        Ok(())
    }
}
