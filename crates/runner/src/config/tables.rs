//! Account, user and owner tables, and tables of supplied charges: CSV with a header, columns in any order, errors by file and line.

use super::error::{ConfigError, suggestion};
use chrono::NaiveDate;
use mapper::spec::{OwnerRow, ProjectRow, SuppliedRow, UserRow};
use std::path::Path;

const PROJECT_COLUMNS: [&str; 9] =
    ["account", "project", "cluster", "partition", "qos", "user", "from", "until", "pi"];
const USER_COLUMNS: [&str; 5] = ["user", "username", "cluster", "from", "until"];
const SUPPLIED_COLUMNS: [&str; 5] = ["job_id", "charge", "cluster", "submit", "start"];
const OWNER_COLUMNS: [&str; 3] = ["owner", "project", "username"];

/// `projects.table`.
pub(super) fn projects(path: &Path) -> Result<Vec<ProjectRow>, ConfigError> {
    read(path, &PROJECT_COLUMNS, 2, |row| {
        Ok(ProjectRow {
            account: row.required("account")?,
            project: row.required("project")?,
            cluster: row.optional("cluster"),
            partition: row.optional("partition"),
            qos: row.optional("qos"),
            user: row.optional("user"),
            from: row.date("from")?,
            until: row.date("until")?,
            pi: row.optional("pi"),
            line: row.line,
        })
    })
}

/// `supplied` of a resource.
pub(super) fn supplied(path: &Path) -> Result<Vec<SuppliedRow>, ConfigError> {
    read(path, &SUPPLIED_COLUMNS, 2, |row| {
        Ok(SuppliedRow {
            job_id: row.required("job_id")?,
            charge: row.required("charge")?,
            cluster: row.optional("cluster"),
            submit: row.instant("submit")?,
            start: row.instant("start")?,
            line: row.line,
        })
    })
}

/// `users.table`.
pub(super) fn users(path: &Path) -> Result<Vec<UserRow>, ConfigError> {
    read(path, &USER_COLUMNS, 2, |row| {
        Ok(UserRow {
            user: row.required("user")?,
            username: row.required("username")?,
            cluster: row.optional("cluster"),
            from: row.date("from")?,
            until: row.date("until")?,
            line: row.line,
        })
    })
}

/// `storage.owners`.
pub(super) fn owners(path: &Path) -> Result<Vec<OwnerRow>, ConfigError> {
    read(path, &OWNER_COLUMNS, 3, |row| {
        Ok(OwnerRow {
            owner: row.required("owner")?,
            project: row.required("project")?,
            username: row.required("username")?,
            line: row.line,
        })
    })
}

struct Row<'a> {
    path: &'a Path,
    columns: &'a [Option<usize>],
    names: &'a [&'a str],
    record: &'a csv::StringRecord,
    line: u64,
}

impl Row<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        let column = self.names.iter().position(|known| *known == name)?;
        let field = self.record.get((*self.columns.get(column)?)?)?.trim();
        (!field.is_empty()).then(|| field.to_owned())
    }

    fn required(&self, name: &str) -> Result<String, ConfigError> {
        self.optional(name).ok_or_else(|| self.error(format_args!("{name} is empty")))
    }

    fn date(&self, name: &str) -> Result<Option<NaiveDate>, ConfigError> {
        let Some(text) = self.optional(name) else { return Ok(None) };
        match text.parse::<NaiveDate>() {
            Ok(date) => Ok(Some(date)),
            Err(_) => {
                Err(self
                    .error(format_args!("{name}: \"{}\" is not a date like 2026-01-01", text.escape_debug())))
            }
        }
    }

    /// Epoch seconds, or a time with its offset; a local time would not be unique.
    fn instant(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        let Some(text) = self.optional(name) else { return Ok(None) };
        let has_offset = text.split_once('T').is_some_and(|(_, time)| time.contains(['Z', 'z', '+', '-']));
        let time = || if has_offset { amie_usage::wire::parse_time(&text) } else { None };
        let epoch = text.parse().ok().or_else(time);
        epoch.map(Some).ok_or_else(|| {
            let shown = text.escape_debug().to_string();
            self.error(format_args!(
                "{name}: \"{shown}\" is not a time like 1795427125 or 2026-11-23T09:45:25Z"
            ))
        })
    }

    fn error(&self, message: impl std::fmt::Display) -> ConfigError {
        ConfigError::plain(format!("{}:{}: {message}", self.path.display(), self.line))
    }
}

/// Reads a table whose first `needed` of `names` must be there.
fn read<T>(
    path: &Path,
    names: &[&str],
    needed: usize,
    convert: impl Fn(&Row<'_>) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let at = path.display();
    let file = std::fs::File::open(path)
        .map_err(|error| ConfigError::plain(format!("{at}: cannot be read: {error}")))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let mut columns = vec![None; names.len()];
    let header = reader.headers().map_err(|error| csv_error(path, &error))?.clone();
    for (position, name) in header.iter().enumerate() {
        let name = name.trim().trim_start_matches('\u{feff}');
        let Some(known) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
            let error = ConfigError::plain(format!("{at}:1: unknown column \"{}\"", name.escape_debug()));
            return Err(match suggestion(name, names.iter().copied()) {
                Some(near) => {
                    error.help(format!("did you mean `{near}`? The columns are {}", names.join(",")))
                }
                None => error.help(format!("the columns are {}", names.join(","))),
            });
        };
        if let Some(slot) = columns.get_mut(known) {
            if slot.is_some() {
                return Err(ConfigError::plain(format!("{at}:1: column {name} is there twice")));
            }
            *slot = Some(position);
        }
    }
    for (name, column) in names.iter().zip(&columns).take(needed) {
        if column.is_none() {
            return Err(ConfigError::plain(format!("{at}:1: column {name} is missing"))
                .help(format!("the first line must name the columns: {}", names.join(","))));
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| csv_error(path, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() > header.len() {
            return Err(ConfigError::plain(format!(
                "{at}:{line}: {} fields, but the header has {}",
                record.len(),
                header.len()
            ))
            .help("a value that holds a comma must be quoted"));
        }
        if record.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        rows.push(convert(&Row { path, columns: &columns, names, record: &record, line })?);
    }
    Ok(rows)
}

fn csv_error(path: &Path, error: &csv::Error) -> ConfigError {
    match error.position() {
        Some(position) => ConfigError::plain(format!("{}:{}: {error}", path.display(), position.line())),
        None => ConfigError::plain(format!("{}: {error}", path.display())),
    }
}
