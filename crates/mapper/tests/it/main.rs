//! Everything that the crate promises, from outside.

mod decisions;
mod digests;
mod example;
mod explain;
mod identity;
mod oracle;
mod purity;
mod refusals;
mod sites;
mod storage;
mod support;
mod times;
