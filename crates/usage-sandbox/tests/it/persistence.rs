//! The state file: what was answered survives, whatever happens to the process.

use crate::support::*;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use usage_sandbox::{Rule, Sandbox, SandboxError, Settings, StateFileError};

fn kept(path: &Path) -> Settings {
    Settings {
        state_file: Some(path.to_owned()),
        fail_load: vec![Rule::new("Username", "bob", "no allocation")],
        ..patient()
    }
}

fn everything(sandbox: &Sandbox) -> Value {
    serde_json::to_value(sandbox.state()).unwrap()
}

/// Something of every kind.
async fn fill(sandbox: &Sandbox) {
    let bob = |id: &str| with(compute(id), "Username", json!("bob"));
    post(sandbox, "Compute", &[compute("1"), bob("2"), bob("3"), without(compute("4"), "Charge")]).await;
    post(sandbox, "Storage", &[storage("1")]).await;
    sandbox.settle().await;
    answer(request(sandbox, reqwest::Method::DELETE, "/usage/failed/2")).await;
    post(sandbox, "Compute", &[with(compute("1"), "Charge", json!("99"))]).await;
    sandbox.settle().await;
    post(sandbox, "Adjustment", &[adjustment("1")]).await;
    post_text(sandbox, "nonsense").await;
}

#[tokio::test]
async fn a_stopped_sandbox_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let sandbox = start(kept(&path)).await;
    fill(&sandbox).await;
    let before = everything(&sandbox);
    let counts = ["loaded", "queued", "failed", "cleared", "refused", "messages"]
        .map(|name| before[name].as_array().unwrap().len());
    assert_eq!(counts, [2, 1, 1, 1, 1, 1]);
    sandbox.stop().await;
    // Other settings for what comes, not for what has been.
    let sandbox = start(Settings {
        overwrite: false,
        fail_load: Vec::new(),
        load_delay: Duration::ZERO,
        ..kept(&path)
    })
    .await;
    assert_eq!(everything(&sandbox), before);
    post(&sandbox, "Compute", &[compute("1")]).await;
    let state = sandbox.state();
    assert_eq!(
        (state.queued.len(), state.loaded.len()),
        (1, 3),
        "what was queued before waits for its own time"
    );
    sandbox.settle().await;
    let state = sandbox.state();
    assert_eq!(state.charge("anvil.example.org"), "111.5", "99 and, now adding, 12.5");
    assert_eq!(state.loaded.last().unwrap().number, 6);
}

#[tokio::test]
async fn a_torn_last_line_was_never_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let sandbox = start(kept(&path)).await;
    post(&sandbox, "Compute", &[compute("1")]).await;
    let whole = everything(&sandbox);
    let length = std::fs::metadata(&path).unwrap().len();
    post(&sandbox, "Compute", &[compute("2")]).await;
    sandbox.stop().await;
    let bytes = std::fs::read(&path).unwrap();
    for end in usize::try_from(length).unwrap()..bytes.len() {
        if end % 37 != 0 && end + 1 != bytes.len() {
            continue;
        }
        std::fs::write(&path, &bytes[..end]).unwrap();
        let sandbox = start(kept(&path)).await;
        assert_eq!(everything(&sandbox), whole, "cut at {end}");
        post(&sandbox, "Compute", &[compute("3")]).await;
        sandbox.stop().await;
        let sandbox = start(kept(&path)).await;
        assert_eq!(sandbox.state().queued.len(), 2, "cut at {end}");
        sandbox.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_is_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let header = "{\"format\":\"usage-sandbox\",\"version\":2}\n";
    for (text, line) in [
        ("Dear diary,\n".to_owned(), 1),
        (header.replace('2', "1"), 1),
        (format!("{header}{{\"Settled\":{{\"at\":1}}}}\nrubbish\n"), 3),
        (
            format!(
                "{header}{{\"Posted\":{{\"at\":1,\"judged\":{{\"usage_type\":\"Compute\",\"accepted\":[{{\"record\":{{}},\"wait\":1,\"replaces\":true,\"fails\":null}}],\"refused\":[]}}}}}}\n"
            ),
            2,
        ),
    ] {
        std::fs::write(&path, &text).unwrap();
        match Sandbox::start(kept(&path)).await {
            Err(SandboxError::StateFile(StateFileError::Corrupt { line: found, .. })) => {
                assert_eq!(found, line, "{text}")
            }
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[tokio::test]
async fn one_file_one_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = start(kept(&path)).await;
    let second = Sandbox::start(kept(&path)).await;
    assert!(matches!(second, Err(SandboxError::StateFile(StateFileError::InUse { .. }))), "{second:?}");
    first.stop().await;
    start(kept(&path)).await.stop().await;
}

#[tokio::test]
async fn the_key_is_not_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let sandbox = start(Settings { key: Some("s3cret".to_owned()), ..kept(&path) }).await;
    let message = json!({"UsageType": "Compute", "Records": [compute("1")]});
    let url = format!("{}/usage/", sandbox.base_url());
    let response = client()
        .post(url)
        .header("XA-SITE", "S")
        .header("XA-API-KEY", "s3cret")
        .json(&message)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 200);
    sandbox.stop().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("anvil.example.org") && !text.contains("s3cret"), "{text}");
}
