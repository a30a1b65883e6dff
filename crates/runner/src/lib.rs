//! The parts of `amie-runner`, in the order in which data meets them.
//!
//! [`config`] says what to do, [`plan`] which files to read, [`input`] opens and cuts them, [`pipeline`] parses and maps
//! them on all cores, [`engine`] takes the results into the [`ledger`], [`submit`] sends what is owed, [`reconcile`] asks
//! what became of it, and [`nightly`] is all of that in order. [`attention`], [`report`] and [`summary`] say how it ended.

pub mod adjusting;
pub mod attention;
pub mod clock;
pub mod config;
pub mod crash;
pub mod demo;
pub mod dry_run;
pub mod engine;
pub mod exit;
pub mod explain;
pub mod export;
pub mod failures;
pub mod import;
pub mod input;
pub mod ledger;
pub mod nightly;
pub mod pipeline;
pub mod plan;
pub mod quarantine;
pub mod reconcile;
pub mod report;
pub mod restating;
pub mod signals;
pub mod statement;
pub mod stored;
pub mod submit;
pub mod summary;
pub mod tally;
pub mod unmapped;
