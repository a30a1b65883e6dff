//! How many bytes of accounting a core reads in a second: generated text, and real fixtures repeated.
//!
//! `cargo bench -p benches` takes about a minute. The generated texts have the shape of a large centre's accounting; the
//! real ones are what Slurm and PBS servers wrote in odd situations (torn rows, requeues, resizes, node releases), so that
//! a reader that is only fast on ordinary rows shows. Every frame is visited and its numbers are used.
#![allow(clippy::panic, reason = "a benchmark that cannot read its input has nothing to say")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use benches::{Columns, PbsOptions, SacctOptions, Times};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::read::GzDecoder;
use parsers::sacct::{Framing, Layout, Options};
use parsers::{Frame, pbs};
use std::fs;
use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// Text of each benchmark: enough to be far beyond the caches' first levels, little enough for a minute in all.
const SIZE: usize = 8 << 20;
/// Readers are given blocks, as the pipeline does.
const BLOCK: usize = 1 << 20;

fn fixture(path: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures")).join(path);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_none_or(|extension| extension != "gz") {
        return bytes;
    }
    let mut text = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap_or_else(|error| panic!("{error}"));
    text
}

/// The rows of a text again and again below its first `keep` lines, up to [`SIZE`].
fn repeated(text: &[u8], keep: usize) -> Vec<u8> {
    let start = text.split_inclusive(|byte| *byte == b'\n').take(keep).map(<[u8]>::len).sum();
    let (head, rows) = text.split_at(start);
    let mut repeated = head.to_vec();
    while repeated.len() < SIZE {
        repeated.extend_from_slice(rows);
    }
    repeated
}

fn generated_sacct(options: &SacctOptions) -> Vec<u8> {
    let mut text = Vec::with_capacity(SIZE + (1 << 16));
    benches::sacct(&SacctOptions { bytes: SIZE as u64, ..options.clone() }, &mut text)
        .unwrap_or_else(|error| panic!("{error}"));
    text
}

fn use_frame(sum: u64, frame: &Frame<'_>) -> u64 {
    match frame {
        Frame::Run(run) => sum
            .wrapping_add(run.elapsed.unwrap_or(0))
            .wrapping_add(run.cores.unwrap_or(0))
            .wrapping_add(run.gpus.unwrap_or(0))
            .wrapping_add(run.start.unwrap_or(0).unsigned_abs())
            .wrapping_add(run.user.map_or(0, |user| user.len() as u64)),
        Frame::Note(_) => sum.wrapping_add(1),
        Frame::Quarantined(_) => sum.wrapping_add(2),
    }
}

fn read_sacct(text: &[u8], options: &Options) -> u64 {
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let layout = Layout::lenient(header, options).unwrap_or_else(|error| panic!("{error}"));
    let (mut sum, mut at) = (0, 0);
    while at < text.len() {
        let block = &text[at..(at + BLOCK).min(text.len())];
        let last = at + block.len() == text.len();
        let len = if last { block.len() } else { layout.cut(block) };
        layout.read(&block[..len], 0..len, last, |frame| sum = use_frame(sum, &frame));
        at += len;
    }
    sum
}

/// Reads a log as the pipeline does; what each block says to the fold is handed to `each`.
fn read_pbs(text: &[u8], mut each: impl FnMut(&pbs::Events)) -> u64 {
    let reader = pbs::Reader::default();
    let mut events = pbs::Events::default();
    let (mut sum, mut at) = (0, 0);
    while at < text.len() {
        let block = &text[at..(at + BLOCK).min(text.len())];
        let last = at + block.len() == text.len();
        let len = if last { block.len() } else { pbs::cut(block) };
        reader.frames(&block[..len], 0..len, last, &mut events, &mut |frame| sum = use_frame(sum, &frame));
        each(&events);
        at += len;
    }
    sum
}

/// The sequential part alone.
fn fold_pbs(blocks: &[pbs::Events]) -> usize {
    let mut fold = pbs::Fold::new(&pbs::FoldOptions::default());
    let (mut changes, mut sum) = (Vec::new(), 0);
    for events in blocks {
        changes.clear();
        fold.block(1, events, &mut changes);
        sum += changes.len();
    }
    sum
}

fn sacct(criterion: &mut Criterion) {
    let zone = chrono_tz::America::New_York;
    let nonce = "<8f14e45fceea167a5a36dedd4bea2543>";
    let plain = Options::default();
    let local = Options { zone, ..Options::default() };
    let counted =
        Options { delimiter: nonce.as_bytes().to_vec(), framing: Framing::Counted, ..Options::default() };
    let steps = Options { read_steps: true, ..Options::default() };
    let usual = SacctOptions::default();
    let demo = fixture("demo/sacct/testhpc-2026-11-23.txt");
    let every_column = fixture("slurm/22.05/P-D-all.txt.gz");
    let cases: [(&str, Vec<u8>, &Options); 6] = [
        ("generated, epoch", generated_sacct(&usual), &plain),
        (
            "generated, local times",
            generated_sacct(&SacctOptions { times: Times::Local(zone), ..usual.clone() }),
            &local,
        ),
        (
            "generated, collected",
            generated_sacct(&SacctOptions {
                columns: Columns::Collect,
                delimiter: nonce.to_owned(),
                ..usual.clone()
            }),
            &counted,
        ),
        ("generated, steps", generated_sacct(&SacctOptions { steps: true, ..usual }), &plain),
        ("real, 27 columns", repeated(&demo, 1), &plain),
        ("real, 109 columns and steps", repeated(&every_column, 1), &steps),
    ];
    let mut group = criterion.benchmark_group("sacct");
    for (name, text, options) in cases {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| read_sacct(black_box(&text), options)));
    }
    group.finish();
}

fn pbs(criterion: &mut Criterion) {
    let mut generated = Vec::with_capacity(SIZE + (1 << 16));
    benches::pbs(&PbsOptions { bytes: SIZE as u64, ..Default::default() }, &mut generated)
        .unwrap_or_else(|error| panic!("{error}"));
    let cases = [
        ("generated", generated),
        ("real, OpenPBS", repeated(&fixture("pbs/openpbs/20261123"), 0)),
        ("real, TORQUE", repeated(&fixture("pbs/torque/20261123"), 0)),
    ];
    let mut group = criterion.benchmark_group("pbs");
    for (name, text) in cases {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| read_pbs(black_box(&text), |_| {})));
        let mut blocks = Vec::new();
        read_pbs(&text, |events| blocks.push(events.clone()));
        group
            .bench_function(format!("{name}, fold"), |bencher| bencher.iter(|| fold_pbs(black_box(&blocks))));
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .without_plots()
}

criterion_group! { name = parse; config = quick(); targets = sacct, pbs }
criterion_main!(parse);
