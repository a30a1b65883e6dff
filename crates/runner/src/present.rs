//! How things look on a terminal: summaries, tables, failures. Everything that comes from outside is escaped.

use amie_usage::Stop;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use parsers::pbs::OpenState;
use runner::attention::Item;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{GoLive, LedgerError, State, Totals};
use runner::nightly::Night;
use runner::pipeline::folding::Folded;
use runner::tally::Tally;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Why a command ended without doing its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] Box<runner::config::ConfigError>),
    /// What was typed is at fault.
    #[error("{0}")]
    Usage(String),
    /// The files of a source.
    #[error(transparent)]
    Plan(#[from] runner::plan::PlanError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A service cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// This program is at fault.
    #[error(transparent)]
    Imbalance(#[from] runner::tally::Imbalance),
    /// Writing output.
    #[error("{what}: {error}")]
    Output {
        /// Which file, or standard output.
        what: String,
        /// The reason.
        error: io::Error,
    },
}

impl From<runner::config::ConfigError> for Failure {
    fn from(error: runner::config::ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl From<runner::input::InputError> for Failure {
    fn from(error: runner::input::InputError) -> Self {
        Self::Plan(error.into())
    }
}

impl Failure {
    /// Standard output could not be written.
    pub(crate) fn stdout(error: io::Error) -> Self {
        Self::Output { what: "standard output".to_owned(), error }
    }

    /// A file could not be written.
    pub(crate) fn file(path: &std::path::Path, error: io::Error) -> Self {
        Self::Output { what: path.display().to_string(), error }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Plan(_) => Exit::Usage,
            // Nothing is lost: the other runner ends, the disk is cleaned up, and the next run goes on.
            Self::Ledger(
                LedgerError::Busy { .. }
                | LedgerError::DiskFull { .. }
                | LedgerError::NotWritten { .. }
                | LedgerError::Unreachable { .. },
            ) => Exit::Unreachable,
            Self::Unreachable(_) | Self::Output { .. } => Exit::Unreachable,
            Self::Ledger(_) | Self::Imbalance(_) => Exit::Usage,
        }
    }
}

/// Prints a failure and says with which status to end.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    match failure {
        // The reader of our output has gone (`| head`): that is how it wants it.
        Failure::Output { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Failure::Config(error) if io::stderr().is_terminal() => {
            let mut text = String::new();
            let handler = miette::GraphicalReportHandler::new();
            if handler.render_report(&mut text, error.as_ref()).is_ok() {
                eprintln!("{text}");
            } else {
                eprintln!("amie-runner: {error}");
            }
        }
        Failure::Config(error) => {
            for error in std::iter::once(error.as_ref()).chain(&error.others) {
                eprintln!("amie-runner: {}", escape(&error.to_string()));
                if let Some(help) = &error.help {
                    eprintln!("  help: {}", escape(help));
                }
            }
        }
        other => eprintln!("amie-runner: {}", escape(&other.to_string())),
    }
    failure.exit().into()
}

/// Text from outside, safe for a terminal: control and formatting characters are shown as escapes.
pub(crate) fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => "\n".to_owned(),
            c if c.is_control() || is_format(c) => c.escape_unicode().to_string(),
            c => c.to_string(),
        })
        .collect()
}

/// Unicode characters that turn the direction of text or are invisible.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Headings in bold where stderr (or stdout) is a terminal.
pub(crate) fn heading(text: &str, terminal: bool) -> String {
    if terminal { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A table without lines, numbers to the right.
pub(crate) fn table(header: &[&str], numbers: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.into_iter().map(|cell| escape(&cell)).collect::<Vec<_>>());
    }
    for column in numbers {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

/// `3 not-ended, 1 zero-charge`, or `none`.
pub(crate) fn reasons<'a>(counts: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let list: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{count} {}", escape(name)))
        .collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

/// The two laws, for people.
pub(crate) fn laws(tally: &Tally) -> String {
    let sum = |map: &std::collections::BTreeMap<String, u64>| map.values().sum::<u64>();
    let mut text = format!(
        "  frames  {:>9} = {} contributing + {} informational + {} quarantined\n",
        tally.frames,
        tally.contributing,
        sum(&tally.informational),
        tally.quarantined
    );
    text += &format!(
        "  runs    {:>9} = {} mapped + {} skipped + {} held\n",
        tally.runs,
        tally.mapped,
        sum(&tally.skipped),
        sum(&tally.held)
    );
    if !tally.informational.is_empty() {
        text += &format!("  informational: {}\n", reasons(&tally.informational));
    }
    text += &format!("  skipped: {}\n", reasons(&tally.skipped));
    text += &format!("  held: {}\n", reasons(&tally.held));
    text += &format!("  quarantined: {}\n", reasons(&tally.quarantined_by));
    if !tally.observed.is_empty() {
        text += &format!("  observed: {}\n", reasons(&tally.observed));
    }
    text
}

/// Projects of a resource that are shown one by one; the report page has all of them.
const SHOWN_PROJECTS: usize = 20;

/// Charges by resource and project: of many projects, those with the largest charges.
pub(crate) fn charges(tally: &Tally) -> String {
    let mut rows = Vec::new();
    for (resource, projects) in &tally.charge_by_project {
        let mut shown: Vec<_> = projects.iter().collect();
        if shown.len() > SHOWN_PROJECTS {
            shown.sort_by(|(_, one), (_, other)| other.cmp(one));
            shown.truncate(SHOWN_PROJECTS);
        }
        let others = projects.len() - shown.len();
        for (project, charge) in shown {
            rows.push(vec![resource.clone(), project.clone(), charge.to_string()]);
        }
        if others > 0 {
            rows.push(vec![String::new(), format!("and {others} other projects"), String::new()]);
        }
        if let Some(total) = tally.charge.get(resource) {
            rows.push(vec![String::new(), "total".to_owned(), total.to_string()]);
        }
    }
    if rows.is_empty() { String::new() } else { table(&["resource", "project", "charge"], &[2], rows) }
}

/// The ledger's rows by state, in one line or two.
pub(crate) fn ledger_line(totals: &Totals) -> String {
    let states: Vec<String> = [
        State::Loaded,
        State::Accepted,
        State::Pending,
        State::Sending,
        State::Unknown,
        State::Rejected,
        State::Failed,
        State::Superseded,
    ]
    .into_iter()
    .filter(|state| totals.count(*state) > 0)
    .map(|state| format!("{} {state}", totals.count(state)))
    .collect();
    let states = if states.is_empty() { "no records".to_owned() } else { states.join(", ") };
    format!("  {states}; {} held, {} quarantined\n", totals.held_total, totals.quarantined_open)
}

/// What needs a person, with what to do.
pub(crate) fn items(items: &[Item], terminal: bool) -> String {
    let mut text = format!("{}\n", heading("What needs a person", terminal));
    if items.is_empty() {
        text += "  nothing\n";
    }
    for (number, item) in items.iter().enumerate() {
        text += &format!("  {} {}: {}\n", item.count, item.kind, escape(&item.reason).replace('\n', " "));
        let mut keys: Vec<String> =
            item.examples.iter().take(2).map(|example| escape(&example.what)).collect();
        if item.count > keys.len() as u64 {
            keys.push("...".to_owned());
        }
        if !keys.is_empty() {
            text += &wrapped(&keys.join("  "));
        }
        // Neighbours with the same advice share it.
        if items.get(number + 1).is_none_or(|next| next.advice != item.advice) {
            text += &wrapped(&format!("-> {}", item.advice));
        }
    }
    text
}

/// The tables of the configuration with their age, and a warning for each that is too old.
pub(crate) fn tables(config: &Config, terminal: bool) -> String {
    let now = runner::clock::now();
    let mut text = String::new();
    if !config.tables.is_empty() {
        text += &format!("{}\n", heading("Tables", terminal));
    }
    for table in &config.tables {
        text += &format!("  {}\n", escape(&table.describe(now)));
    }
    for warning in config.old_tables(now) {
        text += &wrapped(&format!("-> {}", escape(&warning)));
    }
    text
}

/// Text in lines of at most 110 characters, set in by five.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width == 0 || width + 1 + length > 105 {
            lines += if width == 0 { "     " } else { "\n     " };
            width = 0;
        } else {
            lines.push(' ');
            width += 1;
        }
        lines += word;
        width += length;
    }
    lines.push('\n');
    lines
}

/// What a night did, for people.
pub(crate) fn night(night: &Night) -> String {
    let terminal = io::stderr().is_terminal();
    let tally = &night.collected.tally;
    let ingested = &night.ingested;
    let submission = &night.submission;
    let confirmed = &night.reconciliation.confirmed;
    let mut text = format!("{}\n{}", heading("Read and mapped", terminal), laws(tally));
    text += &format!("{}\n{}", heading("Charges", terminal), charges(tally));
    text += &format!(
        "{}\n  new {}, unchanged {}, restated {}, newly held {}, held as before {}, newly quarantined {}\n",
        heading("Taken into the ledger", terminal),
        ingested.inserted + ingested.released + ingested.revived,
        ingested.unchanged,
        ingested.restated + ingested.replaced,
        ingested.held,
        ingested.held_again,
        ingested.quarantined
    );
    if ingested.outdated > 0 {
        text += &format!(
            "  {} record(s) that are an older version of what is known, read again: left as they are (see docs/ledger.md)\n",
            ingested.outdated
        );
    }
    if ingested.adopted > 0 {
        text +=
            &format!("  {} record(s) that were imported as sent before: not sent again\n", ingested.adopted);
    }
    if ingested.withheld > 0 {
        text += &format!(
            "  {} record(s) of what ended before go-live: recorded, and not sent\n",
            ingested.withheld
        );
    }
    for braked in &night.braked {
        text += &wrapped(&format!("held {} record(s): {}", braked.records, escape(&braked.to_string())));
    }
    if ingested.drifted > 0 {
        text += &format!(
            "  {} record(s) that were sent would be charged otherwise by today's rules or tables; they keep their charge (see `restate`)\n",
            ingested.drifted
        );
    }
    text += &format!("{}\n", heading("Sent", terminal));
    if night.recovered.records > 0 {
        text += &format!(
            "  an earlier run was cut off: {} record(s) may have arrived, and were treated so\n",
            night.recovered.records
        );
    }
    if submission.posts == 0 && submission.stop.is_none() {
        text += "  nothing: all that is owed was sent before\n";
    } else {
        text += &format!(
            "  {} POST(s): {} accepted, {} refused, {} not sent, {} of unknown fate\n",
            submission.posts,
            submission.accepted,
            submission.refused,
            submission.not_sent,
            submission.unknown
        );
    }
    if let Some(stop) = &submission.stop {
        let reason = submission.stop_reason.as_deref().unwrap_or_default();
        text += &format!("  stopped: {}\n", escape(&stop_text(stop, reason)));
    }
    text += &format!(
        "{}\n  loaded {}, failed {}, seen with another charge {}\n",
        heading("Reconciled", terminal),
        confirmed.loaded,
        confirmed.failed,
        confirmed.mismatched
    );
    text += &format!("{}\n{}", heading("Ledger", terminal), ledger_line(&night.totals));
    text += &items(&night.items, terminal);
    let remarks = remarks(night);
    if !remarks.is_empty() {
        text += &format!("{}\n", heading("Remarks", terminal));
        for remark in remarks {
            text += &format!("  {}\n", escape(&remark));
        }
    }
    text
}

fn stop_text(stop: &Stop, reason: &str) -> String {
    match stop {
        Stop::KeyRefused => {
            format!("the service refuses this site or its key: check site.name and the key ({reason})")
        }
        Stop::ApiDown => format!(
            "the service cannot be reached or gives no usable answer; nothing is lost, run again ({reason})"
        ),
        Stop::SomethingWrong { text } => {
            format!("something is wrong with the configuration or the service: {text}")
        }
    }
}

/// Everything besides the counts that people should know of a night.
pub(crate) fn remarks(night: &Night) -> Vec<String> {
    let mut list: Vec<String> = night.collected.remarks.problems.iter().map(ToString::to_string).collect();
    list.extend(column_texts(&night.collected.remarks));
    list.extend(night.submission.remarks.iter().cloned());
    list.extend(night.reconciliation.remarks.iter().cloned());
    list.extend(
        night.reconciliation.unreachable.iter().map(|text| format!("could not reconcile: {text}; run again")),
    );
    list.extend(night.reconciliation.key_refused.iter().cloned());
    list.extend(night.go_live.iter().filter_map(go_live_text));
    if let Some(since) = night.overdue {
        list.push(format!(
            "records that were sent on {} and later are accepted and not loaded: ask the service what became of them",
            runner::clock::show(since)
        ));
    }
    list.extend(night.old_tables.iter().cloned());
    list
}

/// What to say of a go-live that was moved back in the configuration alone.
pub(crate) fn go_live_text(go_live: &GoLive) -> Option<String> {
    let GoLive { resource, configured, in_force } = go_live;
    (configured < in_force).then(|| {
        format!(
            "{resource}: go_live is {} in the configuration, and the ledger goes by {}: what ended between is not sent. To send it: \
             amie-runner ledger go-live {resource} --from DATE --reason '...'",
            runner::clock::show(*configured),
            runner::clock::show(*in_force)
        )
    })
}

fn column_texts(remarks: &runner::engine::Remarks) -> Vec<String> {
    let mut list = Vec::new();
    for (source, columns) in &remarks.forgeable {
        list.push(format!(
            "{source}: users write {} themselves, and sacct -P escapes nothing: rows could be forged. Leave the column out, or set forgeable",
            columns.join(", ")
        ));
    }
    for (source, columns) in &remarks.unknown_columns {
        list.push(format!("{source}: columns that are not known: {}", columns.join(", ")));
    }
    list.extend(
        remarks.warnings.iter().map(|(file, warning)| format!("{file}: the document warns: {warning}")),
    );
    for (source, folded) in &remarks.folded {
        list.extend(folded_texts(folded).into_iter().map(|text| format!("{source}: {text}")));
    }
    list
}

/// What a person should know of runs whose usage is in no record, and of what does not look like a server's own log.
fn folded_texts(folded: &Folded) -> Vec<String> {
    let mut list = Vec::new();
    let lost: Vec<_> = folded.open.iter().filter(|run| run.state == OpenState::Lost).collect();
    if !lost.is_empty() {
        let shown: Vec<_> = lost.iter().take(5).map(|run| String::from_utf8_lossy(&run.id)).collect();
        let more = if lost.len() > shown.len() { ", ..." } else { "" };
        list.push(format!(
            "{} run(s) began and will have no end in the log, so that nobody is charged for them: {}{more}",
            lost.len(),
            shown.join(", ")
        ));
    }
    let counts = &folded.counts;
    for (count, what) in [
        (
            counts.lost,
            "run(s) began and were followed by another run of their job without an end: not charged",
        ),
        (counts.without_record, "requeued run(s) of TORQUE, whose R does not say what was used: not charged"),
        (
            counts.from_checkpoint,
            "run(s) went on from a checkpoint; what they used before it is in no record",
        ),
        (
            counts.repeated_in_file,
            "record(s) stand twice in one file, which no server writes: each counts once",
        ),
        (counts.forgotten, "run(s) were under way when too many were, and are held when they end"),
    ] {
        if count > 0 {
            list.push(format!("{count} {what}"));
        }
    }
    list
}

/// Says what a person should know of a source's columns, and of what its documents warn.
pub(crate) fn column_remarks(remarks: &runner::engine::Remarks) {
    for text in column_texts(remarks) {
        say(format_args!("note: {}", escape(&text)));
    }
}

/// Says something to people.
pub(crate) fn say(text: impl std::fmt::Display) {
    // A closed stderr is no reason to stop working.
    let _ = writeln!(io::stderr(), "{text}");
}
