//! `status`: what the ledger holds, and what needs a person.

use crate::cli;
use crate::present::{self, Failure, heading};
use runner::attention::{Item, gather};
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::Totals;
use runner::summary::{LedgerTotals, TableAge, adjustments};
use std::io::{self, IsTerminal};

pub(crate) fn status(args: &cli::Status) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    let ledger = super::reader(&config)?;
    let totals = ledger.totals()?;
    let items = gather(ledger.as_ref(), 3)?;
    if args.json {
        let older = ledger.older().map(ToString::to_string);
        println!("{}", json(&config, &totals, &items, older.as_deref()));
    } else {
        print!("{}", text(&config, &totals, &items));
    }
    let well = items.is_empty() && ledger.older().is_none();
    Ok(if well { Exit::Well } else { Exit::Attention })
}

fn json(config: &Config, totals: &Totals, items: &[Item], older: Option<&str>) -> serde_json::Value {
    let charges: Vec<_> = totals
        .charges
        .iter()
        .map(|total| {
            serde_json::json!({
                "usage_type": total.usage_type,
                "resource": total.resource.as_ref(),
                "project": total.project.as_ref(),
                "state": total.state.to_string(),
                "records": total.records,
                "charge": total.charge,
            })
        })
        .collect();
    serde_json::json!({ "totals": LedgerTotals::from(totals), "charges": charges, "adjustments": adjustments(totals), "attention": items, "older": older, "tables": TableAge::of(config, clock::now()) })
}

fn text(config: &Config, totals: &Totals, items: &[Item]) -> String {
    let terminal = io::stdout().is_terminal();
    let mut text = format!("{}\n{}", heading("Ledger", terminal), present::ledger_line(totals));
    let rows = totals
        .charges
        .iter()
        .map(|total| {
            vec![
                total.usage_type.to_string(),
                total.resource.to_string(),
                total.project.to_string(),
                total.state.to_string(),
                total.records.to_string(),
                total.charge.to_string(),
            ]
        })
        .collect();
    text += &present::table(&["type", "resource", "project", "state", "records", "charge"], &[4, 5], rows);
    text += &present::items(items, terminal);
    text += &present::tables(config, terminal);
    text
}
