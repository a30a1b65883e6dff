//! How many records a second a sandbox takes over loopback, and what a million of them cost in memory.
//!
//! `cargo run --release -p usage-sandbox --example throughput [RECORDS] [STATE_FILE]`
#![allow(clippy::print_stdout)] // a measurement is there to be read

use std::fmt::Write;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use usage_sandbox::{Sandbox, Settings};

/// About 200 KB a message, as a client would send them.
const RECORDS_A_MESSAGE: u64 = 400;
const CONNECTIONS: u64 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().unwrap_or_else(|| "1000000".to_owned()).parse()?;
    let state_file = arguments.next().map(Into::into);
    let settings = Settings { load_delay: Duration::ZERO, state_file, ..Settings::default() };
    let sandbox = Sandbox::start(settings).await?;
    let begin = Instant::now();
    let mut senders = Vec::new();
    for connection in 0..CONNECTIONS {
        let stream = TcpStream::connect(sandbox.address()).await?;
        senders.push(tokio::spawn(send(stream, connection, records / CONNECTIONS)));
    }
    let mut bytes = 0;
    for sender in senders {
        bytes += sender.await??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{records} records, {bytes} bytes, {seconds:.2} s");
    println!("{:.0} records/s, {:.0} MB/s", records as f64 / seconds, bytes as f64 / seconds / 1e6);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("memory is unknown"));
    for path in
        ["/", "/api/v1_test/usage/status", "/api/v1_test/usage/loaded?Offset=900000", "/sandbox/state"]
    {
        let mut stream = TcpStream::connect(sandbox.address()).await?;
        let begin = Instant::now();
        let head = format!("GET {path} HTTP/1.1\r\nXA-SITE: s\r\nXA-API-KEY: k\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        println!("GET {path}: {} bytes, {:.2} s", answer.len(), begin.elapsed().as_secs_f64());
    }
    println!("charge {}", sandbox.state().charge("anvil.example.org"));
    sandbox.stop().await;
    Ok(())
}

/// Sends messages one after the other on one connection; answers the bytes of their bodies.
async fn send(mut stream: TcpStream, connection: u64, records: u64) -> std::io::Result<u64> {
    stream.set_nodelay(true)?;
    let (mut sent, mut bytes) = (0, 0);
    let mut answer = vec![0; 16 * 1024];
    while sent < records {
        let count = RECORDS_A_MESSAGE.min(records - sent);
        let body = message(connection, sent..sent + count);
        let head = format!(
            "POST /api/v1_test/usage/ HTTP/1.1\r\nXA-SITE: s\r\nXA-API-KEY: k\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        // The answer to a message without failures is short and comes whole.
        let length = stream.read(&mut answer).await?;
        if !answer.get(..length).unwrap_or_default().ends_with(b"\"ValidationFailedRecords\":[]}") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        sent += count;
        bytes += body.len() as u64;
    }
    Ok(bytes)
}

fn message(connection: u64, numbers: std::ops::Range<u64>) -> String {
    let mut body = String::from("{\"UsageType\":\"Compute\",\"Records\":[");
    for number in numbers {
        if !body.ends_with('[') {
            body.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(
            body,
            "{{\"Username\":\"x-user{user}\",\"LocalProjectID\":\"TG-ABC{project:06}\",\"LocalRecordID\":\"{connection}{number:08}\",\
             \"Resource\":\"anvil.example.org\",\"SubmitTime\":\"2026-10-02T00:00:00Z\",\"StartTime\":\"2026-10-02T01:00:00Z\",\
             \"EndTime\":\"2026-10-02T03:00:00Z\",\"Charge\":\"{hours}.{number:06}\",\"Attributes\":{{\"NodeCount\":2,\
             \"CpuCoreCount\":256,\"JobName\":\"simulation-{number}\",\"Queue\":\"wholenode\"}},\
             \"LocalReference\":\"anvil/{connection}{number:08}/1790899200\"}}",
            user = number % 700,
            project = number % 150,
            hours = number % 512,
        );
    }
    body.push_str("]}");
    body
}
