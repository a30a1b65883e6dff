//! Replays the inputs under `tests/regressions/TARGET/` as the fuzz target of that name reads them: what fuzzing found once, and
//! some that reach far into the parsers.

use super::fuzzed;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "{}: {}", folder.display(), paths.len());
    for path in paths {
        let input = std::fs::read(&path).unwrap();
        // Which one it was, beside what is wrong with it.
        let result = std::panic::catch_unwind(|| check(&input));
        assert!(result.is_ok(), "{}", path.display());
    }
}

#[test]
fn regressions_of_sacct_stay_fixed() {
    replay("sacct", fuzzed::sacct::check);
}

#[test]
fn regressions_of_sacct_json_stay_fixed() {
    replay("sacct_json", fuzzed::sacct_json::check);
}

#[test]
fn regressions_of_pbs_stay_fixed() {
    replay("pbs", fuzzed::pbs::check);
}

#[test]
fn regressions_of_quota_stay_fixed() {
    replay("quota", fuzzed::quota::check);
}

#[test]
fn regressions_of_values_stay_fixed() {
    replay("values", fuzzed::values::check);
}
