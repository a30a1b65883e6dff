//! `explain --project`: a statement for a complaint, line by line, with exact sums.

use crate::cli;
use crate::present::{Failure, escape, heading, say};
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::Ledger;
use runner::restating::Period;
use runner::statement::{Line, Query, Sum, Totals, statement as make};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

pub(super) fn statement(config: &Config, args: &cli::Explain, project: &str) -> Result<Exit, Failure> {
    let period = match (args.from, args.to) {
        (None, None) => None,
        (Some(from), Some(to)) => Some(Period::of(from, to, config.timezone).ok_or_else(|| {
            Failure::Usage(format!("--to {to} is not after --from {from}: the period is empty"))
        })?),
        _ => return Err(Failure::Usage("--from and --to go together".to_owned())),
    };
    let ledger = super::reader(config)?;
    let query = Query { project, user: args.user.as_deref(), period };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lines = 0_u64;
    if args.json {
        let begin = json!({ "project": project, "user": args.user, "period": period });
        let begin = begin.to_string();
        write!(out, "{},\"lines\":[", begin.trim_end_matches('}')).map_err(Failure::stdout)?;
    } else {
        out.write_all(title(&query).as_bytes()).map_err(Failure::stdout)?;
    }
    let totals = make(&ledger, &query, |line| {
        lines += 1;
        let text = match (args.json, lines) {
            (true, 1) => line_json(line).to_string(),
            (true, _) => format!(",{}", line_json(line)),
            (false, _) => line_text(line),
        };
        out.write_all(text.as_bytes()).map_err(Failure::stdout)
    })?;
    let end = if args.json {
        format!("],\"totals\":{}}}\n", serde_json::to_value(&totals).unwrap_or_default())
    } else {
        totals_text(&totals)
    };
    out.write_all(end.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    if lines == 0 {
        say(format_args!("nothing was charged to \"{}\" that this ledger knows of", escape(project)));
    }
    let held: u64 = ledger.totals()?.held_total;
    if held > 0 {
        say(format_args!("note: {held} run(s) are held; those without a project are in nobody's statement"));
    }
    Ok(if lines == 0 { Exit::Attention } else { Exit::Well })
}

fn title(query: &Query<'_>) -> String {
    let mut title = format!("Statement of {}", escape(query.project));
    if let Some(user) = query.user {
        title += &format!(", {}", escape(user));
    }
    if let Some(period) = query.period {
        title +=
            &format!(", submitted from {} until {}", clock::show(period.from), clock::show(period.until));
    }
    let columns = format!(
        "  {:<21} {:<16} {:<12} {:>10} {:>14}  {:<10} {}",
        "submitted", "record", "user", "elapsed", "charge", "state", "resource"
    );
    format!("{}\n{columns}\n", heading(&title, io::stdout().is_terminal()))
}

fn line_text(line: &Line) -> String {
    let Some(wanted) = &line.row.wanted else { return String::new() };
    let elapsed = if line.adjustment.is_some() || wanted.facts.elapsed == 0 {
        String::new()
    } else {
        format!("{} s", wanted.facts.elapsed)
    };
    let mut text = format!(
        "  {:<21} {:<16} {:<12} {elapsed:>10} {:>14}  {:<10} {}",
        clock::show(wanted.identity.submit),
        escape(&wanted.identity.local_record_id),
        escape(&wanted.username),
        line.row.charge().map_or_else(String::new, |charge| charge.to_string()),
        line.row.state,
        escape(&wanted.identity.resource),
    );
    // Writing to a String cannot fail.
    if !line.refunded.is_zero() {
        let _ = write!(text, "; refunded {}", line.refunded);
    }
    if let Some(hold) = &line.hold {
        let _ = write!(text, "; held: {}", hold.reason);
    }
    if let Some(error) = line.row.error.as_deref() {
        let _ = write!(text, "; {}", escape(error).replace('\n', " "));
    }
    text.push('\n');
    text
}

fn line_json(line: &Line) -> Value {
    let wanted = line.row.wanted.as_ref();
    json!({
        "key": line.row.key,
        "usage_type": line.row.usage_type,
        "adjustment": line.adjustment,
        "record": wanted.map(|wanted| wanted.identity.local_record_id.as_str()),
        "resource": wanted.map(|wanted| wanted.identity.resource.as_ref()),
        "username": wanted.map(|wanted| wanted.username.as_ref()),
        "submit": wanted.map(|wanted| wanted.identity.submit),
        "start": wanted.map(|wanted| wanted.facts.start),
        "end": wanted.map(|wanted| wanted.facts.end),
        "elapsed": wanted.map(|wanted| wanted.facts.elapsed),
        "state": line.row.state.to_string(),
        "version": line.row.version,
        "charge": line.row.charge(),
        "charged": line.charged,
        "refunded": line.refunded,
        "held": line.hold.as_ref().map(|hold| hold.reason.as_str()),
        "error": line.row.error,
    })
}

fn totals_text(totals: &Totals) -> String {
    let mut text = format!("{}\n", heading("Totals", io::stdout().is_terminal()));
    let list = |text: &mut String, title: &str, sums: BTreeMap<&str, &Sum>| {
        for (name, sum) in sums {
            *text +=
                &format!("  {title:<24} {:>8} record(s) {:>16}  {}\n", sum.records, sum.charge, escape(name));
        }
    };
    list(&mut text, "charged", totals.charged.iter().map(|(name, sum)| (name.as_str(), sum)).collect());
    list(&mut text, "usage by state", totals.states.iter().map(|(name, sum)| (*name, sum)).collect());
    list(&mut text, "adjustments", totals.adjustments.iter().map(|(name, sum)| (*name, sum)).collect());
    list(
        &mut text,
        "adjustments, not there",
        totals.open_adjustments.iter().map(|(name, sum)| (*name, sum)).collect(),
    );
    list(&mut text, "held", totals.held.iter().map(|(name, sum)| (name.as_str(), sum)).collect());
    text += &format!("  net: {} (charged, with debits, less what was given back)\n", totals.net);
    text
}
