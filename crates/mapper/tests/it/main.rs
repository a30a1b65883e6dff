//! Everything that the crate promises, from outside.

// What does not hold in a test ends it; clippy allows that only inside of functions marked #[test].
#![allow(clippy::unwrap_used, clippy::panic)]

mod accounts;
mod brakes;
mod decisions;
mod digests;
mod example;
mod explain;
mod identity;
mod oracle;
mod phases;
mod purity;
mod quantities;
mod refusals;
mod sites;
mod storage;
mod sums;
mod support;
mod times;
