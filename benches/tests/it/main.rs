//! The generator against readers that know nothing of how it works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod generated;
mod parsed;
