//! `run`: the nightly run, or with `--dry-run` the exact messages that it would send.

use crate::cli;
use crate::present::{self, Failure, escape, say};
use amie_usage::Cancel;
use runner::clock;
use runner::config::{Api, Config, ConfigError};
use runner::dry_run::dry_run;
use runner::exit::Exit;
use runner::nightly::{self, NightError};
use runner::plan::{Planned, plan};
use runner::report::Report;
use runner::signals::StopRequests;
use runner::summary::{Summary, write_whole};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

pub(crate) fn run(args: &cli::Run) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    for warning in &config.warnings {
        say(format_args!("warning: {}", escape(warning)));
    }
    let planned = plan(&config, args.source.as_deref(), &[])?;
    note_empty_patterns(&planned);
    let api = api(&config)?;
    if args.dry_run {
        return print_messages(&config, &planned, api);
    }
    let key = nightly::api_key(&api.key).map_err(Failure::Usage)?;
    let client = nightly::client(&config, api, key).map_err(Failure::Usage)?;
    let mut ledger = nightly::open_ledger(&config, &api.url)?;
    let night = super::runtime()?.block_on(async {
        let cancel = stop_on_signal();
        let wait = Duration::from_secs(args.wait);
        nightly::night(&config, &planned, api, &client, ledger.as_mut(), wait, &cancel).await
    });
    let night = night.map_err(night_failure)?;
    say(present::night(&night).trim_end());
    if args.json {
        println!("{}", Summary::new(&config, &night.collected.tally, Some(&night.totals)).json());
    }
    if let Some(path) = &args.summary {
        Summary::new(&config, &night.collected.tally, Some(&night.totals))
            .write(path)
            .map_err(|error| Failure::file(path, error))?;
    }
    if let Some(path) = &args.report {
        write_report(path, &config, &api.url, &night)?;
    }
    let exit = night.exit();
    // After an outage the exit status spoke of that: what needs a person is new again next time.
    if matches!(exit, Exit::Well | Exit::Attention) {
        ledger.mark_reported(&night.news)?;
    }
    Ok(exit)
}

/// Says which patterns mean no file today.
pub(crate) fn note_empty_patterns(planned: &[Planned<'_>]) {
    for planned in planned {
        for pattern in &planned.files.empty_patterns {
            say(format_args!("note: {}: no file matches {}", planned.source.name, escape(pattern)));
        }
    }
}

/// The `[api]` table, which sending needs.
pub(crate) fn api(config: &Config) -> Result<&Api, Failure> {
    config.api.as_ref().ok_or_else(|| {
        ConfigError::plain(format!("{}: there is no [api] table, which sending needs", config.path.display()))
            .help("add [api] with url and key_file; `transform` works without")
            .into()
    })
}

pub(crate) fn night_failure(error: NightError) -> Failure {
    match error {
        NightError::Ledger(error) => Failure::Ledger(error),
        NightError::Client(text) => Failure::Usage(text),
        NightError::Imbalance(error) => Failure::Imbalance(error),
    }
}

/// Cancels when the process is asked to stop, and ends it when it is asked again; call it inside the runtime.
pub(crate) fn stop_on_signal() -> Cancel {
    let cancel = Cancel::new();
    let told = cancel.clone();
    tokio::spawn(async move {
        let mut requests = StopRequests::new();
        requests.next().await;
        say("stopping: what is in flight is finished and recorded first; once more stops at once");
        told.cancel();
        requests.next().await;
        say("stopped: what was in flight may have arrived, and the next run sees to it");
        // Nothing is to be tidied up: the ledger stands whatever ends this process.
        #[allow(clippy::exit, reason = "whoever asks twice does not want to wait")]
        std::process::exit(i32::from(Exit::Unreachable.code()));
    });
    cancel
}

/// Writes the report page of a night.
pub(crate) fn write_report(
    path: &Path,
    config: &Config,
    endpoint: &str,
    night: &nightly::Night,
) -> Result<(), Failure> {
    let remarks = present::remarks(night);
    let report = Report {
        site: &config.site,
        endpoint,
        at: clock::now(),
        tally: Some(&night.collected.tally),
        totals: &night.totals,
        items: &night.items,
        remarks: &remarks,
        tables: &config.tables,
    };
    write_whole(path, report.html().as_bytes()).map_err(|error| Failure::file(path, error))
}

fn print_messages(config: &Config, planned: &[Planned<'_>], api: &Api) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let planned_run = dry_run(config, planned, api, |body| {
        out.write_all(body).and_then(|()| out.write_all(b"\n")).map_err(Failure::stdout)
    });
    let outcome = planned_run.map_err(|error| match error {
        runner::dry_run::DryRunError::Night(error) => night_failure(error),
        runner::dry_run::DryRunError::Emit(failure) => failure,
    })?;
    out.flush().map_err(Failure::stdout)?;
    say(present::laws(&outcome.collected.tally).trim_end());
    say(format_args!(
        "dry run: {} message(s) with {} record(s) would be sent; nothing was sent, nothing was written",
        outcome.messages, outcome.records
    ));
    if let Some(older) = &outcome.older {
        say(format_args!("warning: a run would be refused: {}", escape(&older.to_string())));
    }
    for problem in &outcome.collected.remarks.problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    let attention = outcome.ingested.held + outcome.ingested.quarantined > 0
        || !outcome.collected.remarks.problems.is_empty();
    Ok(if attention { Exit::Attention } else { Exit::Well })
}
