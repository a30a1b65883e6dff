//! `explain`: why a job's charge is what it is, from the source's text to the last answer of the API.

use crate::cli;
use crate::present::{Failure, escape, heading, say};
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::explain::{Fate, Known, Sighted, in_ledger, in_sources};
use runner::ledger::{Ledger, SqliteLedger};
use runner::plan::plan;
use std::io::{self, IsTerminal};

pub(crate) fn explain(args: &cli::Explain) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    let planned = plan(&config, None, &[])?;
    let ledger = if config.ledger.exists() { Some(SqliteLedger::open_reader(&config.ledger)?) } else { None };
    let ledger = ledger.as_ref().map(|ledger| ledger as &dyn Ledger);
    let (sighted, problems) = in_sources(&config, &planned, ledger, &args.id);
    let known = match ledger {
        Some(ledger) => in_ledger(ledger, &args.id)?,
        None => Vec::new(),
    };
    for problem in &problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    if args.json {
        let value = serde_json::json!({
            "id": args.id,
            "sources": sighted.iter().map(sighted_json).collect::<Vec<_>>(),
            "ledger": known.iter().map(known_json).collect::<Vec<_>>(),
        });
        println!("{value}");
    } else {
        print!("{}", text(&sighted, &known));
    }
    if sighted.is_empty() && known.is_empty() {
        say(format_args!(
            "nothing is known of \"{}\": neither the sources' files nor the ledger have it. Give a job id, a LocalRecordID or a ledger key",
            escape(&args.id)
        ));
        return Ok(Exit::Attention);
    }
    Ok(Exit::Well)
}

fn text(sighted: &[Sighted], known: &[Known]) -> String {
    let terminal = io::stdout().is_terminal();
    let mut text = String::new();
    for one in sighted {
        text += &format!(
            "{}\n",
            heading(&format!("{}:{} ({})", escape(&one.file), one.line, one.source), terminal)
        );
        text += &format!("  {}\n", escape(&one.text).replace('\n', "\\n"));
        match &one.fate {
            Fate::Run(explanation) => {
                for line in escape(&explanation.to_string()).lines() {
                    text += &format!("  {line}\n");
                }
            }
            Fate::Informational(what) => text += &format!("  {what}\n"),
            Fate::Quarantined(reason) => text += &format!("  quarantined: {}\n", escape(reason)),
        }
        text.push('\n');
    }
    for known in known {
        let row = &known.row;
        text += &format!("{}\n", heading(&format!("ledger: {}", escape(&row.key)), terminal));
        text += &format!("  state     {}, version {}\n", row.state, row.version);
        if let Some(hold) = &known.hold {
            let open = if hold.closed.is_some() { "was held" } else { "held" };
            text += &format!("  {open:<9} {}: {}\n", hold.reason, escape(&hold.detail).replace('\n', " "));
            if let Some(closed) = &hold.closed {
                text += &format!(
                    "            {} {} by {}: {}\n",
                    clock::show(closed.at),
                    closed.how,
                    escape(&closed.by),
                    escape(&closed.why)
                );
            }
        }
        if let Some(payload) = &known.payload {
            text += &format!("  record    {}\n", escape(&String::from_utf8_lossy(payload)));
        }
        for entry in &known.history {
            let version = entry.version.map_or_else(String::new, |version| format!(" v{version}"));
            let by = entry.by.as_deref().map_or_else(String::new, |by| format!(" by {}", escape(by)));
            let line = format!(
                "  {}  {}{version}{by}  {}",
                clock::show(entry.at),
                entry.what.as_str(),
                escape(&entry.detail).replace('\n', " ")
            );
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn sighted_json(one: &Sighted) -> serde_json::Value {
    let mut value = serde_json::json!({
        "source": one.source, "file": one.file, "line": one.line, "text": one.text,
    });
    let (name, fate) = match &one.fate {
        Fate::Run(explanation) => (
            "explanation",
            serde_json::json!({
                "key": explanation.key.as_str(),
                "sections": explanation.sections.iter().map(|section| serde_json::json!({
                    "title": section.title,
                    "lines": section.lines.iter().map(|line| serde_json::json!({
                        "label": line.label, "text": line.text,
                    })).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
            }),
        ),
        Fate::Informational(what) => ("informational", serde_json::json!(what)),
        Fate::Quarantined(reason) => ("quarantined", serde_json::json!(reason)),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert(name.to_owned(), fate);
    }
    value
}

fn known_json(known: &Known) -> serde_json::Value {
    let payload =
        known.payload.as_deref().and_then(|text| serde_json::from_slice::<serde_json::Value>(text).ok());
    serde_json::json!({
        "key": known.row.key,
        "state": known.row.state.to_string(),
        "version": known.row.version,
        "record": payload,
        "hold": known.hold.as_ref().map(|hold| serde_json::json!({
            "reason": hold.reason,
            "detail": hold.detail,
            "open": hold.closed.is_none(),
            "closed": hold.closed.as_ref().map(|closed| serde_json::json!({
                "at": closed.at, "how": closed.how, "by": closed.by, "why": closed.why,
            })),
        })),
        "history": known.history.iter().map(|entry| serde_json::json!({
            "at": entry.at, "what": entry.what.as_str(), "version": entry.version,
            "batch": entry.batch.map(|batch| batch.0), "by": entry.by, "detail": entry.detail,
        })).collect::<Vec<_>>(),
    })
}
