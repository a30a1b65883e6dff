//! `explain`: why a job's charge is what it is, from the source's text to the last answer of the API.

use crate::cli;
use crate::present::{Failure, escape, heading, say};
use mapper::Explanation;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::explain::{Fate, Known, Sighted, in_ledger, in_quarantine, in_sources};
use runner::ledger::{LedgerError, Quarantined, Row};
use runner::plan::plan;
use std::io::{self, IsTerminal};

pub(crate) fn explain(args: &cli::Explain) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    let id = match (&args.project, &args.id) {
        (Some(project), _) => return super::statement::statement(&config, args, project),
        (None, Some(id)) => id,
        (None, None) => return Err(Failure::Usage("name a job, or a --project".to_owned())),
    };
    let planned = plan(&config, None, &[])?;
    let ledger = match config.ledger.may_exist().then(|| config.ledger.open_reader()).transpose() {
        Err(LedgerError::Missing { .. }) => None,
        opened => opened?,
    };
    let ledger = ledger.as_deref();
    ledger.into_iter().for_each(super::say_if_older);
    let (sighted, problems) = in_sources(&config, &planned, ledger, id);
    let (mut known, mut quarantined) = (Vec::new(), Vec::new());
    if let Some(ledger) = ledger {
        known = in_ledger(&config, ledger, id)?;
        quarantined = in_quarantine(ledger, id)?;
    }
    // What the sources still say is shown as they say it.
    let in_sources = |file: &str, line: u64| sighted.iter().any(|one| one.file == file && one.line == line);
    quarantined.retain(|text| !in_sources(&text.file, text.line));
    for known in &mut known {
        known.kept = known.kept.take_if(|kept| !sighted.iter().any(|one| is_of(one, kept.key.as_str())));
    }
    for problem in &problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    if args.json {
        let value = serde_json::json!({
            "id": id,
            "sources": sighted.iter().map(sighted_json).collect::<Vec<_>>(),
            "ledger": known.iter().map(known_json).collect::<Vec<_>>(),
            "quarantined": quarantined.iter().map(|text| serde_json::json!({
                "file": text.file, "line": text.line, "reason": text.reason, "detail": text.detail,
                "text": shown(&text.text),
            })).collect::<Vec<_>>(),
        });
        println!("{value}");
    } else {
        print!("{}", text(&sighted, &known, &quarantined));
    }
    if sighted.is_empty() && known.is_empty() && quarantined.is_empty() {
        say(format_args!(
            "nothing is known of \"{}\": neither the sources' files nor the ledger have it. Give a job id, a LocalRecordID or a ledger key",
            escape(id)
        ));
        return Ok(Exit::Attention);
    }
    Ok(Exit::Well)
}

/// True where a frame of the sources is the run of this key.
fn is_of(one: &Sighted, key: &str) -> bool {
    matches!(&one.fate, Fate::Run(explanation) if explanation.key.as_str() == key)
}

/// At most 8 KiB of a text.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..8 << 10).unwrap_or(text)).into_owned()
}

fn text(sighted: &[Sighted], known: &[Known], quarantined: &[Quarantined]) -> String {
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
        text += &standing(row);
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
        for refund in &known.refunds {
            let charge = refund.charge().map_or_else(String::new, |charge| charge.to_string());
            text += &format!("  refunded  {charge}, {}: {}\n", refund.state, escape(&refund.key));
        }
        if let Some(kept) = &known.kept {
            text += "  the input is gone; of the run that was kept, today's rules make:\n";
            for line in escape(&kept.to_string()).lines() {
                text += &format!("    {line}\n");
            }
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
    for bad in quarantined {
        let title = format!("quarantined: {}:{}", escape(&bad.file), bad.line);
        text += &format!("{}\n", heading(&title, terminal));
        text += &format!("  {}\n", escape(&shown(&bad.text)).replace('\n', "\\n"));
        text += &format!("  {}: {}\n\n", bad.reason, escape(&bad.detail));
    }
    text
}

/// Where a row stands with the service: identity, what was sent when, what the service shows.
fn standing(row: &Row) -> String {
    let mut text = String::new();
    if let Some(wanted) = &row.wanted {
        let id = &wanted.identity;
        let frozen = if row.frozen() { "; frozen, for the service may hold it" } else { "" };
        text += &format!(
            "  identity  {} on {}, submitted {}{frozen}\n",
            escape(&id.local_record_id),
            escape(&id.resource),
            clock::show(id.submit)
        );
        text += &format!(
            "  charge    {} to {}, {}\n",
            wanted.charge,
            escape(&wanted.project),
            escape(&wanted.username)
        );
    }
    if let Some(sent) = &row.sent {
        let again = if sent.last_at > sent.first_at {
            format!(", last {}", clock::show(sent.last_at))
        } else {
            String::new()
        };
        text += &format!(
            "  sent      version {} with charge {}, first {}{again}\n",
            sent.version,
            sent.charge,
            clock::show(sent.first_at)
        );
    }
    if let Some((at, charge)) = row.loaded {
        text += &format!("  loaded    {} with charge {charge}, as the service shows it\n", clock::show(at));
    }
    if let Some(error) = &row.error {
        text += &format!("  refused   {}\n", escape(error).replace('\n', " "));
    }
    if row.drifted {
        text += "  drifted   today's rules or tables would charge it otherwise (`amie-runner restate`)\n";
    }
    text
}

fn sighted_json(one: &Sighted) -> serde_json::Value {
    let mut value = serde_json::json!({
        "source": one.source, "file": one.file, "line": one.line, "text": one.text,
    });
    let (name, fate) = match &one.fate {
        Fate::Run(explanation) => ("explanation", explanation_json(explanation)),
        Fate::Informational(what) => ("informational", serde_json::json!(what)),
        Fate::Quarantined(reason) => ("quarantined", serde_json::json!(reason)),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert(name.to_owned(), fate);
    }
    value
}

fn explanation_json(explanation: &Explanation) -> serde_json::Value {
    serde_json::json!({
        "key": explanation.key.as_str(),
        "sections": explanation.sections.iter().map(|section| serde_json::json!({
            "title": section.title,
            "lines": section.lines.iter().map(|line| serde_json::json!({
                "label": line.label, "text": line.text,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn known_json(known: &Known) -> serde_json::Value {
    let payload =
        known.payload.as_deref().and_then(|text| serde_json::from_slice::<serde_json::Value>(text).ok());
    let row = &known.row;
    serde_json::json!({
        "key": row.key,
        "usage_type": row.usage_type,
        "state": row.state.to_string(),
        "version": row.version,
        "identity": row.wanted.as_ref().map(|wanted| serde_json::json!({
            "resource": wanted.identity.resource.as_ref(),
            "local_record_id": wanted.identity.local_record_id,
            "submit": wanted.identity.submit,
            "frozen": row.frozen(),
        })),
        "project": row.wanted.as_ref().map(|wanted| wanted.project.as_ref()),
        "username": row.wanted.as_ref().map(|wanted| wanted.username.as_ref()),
        "charge": row.wanted.as_ref().map(|wanted| wanted.charge),
        "sent": row.sent.map(|sent| serde_json::json!({
            "version": sent.version, "charge": sent.charge, "first": sent.first_at, "last": sent.last_at,
        })),
        "loaded": row.loaded.map(|(at, charge)| serde_json::json!({ "at": at, "charge": charge })),
        "error": row.error,
        "drifted": row.drifted,
        "refunds": known.refunds.iter().map(|refund| serde_json::json!({
            "key": refund.key, "state": refund.state.to_string(), "charge": refund.charge(),
        })).collect::<Vec<_>>(),
        "explanation": known.kept.as_ref().map(explanation_json),
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
