//! The integration tests of `parsers`: real input from `fixtures/`, and what is true of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fuzzed;
mod pbs;
mod quota;
mod regressions;
mod sacct;
mod sacct_json;
mod snapshots;
mod support;
mod torn;
