//! Sends a file by hand: one rendered record a line, all of one type.
//!
//! ```sh
//! cargo run -p amie-usage --example send -- URL SITE KEYFILE Compute RECORDS.ndjson
//! ```

// An example prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use amie_usage::{
    ApiKey, Cancel, Client, ClientConfig, Limits, RecordOutcome, RetryBudget, UsageType, deliver, wire,
};
use std::error::Error;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, site, key_file, usage_type, records] = arguments.as_slice() else {
        eprintln!("usage: send URL SITE KEYFILE Compute|Storage|Adjustment RECORDS.ndjson");
        return ExitCode::from(2);
    };
    match send(url, site, key_file, usage_type, records).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("send: {error}");
            ExitCode::from(2)
        }
    }
}

pub(crate) async fn send(
    url: &str,
    site: &str,
    key_file: &str,
    usage_type: &str,
    records: &str,
) -> Result<ExitCode, Box<dyn Error>> {
    let usage_type = UsageType::ALL
        .into_iter()
        .find(|known| known.as_str() == usage_type)
        .ok_or("the type is Compute, Storage or Adjustment")?;
    let client = Client::new(ClientConfig::new(url, site, ApiKey::from_file(key_file)?))?;
    let text = std::fs::read(records)?;
    let records: Vec<&[u8]> =
        text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();

    let budget = RetryBudget::default();
    let delivery = deliver(&client, usage_type, &records, &Limits::default(), &budget, &Cancel::new()).await;
    for (line, outcome) in delivery.outcomes.iter().enumerate() {
        let (word, why) = match outcome {
            RecordOutcome::Accepted => ("accepted", ""),
            RecordOutcome::Refused(why) => ("refused", why.as_str()),
            RecordOutcome::Unknown(why) => ("unknown", why.as_str()),
            RecordOutcome::NotSent(why) => ("not sent", why.as_str()),
        };
        println!("{}\t{word}\t{}", line + 1, wire::printable(why, 200));
    }
    if let Some(reason) = &delivery.stop_reason {
        eprintln!("send: stopped: {reason}");
        return Ok(ExitCode::from(3));
    }
    let settled = delivery.outcomes.iter().all(|outcome| *outcome == RecordOutcome::Accepted);
    Ok(if settled { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
