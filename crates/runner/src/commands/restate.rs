//! `restate`: old and new charges of a period by today's rules; with `--approve`, the new ones are sent by the next run.

use crate::cli;
use crate::present::{self, Failure, escape, heading, say};
use amie_usage::Decimal;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{LedgerError, Person};
use runner::plan::plan;
use runner::restating::{Change, Period, Restatement, Scope, restate as restate_period};
use serde_json::{Value, json};
use std::io::{self, IsTerminal};

pub(crate) fn restate(args: &cli::Restate) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    let period = Period::of(args.from, args.to, config.timezone).ok_or_else(|| {
        Failure::Usage(format!("--to {} is not after --from {}: the period is empty", args.to, args.from))
    })?;
    let planned = plan(&config, args.source.as_deref(), &[])?;
    super::run::note_empty_patterns(&planned);
    let scope = Scope { period, project: args.project.as_deref(), older: args.older };
    let found = if args.approve {
        let (by, why) = super::decision(&args.decision)?;
        let person = Person { by: &by, why: &why };
        restate_period(&config, &planned, scope, super::writer(&config)?.as_mut(), Some(person))?
    } else {
        restate_period(&config, &planned, scope, super::reader(&config)?.as_mut(), None)?
    };
    for problem in &found.collected.remarks.problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    if args.json {
        println!("{}", as_json(args, period, &found)?);
    } else {
        print!("{}", text(args, period, &found)?);
    }
    let waits = !args.approve && !args.dry_run && found.records > 0;
    let partial = !found.collected.remarks.problems.is_empty();
    Ok(if waits || partial { Exit::Attention } else { Exit::Well })
}

fn difference(old: Decimal, new: Decimal) -> Result<Decimal, LedgerError> {
    new.checked_sub(old).ok_or(LedgerError::ChargeOverflow)
}

fn as_json(args: &cli::Restate, period: Period, found: &Restatement) -> Result<Value, Failure> {
    let (old, new) = found.totals()?;
    let mut value = serde_json::to_value(found).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("from".to_owned(), json!(period.from));
        object.insert("until".to_owned(), json!(period.until));
        object.insert("project".to_owned(), json!(args.project));
        object.insert("approved".to_owned(), json!(args.approve));
        object.insert("old".to_owned(), json!(old));
        object.insert("new".to_owned(), json!(new));
        object.insert("difference".to_owned(), json!(difference(old, new)?));
        object.insert("to_be_sent".to_owned(), json!(found.ingested.map(|ingested| ingested.restated)));
    }
    Ok(value)
}

fn text(args: &cli::Restate, period: Period, found: &Restatement) -> Result<String, Failure> {
    let terminal = io::stdout().is_terminal();
    let title = format!(
        "Charges by today's rules, of runs from {} until {}",
        clock::show(period.from),
        clock::show(period.until)
    );
    let mut text = format!("{}\n", heading(&title, terminal));
    let mut rows = Vec::new();
    let row = |resource: &str, project: &str, change: &Change| -> Result<Vec<String>, LedgerError> {
        Ok(vec![
            resource.to_owned(),
            project.to_owned(),
            change.records_old.to_string(),
            change.old.to_string(),
            change.records_new.to_string(),
            change.new.to_string(),
            difference(change.old, change.new)?.to_string(),
        ])
    };
    for (resource, projects) in &found.changes {
        for (project, change) in projects {
            rows.push(row(resource, project, change)?);
        }
    }
    if found.records > 0 {
        let (old, new) = found.totals()?;
        let (records_old, records_new) = (found.records, found.records);
        rows.push(row("", "total", &Change { records_old, old, records_new, new })?);
        let header = ["resource", "project", "records", "old", "records", "new", "difference"];
        text += &present::table(&header, &[2, 3, 4, 5, 6], rows);
        for example in &found.examples {
            text += &format!("  {}: {} -> {}\n", escape(&example.key), example.old, example.new);
        }
        if found.records > found.examples.len() as u64 {
            text += "  ...\n";
        }
    }
    let records = found.records;
    text += &match (records, args.approve) {
        (0, _) => "  nothing that was sent would be charged otherwise\n".to_owned(),
        (_, false) => format!("  {records} record(s) would change\n"),
        (_, true) => format!("  {records} record(s) change; the next run sends them\n"),
    };
    let counts = [
        (
            found.identities,
            "get another identity: zero is sent under the old one and must be loaded before the new one goes",
        ),
        (found.skipped, "are skipped by today's rules, and so charged zero"),
        (found.unchanged, "stay as they are"),
        (found.not_sent, "are not with the service yet, and follow the rules by themselves"),
        (found.new, "are new, and taken in by the next run"),
        (found.refunded, "were refunded, and stay as they are: correct them by another adjustment"),
        (
            found.source_changed.saturating_sub(found.outdated),
            "changed in the source since: the next run sees to that",
        ),
        (found.outdated, "are older versions of what is known, and left alone; --older takes them up"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!("  {count} {what}\n");
    }
    if !found.held.is_empty() {
        text +=
            &format!("  held by today's rules, and left as they are: {}\n", present::reasons(&found.held));
    }
    if records > 0 && !args.approve {
        text += "nothing was changed; --approve --reason '...' has the next run send the new charges\n";
    }
    Ok(text)
}
