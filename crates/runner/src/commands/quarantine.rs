//! `quarantine`: texts that could not be read; listed, read again, dismissed.

use crate::cli::{self, Decision, QuarantineAction};
use crate::present::{self, Failure, escape, say};
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{Ledger, NOT_THERE_ANY_MORE, Person, Quarantined};
use runner::quarantine::{RetryError, retry};

pub(crate) fn quarantine(args: &cli::Quarantine) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    match &args.action {
        None => list(args, super::reader(&config)?.as_ref()),
        Some(QuarantineAction::Retry { ids, json }) => try_again(&config, ids, *json),
        Some(QuarantineAction::Dismiss { ids, decision }) => dismiss(&config, ids, decision),
    }
}

fn list(args: &cli::Quarantine, ledger: &dyn Ledger) -> Result<Exit, Failure> {
    let (mut after, mut count, mut rows) = (0, 0_u64, Vec::new());
    loop {
        let page = ledger.quarantined(after, 200)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for text in page {
            if args.reason.as_ref().is_some_and(|reason| *reason != text.reason) {
                continue;
            }
            count += 1;
            if args.json {
                println!("{}", json(&text));
            } else {
                let place = format!("{}:{}", text.file, text.line);
                rows.push(vec![text.id.to_string(), text.reason, place, excerpt(&text.text)]);
            }
        }
    }
    if !args.json {
        if rows.is_empty() {
            println!("nothing is quarantined");
        } else {
            print!("{}", present::table(&["id", "reason", "where", "text"], &[0], rows));
            say("put the file right and read it again: amie-runner quarantine retry\n\
                 or, where it is no usage:             amie-runner quarantine dismiss ID --reason '...'");
        }
    }
    Ok(if count == 0 { Exit::Well } else { Exit::Attention })
}

/// The beginning of a text, on one line.
fn excerpt(text: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text = String::from_utf8_lossy(text);
    let line: String = text.chars().take(SHOWN).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() { format!("{line}...") } else { line }
}

fn json(text: &Quarantined) -> serde_json::Value {
    serde_json::json!({
        "id": text.id,
        "source": text.source,
        "reason": text.reason,
        "detail": text.detail,
        "file": text.file,
        "line": text.line,
        "first_seen": text.first_seen,
        "last_seen": text.last_seen,
        "text": String::from_utf8_lossy(&text.text),
    })
}

fn dismiss(config: &Config, ids: &[i64], decision: &Decision) -> Result<Exit, Failure> {
    let (by, why) = super::decision(decision)?;
    let person = Person { by: &by, why: &why };
    let done = super::writer(config)?.close_quarantine(ids, person, clock::now())?;
    println!("{done} dismissed");
    let asked = ids.len() as u64;
    if done < asked {
        say(format_args!("{} of the numbers are not open; see `amie-runner quarantine`", asked - done));
        return Ok(Exit::Attention);
    }
    Ok(Exit::Well)
}

fn try_again(config: &Config, ids: &[i64], as_json: bool) -> Result<Exit, Failure> {
    let by = super::who(None);
    let person = Person { by: &by, why: NOT_THERE_ANY_MORE };
    let retried = retry(config, super::writer(config)?.as_mut(), ids, person, clock::now()).map_err(
        |error| match error {
            RetryError::Ledger(error) => Failure::Ledger(error),
            RetryError::Plan(error) => Failure::Plan(error),
        },
    )?;
    if as_json {
        let list = |texts: &[Quarantined]| texts.iter().map(|text| text.id).collect::<Vec<_>>();
        println!(
            "{}",
            serde_json::json!({
                "closed": list(&retried.read),
                "still": list(&retried.still),
                "not_tried": list(&retried.gone),
                "new_records": retried.records,
            })
        );
    } else {
        println!(
            "{} closed, {} still cannot be read; {} new record(s), to be sent by the next run",
            retried.read.len(),
            retried.still.len(),
            retried.records
        );
    }
    for text in &retried.gone {
        say(format_args!(
            "{}: {} cannot be read again: put the file back, or dismiss it",
            text.id,
            escape(&format!("{}:{}", text.file, text.line))
        ));
    }
    Ok(if retried.still.is_empty() && retried.gone.is_empty() { Exit::Well } else { Exit::Attention })
}
