//! `check`: is the configuration usable, and does it do what it seems to?

use crate::cli;
use crate::present::{Failure, escape, go_live_text};
use runner::clock;
use runner::config::{Config, KeySource, Source, SourceKind};
use runner::exit::Exit;
use runner::input::expand;
use runner::ledger::LedgerError;
use runner::nightly::{api_key, client, open_ledger};
use serde::Serialize;

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    /// `ok`, `note`, `warning`, `error`.
    level: Level,
    /// What was looked at.
    about: String,
    /// What was found.
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Note,
    Warning,
    Error,
}

pub(crate) fn check(args: &cli::Check) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    if args.explain_unmapped {
        return super::unmapped::explain(&config, args.source.as_deref(), args.json);
    }
    let mut findings = vec![Finding {
        level: Level::Ok,
        about: "configuration".to_owned(),
        text: format!("{}: site {}, time zone {}", config.path.display(), config.site, config.timezone),
    }];
    let now = clock::now();
    for table in &config.tables {
        findings.push(Finding {
            level: if table.rows == 0 { Level::Warning } else { Level::Ok },
            about: "table".to_owned(),
            text: table.describe(now),
        });
    }
    for warning in config.old_tables(now) {
        findings.push(Finding { level: Level::Warning, about: "table".to_owned(), text: warning });
    }
    for warning in &config.warnings {
        findings.push(Finding { level: Level::Warning, about: "rules".to_owned(), text: warning.clone() });
    }
    for source in &config.sources {
        findings.push(check_source(&config, source));
    }
    check_api(&config, &mut findings);
    let worst = |level| findings.iter().any(|finding| finding.level == level);
    let exit = match (worst(Level::Error), worst(Level::Warning)) {
        (true, _) => Exit::Usage,
        (false, true) => Exit::Attention,
        (false, false) => Exit::Well,
    };
    if args.json {
        println!("{}", serde_json::json!({ "findings": findings, "exit": exit.code() }));
    } else {
        for finding in &findings {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            println!("{level:<8} {:<14} {}", finding.about, escape(&finding.text));
        }
    }
    Ok(exit)
}

fn check_source(config: &Config, source: &Source) -> Finding {
    let about = format!("source {}", source.name);
    if !source.enabled {
        return Finding { level: Level::Note, about, text: "not enabled".to_owned() };
    }
    let kind = match &source.kind {
        SourceKind::Sacct { .. } => "sacct",
        SourceKind::SacctJson { .. } => "sacct-json",
        SourceKind::Pbs { .. } => "pbs",
        SourceKind::Quota { .. } => "quota",
    };
    match expand(&config.folder, &source.paths) {
        Err(error) => Finding { level: Level::Error, about, text: error.to_string() },
        Ok(expanded) if expanded.files.is_empty() => Finding {
            level: Level::Warning,
            about,
            text: format!("{kind}: none of its patterns matches a file"),
        },
        Ok(expanded) => {
            let mut text = format!("{kind}: {} file(s)", expanded.files.len());
            if !expanded.empty_patterns.is_empty() {
                text += &format!("; no file matches {}", expanded.empty_patterns.join(", "));
            }
            Finding { level: Level::Ok, about, text }
        }
    }
}

fn check_api(config: &Config, findings: &mut Vec<Finding>) {
    let mut push =
        |level, about: &str, text: String| findings.push(Finding { level, about: about.to_owned(), text });
    let Some(api) = &config.api else {
        push(Level::Note, "api", "no [api] table: nothing can be sent".to_owned());
        return;
    };
    let from = match &api.key {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Environment(name) => format!("environment variable {name}"),
        KeySource::Credential(name) => format!("systemd credential {name}"),
    };
    match api_key(&api.key) {
        // Without a key everything but sending works: that is how sites begin.
        Err(error) => push(Level::Warning, "key", format!("nothing can be sent: {error}")),
        Ok(key) => {
            push(Level::Ok, "key", from);
            match client(config, api, key) {
                Ok(_) => push(Level::Ok, "api", api.url.clone()),
                Err(error) => push(Level::Error, "api", error),
            }
        }
    }
    if !config.ledger.exists() {
        push(Level::Note, "ledger", format!("{}: will be made by the first run", config.ledger.display()));
        return;
    }
    match open_ledger(config, &api.url) {
        Ok(ledger) => {
            push(Level::Ok, "ledger", config.ledger.display().to_string());
            match super::ledger::go_lives(config, &ledger) {
                Ok(all) => {
                    for text in all.iter().filter_map(go_live_text) {
                        push(Level::Warning, "go_live", text);
                    }
                }
                Err(error) => push(Level::Error, "ledger", error.to_string()),
            }
        }
        Err(error @ LedgerError::Busy { .. }) => push(Level::Note, "ledger", error.to_string()),
        Err(error) => push(Level::Error, "ledger", error.to_string()),
    }
}
