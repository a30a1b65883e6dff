//! The calls beside sending: what is asked, and what is made of the answers.

use crate::server::{Reply, Server};
use amie_usage::{CallError, Decimal, LoadedQuery};
use std::time::Duration;

#[tokio::test]
async fn status_asks_for_an_interval() {
    let body = r#"[{"Resource":"cpu","LoadedRecordCount":2,"FailedRecordCount":"1","TotalCharge":37.5,
        "Errors":[{"Error":"Allocation could not be found for user ada","Records":[{"LocalRecordID":"1"}]}]}]"#;
    let server = Server::script(vec![Reply::json(200, body)]).await;
    let status = server.client().status(1_790_899_200, 1_790_985_600).await.unwrap();
    assert_eq!(status[0].total_charge, Some(Decimal::new(375, 1)));
    assert_eq!(status[0].errors[0].records[0].error, "Allocation could not be found for user ada");
    let request = &server.requests()[0];
    assert_eq!(request.method, "GET");
    assert_eq!(
        request.target,
        "/api/v1_test/usage/status?FromTime=2026-10-02T00%3A00%3A00Z&ToTime=2026-10-03T00%3A00%3A00Z"
    );
    assert_eq!(request.header("XA-SITE"), Some("TestSite"));
}

#[tokio::test]
async fn failed_records_are_listed() {
    let body = r#"{"FailedRecords":[{"FailedRecordID":7,"UsageType":"Compute","Error":"no user","LocalRecordID":"1"}]}"#;
    let server =
        Server::script(vec![Reply::json(200, body), Reply::raw("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    let failed = server.client().failed().await.unwrap();
    assert_eq!(failed[0].failed_record_id.as_deref(), Some("7"));
    assert_eq!(server.requests()[0].target, "/api/v1_test/usage/failed");
    assert_eq!(server.client().failed().await, Ok(vec![]));
}

#[tokio::test]
async fn failed_records_are_acknowledged_in_addresses_of_bounded_length() {
    let server = Server::script(vec![Reply::json(200, "{}")]).await;
    let ids: Vec<String> = (0..1000).map(|id| format!("{}", 1_000_000 + id)).collect();
    server.client().clear_failed(&ids).await.unwrap();
    let requests = server.requests();
    assert!(requests.len() > 1 && requests.iter().all(|request| request.target.len() < 1600));
    let mut cleared = Vec::new();
    for request in requests {
        assert_eq!(request.method, "DELETE");
        let list = request.target.strip_prefix("/api/v1_test/usage/failed/").unwrap().to_owned();
        cleared.extend(list.split(',').map(str::to_owned));
    }
    assert_eq!(cleared, ids);

    // The login page of a guest network acknowledges nothing.
    let server = Server::script(vec![Reply::html(200, "<title>Log in</title>")]).await;
    let error = server.client().clear_failed(&ids[..1]).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer cannot be read: a web page, \"Log in\"");

    let server = Server::script(vec![Reply::taken()]).await;
    server.client().clear_failed(&[]).await.unwrap();
    for id in ["", "1,2", "../loaded", "..", ".", "a b", "a%2c"] {
        let error = server.client().clear_failed(&["1".to_owned(), id.to_owned()]).await.unwrap_err();
        assert!(matches!(error, CallError::Impossible { .. }), "{error:?}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn loaded_records_come_in_pages() {
    let body = r#"{"Records":[{"LocalRecordID":"123_4","Resource":"cpu","SubmitTime":"2026-10-02T00:00:00Z",
        "LoadedTime":"2026-10-03T00:00:00Z","Charge":"12.50","AccountingDbRecordID":5}]}"#;
    let server = Server::script(vec![Reply::json(200, body)]).await;
    let client = server.client();
    let query = LoadedQuery {
        min_loaded_time: Some(1_790_899_200),
        local_record_id: Some("66+1&x=[y]".to_owned()),
        offset: 50,
        limit: Some(1),
    };
    let page = client.loaded(&query).await.unwrap();
    assert!(page.full);
    assert_eq!((page.records[0].charge, page.records[0].charge_places), (Some(Decimal::new(125, 1)), 2));
    assert!(!client.loaded(&LoadedQuery::default()).await.unwrap().full);
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(
        targets,
        [
            "/api/v1_test/usage/loaded?MinLoadedTime=2026-10-02T00%3A00%3A00Z\
             &LocalRecordID=66%2B1%26x%3D%5By%5D&Limit=1&Offset=50",
            "/api/v1_test/usage/loaded?Limit=25000&Offset=0",
        ]
    );
}

#[tokio::test]
async fn every_failure_has_its_kind() {
    let kind = async |reply| Server::script(vec![reply]).await.client().failed().await.unwrap_err();
    for status in [404, 405, 501] {
        let error = kind(Reply::html(status, "<title>Not here</title>")).await;
        assert!(matches!(error, CallError::NotOffered { .. }), "{error:?}");
    }
    let error = kind(Reply::json(403, r#"{"error":"no"}"#)).await;
    assert!(matches!(error, CallError::KeyRefused { .. }), "{error:?}");
    let error = kind(Reply::html(403, "<title>Blocked</title>")).await;
    assert!(matches!(error, CallError::Proxy { .. }), "{error:?}");
    let error = kind(Reply::json(400, r#"{"error":"no such parameter"}"#)).await;
    assert_eq!(error.to_string(), "the service refuses the call (HTTP 400): no such parameter");
    let error = kind(Reply::full(503, "Retry-After: 9\r\n", "")).await;
    assert!(
        matches!(&error, CallError::Busy { retry_after: Some(wait), .. } if *wait == Duration::from_secs(9)),
        "{error:?}"
    );
    let error = kind(Reply::html(200, "<title>Log in</title>")).await;
    assert_eq!(error.to_string(), "the answer cannot be read: a web page, \"Log in\"");
    for reply in [Reply::Close, Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]")] {
        let error = kind(reply).await;
        assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn names_on_the_wire_follow_the_settings() {
    let server = Server::script(vec![Reply::json(200, "[]")]).await;
    let mut config = server.config();
    config.settings.loaded_path = "/usage/v2/loaded".to_owned();
    config.settings.loaded_limit = "limit".to_owned();
    config.settings.loaded_page = 100;
    config.settings.key_header = "X-Key".to_owned();
    let client = amie_usage::Client::new(config).unwrap();
    let query = LoadedQuery { limit: Some(1_000_000), ..LoadedQuery::default() };
    client.loaded(&query).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.target, "/api/v1_test/usage/v2/loaded?limit=100&Offset=0");
    assert_eq!(request.header("X-Key"), Some(crate::server::KEY));
}
