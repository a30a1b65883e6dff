//! What all tests need: a client, records, and bytes on a socket.

use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use usage_sandbox::{Sandbox, Settings};

/// Settings under which nothing loads by itself.
pub(crate) fn patient() -> Settings {
    Settings { load_delay: Duration::from_secs(3600), ..Settings::default() }
}

pub(crate) async fn start(settings: Settings) -> Sandbox {
    Sandbox::start(settings).await.unwrap()
}

/// A client without pooled connections that could be reset behind its back, and with little patience.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().unwrap()
}

pub(crate) fn request(sandbox: &Sandbox, method: reqwest::Method, call: &str) -> reqwest::RequestBuilder {
    let url = format!("{}{call}", sandbox.base_url());
    client().request(method, url).header("XA-SITE", "Site").header("XA-API-KEY", "key")
}

/// Status and JSON of an answer.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

pub(crate) async fn get(sandbox: &Sandbox, call: &str) -> (u16, Value) {
    answer(request(sandbox, reqwest::Method::GET, call)).await
}

pub(crate) async fn post(sandbox: &Sandbox, usage_type: &str, records: &[Value]) -> (u16, Value) {
    let message = json!({"UsageType": usage_type, "Records": records});
    answer(request(sandbox, reqwest::Method::POST, "/usage/").json(&message)).await
}

/// Posts a body of any kind as JSON.
pub(crate) async fn post_text(sandbox: &Sandbox, body: &str) -> (u16, Value) {
    let request =
        request(sandbox, reqwest::Method::POST, "/usage/").header("Content-Type", "application/json");
    answer(request.body(body.to_owned())).await
}

/// A record with every field that the documentation has.
pub(crate) fn compute(id: &str) -> Value {
    json!({
        "Username": "alice", "LocalProjectID": "TG-ABC123", "LocalRecordID": id, "Resource": "anvil.example.org",
        "SubmitTime": "2026-10-02T00:00:00Z", "StartTime": "2026-10-02T01:00:00Z", "EndTime": "2026-10-02T03:00:00Z",
        "Charge": "12.5",
        "Attributes": {"NodeCount": 2, "CpuCoreCount": 256, "JobName": "run", "Queue": "wide", "Memory": "512 GB"},
        "ParentRecordID": "1", "LocalReference": "anvil/1/1790899200"
    })
}

pub(crate) fn storage(id: &str) -> Value {
    json!({
        "Username": "alice", "LocalProjectID": "TG-ABC123", "LocalRecordID": id, "Resource": "ranch.example.org",
        "CollectionTime": "2026-10-02T00:00:00Z", "Charge": "100.25",
        "Attributes": {
            "BytesRead": 1, "BytesStored": 100_250_000_000_u64, "BytesWritten": 2, "CollectionInterval": 1, "FileCount": 3,
            "FilesRead": 4, "FilesWritten": 5, "MediaType": "Disk", "SystemCopies": 1, "UserCopies": 1
        },
        "LocalReference": "quota/alice"
    })
}

pub(crate) fn adjustment(id: &str) -> Value {
    json!({
        "AdjustmentType": "refund", "Charge": "3", "StartTime": "2026-10-02T00:00:00Z", "LocalProjectID": "TG-ABC123",
        "LocalRecordID": id, "Resource": "anvil.example.org", "Username": "alice", "Comment": "node failed",
        "LocalReference": "adjust/1"
    })
}

/// The record with one field set; `Attributes.Queue` reaches inside.
pub(crate) fn with(mut record: Value, path: &str, value: Value) -> Value {
    record[path.split('.').next().unwrap()] = match path.split_once('.') {
        None => value,
        Some((outer, inner)) => with(record[outer].clone(), inner, value),
    };
    record
}

/// The record without one field.
pub(crate) fn without(mut record: Value, path: &str) -> Value {
    match path.split_once('.') {
        None => drop(record.as_object_mut().unwrap().remove(path)),
        Some((outer, inner)) => record[outer] = without(record[outer].clone(), inner),
    }
    record
}

/// Sends bytes; answers everything that comes back until the connection ends, and how it ended.
pub(crate) async fn raw(sandbox: &Sandbox, bytes: &[u8]) -> (String, Option<std::io::ErrorKind>) {
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    // A sandbox that resets the connection may do so before everything is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    (String::from_utf8(answer).unwrap(), end.err().map(|error| error.kind()))
}

/// A POST byte by byte. It asks for the connection to be closed, so that `raw` sees an end.
pub(crate) fn raw_post(records: &[Value]) -> Vec<u8> {
    let body = json!({"UsageType": "Compute", "Records": records}).to_string();
    format!(
        "POST /api/v1_test/usage/ HTTP/1.1\r\nHost: x\r\nXA-SITE: Site\r\nXA-API-KEY: key\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
