//! Tests of the sandbox over its socket, from an HTTP client that it shares no code with, or byte by byte.

#![allow(clippy::print_stdout)] // what was measured, and what was skipped
#![allow(clippy::unwrap_used)] // helpers of tests are tests, but clippy knows only functions marked as such

mod faults; // each fault as a client sees it, and what is stored afterwards
mod http; // requests that are odd, broken or hostile
mod judgement; // what is refused, record by record and whole
mod loading; // queue, load, replace, fail, clear; status and loaded
mod memory; // how much a record costs
mod page; // the page for people, and the calls beside the API
mod persistence; // the state file
mod reference; // the reference client itself
mod support; // a client and records
