//! The parts of `amie-runner`.
pub mod ledger;
