//! Integration tests of `runner`, in one binary.
mod ledger;
