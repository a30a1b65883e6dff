//! What the fuzz targets assert: the properties of `tests/it/fuzzed/`, which a stable test replays on the inputs that were kept.

#[path = "../../tests/it/fuzzed/mod.rs"]
mod fuzzed;

/// See `fuzzed/sacct.rs`.
pub fn sacct(input: &[u8]) {
    fuzzed::sacct::check(input);
}

/// See `fuzzed/sacct_json.rs`.
pub fn sacct_json(input: &[u8]) {
    fuzzed::sacct_json::check(input);
}

/// See `fuzzed/pbs.rs`.
pub fn pbs(input: &[u8]) {
    fuzzed::pbs::check(input);
}

/// See `fuzzed/quota.rs`.
pub fn quota(input: &[u8]) {
    fuzzed::quota::check(input);
}

/// See `fuzzed/values.rs`.
pub fn values(input: &[u8]) {
    fuzzed::values::check(input);
}
