//! The ledger as a table for other programs: rows, events or quarantined texts, as CSV or as one JSON object a line.
//!
//! A page at a time goes from the ledger to the writer, so that memory does not grow with the ledger. Pages are read one
//! after the other: beside a run that is going on, a later page may be newer than an earlier one.

use crate::ledger::{Entry, Ledger, LedgerError, Logged, Reviewed, Row};
use amie_usage::Decimal;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::io::{self, Write};

/// What to write out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Every row, in key order.
    Rows,
    /// Every event, in the order in which they happened.
    Events,
    /// Every quarantined text, in order of arrival, closed ones too.
    Quarantine,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated, with a header; RFC 4180. Cells that a spreadsheet would take for a formula begin with `'`.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What was read cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Rows of the ledger that are in memory at once.
const PAGE: usize = 1_000;

/// Writes all of a subject and answers how many lines (without the header).
///
/// ```
/// use runner::export::{Form, Subject, export};
/// use runner::ledger::{Binding, SqliteLedger};
/// # let directory = tempfile::tempdir()?;
/// let binding = Binding { endpoint: "https://usage.example/api/v1".into(), site: "EXAMPLE".into() };
/// let ledger = SqliteLedger::open(&directory.path().join("ledger.db"), &binding, 1_700_000_000)?;
/// let mut csv = Vec::new();
/// assert_eq!(export(&ledger, Subject::Rows, Form::Csv, &mut csv)?, 0);
/// assert!(csv.starts_with(b"key,usage_type,state,"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Where the ledger cannot be read, or the writer cannot be written to.
pub fn export(
    ledger: &dyn Ledger,
    subject: Subject,
    form: Form,
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let mut lines = Lines { out, form, written: 0 };
    lines.header(match subject {
        Subject::Rows => ROW,
        Subject::Events => EVENT,
        Subject::Quarantine => TEXT,
    })?;
    match subject {
        Subject::Rows => {
            let mut after = String::new();
            loop {
                let page = ledger.rows(None, &after, PAGE)?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.key);
                page.iter().try_for_each(|row| lines.line(ROW, &row_cells(row)))?;
            }
        }
        Subject::Events => {
            let mut after = 0;
            loop {
                let page = ledger.events(after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.entry.seq;
                page.iter().try_for_each(|event| lines.line(EVENT, &event_cells(event)))?;
            }
        }
        Subject::Quarantine => {
            let mut after = 0;
            loop {
                // A text may have 64 KiB.
                let page = ledger.texts(after, PAGE / 10)?;
                let Some(last) = page.last() else { break };
                after = last.text.id;
                page.iter().try_for_each(|text| lines.line(TEXT, &text_cells(text)))?;
            }
        }
    }
    lines.out.flush()?;
    Ok(lines.written)
}

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Nothing,
    Text(String),
    Number(i64),
    Flag(bool),
    /// Epoch seconds, written as `2026-11-23T13:26:44Z`.
    Time(i64),
    /// Written as a text, so that no reader takes it for floating point.
    Charge(Decimal),
}

impl Cell {
    fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    fn maybe<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Nothing, cell)
    }

    fn time(epoch: i64) -> String {
        amie_usage::wire::format_time(epoch)
            .map_or_else(|| epoch.to_string(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    fn csv(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => plain(text),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Time(epoch) => Self::time(*epoch),
            Self::Charge(charge) => charge.to_string(),
        }
    }
}

/// A text that no spreadsheet takes for a formula: names of jobs and users come from users.
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Time(epoch) => serializer.serialize_str(&Self::time(*epoch)),
            Self::Charge(charge) => serializer.serialize_str(&charge.to_string()),
        }
    }
}

/// One line as an object, its members in the order of the columns.
struct Object<'a>(&'a [&'a str], &'a [Cell]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, cell) in self.0.iter().zip(self.1) {
            map.serialize_entry(name, cell)?;
        }
        map.end()
    }
}

struct Lines<'w> {
    out: &'w mut dyn Write,
    form: Form,
    written: u64,
}

impl Lines<'_> {
    fn header(&mut self, columns: &[&str]) -> io::Result<()> {
        match self.form {
            Form::Csv => self.record(columns.iter().map(ToString::to_string)),
            Form::Ndjson => Ok(()),
        }
    }

    fn line(&mut self, columns: &[&str], cells: &[Cell]) -> io::Result<()> {
        self.written += 1;
        match self.form {
            Form::Csv => self.record(cells.iter().map(Cell::csv)),
            Form::Ndjson => {
                serde_json::to_writer(&mut *self.out, &Object(columns, cells))?;
                self.out.write_all(b"\n")
            }
        }
    }

    fn record(&mut self, cells: impl Iterator<Item = String>) -> io::Result<()> {
        // A writer for each record: it buffers nothing beyond it.
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record(cells).map_err(io::Error::other)?;
        let bytes = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
        self.out.write_all(&bytes)
    }
}

/// Columns of a row.
const ROW: &[&str] = &[
    "key",
    "usage_type",
    "state",
    "resource",
    "local_record_id",
    "submit",
    "username",
    "project",
    "charge",
    "version",
    "sent_version",
    "sent_charge",
    "first_sent",
    "last_sent",
    "loaded_at",
    "loaded_charge",
    "taken",
    "on_hold",
    "drifted",
    "error",
    "digest",
    "source_digest",
    "batch",
    "file",
    "line",
];

fn row_cells(row: &Row) -> Vec<Cell> {
    let wanted = row.wanted.as_ref();
    let hexadecimal = |digest: u128| Cell::Text(format!("{digest:032x}"));
    vec![
        Cell::text(&row.key),
        Cell::text(row.usage_type.as_str()),
        Cell::text(row.state),
        Cell::maybe(wanted, |wanted| Cell::text(&wanted.identity.resource)),
        Cell::maybe(wanted, |wanted| Cell::text(&wanted.identity.local_record_id)),
        Cell::maybe(wanted, |wanted| Cell::Time(wanted.identity.submit)),
        Cell::maybe(wanted, |wanted| Cell::text(&wanted.username)),
        Cell::maybe(wanted, |wanted| Cell::text(&wanted.project)),
        Cell::maybe(wanted, |wanted| Cell::Charge(wanted.charge)),
        Cell::Number(row.version.into()),
        Cell::maybe(row.sent, |sent| Cell::Number(sent.version.into())),
        Cell::maybe(row.sent, |sent| Cell::Charge(sent.charge)),
        Cell::maybe(row.sent, |sent| Cell::Time(sent.first_at)),
        Cell::maybe(row.sent, |sent| Cell::Time(sent.last_at)),
        Cell::maybe(row.loaded, |(at, _)| Cell::Time(at)),
        Cell::maybe(row.loaded, |(_, charge)| Cell::Charge(charge)),
        Cell::Flag(row.taken),
        Cell::Flag(row.on_hold),
        Cell::Flag(row.drifted),
        Cell::maybe(row.error.as_ref(), Cell::text),
        Cell::maybe(wanted, |wanted| hexadecimal(wanted.digest)),
        hexadecimal(row.source_digest),
        Cell::maybe(row.batch, Cell::Number),
        Cell::text(&row.file),
        Cell::Number(i64::try_from(row.line).unwrap_or(i64::MAX)),
    ]
}

/// Columns of an event.
const EVENT: &[&str] = &["event", "at", "what", "key", "version", "chunk", "batch", "by", "detail"];

fn event_cells(event: &Logged) -> Vec<Cell> {
    let Entry { seq, at, what, version, batch, chunk, by, detail } = &event.entry;
    vec![
        Cell::Number(*seq),
        Cell::Time(*at),
        Cell::text(what.as_str()),
        Cell::maybe(event.key.as_ref(), Cell::text),
        Cell::maybe(*version, |version| Cell::Number(version.into())),
        Cell::maybe(*chunk, Cell::Number),
        Cell::maybe(*batch, |batch| Cell::Number(batch.0)),
        Cell::maybe(by.as_ref(), Cell::text),
        Cell::text(detail),
    ]
}

/// Columns of a quarantined text.
const TEXT: &[&str] = &[
    "id",
    "source",
    "reason",
    "detail",
    "file",
    "line",
    "first_seen",
    "last_seen",
    "closed_at",
    "closed_by",
    "closed_why",
    "text",
];

fn text_cells(reviewed: &Reviewed) -> Vec<Cell> {
    let (text, closed) = (&reviewed.text, reviewed.closed.as_ref());
    vec![
        Cell::Number(text.id),
        Cell::text(&text.source),
        Cell::text(&text.reason),
        Cell::text(&text.detail),
        Cell::text(&text.file),
        Cell::Number(i64::try_from(text.line).unwrap_or(i64::MAX)),
        Cell::Time(text.first_seen),
        Cell::Time(text.last_seen),
        Cell::maybe(closed, |closed| Cell::Time(closed.at)),
        Cell::maybe(closed, |closed| Cell::text(&closed.by)),
        Cell::maybe(closed, |closed| Cell::text(&closed.why)),
        Cell::text(String::from_utf8_lossy(&text.text)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_cell_for_each_column() {
        let row = crate::ledger::row::tests::pending();
        assert_eq!(row_cells(&row).len(), ROW.len());
    }

    #[test]
    fn no_cell_begins_like_a_formula_and_charges_stay_as_they_are() {
        for hostile in ["=cmd()", "+1", "-1", "@x", "\t=1", "\r=1"] {
            assert_eq!(Cell::text(hostile).csv(), format!("'{hostile}"));
        }
        assert_eq!(Cell::text("TG-1").csv(), "TG-1");
        assert_eq!(Cell::Charge(Decimal::new(-15, 1)).csv(), "-1.5");
        assert_eq!(Cell::Time(1_795_427_125).csv(), "2026-11-23T09:45:25Z");
    }
}
