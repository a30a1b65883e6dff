//! The command line: what can be typed.

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Reports what users of an HPC centre consumed to the AMIE Usage API: Slurm and PBS accounting and quota reports in,
/// exact charges out, each run sent exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "amie-runner",
    version,
    after_help = "Exit status: 0 all well; 1 done, but something new or overdue needs a person; 2 usage or configuration;\n\
                  3 a service could not be reached, nothing is lost, run again.\n\n\
                  stdout is data, stderr is for people."
)]
pub(crate) struct Cli {
    /// Say more on stderr (twice: for debugging). AMIE_LOG takes a filter, for example AMIE_LOG=amie_usage=trace.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Threads to parse and map with; 0 for one per core.
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub(crate) threads: usize,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole way on shipped real accounting data, against a sandbox of the API that it starts itself.
    Demo(Demo),
    /// Check a configuration, its tables and patterns, the key and the ledger.
    Check(Check),
    /// Read accounting files and write what was understood, one JSON object a line.
    Parse(Parse),
    /// Map accounting to usage records and write them, one JSON object a line; touches no ledger, needs no key.
    Transform(Transform),
    /// Nightly: read all sources, charge, submit, reconcile.
    Run(Run),
    /// Map a period's runs by today's rules, show old and new charges, and re-price them if approved.
    Restate(Restate),
    /// Credits, refunds, debits and reservations: previewed, and sent by the next run if approved.
    Adjust(Adjust),
    /// Why a job's charge is what it is: source text, rule, arithmetic, history.
    Explain(Explain),
    /// What the ledger holds, and what needs a person.
    Status(Status),
    /// Runs that wait for a person: list, waive, approve, settle.
    Held(Held),
    /// Texts that could not be read: list, read again, dismiss.
    Quarantine(Quarantine),
    /// The ledger itself: verify it, export it, accept one that was put back from a backup.
    Ledger(LedgerArgs),
    /// What the service took and could not load: by its words, sent again, or acknowledged at the service.
    Failed(Failed),
    /// Write the report page (HTML) from the ledger.
    Report(ReportPage),
    /// A local stand-in for the Usage API, for trying things out.
    Sandbox(Sandbox),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", env = "AMIE_CONFIG", default_value = "config.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder to work in; made if it is not there.
    #[arg(default_value = "amie-demo")]
    pub(crate) folder: PathBuf,
    /// Write this invocation's counts as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Read the sources, and list accounts, users and owners that no table knows, by usage, each with the row to add.
    #[arg(long)]
    pub(crate) explain_unmapped: bool,
    /// With --explain-unmapped: only this source.
    #[arg(long, value_name = "NAME", requires = "explain_unmapped")]
    pub(crate) source: Option<String>,
    /// Write the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Parse {
    /// Format: sacct (text of `sacct -P`), sacct-json (`sacct --json`, or slurmrestd's jobs), pbs, quota:repquota-csv.
    #[arg(long)]
    pub(crate) format: String,
    /// Zone of times without offset, for example America/Denver.
    #[arg(long, value_name = "TZ", default_value = "UTC")]
    pub(crate) timezone: String,
    /// sacct: delimiter between fields; taken from the header where it is not given.
    #[arg(long)]
    pub(crate) delimiter: Option<String>,
    /// sacct: columns, comma-separated, where the text has no header.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) columns: Option<Vec<String>>,
    /// sacct: the delimiter is random (`-p --delimiter=NONCE`): newlines inside fields are text.
    #[arg(long)]
    pub(crate) counted: bool,
    /// Write quarantined frames as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) quarantine: Option<PathBuf>,
    /// Files; `-` for standard input.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Transform {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Print bytes, runs, seconds, CPU seconds and MB/s instead of records.
    #[arg(long)]
    pub(crate) bench: bool,
    /// With --bench: as JSON.
    #[arg(long, requires = "bench")]
    pub(crate) json: bool,
    /// Write this invocation's counts as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Write held runs as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) held: Option<PathBuf>,
    /// Write quarantined frames as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) quarantine: Option<PathBuf>,
    /// Read these files instead of the source's paths (needs --source where there are several).
    pub(crate) paths: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Print the exact messages that would be sent, one a line; touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write this invocation's counts as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Write a report page (HTML).
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print the counts as JSON on stdout.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) json: bool,
    /// Keep asking for this many seconds whether the service has loaded what was sent.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Restate {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// First day: runs whose rate is chosen by a time on it or later. That time is the submit time, unless the
    /// resource's rates say `rate_by`; days begin at midnight in site.timezone.
    #[arg(long, value_name = "DATE")]
    pub(crate) from: NaiveDate,
    /// First day after the period: `--from 2026-10-01 --to 2026-11-01` is October.
    #[arg(long, value_name = "DATE")]
    pub(crate) to: NaiveDate,
    /// Only what is, or would be, charged to this project.
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Also take up what a source said of a run before it said something else: a correction that was taken back.
    #[arg(long)]
    pub(crate) older: bool,
    /// Only show old and new charges (as without --approve, but exit status 0).
    #[arg(long, conflicts_with = "approve")]
    pub(crate) dry_run: bool,
    /// Re-price them: the next `run` sends the new charges.
    #[arg(long, requires = "reason")]
    pub(crate) approve: bool,
    #[command(flatten)]
    pub(crate) decision: Decision,
    /// Write old and new charges as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Adjust {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Many at once: a table with the columns type, charge and, as needed, run, resource, project, username, start,
    /// comment, id.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "charge", "run", "resource", "project", "username", "start", "comment", "id"])]
    pub(crate) csv: Option<PathBuf>,
    /// Give up adjustments that the service refused or could not load, by their ledger keys: they are not sent again, and
    /// count against no charge.
    #[arg(long, value_name = "KEY", num_args = 1.., requires = "reason", conflicts_with_all = ["csv", "kind", "charge", "run", "resource", "project", "username", "start", "comment", "id", "dry_run", "approve", "json"])]
    pub(crate) withdraw: Vec<String>,
    /// credit, refund, storage-credit, debit, reservation or storage-debit.
    #[arg(long = "type", value_name = "TYPE", required_unless_present_any = ["csv", "withdraw"], requires = "charge")]
    pub(crate) kind: Option<String>,
    /// How much: above 0, for the type gives it its sign.
    #[arg(long, value_name = "CHARGE", required_unless_present_any = ["csv", "withdraw"], allow_hyphen_values = true)]
    pub(crate) charge: Option<String>,
    /// A refund's run, by record id or ledger key; resource, project, user and start are the run's.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// AMIE resource name.
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<String>,
    /// AMIE project.
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// AMIE login.
    #[arg(long, value_name = "USERNAME")]
    pub(crate) username: Option<String>,
    /// Selects the allocation: a date (midnight in site.timezone) or a time like 2026-10-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// Sent along.
    #[arg(long)]
    pub(crate) comment: Option<String>,
    /// Tells it from an equal one, for example a ticket's number.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Only show what would be sent (as without --approve, but exit status 0).
    #[arg(long, conflicts_with = "approve")]
    pub(crate) dry_run: bool,
    /// Take them in: the next `run` sends them.
    #[arg(long, requires = "reason")]
    pub(crate) approve: bool,
    #[command(flatten)]
    pub(crate) decision: Decision,
    /// Write what would be, or was, taken in as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who decided, and why: kept in the ledger.
#[derive(Debug, Args)]
pub(crate) struct Decision {
    /// Why; kept in the ledger.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: Option<String>,
    /// Who decides, where it is not the login that runs this.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Write the explanation as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Job id, LocalRecordID or ledger key.
    #[arg(required_unless_present = "project", conflicts_with = "project")]
    pub(crate) id: Option<String>,
    /// A statement instead: every run of this AMIE project with its charge and state, and exact sums.
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// With --project: only of this AMIE login.
    #[arg(long, value_name = "USERNAME", requires = "project")]
    pub(crate) user: Option<String>,
    /// With --project: submitted (adjustments: starting) on this day or later, from midnight in site.timezone.
    #[arg(long, value_name = "DATE", requires_all = ["project", "to"])]
    pub(crate) from: Option<NaiveDate>,
    /// With --project: the first day after the period.
    #[arg(long, value_name = "DATE", requires_all = ["project", "from"])]
    pub(crate) to: Option<NaiveDate>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Write the status as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Held {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(subcommand)]
    pub(crate) action: Option<HeldAction>,
    /// Write the list as JSON lines.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this reason, for example unknown-project.
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HeldAction {
    /// Close holds for good: these runs are not reported.
    Waive(Choice),
    /// Take waivers back: these runs are asked about again.
    Reopen(Decide),
    /// Send runs that a brake held, or changes that looked false.
    Approve(Choice),
    /// Send rejected or failed records again as they are.
    Retry(Decide),
    /// Say what became of records where the service does not: of unknown outcome, or accepted and never loaded.
    Settle {
        #[command(flatten)]
        decide: Decide,
        /// What a person found out.
        #[arg(long, value_enum)]
        outcome: Found,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Found {
    /// Of unknown outcome: the service took the records.
    Arrived,
    /// Of unknown outcome: the service has not got them; they are sent again.
    Missing,
    /// Accepted, or of unknown outcome: they are in the service's books with the charge that was sent.
    Loaded,
    /// Accepted: the service has lost them; they are sent again.
    Lost,
}

/// Which holds, and why.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Ledger keys, as `held` lists them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) keys: Vec<String>,
    /// All that are held for --reason-code (and --resource).
    #[arg(long, requires = "reason_code")]
    pub(crate) all: bool,
    /// With --all: those held for this reason, for example above-max-charge.
    #[arg(long, value_name = "CODE", requires = "all")]
    pub(crate) reason_code: Option<String>,
    /// With --all: of those, the ones whose record is for this resource.
    #[arg(long, value_name = "RESOURCE", requires = "all")]
    pub(crate) resource: Option<String>,
    /// With --all: only say how many, and what they charge.
    #[arg(long, requires = "all")]
    pub(crate) dry_run: bool,
    /// Why; kept in the ledger.
    #[arg(long, value_name = "WHY", required_unless_present = "dry_run")]
    pub(crate) reason: Option<String>,
    /// Who decides, where it is not the login that runs this.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(subcommand)]
    pub(crate) action: Option<QuarantineAction>,
    /// Write the list, with the texts, as JSON lines.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this reason, for example field-count.
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// Read the files of these texts again (of all, where none is named), and close what can be read now.
    Retry {
        /// Numbers, as `quarantine` lists them.
        ids: Vec<i64>,
        /// Write what became of them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Close texts for good: they are no usage. Seen again, they stay closed.
    Dismiss {
        /// Numbers, as `quarantine` lists them.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        decision: Decision,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(subcommand)]
    pub(crate) action: LedgerAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerAction {
    /// Check every invariant, and replay the history of every row; exit status 1 with the faults, if there are any.
    Verify {
        /// Write the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget the texts of questions that were closed long ago, and files that are no longer read, and give unused space back.
    /// What was sent stays for ever.
    Compact {
        /// Keep what was closed, or read, in the last so many days.
        #[arg(long, value_name = "DAYS", default_value_t = 400)]
        keep_days: u32,
        /// Write the counts as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take over what another program sent before, so that it is not sent again: from a table, or from the service.
    ImportSent {
        /// CSV with resource, local_record_id, submit_time, charge; optional usage_type, username, project, loaded_time.
        #[arg(required_unless_present = "from_service", conflicts_with = "from_service")]
        table: Option<PathBuf>,
        /// Ask the service for what it has loaded for this site instead (compute records).
        #[arg(long)]
        from_service: bool,
        /// With --from-service: only what was loaded on this day (in site.timezone) or later.
        #[arg(long, value_name = "DATE", requires = "from_service")]
        since: Option<NaiveDate>,
        #[command(flatten)]
        decision: Decision,
        /// Write the counts as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Accept a ledger that was put back from a backup: what was sent since is not in it. Compute records are sent again and
    /// overwrite; what the service might add up is held (`restored`) until a person decides.
    Restored {
        #[command(flatten)]
        decision: Decision,
        /// Write the counts as JSON.
        #[arg(long)]
        json: bool,
    },
    /// From when on the runs of each resource are sent; or, with a resource, send what was withheld since an earlier date.
    GoLive {
        /// AMIE resource name.
        #[arg(requires = "from")]
        resource: Option<String>,
        /// What ended on this day or later is sent, when its source is read again; days begin at midnight in
        /// site.timezone.
        #[arg(long, value_name = "DATE", requires = "resource")]
        from: Option<NaiveDate>,
        #[command(flatten)]
        decision: Decision,
        /// Write the list as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write rows, events or quarantined texts for other programs.
    Export {
        /// What to write.
        #[arg(value_enum, default_value_t = Exported::Rows)]
        what: Exported,
        /// In which form.
        #[arg(long, value_enum, default_value_t = ExportForm::Csv)]
        format: ExportForm,
        /// Into this file instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Exported {
    /// Every row: identity, charge, state, what was sent and loaded.
    Rows,
    /// Everything that happened, in order.
    Events,
    /// Texts that could not be read.
    Quarantine,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExportForm {
    /// Comma-separated, with a header; nothing in it is taken for a formula.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

#[derive(Debug, Args)]
pub(crate) struct Failed {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(subcommand)]
    pub(crate) action: Option<FailedAction>,
    /// Write the list as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FailedAction {
    /// Send them again as they are: these, or all that failed with these words.
    Retry {
        /// Ledger keys.
        #[arg(conflicts_with_all = ["error", "all"])]
        keys: Vec<String>,
        /// All that failed with exactly these words.
        #[arg(long, value_name = "WORDS", conflicts_with = "all")]
        error: Option<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        decision: Decision,
    },
    /// Note in the ledger what the service shows as failed, then have the service forget it. Sends nothing again.
    Clear {
        /// Also failures of records that this ledger does not know.
        #[arg(long)]
        foreign: bool,
        /// Write the counts as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReportPage {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Where to write it.
    #[arg(value_name = "FILE", default_value = "report.html")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Ledger keys, as `held` lists them.
    #[arg(required = true)]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) decision: Decision,
}

#[derive(Debug, Args)]
#[command(after_long_help = format!("Faults:\n{}", usage_sandbox::fault::SYNTAX))]
pub(crate) struct Sandbox {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Accept only this site name.
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// Accept only the key in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Know only these users, projects, resources and allocations (TOML); records of others fail when they are loaded.
    #[arg(long, value_name = "FILE")]
    pub(crate) known: Option<PathBuf>,
    /// Milliseconds from the receipt of a record to its load.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub(crate) load_delay: u64,
    /// Answer 413 to a longer body.
    #[arg(long, default_value_t = 256 * 1024, value_name = "BYTES")]
    pub(crate) max_body: usize,
    /// Answer 413 to a message of more records.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) max_records: usize,
    /// Refuse records in which a field has a value: FIELD=VALUE=MESSAGE.
    #[arg(long, value_name = "RULE")]
    pub(crate) refuse: Vec<String>,
    /// Accept such records, but fail to load them: FIELD=VALUE=MESSAGE.
    #[arg(long, value_name = "RULE")]
    pub(crate) fail_load: Vec<String>,
    /// Go wrong on purpose, for example `html:503@post*2` (--help lists all faults).
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Vec<String>,
    /// Which calls faults by probability strike: the same number and calls, the same faults.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// Keep the state in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Add compute records of the same identity instead of overwriting them.
    #[arg(long)]
    pub(crate) add: bool,
    /// Overwrite storage and adjustment records of the same identity instead of adding them.
    #[arg(long)]
    pub(crate) overwrite_others: bool,
    /// Return charges rounded to this many places, as a service with a fixed column does.
    #[arg(long, value_name = "N")]
    pub(crate) charge_places: Option<usize>,
    /// Return charges as JSON numbers instead of strings.
    #[arg(long)]
    pub(crate) charges_as_numbers: bool,
}
