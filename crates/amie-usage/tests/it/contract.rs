//! Our requests beside those that the reference client, amieclient 0.4.0, was seen to send (`fixtures/wire`).

use crate::server::{Reply, Request, Server};
use amie_usage::{
    AdjustmentType, AdjustmentUsageRecord, ComputeAttributes, ComputeUsageRecord, Decimal, UsageType, wire,
};
use serde_json::Value;
use std::collections::BTreeMap;

fn captured(name: &str) -> Request {
    let path = format!("{}/../../fixtures/wire/amieclient-0.4.0-{name}.http", env!("CARGO_MANIFEST_DIR"));
    let raw = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (request, length) = Request::parse(&raw).unwrap();
    assert_eq!(length, raw.len(), "{path} has more than its request");
    request
}

/// Every path to a leaf with the leaf's JSON type: field names and nesting, without values.
fn structure(value: &Value) -> BTreeMap<String, &'static str> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, &'static str>) {
        let kind = match value {
            Value::Object(fields) => {
                return fields.iter().for_each(|(name, value)| walk(&format!("{path}.{name}"), value, out));
            }
            Value::Array(entries) => {
                return entries.iter().for_each(|value| walk(&format!("{path}[]"), value, out));
            }
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Null => "null",
        };
        out.insert(path.to_owned(), kind);
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// The first compute record of `capture.py`.
fn ours() -> ComputeUsageRecord<'static> {
    ComputeUsageRecord {
        username: "ada".into(),
        local_project_id: "TG-ABC123456".into(),
        local_record_id: "123_4".into(),
        resource: "testhpc-cpu.testsite.access-ci.org".into(),
        submit_time: 1_790_899_200,
        start_time: 1_790_899_260,
        end_time: 1_790_902_860,
        charge: Decimal::new(125, 1),
        attributes: ComputeAttributes {
            node_count: 1,
            cpu_core_count: Some(128),
            job_name: Some("say \"hi\"\né😀".into()),
            memory: None,
            queue: Some("wholenode".into()),
        },
        parent_record_id: None,
        local_reference: Some("slurm/testhpc/123_4/1790899200".into()),
    }
}

fn records_of(request: &Request) -> Vec<Value> {
    request.records()
}

#[test]
fn our_types_read_what_the_reference_client_sends() {
    let records = records_of(&captured("compute"));
    let first: ComputeUsageRecord<'_> = serde_json::from_value(records[0].clone()).unwrap();
    assert_eq!(first, ours());
    // A number as charge, a text as count, and the parent in a list.
    let second: ComputeUsageRecord<'_> = serde_json::from_value(records[1].clone()).unwrap();
    assert_eq!((second.charge, second.attributes.node_count), (Decimal::new(25, 2), 2));
    assert_eq!(second.parent_record_id.as_deref(), Some("66"));

    let records = records_of(&captured("adjustment"));
    let refund: AdjustmentUsageRecord<'_> = serde_json::from_value(records[0].clone()).unwrap();
    assert_eq!((refund.adjustment_type, refund.charge), (AdjustmentType::Refund, Decimal::new(25, 1)));
    assert_eq!((refund.start_time, refund.comment.as_deref()), (1_790_899_200, Some("node failed")));
}

#[tokio::test]
async fn our_compute_message_is_theirs_but_for_the_empty_parent() {
    let mut rendered = Vec::new();
    wire::render_compute(&ours(), &mut rendered).unwrap();
    let server = Server::script(vec![Reply::taken()]).await;
    server.client().send(UsageType::Compute, &[&rendered]).await;
    let (ours, theirs) = (server.requests()[0].clone(), captured("compute"));

    let mut message = json(&theirs.body);
    let record = message["Records"].as_array_mut().unwrap();
    record.truncate(1);
    let parent = record[0].as_object_mut().unwrap().remove("ParentRecordID");
    assert_eq!(parent, Some(serde_json::json!([null])), "the difference that we mean to have");
    assert_eq!(structure(&json(&ours.body)), structure(&message));
    assert_eq!(json(&ours.body), message, "the values too");

    assert_eq!((&ours.method, &ours.target), (&theirs.method, &theirs.target));
    for name in ["XA-SITE", "Content-Type"] {
        assert_eq!(ours.header(name), theirs.header(name), "{name}");
    }
    assert!(theirs.header("XA-API-KEY").is_some() && ours.header("XA-API-KEY").is_some());
}

#[test]
fn our_charge_is_a_string_where_theirs_may_be_a_number() {
    let theirs = records_of(&captured("compute")).remove(1);
    assert!(theirs["Charge"].is_number());
    let record: ComputeUsageRecord<'_> = serde_json::from_value(theirs).unwrap();
    let mut rendered = Vec::new();
    wire::render_compute(&record, &mut rendered).unwrap();
    assert_eq!(json(&rendered)["Charge"], "0.25");
}

#[test]
fn every_record_of_theirs_comes_out_of_ours_but_for_what_is_better() {
    let number = wire::Settings { charge: wire::ChargeForm::Number, ..wire::Settings::default() };
    for theirs in records_of(&captured("compute")) {
        let record: ComputeUsageRecord<'_> = serde_json::from_value(theirs.clone()).unwrap();
        let mut rendered = Vec::new();
        wire::render_compute(&record, &mut rendered).unwrap();
        let sent =
            if theirs["Charge"].is_number() { number.as_sent(&rendered) } else { rendered.as_slice().into() };
        let (ours, mut expected) = (json(&sent), theirs);
        // Theirs is a list that holds the parent, or null; ours is the parent, or nothing.
        let parent = expected.as_object_mut().unwrap().remove("ParentRecordID").unwrap();
        if let Some(parent) = parent[0].as_str() {
            expected["ParentRecordID"] = parent.into();
        }
        // Theirs passes on whatever type it was given.
        if let Some(count) = expected["Attributes"]["NodeCount"].as_str() {
            expected["Attributes"]["NodeCount"] = count.parse::<u64>().unwrap().into();
        }
        assert_eq!(ours, expected);
    }
}

#[test]
fn our_adjustment_message_is_theirs() {
    let theirs = captured("adjustment");
    let record: AdjustmentUsageRecord<'_> = serde_json::from_value(records_of(&theirs).remove(0)).unwrap();
    let mut rendered = Vec::new();
    wire::render_adjustment(&record, &mut rendered).unwrap();
    let ours = wire::message_body(UsageType::Adjustment, [rendered.as_slice()]);
    assert_eq!(structure(&json(&ours)), structure(&json(&theirs.body)));
    assert_eq!(json(&ours), json(&theirs.body));
}

#[tokio::test]
async fn our_questions_go_to_the_same_addresses() {
    let server = Server::script(vec![Reply::json(200, "[]")]).await;
    let client = server.client();
    client.failed().await.unwrap();
    client.status(1_790_899_200, 1_790_985_600).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests[0].target, captured("failed").target);
    // The same parameters at the same instants; theirs are written with an offset.
    let normal = |target: &str| target.replace("%2B00%3A00", "Z");
    assert_eq!(requests[1].target, normal(&captured("status").target));
    for (ours, name) in requests.iter().zip(["failed", "status"]) {
        assert_eq!(ours.method, captured(name).method);
    }
}
