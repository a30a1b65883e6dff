//! One POST: every kind of answer, every way to break one, and the outcome that each must have.

use crate::server::{Reply, Server, config};
use amie_usage::{Client, ClientConfig, SendOutcome, UsageType};
use std::time::{Duration, Instant};

const RECORDS: [&[u8]; 3] = [
    br#"{"LocalRecordID":"1","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","LocalReference":"a"}"#,
    br#"{"LocalRecordID":"2","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","LocalReference":"b"}"#,
    br#"{"LocalRecordID":"3","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","LocalReference":"c"}"#,
];

async fn send(client: &Client) -> SendOutcome {
    client.send(UsageType::Compute, &RECORDS).await
}

async fn outcome_of(reply: Reply) -> SendOutcome {
    let server = Server::script(vec![reply]).await;
    let outcome = send(&server.client()).await;
    assert_eq!(server.requests().len(), 1, "one call is one request, whatever comes back");
    outcome
}

fn unknown(outcome: &SendOutcome) -> &str {
    match outcome {
        SendOutcome::Unknown { reason } => reason,
        other => panic!("should be unknown: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_posted_with_its_headers_and_exact_bytes() {
    let server = Server::script(vec![Reply::taken()]).await;
    let outcome = send(&server.client()).await;
    assert_eq!(outcome, SendOutcome::Answered { refused: vec![], unmatched: vec![], http_status: 200 });
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/api/v1_test/usage/"));
    assert_eq!(request.header("XA-SITE"), Some("TestSite"));
    assert_eq!(request.header("XA-API-KEY"), Some(crate::server::KEY));
    assert_eq!(request.header("Content-Type"), Some("application/json"));
    let expected =
        [br#"{"UsageType":"Compute","Records":["#.as_slice(), &RECORDS.join(b",".as_slice()), b"]}"].concat();
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn partial_failure() {
    let outcome = outcome_of(Reply::json(
        200,
        r#"{"Message":"2 failed","ValidationFailedRecords":[
            {"LocalReference":"c","Error":"no such project"},
            {"LocalRecordID":1,"Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","Error":"no such user"}]}"#,
    ))
    .await;
    let SendOutcome::Answered { refused, unmatched, .. } = outcome else { panic!("{outcome:?}") };
    let refused: Vec<_> = refused.iter().map(|refused| (refused.index, refused.reason.as_str())).collect();
    assert_eq!(refused, [(0, "no such user"), (2, "no such project")]);
    assert_eq!(unmatched, []);
}

#[tokio::test]
async fn any_2xx_is_an_answer() {
    let outcome = outcome_of(Reply::json(202, r#"{"Message":"queued"}"#)).await;
    assert!(matches!(outcome, SendOutcome::Answered { http_status: 202, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_bad_request_refuses_the_whole() {
    let outcome = outcome_of(Reply::json(400, r#"{"error":"bad Charge"}"#)).await;
    assert_eq!(outcome, SendOutcome::RefusedWhole { http_status: 400, reason: "bad Charge".to_owned() });
    let outcome = outcome_of(Reply::html(400, "<title>Bad Request</title>")).await;
    let SendOutcome::RefusedWhole { reason, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "a web page, \"Bad Request\"");
}

#[tokio::test]
async fn a_refused_key_is_told_from_a_proxy() {
    for reply in [Reply::json(401, ""), Reply::json(403, r#"{"message":"no"}"#), Reply::full(403, "", "")] {
        let outcome = outcome_of(reply).await;
        assert!(matches!(outcome, SendOutcome::KeyRefused { .. }), "{outcome:?}");
    }
    for status in [403, 407] {
        let outcome = outcome_of(Reply::html(status, "<html><title>Access Denied</title>")).await;
        let SendOutcome::Proxy { http_status, reason } = &outcome else { panic!("{outcome:?}") };
        assert_eq!(*http_status, status);
        assert!(reason.contains("Access Denied") && reason.contains("proxy"), "{reason}");
    }
}

#[tokio::test]
async fn too_large() {
    let outcome = outcome_of(Reply::html(413, "<title>413 Request Entity Too Large</title>")).await;
    assert_eq!(outcome, SendOutcome::TooLarge { http_status: 413 });
}

#[tokio::test]
async fn busy_with_both_forms_of_retry_after() {
    let headers = "Date: Fri, 02 Oct 2026 00:00:00 GMT\r\nRetry-After: Fri, 02 Oct 2026 00:00:45 GMT\r\n";
    for (headers, seconds) in [("Retry-After: 30\r\n", Some(30)), (headers, Some(45)), ("", None)] {
        let outcome = outcome_of(Reply::full(429, headers, r#"{"error":"slow down"}"#)).await;
        let expected = SendOutcome::Busy {
            http_status: 429,
            retry_after: seconds.map(Duration::from_secs),
            reason: "slow down".to_owned(),
            maybe_stored: false,
        };
        assert_eq!(outcome, expected);
    }
}

#[tokio::test]
async fn of_server_errors_only_503_surely_stored_nothing() {
    for (status, expected) in [(500, true), (502, true), (504, true), (503, false)] {
        let outcome = outcome_of(Reply::html(status, "<title>Oops</title>")).await;
        let SendOutcome::Busy { maybe_stored, reason, .. } = &outcome else { panic!("{outcome:?}") };
        assert_eq!(*maybe_stored, expected, "{status}");
        assert_eq!(reason, "a web page, \"Oops\"");
    }
}

#[tokio::test]
async fn a_good_status_without_a_readable_answer_is_unknown() {
    for (reply, says) in [
        (Reply::html(200, "<html><title>Guest network</title>"), "Guest network"),
        (Reply::json(200, ""), "an empty body"),
        (Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"), "an empty body"),
        (Reply::json(200, "{}"), "{}"),
        (Reply::json(200, r#"{"error":"database is down"}"#), "database is down"),
        (Reply::json(200, r#"{"Message":"ok","ValidationFai"#), "ValidationFai"),
    ] {
        let outcome = outcome_of(reply).await;
        assert!(unknown(&outcome).contains(says), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_unknown() {
    let body = r#"{"Message":"ok","ValidationFailedRecords":[]}"#;
    let longer = body.len() + 10;
    let shorter = body.len() - 10;
    for reply in [
        // The answer is complete JSON, but the server promised more.
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {longer}\r\n\r\n{body}")),
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {shorter}\r\n\r\n{body}")),
        Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        )),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Le"),
        Reply::raw("HTTP/1.1 200"),
        Reply::raw("SSH-2.0-OpenSSH_9.2\r\n"),
        Reply::Close,
    ] {
        unknown(&outcome_of(reply).await);
    }
}

#[tokio::test]
async fn a_cut_error_is_judged_by_its_status() {
    let reply = Reply::raw("HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\n{\"error\":\"bad");
    let outcome = outcome_of(reply).await;
    assert!(matches!(outcome, SendOutcome::RefusedWhole { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_closed_before_reading_is_unknown() {
    let server = Server::closing().await;
    unknown(&send(&server.client()).await);
}

#[tokio::test]
async fn a_reused_connection_that_dies_under_a_request_is_unknown_and_not_posted_again() {
    let body = r#"{"Message":"taken"}"#;
    let kept = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = Server::script(vec![Reply::Keep(kept.into_bytes()), Reply::Close, Reply::taken()]).await;
    let client = server.client();
    assert!(matches!(send(&client).await, SendOutcome::Answered { .. }));
    // No library below may send it a second time on its own.
    unknown(&send(&client).await);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn no_connection_means_not_sent() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // The listener is closed, so the port refuses.
    let refused = Client::new(config(&format!("http://{free}"))).unwrap();
    let outcome = send(&refused).await;
    let SendOutcome::NotSent { reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.to_lowercase().contains("refused"), "{reason}");

    // A name that can never be one (RFC 6761).
    let config = ClientConfig { allow_plain_http: true, ..config("http://usage.access-ci.invalid/api") };
    let outcome = send(&Client::new(config).unwrap()).await;
    assert!(matches!(outcome, SendOutcome::NotSent { .. }), "{outcome:?}");
}

#[tokio::test]
async fn slow_headers_and_slow_bodies_end_as_unknown_in_time() {
    let piece = |wait: u64, text: &str| (Duration::from_millis(wait), text.as_bytes().to_vec());
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let dripping = std::iter::once(piece(0, head)).chain((0..100).map(|_| piece(50, " "))).collect();
    for (reply, read_ms, total_ms) in [
        (Reply::Hang, 200, 5_000),
        (Reply::Bytes(vec![piece(0, head), piece(3_000, "late")]), 200, 5_000),
        // Never silent for long, but never done: only the total time ends it.
        (Reply::Bytes(dripping), 1_000, 400),
        (Reply::Bytes(vec![piece(3_000, head)]), 5_000, 200),
    ] {
        let server = Server::script(vec![reply]).await;
        let client = Client::new(ClientConfig {
            read_timeout: Duration::from_millis(read_ms),
            total_timeout: Duration::from_millis(total_ms),
            ..server.config()
        })
        .unwrap();
        let started = Instant::now();
        unknown(&send(&client).await);
        assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end() {
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let endless: Vec<_> = std::iter::once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned())
        .chain(std::iter::repeat_n(chunk.clone(), 200))
        .map(|text| (Duration::ZERO, text.into_bytes()))
        .collect();
    let server = Server::script(vec![Reply::Bytes(endless)]).await;
    let client = Client::new(ClientConfig { max_response_bytes: 100_000, ..server.config() }).unwrap();
    let outcome = send(&client).await;
    assert!(unknown(&outcome).contains("longer than 100000 bytes"), "{outcome:?}");

    // Of an error only the beginning is read, and it is still judged.
    let refusal: Vec<_> =
        std::iter::once("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned())
            .chain(std::iter::repeat_n(chunk, 200))
            .map(|text| (Duration::ZERO, text.into_bytes()))
            .collect();
    let outcome = outcome_of(Reply::Bytes(refusal)).await;
    let SendOutcome::RefusedWhole { reason, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.len() < 600, "{}", reason.len());
}

#[tokio::test]
async fn a_redirect_is_shown_and_never_followed() {
    let elsewhere = Server::script(vec![Reply::taken()]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: http://{}/usage/\r\n", elsewhere.address);
        let outcome = outcome_of(Reply::full(status, &location, "")).await;
        let SendOutcome::Proxy { reason, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(&elsewhere.address.to_string()), "{reason}");
    }
    assert_eq!(elsewhere.requests().len(), 0, "the key went to another address");
}

#[tokio::test]
async fn a_wrong_address_is_no_refusal() {
    for status in [404, 405] {
        let outcome = outcome_of(Reply::json(status, r#"{"message":"Not Found"}"#)).await;
        assert!(matches!(outcome, SendOutcome::Proxy { .. }), "{outcome:?}");
    }
}
