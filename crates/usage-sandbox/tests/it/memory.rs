//! How much a sandbox needs for what it holds: stated in the documentation, measured here.

use crate::support::*;
use serde_json::json;
use usage_sandbox::Settings;

/// What a record may cost, in bytes of memory, beside what a sandbox needs anyway.
const A_RECORD: u64 = 320;
const RECORDS: u64 = 200_000;

/// Bytes of memory that this process has in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Runs alone, in a process of its own: other tests allocate too.
#[test]
fn a_record_costs_little_memory() {
    if std::env::var_os("AMIE_SANDBOX_MEMORY").is_none() {
        let test = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::a_record_costs_little_memory", "--nocapture"])
            .env("AMIE_SANDBOX_MEMORY", "1")
            .status();
        assert!(test.unwrap().success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = start(Settings { load_delay: std::time::Duration::ZERO, ..Settings::default() }).await;
        let client = client();
        let mut bytes = 0;
        let mut before = 0;
        for message in 0..RECORDS / 400 {
            let records: Vec<_> = (0..400)
                .map(|number| {
                    let number = message * 400 + number;
                    let mut record = compute(&format!("{number}"));
                    record["Username"] = json!(format!("x-user{}", number % 700));
                    record["LocalProjectID"] = json!(format!("TG-ABC{:06}", number % 150));
                    record["Charge"] = json!(format!("{}.{number:06}", number * 7919 % 512));
                    record["Attributes"]["JobName"] =
                        json!(format!("simulation-{}", number * 104_729 % 100_003));
                    record["LocalReference"] =
                        json!(format!("slurm/anvil/{number:010}/{}", 1_790_899_200 + number * 31 % 86_400));
                    record
                })
                .collect();
            let body = json!({"UsageType": "Compute", "Records": records}).to_string();
            bytes += body.len();
            let request = client.post(format!("{}/usage/", sandbox.base_url())).body(body);
            let request = request.header("XA-SITE", "S").header("XA-API-KEY", "k");
            let answer = request.header("Content-Type", "application/json").send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200);
            if message == 0 {
                before = resident();
            }
        }
        let cost = resident().saturating_sub(before) / RECORDS;
        println!("{cost} bytes of memory a record of {} bytes", bytes as u64 / RECORDS);
        assert!(cost <= A_RECORD, "{cost} bytes a record");
        let totals = sandbox.totals();
        assert_eq!(totals.iter().map(|total| total.loaded).sum::<u64>(), RECORDS);
        assert_eq!(totals.len(), 150);
    });
}
