//! The page for people, and the calls beside the API.

use crate::support::*;
use serde_json::{Value, json};
use usage_sandbox::{Rule, Sandbox, Settings};

async fn page(sandbox: &Sandbox) -> String {
    let response = client().get(format!("http://{}/", sandbox.address())).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert_eq!(policy, "default-src 'none'; style-src 'unsafe-inline'");
    response.text().await.unwrap()
}

fn beside(sandbox: &Sandbox, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
    client().request(method, format!("http://{}{path}", sandbox.address()))
}

#[tokio::test]
async fn an_empty_page_says_so() {
    let sandbox = start(patient()).await;
    let page = page(&sandbox).await;
    assert!(page.contains("Nothing has come in yet."));
    assert!(!page.contains("Recent errors"));
}

#[tokio::test]
async fn the_page_sums_exactly() {
    let sandbox = start(patient()).await;
    let tenths =
        (0..10).map(|number| with(compute(&number.to_string()), "Charge", json!("0.1"))).collect::<Vec<_>>();
    post(&sandbox, "Compute", &tenths).await;
    sandbox.settle().await;
    let next = with(compute("next"), "LocalProjectID", json!("TG-XYZ"));
    let refused = with(next.clone(), "Charge", json!("1e3"));
    post(&sandbox, "Compute", &[next, refused]).await;
    let page = page(&sandbox).await;
    let row = |project: &str, numbers: [&str; 7]| {
        let cells: String = numbers.iter().map(|number| format!("<td class=\"n\">{number}")).collect();
        format!("<tr><td>Compute<td><bdi>anvil.example.org</bdi><td><bdi>{project}</bdi>{cells}</tr>")
    };
    assert!(page.contains(&row("TG-ABC123", ["10", "0", "10", "0", "0", "0", "1"])), "{page}");
    assert!(page.contains(&row("TG-XYZ", ["1", "1", "0", "0", "0", "1", "0"])), "{page}");
    assert!(page.contains("prefers-color-scheme:dark"));
}

#[tokio::test]
async fn what_clients_send_is_text_on_the_page() {
    let evil = "<script>alert('x')</script>\"&\u{1b}[31m";
    let fail_load = vec![Rule::new("Username", evil, "no <b>allocation</b> for <login>")];
    let sandbox = start(Settings { fail_load, ..patient() }).await;
    let mut record = compute(evil);
    for field in
        ["Username", "LocalProjectID", "Resource", "LocalReference", "Attributes.Queue", "Attributes.JobName"]
    {
        record = with(record, field, json!(evil));
    }
    let refused = with(record.clone(), evil, json!(1));
    post(&sandbox, "Compute", &[record.clone(), refused, with(record, "Username", json!("alice"))]).await;
    post(
        &sandbox,
        "Adjustment",
        &[with(with(adjustment(evil), "Resource", json!(evil)), "LocalProjectID", json!(evil))],
    )
    .await;
    post_text(&sandbox, &format!("{{{}: 1}}", json!(evil))).await;
    sandbox.settle().await;
    let page = page(&sandbox).await;
    assert!(
        page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}[31m"),
        "{page}"
    );
    assert!(page.contains("no &lt;b&gt;allocation&lt;/b&gt; for &lt;script&gt;"), "{page}");
    assert!(page.contains("400: unknown field &lt;script&gt;"), "{page}");
    for word in ["<script", "<b>", "\u{1b}", "onload"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[tokio::test]
async fn the_state_is_the_same_over_http() {
    let sandbox = start(patient()).await;
    post(&sandbox, "Compute", &[compute("1"), without(compute("2"), "Charge")]).await;
    post(&sandbox, "Storage", &[storage("1")]).await;
    post_text(&sandbox, "nonsense").await;
    let (status, body) = answer(beside(&sandbox, reqwest::Method::POST, "/sandbox/settle")).await;
    assert_eq!(status, 200, "{body}");
    post(&sandbox, "Compute", &[compute("1")]).await;
    let (status, body) = answer(beside(&sandbox, reqwest::Method::GET, "/sandbox/state")).await;
    assert_eq!(status, 200);
    assert_eq!(body, serde_json::to_value(sandbox.state()).unwrap());
    let (_, totals) = answer(beside(&sandbox, reqwest::Method::GET, "/sandbox/totals")).await;
    assert_eq!(totals, body["totals"]);
    assert_eq!(sandbox.totals(), sandbox.state().totals);
    let count = |name: &str| body[name].as_array().unwrap().len();
    assert_eq!(
        (body["posts"].as_u64(), count("loaded"), count("queued"), count("refused"), count("messages")),
        (Some(4), 2, 1, 1, 1)
    );
    assert_eq!(body["loaded"][0]["charge"], "12.5");
    assert_eq!(body["loaded"][0]["record"], compute("1"));
    assert_eq!(
        body["history"][0]["versions"],
        json!([
            {"number": 1, "charge": "12.5", "fate": "loaded"}, {"number": 3, "charge": "12.5", "fate": "queued"}
        ])
    );
}

#[tokio::test]
async fn faults_are_armed_over_http() {
    let sandbox = start(patient()).await;
    let arm =
        |text: &'static str| answer(beside(&sandbox, reqwest::Method::POST, "/sandbox/faults").body(text));
    let armed = (200, json!(["html:503@post*2", "slow-body:2000ms@any"]));
    assert_eq!(arm("html:503@post*2\n\n slow-body:2s \n").await, armed);
    let (status, listed) = answer(beside(&sandbox, reqwest::Method::GET, "/sandbox/faults")).await;
    assert_eq!((status, listed), armed);
    assert_eq!(answer(beside(&sandbox, reqwest::Method::DELETE, "/sandbox/faults")).await, (200, json!([])));
    assert_eq!(arm(r#"["html:503@post*1"]"#).await, (200, json!(["html:503@post*1"])));
    // One that cannot be read: none is armed.
    for text in ["status:500\nexplode", r#"["status:500", "explode"]"#, r#"[{"kind": 1}]"#] {
        let (status, body) = arm(text).await;
        assert_eq!(status, 400);
        assert!(body["error"].is_string(), "{body}");
    }
    assert_eq!(sandbox.state().faults, ["html:503@post*1".parse().unwrap()]);
    let hit = request(&sandbox, reqwest::Method::POST, "/usage/").send().await.unwrap();
    assert_eq!(hit.status().as_u16(), 503);
    assert_eq!(post(&sandbox, "Compute", &[]).await.0, 200);
    let (status, _): (u16, Value) = answer(beside(&sandbox, reqwest::Method::PUT, "/sandbox/faults")).await;
    assert_eq!(status, 405);
}
