//! The integration tests of `parsers`: real input from `fixtures/`, and what is true of it.

mod pbs;
mod quota;
