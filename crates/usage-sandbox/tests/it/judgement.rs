//! What is refused: each field of each type of record, whole messages, senders, and what one site's service knows.

use crate::support::*;
use serde_json::{Value, json};
use usage_sandbox::{Allocation, Known, Rule, Settings};

/// Posts one record beside a good one; answers the error that it met, if any.
async fn error_of(usage_type: &str, record: Value) -> Option<String> {
    let sandbox = start(patient()).await;
    let good = match usage_type {
        "Compute" => compute("good"),
        "Storage" => storage("good"),
        _ => adjustment("good"),
    };
    let (status, body) = post(&sandbox, usage_type, &[record.clone(), good]).await;
    assert_eq!(status, 200, "{body}");
    let state = sandbox.state();
    let failed = body["ValidationFailedRecords"].as_array().unwrap();
    assert_eq!(
        (state.queued.len(), state.refused.len()),
        (2 - failed.len(), failed.len()),
        "the good one is stored in any case"
    );
    let error = failed.first().map(|failed| failed["Error"].as_str().unwrap().to_owned());
    if let Some(error) = &error {
        // Flattened: the record's own fields, and two more.
        let mut expected = record;
        expected["UsageType"] = usage_type.into();
        expected["Error"] = error.as_str().into();
        assert_eq!(failed, &[expected]);
        assert_eq!(&state.refused[0].error, error);
    }
    sandbox.stop().await;
    error
}

#[tokio::test]
async fn full_and_least_records_pass() {
    let least = [
        "Attributes.CpuCoreCount",
        "Attributes.JobName",
        "Attributes.Queue",
        "Attributes.Memory",
        "ParentRecordID",
        "LocalReference",
    ];
    let least_compute = least.into_iter().fold(compute("2"), without);
    let least_storage = ["Attributes", "LocalReference"].into_iter().fold(storage("2"), without);
    let least_adjustment = ["Comment", "LocalReference"].into_iter().fold(adjustment("2"), without);
    for (usage_type, record) in [
        ("Compute", compute("1")),
        ("Compute", least_compute),
        ("Storage", storage("1")),
        ("Storage", least_storage),
        ("Adjustment", adjustment("1")),
        ("Adjustment", least_adjustment),
    ] {
        assert_eq!(error_of(usage_type, record).await, None);
    }
}

#[tokio::test]
async fn what_the_reference_client_sends_passes() {
    // Captured from amieclient 0.4.0: UsageMessage([ComputeUsageRecord(...)]).json()
    let body = r#"{"UsageType": "Compute", "Records": [{"Username": "alice", "LocalProjectID": "TG-1", "LocalRecordID": "1", "Resource": "anvil", "SubmitTime": "2026-10-02T00:00:00Z", "StartTime": "2026-10-02T01:00:00Z", "EndTime": "2026-10-02T03:00:00Z", "Charge": "12.5", "Attributes": {"NodeCount": 2, "Queue": "wide"}, "ParentRecordID": [null]}]}"#;
    let sandbox = start(patient()).await;
    let (status, answer) = post_text(&sandbox, body).await;
    assert_eq!((status, &answer["ValidationFailedRecords"]), (200, &json!([])));
    assert_eq!(sandbox.state().queued[0].charge, "12.5");
}

#[tokio::test]
async fn every_required_field_is_missed() {
    let compute_fields = [
        "Username",
        "LocalProjectID",
        "LocalRecordID",
        "Resource",
        "SubmitTime",
        "StartTime",
        "EndTime",
        "Charge",
        "Attributes",
        "Attributes.NodeCount",
    ];
    let storage_fields =
        ["Username", "LocalProjectID", "LocalRecordID", "Resource", "CollectionTime", "Charge"];
    let adjustment_fields =
        ["AdjustmentType", "Charge", "StartTime", "LocalProjectID", "LocalRecordID", "Resource", "Username"];
    let cases = [
        ("Compute", compute("1"), &compute_fields[..]),
        ("Storage", storage("1"), &storage_fields),
        ("Adjustment", adjustment("1"), &adjustment_fields),
    ];
    for (usage_type, record, fields) in cases {
        for field in fields {
            let error = error_of(usage_type, without(record.clone(), field)).await;
            assert_eq!(error, Some(format!("{field} is missing")));
        }
    }
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    for (usage_type, record, field) in [
        ("Compute", compute("1"), "Walltime"),
        ("Compute", compute("1"), "Attributes.GpuCount"),
        ("Compute", compute("1"), "username"),
        ("Storage", storage("1"), "ParentRecordID"),
        ("Storage", storage("1"), "Attributes.NodeCount"),
        ("Adjustment", adjustment("1"), "Attributes"),
    ] {
        let error = error_of(usage_type, with(record, field, json!({}))).await;
        assert_eq!(error, Some(format!("unknown field {field}")));
    }
}

#[tokio::test]
async fn each_field_has_a_type() {
    let time = "must be a UTC time in whole seconds like 2026-10-02T00:00:00Z";
    let count = "must be a whole number, not negative";
    for (field, value, reason) in [
        ("Username", json!(7), "must be a string"),
        ("Username", json!(""), "must not be empty"),
        ("Username", json!(null), "must be a string"),
        ("LocalProjectID", json!(["TG"]), "must be a string"),
        ("LocalRecordID", json!(4711), "must be a string"),
        ("Resource", json!(""), "must not be empty"),
        ("SubmitTime", json!(1_790_899_200), time),
        ("SubmitTime", json!("2026-10-02 00:00:00"), time),
        ("StartTime", json!("2026-10-02T01:00:00.5Z"), time),
        ("EndTime", json!("2026-10-02T03:00:00+00:00"), time),
        ("EndTime", json!("Unknown"), time),
        ("Charge", json!("1e3"), "must not have an exponent"),
        ("Charge", json!("-1"), "must not be negative"),
        ("Charge", json!(-0.5), "must not be negative"),
        ("Charge", json!("1,5"), "must be a plain decimal number"),
        ("Charge", json!(""), "must be a plain decimal number"),
        ("Charge", json!(null), "must be a string or a number"),
        ("Charge", json!(["1"]), "must be a string or a number"),
        ("Attributes", json!([]), "must be an object"),
        ("Attributes.NodeCount", json!("2"), count),
        ("Attributes.NodeCount", json!(2.5), count),
        ("Attributes.NodeCount", json!(-2), count),
        ("Attributes.CpuCoreCount", json!(null), count),
        ("Attributes.JobName", json!(1), "must be a string"),
        ("Attributes.Queue", json!(null), "must be a string"),
        ("Attributes.Memory", json!({}), "must be a string or a number"),
        ("ParentRecordID", json!(1), "must be a string"),
        ("ParentRecordID", json!([1]), "must be a string"),
        ("LocalReference", json!(1), "must be a string"),
    ] {
        let error = error_of("Compute", with(compute("1"), field, value.clone())).await;
        assert_eq!(error, Some(format!("{field} {reason}")), "{value}");
    }
    for (field, value, reason) in [
        ("CollectionTime", json!("2026-10-02"), time),
        ("Attributes.BytesStored", json!("1"), count),
        ("Attributes.CollectionInterval", json!(-1), "must be a number, not negative"),
        ("Attributes.MediaType", json!(5), "must be a string"),
    ] {
        let error = error_of("Storage", with(storage("1"), field, value)).await;
        assert_eq!(error, Some(format!("{field} {reason}")));
    }
    let words = "must be one of credit, refund, storage-credit, debit, reservation, storage-debit";
    for value in [json!("Refund"), json!("gift"), json!(1)] {
        let error = error_of("Adjustment", with(adjustment("1"), "AdjustmentType", value)).await;
        assert_eq!(error, Some(format!("AdjustmentType {words}")));
    }
}

#[tokio::test]
async fn what_the_documentation_leaves_open_passes() {
    for (field, value) in [
        ("Charge", json!("0")),
        ("Charge", json!("0.000001")),
        ("Charge", json!(12.5)),
        ("Charge", json!(12)),
        ("SubmitTime", json!("2026-10-02T02:00:00Z")), // after the start: a restored accounting data base has such
        ("EndTime", json!("2026-10-02T01:00:00Z")),    // no time at all
        ("ParentRecordID", json!([null])),             // what the reference client sends
        ("ParentRecordID", json!(["1"])),
        ("Attributes.Memory", json!(512)),
        ("Attributes.NodeCount", json!(0)),
        ("Attributes.JobName", json!("a|b\n\u{202e}<script>")),
    ] {
        assert_eq!(
            error_of("Compute", with(compute("1"), field, value.clone())).await,
            None,
            "{field} {value}"
        );
    }
    for word in ["credit", "refund", "storage-credit", "debit", "reservation", "storage-debit"] {
        let record = with(adjustment("1"), "AdjustmentType", json!(word));
        assert_eq!(error_of("Adjustment", record).await, None);
    }
}

#[tokio::test]
async fn a_run_ends_after_it_starts_and_all_errors_are_named() {
    let backwards = with(compute("1"), "EndTime", json!("2026-10-02T00:59:59Z"));
    assert_eq!(error_of("Compute", backwards.clone()).await.as_deref(), Some("EndTime is before StartTime"));
    let worse = with(without(backwards, "Username"), "Charge", json!("x"));
    let expected = "Username is missing; Charge must be a plain decimal number; EndTime is before StartTime";
    assert_eq!(error_of("Compute", worse).await.as_deref(), Some(expected));
}

#[tokio::test]
async fn numbers_are_judged_by_their_text() {
    let sandbox = start(patient()).await;
    let text = |id: &str, charge: &str| compute(id).to_string().replace("\"12.5\"", charge);
    let records =
        [text("1", "1e1"), text("2", "0.10"), text("3", "12345678901234567890.12345678901234567890")];
    let body = format!("{{\"UsageType\":\"Compute\",\"Records\":[{}]}}", records.join(","));
    let (status, answer) = post_text(&sandbox, &body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["ValidationFailedRecords"][0]["Error"], "Charge must not have an exponent");
    let charges: Vec<_> = sandbox.state().queued.into_iter().map(|record| record.charge).collect();
    assert_eq!(charges, ["0.10", "12345678901234567890.12345678901234567890"]);
    sandbox.settle().await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "12345678901234567890.2234567890123456789");
}

#[tokio::test]
async fn a_name_may_stand_once() {
    let sandbox = start(patient()).await;
    let twice = compute("1").to_string().replacen('{', "{\"Charge\":\"1\",\"Error\":\"x\",", 1);
    let (_, answer) =
        post_text(&sandbox, &format!("{{\"UsageType\":\"Compute\",\"Records\":[{twice}]}}")).await;
    let failed = &answer["ValidationFailedRecords"][0];
    assert_eq!(failed["Error"], "unknown field Error; Charge appears twice");
    assert_eq!(failed["Charge"], "1", "the first one is echoed, once");
}

#[tokio::test]
async fn messages_that_are_refused_whole() {
    let sandbox = start(patient()).await;
    let record = compute("1");
    let mixed = with(compute("2"), "UsageType", json!("Storage"));
    for (body, reason) in [
        (String::new(), "the body is not JSON"),
        ("{".to_owned(), "the body is not JSON"),
        ("{}{}".to_owned(), "the body is not JSON"),
        ("[]".to_owned(), "the body is not a JSON object"),
        ("{}".to_owned(), "UsageType is missing"),
        (json!({"UsageType": "Compute"}).to_string(), "Records is missing"),
        (json!({"UsageType": "Compute", "Records": {}}).to_string(), "Records must be a list"),
        (json!({"UsageType": "Compute", "Records": [1]}).to_string(), "each record must be a JSON object"),
        (
            json!({"UsageType": "compute", "Records": [record]}).to_string(),
            "UsageType must be Compute, Storage or Adjustment",
        ),
        (
            json!({"UsageType": 1, "Records": [record]}).to_string(),
            "UsageType must be Compute, Storage or Adjustment",
        ),
        (json!({"UsageType": "Compute", "Records": [record], "Site": "x"}).to_string(), "unknown field Site"),
        (
            json!({"UsageType": "Compute", "Records": [record, mixed]}).to_string(),
            "all records of one message",
        ),
        (
            "{\"UsageType\":\"Compute\",\"UsageType\":\"Compute\",\"Records\":[]}".to_owned(),
            "UsageType appears twice",
        ),
    ] {
        let (status, answer) = post_text(&sandbox, &body).await;
        assert_eq!(status, 400, "{body}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with(reason), "{body}: {error}");
    }
    let state = sandbox.state();
    assert_eq!((state.posts, state.posts_turned, state.queued.len(), state.refused.len()), (13, 13, 0, 0));
}

#[tokio::test]
async fn large_messages_are_refused_with_413() {
    let sandbox = start(Settings { max_records: 3, max_body_bytes: 4000, ..patient() }).await;
    let records: Vec<_> = (0..4).map(|number| compute(&number.to_string())).collect();
    let (status, answer) = post(&sandbox, "Compute", &records).await;
    assert_eq!((status, &answer["error"]), (413, &json!("4 records in one message; at most 3")));
    assert_eq!(post(&sandbox, "Compute", &records[..3]).await.0, 200);
    let long = with(compute("5"), "Attributes.JobName", json!("x".repeat(100_000)));
    let (status, answer) = post(&sandbox, "Compute", &[long]).await;
    assert_eq!((status, &answer["error"]), (413, &json!("the body is longer than 4000 bytes")));
    let state = sandbox.state();
    assert_eq!((state.posts, state.posts_turned, state.queued.len()), (3, 2, 3));
}

#[tokio::test]
async fn an_empty_message_is_none_of_our_business() {
    let sandbox = start(patient()).await;
    assert_eq!(post(&sandbox, "Compute", &[]).await.0, 200);
}

#[tokio::test]
async fn senders_say_who_they_are() {
    let sandbox =
        start(Settings { site: Some("Site".to_owned()), key: Some("key".to_owned()), ..patient() }).await;
    let message = json!({"UsageType": "Compute", "Records": [compute("1")]});
    for (site, key, expected) in [
        (Some("Site"), Some("key"), 200),
        (None, Some("key"), 401),
        (Some("Site"), None, 401),
        (Some("site"), Some("key"), 401),
        (Some("Site"), Some("Key"), 401),
        (Some(""), Some("key"), 401),
    ] {
        for call in [
            "/usage",
            "/usage/",
            "/usage/status",
            "/usage/failed",
            "/usage/loaded",
            "/usage/failed/1",
            "/usage/summary",
        ] {
            let url = format!("{}{call}", sandbox.base_url());
            let mut request = match call {
                "/usage" | "/usage/" => client().post(url).json(&message),
                "/usage/failed/1" => client().delete(url),
                _ => client().get(url),
            };
            for (name, value) in [("XA-SITE", site), ("XA-API-KEY", key)] {
                request = value.into_iter().fold(request, |request, value| request.header(name, value));
            }
            let (status, body) = answer(request).await;
            let expected = match (expected, call) {
                (200, "/usage/summary") => 501,
                (200, "/usage/failed/1") => 404,
                (expected, _) => expected,
            };
            assert_eq!(status, expected, "{call} {site:?} {key:?}");
            assert_eq!(body["error"].is_string(), expected != 200);
        }
    }
    assert_eq!(sandbox.state().queued.len(), 2);
    assert!(!format!("{:?}", Settings { key: Some("s3cret".to_owned()), ..patient() }).contains("s3cret"));
}

#[tokio::test]
async fn a_body_says_that_it_is_json() {
    let sandbox = start(patient()).await;
    let body = json!({"UsageType": "Compute", "Records": []}).to_string();
    for (content_type, expected) in
        [("text/plain", 415), ("application/json; charset=utf-8", 200), ("Application/JSON", 200)]
    {
        let request = request(&sandbox, reqwest::Method::POST, "/usage").header("Content-Type", content_type);
        assert_eq!(answer(request.body(body.clone())).await.0, expected, "{content_type}");
    }
}

#[tokio::test]
async fn strangers_are_refused_at_once_where_the_service_looks_then() {
    let names = |name: &str| [name.to_owned()].into();
    let known = Known {
        refuse_strangers: true,
        users: names("alice"),
        projects: names("TG-ABC123"),
        resources: names("anvil.example.org"),
        ..Known::default()
    };
    let refuse = vec![
        Rule::new("Attributes.Queue", "closed", "the queue of <login> is closed"),
        Rule::new("Attributes.NodeCount", "9", "nine"),
    ];
    let sandbox = start(Settings { known: Some(known), refuse, ..patient() }).await;
    let records = [
        compute("1"),
        with(compute("2"), "Username", json!("mallory")),
        with(compute("3"), "LocalProjectID", json!("TG-NONE")),
        with(compute("4"), "Resource", json!("nowhere")),
        with(compute("5"), "Attributes.Queue", json!("closed")),
        with(compute("6"), "Attributes.NodeCount", json!(9)),
    ];
    let (_, answer) = post(&sandbox, "Compute", &records).await;
    let errors: Vec<_> =
        answer["ValidationFailedRecords"].as_array().unwrap().iter().map(|failed| &failed["Error"]).collect();
    assert_eq!(
        errors,
        [
            "Username is not known",
            "LocalProjectID is not known",
            "Resource is not known",
            "the queue of alice is closed",
            "nine"
        ]
    );
    assert_eq!(sandbox.state().queued.len(), 1);
}

#[tokio::test]
async fn allocations_are_looked_for_when_a_record_is_loaded() {
    let hour = |hour: i64| Some(1_790_899_200 + hour * 3600); // 2026-10-02T00:00:00Z
    let allocation = |from, until| Allocation {
        project: "TG-ABC123".into(),
        resource: "anvil.example.org".into(),
        from,
        until,
        ..Allocation::default()
    };
    let start_at = |id: &str, hour: u8| {
        with(
            with(compute(id), "StartTime", json!(format!("2026-10-02T0{hour}:00:00Z"))),
            "EndTime",
            json!("2026-10-02T09:00:00Z"),
        )
    };
    let known = Known {
        allocations: vec![allocation(hour(1), hour(2)), allocation(hour(4), None)],
        ..Known::default()
    };
    let sandbox = start(Settings { known: Some(known), ..patient() }).await;
    let mut records: Vec<_> = (0..6).map(|hour| start_at(&hour.to_string(), hour)).collect();
    records.push(with(start_at("other", 1), "LocalProjectID", json!("TG-OTHER")));
    let (_, answer) = post(&sandbox, "Compute", &records).await;
    assert_eq!(answer["ValidationFailedRecords"], json!([]), "all are accepted at first");
    sandbox.settle().await;
    let state = sandbox.state();
    let ids = |records: &[usage_sandbox::StoredRecord]| {
        records.iter().map(|record| record.local_record_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&state.loaded), ["1", "4", "5"]);
    assert_eq!(ids(&state.failed), ["0", "2", "3", "other"]);
    let errors: Vec<_> = state.failed.iter().filter_map(|record| record.error.as_deref()).collect();
    let none = "Allocation could not be found for user alice";
    assert_eq!(errors, ["The start time is before the start of the allocation", none, none, none]);
}

#[tokio::test]
async fn strangers_fail_when_they_are_loaded_in_the_words_of_the_real_service() {
    let known = Known::from_toml(
        r#"
        users = ["alice", "bob"]
        projects = ["TG-ABC123"]
        resources = ["anvil.example.org"]
        [[allocation]]
        project = "TG-ABC123"
        resource = "anvil.example.org"
        users = ["alice"]
        from = 2026-10-02
        until = 2026-10-03
        "#,
    );
    let sandbox = start(Settings { known: Some(known.unwrap()), ..patient() }).await;
    let early = with(compute("early"), "StartTime", json!("2026-10-01T23:59:59Z"));
    let records = [
        compute("1"),
        with(compute("stranger"), "Username", json!("mallory")),
        with(compute("project"), "LocalProjectID", json!("TG-NONE")),
        with(compute("resource"), "Resource", json!("nowhere")),
        with(compute("not-bobs"), "Username", json!("bob")),
        early,
    ];
    let (_, answer) = post(&sandbox, "Compute", &records).await;
    assert_eq!(answer["ValidationFailedRecords"], json!([]));
    sandbox.settle().await;
    let state = sandbox.state();
    assert_eq!(state.loaded.len(), 1);
    let failures: Vec<_> = state
        .failed
        .iter()
        .map(|record| (record.local_record_id.as_str(), record.error.as_deref().unwrap()))
        .collect();
    let none = "Allocation could not be found for user alice";
    assert_eq!(
        failures,
        [
            ("stranger", "Allocation could not be found for user mallory"),
            ("project", none),
            ("resource", none),
            ("not-bobs", "Allocation could not be found for user bob"),
            ("early", "The start time is before the start of the allocation"),
        ]
    );
}

#[tokio::test]
async fn an_answer_that_echoes_a_record_can_be_read_by_everybody() {
    let sandbox = start(patient()).await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for body in [
        format!(r#"{{"UsageType":"Compute","Records":[{{"Username":{deep}}}]}}"#),
        format!(r#"{{"UsageType":"Compute","Records":{deep}}}"#),
        format!(r#"{{"UsageType":{deep},"Records":[]}}"#),
        format!(r#"{{"UsageType":"Compute","Records":[],"More":{deep}}}"#),
    ] {
        let (status, answer) = post_text(&sandbox, &body).await;
        assert_eq!(status, 400, "{answer}");
    }
    assert_eq!(sandbox.state().posts_turned, 4);
}
