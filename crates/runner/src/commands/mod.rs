//! One file a subcommand.

pub(crate) mod adjust;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod failed;
pub(crate) mod held;
pub(crate) mod ledger;
pub(crate) mod parse;
pub(crate) mod quarantine;
pub(crate) mod report;
pub(crate) mod restate;
pub(crate) mod run;
pub(crate) mod sandbox;
mod statement;
pub(crate) mod status;
pub(crate) mod transform;
mod unmapped;

use crate::cli::Decision;
use crate::present::{Failure, escape, say};
use runner::config::Config;
use runner::ledger::Ledger;

/// The async runtime of commands that talk to a service.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| Failure::Output {
        what: "the asynchronous runtime does not start".to_owned(),
        error,
    })
}

/// Who decides: whom the command line names, else the login behind sudo, else the login.
fn who(named: Option<&str>) -> String {
    if let Some(name) = named.map(str::trim).filter(|name| !name.is_empty()) {
        return escape(name);
    }
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .map_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()), |name| escape(&name))
}

/// Who decides and why; a decision about money without a reason is refused.
fn decision(decision: &Decision) -> Result<(String, String), Failure> {
    match decision.reason.as_deref().map(str::trim) {
        Some(why) if !why.is_empty() => Ok((who(decision.by.as_deref()), why.to_owned())),
        _ => Err(Failure::Usage("--reason must say why: it is kept in the ledger".to_owned())),
    }
}

/// The ledger of a configuration, for questions. One that is older than what was seen of it answers them all the same.
fn reader(config: &Config) -> Result<Box<dyn Ledger>, Failure> {
    let ledger = known(config)?;
    say_if_older(ledger.as_ref());
    Ok(ledger)
}

/// Says that answers are those of an older ledger.
fn say_if_older(ledger: &dyn Ledger) {
    if let Some(older) = ledger.older() {
        say(format_args!("warning: {}", escape(&older.to_string())));
    }
}

/// What is known of the ledger of a configuration.
fn known(config: &Config) -> Result<Box<dyn Ledger>, Failure> {
    if !config.ledger.may_exist() {
        return Err(Failure::Usage(format!(
            "{}: there is no ledger yet; `amie-runner run` makes it",
            config.ledger
        )));
    }
    Ok(config.ledger.open_reader()?)
}

/// The ledger of a configuration, for a person's decisions: whatever service it speaks for, nothing is sent here.
fn writer(config: &Config) -> Result<Box<dyn Ledger>, Failure> {
    let binding = known(config)?.binding().clone();
    Ok(config.ledger.open(&binding, runner::clock::now())?)
}
