//! Integration tests: the client against small servers that answer byte for byte what a test says.

// clippy.toml allows these in tests; this extends it to their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The modules are private to this binary.
#![allow(unreachable_pub)]

mod server; // the servers

#[cfg(feature = "blocking")]
mod blocking; // the blocking client and the example, against the sandbox

mod answers; // one POST: every kind of answer, every way to break one
mod calls; // status, failed, loaded
mod contract; // our requests beside those of the reference client
mod delivery; // batches: splitting, bisecting, trying again, stopping
mod environment; // keys and credentials from the environment
mod law; // random faults: what is reported is never more than what is true
mod secrecy; // the key is shown nowhere
mod shapes; // every call against every kind of answer
mod tls; // certificates, proxies, redirects
