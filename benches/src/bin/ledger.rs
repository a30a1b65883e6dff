//! What the ledger costs a row: taken in, read again, sent, seen loaded, and a night with nothing new; beside a bare insert
//! loop of the same rows: `cargo run --release -p benches --bin ledger`.
//!
//! The rows are what reading, mapping and rendering make of generated accounting, in its order: nearly by end, so that
//! the jobs of one transaction are mixed with those of the next. Figures are CPU seconds of this process, and of the server where
//! `--server-pid` names one, since the clock of a shared machine says little; the ratio to the bare loop, in the same run, says
//! most.
#![allow(clippy::print_stdout)] // a measurement is there to be read

use amie_usage::{ApiKey, Cancel, UsageType};
use anyhow::{Context, Result, ensure};
use benches::{Columns, SacctOptions, sacct};
use clap::Parser;
use runner::config::Config;
use runner::engine;
use runner::ledger::{Candidate, Chunk, LeaseRequest, Ledger, Progress, RecordOutcome, Sighting};
use runner::nightly::Night;
use runner::pipeline::mapping::Rows;
use runner::{nightly, plan};
use rusqlite::Connection;
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use usage_sandbox::{Sandbox, Settings};

/// Records a transaction, as the runner gathers them.
const TOGETHER: usize = 10_000;
/// Sightings that are told at once: what the service has on a page.
const PAGE: usize = 25_000;
/// Bytes of generated accounting that make a row, about: some rows are steps, some are charged nothing.
const BYTES_A_ROW: u64 = 270;
/// Long after the generated jobs ended, epoch seconds.
const NOW: i64 = 1_800_000_000;
/// Rows that a night reads again.
const OVERLAP: usize = 70_000;

/// Measures the ledger.
#[derive(Parser)]
struct Arguments {
    /// Rows, about.
    #[arg(long, default_value_t = 500_000)]
    rows: u64,
    /// A ledger in an empty PostgreSQL database at this address, instead of a SQLite file.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// The process of that server (the first line of its postmaster.pid): its CPU time, and that of its children, counts.
    #[arg(long, value_name = "PID", requires = "postgres")]
    server_pid: Option<u32>,
    /// Where the files lie while it runs: a folder on the disk to be measured.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Take in only, and nothing else: for profilers.
    #[arg(long)]
    ingest_only: bool,
    /// Fail below so many rows a CPU second taken in.
    #[arg(long)]
    at_least: Option<f64>,
    /// Fail where a night with nothing new takes longer, seconds.
    #[arg(long)]
    night_at_most: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const CONFIG: &str = r#"
[site]
name = "Bench"
timezone = "UTC"

[api]
url = "SERVICE"
key_env = "NONE"

[ledger]
url = "LEDGER"

[projects]
match = [{ account = '.+', project = "TG-$0" }]

[[source]]
name = "generated"
kind = "sacct"
timezone = "UTC"
forgeable = "accept"
paths = ["sacct.txt"]

[[resource]]
name = "gpu.bench.access-ci.org"
when = { partition = ["gpu", "gpu-h200"] }
[[resource.rate]]
from = 2020-01-01
charge = "gpu_hours"

[[resource]]
name = "cpu.bench.access-ci.org"
when = { cluster = "testhpc" }
[[resource.rate]]
from = 2020-01-01
charge = "core_hours"
"#;

/// One step of the measurement.
struct Step {
    name: &'static str,
    rows: usize,
    cpu: f64,
    wall: f64,
}

impl Step {
    fn a_cpu_second(&self) -> f64 {
        self.rows as f64 / self.cpu
    }
}

/// CPU seconds of a process and its children, those that ended too: fields 14 to 17 of `/proc/PID/stat`, in ticks of 10 ms.
fn cpu_of(parent: u32) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ticks = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        // The name, in brackets, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        match (pid == parent, field(4)? == u64::from(parent)) {
            (true, _) => Some(field(14)? + field(15)? + field(16)? + field(17)?),
            (_, true) => Some(field(14)? + field(15)?),
            _ => None,
        }
    });
    ticks.sum::<u64>() as f64 / 100.0
}

/// The steps, as they end.
struct Steps {
    done: Vec<Step>,
    quiet: bool,
    server: Option<u32>,
}

impl Steps {
    fn time<T>(&mut self, name: &'static str, rows: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let cpu = || cpu_of(std::process::id()) + self.server.map_or(0.0, cpu_of);
        let (started, before) = (Instant::now(), cpu());
        let result = work().context(name)?;
        let step = Step { name, rows, cpu: cpu() - before, wall: started.elapsed().as_secs_f64() };
        if !self.quiet {
            println!(
                "{name:38} {:9} rows  {:8.0} ns CPU a row  {:10.0} rows a CPU second  {:8.2} s by the clock",
                rows,
                step.cpu * 1e9 / rows.max(1) as f64,
                step.a_cpu_second(),
                step.wall,
            );
        }
        self.done.push(step);
        Ok(result)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = match &arguments.folder {
        Some(folder) => tempfile::TempDir::new_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let folder = folder.path();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let sandbox = runtime.block_on(Sandbox::start(Settings::default()))?;
    let place = arguments.postgres.clone().unwrap_or_else(|| "sqlite:ledger.db".to_owned());
    fs::write(
        folder.join("config.toml"),
        CONFIG.replace("SERVICE", &sandbox.base_url()).replace("LEDGER", &place),
    )?;
    let generated = SacctOptions {
        bytes: arguments.rows * BYTES_A_ROW,
        columns: Columns::Collect,
        ..SacctOptions::default()
    };
    let mut out = BufWriter::new(File::create(folder.join(ACCOUNTING))?);
    sacct(&generated, &mut out)?;
    out.flush()?;
    let config = Config::load(&folder.join("config.toml"))?;
    let chunks = rows_of_the_pipeline(&config)?;
    let rows: usize = chunks.iter().map(|chunk| chunk.records.len()).sum();
    let payloads: usize = chunks.iter().map(|chunk| chunk.payloads.len()).sum();
    let mut steps = Steps { done: Vec::new(), quiet: arguments.json, server: arguments.server_pid };
    if !arguments.json {
        println!("{rows} rows, {} bytes of JSON each", payloads / rows.max(1));
    }
    if !arguments.ingest_only {
        steps.time(BARE, rows, || bare(&folder.join("bare.db"), &chunks))?;
        fs::remove_file(folder.join("bare.db"))?;
    }
    let mut ledger = nightly::open_ledger(&config, &sandbox.base_url())?;
    steps.time(INGEST, rows, || {
        for chunk in &chunks {
            let report = ledger.ingest(chunk, NOW)?;
            ensure!(report.inserted == chunk.records.len() as u64, "{report:?}");
        }
        Ok(())
    })?;
    if arguments.ingest_only {
        return Ok(());
    }
    steps.time("taken in again, nothing new", rows, || {
        for chunk in &chunks {
            let report = ledger.ingest(chunk, NOW)?;
            ensure!(report.unchanged == chunk.records.len() as u64, "{report:?}");
        }
        Ok(())
    })?;
    steps.time("leased and settled", rows, || send_all(ledger.as_mut(), rows))?;
    let sightings: Vec<Sighting> = chunks.iter().flat_map(|chunk| &chunk.records).map(shown).collect();
    drop(chunks);
    steps.time("seen loaded", rows, || {
        for page in sightings.chunks(PAGE) {
            let confirmed = ledger.confirm(page, NOW)?;
            ensure!(confirmed.loaded == page.len() as u64, "{confirmed:?}");
        }
        Ok(())
    })?;
    drop(sightings);
    drop(ledger);
    let size = size(&arguments, &folder.join("ledger.db"))?;
    keep_last_lines(&folder.join(ACCOUNTING), OVERLAP)?;
    let night = || runtime.block_on(night(&config, &sandbox.base_url()));
    // The first one also takes in what was left out above.
    night()?;
    steps.time(NIGHT, OVERLAP.min(rows), || {
        let night = night()?;
        ensure!(night.ingested.inserted + night.ingested.held == 0, "{:?}", night.ingested);
        Ok(())
    })?;
    report(&arguments, &steps, rows, size)
}

fn report(arguments: &Arguments, steps: &Steps, rows: usize, size: u64) -> Result<()> {
    let find = |name: &str| steps.done.iter().find(|step| step.name == name).context("a step");
    let (bare, ingest, night) = (find(BARE)?, find(INGEST)?, find(NIGHT)?);
    let ratio = ingest.cpu / bare.cpu;
    if arguments.json {
        let each = steps.done.iter().map(|step| {
            json!({"step": step.name, "rows": step.rows, "cpu_seconds": step.cpu, "seconds": step.wall})
        });
        let each: Vec<_> = each.collect();
        println!(
            "{}",
            json!({"rows": rows, "steps": each, "bytes_a_settled_run": size, "ingest_to_bare": ratio})
        );
    } else {
        println!("taking in costs {ratio:.2} times the CPU of bare inserts; {size} bytes a settled run");
    }
    if let Some(least) = arguments.at_least {
        let speed = ingest.a_cpu_second();
        ensure!(speed >= least, "{speed:.0} rows a CPU second taken in, at least {least} are wanted");
    }
    if let Some(most) = arguments.night_at_most {
        ensure!(
            night.wall <= most,
            "a night with nothing new took {:.2} s, at most {most} are wanted",
            night.wall
        );
    }
    Ok(())
}

const BARE: &str = "bare inserts of the same rows";
const INGEST: &str = "taken in, all new";
const NIGHT: &str = "a night that finds nothing new";
const ACCOUNTING: &str = "sacct.txt";

/// What a run would take in: the generated accounting, read, mapped and rendered.
fn rows_of_the_pipeline(config: &Config) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    for planned in plan::plan(config, None, &[])? {
        let empty = || Rows::new("generated", engine::rules_digest(config, planned.source));
        let mut gathered = empty().chunk;
        let mut keep = |chunk: &mut Chunk| {
            let mut chunk = std::mem::replace(chunk, empty().chunk);
            chunk.files = vec![ACCOUNTING.into()];
            // Zero charges, holds and quarantined texts are few, and left to the nights.
            chunk.records.retain(|record| !record.only_if_sent);
            (chunk.held, chunk.quarantined) = (Vec::new(), Vec::new());
            let frames = chunk.records.len() as u64;
            chunk.progress =
                Some(Progress { path: ACCOUNTING.into(), offset: frames, frames, complete: false });
            chunks.push(chunk);
        };
        engine::each_block(config, &planned, None, empty, |rows: Rows| {
            gathered.append(rows.chunk);
            if gathered.rows() >= TOGETHER {
                keep(&mut gathered);
            }
            Ok::<_, anyhow::Error>(())
        })?;
        keep(&mut gathered);
    }
    Ok(chunks)
}

/// The same rows into one table, fifty a statement, ten thousand a transaction, as durable as the ledger's.
fn bare(path: &Path, chunks: &[Chunk]) -> Result<()> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE record (key TEXT PRIMARY KEY, state INTEGER, submit INTEGER, charge TEXT, digest BLOB, payload TEXT) \
         STRICT, WITHOUT ROWID",
    )?;
    let sql =
        |rows: usize| format!("INSERT INTO record VALUES {}", vec!["(?, 1, ?, ?, ?, ?)"; rows].join(", "));
    for chunk in chunks {
        let mut records: Vec<&Candidate> = chunk.records.iter().collect();
        records.sort_by(|a, b| a.key.cmp(&b.key));
        let transaction = connection.transaction()?;
        for group in records.chunks(50) {
            let mut statement = transaction.prepare_cached(&sql(group.len()))?;
            for (at, one) in (1..).step_by(5).zip(group) {
                let payload = chunk.payloads.get(one.payload.clone()).context("a payload")?;
                statement.raw_bind_parameter(at, &one.key)?;
                statement.raw_bind_parameter(at + 1, one.submit)?;
                statement.raw_bind_parameter(at + 2, one.charge.to_string())?;
                statement.raw_bind_parameter(at + 3, one.source_digest.to_be_bytes())?;
                statement.raw_bind_parameter(at + 4, std::str::from_utf8(payload)?)?;
            }
            statement.raw_execute()?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn send_all(ledger: &mut dyn Ledger, rows: usize) -> Result<()> {
    let mut sent = 0;
    while let Some(leased) = ledger.lease(&LeaseRequest::new(UsageType::Compute, NOW))? {
        sent += leased.records.len();
        let outcomes = vec![RecordOutcome::Accepted; leased.records.len()];
        ledger.settle(leased.batch, &outcomes, "1 POST(s)", NOW)?;
    }
    ensure!(sent == rows, "{sent} of {rows} were sent");
    Ok(())
}

fn shown(one: &Candidate) -> Sighting {
    Sighting::Loaded {
        usage_type: UsageType::Compute,
        resource: one.resource.to_string(),
        local_record_id: one.local_record_id.clone(),
        submit: Some(one.submit),
        charge: Some(one.charge),
        charge_places: Some(one.charge.places()),
        loaded_at: Some(NOW),
    }
}

/// Bytes of the whole ledger.
fn size(arguments: &Arguments, path: &Path) -> Result<u64> {
    let rows = "SELECT count(*) FROM record";
    let (bytes, rows) = match &arguments.postgres {
        None => {
            let connection = Connection::open(path)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            let rows: i64 = connection.query_row(rows, [], |row| row.get(0))?;
            (fs::metadata(path)?.len(), u64::try_from(rows)?)
        }
        Some(url) => {
            let ask = |sql: &str| -> Result<u64> {
                let answer = std::process::Command::new("psql").args([url, "-Atc", sql]).output()?;
                ensure!(answer.status.success(), "psql: {}", String::from_utf8_lossy(&answer.stderr));
                Ok(String::from_utf8(answer.stdout)?.trim().parse()?)
            };
            (ask("SELECT pg_database_size(current_database())")?, ask(rows)?)
        }
    };
    Ok(bytes / rows.max(1))
}

/// A whole night: the ledger opened, the last rows read again, nothing sent.
async fn night(config: &Config, service: &str) -> Result<Night> {
    let api = config.api.as_ref().context("an API")?;
    let client = nightly::client(config, api, ApiKey::new("bench")?).map_err(anyhow::Error::msg)?;
    let planned = plan::plan(config, None, &[])?;
    let mut ledger = nightly::open_ledger(config, service)?;
    let cancel = Cancel::new();
    Ok(nightly::night(config, &planned, api, &client, ledger.as_mut(), Duration::ZERO, &cancel).await?)
}

/// Leaves a text its header and its last lines.
fn keep_last_lines(path: &Path, lines: usize) -> Result<()> {
    let text = fs::read(path)?;
    let header = text.iter().position(|byte| *byte == b'\n').context("a header")? + 1;
    let ends = text.iter().enumerate().skip(header).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let ends: Vec<usize> = ends.collect();
    let from = ends.len().checked_sub(lines + 1).map_or(header, |at| ends[at]);
    fs::write(path, [&text[..header], &text[from..]].concat())?;
    Ok(())
}
