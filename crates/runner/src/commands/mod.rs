//! One file a subcommand.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod held;
pub(crate) mod parse;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod status;
pub(crate) mod transform;
mod unmapped;

use crate::present::Failure;

/// The async runtime of commands that talk to a service.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| Failure::Output {
        what: "the asynchronous runtime does not start".to_owned(),
        error,
    })
}
