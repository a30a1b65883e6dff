//! Numbered schema changes, for every database alike: each runs once, in order, and none is ever taken back.

use super::LedgerError;
use std::path::Path;

/// Refuses a ledger that a newer program made.
pub(super) fn check(place: &Path, found: i64, scripts: &[&str]) -> Result<(), LedgerError> {
    let known = super::codes::signed(scripts.len() as u64);
    if found > known {
        return Err(LedgerError::NewerSchema { path: place.to_owned(), found, known });
    }
    Ok(())
}

/// Refuses a ledger that is to be asked and not changed, where any other program than one like this made it.
pub(super) fn check_reader(place: &Path, found: i64, scripts: &[&str]) -> Result<(), LedgerError> {
    check(place, found, scripts)?;
    let known = super::codes::signed(scripts.len() as u64);
    if found < known {
        return Err(LedgerError::OlderSchema { path: place.to_owned(), found, known });
    }
    Ok(())
}

/// Runs the scripts that a ledger of version `found` has not seen; `run` also notes the version that it brings.
pub(super) fn forward<F: From<LedgerError>>(
    place: &Path,
    found: i64,
    scripts: &[&str],
    mut run: impl FnMut(i64, &str) -> Result<(), F>,
) -> Result<(), F> {
    check(place, found, scripts)?;
    let unseen = (1_i64..).zip(scripts).filter(|(number, _)| *number > found);
    unseen.into_iter().try_for_each(|(number, script)| run(number, script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_run_once_in_order_and_never_backward() {
        let scripts = ["one", "two", "three"];
        let run = |found| {
            let mut ran = Vec::new();
            let done: Result<(), LedgerError> = forward(Path::new("l"), found, &scripts, |number, script| {
                ran.push((number, script.to_owned()));
                Ok(())
            });
            done.map(|()| ran)
        };
        assert_eq!(run(0).unwrap().len(), 3);
        assert_eq!(run(1).unwrap(), [(2, "two".to_owned()), (3, "three".to_owned())]);
        assert_eq!(run(3).unwrap(), []);
        assert!(matches!(run(4), Err(LedgerError::NewerSchema { found: 4, known: 3, .. })));
    }
}
