//! What is read from the environment: the key, systemd credentials, proxies.
//!
//! A test must not change its own environment while others run, so each of these runs the test binary again, for one
//! test that is ignored otherwise and prints what it found.

use amie_usage::{ApiKey, Client, ClientConfig, SendOutcome, UsageType};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Runs one ignored test, named with its module, in a process of its own with these variables; what it printed.
pub fn run(child: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        command.env_remove(name);
    }
    let output = command
        .args(["--exact", child, "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether this key is the one expected; the key itself is not printed.
fn verdict(key: Result<ApiKey, amie_usage::KeyError>) -> String {
    match key {
        Ok(key) => format!("{key:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
#[ignore = "run by the tests below"]
#[allow(clippy::print_stdout)]
fn child_reads_keys() {
    println!("env: {}", verdict(ApiKey::from_env("AMIE_API_KEY")));
    println!("credential: {}", verdict(ApiKey::from_credential("api-key")));
}

#[test]
fn a_key_comes_from_a_variable_or_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api-key");
    std::fs::write(&path, "s3cr3t\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let directory = folder.path().to_str().unwrap();
    let text = run(
        "environment::child_reads_keys",
        &[("AMIE_API_KEY", "s3cr3t"), ("CREDENTIALS_DIRECTORY", directory)],
    );
    assert!(text.contains("env: ApiKey(****)") && text.contains("credential: ApiKey(****)"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");

    let text = run("environment::child_reads_keys", &[("AMIE_API_KEY", "")]);
    assert!(text.contains("env: the API key in the environment variable AMIE_API_KEY is empty"), "{text}");
    assert!(text.contains("LoadCredential=api-key:FILE"), "{text}");
}

#[tokio::test]
#[ignore = "run by the tests below"]
#[allow(clippy::print_stdout)]
async fn child_sends_through_a_proxy() {
    let key = ApiKey::new(crate::server::KEY).unwrap();
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/ca.pem");
    let outside = ClientConfig {
        ca_bundle: Some(certificates.into()),
        ..ClientConfig::new("https://usage.access-ci.invalid/api", "TestSite", key.clone())
    };
    let outcome = Client::new(outside).unwrap().send(UsageType::Compute, &[b"{}"]).await;
    println!("outside: {}", matches!(outcome, SendOutcome::NotSent { .. }));
    // A service on this host, with a proxy configured for everything.
    let server = crate::server::Server::script(vec![crate::server::Reply::taken()]).await;
    let outcome = server.client().send(UsageType::Compute, &[b"{}"]).await;
    println!("inside: {}", matches!(outcome, SendOutcome::Answered { .. }));
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_and_told_no_key() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 4096];
        while !asked.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            asked.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(asked).unwrap()
    });
    let text = run(
        "environment::child_sends_through_a_proxy",
        &[("HTTPS_PROXY", &address), ("HTTP_PROXY", &address), ("http_proxy", &address)],
    );
    // A tunnel that is refused means that nothing was sent.
    assert!(text.contains("outside: true") && text.contains("inside: true"), "{text}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("CONNECT usage.access-ci.invalid:443 HTTP/1.1"), "{asked}");
    assert!(!asked.contains(crate::server::KEY) && !asked.contains("TestSite"), "{asked}");
}
