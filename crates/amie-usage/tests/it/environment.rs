//! What is read from the environment: the key and systemd credentials (proxies: see `tls.rs`).
//!
//! A test must not change its own environment while others run, so each of these runs the test binary again, for one
//! test that is ignored otherwise and prints what it found.

use amie_usage::ApiKey;
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
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
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
