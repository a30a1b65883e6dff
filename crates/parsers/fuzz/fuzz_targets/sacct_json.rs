//! Fuzz target `sacct_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers_fuzz::sacct_json(input));
