//! One file a subcommand.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod held;
pub(crate) mod ledger;
pub(crate) mod parse;
pub(crate) mod quarantine;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod status;
pub(crate) mod transform;

use crate::present::{Failure, escape};

/// The async runtime of commands that talk to a service.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| Failure::Output {
        what: "the asynchronous runtime does not start".to_owned(),
        error,
    })
}

/// Who decides: the login behind sudo, else the login.
fn who() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .map_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()), |name| escape(&name))
}
