//! `check --explain-unmapped`: whom no table knows, by usage, each with the row to add.

use crate::present::{self, Failure, escape, say};
use runner::config::Config;
use runner::exit::Exit;
use runner::plan::plan;
use runner::unmapped::{Report, Unmapped, What, unmapped};

/// Names that are shown to people; `--json` has all of them.
const SHOWN: usize = 50;

pub(super) fn explain(config: &Config, source: Option<&str>, json: bool) -> Result<Exit, Failure> {
    let planned = plan(config, source, &[])?;
    super::run::note_empty_patterns(&planned);
    let report = unmapped(config, &planned)?;
    for problem in &report.problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    if json {
        println!("{}", serde_json::json!({ "unmapped": report.unmapped, "others": report.others }));
    } else {
        print!("{}", text(&report));
    }
    let well = report.unmapped.is_empty() && report.problems.is_empty();
    Ok(if well { Exit::Well } else { Exit::Attention })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let kinds = [
        (What::Account, "Accounts without a project", "account", "cluster"),
        (What::User, "Users without a login", "user", "cluster"),
        (What::Owner, "Owners of storage without a project", "owner", "source"),
    ];
    for (what, title, name, place) in kinds {
        let all: Vec<&Unmapped> = report.unmapped.iter().filter(|entry| entry.what == what).collect();
        let Some(first) = all.first() else { continue };
        text += &format!("{title}\n");
        let rows = all.iter().take(SHOWN).map(|entry| {
            let place = if what == What::Owner { Some(&entry.source) } else { entry.cluster.as_ref() };
            vec![
                entry.name.clone().unwrap_or_else(|| "(none)".to_owned()),
                place.cloned().unwrap_or_default(),
                entry.runs.to_string(),
                entry.core_hours.to_string(),
                charges(entry),
            ]
        });
        let unit = if what == What::Owner { "readings" } else { "runs" };
        text += &present::table(&[name, place, unit, "core-hours", "charge"], &[2, 3], rows.collect());
        if all.len() > SHOWN {
            text += &format!("  and {} more; --json has all of them\n", all.len() - SHOWN);
        }
        let table = first.table.as_ref().map_or_else(
            || "a new table (none is configured, or several are)".to_owned(),
            |table| table.display().to_string(),
        );
        let rows: Vec<&String> = all.iter().take(SHOWN).filter_map(|entry| entry.row.as_ref()).collect();
        if !rows.is_empty() {
            text += &format!("  add to {}, whose columns are {}\n", escape(&table), escape(&first.header));
        }
        for row in rows {
            text += &format!("    {}\n", escape(row));
        }
        if all.iter().any(|entry| entry.name.is_none()) {
            text += "  runs that name none cannot be put into a table: find whose they are, or `held waive` them\n";
        }
    }
    if report.others > 0 {
        text += &format!("and {} run(s) of further names, beyond those that are kept apart\n", report.others);
    }
    if text.is_empty() {
        text += "every account, user and owner is known\n";
    }
    text
}

/// `cpu.example 12.5, gpu.example 3; 2 run(s) without`, or what is known of it.
fn charges(entry: &Unmapped) -> String {
    let mut list: Vec<String> =
        entry.charge.iter().map(|(resource, charge)| format!("{charge} on {resource}")).collect();
    if entry.runs_without_charge > 0 {
        list.push(format!("not known for {}", entry.runs_without_charge));
    }
    list.join(", ")
}
