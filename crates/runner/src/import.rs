//! What an old script sent, as a table: read whole and checked before any of it is taken over.
//!
//! Columns, in any order, by their names in the first line: `resource`, `local_record_id`, `submit_time` and `charge`; and,
//! optional, `usage_type` (`Compute`, which is also the default, `Storage`, `Adjustment`), `username`, `project`,
//! `loaded_time`. Times are epoch seconds, or dates and times with `Z` or an offset.

use crate::ledger::SentRecord;
use amie_usage::wire::parse_time;
use amie_usage::{Decimal, UsageType};
use std::io::Read;

/// A table that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is no CSV text, or cannot be read.
    #[error("line {line}: {source}")]
    Csv {
        /// The line, from 1.
        line: u64,
        /// Why.
        source: csv::Error,
    },
    /// A column that must be there.
    #[error(
        "line 1: there is no column `{column}`; needed are resource, local_record_id, submit_time, charge"
    )]
    NoColumn {
        /// Its name.
        column: &'static str,
    },
    /// A column that nobody knows.
    #[error("line 1: `{column}` is not a known column; known are {}", COLUMNS.join(", "))]
    UnknownColumn {
        /// Its name.
        column: String,
    },
    /// A cell that cannot be understood.
    #[error("line {line}: {column}: {problem}")]
    Cell {
        /// The line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What is wrong.
        problem: String,
    },
}

const COLUMNS: [&str; 8] = [
    "resource",
    "local_record_id",
    "submit_time",
    "charge",
    "usage_type",
    "username",
    "project",
    "loaded_time",
];

/// Reads a table and hands out its records, one by one and in order.
///
/// ```
/// let table = "resource,local_record_id,submit_time,charge\ncpu.example.org,91,2026-10-01T08:00:00Z,12.5\n";
/// let mut records = Vec::new();
/// runner::import::each_record(table.as_bytes(), |record| records.push(record))?;
/// assert_eq!((records[0].submit, records[0].charge.to_string()), (1_790_841_600, "12.5".to_owned()));
/// # Ok::<(), runner::import::TableError>(())
/// ```
///
/// # Errors
/// The first line that cannot be understood; what came before was handed out.
pub fn each_record(table: impl Read, mut each: impl FnMut(SentRecord)) -> Result<(), TableError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(table);
    let header = reader.headers().map_err(|source| TableError::Csv { line: 1, source })?.clone();
    if let Some(column) = header.iter().find(|name| !COLUMNS.contains(name)) {
        return Err(TableError::UnknownColumn { column: column.chars().take(80).collect() });
    }
    let place = |column: &'static str| header.iter().position(|name| name == column);
    let needed = |column| place(column).ok_or(TableError::NoColumn { column });
    let (resource, id) = (needed("resource")?, needed("local_record_id")?);
    let (submit, charge) = (needed("submit_time")?, needed("charge")?);
    let [kind, username, project, loaded] = ["usage_type", "username", "project", "loaded_time"].map(place);
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        if !reader.read_record(&mut record).map_err(|source| TableError::Csv { line, source })? {
            return Ok(());
        }
        let line = record.position().map_or(line, csv::Position::line);
        let cell = |place: usize| record.get(place).unwrap_or_default();
        let optional = |place: Option<usize>| place.map(cell).filter(|text| !text.is_empty());
        let wrong = |column, problem: String| TableError::Cell { line, column, problem };
        let filled = |place, column| match cell(place) {
            "" => Err(wrong(column, "is empty".to_owned())),
            text => Ok(text.to_owned()),
        };
        let time = |text: &str, column| {
            // A time of day without an offset is in nobody knows which zone.
            let zoned = text.ends_with('Z') || text.get(10..).is_some_and(|time| time.contains(['+', '-']));
            let time = text.parse().ok().or_else(|| parse_time(text).filter(|_| zoned));
            time.ok_or_else(|| {
                wrong(
                    column,
                    format!(
                        "\"{}\" is neither epoch seconds nor like 2026-10-01T08:00:00Z",
                        text.escape_debug()
                    ),
                )
            })
        };
        let charge_text = filled(charge, "charge")?;
        let charge: Decimal = charge_text
            .parse()
            .map_err(|error| wrong("charge", format!("\"{}\": {error}", charge_text.escape_debug())))?;
        let usage_type = match optional(kind) {
            None => UsageType::Compute,
            Some(word) => UsageType::ALL
                .into_iter()
                .find(|usage_type| usage_type.as_str().eq_ignore_ascii_case(word))
                .ok_or_else(|| {
                    wrong(
                        "usage_type",
                        format!("\"{}\": use Compute, Storage or Adjustment", word.escape_debug()),
                    )
                })?,
        };
        each(SentRecord {
            usage_type,
            resource: filled(resource, "resource")?,
            local_record_id: filled(id, "local_record_id")?,
            submit: time(&filled(submit, "submit_time")?, "submit_time")?,
            charge,
            charge_places: places(&charge_text),
            username: optional(username).unwrap_or_default().to_owned(),
            project: optional(project).unwrap_or_default().to_owned(),
            loaded_at: optional(loaded).map(|text| time(text, "loaded_time")).transpose()?,
            line,
        });
    }
}

/// Digits behind the point, as they are written.
fn places(text: &str) -> u8 {
    let behind = text.split_once('.').map_or("", |(_, behind)| behind);
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    u8::try_from(digits).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_count_as_they_are_written() {
        for (text, count) in [("12", 0), ("12.", 0), ("12.00", 2), ("0.50", 2), ("1.125", 3)] {
            assert_eq!(places(text), count, "{text}");
        }
    }

    use super::*;

    fn fault(table: &str) -> String {
        each_record(table.as_bytes(), |_| {}).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_understood_is_named_by_line_and_column() {
        assert!(fault("resource,local_record_id,charge\n").contains("no column `submit_time`"));
        assert!(
            fault("resource,local_record_id,submit_time,charge,chrage\n").contains("`chrage` is not a known")
        );
        let line =
            |row: &str| fault(&format!("resource,local_record_id,submit_time,charge\na,1,5,1\n{row}\n"));
        assert!(line("a,2,yesterday,1").starts_with("line 3: submit_time: \"yesterday\""));
        assert!(line("a,2,2026-10-01 08:00:00,1").contains("submit_time"), "a time without an offset");
        assert!(line("a,2,5,1e").starts_with("line 3: charge"));
        assert!(line(",2,5,1").contains("resource: is empty"));
        assert!(line("a,2,5").starts_with("line 3"));
    }
}
