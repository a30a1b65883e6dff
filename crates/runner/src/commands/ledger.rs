//! `ledger`: the ledger itself, for those who keep it: verified, exported.

use crate::cli::{Decision, ExportForm, Exported, LedgerAction, LedgerArgs};
use crate::present::{self, Failure, escape, say};
use chrono::NaiveDate;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::export::{ExportError, Form, Subject, export};
use runner::ledger::{Fault, GoLive, Ledger, LedgerError, Person};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub(crate) fn ledger(args: &LedgerArgs) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    match &args.action {
        LedgerAction::Verify { json } => verify(&config, *json),
        LedgerAction::GoLive { resource: Some(resource), from: Some(from), decision, .. } => {
            go_live(&config, resource, *from, decision)
        }
        LedgerAction::GoLive { json, .. } => list_go_live(&config, *json),
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

/// What is in force for every resource that the configuration or the ledger names.
pub(super) fn go_lives(config: &Config, ledger: &dyn Ledger) -> Result<Vec<GoLive>, LedgerError> {
    let totals = ledger.totals()?;
    let known = totals.charges.iter().map(|total| total.resource.to_string());
    let resources: BTreeSet<String> = config.go_live.keys().cloned().chain(known).collect();
    let mut all = Vec::new();
    for resource in resources {
        let configured = config.go_live.get(&resource).copied();
        let in_force = ledger.go_live(&resource)?.filter(|time| *time != NEVER_EARLY);
        if configured.or(in_force).is_some() {
            let in_force = in_force.max(configured).unwrap_or(NEVER_EARLY);
            all.push(GoLive { resource, configured: configured.unwrap_or(NEVER_EARLY), in_force });
        }
    }
    Ok(all)
}

/// Before all time: nothing is too early.
const NEVER_EARLY: i64 = i64::MIN;

fn list_go_live(config: &Config, json: bool) -> Result<Exit, Failure> {
    let all = go_lives(config, &super::reader(config)?)?;
    let time = |epoch: i64| (epoch != NEVER_EARLY).then(|| clock::show(epoch));
    if json {
        let list: Vec<_> = all
            .iter()
            .map(|one| {
                serde_json::json!({
                    "resource": one.resource,
                    "configured": time(one.configured),
                    "in_force": time(one.in_force),
                })
            })
            .collect();
        println!("{}", serde_json::json!({ "go_live": list }));
    } else if all.is_empty() {
        println!("no resource has a go-live: everything is sent, however old");
    } else {
        let cell = |epoch| time(epoch).unwrap_or_else(|| "-".to_owned());
        let rows = all
            .iter()
            .map(|one| vec![one.resource.clone(), cell(one.configured), cell(one.in_force)])
            .collect();
        print!("{}", present::table(&["resource", "configured", "in force"], &[], rows));
    }
    for text in all.iter().filter_map(present::go_live_text) {
        say(escape(&text));
    }
    let behind = all.iter().any(|one| one.configured < one.in_force);
    Ok(if behind { Exit::Attention } else { Exit::Well })
}

fn go_live(config: &Config, resource: &str, from: NaiveDate, decision: &Decision) -> Result<Exit, Failure> {
    let (by, why) = super::decision(decision)?;
    let Some(time) = clock::day_begins(from, config.timezone) else {
        return Err(Failure::Usage(format!("{from} is no day in {}", config.timezone)));
    };
    if config.go_live.get(resource).is_some_and(|configured| *configured > time) {
        return Err(Failure::Usage(format!(
            "{}: go_live of {} is later than {from}, and the next run would go by it: change it first",
            config.path.display(),
            escape(resource)
        )));
    }
    let mut ledger = super::writer(config)?;
    ledger.set_go_live(resource, Some(time), Person { by: &by, why: &why }, clock::now())?;
    println!("what ended on {from} or later is sent when its source is read again");
    Ok(Exit::Well)
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
