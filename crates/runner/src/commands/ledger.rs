//! `ledger`: the ledger itself, for those who keep it: verified, exported.

use crate::cli::{ExportForm, Exported, LedgerAction, LedgerArgs};
use crate::present::{Failure, escape, say};
use runner::config::Config;
use runner::exit::Exit;
use runner::export::{ExportError, Form, Subject, export};
use runner::ledger::{Fault, Ledger};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub(crate) fn ledger(args: &LedgerArgs) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    match &args.action {
        LedgerAction::Verify { json } => verify(&config, *json),
        LedgerAction::Export { what, format, output } => write(&config, *what, *format, output.as_deref()),
    }
}

fn verify(config: &Config, json: bool) -> Result<Exit, Failure> {
    let ledger = super::reader(config)?;
    let faults = ledger.verify()?;
    let totals = ledger.totals()?;
    let rows: u64 = totals.states.values().sum();
    if json {
        let list: Vec<_> = faults
            .iter()
            .map(|Fault { about, what }| serde_json::json!({ "about": about, "what": what }))
            .collect();
        println!("{}", serde_json::json!({ "rows": rows, "sound": faults.is_empty(), "faults": list }));
    } else if faults.is_empty() {
        println!("{}: sound; {rows} rows, each with its history", config.ledger.display());
    } else {
        for Fault { about, what } in &faults {
            println!("{}: {}", escape(about), escape(what));
        }
    }
    if faults.is_empty() {
        return Ok(Exit::Well);
    }
    say(format_args!(
        "{}: {} fault(s). Stop, keep the file as it is, and restore a backup; or report it with what is above",
        config.ledger.display(),
        faults.len()
    ));
    Ok(Exit::Attention)
}

fn write(
    config: &Config,
    what: Exported,
    format: ExportForm,
    output: Option<&Path>,
) -> Result<Exit, Failure> {
    let ledger = super::reader(config)?;
    let subject = match what {
        Exported::Rows => Subject::Rows,
        Exported::Events => Subject::Events,
        Exported::Quarantine => Subject::Quarantine,
    };
    let form = match format {
        ExportForm::Csv => Form::Csv,
        ExportForm::Ndjson => Form::Ndjson,
    };
    let failed = |error| match output {
        Some(path) => Failure::file(path, error),
        None => Failure::stdout(error),
    };
    let mut out: Box<dyn Write> = match output {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(failed)?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let lines = export(&ledger, subject, form, &mut out).map_err(|error| match error {
        ExportError::Ledger(error) => Failure::Ledger(error),
        ExportError::Output(error) => failed(error),
    })?;
    if let Some(path) = output {
        say(format_args!("{}: {lines} line(s)", path.display()));
    }
    Ok(Exit::Well)
}
