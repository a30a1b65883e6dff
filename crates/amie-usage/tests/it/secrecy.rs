//! The key is shown nowhere: not by `Debug`, not by an error, not where the service itself repeats it.

use crate::server::{KEY, Reply, Server};
use amie_usage::{Cancel, Client, ClientConfig, Limits, LoadedQuery, RetryBudget, UsageType, deliver};
use std::fmt::Write;
use std::time::Duration;

const RECORD: &[u8] = br#"{"LocalRecordID":"1","Resource":"r","LocalReference":"a"}"#;

#[tokio::test]
async fn debug_and_errors_show_no_key_even_when_the_service_does() {
    let mut shown = String::new();
    let echo = |status: u16, body: &str| Reply::json(status, &body.replace("KEY", KEY));
    for reply in [
        echo(
            200,
            r#"{"ValidationFailedRecords":[{"LocalReference":"a","Error":"key KEY may not"},{"Error":"KEY"}]}"#,
        ),
        echo(200, r#"<title>KEY</title>"#),
        echo(200, r#"KEY"#),
        echo(400, r#"{"error":"KEY"}"#),
        echo(401, r#"{"error":"bad key KEY"}"#),
        echo(403, r#"<title>bad key KEY</title>"#),
        echo(404, &format!("{} KEY", "x".repeat(495))),
        echo(500, "KEY"),
        Reply::full(302, &format!("Location: https://elsewhere/?key={KEY}\r\n"), ""),
        Reply::Close,
    ] {
        let server = Server::script(vec![reply]).await;
        let client = server.client();
        let budget = RetryBudget::new(0);
        writeln!(shown, "{:?} {:#?}", server.config(), server.config().key).unwrap();
        writeln!(shown, "{client:?} {client:#?}").unwrap();
        writeln!(shown, "{:?}", client.send(UsageType::Compute, &[RECORD]).await).unwrap();
        let delivery =
            deliver(&client, UsageType::Compute, &[RECORD], &Limits::default(), &budget, &Cancel::new())
                .await;
        writeln!(shown, "{delivery:?}").unwrap();
        for error in [
            client.failed().await.map(|failed| writeln!(shown, "{failed:?}").unwrap()).err(),
            client.status(0, 1).await.err(),
            client.loaded(&LoadedQuery::default()).await.err(),
            client.clear_failed(&["1".to_owned()]).await.err(),
        ]
        .into_iter()
        .flatten()
        {
            writeln!(shown, "{error} {error:?} {error:#?}").unwrap();
        }
    }
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("****") && shown.contains("TestSite"));
}

#[tokio::test]
async fn a_panic_with_everything_in_it_shows_no_key() {
    let server = Server::script(vec![Reply::json(400, &format!(r#"{{"error":"{KEY}"}}"#))]).await;
    let (config, client) = (server.config(), server.client());
    let outcome = client.send(UsageType::Compute, &[RECORD]).await;
    let pages = client.loaded_pages(LoadedQuery::default());
    let error = client.failed().await;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        panic!("{config:?} {client:?} {outcome:?} {pages:?} {error:?}");
    }));
    let payload = panicked.unwrap_err();
    let text = payload.downcast_ref::<String>().unwrap();
    assert!(text.contains("ApiKey(****)") && text.contains("TestSite") && !text.contains(KEY), "{text}");
}

#[tokio::test]
async fn records_that_repeat_the_key_are_given_without_it() {
    let entry = format!(
        r#"{{"Error":"{KEY}","FailedRecordID":"{KEY}","Resource":"{KEY}","LocalRecordID":"{KEY}","Username":"{KEY}",
        "LocalProjectID":"{KEY}","LocalReference":"{KEY}"}}"#
    );
    let list = Reply::json(200, &format!("[{entry}]"));
    let status = Reply::json(
        200,
        &format!(r#"[{{"Resource":"{KEY}","Errors":[{{"Error":"{KEY}","Records":[{entry}]}}]}}]"#),
    );
    let sent = Reply::json(200, &format!(r#"{{"FailedRecords":[{entry}]}}"#));
    let loaded =
        format!(r#"[{{"Resource":"{KEY}","LocalRecordID":"{KEY}","AccountingDbRecordID":"{KEY}"}}]"#);
    let server = Server::script(vec![list, status, sent, Reply::json(200, &loaded)]).await;
    let client = server.client();
    let failed = format!("{:?}", client.failed().await);
    let status = format!("{:?}", client.status(0, 1).await);
    let sent = format!("{:?}", client.send(UsageType::Compute, &[RECORD]).await);
    let loaded = format!("{:?}", client.loaded(&LoadedQuery::default()).await);
    for shown in [failed, status, sent, loaded] {
        assert!(shown.contains("****") && !shown.contains(KEY), "{shown}");
    }
}

#[test]
fn configuration_errors_show_no_key() {
    let server = ClientConfig::new(
        "https://usage.access-ci.org/api/v1",
        "TestSite",
        amie_usage::ApiKey::new(KEY).unwrap(),
    );
    for broken in [
        ClientConfig { site: "a\nb".to_owned(), ..server.clone() },
        ClientConfig { base_url: "http://usage.access-ci.org".to_owned(), ..server.clone() },
        ClientConfig { base_url: format!("https://x:{KEY}@usage.access-ci.org"), ..server.clone() },
        ClientConfig { base_url: format!("https://usage.access-ci.org:{KEY}"), ..server.clone() },
        ClientConfig { ca_bundle: Some("/nonexistent/ca.pem".into()), ..server.clone() },
        ClientConfig { user_agent: "a\nb".to_owned(), ..server.clone() },
        ClientConfig { total_timeout: Duration::ZERO, ..server },
    ] {
        let error = Client::new(broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    }
}

/// Logs everything that is logged, by whatever crate, to standard output. A subscriber that is set for one thread
/// misses events whose first use was on another, hence a process of its own.
#[tokio::test]
#[ignore = "run by the test below"]
async fn child_delivers_and_logs() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).init();
    let server = Server::script(vec![
        Reply::full(503, "Retry-After: 0\r\n", KEY),
        Reply::json(200, r#"{"Message":"","ValidationFailedRecords":[]}"#),
    ])
    .await;
    let records = vec![RECORD; 500];
    let budget = RetryBudget::new(5).with_backoff(Duration::from_millis(1), Duration::from_secs(1));
    let client = server.client();
    deliver(&client, UsageType::Compute, &records, &Limits::default(), &budget, &Cancel::new()).await;
}

#[test]
fn logs_show_no_key_and_no_line_per_record() {
    let text = crate::environment::run("secrecy::child_delivers_and_logs", &[]);
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("amie_usage")).collect();
    assert!(!text.contains(KEY), "{text}");
    assert!(
        ours.iter().any(|line| line.contains("delivered a batch") && line.contains("accepted=500")),
        "{text}"
    );
    assert!(ours.iter().any(|line| line.contains("sending again")), "{text}");
    assert!(ours.len() < 10, "{text}");
}
