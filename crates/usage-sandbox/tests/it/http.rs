//! Requests that are odd, broken or hostile.

use crate::support::*;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use usage_sandbox::{Sandbox, Settings};

const HEAD: &str =
    "POST /api/v1_test/usage/ HTTP/1.1\r\nXA-SITE: S\r\nXA-API-KEY: k\r\nContent-Type: application/json\r\n";

/// The status of each answer to these bytes.
async fn statuses(sandbox: &Sandbox, bytes: &[u8]) -> Vec<u16> {
    let (answer, _) = raw(sandbox, bytes).await;
    answer.split("HTTP/1.1 ").skip(1).filter_map(|part| part.split(' ').next()?.parse().ok()).collect()
}

#[tokio::test]
async fn both_paths_are_taken() {
    let sandbox = start(patient()).await;
    let message = json!({"UsageType": "Compute", "Records": [compute("1")]});
    for path in ["/usage", "/usage/"] {
        assert_eq!(answer(request(&sandbox, reqwest::Method::POST, path).json(&message)).await.0, 200);
    }
    assert_eq!(sandbox.base_url(), format!("http://{}/api/v1_test", sandbox.address()));
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told() {
    let sandbox = start(patient()).await;
    for (method, call, status, allow) in [
        (reqwest::Method::GET, "/usage", 405, Some("POST")),
        (reqwest::Method::POST, "/usage/status", 405, Some("GET")),
        (reqwest::Method::GET, "/usage/failed/1", 405, Some("DELETE")),
        (reqwest::Method::GET, "/usages", 404, None),
        (reqwest::Method::GET, "", 404, None),
    ] {
        let response = request(&sandbox, method, call).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{call}");
        assert_eq!(response.headers().get("Allow").map(|value| value.to_str().unwrap()), allow);
    }
}

#[tokio::test]
async fn connections_are_kept_and_requests_may_queue_on_them() {
    let sandbox = start(patient()).await;
    let empty = r#"{"UsageType":"Compute","Records":[]}"#;
    let one = format!("{HEAD}Content-Length: {}\r\n\r\n{empty}", empty.len());
    let last = format!("{HEAD}Connection: close\r\nContent-Length: {}\r\n\r\n{empty}", empty.len());
    assert_eq!(statuses(&sandbox, format!("{one}{one}{last}{one}").as_bytes()).await, [200, 200, 200]);
    assert_eq!(sandbox.state().posts, 3);
}

#[tokio::test]
async fn bodies_may_come_in_chunks_and_in_single_bytes() {
    let sandbox = start(patient()).await;
    let body = json!({"UsageType": "Compute", "Records": [compute("1")]}).to_string();
    let (a, b) = body.split_at(100);
    let chunked = format!(
        "{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:X};x=y\r\n{b}\r\n0\r\nTrailer: x\r\n\r\n",
        a.len(),
        b.len()
    );
    assert_eq!(statuses(&sandbox, chunked.as_bytes()).await, [200]);
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in chunked.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(sandbox.state().queued.len(), 2);
    for bad in ["x\r\n", "5\r\nabcdefg\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let bytes = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{bad}");
        assert_eq!(statuses(&sandbox, bytes.as_bytes()).await, [400], "{bad}");
    }
    let long = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nfffffffffffffff0\r\nabc");
    assert_eq!(statuses(&sandbox, long.as_bytes()).await, [413]);
    assert_eq!(sandbox.state().queued.len(), 2);
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let sandbox = start(patient()).await;
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    let body = r#"{"UsageType":"Compute","Records":[]}"#;
    let head =
        format!("{HEAD}Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn broken_requests_get_an_answer() {
    let sandbox = start(patient()).await;
    let long_field = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many_fields = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100));
    let two_lengths = format!("{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx");
    let smuggled = format!("{HEAD}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let endless = format!("{HEAD}Content-Length: 18446744073709551615\r\n\r\nx");
    for (bytes, expected) in [
        ("\0\x01\x02\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400),
        ("GET /%FF HTTP/1.1\r\n\r\n", 400),
        (long_field.as_str(), 431),
        (many_fields.as_str(), 431),
        (two_lengths.as_str(), 400),
        (smuggled.as_str(), 400),
        (endless.as_str(), 413),
    ] {
        assert_eq!(statuses(&sandbox, bytes.as_bytes()).await, [expected], "{bytes:.60}");
    }
    assert_eq!(post(&sandbox, "Compute", &[]).await.0, 200);
}

#[tokio::test]
async fn a_client_that_still_sends_gets_its_413() {
    let sandbox = start(Settings { max_body_bytes: 1000, ..patient() }).await;
    let body = "x".repeat(4_000_000);
    for framing in [
        format!("Content-Length: {}\r\n\r\n", body.len()),
        "Transfer-Encoding: chunked\r\n\r\n3d0900\r\n".to_owned(),
    ] {
        assert_eq!(statuses(&sandbox, format!("{HEAD}{framing}{body}").as_bytes()).await, [413]);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() {
    let sandbox = start(patient()).await;
    let message = raw_post(&[compute("1")]);
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    stream.write_all(&message[..message.len() - 1]).await.unwrap();
    drop(stream);
    for _ in 0..100 {
        if sandbox.state().posts == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = sandbox.state();
    assert_eq!((state.posts, state.posts_turned, state.queued.len()), (1, 1, 0));
}

#[tokio::test]
async fn nesting_is_refused_before_it_could_hurt_whoever_reads_the_state() {
    let sandbox = start(Settings { max_body_bytes: 4_000_000, ..patient() }).await;
    let nested = |depth: usize| format!("{{\"Attributes\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    for (record, reason) in [
        ("[".repeat(1_000_000), "the body is not JSON"),
        (nested(1_000_000), "the body is nested too deeply"),
        (nested(62), "the body is nested too deeply"),
    ] {
        let (status, answer) =
            post_text(&sandbox, &format!("{{\"UsageType\":\"Compute\",\"Records\":[{record}]}}")).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().starts_with(reason), "{answer}");
    }
    // Brackets in a string are text.
    let brackets = with(compute("1"), "Attributes.JobName", json!("\"[{\\".repeat(100)));
    let body = format!("{{\"UsageType\":\"Compute\",\"Records\":[{brackets},{}]}}", nested(61));
    let (status, answer) = post_text(&sandbox, &body).await;
    assert_eq!((status, answer["ValidationFailedRecords"].as_array().unwrap().len()), (200, 1), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once() {
    let sandbox = start(patient()).await;
    let client = client();
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let message = json!({"UsageType": "Compute", "Records": [compute(&number.to_string())]});
            let request = client.post(format!("{}/usage/", sandbox.base_url()));
            tokio::spawn(request.header("XA-SITE", "S").header("XA-API-KEY", "k").json(&message).send())
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().status().as_u16(), 200);
    }
    sandbox.settle().await;
    assert_eq!(sandbox.state().charge("anvil.example.org"), "500"); // 40 times 12.5
}
