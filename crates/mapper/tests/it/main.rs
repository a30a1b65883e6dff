//! Everything that the crate promises, from outside.

// What does not hold in a test ends it; clippy allows that only inside of functions marked #[test].
#![allow(clippy::unwrap_used, clippy::panic)]

mod decisions;
mod digests;
mod example;
mod explain;
mod identity;
mod oracle;
mod phases;
mod purity;
mod refusals;
mod sites;
mod storage;
mod support;
mod times;
