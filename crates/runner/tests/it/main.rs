//! Integration tests of `runner`, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

/// Adjustments: each once, refunds never beyond the charge.
mod adjust;
/// Brakes, approvals in bulk, and what a person settles.
mod brakes;
/// The demo and the nightly run, against what scripts worked out from slurmdbd's table and the logs.
mod charging;
mod demo;
/// Documents say what is true.
mod documents;
/// `explain`: every fate, with the input and without.
mod explain;
/// Failures by their words, acknowledged after they are noted; the report page.
mod failed;
/// The fault matrix: every fault on every call.
mod faults;
/// Documents of `sacct --json`: whole, torn, refused, from a pipe, in blocks.
mod json;
/// Keeping a ledger: verified, exported; quarantined texts tried again and dismissed.
mod keeping;
/// Killed at every place where it matters, and at random: each record once, with its exact charge.
mod kill;
/// The ledger by itself.
mod ledger;
/// PBS: the expected usage of every labelled job, runs that span files, what a log says besides.
mod pbs;
mod postgres_server;
/// Restatements: approved, once, and never two charges at a time.
mod restate;
/// A ledger that was put back from a backup: refused, accepted, and nothing added twice.
mod restored;
/// The sandbox as a command.
mod sandbox;
/// The key is in nothing that any command writes.
mod secrecy;
/// What goes over the wire as the configuration says, and a run that is asked to stop while it sends.
mod sending;
/// The command line over a ledger in PostgreSQL.
mod shared_ledger;
/// Statements: every run of a project, and exact sums.
mod statement;
/// What a person sees who gets something wrong, and what is left when services do.
mod strangers;
mod support;
/// `parse` and `transform`: their contracts, and that threads and blocks change nothing.
mod transform;
/// Whom no table knows, and tables that change or grow old.
mod unmapped;
