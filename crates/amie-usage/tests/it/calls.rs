//! The calls beside sending: what is asked, and what is made of the answers.

use crate::server::{Reply, Server};
use amie_usage::{CallError, Cancel, Decimal, LoadedPages, LoadedQuery, RetryBudget, ask};
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

/// A service with ten loaded records and a limit of its own; what a page asked for.
async fn ten_records(most: usize, offset_name: &'static str) -> Server {
    Server::new(move |request| {
        let number = |name: &str, default: usize| {
            let pairs = request.target.split(['?', '&']);
            let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            values.next().map_or(default, |value| value.parse().unwrap())
        };
        let (offset, limit) = (number(offset_name, 0), number("Limit", most).min(most));
        let records: Vec<String> = (0..10)
            .skip(offset)
            .take(limit)
            .map(|id| format!(r#"{{"LocalRecordID":{id},"Resource":"cpu","Charge":{id}}}"#))
            .collect();
        Reply::json(200, &format!(r#"{{"Records":[{}]}}"#, records.join(",")))
    })
    .await
}

async fn all(pages: &mut LoadedPages) -> Result<Vec<String>, CallError> {
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await? {
        ids.extend(page.records.into_iter().map(|record| record.local_record_id));
    }
    Ok(ids)
}

#[tokio::test]
async fn loaded_records_are_read_to_the_end_whatever_the_page() {
    let everything: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    // Pages that fill, pages of the service's own smaller limit, one page, pages of one.
    for (most, limit) in [(100, 5), (4, 25_000), (100, 100), (100, 1), (3, 3)] {
        let server = ten_records(most, "Offset").await;
        let query = LoadedQuery { limit: Some(limit), ..LoadedQuery::default() };
        let ids = all(&mut server.client().loaded_pages(query)).await;
        assert_eq!(ids.unwrap(), everything, "{most} {limit}");
    }
}

#[tokio::test]
async fn a_walk_goes_on_where_another_stopped() {
    let server = ten_records(4, "Offset").await;
    let mut pages = server.client().loaded_pages(LoadedQuery::default());
    assert_eq!(pages.next().await.unwrap().unwrap().records.len(), 4);
    let position = pages.position().clone();
    assert_eq!(position.offset, 4);
    assert_eq!(
        all(&mut server.client().loaded_pages(position)).await.unwrap(),
        ["4", "5", "6", "7", "8", "9"]
    );
    // Behind the end there is nothing, and nobody is asked again.
    assert_eq!(all(&mut pages).await.unwrap().len(), 6);
    let asked = server.requests().len();
    assert_eq!(pages.next().await, Ok(None));
    assert_eq!(server.requests().len(), asked);
    // After an error, the same page is asked for again.
    let server = Server::script(vec![Reply::json(503, ""), Reply::json(200, "[]")]).await;
    let mut pages = server.client().loaded_pages(LoadedQuery { offset: 7, ..LoadedQuery::default() });
    assert!(pages.next().await.is_err());
    assert_eq!(pages.next().await, Ok(None));
    let requests = server.requests();
    assert_eq!(requests[0].target, requests[1].target);
}

#[tokio::test]
async fn a_service_that_does_not_know_the_offset_is_not_asked_for_ever() {
    for most in [4, 100] {
        let server = ten_records(most, "Skip").await;
        let error = all(&mut server.client().loaded_pages(LoadedQuery::default())).await.unwrap_err();
        assert!(error.to_string().contains("another name for the parameter \"Offset\""), "{error}");
        assert_eq!(server.requests().len(), 2);
        let mut config = server.config();
        config.settings.loaded_offset = "Skip".to_owned();
        let client = amie_usage::Client::new(config).unwrap();
        assert_eq!(all(&mut client.loaded_pages(LoadedQuery::default())).await.unwrap().len(), 10);
    }
}

#[tokio::test]
async fn pages_without_a_readable_record_end_the_walk() {
    let server = Server::script(vec![Reply::json(200, r#"[{"id":1},{"id":2}]"#)]).await;
    let mut pages = server.client().loaded_pages(LoadedQuery::default());
    let error = pages.next().await.unwrap_err();
    assert!(error.to_string().contains("none of 2 loaded records can be read"), "{error}");
    assert_eq!(pages.position().offset, 0);
}

#[tokio::test]
async fn calls_are_made_again_where_that_may_help() {
    let budget = RetryBudget::new(3).with_backoff(Duration::from_millis(1), Duration::from_secs(2));
    let cancel = Cancel::new();
    let busy = Reply::full(503, "Retry-After: 0\r\n", "");
    let server = Server::script(vec![busy.clone(), Reply::Close, Reply::json(200, "[]")]).await;
    let client = server.client();
    assert_eq!(ask(&budget, &cancel, async || client.failed().await).await, Ok(vec![]));
    assert_eq!((server.requests().len(), budget.left()), (3, 1));

    // The budget is that of the run; what does not help is not tried.
    let server = Server::script(vec![busy.clone()]).await;
    let client = server.client();
    assert!(ask(&budget, &cancel, async || client.failed().await).await.is_err());
    assert_eq!((server.requests().len(), budget.left()), (2, 0));
    for reply in [Reply::json(403, "{}"), Reply::json(404, ""), Reply::json(400, ""), Reply::html(200, "<p>")]
    {
        let budget = RetryBudget::new(3);
        let server = Server::script(vec![reply]).await;
        let client = server.client();
        assert!(ask(&budget, &cancel, async || client.status(0, 1).await).await.is_err());
        assert_eq!((server.requests().len(), budget.left()), (1, 3));
    }
    // Longer than the run is willing to wait, or cancelled: no other try.
    let long = Reply::full(429, "Retry-After: 3600\r\n", "");
    cancel.cancel();
    for (reply, cancel) in [(long, Cancel::new()), (busy, cancel)] {
        let server = Server::script(vec![reply]).await;
        let client = server.client();
        assert!(ask(&RetryBudget::new(3), &cancel, async || client.failed().await).await.is_err());
        assert_eq!(server.requests().len(), 1);
    }
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
