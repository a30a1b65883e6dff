//! Every call against every kind of answer, from one table; and answers in random spellings, of which nothing may be lost.

use crate::server::{Reply, Server};
use amie_usage::{CallError, Client, LoadedQuery, SendOutcome, UsageType, wire};
use proptest::prelude::*;
use serde_json::Value;

const RECORD: &[u8] =
    br#"{"LocalRecordID":"7","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","LocalReference":"a"}"#;
const CALLS: [&str; 5] = ["send", "status", "failed", "clear", "loaded"];

/// Makes one call; what came of it, in a few words.
async fn made(call: &str, client: &Client) -> String {
    let kind = |error: CallError| {
        let name = format!("{error:?}");
        name.split([' ', '{']).next().unwrap().to_lowercase()
    };
    match call {
        "send" => match client.send(UsageType::Compute, &[RECORD]).await {
            SendOutcome::Answered { refused, unmatched, .. } => {
                format!("{} refused, {} unmatched", refused.len(), unmatched.len())
            }
            SendOutcome::Busy { maybe_stored, .. } => format!("busy, maybe stored: {maybe_stored}"),
            other => {
                let name = format!("{other:?}");
                name.split([' ', '{']).next().unwrap().to_lowercase()
            }
        },
        "status" => client.status(0, 1).await.map_or_else(kind, |status| {
            let failed: u64 = status.iter().filter_map(|resource| resource.failed_record_count).sum();
            let records: usize =
                status.iter().flat_map(|resource| &resource.errors).map(|error| error.records.len()).sum();
            format!("{} resources, {failed} failed, {records} named", status.len())
        }),
        "failed" => client.failed().await.map_or_else(kind, |failed| {
            let ids: Vec<_> =
                failed.into_iter().map(|record| record.failed_record_id.unwrap_or_default()).collect();
            format!("failed {}", ids.join(" "))
        }),
        "clear" => client.clear_failed(&["7".to_owned()]).await.map_or_else(kind, |()| "cleared".to_owned()),
        "loaded" => client.loaded(&LoadedQuery::default()).await.map_or_else(kind, |page| {
            let charges: Vec<String> = page
                .records
                .iter()
                .map(|record| record.charge.map_or("-".to_owned(), |charge| charge.to_string()))
                .collect();
            format!("loaded {}, unreadable {}", charges.join(" "), page.unreadable)
        }),
        other => panic!("{other}"),
    }
}

/// What each of the five calls makes of an answer.
async fn all_of(reply: &Reply) -> [String; 5] {
    let server = Server::script(vec![reply.clone()]).await;
    let client = server.client();
    let mut all = CALLS.map(str::to_owned);
    for call in &mut all {
        *call = made(call, &client).await;
    }
    assert_eq!(server.requests().len(), 5, "one request a call");
    all
}

#[tokio::test]
async fn every_call_understands_or_refuses_every_answer() {
    let json = |status, body: &str| Reply::json(status, body);
    let huge = format!("[{}0]", "0,".repeat(300_000));
    let bom = "\u{feff} [] \n";
    let failed = r#"[{"FailedRecordID":5,"Error":"e","LocalRecordID":"7","Resource":"r","Charge":"1.50"}]"#;
    #[rustfmt::skip]
    let table: Vec<(Reply, [&str; 5])> = vec![
        // Nobody's answers.
        (json(200, ""), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"), ["unknown", "0 resources, 0 failed, 0 named", "failed ", "cleared", "loaded , unreadable 0"]),
        (Reply::html(200, "<html><title>Log in</title>"), ["unknown", "unreadable", "unreadable", "unreadable", "unreadable"]),
        (Reply::full(200, "Content-Type: application/json\r\n", "<html>"), ["unknown", "unreadable", "unreadable", "unreadable", "unreadable"]),
        (Reply::full(200, "Content-Type: application/octet-stream\r\n", "\0\u{1}"), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, "{}"), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, "null"), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, "\"ok\""), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, &huge), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (Reply::Close, ["unknown", "unreachable", "unreachable", "unreachable", "unreachable"]),
        (Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]"), ["unknown", "unreachable", "unreachable", "unreachable", "unreachable"]),
        (Reply::raw("220 mail.example.org ESMTP\r\n"), ["unknown", "unreachable", "unreachable", "unreachable", "unreachable"]),
        // Statuses.
        (json(400, r#"{"error":"e"}"#), ["refusedwhole", "refused", "refused", "refused", "refused"]),
        (json(401, ""), ["keyrefused", "keyrefused", "keyrefused", "keyrefused", "keyrefused"]),
        (json(403, "no"), ["keyrefused", "keyrefused", "keyrefused", "keyrefused", "keyrefused"]),
        (Reply::html(403, "<title>Blocked</title>"), ["proxy", "proxy", "proxy", "proxy", "proxy"]),
        (json(404, ""), ["proxy", "notoffered", "notoffered", "notoffered", "notoffered"]),
        (Reply::html(405, "<p>"), ["proxy", "notoffered", "notoffered", "notoffered", "notoffered"]),
        (json(413, ""), ["toolarge", "refused", "refused", "refused", "refused"]),
        (json(429, ""), ["busy, maybe stored: false", "busy", "busy", "busy", "busy"]),
        (Reply::html(502, "<p>"), ["busy, maybe stored: true", "busy", "busy", "busy", "busy"]),
        (json(501, ""), ["busy, maybe stored: true", "notoffered", "notoffered", "notoffered", "notoffered"]),
        (Reply::full(302, "Location: https://login.example.org/\r\n", ""), ["proxy", "proxy", "proxy", "proxy", "proxy"]),
        // Lists: bare, with a byte order mark, under either key, null, with entries that are none.
        (json(200, "[]"), ["unknown", "0 resources, 0 failed, 0 named", "failed ", "cleared", "loaded , unreadable 0"]),
        (json(200, bom), ["unknown", "0 resources, 0 failed, 0 named", "failed ", "cleared", "loaded , unreadable 0"]),
        (json(200, failed), ["unknown", "1 resources, 0 failed, 0 named", "failed 5", "cleared", "loaded 1.5, unreadable 0"]),
        (json(200, &format!(r#"{{"FailedRecords":{failed}}}"#)), ["1 refused, 0 unmatched", "unreadable", "failed 5", "cleared", "unreadable"]),
        (json(200, &format!(r#"{{"validation_failed_records":{failed}}}"#)), ["1 refused, 0 unmatched", "unreadable", "failed 5", "cleared", "unreadable"]),
        (json(200, r#"{"Message":"m","FailedRecords":null}"#), ["0 refused, 0 unmatched", "unreadable", "failed ", "cleared", "unreadable"]),
        (json(200, r#"{"Message":"m","FailedRecords":{}}"#), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, r#"{"Message":"m","FailedRecords":[3,"x",null]}"#), ["0 refused, 3 unmatched", "unreadable", "failed   ", "cleared", "unreadable"]),
        (json(200, &format!(r#"{{"Message":"m","Rejected":{failed}}}"#)), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, &format!(r#"{{"Message":"m","Result":{{"Bad":{failed}}}}}"#)), ["unknown", "unreadable", "unreadable", "cleared", "unreadable"]),
        (json(200, &format!(r#"{{"FailedRecords":{failed},"FailedRecords":[]}}"#)), ["1 refused, 0 unmatched", "unreadable", "failed 5", "cleared", "unreadable"]),
        (json(200, r#"{"Message":"m","Took":{"seconds":0.2},"Warnings":[]}"#), ["0 refused, 0 unmatched", "unreadable", "unreadable", "cleared", "unreadable"]),
        // Of status and loads: numbers or strings, both spellings, missing and extra fields, [null] parents.
        (json(200, r#"[{"Resource":"r","FailedJobCount":"2","TotalCharge":1.5,"Errors":[{"Error":"e","Records":[{"LocalRecordID":7,"ParentRecordID":[null]},{}]}]}]"#),
            ["unknown", "1 resources, 2 failed, 2 named", "failed ", "cleared", "loaded , unreadable 1"]),
        (json(200, r#"[{"Resource":"r","FailedRecordCount":3,"New":[[]],"Errors":null}]"#),
            ["unknown", "1 resources, 3 failed, 0 named", "failed ", "cleared", "loaded , unreadable 1"]),
        (json(200, r#"{"Resource":"r"}"#), ["unknown", "1 resources, 0 failed, 0 named", "unreadable", "cleared", "unreadable"]),
        (json(200, r#"{"Records":[{"Resource":"r","LocalRecordID":1,"Charge":0.10000000000000000001},{"Resource":"r","LocalRecordID":"2"},{"Resource":null}],"Next":1}"#),
            ["unknown", "unreadable", "unreadable", "cleared", "loaded 0.10000000000000000001 -, unreadable 1"]),
    ];
    for (reply, expected) in &table {
        assert_eq!(&all_of(reply).await, expected, "{reply:?}");
    }
}

/// One way to write a key: as it is known, in other letters, with separators.
fn spelt(key: &str, way: u8) -> String {
    match way % 4 {
        0 | 1 => key.to_owned(),
        2 => key.to_lowercase(),
        _ => key.chars().enumerate().fold(String::new(), |mut out, (at, letter)| {
            if at > 0 && letter.is_uppercase() {
                out.push('_');
            }
            out.push(letter);
            out
        }),
    }
}

/// Which of the ten records fail, and how their refusals are written.
#[derive(Debug, Clone)]
struct Truth {
    failing: Vec<usize>,
    ways: Vec<u8>,
    list_key: u8,
    noise: bool,
}

fn truth() -> impl Strategy<Value = Truth> {
    let failing = proptest::sample::subsequence((0..10).collect::<Vec<_>>(), 0..=10).prop_shuffle();
    (failing, proptest::collection::vec(any::<u8>(), 10), any::<u8>(), any::<bool>())
        .prop_map(|(failing, ways, list_key, noise)| Truth { failing, ways, list_key, noise })
}

fn ten() -> Vec<Vec<u8>> {
    (0..10)
        .map(|id| {
            format!(r#"{{"LocalRecordID":"{id}","Resource":"r","SubmitTime":"2026-10-02T00:00:0{id}Z","LocalReference":"ref-{id}"}}"#)
                .into_bytes()
        })
        .collect()
}

fn written(truth: &Truth) -> String {
    let failures = truth.failing.iter().map(|id| {
        let way = truth.ways[*id];
        let key = |name: &str| spelt(name, way / 16);
        let identity = match way % 4 {
            0 => format!(r#""{}":"ref-{id}""#, key("LocalReference")),
            1 => format!(
                r#""{}":{id},"{}":"r","{}":{}"#,
                key("LocalRecordID"),
                key("Resource"),
                key("SubmitTime"),
                1_790_899_200 + id
            ),
            2 => format!(
                r#""{}":"{id}","{}":"r","{}":"2026-10-02T02:00:0{id}.5+02:00","{}":null"#,
                key("LocalRecordID"),
                key("Resource"),
                key("SubmitTime"),
                key("LocalReference")
            ),
            _ => format!(
                r#""{}":"{id}","{}":null,"{}":[null]"#,
                key("LocalRecordID"),
                key("Resource"),
                key("ParentRecordID")
            ),
        };
        format!(r#"{{"{}":"bad","Charge":{id}.50,{identity},"New":{{"a":[1]}}}}"#, key("Error"))
    });
    let list = failures.collect::<Vec<_>>().join(",");
    let key = spelt(
        ["ValidationFailedRecords", "FailedRecords"][usize::from(truth.list_key % 2)],
        truth.list_key / 2,
    );
    let noise = if truth.noise { r#","RequestID":"x","Elapsed":0.25"# } else { "" };
    format!(r#"{{"Message":"{} failed"{noise},"{key}":[{list}]}}"#, truth.failing.len())
}

/// What a client that has not seen the answer's truth believes of each record: accepted, refused, or nothing.
async fn believed(answers: Vec<String>) -> Vec<SendOutcome> {
    let replies: Vec<Reply> = answers.iter().map(|answer| Reply::json(200, answer)).collect();
    let count = replies.len();
    let server = Server::script(replies).await;
    let client = server.client();
    let records = ten();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let mut outcomes = Vec::new();
    for _ in 0..count {
        outcomes.push(client.send(UsageType::Compute, &records).await);
    }
    outcomes
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_spelling_hides_a_refusal(truths in proptest::collection::vec(truth(), 20)) {
        let outcomes = wait(believed(truths.iter().map(written).collect()));
        for (truth, outcome) in truths.iter().zip(outcomes) {
            let SendOutcome::Answered { refused, unmatched, .. } = &outcome else {
                panic!("{outcome:?} of {}", written(truth))
            };
            let found: Vec<usize> = refused.iter().map(|refused| refused.index).collect();
            let mut failing = truth.failing.clone();
            failing.sort_unstable();
            prop_assert_eq!((&found, unmatched.len()), (&failing, 0), "{}", written(truth));
        }
    }

    #[test]
    fn a_damaged_answer_never_has_fewer_refusals_than_its_lists(
        truth in truth(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..4),
    ) {
        let mut bytes = written(&truth).into_bytes();
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at + 1),
            }
        }
        // The oracle reads the same bytes as a tree, by the exact keys.
        let tree: Option<Value> = serde_json::from_str(&String::from_utf8_lossy(&bytes)).ok();
        match wire::read_sent(&bytes) {
            Err(_) => {}
            Ok(failures) => {
                let tree = tree.expect("read, but no JSON");
                let object = tree.as_object().expect("read, but no object");
                let listed: usize = object.values().filter_map(Value::as_array).map(Vec::len).sum();
                // Whatever list there is in the answer, all of its entries are refusals.
                prop_assert!(failures.len() >= listed, "{} of {listed} in {}", failures.len(), tree);
            }
        }
        let _ = (wire::read_failed(&bytes), wire::read_status(&bytes), wire::read_loaded(&bytes, 5), wire::error_text(&bytes));
    }
}
