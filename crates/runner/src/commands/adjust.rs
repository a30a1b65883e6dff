//! `adjust`: credits, refunds, debits and reservations, previewed; with `--approve`, the next run sends them.

use crate::cli;
use crate::present::{self, Failure, escape, heading, say};
use amie_usage::Decimal;
use runner::adjusting::{CompletionError, Request, RequestError, charge, complete, kind, read_csv, start};
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{Adjustment, AdjustmentVerdict, LedgerError, Person};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;

pub(crate) fn adjust(args: &cli::Adjust) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    if !args.withdraw.is_empty() {
        return withdraw(args, &config);
    }
    let requests = match requests(args, &config) {
        Ok(requests) => requests,
        Err(errors) => return Ok(refused(&errors)),
    };
    let decision = if args.approve { Some(super::decision(&args.decision)?) } else { None };
    let ledger = super::reader(&config)?;
    let adjustments = match complete(&config, ledger.as_ref(), &requests) {
        Ok(adjustments) => adjustments,
        Err(CompletionError::Requests(errors)) => return Ok(refused(&errors)),
        Err(CompletionError::Ledger(error)) => return Err(error.into()),
    };
    let verdicts = ledger.judge_adjustments(&adjustments)?;
    drop(ledger);
    let good = verdicts.iter().all(AdjustmentVerdict::is_good);
    let mut taken = None;
    if let Some((by, why)) = decision.filter(|_| good) {
        let person = Person { by: &by, why: &why };
        taken = Some(super::writer(&config)?.adjust(&adjustments, person, clock::now())?);
    }
    if args.json {
        println!("{}", as_json(&requests, &adjustments, &verdicts, taken)?);
    } else {
        print!("{}", text(&requests, &adjustments, &verdicts, taken)?);
    }
    if !good {
        say("nothing was changed: all of them are taken in, or none");
        return Ok(Exit::Usage);
    }
    let waits = taken.is_none() && !args.dry_run && verdicts.contains(&AdjustmentVerdict::New);
    Ok(if waits { Exit::Attention } else { Exit::Well })
}

fn withdraw(args: &cli::Adjust, config: &Config) -> Result<Exit, Failure> {
    let (by, why) = super::decision(&args.decision)?;
    let person = Person { by: &by, why: &why };
    let done = super::writer(config)?.withdraw(&args.withdraw, person, clock::now())?;
    println!("{done} withdrawn");
    Ok(Exit::Well)
}

fn refused(errors: &[RequestError]) -> Exit {
    for error in errors.iter().take(50) {
        say(format_args!("amie-runner: {}", escape(&error.to_string())));
    }
    if errors.len() > 50 {
        say(format_args!("amie-runner: and {} more", errors.len() - 50));
    }
    say("nothing was changed: all of them are taken in, or none");
    Exit::Usage
}

fn requests(args: &cli::Adjust, config: &Config) -> Result<Vec<Request>, Vec<RequestError>> {
    if let Some(path) = &args.csv {
        return read_csv(path, config.timezone);
    }
    let single = || -> Result<Request, String> {
        Ok(Request {
            kind: kind(args.kind.as_deref().unwrap_or_default())?,
            charge: charge(args.charge.as_deref().unwrap_or_default())?,
            run: args.run.clone(),
            resource: args.resource.clone(),
            project: args.project.clone(),
            username: args.username.clone(),
            start: args.start.as_deref().map(|text| start(text, config.timezone)).transpose()?,
            comment: args.comment.clone(),
            id: args.id.clone(),
            file: Arc::from(""),
            line: 0,
        })
    };
    single().map(|request| vec![request]).map_err(|why| vec![RequestError { place: String::new(), why }])
}

/// Type and resource -> how many are new, and their charge.
type Sums = BTreeMap<(&'static str, String), (u64, Decimal)>;

/// What is new.
fn sums(
    requests: &[Request],
    adjustments: &[Adjustment],
    verdicts: &[AdjustmentVerdict],
) -> Result<Sums, LedgerError> {
    let mut sums = BTreeMap::new();
    let all = requests.iter().zip(adjustments).zip(verdicts);
    for ((request, adjustment), _) in all.filter(|(_, verdict)| **verdict == AdjustmentVerdict::New) {
        let place = (request.kind.as_str(), adjustment.resource.to_string());
        let (count, sum) = sums.entry(place).or_insert((0, Decimal::ZERO));
        *count += 1;
        *sum = Decimal::checked_add(*sum, adjustment.charge).ok_or(LedgerError::ChargeOverflow)?;
    }
    Ok(sums)
}

fn as_json(
    requests: &[Request],
    adjustments: &[Adjustment],
    verdicts: &[AdjustmentVerdict],
    taken: Option<u64>,
) -> Result<serde_json::Value, LedgerError> {
    let list: Vec<_> = requests
        .iter()
        .zip(adjustments)
        .zip(verdicts)
        .map(|((request, adjustment), verdict)| {
            json!({
                "line": request.line,
                "key": adjustment.key,
                "type": request.kind,
                "charge": adjustment.charge,
                "resource": adjustment.resource.as_ref(),
                "project": adjustment.project.as_ref(),
                "username": adjustment.username.as_ref(),
                "start": adjustment.start,
                "local_record_id": adjustment.local_record_id,
                "refunds": adjustment.refunds,
                "comment": request.comment,
                "verdict": verdict.as_str(),
                "detail": verdict.to_string(),
            })
        })
        .collect();
    let new: Vec<_> = sums(requests, adjustments, verdicts)?
        .into_iter()
        .map(|((kind, resource), (count, charge))| {
            json!({ "type": kind, "resource": resource, "adjustments": count, "charge": charge })
        })
        .collect();
    Ok(json!({ "adjustments": list, "new": new, "approved": taken.is_some(), "taken": taken }))
}

fn text(
    requests: &[Request],
    adjustments: &[Adjustment],
    verdicts: &[AdjustmentVerdict],
    taken: Option<u64>,
) -> Result<String, LedgerError> {
    let rows = requests.iter().zip(adjustments).zip(verdicts).map(|((request, adjustment), verdict)| {
        vec![
            if request.line > 0 { request.line.to_string() } else { String::new() },
            request.kind.to_string(),
            adjustment.resource.to_string(),
            adjustment.project.to_string(),
            adjustment.username.to_string(),
            adjustment.charge.to_string(),
            clock::show(adjustment.start),
            adjustment.refunds.clone().unwrap_or_default(),
            verdict.to_string(),
        ]
    });
    let header = ["line", "type", "resource", "project", "user", "charge", "start", "refunds", ""];
    let mut text = format!("{}\n", heading("Adjustments", io::stdout().is_terminal()));
    text += &present::table(&header, &[0, 5], rows.collect());
    let sums = sums(requests, adjustments, verdicts)?;
    for ((kind, resource), (count, charge)) in &sums {
        text += &format!("  {count} new {kind}: {charge} on {}\n", escape(resource));
    }
    text += &match taken {
        Some(taken) => format!("{taken} taken in; the next run sends them\n"),
        None if sums.is_empty() => "nothing is new\n".to_owned(),
        None => {
            "nothing was changed; --approve --reason '...' has the next run send what is new\n".to_owned()
        }
    };
    Ok(text)
}
