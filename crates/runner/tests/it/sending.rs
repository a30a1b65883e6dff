//! What goes over the wire as the configuration says, and a run that is asked to stop while it sends.

use crate::support::{KEY, Said, Service, Site, expected_records, run};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use usage_sandbox::{Settings, UsageType};

/// A request as it came: first line, headers, body.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A service that takes everything, knows nothing, and keeps what it was sent: no sandbox, so that names may differ.
struct Recorder {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Requests that wait for their answer now, and the most that there were.
    in_flight: Arc<Mutex<(usize, usize)>>,
}

impl Recorder {
    fn start() -> Self {
        Self::start_with(None)
    }

    /// With the certificate of 127.0.0.1 that the authority `certificate("ca.pem")` signed.
    fn start_tls() -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certificate("server-key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::start_with(Some(Arc::new(config)))
    }

    fn start_with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/api", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let in_flight = Arc::new(Mutex::new((0, 0)));
        let (seen, flying) = (Arc::clone(&requests), Arc::clone(&in_flight));
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, flying, stream) = (Arc::clone(&seen), Arc::clone(&flying), stream.unwrap());
                let tls = tls.clone().map(|config| rustls::ServerConnection::new(config).unwrap());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &seen, &flying),
                    Some(tls) => serve(rustls::StreamOwned::new(tls, stream), &seen, &flying),
                });
            }
        });
        Self { url, requests, in_flight }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn certificate(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../amie-usage/tests/it/tls")).join(name)
}

fn serve(stream: impl Read + Write, seen: &Mutex<Vec<Request>>, flying: &Mutex<(usize, usize)>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
            head.push(line.trim_end().to_owned());
            line.clear();
        }
        if head.is_empty() {
            return;
        }
        let lower = head.iter().map(|header| header.to_lowercase());
        let length = lower.filter_map(|header| header.strip_prefix("content-length: ")?.parse().ok()).next();
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let answer = if head[0].starts_with("POST") {
            r#"{"Message":"taken","ValidationFailedRecords":[]}"#
        } else {
            "[]"
        };
        let body = String::from_utf8(body).unwrap();
        seen.lock().unwrap().push(Request { line: head.remove(0), headers: head, body });
        {
            let mut flying = flying.lock().unwrap();
            flying.0 += 1;
            flying.1 = flying.1.max(flying.0);
        }
        std::thread::sleep(Duration::from_millis(50));
        flying.lock().unwrap().0 -= 1;
        let length = answer.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}");
        let writer = reader.get_mut();
        if writer.write_all(answer.as_bytes()).and_then(|()| writer.flush()).is_err() {
            return;
        }
    }
}

/// Puts lines into the `[api]` table.
fn api(site: &Site, lines: &str) {
    site.configure("concurrency = 4\n", &format!("concurrency = 4\n{lines}\n"));
}

#[test]
fn the_configuration_decides_what_is_on_the_wire() {
    let service = Recorder::start();
    let site = Site::new();
    site.send_to(&service.url);
    api(
        &site,
        "wire = { send_path = \"/usage\", status_path = \"/v2/status\", failed_path = \"/v2/failed\", \
         loaded_path = \"/v2/loaded\", site_header = \"X-Site\", key_header = \"X-Key\", status_from = \"from\", \
         status_to = \"to\", loaded_min_time = \"since\", loaded_limit = \"count\", loaded_offset = \"skip\", \
         loaded_page = 100, charge = \"number\" }",
    );
    let dry: BTreeSet<String> = site.run(&["run", "--dry-run"]).stdout.lines().map(str::to_owned).collect();
    site.run(&["run"]);
    let requests = service.requests();
    let lines: BTreeSet<&str> =
        requests.iter().map(|request| request.line.split('?').next().unwrap()).collect();
    assert_eq!(
        lines,
        BTreeSet::from([
            "POST /api/usage HTTP/1.1",
            "GET /api/v2/status",
            "GET /api/v2/failed HTTP/1.1",
            "GET /api/v2/loaded"
        ])
    );
    for request in &requests {
        let headers: Vec<String> = request.headers.iter().map(|header| header.to_lowercase()).collect();
        assert!(headers.contains(&"x-site: testsite".to_owned()), "{headers:?}");
        assert!(headers.contains(&format!("x-key: {}", KEY.to_lowercase())), "{headers:?}");
        assert!(!headers.iter().any(|header| header.starts_with("xa-")), "{headers:?}");
    }
    let query =
        |call: &str| requests.iter().find(|request| request.line.contains(call)).unwrap().line.clone();
    assert!(
        query("status").contains("?from=20") && query("status").contains("&to=20"),
        "{}",
        query("status")
    );
    assert!(query("loaded").contains("?since=20"), "{}", query("loaded"));
    assert!(query("loaded").ends_with("&count=100&skip=0 HTTP/1.1"), "{}", query("loaded"));

    // The dry run printed what was sent, to the byte; charges are numbers with the digits of the expected texts.
    let bodies: BTreeSet<String> =
        requests.iter().filter(|request| request.line.starts_with("POST")).map(|r| r.body.clone()).collect();
    assert_eq!(bodies, dry);
    let sent = bodies.iter().map(String::as_str).collect::<String>();
    for [_, id, _, charge] in expected_records() {
        assert!(sent.contains(&format!("\"LocalRecordID\":\"{id}\"")), "{id}");
        assert!(sent.contains(&format!("\"Charge\":{charge},")), "{id} {charge}");
    }
    assert!(!sent.contains("\"Charge\":\""));
}

#[test]
fn without_a_word_the_wire_is_the_known_one() {
    let service = Recorder::start();
    let site = Site::new();
    site.send_to(&service.url);
    let dry: BTreeSet<String> = site.run(&["run", "--dry-run"]).stdout.lines().map(str::to_owned).collect();
    site.run(&["run"]);
    let requests = service.requests();
    let bodies: BTreeSet<String> =
        requests.iter().filter(|r| r.line == "POST /api/usage/ HTTP/1.1").map(|r| r.body.clone()).collect();
    assert_eq!(bodies, dry);
    let sent = bodies.iter().map(String::as_str).collect::<String>();
    for [_, id, _, charge] in expected_records() {
        assert!(sent.contains(&format!("\"Charge\":\"{charge}\",")), "{id} {charge}");
    }
}

#[test]
fn the_documentation_names_every_setting_of_the_wire_with_its_default() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md")).unwrap();
    let known = serde_json::to_value(amie_usage::wire::Settings::default()).unwrap();
    for (name, default) in known.as_object().unwrap() {
        let nested = default.as_object().into_iter().flatten();
        let rows: Vec<(&String, &serde_json::Value)> =
            if default.is_object() { nested.collect() } else { vec![(name, default)] };
        for (name, default) in rows {
            assert!(text.contains(&format!("| `{name}` | `{default}` |")), "{name} = {default}");
        }
    }
}

#[test]
fn a_wire_that_cannot_be_is_refused_with_its_place() {
    for (lines, words) in [
        ("wire = { send_path = \"usage\" }", "wire.send_path = \"usage\": a path begins with /"),
        ("wire = { send_pth = \"/usage\" }", "did you mean `send_path`?"),
        ("wire = { charge = \"float\" }", "unknown variant `float`, expected `string` or `number`"),
        (
            "wire = { key_header = \"XA-SITE\" }",
            "wire.key_header = \"XA-SITE\": the site's name and the key need",
        ),
        (
            "wire = { resend = { storage = \"overwrite\" } }",
            "wire.resend: what may be sent again stands in [api]",
        ),
        ("max_requests_per_minute = 0", "max_requests_per_minute must be from 1 to 60000"),
    ] {
        let site = Site::new();
        api(&site, lines);
        let Said { status, stderr, .. } = site.run(&["check"]);
        assert_eq!(status, 2, "{lines}: {stderr}");
        assert!(stderr.contains("config.toml:14:") && stderr.contains(words), "{lines}: {stderr}");
    }
}

#[test]
fn limits_of_size_number_and_rate_hold_on_the_wire() {
    let service = Recorder::start();
    let site = Site::new();
    site.send_to(&service.url);
    site.configure("max_body_bytes = 196608", "max_body_bytes = 4000");
    site.configure("max_records = 1000", "max_records = 5");
    api(&site, "max_requests_per_minute = 1200");
    let started = Instant::now();
    assert_ne!(site.run(&["run"]).status, 2);
    let requests = service.requests();
    let bodies: Vec<&str> =
        requests.iter().map(|r| r.body.as_str()).filter(|body| !body.is_empty()).collect();
    let records = |body: &str| {
        serde_json::from_str::<serde_json::Value>(body).unwrap()["Records"].as_array().unwrap().len()
    };
    assert!(bodies.iter().all(|body| body.len() <= 4000 && records(body) <= 5));
    assert!(bodies.iter().any(|body| records(body) == 5), "the number is the limit of some");
    assert_eq!(bodies.iter().map(|body| records(body)).sum::<usize>(), expected_records().len());
    let least = Duration::from_millis(50) * u32::try_from(requests.len() - 1).unwrap();
    assert!(started.elapsed() >= least, "{} requests in {:?}", requests.len(), started.elapsed());
}

#[test]
fn a_site_s_own_authority_is_trusted_where_the_configuration_names_it() {
    let service = Recorder::start_tls();
    let site = Site::new();
    site.send_to(&service.url);
    api(&site, "retries = 0");
    let said = site.run(&["run", "--summary", "summary.json"]);
    assert_eq!(said.status, 3, "{}", said.stderr);
    assert!(said.stderr.contains("name its certificate as ca_bundle"), "{}", said.stderr);
    assert_eq!(site.summary()["pending"], expected_records().len());
    assert_eq!(service.requests().len(), 0);

    // Relative to the configuration, like all paths in it.
    std::fs::copy(certificate("ca.pem"), site.path("site-ca.pem")).unwrap();
    site.configure("retries = 0", "ca_bundle = \"site-ca.pem\"");
    site.run(&["run", "--summary", "summary.json"]);
    assert_eq!((&site.summary()["pending"], &site.summary()["unknown"]), (&0.into(), &0.into()));
    assert!(service.requests().iter().any(|request| request.line.starts_with("POST /api/usage/")));
    site.configure("site-ca.pem", "no-such.pem");
    let said = site.run(&["check"]);
    assert!(said.status == 2 && said.stdout.contains("no-such.pem"), "{}{}", said.stdout, said.stderr);
}

#[test]
fn plain_http_is_for_this_machine_or_by_permission() {
    let site = Site::new();
    // An address for documentation, where nobody answers.
    site.send_to("http://192.0.2.1/api");
    let said = site.run(&["run"]);
    assert_eq!(said.status, 2, "{}", said.stderr);
    assert!(said.stderr.contains("the key would travel in the clear"), "{}", said.stderr);
    api(&site, "allow_plain_http = true\nretries = 0\nconnect_timeout_seconds = 1");
    let said = site.run(&["run"]);
    assert_eq!(said.status, 3, "{}", said.stderr);
}

#[test]
fn as_many_messages_are_in_flight_as_the_configuration_says() {
    for concurrency in [1, 3] {
        let service = Recorder::start();
        let site = Site::new();
        site.send_to(&service.url);
        site.configure("max_records = 1000", "max_records = 10");
        site.configure("concurrency = 4", &format!("concurrency = {concurrency}"));
        site.run(&["run"]);
        let posts = service.requests().iter().filter(|request| request.line.starts_with("POST")).count();
        assert!(posts >= expected_records().len() / 10, "{posts}");
        assert_eq!(service.in_flight.lock().unwrap().1, concurrency);
    }
}

/// Every one of the three rules for what may have arrived, against a service that stores and does not answer.
#[test]
fn what_may_be_sent_again_is_said_for_each_type() {
    for (storage, versions) in [("confirm-first", 1), ("overwrite", 2)] {
        let service = Service::start(Settings {
            faults: vec!["drop-after-storing@post*2".parse().unwrap()],
            overwrite_others: true,
            ..Settings::default()
        });
        let site = Site::new();
        site.send_to(&service.url());
        // One message at a time: the first two are those of compute records and, where those are not sent again, of storage.
        site.configure("concurrency = 4", "concurrency = 1");
        site.configure("compute = \"overwrite\"", "compute = \"confirm-first\"");
        site.configure("storage = \"confirm-first\"", &format!("storage = \"{storage}\""));
        site.run(&["run", "--source", "scratch"]);
        let history = service.state().history;
        assert!(!history.is_empty());
        for record in &history {
            assert_eq!(record.usage_type, UsageType::Storage);
            // Dropped twice, the third time answered; or left alone after the first.
            assert_eq!(record.versions.len(), if versions == 1 { 1 } else { 3 }, "{storage}: {record:?}");
        }
    }
}

#[test]
fn a_run_that_is_asked_to_stop_finishes_what_is_in_flight_and_records_it() {
    let service = Service::start(Settings {
        faults: vec!["slow-headers:3s@post*1".parse().unwrap()],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    site.configure("max_records = 1000", "max_records = 10");
    site.configure("concurrency = 4", "concurrency = 1");
    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_amie-runner"))
        .current_dir(site.folder.path())
        .args(["run", "--summary", "summary.json"])
        .env_remove("AMIE_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while service.state().posts == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is sent");
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("stopping: what is in flight is finished and recorded first"), "{stderr}");
    // The one message that was on its way was answered after seconds, and noted; none was begun after it.
    assert_eq!(service.state().posts, 1);
    let total = expected_records().len();
    let summary = site.summary();
    assert_eq!(summary["pending"], total - 10, "{summary}");
    assert_eq!(
        (&summary["unknown"], &summary["sending"], &summary["rejected"]),
        (&0.into(), &0.into(), &0.into()),
        "{summary}"
    );
    let known = summary["accepted"].as_u64().unwrap() + summary["loaded"].as_u64().unwrap();
    assert_eq!(known, 10, "{summary}");
    // The next run sends the rest, and nothing twice.
    run(site.folder.path(), &["run", "--wait", "20"]);
    let state = service.state();
    assert_eq!(state.loaded.len(), total);
    assert!(state.history.iter().all(|record| record.versions.len() == 1));
}

#[test]
fn a_run_that_is_asked_twice_ends_at_once_and_the_next_one_sees_to_what_was_in_flight() {
    let service = Service::start(Settings {
        faults: vec!["slow-headers:60s@post*1".parse().unwrap()],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_amie-runner"))
        .current_dir(site.folder.path())
        .arg("run")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while service.state().posts == 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "nothing is sent");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut ask = |words: &str| {
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert!(said.by_ref().map_while(Result::ok).any(|line| line.contains(words)), "{words}");
    };
    ask("stopping: what is in flight");
    ask("stopped: what was in flight may have arrived");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(started.elapsed() < Duration::from_secs(50), "it did not wait for the answer");
    assert_ne!(site.run(&["run", "--wait", "20", "--summary", "summary.json"]).status, 2);
    // Compute records are sent again, which overwrites; storage records that may have arrived wait for a person.
    let compute = expected_records().iter().filter(|record| !record[2].is_empty()).count();
    let summary = site.summary();
    assert_eq!((&summary["loaded"], &summary["sending"]), (&compute.into(), &0.into()), "{summary}");
}

#[test]
fn five_records_that_are_wrong_in_one_way_do_not_stop_the_others() {
    // The service refuses whole messages for the sake of one record, without saying which.
    let expected = expected_records();
    let compute: Vec<&[String; 4]> = expected.iter().filter(|record| !record[2].is_empty()).collect();
    let wrong: Vec<String> = compute.iter().map(|record| record[1].clone()).take(6).collect();
    let refuse = wrong
        .iter()
        .map(|id| usage_sandbox::Rule::new("LocalRecordID", id, "Username mallory is not known"))
        .collect();
    let service = Service::start(Settings {
        refuse,
        faults: vec!["refuse-whole@post".parse().unwrap()],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    let said = site.run(&["run", "--wait", "20", "--summary", "summary.json"]);
    let bad = expected.iter().filter(|record| wrong.contains(&record[1])).count();
    assert!(bad >= 5);
    let summary = site.summary();
    assert_eq!(
        (&summary["rejected"], &summary["pending"]),
        (&bad.into(), &0.into()),
        "{summary} {}",
        said.stderr
    );
    assert_eq!(service.state().loaded.len(), expected.len() - bad);
    assert_eq!(said.status, 1, "{}", said.stderr);
}

#[test]
fn a_service_that_refuses_everything_stops_the_run_and_marks_nothing() {
    let service = Service::start(Settings {
        refuse: vec![usage_sandbox::Rule::new("LocalProjectID", "*", "no such table: usage")],
        faults: vec!["refuse-whole@post".parse().unwrap()],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    let said = site.run(&["run", "--summary", "summary.json"]);
    assert_eq!(said.status, 1, "{}", said.stderr);
    assert!(said.stderr.contains("none is marked as refused"), "{}", said.stderr);
    let summary = site.summary();
    assert_eq!(
        (&summary["rejected"], &summary["pending"]),
        (&0.into(), &expected_records().len().into()),
        "{summary}"
    );
}
