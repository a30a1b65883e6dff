//! The configuration: read once, checked whole, and from then on a value that nobody checks again.
//!
//! [`Config::load`] reads the file (`file.rs`), its tables (`tables.rs`), compiles the rules, and answers either a
//! [`Config`] or every fault it found, each with its place ([`ConfigError`]).

mod error;
mod file;
mod tables;
mod toml_string;

pub use error::ConfigError;
pub(crate) use error::suggestion;

use crate::ledger::{Address, Location};
use amie_usage::wire::{Resend, ResendRules, Settings};
use amie_usage::{Decimal, UsageType};
use chrono::NaiveDate;
use chrono_tz::Tz;
use error::Text;
use mapper::spec::{
    Charged, LimitsSpec, NodeTypeSpec, PolicySpec, ProjectFrom, ProjectPattern, RateBy, RateSpec,
    ResourceSpec, Rounding, RoundingMode, RuleError, RulePlace, RulesSpec, ServiceTreats, SkipRule,
    SourceSpec, StorageSpec, When,
};
use mapper::{Rules, SourceRules};
use parsers::OwnerKind;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// Its folder: relative paths are relative to it.
    pub folder: PathBuf,
    /// `site.name`, sent as XA-SITE.
    pub site: String,
    /// `site.timezone`.
    pub timezone: Tz,
    /// `[api]`, needed only to send.
    pub api: Option<Api>,
    /// Where the ledger lies.
    pub ledger: Location,
    /// Resource -> from when on what ended is sent, epoch seconds: `go_live`.
    pub go_live: BTreeMap<String, i64>,
    /// Sources in their order, disabled ones too.
    pub sources: Vec<Source>,
    /// Compiled rules.
    pub rules: Rules,
    /// The tables that were read.
    pub tables: Vec<Table>,
    /// `[tables] max_age_days`: a table that nobody has changed for longer is warned of.
    pub table_max_age_days: Option<u32>,
    /// `[policy] night_factor`: a night that charges a resource more than so many usual days is held.
    pub night_factor: Option<u32>,
    /// What works, but may not do what it seems to.
    pub warnings: Vec<String>,
}

/// A table that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Table {
    /// What names it: `projects.table`, `users.table`, `storage.owners`.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Rows without the header.
    pub rows: usize,
    /// When the file was last changed, epoch seconds, where the file system says it.
    pub modified: Option<i64>,
}

impl Table {
    /// Whole days since the file was last changed; a time to come counts as today.
    #[must_use]
    pub fn age_days(&self, now: i64) -> Option<u64> {
        self.modified.map(|modified| now.saturating_sub(modified).max(0).unsigned_abs() / 86_400)
    }

    /// `projects.csv: 12 rows, changed 3 days ago`, for people.
    #[must_use]
    pub fn describe(&self, now: i64) -> String {
        let changed = match self.age_days(now) {
            None => String::new(),
            Some(0) => ", changed today".to_owned(),
            Some(1) => ", changed yesterday".to_owned(),
            Some(days) => format!(", changed {days} days ago"),
        };
        format!("{}: {} rows{changed}", self.path.display(), self.rows)
    }
}

/// What [`Config::load_assuming`] takes for known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assume {
    /// Every account that neither table nor pattern knows has the project [`ASSUMED`].
    pub projects: bool,
    /// Every user is called as the scheduler calls them.
    pub users: bool,
}

/// The project of accounts that are taken for known.
pub const ASSUMED: &str = "assumed";

/// `[api]`.
#[derive(Debug, Clone)]
pub struct Api {
    /// Base URL.
    pub url: String,
    /// Where the key comes from.
    pub key: KeySource,
    /// Largest body of a POST, bytes.
    pub max_body_bytes: usize,
    /// Most records of a POST.
    pub max_records: usize,
    /// POSTs in flight.
    pub concurrency: usize,
    /// What may differ on the wire, with the rule for each type of what may be sent again.
    pub wire: Settings,
    /// Retries of one run, over all its messages.
    pub retries: u32,
    /// The shortest time from the start of one request to that of the next; zero: none.
    pub min_interval: Duration,
    /// Own CA bundle.
    pub ca_bundle: Option<PathBuf>,
    /// Plain HTTP to hosts other than this one.
    pub allow_plain_http: bool,
    /// Connect timeout.
    pub connect_timeout: Duration,
    /// Longest silence while reading an answer.
    pub read_timeout: Duration,
    /// Longest whole call.
    pub total_timeout: Duration,
}

impl Api {
    /// Whether an unknown outcome of this type may be answered by sending the same bytes again.
    #[must_use]
    pub fn may_resend(&self, usage_type: UsageType) -> bool {
        self.wire.resend.of(usage_type) == Resend::Overwrite
    }
}

/// Where the API key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, not readable by others.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A systemd credential.
    Credential(String),
}

/// One `[[source]]`.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Disabled sources are only checked.
    pub enabled: bool,
    /// Paths and patterns, relative to the configuration's folder.
    pub paths: Vec<String>,
    /// What it holds.
    pub kind: SourceKind,
}

impl Source {
    /// Reads what these rules charge by.
    fn reading(mut self, rules: &Rules) -> Self {
        if let SourceKind::Pbs { options, .. } = &mut self.kind {
            options.assigned = rules.reads_assigned();
        }
        self
    }
}

/// What a source holds.
#[derive(Debug)]
pub enum SourceKind {
    /// Slurm `sacct` text.
    Sacct {
        /// How to read it.
        options: parsers::sacct::Options,
        /// True where the delimiter is not configured: taken from the header.
        guess_delimiter: bool,
        /// What to do where users could have forged rows.
        forgeable: Forgeable,
        /// How its runs are mapped.
        mapping: SourceRules,
    },
    /// Documents of `sacct --json`, or of slurmrestd's `/slurmdb/*/jobs`.
    SacctJson {
        /// How its runs are mapped.
        mapping: SourceRules,
    },
    /// PBS accounting logs.
    Pbs {
        /// How to read it.
        options: parsers::pbs::Options,
        /// How its runs are mapped.
        mapping: SourceRules,
    },
    /// A quota report.
    Quota {
        /// Format.
        format: parsers::quota::Format,
        /// The kind of owner to take.
        owner: OwnerKind,
        /// When the report was made.
        collected_at: CollectedAt,
    },
}

/// When a quota report was made.
#[derive(Debug, Clone)]
pub enum CollectedAt {
    /// The file's modification time.
    Mtime,
    /// A date in the file's name, midnight in the site's zone.
    Name(regex::Regex),
}

/// What to do with text in which users could have forged rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgeable {
    /// Charge, and say so in every summary.
    Warn,
    /// Hold every run.
    Hold,
    /// Charge.
    Accept,
}

impl Config {
    /// Reads and checks a configuration with its tables.
    ///
    /// # Errors
    /// Every fault that was found, each with its place and advice.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_assuming(path, Assume::default())
    }

    /// The same, with rules that take unknown accounts or users for known: to say what those would be charged. Nothing
    /// that such rules make may be sent.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_assuming(path: &Path, assume: Assume) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::NotFound => "name a configuration with --config FILE",
                std::io::ErrorKind::IsADirectory => "this is a folder: name the file in it",
                std::io::ErrorKind::InvalidData => "this is not a text file",
                _ => "see that the user who runs amie-runner may read it",
            };
            ConfigError::plain(format!("{}: cannot be read: {error}", path.display())).help(advice)
        })?;
        Self::parse(path, text, assume)
    }

    pub(crate) fn parse(path: &Path, text: String, assume: Assume) -> Result<Self, ConfigError> {
        let text = Text::new(path, text);
        let file: file::File = toml::from_str(text.as_str()).map_err(|error| toml_error(&text, &error))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut reading = Reading {
            text: &text,
            folder: folder.to_owned(),
            errors: Vec::new(),
            tables: Vec::new(),
            assume,
        };
        let config = reading.config(path, file);
        match (config, ConfigError::all(reading.errors)) {
            (Some(config), None) => Ok(config),
            (_, Some(error)) => Err(error),
            (None, None) => Err(ConfigError::plain(format!("{}: not usable", path.display()))),
        }
    }

    /// The enabled sources, or the one that is named.
    ///
    /// # Errors
    /// Where no source has that name.
    pub fn selected(&self, name: Option<&str>) -> Result<Vec<&Source>, ConfigError> {
        let Some(name) = name else {
            return Ok(self.sources.iter().filter(|source| source.enabled).collect());
        };
        match self.sources.iter().find(|source| source.name == name) {
            Some(source) => Ok(vec![source]),
            None => {
                let names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
                let error = ConfigError::plain(format!("there is no source \"{}\"", name.escape_debug()));
                Err(match suggestion(name, names.iter().copied()) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error.help(format!("the sources are: {}", names.join(", "))),
                })
            }
        }
    }

    /// Tables that nobody has changed for longer than `[tables] max_age_days`: a warning for each.
    #[must_use]
    pub fn old_tables(&self, now: i64) -> Vec<String> {
        let Some(most) = self.table_max_age_days else { return Vec::new() };
        let old = |table: &&Table| table.age_days(now).is_some_and(|days| days > u64::from(most));
        let warn = |table: &Table| {
            format!("{}, more than the {most} of tables.max_age_days: is it still kept?", table.describe(now))
        };
        self.tables.iter().filter(old).map(warn).collect()
    }

    /// The folder-relative path as it stands on disk.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        if path.is_absolute() { path.to_owned() } else { self.folder.join(path) }
    }
}

/// Turns TOML's own errors into ours: place, and for a misspelt key the nearest one.
fn toml_error(text: &Text, error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let span = error.span().unwrap_or(0..0);
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let error = text.error(span, format_args!("unknown key `{unknown}`"));
            match suggestion(unknown, known.iter().copied()) {
                Some(near) => {
                    error.help(format!("did you mean `{near}`? The keys here are: {}", known.join(", ")))
                }
                None => error.help(format!("the keys here are: {}", known.join(", "))),
            }
        }
        Some((missing, _)) if message.starts_with("missing field") => text
            .error(span, format_args!("`{missing}` is missing"))
            .help(format!("add `{missing} = ...` to this table")),
        _ => text.error(span, message.lines().next().unwrap_or(message)),
    }
}

/// One reading of a configuration: collects faults instead of stopping at the first.
struct Reading<'a> {
    text: &'a Text,
    folder: PathBuf,
    errors: Vec<ConfigError>,
    tables: Vec<Table>,
    assume: Assume,
}

/// Where the formula of a rate or storage rule stands, so that the compiler's offsets can be pointed at.
#[derive(Default)]
struct Spans {
    resources: Vec<(Range<usize>, Vec<RateSpans>)>,
    storage: Vec<(Range<usize>, Range<usize>)>,
    patterns: Vec<Range<usize>>,
    skips: Vec<Range<usize>>,
    node_types: Vec<Range<usize>>,
}

struct RateSpans {
    rate: Range<usize>,
    formula: Range<usize>,
}

impl Reading<'_> {
    fn fail(&mut self, span: Range<usize>, message: impl std::fmt::Display) {
        self.errors.push(self.text.error(span, message));
    }

    fn fail_with_help(
        &mut self,
        span: Range<usize>,
        message: impl std::fmt::Display,
        help: impl Into<String>,
    ) {
        self.errors.push(self.text.error(span, message).help(help));
    }

    /// One of a few words.
    fn word<T: Copy>(&mut self, value: &Spanned<String>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| word == value.get_ref()).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let word = value.get_ref().escape_debug().to_string();
            let help = match suggestion(value.get_ref(), list.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"? Possible are: {}", list.join(", ")),
                None => format!("possible are: {}", list.join(", ")),
            };
            self.fail_with_help(value.span(), format_args!("{key}: \"{word}\" is not known"), help);
        }
        found
    }

    fn zone(&mut self, name: &Spanned<String>) -> Option<Tz> {
        match name.get_ref().parse() {
            Ok(zone) => Some(zone),
            Err(_) => {
                let near = suggestion(name.get_ref(), chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
                let help = match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => {
                        "use a name of the IANA time zone database, like America/Denver or UTC".to_owned()
                    }
                };
                let shown = name.get_ref().escape_debug().to_string();
                self.fail_with_help(
                    name.span(),
                    format_args!("timezone: \"{shown}\" is not a time zone"),
                    help,
                );
                None
            }
        }
    }

    /// A number as it is written in the file: never through floating point.
    fn number(&mut self, value: &Spanned<toml::Value>, key: &str) -> Option<String> {
        let written = match value.get_ref() {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) => {
                self.text.as_str().get(value.span()).unwrap_or_default().replace('_', "")
            }
            other => {
                self.fail(value.span(), format_args!("{key}: expected a number, found {}", other.type_str()));
                return None;
            }
        };
        match written.parse::<Decimal>() {
            Ok(number) if !number.is_negative() => Some(number.to_string()),
            Ok(_) => {
                self.fail(value.span(), format_args!("{key}: must not be negative"));
                None
            }
            Err(error) => {
                self.fail(value.span(), format_args!("{key}: {error}"));
                None
            }
        }
    }

    fn date(&mut self, value: &Spanned<toml::value::Datetime>, key: &str) -> Option<NaiveDate> {
        let datetime = value.get_ref();
        let date = datetime.date.and_then(|date| {
            NaiveDate::from_ymd_opt(i32::from(date.year), u32::from(date.month), u32::from(date.day))
        });
        match date {
            Some(date) if datetime.time.is_none() => Some(date),
            _ => {
                self.fail(
                    value.span(),
                    format_args!("{key}: expected a date like 2026-01-01, without a time"),
                );
                None
            }
        }
    }

    /// Reads a table named by the configuration.
    fn table<T>(
        &mut self,
        path: &Spanned<PathBuf>,
        key: &'static str,
        read: fn(&Path) -> Result<Vec<T>, ConfigError>,
    ) -> Option<Vec<T>> {
        let full = if path.get_ref().is_absolute() {
            path.get_ref().clone()
        } else {
            self.folder.join(path.get_ref())
        };
        if !full.is_file() {
            self.fail_with_help(
                path.span(),
                format_args!("{key}: there is no table {}", full.display()),
                "relative paths are relative to the configuration's folder",
            );
            return None;
        }
        match read(&full) {
            Ok(rows) => {
                let modified = modified(&full);
                self.tables.push(Table { key, path: full, rows: rows.len(), modified });
                Some(rows)
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn config(&mut self, path: &Path, file: file::File) -> Option<Config> {
        let timezone = self.zone(&file.site.timezone);
        if file.site.name.is_empty() || file.site.name.chars().any(char::is_control) {
            self.errors.push(ConfigError::plain("site.name is empty or holds control characters"));
        }
        let go_live = self.go_live(&file, timezone.unwrap_or(Tz::UTC));
        let api = file.api.and_then(|api| self.api(api));
        let ledger = self.ledger(&file.ledger);
        let projects = file
            .projects
            .table
            .as_ref()
            .and_then(|path| self.table(path, "projects.table", tables::projects));
        let users = file.users.table.as_ref().map(|path| self.table(path, "users.table", tables::users));
        let users = users.filter(|_| !self.assume.users);
        let mut spans = Spans::default();
        let resources: Vec<_> =
            file.resource.iter().map(|resource| self.resource(resource, &mut spans)).collect::<Vec<_>>();
        let sources: Vec<_> =
            file.source.iter().map(|source| self.source(source, timezone.unwrap_or(Tz::UTC))).collect();
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for source in &file.source {
            *names.entry(source.get_ref().name.get_ref()).or_default() += 1;
        }
        for source in &file.source {
            let name = &source.get_ref().name;
            if names.get(name.get_ref().as_str()).is_some_and(|count| *count > 1) {
                self.fail(
                    name.span(),
                    format_args!("there are two sources \"{}\"", name.get_ref().escape_debug()),
                );
            }
        }
        let storage: Vec<_> =
            file.storage.iter().map(|storage| self.storage(storage, &names, &mut spans)).collect();
        for source in &file.source {
            let source = source.get_ref();
            let charged = |storage: &Spanned<file::Storage>| {
                storage.get_ref().source.get_ref() == source.name.get_ref()
            };
            if source.enabled && source.kind.get_ref() == "quota" && !file.storage.iter().any(charged) {
                self.fail_with_help(
                    source.name.span(),
                    format_args!(
                        "no [[storage]] says how readings of \"{}\" are charged",
                        source.name.get_ref().escape_debug()
                    ),
                    "add a [[storage]] with this source, or set enabled = false",
                );
            }
        }
        let policy = self.policy(&file.policy);
        let night_factor = self.at_least_one(file.policy.night_factor.as_ref(), "night_factor");
        let table_max_age_days = self.at_least_one(file.tables.max_age_days.as_ref(), "max_age_days");
        spans.patterns = file.projects.patterns.iter().map(Spanned::span).collect();
        spans.skips = file.projects.skip.iter().map(Spanned::span).collect();
        spans.node_types = file.node_type.iter().map(Spanned::span).collect();
        if !self.errors.is_empty() {
            return None;
        }
        let spec = RulesSpec {
            timezone: timezone?,
            projects: projects.unwrap_or_default(),
            project_patterns: file
                .projects
                .patterns
                .into_iter()
                .map(|pattern| {
                    let pattern = pattern.into_inner();
                    ProjectPattern {
                        account: pattern.account,
                        project: pattern.project,
                        upper: pattern.upper,
                        cluster: pattern.cluster,
                    }
                })
                .chain(self.assume.projects.then(|| ProjectPattern {
                    account: "(?s).*".to_owned(),
                    project: ASSUMED.to_owned(),
                    upper: false,
                    cluster: None,
                }))
                .collect(),
            skip: file
                .projects
                .skip
                .into_iter()
                .map(|skip| {
                    let skip = skip.into_inner();
                    SkipRule { account: skip.account, cluster: skip.cluster }
                })
                .collect(),
            users: users.flatten(),
            pi_fallback: file.users.pi_fallback,
            node_types: file.node_type.into_iter().map(Spanned::into_inner).map(node_type).collect(),
            resources: resources.into_iter().flatten().collect(),
            storage: storage.into_iter().flatten().collect(),
            policy,
        };
        let tables = std::mem::take(&mut self.tables);
        let rules = match Rules::compile(spec) {
            Ok(rules) => rules,
            Err(errors) => {
                for error in errors {
                    let error = self.rule_error(&spans, error);
                    self.errors.push(error);
                }
                return None;
            }
        };
        let warnings = rules
            .warnings()
            .iter()
            .map(|warning| self.rule_error(&spans, warning.clone()))
            .map(|warning| match warning.help {
                Some(help) => format!("{} ({help})", warning.message),
                None => warning.message,
            })
            .collect();
        Some(Config {
            path: path.to_owned(),
            folder: self.folder.clone(),
            site: file.site.name,
            timezone: timezone?,
            api,
            ledger: ledger?,
            go_live,
            sources: sources.into_iter().flatten().map(|source| source.reading(&rules)).collect(),
            rules,
            tables,
            table_max_age_days,
            night_factor,
            warnings,
        })
    }

    /// From when on each resource is reported. One resource may have several tables, and one date.
    fn go_live(&mut self, file: &file::File, zone: Tz) -> BTreeMap<String, i64> {
        let compute = file.resource.iter().map(Spanned::get_ref);
        let compute = compute.map(|resource| (resource.name.get_ref(), resource.go_live.as_ref()));
        let storage = file.storage.iter().map(Spanned::get_ref);
        let storage = storage.map(|storage| (&storage.resource, storage.go_live.as_ref()));
        let mut all = BTreeMap::new();
        for (resource, written) in compute.chain(storage) {
            let Some(written) = written else { continue };
            let Some(date) = self.date(written, "go_live") else { continue };
            let Some(from) = crate::clock::day_begins(date, zone) else {
                self.fail(written.span(), format_args!("go_live: {date} is no day in {zone}"));
                continue;
            };
            if all.insert(resource.clone(), from).is_some_and(|other| other != from) {
                let resource = resource.escape_debug();
                self.fail(written.span(), format_args!("go_live: \"{resource}\" has another one above"));
            }
        }
        all
    }

    /// A number that is not 0, where it is given.
    fn at_least_one(&mut self, value: Option<&Spanned<u32>>, key: &str) -> Option<u32> {
        let value = value?;
        if *value.get_ref() == 0 {
            self.fail(value.span(), format_args!("{key} must be 1 or more; leave it out to have none"));
        }
        Some(*value.get_ref())
    }

    /// Puts a place in the file to a fault that the rule compiler found.
    fn rule_error(&self, spans: &Spans, error: RuleError) -> ConfigError {
        let resource = |index: usize| spans.resources.get(index).map(|(span, _)| span.clone());
        let rate = |resource: usize, rate: usize| {
            spans
                .resources
                .get(resource)
                .and_then(|(_, rates)| rates.get(rate))
                .map(|spans| spans.rate.clone())
        };
        let formula = |written: Option<Range<usize>>, offset: usize, len: usize| {
            let written = written?;
            let start = written.start;
            let text = self.text.as_str().get(written)?;
            let [from, to] =
                [offset, offset + len].map(|offset| start + toml_string::written_at(text, offset));
            Some(from..to.max(from + 1))
        };
        let span = match error.place {
            RulePlace::ProjectPattern { index } => spans.patterns.get(index).cloned(),
            RulePlace::SkipRule { index } => spans.skips.get(index).cloned(),
            RulePlace::NodeType { index } => spans.node_types.get(index).cloned(),
            RulePlace::Resource { index } => resource(index),
            RulePlace::Rate { resource, rate: index } | RulePlace::Factor { resource, rate: index } => {
                rate(resource, index)
            }
            RulePlace::Formula { resource, rate, offset, len } => formula(
                spans
                    .resources
                    .get(resource)
                    .and_then(|(_, rates)| rates.get(rate))
                    .map(|spans| spans.formula.clone()),
                offset,
                len,
            ),
            RulePlace::Storage { index } => spans.storage.get(index).map(|(span, _)| span.clone()),
            RulePlace::StorageFormula { index, offset, len } => {
                formula(spans.storage.get(index).map(|(_, formula)| formula.clone()), offset, len)
            }
            _ => None,
        };
        let at_line = match error.place {
            RulePlace::ProjectRow { line } => Some(("project table", line)),
            RulePlace::UserRow { line } => Some(("user table", line)),
            RulePlace::SuppliedRow { line, .. } => Some(("table of supplied charges", line)),
            RulePlace::OwnerRow { line, .. } => Some(("owner table", line)),
            _ => None,
        };
        let placed = match (span, at_line) {
            (Some(span), _) => self.text.error(span, &error.message),
            (None, Some((what, line))) => {
                ConfigError::plain(format!("{what}, line {line}: {}", error.message))
            }
            (None, None) => ConfigError::plain(error.message.clone()),
        };
        match error.help {
            Some(help) => placed.help(help),
            None => placed,
        }
    }

    fn api(&mut self, api: file::Api) -> Option<Api> {
        let mut keys = Vec::new();
        if let Some(path) = &api.key_file {
            let full = if path.is_absolute() { path.clone() } else { self.folder.join(path) };
            keys.push(KeySource::File(full));
        }
        keys.extend(api.key_env.clone().map(KeySource::Environment));
        keys.extend(api.key_credential.clone().map(KeySource::Credential));
        if keys.len() > 1 {
            self.fail(
                api.url.span(),
                "more than one of key_file, key_env, key_credential: say which one counts",
            );
        }
        // Without any of them, systemd's LoadCredential=api-key:... is looked for.
        let key = keys.pop().unwrap_or_else(|| KeySource::Credential("api-key".to_owned()));
        let mut limit = |value: &Option<Spanned<usize>>, key: &str, default: usize, most: usize| match value {
            None => default,
            Some(value) if (1..=most).contains(value.get_ref()) => *value.get_ref(),
            Some(value) => {
                self.fail(value.span(), format_args!("{key} must be from 1 to {most}"));
                default
            }
        };
        let max_body_bytes = limit(&api.max_body_bytes, "max_body_bytes", 196_608, 64 << 20);
        let max_records = limit(&api.max_records, "max_records", 1000, 100_000);
        let concurrency = limit(&api.concurrency, "concurrency", 4, 64);
        let per_minute = limit(&api.max_requests_per_minute, "max_requests_per_minute", 0, 60_000);
        let per_minute = u32::try_from(per_minute).unwrap_or(u32::MAX);
        let min_interval = Duration::from_secs(60).checked_div(per_minute).unwrap_or_default();
        if !api.url.get_ref().starts_with("http://") && !api.url.get_ref().starts_with("https://") {
            self.fail(api.url.span(), "url must begin with https://");
        }
        let wire = self.wire(&api);
        Some(Api {
            url: api.url.get_ref().trim_end_matches('/').to_owned(),
            key,
            max_body_bytes,
            max_records,
            concurrency,
            wire,
            retries: api.retries.unwrap_or(40),
            min_interval,
            ca_bundle: api
                .ca_bundle
                .map(|path| if path.is_absolute() { path } else { self.folder.join(path) }),
            allow_plain_http: api.allow_plain_http,
            connect_timeout: Duration::from_secs(api.connect_timeout_seconds.unwrap_or(10)),
            read_timeout: Duration::from_secs(api.read_timeout_seconds.unwrap_or(60)),
            total_timeout: Duration::from_secs(api.total_timeout_seconds.unwrap_or(120)),
        })
    }

    /// `[api.wire]`, with the rules of `[api.resend]`.
    fn wire(&mut self, api: &file::Api) -> Settings {
        let mut wire = match &api.wire {
            None => Settings::default(),
            Some(wire) => {
                if wire.get_ref().resend != ResendRules::default() {
                    self.fail_with_help(
                        wire.span(),
                        "wire.resend: what may be sent again stands in [api]",
                        "resend = { ... } in [api], not in [api.wire]",
                    );
                }
                if let Err(error) = wire.get_ref().check() {
                    self.fail(wire.span(), format_args!("wire.{error}"));
                }
                wire.get_ref().clone()
            }
        };
        let known = ResendRules::default();
        wire.resend = ResendRules {
            compute: api.resend.compute.unwrap_or(known.compute),
            storage: api.resend.storage.unwrap_or(known.storage),
            adjustment: api.resend.adjustment.unwrap_or(known.adjustment),
        };
        wire
    }

    fn ledger(&mut self, ledger: &file::Ledger) -> Option<Location> {
        let file::Ledger { url, password_credential } = ledger;
        let credential = password_credential.as_deref();
        if url.get_ref().starts_with("postgres") {
            return match Address::parse(url.get_ref(), credential) {
                Ok(address) => Some(Location::Server(Box::new(address))),
                Err(error) => {
                    let message = format!("ledger.url: {error}");
                    if url.get_ref().contains("password=") {
                        // Only user:password@ is masked where the line is shown.
                        self.errors.push(ConfigError::plain(message).help(error.help));
                    } else {
                        self.fail_with_help(url.span(), message, error.help);
                    }
                    None
                }
            };
        }
        if credential.is_some() {
            self.fail(
                url.span(),
                "ledger.password_credential is for a PostgreSQL ledger; a SQLite file has no password",
            );
        }
        if let Some(path) = url.get_ref().strip_prefix("sqlite:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            if !path.as_os_str().is_empty() {
                let path = if path.is_absolute() { path.to_owned() } else { self.folder.join(path) };
                return Some(Location::File(path));
            }
        }
        let shown = url.get_ref().split('@').next_back().unwrap_or_default().escape_debug().to_string();
        self.fail_with_help(
            url.span(),
            format_args!("ledger.url: \"{shown}\" is not understood"),
            "use sqlite:PATH, for example sqlite:ledger.db, or postgres://ROLE@HOST/DATABASE",
        );
        None
    }

    fn source(&mut self, source: &Spanned<file::Source>, site_zone: Tz) -> Option<Source> {
        let written = source.get_ref();
        let name = written.name.get_ref().clone();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            self.fail(written.name.span(), "a source's name consists of letters, digits, '-', '_' and '.'");
        }
        let zone = match &written.timezone {
            Some(zone) => self.zone(zone)?,
            None => site_zone,
        };
        if written.enabled && written.collect.is_some() {
            let span = written.collect.as_ref().map_or(source.span(), Spanned::span);
            self.fail_with_help(
                span,
                "collect is not supported by this version",
                "let a timer write sacct's output to files, name them in `paths`, and set enabled = false here",
            );
        }
        let paths: Vec<String> = written.paths.iter().flatten().map(|path| path.get_ref().clone()).collect();
        if written.enabled && paths.is_empty() && written.collect.is_none() {
            self.fail(written.name.span(), format_args!("source \"{name}\" has no `paths`"));
        }
        for path in written.paths.iter().flatten() {
            if let Err(error) = globset::Glob::new(path.get_ref()) {
                self.fail(path.span(), format_args!("paths: {error}"));
            }
        }
        let kind = self.word(
            &written.kind,
            "kind",
            &[
                ("sacct", Known::Sacct),
                ("pbs", Known::Pbs),
                ("quota", Known::Quota),
                ("sacct-json", Known::SacctJson),
            ],
        )?;
        if let Some(names) = written.gpu_resources.as_ref().filter(|_| !matches!(kind, Known::Pbs)) {
            self.fail_with_help(names.span(), "gpu_resources: is said of PBS logs only", "leave it out");
        }
        let kind = match kind {
            Known::Sacct => self.sacct(written, zone)?,
            Known::Pbs => self.pbs(written)?,
            Known::Quota => self.quota(source)?,
            Known::SacctJson => self.sacct_json(written)?,
        };
        Some(Source { name, enabled: written.enabled, paths, kind })
    }

    fn sacct(&mut self, source: &file::Source, zone: Tz) -> Option<SourceKind> {
        let forgeable = match &source.forgeable {
            None => Forgeable::Warn,
            Some(word) => self.word(
                word,
                "forgeable",
                &[("warn", Forgeable::Warn), ("hold", Forgeable::Hold), ("accept", Forgeable::Accept)],
            )?,
        };
        let mut options =
            parsers::sacct::Options { zone, columns: source.columns.clone(), ..Default::default() };
        if let Some(delimiter) = &source.delimiter {
            if delimiter.get_ref().is_empty() || delimiter.get_ref().contains('\n') {
                self.fail(delimiter.span(), "delimiter: must not be empty, nor hold a newline");
            }
            options.delimiter = delimiter.get_ref().clone().into_bytes();
        }
        if let Some(word) = &source.framing {
            options.framing = self.word(
                word,
                "framing",
                &[("lines", parsers::sacct::Framing::Lines), ("counted", parsers::sacct::Framing::Counted)],
            )?;
        }
        let guess_delimiter = source.delimiter.is_none() && source.columns.is_none();
        Some(SourceKind::Sacct { options, guess_delimiter, forgeable, mapping: self.mapping(source)? })
    }

    fn pbs(&mut self, source: &file::Source) -> Option<SourceKind> {
        let mut options = parsers::pbs::Options::default();
        if let Some(names) = &source.gpu_resources {
            if names.get_ref().is_empty() {
                self.fail(
                    names.span(),
                    "gpu_resources: names at least one resource, for example [\"ngpus\"]",
                );
            }
            options.gpu_resources.clone_from(names.get_ref());
        }
        Some(SourceKind::Pbs { options, mapping: self.mapping(source)? })
    }

    fn sacct_json(&mut self, source: &file::Source) -> Option<SourceKind> {
        let name = source.name.span();
        let of_text = [
            ("delimiter", source.delimiter.as_ref().map(Spanned::span)),
            ("columns", source.columns.as_ref().map(|_| name)),
            ("forgeable", source.forgeable.as_ref().map(Spanned::span)),
        ];
        for (key, span) in of_text {
            if let Some(span) = span {
                self.fail_with_help(
                    span,
                    format_args!("{key}: is said of the text of sacct; a sacct-json source has no columns, and no row in it can be forged"),
                    "leave it out",
                );
            }
        }
        Some(SourceKind::SacctJson { mapping: self.mapping(source)? })
    }

    fn quota(&mut self, source: &Spanned<file::Source>) -> Option<SourceKind> {
        let written = source.get_ref();
        let need = |key: &str| format!("a quota source needs `{key}`");
        let Some(format) = &written.format else {
            self.fail_with_help(written.name.span(), need("format"), "for example format = \"repquota-csv\"");
            return None;
        };
        let format = match format.get_ref().parse() {
            Ok(format) => format,
            Err(error) => {
                self.fail(format.span(), error);
                return None;
            }
        };
        let Some(owner) = &written.owner else {
            self.fail_with_help(
                written.name.span(),
                need("owner"),
                "owner = \"user\", \"group\", \"project\" or \"fileset\"",
            );
            return None;
        };
        let owner = self.word(
            owner,
            "owner",
            &[
                ("user", OwnerKind::User),
                ("group", OwnerKind::Group),
                ("project", OwnerKind::Project),
                ("fileset", OwnerKind::Fileset),
            ],
        )?;
        let Some(collected_at) = &written.collected_at else {
            self.fail_with_help(
                written.name.span(),
                need("collected_at"),
                "a quota report does not say when it was made: collected_at = \"mtime\", or { from = \"name\", pattern = '...' }",
            );
            return None;
        };
        let collected_at = match collected_at.get_ref() {
            file::CollectedAt::Mtime => CollectedAt::Mtime,
            file::CollectedAt::Name { pattern } => match regex::Regex::new(&format!("^(?:{pattern})$")) {
                Ok(pattern) if pattern.captures_len() == 2 => CollectedAt::Name(pattern),
                Ok(_) => {
                    self.fail_with_help(
                        collected_at.span(),
                        "collected_at: the pattern must have one group, around the date",
                        r"for example 'scratch-(\d{4}-\d{2}-\d{2})\.csv'",
                    );
                    return None;
                }
                Err(error) => {
                    self.fail(collected_at.span(), format_args!("collected_at: {error}"));
                    return None;
                }
            },
        };
        Some(SourceKind::Quota { format, owner, collected_at })
    }

    fn mapping(&mut self, source: &file::Source) -> Option<SourceRules> {
        let words = [
            ("account", ProjectFrom::Account),
            ("project", ProjectFrom::Project),
            ("group", ProjectFrom::Group),
        ];
        let mut project_from = Vec::new();
        for word in source.project_from.iter().flatten() {
            project_from.push(self.word(word, "project_from", &words)?);
        }
        if source.kind.get_ref() == "pbs" && project_from.is_empty() {
            self.fail_with_help(
                source.name.span(),
                "a pbs source needs `project_from`",
                "project_from = [\"account\"], [\"project\"] or [\"group\"], or several in the order to try; there is no implicit fallback",
            );
            return None;
        }
        let fold_accounts = match &source.account_case {
            None => None,
            Some(word) => Some(self.word(word, "account_case", &[("ignore", true), ("exact", false)])?),
        };
        let text_of =
            |template: &Option<Spanned<String>>| template.as_ref().map(|template| template.get_ref().clone());
        let spec = SourceSpec {
            name: source.name.get_ref().clone(),
            cluster: source.cluster.clone(),
            project_from,
            fold_accounts,
            local_record_id: text_of(&source.local_record_id),
            parent_record_id: text_of(&source.parent_record_id),
            hold_forgeable: source.forgeable.as_ref().is_some_and(|word| word.get_ref() == "hold"),
            send_job_name: source.job_name.unwrap_or(false),
        };
        match SourceRules::compile(spec) {
            Ok(rules) => Some(rules),
            Err(error) => {
                let template = match error.message.split(':').next() {
                    Some("parent_record_id") => &source.parent_record_id,
                    _ => &source.local_record_id,
                };
                let span = template.as_ref().map_or(source.name.span(), Spanned::span);
                let help = error.help.clone().unwrap_or_default();
                self.fail_with_help(span, &error.message, help);
                None
            }
        }
    }

    fn resource(&mut self, resource: &Spanned<file::Resource>, spans: &mut Spans) -> Option<ResourceSpec> {
        let written = resource.get_ref();
        let name_span = written.name.span();
        if written.name.get_ref().is_empty() {
            self.fail(name_span.clone(), "name is empty");
        }
        if written.rate.is_empty() {
            self.fail_with_help(
                name_span.clone(),
                "this resource has no rate",
                "add a [[resource.rate]] with `from` and `charge`",
            );
        }
        let mut rate_spans = Vec::new();
        let mut rates = Vec::new();
        for rate in &written.rate {
            rate_spans
                .push(RateSpans { rate: rate.get_ref().from.span(), formula: rate.get_ref().charge.span() });
            rates.push(self.rate(rate.get_ref()));
        }
        spans.resources.push((name_span, rate_spans));
        let supplied = match &written.supplied {
            None => None,
            Some(path) => Some(self.table(path, "resource.supplied", tables::supplied)?),
        };
        let limits = self.limits(&written.max_charge, written.max_cores, &written.max_hours);
        let when = &written.when;
        let list = |list: &file::OneOrMany| list.0.clone();
        Some(ResourceSpec {
            name: written.name.get_ref().clone(),
            when: When {
                cluster: list(&when.cluster),
                partition: list(&when.partition),
                qos: list(&when.qos),
                account: list(&when.account),
                user: list(&when.user),
            },
            rates: rates.into_iter().collect::<Option<_>>()?,
            cores_per_node: written.cores_per_node,
            gpus_per_node: written.gpus_per_node,
            supplied,
            limits,
        })
    }

    fn rate(&mut self, rate: &file::Rate) -> Option<RateSpec> {
        let from = self.date(&rate.from, "from");
        let until = rate.until.as_ref().map(|until| self.date(until, "until"));
        let rate_by = match &rate.rate_by {
            None => RateBy::Submit,
            Some(word) => self.word(
                word,
                "rate_by",
                &[("submit", RateBy::Submit), ("start", RateBy::Start), ("end", RateBy::End)],
            )?,
        };
        let round = self.round(&rate.round)?;
        let minimum = match &rate.minimum {
            None => None,
            Some(number) => Some(self.number(number, "minimum")?),
        };
        let mut factors = BTreeMap::new();
        for (table, values) in &rate.factor {
            let mut numbers = BTreeMap::new();
            for (value, number) in values {
                numbers.insert(value.clone(), self.number(number, &format!("factor.{table}.{value}"))?);
            }
            factors.insert(table.clone(), numbers);
        }
        Some(RateSpec {
            from: from?,
            until: match until {
                None => None,
                Some(until) => Some(until?),
            },
            rate_by,
            charge: rate.charge.get_ref().clone(),
            round,
            minimum,
            minimum_seconds: rate.minimum_seconds,
            factors,
        })
    }

    fn round(&mut self, round: &file::Round) -> Option<Rounding> {
        let default = Rounding::default();
        let places = match &round.places {
            None => default.places,
            Some(places) if *places.get_ref() <= 18 => *places.get_ref(),
            Some(places) => {
                self.fail(places.span(), "round.places: at most 18");
                return None;
            }
        };
        let mode = match &round.mode {
            None => default.mode,
            Some(word) => self.word(
                word,
                "round.mode",
                &[
                    ("half-even", RoundingMode::HalfEven),
                    ("half-up", RoundingMode::HalfUp),
                    ("up", RoundingMode::Up),
                    ("down", RoundingMode::Down),
                ],
            )?,
        };
        Some(Rounding { places, mode })
    }

    fn storage(
        &mut self,
        storage: &Spanned<file::Storage>,
        sources: &BTreeMap<&str, usize>,
        spans: &mut Spans,
    ) -> Option<StorageSpec> {
        let written = storage.get_ref();
        spans.storage.push((written.source.span(), written.charge.span()));
        if !sources.contains_key(written.source.get_ref().as_str()) {
            let help = match suggestion(written.source.get_ref(), sources.keys().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "name a [[source]] of kind = \"quota\"".to_owned(),
            };
            let shown = written.source.get_ref().escape_debug().to_string();
            self.fail_with_help(written.source.span(), format_args!("there is no source \"{shown}\""), help);
        }
        let service_treats = match &written.service_treats {
            None => None,
            Some(word) => Some(self.word(
                word,
                "service_treats",
                &[("level", ServiceTreats::Level), ("sum", ServiceTreats::Sum)],
            )?),
        };
        let owners = match &written.owners {
            None => Vec::new(),
            Some(path) => self.table(path, "storage.owners", tables::owners)?,
        };
        Some(StorageSpec {
            source: written.source.get_ref().clone(),
            resource: written.resource.clone(),
            service_treats,
            charge: written.charge.get_ref().clone(),
            round: self.round(&written.round)?,
            interval_days: written.interval_days.unwrap_or(1),
            media_type: written.media_type.clone(),
            system_copies: written.system_copies,
            owners,
        })
    }

    fn policy(&mut self, policy: &file::Policy) -> PolicySpec {
        let mut charged = |word: &Option<Spanned<String>>, key: &str| match word {
            None => Charged::Charge,
            Some(word) => self
                .word(word, key, &[("charge", Charged::Charge), ("zero", Charged::Zero)])
                .unwrap_or_default(),
        };
        let node_fail = charged(&policy.node_fail, "node_fail");
        let boot_fail = charged(&policy.boot_fail, "boot_fail");
        let preempted = charged(&policy.preempted, "preempted");
        let requeued = charged(&policy.requeued, "requeued");
        let resizing = charged(&policy.resizing, "resizing");
        let failed = charged(&policy.failed, "failed");
        let send_zero = match &policy.zero_charge {
            None => false,
            Some(word) => self.word(word, "zero_charge", &[("skip", false), ("send", true)]).unwrap_or(false),
        };
        let limits = self.limits(&policy.max_charge, policy.max_cores, &policy.max_hours);
        PolicySpec { send_zero, node_fail, boot_fail, preempted, requeued, resizing, failed, limits }
    }

    /// The limits of `[policy]` or of a resource.
    fn limits(
        &mut self,
        max_charge: &Option<Spanned<toml::Value>>,
        max_cores: Option<u64>,
        max_hours: &Option<Spanned<toml::Value>>,
    ) -> LimitsSpec {
        LimitsSpec {
            max_charge: max_charge.as_ref().and_then(|number| self.number(number, "max_charge")),
            max_cores,
            max_hours: max_hours.as_ref().and_then(|number| self.number(number, "max_hours")),
        }
    }
}

fn node_type(written: file::NodeType) -> NodeTypeSpec {
    NodeTypeSpec {
        name: written.name,
        cluster: written.cluster.0,
        partition: written.partition.0,
        hosts: written.hosts.0,
        cores: written.cores,
        gpus: written.gpus,
    }
}

/// When a file was last changed, epoch seconds.
fn modified(path: &Path) -> Option<i64> {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// The kinds of source that the configuration may name.
#[derive(Clone, Copy)]
enum Known {
    Sacct,
    SacctJson,
    Pbs,
    Quota,
}

#[cfg(test)]
mod tests;
