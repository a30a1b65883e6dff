//! The main path: every source's files through parsing and mapping, to lines, to counts, or into the ledger.

use crate::config::{Config, Forgeable, Source, SourceKind};
use crate::input::{InputError, open};
use crate::ledger::{Carried, Chunk, Ingested, Ledger, LedgerError, Progress};
use crate::pipeline::folding::{Folded, Folding, head_of, name_of, point};
use crate::pipeline::format::{Format, first_line};
use crate::pipeline::mapping::{Collector, CountOnly, Lines, MapWork, MappedBlock, Rows};
use crate::pipeline::quota::{ReportSource, map_report};
use crate::pipeline::{self, Emitted};
use crate::plan::Planned;
use crate::tally::Tally;
use mapper::StorageMapper;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

/// Rows that make a transaction worth its flush: 10,000 (measured: smaller ones are several times slower a row).
pub(crate) const ROWS_A_TRANSACTION: usize = 10_000;

/// What reading all sources gave.
#[derive(Debug, Default)]
pub struct Collected {
    /// Counts.
    pub tally: Tally,
    /// What a person should know besides.
    pub remarks: Remarks,
}

/// What a person should know of the reading.
#[derive(Debug, Default)]
pub struct Remarks {
    /// Files that could not be read.
    pub problems: Vec<InputError>,
    /// Decompressed bytes read.
    pub bytes: u64,
    /// Files read.
    pub files: u64,
    /// Source -> columns whose names are not known.
    pub unknown_columns: Vec<(String, Vec<String>)>,
    /// File -> what it warns of itself.
    pub warnings: Vec<(String, String)>,
    /// Source -> columns in which users could have forged rows, for sources that are not told to accept that.
    pub forgeable: Vec<(String, Vec<String>)>,
    /// PBS source -> what its log says beside the runs that ended.
    pub folded: Vec<(String, Folded)>,
}

/// One piece of what a source gave.
enum Piece<C> {
    /// What came out of a block, or of nothing at the end of a file.
    Block { block: MappedBlock<C>, progress: Progress },
    /// What is carried over the beginning of the next file, or over the end of the last.
    Carried(Carried),
}

/// Reads one source; `make` makes a collector for each block, `emit` takes pieces in input order.
fn read_source<C: Collector, E: Send>(
    config: &Config,
    planned: &Planned<'_>,
    mut folding: Option<Folding>,
    collected: &mut Collected,
    make: impl Fn() -> C + Sync,
    mut emit: impl FnMut(Piece<C>) -> Result<(), E>,
) -> Result<(), E> {
    let source = planned.source;
    let files = &planned.files.files;
    let (Some(format), Some(rules)) = (Format::of(source), job_rules(source)) else {
        return read_reports(config, source, files, collected, make, emit);
    };
    let safe = rules.for_safe_text();
    let work = MapWork { rules: &config.rules, source: rules, safe: &safe, collector: make };
    let mut frames = 0;
    folding = folding.or_else(|| Folding::new(&format, false));
    let remarks = pipeline::run(&format, files, None, folding.as_mut(), &work, |emitted| match emitted {
        Emitted::Carried(carried) => emit(Piece::Carried(carried)),
        Emitted::Output(file, block, end) => {
            frames += block.tally.frames;
            collected.tally.merge(&block.tally);
            let progress = Progress { path: file.path.to_string(), offset: end, frames, complete: false };
            emit(Piece::Block { block, progress })
        }
        Emitted::Done(file, bytes) => {
            let progress = Progress { path: file.path.to_string(), offset: bytes, frames, complete: true };
            frames = 0;
            let block = MappedBlock { tally: Tally::default(), kept: (work.collector)() };
            emit(Piece::Block { block, progress })
        }
    })?;
    if let Some(mut folded) = folding.map(Folding::finish) {
        if let Some(carried) = folded.carried.take() {
            emit(Piece::Carried(carried))?;
        }
        folded.observe(&mut collected.tally);
        collected.remarks.folded.push((source.name.clone(), folded));
    }
    collected.remarks.problems.extend(remarks.problems);
    collected.remarks.bytes += remarks.bytes;
    collected.remarks.files += remarks.files;
    collected.remarks.warnings.extend(remarks.warnings);
    if !remarks.unknown_columns.is_empty() {
        collected.remarks.unknown_columns.push((source.name.clone(), remarks.unknown_columns));
    }
    let accepted = matches!(&source.kind, SourceKind::Sacct { forgeable: Forgeable::Accept, .. });
    if !remarks.forgeable_columns.is_empty() && !accepted {
        collected.remarks.forgeable.push((source.name.clone(), remarks.forgeable_columns));
    }
    Ok(())
}

/// The mapping rules of a source of jobs.
#[must_use]
pub fn job_rules(source: &Source) -> Option<&mapper::SourceRules> {
    match &source.kind {
        SourceKind::Sacct { mapping, .. }
        | SourceKind::SacctJson { mapping }
        | SourceKind::Pbs { mapping, .. } => Some(mapping),
        SourceKind::Quota { .. } => None,
    }
}

/// Digest of everything but the input that decides a source's records: rules, tables, and the source's own rules.
#[must_use]
pub fn rules_digest(config: &Config, source: &Source) -> u128 {
    let own = job_rules(source).map_or(0, mapper::SourceRules::digest);
    let both = [config.rules.digest().to_le_bytes(), own.to_le_bytes()].concat();
    xxhash_rust::xxh3::xxh3_128(&both)
}

fn read_reports<C: Collector, E>(
    config: &Config,
    source: &Source,
    files: &[PathBuf],
    collected: &mut Collected,
    make: impl Fn() -> C,
    mut emit: impl FnMut(Piece<C>) -> Result<(), E>,
) -> Result<(), E> {
    let SourceKind::Quota { format, owner, collected_at } = &source.kind else { return Ok(()) };
    let reports = ReportSource { format: *format, owner: *owner, collected_at, zone: config.timezone };
    let mapper = match StorageMapper::new(&config.rules, &source.name, *owner) {
        Ok(mapper) => mapper,
        Err(error) => {
            // `Config::load` refuses such a source; said here all the same, so that no reading is dropped in silence.
            let path = config.path.clone();
            collected.remarks.problems.push(InputError::Format { path, problem: error.to_string() });
            return Ok(());
        }
    };
    for (index, path) in files.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        match map_report(&reports, &mapper, path, index, make()) {
            Ok((block, bytes)) => {
                collected.tally.merge(&block.tally);
                collected.remarks.bytes += bytes;
                collected.remarks.files += 1;
                let progress = Progress {
                    path: path.to_string_lossy().into_owned(),
                    offset: bytes,
                    frames: block.tally.frames,
                    complete: true,
                };
                emit(Piece::Block { block, progress })?;
            }
            Err(problem) => collected.remarks.problems.push(problem),
        }
    }
    Ok(())
}

/// Maps everything and hands out the lines of `transform`, in input order.
///
/// # Errors
/// Whatever `emit` answers.
pub fn transform<E: Send>(
    config: &Config,
    planned: &[Planned<'_>],
    mut emit: impl FnMut(&Lines) -> Result<(), E>,
) -> Result<Collected, E> {
    let mut collected = Collected::default();
    for planned in planned {
        read_source(config, planned, None, &mut collected, Lines::default, |piece| match piece {
            Piece::Block { block, .. } => emit(&block.kept),
            Piece::Carried(_) => Ok(()),
        })?;
    }
    Ok(collected)
}

/// Maps everything and hands out what `make`'s collectors keep of each block, in input order. `folding`: what was carried to where
/// the source's first file begins (see `take_up`).
///
/// # Errors
/// Whatever `emit` answers.
pub fn each_block<C: Collector, E: Send>(
    config: &Config,
    planned: &Planned<'_>,
    folding: Option<Folding>,
    make: impl Fn() -> C + Sync,
    mut emit: impl FnMut(C) -> Result<(), E>,
) -> Result<Collected, E> {
    let mut collected = Collected::default();
    read_source(config, planned, folding, &mut collected, make, |piece| match piece {
        Piece::Block { block, .. } => emit(block.kept),
        Piece::Carried(_) => Ok(()),
    })?;
    Ok(collected)
}

/// Maps and renders everything and keeps only counts, for measuring.
///
/// # Errors
/// None: the type says so.
pub fn count(config: &Config, planned: &[Planned<'_>]) -> Result<Collected, Infallible> {
    let mut collected = Collected::default();
    for planned in planned {
        read_source(config, planned, None, &mut collected, || CountOnly, |_| Ok::<_, Infallible>(()))?;
    }
    Ok(collected)
}

/// Maps everything into the ledger: each transaction holds rows and the progress that they make.
///
/// The ledger writes on a thread of its own, while the next blocks are parsed.
///
/// # Errors
/// Where the ledger cannot take the rows. What was committed before stays, and is found unchanged next time.
pub fn ingest(
    config: &Config,
    planned: &[Planned<'_>],
    ledger: &mut dyn Ledger,
    now: i64,
) -> Result<(Collected, Ingested), LedgerError> {
    let mut collected = Collected::default();
    let mut foldings = Vec::with_capacity(planned.len());
    for planned in planned {
        foldings.push(take_up(planned, ledger, true, &mut collected.remarks)?);
    }
    let (sender, receiver) = crossbeam_channel::bounded::<Chunk>(2);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut sum = Ingested::default();
            for chunk in receiver {
                sum.merge(&ledger.ingest(&chunk, now)?);
            }
            Ok::<_, LedgerError>(sum)
        });
        for (planned, folding) in planned.iter().zip(foldings) {
            let source = planned.source.name.as_str();
            let digest = rules_digest(config, planned.source);
            let files: Vec<Arc<str>> =
                planned.files.files.iter().map(|path| Arc::from(path.to_string_lossy().as_ref())).collect();
            let empty = || Rows::new(source, digest);
            let mut gathered = empty().chunk;
            let sent = read_source(config, planned, folding, &mut collected, empty, |piece| {
                let (block, progress) = match piece {
                    Piece::Block { block, progress } => (block, progress),
                    Piece::Carried(carried) => {
                        gathered.carried.push(carried);
                        return Ok(());
                    }
                };
                let complete = progress.complete;
                gathered.append(block.kept.chunk);
                gathered.progress = Some(progress);
                if gathered.rows() >= ROWS_A_TRANSACTION || complete {
                    gathered.files.clone_from(&files);
                    let chunk = std::mem::replace(&mut gathered, empty().chunk);
                    sender.send(chunk).map_err(|_| Stopped)?;
                }
                Ok::<_, Stopped>(())
            });
            let left = gathered.rows() > 0 || !gathered.carried.is_empty();
            if sent.is_err() || (left && sender.send(with_files(gathered, &files)).is_err()) {
                break; // the writer has met an error; it is the result
            }
        }
        drop(sender);
        match writer.join() {
            Ok(result) => result.map(|ingested| (collected, ingested)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What the reading of a source takes up: what was carried to where its first file begins. `keep`: what it carries on is wanted.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn take_up(
    planned: &Planned<'_>,
    ledger: &dyn Ledger,
    keep: bool,
    remarks: &mut Remarks,
) -> Result<Option<Folding>, LedgerError> {
    let Some(format @ Format::Pbs { .. }) = Format::of(planned.source) else { return Ok(None) };
    let name = &planned.source.name;
    if let Some(carried) = carried_to(planned, ledger)? {
        match Folding::resume(&format, &carried, keep) {
            Ok(folding) => return Ok(folding),
            Err(problem) => remarks.warnings.push((
                name.clone(),
                format!("what was kept of open runs cannot be read ({problem}), and is left out"),
            )),
        }
    }
    Ok(Folding::new(&format, keep))
}

/// What was carried over the beginning of a source's first file; where that file is new, over the end of the one read last, which
/// it continues.
pub(crate) fn carried_to(planned: &Planned<'_>, ledger: &dyn Ledger) -> Result<Option<Carried>, LedgerError> {
    // A pipe can be read only once.
    let Some(first) = planned.files.files.first().filter(|path| path.is_file()) else { return Ok(None) };
    // What cannot be read is said when it is its turn.
    let Some(line) = open(first).ok().and_then(|file| first_line(file.reader).ok()).map(|(line, _)| line)
    else {
        return Ok(None);
    };
    let source = planned.source.name.as_str();
    if let Some(carried) = ledger.carried(source, &point(head_of(&line)))? {
        return Ok(Some(carried));
    }
    let name = first.to_string_lossy();
    Ok(ledger.carried(source, Carried::END)?.filter(|carried| carried.after.as_str() <= name_of(&name)))
}

/// The writer has ended: its error is the result.
struct Stopped;

/// What is left when a file could not be read to its end.
fn with_files(mut chunk: Chunk, files: &[Arc<str>]) -> Chunk {
    chunk.files = files.to_vec();
    chunk
}
