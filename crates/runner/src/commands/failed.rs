//! `failed`: what the service took and could not load: by its words, sent again, or acknowledged at the service.

use crate::cli::{self, FailedAction};
use crate::present::{self, Failure, escape, say};
use amie_usage::CallError;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::failures::{ClearError, clear};
use runner::ledger::{Decided, List, Person, Retry};
use runner::nightly;

/// Keys that are shown with each reason.
const EXAMPLES: usize = 3;

pub(crate) fn failed(args: &cli::Failed) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    match &args.action {
        None => list(args, &config),
        Some(FailedAction::Retry { keys, error, all, decision }) => {
            let (by, why) = super::decision(decision)?;
            let which = match (keys.is_empty(), error, all) {
                (false, ..) => Retry::Keys(keys.clone()),
                (true, Some(error), _) => Retry::Failed(Some(error.clone())),
                (true, None, true) => Retry::Failed(None),
                (true, None, false) => {
                    return Err(Failure::Usage("which ones? KEY..., --error WORDS or --all".to_owned()));
                }
            };
            let done = super::writer(&config)?.retry(&which, Person { by: &by, why: &why }, clock::now())?;
            let exit = super::held::say_decided(done, "to be sent again", "");
            Ok(if done == Decided::default() { Exit::Attention } else { exit })
        }
        Some(FailedAction::Clear { foreign, json }) => acknowledge(&config, *foreign, *json),
    }
}

fn list(args: &cli::Failed, config: &Config) -> Result<Exit, Failure> {
    let ledger = super::reader(config)?;
    let groups = ledger.groups(List::Failed, EXAMPLES)?;
    if args.json {
        let list: Vec<_> = groups
            .iter()
            .map(|group| serde_json::json!({ "error": group.reason, "count": group.count, "examples": group.examples }))
            .collect();
        println!("{}", serde_json::json!({ "failed": list }));
    } else if groups.is_empty() {
        println!("nothing failed to load");
    } else {
        let rows = groups
            .iter()
            .map(|group| vec![group.count.to_string(), group.reason.clone(), group.examples.join("  ")]);
        print!("{}", present::table(&["records", "error", "for example"], &[0], rows.collect()));
        say(
            "ask the service about what it names; then amie-runner failed retry --error '...' --reason '...'",
        );
    }
    Ok(if groups.is_empty() { Exit::Well } else { Exit::Attention })
}

fn acknowledge(config: &Config, foreign: bool, json: bool) -> Result<Exit, Failure> {
    let api = super::run::api(config)?;
    let key = nightly::api_key(&api.key).map_err(Failure::Usage)?;
    let client = nightly::client(config, api, key).map_err(Failure::Usage)?;
    let mut ledger = nightly::open_ledger(config, &api.url)?;
    ledger.recover(clock::now())?;
    let cleared = super::runtime()?.block_on(clear(ledger.as_mut(), &client, foreign));
    let cleared = cleared.map_err(|error| match error {
        ClearError::Ledger(error) => Failure::Ledger(error),
        ClearError::Service { error, .. } if matches!(*error, CallError::KeyRefused { .. }) => {
            Failure::Usage(error.to_string())
        }
        error @ ClearError::Service { .. } => Failure::Unreachable(escape(&error.to_string())),
    })?;
    if json {
        let value = serde_json::json!({
            "shown": cleared.shown, "noted": cleared.noted, "cleared": cleared.cleared,
            "foreign": cleared.foreign, "left": cleared.left,
        });
        println!("{value}");
    } else {
        println!(
            "{} shown by the service, {} of them new to the ledger; {} acknowledged, {} of other senders, {} left",
            cleared.shown, cleared.noted, cleared.cleared, cleared.foreign, cleared.left
        );
    }
    Ok(if cleared.noted > 0 { Exit::Attention } else { Exit::Well })
}
