//! The sandbox as a command: its options reach the service, and what cannot be used is told.

use crate::support::run;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A sandbox in a process of its own; ends with it.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(folder: &Path, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_amie-runner"))
            .current_dir(folder)
            .arg("sandbox")
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().strip_suffix("/api/v1_test").unwrap();
        Self { address: address.to_owned(), child }
    }

    /// One request; the whole answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nXA-SITE: S\r\nXA-API-KEY: k\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn record(user: &str, charge: &str) -> String {
    format!(
        r#"{{"Username":"{user}","LocalProjectID":"TG-1","LocalRecordID":"{user}","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","StartTime":"2026-10-02T00:00:00Z","EndTime":"2026-10-02T00:00:00Z","Charge":"{charge}","Attributes":{{"NodeCount":1}}}}"#
    )
}

#[test]
fn options_reach_the_service() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("known.toml"), "users = [\"alice\"]\n").unwrap();
    let options = [
        "--known",
        "known.toml",
        "--load-delay",
        "0",
        "--max-records",
        "2",
        "--charge-places",
        "1",
        "--charges-as-numbers",
        "--fault",
        "html:503@post#2",
        "--state",
        "state",
    ];
    let sandbox = Running::start(folder.path(), &options);
    let post = |records: &[String]| {
        let body = format!(r#"{{"UsageType":"Compute","Records":[{}]}}"#, records.join(","));
        let answer = sandbox.ask("POST", "/api/v1_test/usage/", &body);
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(post(&[record("alice", "1.26"), record("mallory", "2")]), "200");
    assert_eq!(post(&[]), "503", "the fault");
    assert_eq!(post(&[record("a", "1"), record("b", "1"), record("c", "1")]), "413");
    let failed = sandbox.ask("GET", "/api/v1_test/usage/failed", "");
    assert!(failed.contains("Allocation could not be found for user mallory"), "{failed}");
    let loaded = sandbox.ask("GET", "/api/v1_test/usage/loaded", "");
    assert!(loaded.contains("\"Charge\":1.3}"), "{loaded}");
    drop(sandbox);
    let again = Running::start(folder.path(), &["--state", "state"]);
    let totals = again.ask("GET", "/sandbox/totals", "");
    assert!(totals.contains("\"received\":2,") && totals.contains("\"charge\":\"1.26\""), "{totals}");
}

#[test]
fn what_cannot_be_used_is_told_and_ends_with_two() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("known.toml"), "users = [\"alice\"]\nproject = [\"TG-1\"]\n").unwrap();
    for (options, said) in [
        (&["--known", "known.toml"][..], "known.toml: TOML parse error at line 2"),
        (&["--known", "absent.toml"], "absent.toml: cannot be read"),
        (&["--fault", "explode"], "--fault: \"explode\" is not a fault"),
        (&["--refuse", "Username"], "--refuse: \"Username\" is not of the form"),
        (&["--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
    ] {
        let mut arguments = vec!["sandbox"];
        arguments.extend(options);
        let answer = run(folder.path(), &arguments);
        assert!(
            answer.status == 2 && answer.stderr.contains(said),
            "{options:?}: {} {}",
            answer.status,
            answer.stderr
        );
    }
}

#[test]
fn help_lists_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["sandbox", "--help"]);
    for word in ["drop-after-storing", "retry-after-date=30", "shuffle-loads", "+10s-20s"] {
        assert!(help.stdout.contains(word), "{word}");
    }
}
