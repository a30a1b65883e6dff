//! Quarantined texts, looked at once more: the files that they came from are read again.
//!
//! A text alone says too little to be read: whether it is a record depends on the header above it and on its
//! neighbours, one of which may have been torn with it. So it is the file that is read again, which changes nothing about what
//! was read before, and what is not quarantined again is closed.

use crate::config::{Config, Source, SourceKind};
use crate::engine;
use crate::input::Expanded;
use crate::ledger::{Ledger, LedgerError, Person, Quarantined};
use crate::plan::{PlanError, Planned, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What became of texts that were tried again.
#[derive(Debug, Default)]
pub struct Retried {
    /// Closed: their files do not have them any more, or they are read now.
    pub read: Vec<Quarantined>,
    /// Still not readable.
    pub still: Vec<Quarantined>,
    /// Not tried: the file or the source is not there any more, or could not be read.
    pub gone: Vec<Quarantined>,
    /// Records that are new in the ledger now.
    pub records: u64,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The files of a source.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Open texts that are read from the ledger at once.
const PAGE: usize = 200;

/// Calls `each` with every open text, without its bytes, in order of arrival.
fn every_open(ledger: &dyn Ledger, mut each: impl FnMut(Quarantined)) -> Result<(), LedgerError> {
    let mut after = 0;
    loop {
        let page = ledger.quarantined(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        page.into_iter().for_each(|text| each(Quarantined { text: Vec::new(), ..text }));
    }
}

/// Reads the files of open quarantined texts again: of those named by `ids`, or of all where none is named. The texts
/// in the answer come without their bytes.
///
/// # Errors
/// Where the ledger fails, or a source's files cannot be listed. What was taken in before stays.
pub fn retry(
    config: &Config,
    ledger: &mut dyn Ledger,
    ids: &[i64],
    person: Person<'_>,
    now: i64,
) -> Result<Retried, RetryError> {
    let mut chosen: BTreeMap<i64, Quarantined> = BTreeMap::new();
    every_open(ledger, |text| {
        if ids.is_empty() || ids.contains(&text.id) {
            chosen.insert(text.id, text);
        }
    })?;
    // Later than any sighting: what is seen again is told by its time.
    let now = chosen.values().map(|text| text.last_seen.saturating_add(1)).max().unwrap_or(now).max(now);
    let mut retried = Retried::default();
    let mut places: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    for text in chosen.values() {
        places.entry((text.source.clone(), text.file.clone())).or_default().push(text.id);
    }
    let mut tried = BTreeSet::new();
    let mut whole: BTreeSet<String> = BTreeSet::new();
    for ((source, file), ids) in places {
        let there = config.sources.iter().find(|known| known.name == source).zip(found(config, &file));
        let Some((source, path)) = there else { continue };
        if whole.contains(&source.name) || read(config, ledger, source, path, now, &mut retried, &mut whole)?
        {
            tried.extend(ids);
        }
    }
    let mut seen_again = BTreeSet::new();
    every_open(ledger, |text| {
        if text.last_seen >= now {
            seen_again.insert(text.id);
        }
    })?;
    for (id, text) in chosen {
        if !tried.contains(&id) {
            retried.gone.push(text);
        } else if seen_again.contains(&id) {
            retried.still.push(text);
        } else {
            retried.read.push(text);
        }
    }
    let read: Vec<i64> = retried.read.iter().map(|text| text.id).collect();
    ledger.close_quarantine(&read, person, now)?;
    Ok(retried)
}

/// The file of a text, where it still is: as it was read, or seen from the configuration.
fn found(config: &Config, file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(file);
    [path.clone(), config.resolve(&path)].into_iter().find(|path| path.is_file())
}

/// Reads a file into the ledger again; of a source whose runs go over several files, all of them. False where it could
/// not be read.
fn read(
    config: &Config,
    ledger: &mut dyn Ledger,
    source: &Source,
    path: PathBuf,
    now: i64,
    retried: &mut Retried,
    whole: &mut BTreeSet<String>,
) -> Result<bool, RetryError> {
    let planned = if matches!(source.kind, SourceKind::Pbs { .. }) {
        whole.insert(source.name.clone());
        plan(config, Some(&source.name), &[])?
    } else {
        vec![Planned { source, files: Expanded { files: vec![path.clone()], ..Expanded::default() } }]
    };
    let (collected, ingested) = engine::ingest(config, &planned, ledger, now)?;
    retried.records += ingested.inserted + ingested.released + ingested.revived;
    let failed = |problem: &crate::input::InputError| problem.to_string().starts_with(&shown(&path));
    Ok(!collected.remarks.problems.iter().any(failed))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
