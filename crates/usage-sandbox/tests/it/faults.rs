//! Each fault as a client sees it, and what is stored afterwards.

use crate::support::*;
use serde_json::json;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use usage_sandbox::{Sandbox, Settings};

async fn faulty(fault: &str) -> Sandbox {
    start(Settings { faults: vec![fault.parse().unwrap()], ..patient() }).await
}

/// (messages, records that are queued)
fn stored(sandbox: &Sandbox) -> (u64, usize) {
    let state = sandbox.state();
    (state.posts, state.queued.len())
}

/// The same message once more is served as if nothing had been.
async fn serves(sandbox: &Sandbox) {
    let (answer, end) = raw(sandbox, &raw_post(&[compute("after")])).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(end, None);
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn announced(answer: &str) -> usize {
    let value = answer.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn refuse_connection() {
    let sandbox = faulty("refuse-connection@post*1").await;
    assert_eq!(
        raw(&sandbox, &raw_post(&[compute("1")])).await,
        (String::new(), Some(ErrorKind::ConnectionReset))
    );
    assert_eq!(stored(&sandbox), (1, 0));
    serves(&sandbox).await;
}

#[tokio::test]
async fn drop_before_reading() {
    let sandbox = faulty("drop-before-reading@post*1").await;
    let message = raw_post(&[compute("1")]);
    // The head alone: the connection ends although the body was never sent.
    let head = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(raw(&sandbox, &message[..head]).await, (String::new(), None));
    assert_eq!(stored(&sandbox), (1, 0));
    serves(&sandbox).await;
}

#[tokio::test]
async fn drop_after_storing() {
    let sandbox = faulty("drop-after-storing@post*1").await;
    assert_eq!(raw(&sandbox, &raw_post(&[compute("1")])).await, (String::new(), None));
    assert_eq!(stored(&sandbox), (1, 1));
    serves(&sandbox).await;
    assert_eq!(stored(&sandbox), (2, 2));
}

#[tokio::test]
async fn status_with_retry_after() {
    let sandbox = faulty("status:429,retry-after=7@post*1").await;
    let (answer, _) = raw(&sandbox, &raw_post(&[compute("1")])).await;
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 7\r\n"), "{answer}");
    assert!(body(&answer).starts_with("{\"error\":"), "{answer}");
    assert_eq!(stored(&sandbox), (1, 0));
    serves(&sandbox).await;
}

#[tokio::test]
async fn retry_after_may_be_a_date_by_the_servers_own_clock() {
    for fault in ["status:503,retry-after-date=90@post*1", "html:503,retry-after-date=90@post*1"] {
        let sandbox = faulty(fault).await;
        let (answer, _) = raw(&sandbox, &raw_post(&[compute("1")])).await;
        let date = |name: &str| {
            let value = answer.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            httpdate::parse_http_date(value).unwrap()
        };
        let wait = date("Retry-After: ").duration_since(date("Date: ")).unwrap();
        assert!((90..=91).contains(&wait.as_secs()), "{answer}");
        serves(&sandbox).await;
    }
}

#[tokio::test]
async fn html() {
    let sandbox = faulty("html:503@post*1").await;
    let (answer, _) = raw(&sandbox, &raw_post(&[compute("1")])).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\n"),
        "{answer}"
    );
    assert!(body(&answer).starts_with("<html>"), "{answer}");
    assert_eq!(stored(&sandbox), (1, 0));
    serves(&sandbox).await;
}

#[tokio::test]
async fn truncated_body() {
    let sandbox = faulty("truncated-body@post*1").await;
    let (answer, _) = raw(&sandbox, &raw_post(&[compute("1")])).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(body(&answer).len(), announced(&answer) / 2);
    assert!(announced(&answer) > 20);
    assert_eq!(stored(&sandbox), (1, 1));
    serves(&sandbox).await;
}

#[tokio::test]
async fn wrong_content_length() {
    let sandbox = faulty("wrong-content-length@post*1").await;
    let (answer, _) = raw(&sandbox, &raw_post(&[compute("1")])).await;
    assert_eq!(body(&answer).len() / 2, announced(&answer));
    assert!(body(&answer).ends_with('}'), "{answer}");
    assert_eq!(stored(&sandbox), (1, 1));
    serves(&sandbox).await;
    // A client of HTTP gets a success whose body is no JSON.
    sandbox.inject("wrong-content-length@post*1".parse().unwrap());
    let message = json!({"UsageType": "Compute", "Records": []});
    let response = request(&sandbox, reqwest::Method::POST, "/usage").json(&message).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert!(response.json::<serde_json::Value>().await.is_err());
}

#[tokio::test]
async fn slow_headers_and_slow_body() {
    for fault in ["slow-headers:600ms@post*1", "slow-body:600ms@post*1"] {
        let sandbox = faulty(fault).await;
        let begin = Instant::now();
        let (answer, end) = raw(&sandbox, &raw_post(&[compute("1")])).await;
        let time = begin.elapsed();
        assert!(time >= Duration::from_millis(590), "{fault}: {time:?}");
        assert_eq!((body(&answer).len(), end), (announced(&answer), None));
        serves(&sandbox).await;
        // A client that limits the whole exchange gives up, and the record is stored all the same.
        sandbox.inject(fault.parse().unwrap());
        let message = json!({"UsageType": "Compute", "Records": [compute("2")]});
        let request = request(&sandbox, reqwest::Method::POST, "/usage").json(&message);
        let response = request.timeout(Duration::from_millis(300)).send().await;
        let error = match response {
            Ok(response) => response.text().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.is_timeout(), "{error}");
        assert_eq!(stored(&sandbox), (3, 3));
    }
}

#[tokio::test]
async fn too_large_at() {
    let sandbox = faulty("too-large-at:1000@post").await;
    assert_eq!(post(&sandbox, "Compute", &[compute("1")]).await.0, 200);
    let (answer, _) = raw(&sandbox, &raw_post(&[compute("2"), compute("3"), compute("4")])).await;
    assert!(answer.starts_with("HTTP/1.1 413 Content Too Large\r\nContent-Type: text/html\r\n"), "{answer}");
    assert_eq!(stored(&sandbox), (2, 1));
}

#[tokio::test]
async fn refuse_whole_for_one_bad_record() {
    let sandbox = faulty("refuse-whole@post").await;
    let bad = without(compute("2"), "Username");
    let (status, answer) = post(&sandbox, "Compute", &[compute("1"), bad]).await;
    assert_eq!((status, answer), (400, json!({"error": "the message could not be processed"})));
    assert_eq!(stored(&sandbox), (1, 0));
    assert_eq!(sandbox.state().refused.len(), 0);
    assert_eq!(post(&sandbox, "Compute", &[compute("1")]).await.0, 200);
}

#[tokio::test]
async fn faults_are_tied_to_calls() {
    let sandbox = start(patient()).await;
    for (fault, call) in
        [("status", "/usage/status"), ("failed", "/usage/failed"), ("loaded", "/usage/loaded")]
    {
        sandbox.inject(format!("html:502@{fault}").parse().unwrap());
        for other in ["/usage/status", "/usage/failed", "/usage/loaded"] {
            let status =
                request(&sandbox, reqwest::Method::GET, other).send().await.unwrap().status().as_u16();
            assert_eq!(status, if other == call { 502 } else { 200 }, "{fault} {other}");
        }
        assert_eq!(post(&sandbox, "Compute", &[]).await.0, 200);
        sandbox.clear_faults();
    }
    sandbox.inject("html:502@failed*1".parse().unwrap());
    let clear = request(&sandbox, reqwest::Method::DELETE, "/usage/failed/1").send().await.unwrap();
    assert_eq!(clear.status().as_u16(), 502);
    sandbox.inject("html:502".parse().unwrap());
    let any = request(&sandbox, reqwest::Method::POST, "/usage/").send().await.unwrap();
    assert_eq!(any.status().as_u16(), 502);
    // What is not the API's is never hit.
    let url = format!("http://{}/sandbox/state", sandbox.address());
    assert_eq!(client().get(url).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_stopped_sandbox_refuses_connections() {
    let sandbox = start(patient()).await;
    let request = request(&sandbox, reqwest::Method::GET, "/usage/status");
    sandbox.stop().await;
    assert!(request.send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn faults_by_probability_store_what_they_say() {
    let faults =
        vec!["drop-after-storing@post%30".parse().unwrap(), "drop-before-reading@post%30".parse().unwrap()];
    let sandbox = start(Settings { faults, seed: 42, ..patient() }).await;
    let (mut answered, mut sent) = (0, 0);
    for number in 0..60 {
        sent += 1;
        let (answer, _) = raw(&sandbox, &raw_post(&[compute(&number.to_string())])).await;
        answered += usize::from(answer.starts_with("HTTP/1.1 200"));
    }
    let (posts, queued) = stored(&sandbox);
    assert_eq!(posts, sent);
    assert!(answered < queued && queued < 60, "{answered} answered, {queued} stored");
}

#[tokio::test]
async fn rules_can_be_armed_while_it_runs() {
    let sandbox = start(patient()).await;
    sandbox.inject("refuse@post*1 LocalRecordID=2=no such <login>".parse().unwrap());
    sandbox.inject("fail-load@post*1 Attributes.Queue=wide=closed".parse().unwrap());
    let (status, answer) = post(&sandbox, "Compute", &[compute("1"), compute("2")]).await;
    assert_eq!((status, &answer["ValidationFailedRecords"][0]["Error"]), (200, &json!("no such alice")));
    let (_, answer) = post(&sandbox, "Compute", &[compute("2")]).await;
    assert_eq!(
        answer["ValidationFailedRecords"],
        json!([]),
        "the next message is served as if nothing had been"
    );
    sandbox.settle().await;
    let state = sandbox.state();
    assert_eq!((state.failed.len(), state.loaded.len(), state.refused.len()), (1, 1, 1));
    assert_eq!(state.failed[0].error.as_deref(), Some("closed"));
}

#[tokio::test]
async fn a_delayed_old_version_loads_after_the_newer_one() {
    let sandbox = start(Settings { load_delay: Duration::ZERO, ..Settings::default() }).await;
    sandbox.inject("delay-load:300ms@post#1".parse().unwrap());
    let charged = |charge: &str| with(compute("1"), "Charge", json!(charge));
    post(&sandbox, "Compute", &[charged("1")]).await;
    post(&sandbox, "Compute", &[charged("2")]).await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "2");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "1", "the old one has the last word");
}

#[tokio::test]
async fn shuffled_records_load_in_another_order_than_they_were_sent_in() {
    let sandbox = start(Settings { load_delay: Duration::ZERO, seed: 3, ..Settings::default() }).await;
    sandbox.inject("shuffle-loads:200ms@post".parse().unwrap());
    let records: Vec<_> = (0..40).map(|number| compute(&number.to_string())).collect();
    post(&sandbox, "Compute", &records).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let state = sandbox.state();
    let order: Vec<u64> = state.loaded.iter().map(|record| record.number).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=40).collect::<Vec<_>>());
    assert_ne!(order, sorted);
}
