//! What becomes of records: queued, loaded, replaced, failed, cleared; and how status, failed and loaded tell.

use crate::support::*;
use serde_json::{Value, json};
use std::time::Duration;
use usage_sandbox::{RecordFate, Rule, Sandbox, Settings};

fn charged(id: &str, charge: &str) -> Value {
    with(compute(id), "Charge", json!(charge))
}

async fn loaded(sandbox: &Sandbox, query: &str) -> Vec<Value> {
    let (status, body) = get(sandbox, &format!("/usage/loaded{query}")).await;
    assert_eq!(status, 200, "{body}");
    body["Records"].as_array().unwrap().clone()
}

#[tokio::test]
async fn records_load_after_a_while() {
    let sandbox = start(Settings { load_delay: Duration::from_millis(300), ..Settings::default() }).await;
    post(&sandbox, "Compute", &[compute("1")]).await;
    let state = sandbox.state();
    assert_eq!((state.queued.len(), state.loaded.len()), (1, 0), "accepted is not loaded");
    assert_eq!(state.queued[0].processed, None);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let state = sandbox.state();
    assert_eq!((state.queued.len(), state.loaded.len()), (0, 1));
    assert_eq!(state.loaded[0].value(), compute("1"));
    let found = loaded(&sandbox, "").await;
    let time = state.loaded[0].processed.clone().unwrap();
    let expected = json!({
        "AccountingDbRecordID": 1, "LocalRecordID": "1", "Resource": "anvil.example.org", "SubmitTime": "2026-10-02T00:00:00Z",
        "LoadedTime": time, "Charge": "12.5"
    });
    assert_eq!(found, [expected]);
}

#[tokio::test]
async fn the_same_identity_replaces() {
    let sandbox = start(patient()).await;
    let other_submit = with(charged("1", "100"), "SubmitTime", json!("2026-10-02T00:00:01Z"));
    let other_resource = with(charged("1", "1000"), "Resource", json!("other.example.org"));
    post(&sandbox, "Compute", &[charged("1", "1"), other_submit, other_resource]).await;
    sandbox.settle().await;
    post(&sandbox, "Compute", &[charged("1", "2")]).await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "101", "the new version is only queued");
    sandbox.settle().await;
    let state = sandbox.state();
    assert_eq!(state.charge("anvil.example.org"), "102");
    assert_eq!(state.charge("other.example.org"), "1000");
    assert_eq!(state.loaded.len(), 3);
    let versions = &state.history.iter().find(|history| history.versions.len() > 1).unwrap().versions;
    let versions: Vec<_> =
        versions.iter().map(|version| (version.number, version.charge.as_str(), version.fate)).collect();
    assert_eq!(versions, [(1, "1", RecordFate::Replaced), (4, "2", RecordFate::Loaded)]);
    // Sent once more with nothing changed, in one message with itself.
    post(&sandbox, "Compute", &[charged("1", "2"), charged("1", "2")]).await;
    sandbox.settle().await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "102");
    assert_eq!(loaded(&sandbox, "?LocalRecordID=1").await.len(), 3);
}

#[tokio::test]
async fn without_overwriting_the_same_identity_adds() {
    let sandbox = start(Settings { overwrite: false, ..patient() }).await;
    post(&sandbox, "Compute", &[charged("1", "1")]).await;
    post(&sandbox, "Compute", &[charged("1", "2")]).await;
    sandbox.settle().await;
    let state = sandbox.state();
    assert_eq!((state.loaded.len(), state.charge("anvil.example.org")), (2, "3".to_owned()));
    assert_eq!(state.history[0].versions.len(), 2);
}

#[tokio::test]
async fn storage_and_adjustments_add_unless_told_otherwise() {
    for (overwrite_others, records) in [(false, 4), (true, 2)] {
        let sandbox = start(Settings { overwrite_others, ..patient() }).await;
        for _ in 0..2 {
            post(&sandbox, "Storage", &[storage("1")]).await;
            post(&sandbox, "Adjustment", &[adjustment("1")]).await;
        }
        sandbox.settle().await;
        assert_eq!(sandbox.state().loaded.len(), records, "{overwrite_others}");
        assert_eq!(loaded(&sandbox, "").await, [] as [Value; 0], "usage/loaded knows compute records only");
    }
    // An adjustment's id is unique for the resource, whatever its time.
    let sandbox = start(Settings { overwrite_others: true, ..patient() }).await;
    let later = with(adjustment("1"), "StartTime", json!("2026-11-02T00:00:00Z"));
    let next_day = with(storage("1"), "CollectionTime", json!("2026-10-03T00:00:00Z"));
    post(&sandbox, "Adjustment", &[adjustment("1"), later]).await;
    post(&sandbox, "Storage", &[storage("1"), next_day]).await;
    sandbox.settle().await;
    let totals: Vec<_> = sandbox
        .state()
        .totals
        .into_iter()
        .map(|total| (total.kind, total.loaded, total.replaced, total.charge))
        .collect();
    assert_eq!(
        totals,
        [
            ("Storage".to_owned(), 2, 0, "200.5".to_owned()),
            ("Adjustment: refund".to_owned(), 1, 1, "3".to_owned())
        ]
    );
}

fn failing() -> Settings {
    Settings {
        fail_load: vec![Rule::new("Username", "bob", "Allocation could not be found for user <login>")],
        ..patient()
    }
}

#[tokio::test]
async fn failures_stay_until_they_are_cleared() {
    let sandbox = start(failing()).await;
    let bob = |id: &str| with(compute(id), "Username", json!("bob"));
    let (_, accepted) = post(&sandbox, "Compute", &[bob("1"), compute("2"), bob("3")]).await;
    assert_eq!(accepted["ValidationFailedRecords"], json!([]));
    assert_eq!(
        get(&sandbox, "/usage/failed").await.1,
        json!({"ValidationFailedRecords": []}),
        "not processed yet"
    );
    sandbox.settle().await;
    let failure = |id: &str, number: u64| {
        let mut record = bob(id);
        record["UsageType"] = json!("Compute");
        record["Error"] = json!("Allocation could not be found for user bob");
        record["FailedRecordID"] = json!(number);
        record
    };
    for _ in 0..2 {
        let (status, body) = get(&sandbox, "/usage/failed/").await;
        assert_eq!(
            (status, body),
            (200, json!({"ValidationFailedRecords": [failure("1", 1), failure("3", 3)]}))
        );
    }
    let clear = |numbers: &'static str| {
        let request = request(&sandbox, reqwest::Method::DELETE, &format!("/usage/failed/{numbers}"));
        async { answer(request).await.0 }
    };
    assert_eq!(clear("1,2").await, 404, "2 was loaded: nothing is cleared");
    assert_eq!(clear("1,x").await, 400);
    assert_eq!(clear("").await, 405, "that is the path of the list");
    assert_eq!(clear("99999999999999999999").await, 400);
    assert_eq!(sandbox.state().failed.len(), 2);
    assert_eq!(clear("1").await, 200);
    assert_eq!(clear("1").await, 200, "the answer to the first may have been lost");
    assert_eq!(get(&sandbox, "/usage/failed").await.1, json!({"ValidationFailedRecords": [failure("3", 3)]}));
    assert_eq!(clear("1%2C3").await, 200);
    let state = sandbox.state();
    assert_eq!((state.failed.len(), state.cleared.len(), state.loaded.len()), (0, 2, 1));
}

#[tokio::test]
async fn a_failed_version_leaves_the_loaded_one() {
    let settings = Settings { fail_load: vec![Rule::new("Charge", "2", "no")], ..patient() };
    let sandbox = start(settings).await;
    post(&sandbox, "Compute", &[charged("1", "1"), charged("1", "2")]).await;
    sandbox.settle().await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "1");
}

#[tokio::test]
async fn status_goes_by_the_time_of_processing() {
    let sandbox = start(failing()).await;
    let bob = with(compute("3"), "Username", json!("bob"));
    let elsewhere = with(charged("4", "7"), "Resource", json!("zeta.example.org"));
    post(&sandbox, "Compute", &[charged("1", "0.1"), charged("2", "0.2"), bob.clone(), elsewhere]).await;
    post(&sandbox, "Adjustment", &[adjustment("5")]).await;
    assert_eq!(get(&sandbox, "/usage/status").await, (200, json!([])), "nothing is processed yet");
    sandbox.settle().await;
    let processed = sandbox.state().loaded[0].processed.clone().unwrap();
    let mut failed = bob;
    failed["UsageType"] = json!("Compute");
    failed["FailedRecordID"] = json!(3);
    let expected = json!([
        {"Resource": "anvil.example.org", "LoadedRecordCount": 3, "FailedJobCount": 1, "FailedRecordCount": 1, "TotalCharge": "0.3",
         "Errors": [{"Error": "Allocation could not be found for user bob", "Records": [failed]}]},
        {"Resource": "zeta.example.org", "LoadedRecordCount": 1, "FailedJobCount": 0, "FailedRecordCount": 0, "TotalCharge": "7",
         "Errors": []},
    ]);
    let year = "FromTime=2026-10-01T00:00:00Z&ToTime=2026-10-31T00:00:00Z"; // when the job ran
    let (past, future) = ("2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    for (query, found) in [
        (format!("FromTime={past}&ToTime={future}"), true),
        (format!("FromTime={processed}&ToTime={processed}"), true),
        (format!("ToTime={}", processed.replace(':', "%3A")), true),
        (format!("FromTime={future}"), false),
        (format!("ToTime={past}"), false),
        (year.to_owned(), processed.starts_with("2026-10")),
    ] {
        let (status, body) = get(&sandbox, &format!("/usage/status?{query}")).await;
        assert_eq!((status, body), (200, if found { expected.clone() } else { json!([]) }), "{query}");
    }
    // A cleared failure is still in the status of its time.
    answer(request(&sandbox, reqwest::Method::DELETE, "/usage/failed/3")).await;
    assert_eq!(get(&sandbox, "/usage/status/").await.1, expected);
    for query in ["FromTime=yesterday", "From=2026-10-01T00:00:00Z", "ToTime=2026-10-01"] {
        assert_eq!(get(&sandbox, &format!("/usage/status?{query}")).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn loaded_comes_in_pages() {
    let sandbox = start(patient()).await;
    let records: Vec<_> = (1..=7).map(|number| charged(&format!("job.{number}"), "1")).collect();
    post(&sandbox, "Compute", &records).await;
    sandbox.settle().await;
    let ids = |records: Vec<Value>| {
        records.into_iter().map(|record| record["AccountingDbRecordID"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    for offset in [0, 3, 6, 9] {
        seen.push(ids(loaded(&sandbox, &format!("?Limit=3&Offset={offset}")).await));
    }
    assert_eq!(seen, [vec![1, 2, 3], vec![4, 5, 6], vec![7], vec![]]);
    assert_eq!(ids(loaded(&sandbox, "?LocalRecordID=job.5").await), [5]);
    assert_eq!(ids(loaded(&sandbox, "?LocalRecordID=job").await), [] as [u64; 0]);
    assert_eq!(
        ids(loaded(&sandbox, "?Limit=25000&MinLoadedTime=2999-01-01T00:00:00Z").await),
        [] as [u64; 0]
    );
    assert_eq!(ids(loaded(&sandbox, "?MinLoadedTime=2001-01-01T00:00:00Z").await).len(), 7);
    for query in ["Limit=25001", "Limit=-1", "Limit=x", "limit=3", "Offset=1.5", "MinLoadedTime=1"] {
        assert_eq!(get(&sandbox, &format!("/usage/loaded?{query}")).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn charges_come_back_as_the_service_keeps_them() {
    for (settings, expected, total) in [
        (patient(), r#""Charge":"1.005000""#, r#""TotalCharge":"1.005""#),
        (Settings { charge_places: Some(2), ..patient() }, r#""Charge":"1""#, r#""TotalCharge":"1""#),
        (Settings { charges_as_numbers: true, ..patient() }, r#""Charge":1.005"#, r#""TotalCharge":1.005"#),
        (
            Settings { charges_as_numbers: true, charge_places: Some(2), ..patient() },
            r#""Charge":1"#,
            r#""TotalCharge":1"#,
        ),
    ] {
        let sandbox = start(settings).await;
        post(&sandbox, "Compute", &[charged("1", "1.005000")]).await;
        sandbox.settle().await;
        for (call, expected) in [("/usage/loaded", expected), ("/usage/status", total)] {
            let text =
                request(&sandbox, reqwest::Method::GET, call).send().await.unwrap().text().await.unwrap();
            assert!(
                text.contains(&format!("{expected}}}")) || text.contains(&format!("{expected},")),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn summary_is_not_implemented() {
    let sandbox = start(patient()).await;
    assert_eq!(get(&sandbox, "/usage/summary").await.0, 501);
}
