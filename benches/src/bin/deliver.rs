//! How many records a second the client delivers to the sandbox over loopback, beside a bare echo of the same bytes:
//! `cargo run --release -p benches --bin deliver`.
//!
//! The sandbox and the echo run in a process of their own, so that the memory of each side can be seen. The client is
//! `amie_usage::deliver` with its default limits (192 KiB and 1,000 records a message). Both sides share the machine's
//! cores, as on loopback they must. On a busy machine the wall clock says little: the figures per CPU second, of both
//! sides together, and their ratio to the echo's hardly move.
#![allow(clippy::print_stdout)] // a measurement is there to be read

use amie_usage::{
    ApiKey, Cancel, Client, ClientConfig, ComputeAttributes, ComputeUsageRecord, Decimal, Limits,
    RecordOutcome, RetryBudget, UsageType, deliver, wire,
};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use usage_sandbox::{Sandbox, Settings};

/// Records that one task takes at a time.
const CHUNK: u64 = 4000;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n{\"Message\":\"\",\"ValidationFailedRecords\":[]}";

/// Delivers records to a sandbox of its own, and the same bytes to a bare echo, in turn.
#[derive(Parser)]
struct Arguments {
    /// Records of one run.
    #[arg(long, default_value_t = 500_000)]
    records: u64,
    /// Messages in flight.
    #[arg(long, default_value_t = 4)]
    in_flight: u64,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Fail below so many records a second.
    #[arg(long)]
    at_least: Option<f64>,
    /// Fail below this share of the echo, per CPU second.
    #[arg(long)]
    at_least_ratio: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Be the other side: print its addresses and serve until stdin ends.
    #[arg(long, hide = true)]
    serve: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.serve { serve().await } else { measure(&arguments).await }
}

/// The sandbox, and the echo.
async fn serve() -> Result<()> {
    let sandbox = Sandbox::start(Settings { load_delay: Duration::ZERO, ..Settings::default() }).await?;
    let echo = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", sandbox.base_url(), echo.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = echo.accept().await {
            tokio::spawn(answer_everything(stream));
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    sandbox.stop().await;
    Ok(())
}

/// Reads messages and answers that all is well: eight bytes of length, then so many bytes.
async fn answer_everything(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut body = Vec::new();
    loop {
        let length = usize::try_from(stream.read_u64().await?).unwrap_or(usize::MAX);
        body.resize(length.min(1 << 20), 0);
        stream.read_exact(&mut body).await?;
        stream.write_all(ANSWER).await?;
    }
}

/// The other side, in a process of its own.
struct Service {
    child: Child,
    url: String,
    echo: String,
}

impl Service {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let (url, echo) = line.trim().split_once(' ').context("the other side does not serve")?;
        Ok(Self { url: url.to_owned(), echo: echo.to_owned(), child })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let (mut ours, mut cpu, mut bare, mut bare_cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut a_record) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs.max(1) {
        let service = Service::start()?;
        let before = resident(service.child.id())?;
        let cpu_before = cpu_seconds(std::process::id())? + cpu_seconds(service.child.id())?;
        let sent = delivered(arguments, &service).await?;
        let cpu_after = cpu_seconds(std::process::id())? + cpu_seconds(service.child.id())?;
        ours.push(arguments.records as f64 / sent.seconds);
        cpu.push(arguments.records as f64 / (cpu_after - cpu_before).max(0.01));
        memory.push(sent.growth);
        a_record.push(resident(service.child.id())?.saturating_sub(before) / arguments.records.max(1));
        bare.push(arguments.records as f64 / echoed(arguments, &service).await?);
        let cpu_echo = cpu_seconds(std::process::id())? + cpu_seconds(service.child.id())? - cpu_after;
        bare_cpu.push(arguments.records as f64 / cpu_echo.max(0.01));
    }
    let (ours, cpu) = (median(&mut ours), median(&mut cpu));
    let (bare, bare_cpu) = (median(&mut bare), median(&mut bare_cpu));
    let ratio = cpu / bare_cpu;
    let growth = memory.iter().copied().max().unwrap_or_default() / 1024;
    let a_record = a_record.iter().copied().max().unwrap_or_default();
    if arguments.json {
        let result = serde_json::json!({
            "records": arguments.records, "records_per_second": ours.round(), "records_per_cpu_second": cpu.round(),
            "echo_records_per_second": bare.round(),
            "echo_records_per_cpu_second": bare_cpu.round(),
            "ratio": (ratio * 1e3).round() / 1e3, "client_memory_growth_kib": growth, "sandbox_bytes_a_record": a_record,
        });
        println!("{result}");
    } else {
        println!("delivered     {ours:10.0} records/s; {cpu:.0} per CPU second of both sides together");
        println!(
            "bare echo     {bare:10.0} records/s; {bare_cpu:.0} per CPU second; ratio of the latter {ratio:.3}"
        );
        println!(
            "memory        the client grew by {growth} KiB after its first tenth, the sandbox by {a_record} bytes a record"
        );
    }
    let enough = arguments.at_least.is_none_or(|wanted| ours >= wanted);
    ensure!(enough, "fewer than {:?} records a second", arguments.at_least);
    ensure!(
        arguments.at_least_ratio.is_none_or(|wanted| ratio >= wanted),
        "slower beside the echo than wanted"
    );
    Ok(())
}

struct Sent {
    seconds: f64,
    /// Bytes by which this process grew after the first tenth.
    growth: u64,
}

/// Sends everything with the client.
async fn delivered(arguments: &Arguments, service: &Service) -> Result<Sent> {
    let client = Client::new(ClientConfig::new(&service.url, "Site", ApiKey::new("key")?))?;
    let next = Arc::new(AtomicU64::new(0));
    let total = arguments.records;
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..arguments.in_flight {
        let (client, next) = (client.clone(), next.clone());
        tasks.spawn(async move {
            let (limits, budget, cancel) = (Limits::default(), RetryBudget::default(), Cancel::new());
            loop {
                let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                if first >= total {
                    return anyhow::Ok(());
                }
                let (bytes, ends) = prepared(first..total.min(first + CHUNK))?;
                let records = slices(&bytes, &ends);
                let delivery =
                    deliver(&client, UsageType::Compute, &records, &limits, &budget, &cancel).await;
                let accepted = delivery.outcomes.iter().all(|outcome| *outcome == RecordOutcome::Accepted);
                ensure!(accepted, "not accepted: {:?}", delivery.stop_reason);
            }
        });
    }
    let mut tenth = 0;
    while !tasks.is_empty() {
        tokio::select! {
            Some(done) = tasks.join_next() => done??,
            () = tokio::time::sleep(Duration::from_millis(20)), if tenth == 0 => {
                if next.load(Ordering::Relaxed) > total / 10 {
                    tenth = resident(std::process::id())?;
                }
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let now = resident(std::process::id())?;
    Ok(Sent { seconds, growth: if tenth == 0 { 0 } else { now.saturating_sub(tenth) } })
}

/// Sends the same messages to the echo; answers the seconds that it took.
async fn echoed(arguments: &Arguments, service: &Service) -> Result<f64> {
    let next = Arc::new(AtomicU64::new(0));
    let total = arguments.records;
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..arguments.in_flight {
        let (next, echo) = (next.clone(), service.echo.clone());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(echo).await?;
            stream.set_nodelay(true)?;
            let mut answer = vec![0; ANSWER.len()];
            let limits = Limits::default();
            loop {
                let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                if first >= total {
                    return anyhow::Ok(());
                }
                let (bytes, ends) = prepared(first..total.min(first + CHUNK))?;
                let records = slices(&bytes, &ends);
                let a_message = limits.max_body_bytes / (bytes.len() / records.len().max(1)).max(1);
                for records in records.chunks(a_message.max(1)) {
                    let body = wire::message_body(UsageType::Compute, records.iter().copied());
                    stream.write_u64(body.len() as u64).await?;
                    stream.write_all(&body).await?;
                    stream.read_exact(&mut answer).await?;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Rendered records, one behind the other, and where each ends. About 450 bytes each, all different.
fn prepared(numbers: std::ops::Range<u64>) -> Result<(Vec<u8>, Vec<usize>)> {
    let (mut bytes, mut ends) =
        (Vec::with_capacity(CHUNK as usize * 460), Vec::with_capacity(CHUNK as usize));
    for number in numbers {
        let submit = 1_790_899_200 + i64::try_from(number % 86_400)?;
        let record = ComputeUsageRecord {
            username: format!("x-user{}", number * 7919 % 700).into(),
            local_project_id: format!("TG-ABC{:06}", number * 31 % 150).into(),
            local_record_id: format!("{number}").into(),
            resource: "anvil-cpu.testsite.access-ci.org".into(),
            submit_time: submit,
            start_time: submit + 3600,
            end_time: submit + 7200,
            charge: Decimal::new(i128::from(number * 104_729 % 512_000_000), 6),
            attributes: ComputeAttributes {
                node_count: 1 + number % 16,
                cpu_core_count: Some(128 * (1 + number % 16)),
                job_name: Some(format!("simulation-{}", number * 104_729 % 100_003).into()),
                memory: None,
                queue: Some("wholenode".into()),
            },
            parent_record_id: None,
            local_reference: Some(format!("slurm/anvil/{number:010}/{submit}").into()),
        };
        wire::render_compute(&record, &mut bytes)?;
        ends.push(bytes.len());
    }
    Ok((bytes, ends))
}

fn slices<'a>(bytes: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| bytes.get(start..*end).unwrap_or_default()).collect()
}

/// CPU time of a process so far, user and system.
fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; behind it, user and system time are the 12th and 13th field.
    let (_, fields) = stat.rsplit_once(')').context("no stat")?;
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

/// Bytes of memory that a process has in use, without what it only mapped.
fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
