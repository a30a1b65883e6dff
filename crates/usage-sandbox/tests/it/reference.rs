//! The contract: the reference client itself, amieclient 0.4.0 in a Python of its own, in every call that works in it.
//!
//! `scripts/test` installs it and names its Python in `AMIE_REFERENCE_PYTHON`. Without that, a client that an earlier
//! `scripts/test` left behind is used; where there is none, the test says so and ends.

use crate::support::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use usage_sandbox::{Rule, Settings, State, UsageType};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python that has the reference client; `None` where nobody has installed it.
fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("AMIE_REFERENCE_PYTHON") {
        return Some(python.into());
    }
    let left_behind = root().join("target/amieclient-0.4.0/bin/python");
    left_behind.exists().then_some(left_behind)
}

/// The records of a captured message, each with its very bytes. They are one line of JSON, apart by `, `.
fn captured(name: &str) -> Vec<String> {
    let path = root().join(format!("fixtures/wire/amieclient-0.4.0-{name}.http"));
    let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let (_, records) = body.split_once("\"Records\": [").unwrap();
    let mut rest = records.strip_suffix("]}").unwrap();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        values.next().unwrap().unwrap();
        let end = values.byte_offset();
        found.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches(", ");
    }
    found
}

/// The very bytes of everything that arrived of one type, in the order of arrival, refused records last.
fn arrived(state: &State, usage_type: UsageType) -> Vec<String> {
    let mut stored: Vec<_> =
        state.loaded.iter().chain(&state.failed).filter(|record| record.usage_type == usage_type).collect();
    stored.sort_by_key(|record| record.number);
    let refused = state.refused.iter().filter(|record| record.usage_type == usage_type);
    let stored = stored.into_iter().map(|record| record.record.get().to_owned());
    stored.chain(refused.map(|record| record.record.get().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_client_understands_every_answer() {
    let Some(python) = python() else {
        println!("SKIPPED: amieclient 0.4.0 is not installed; scripts/test installs it");
        return;
    };
    let error = "Allocation could not be found for user <login>";
    let settings = Settings {
        load_delay: Duration::ZERO,
        fail_load: vec![Rule::new("Username", "mallory", error)],
        ..Settings::default()
    };
    let sandbox = start(settings).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference_client.py");
    let url = sandbox.base_url();
    let run = move || std::process::Command::new(python).arg(script).arg(url).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();

    // What arrived is what was captured, to the byte. The second compute record has its count as a text: it is refused.
    let state = sandbox.state();
    let compute = captured("compute");
    assert_eq!(arrived(&state, UsageType::Compute)[0], compute[0]);
    assert_eq!(arrived(&state, UsageType::Compute).last(), Some(&compute[1]));
    assert_eq!(arrived(&state, UsageType::Adjustment), captured("adjustment"));

    let answer = |accepted: usize, failed: Value| {
        let message =
            format!("{accepted} records queued, {} failed validation", failed.as_array().unwrap().len());
        json!([{"Message": message, "ValidationFailedRecords": failed}])
    };
    let refused = &said["compute"][0]["ValidationFailedRecords"][0];
    assert_eq!(refused["Error"], "Attributes.NodeCount must be a whole number, not negative");
    assert_eq!((&refused["LocalRecordID"], &refused["UsageType"]), (&json!("66+1"), &json!("compute")));
    assert_eq!(said["compute"][0]["Message"], "1 records queued, 1 failed validation");
    assert_eq!(said["adjustment"], answer(1, json!([])));
    assert_eq!(said["one"], answer(1, json!([])));
    assert_eq!(said["list"], answer(2, json!([])));

    let failed = said["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1);
    let (ours, theirs) = (&state.failed[0], &failed[0]);
    assert_eq!(theirs["Error"], "Allocation could not be found for user mallory");
    assert_eq!(
        (&theirs["Type"], &theirs["FailedRecordID"]),
        (&json!("ComputeUsageRecord"), &json!(ours.number))
    );
    assert_eq!((&theirs["LocalRecordID"], &theirs["Username"]), (&json!("three"), &json!("mallory")));

    for name in ["status", "status_naive", "status_open"] {
        let status = said[name].as_array().unwrap();
        assert_eq!(status.len(), 1, "{name}: {status:?}");
        let status = &status[0];
        assert_eq!(status["Resource"], "testhpc-cpu.testsite.access-ci.org", "{name}");
        // Three compute records and the adjustment; 12.5 + 1.5 + 1.5.
        assert_eq!(
            (&status["LoadedRecordCount"], &status["FailedJobCount"], &status["TotalCharge"]),
            (&json!(4), &json!(1), &json!("15.5")),
            "{name}"
        );
        assert_eq!(status["Errors"][0]["Error"], "Allocation could not be found for user mallory");
        assert_eq!(status["Errors"][0]["Records"][0]["LocalRecordID"], "three");
    }
    assert_eq!(said["status_before"], json!([]));

    let whole = "the message could not be processed";
    assert_eq!(said["refused_whole"], json!({"type": "UsageResponseError", "text": whole}));
    assert_eq!(said["busy"]["type"], "HTTPError");
    for name in ["failed_broken", "status_broken"] {
        assert_eq!(
            said[name],
            json!({"type": "UsageResponseError", "text": "this answer is a fault on purpose"})
        );
    }
    assert_eq!((state.loaded.len(), state.failed.len(), state.refused.len()), (4, 1, 1));
}
