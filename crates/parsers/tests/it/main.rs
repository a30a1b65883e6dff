//! The integration tests of `parsers`: real input from `fixtures/`, and what is true of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod pbs;
mod quota;
mod sacct;
mod sacct_json;
