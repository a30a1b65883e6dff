//! TLS as a site meets it: whose certificates are believed, what a proxy sees, and that a redirect takes the key nowhere.
//!
//! Real handshakes over loopback, with the certificates in `tls/`. What depends on the environment (proxies, the system's
//! certificates) runs in a process of its own, see `environment.rs`.

use crate::environment::run;
use crate::server::{KEY, Reply, Request, Server, config};
use amie_usage::{Client, ClientConfig, SendOutcome, UsageType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const TAKEN: &str =
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 19\r\n\r\n{\"Message\":\"taken\"}";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

/// A request, and the protocol that was agreed on for it.
type Served = (Request, Option<Vec<u8>>);

/// A server with TLS that gives every request one answer; it ends with the process.
struct TlsServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Served>>>,
    /// Connections of which the handshake failed, or that ended before a request.
    broken: Arc<Mutex<usize>>,
}

impl TlsServer {
    fn start(certificate: &str, answer: &str) -> Self {
        let certificate = CertificateDer::from_pem_file(file(certificate)).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server-key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, broken) = (Arc::default(), Arc::new(Mutex::new(0)));
        let (seen, failed, answer) = (Arc::clone(&requests), Arc::clone(&broken), answer.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, failed) = (Arc::clone(&seen), Arc::clone(&failed));
                let (config, answer) = (Arc::clone(&config), answer.clone());
                std::thread::spawn(move || {
                    if serve(stream.unwrap(), config, &answer, &seen).is_none() {
                        *failed.lock().unwrap() += 1;
                    }
                });
            }
        });
        Self { address, requests, broken }
    }

    fn requests(&self) -> Vec<Served> {
        self.requests.lock().unwrap().clone()
    }

    /// Where it is, by its address.
    fn url(&self) -> String {
        format!("https://{}/api", self.address)
    }

    /// Waits until so many connections have come to nothing.
    fn wait_broken(&self, count: usize) {
        let started = std::time::Instant::now();
        while *self.broken.lock().unwrap() < count {
            assert!(started.elapsed().as_secs() < 10, "no connection came");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Answers one request; none where there was none.
fn serve(
    mut stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    answer: &str,
    seen: &Mutex<Vec<Served>>,
) -> Option<()> {
    let mut tls = rustls::ServerConnection::new(config).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut stream);
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    let request = loop {
        if let Some((request, _)) = Request::parse(&read) {
            break request;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    };
    let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    seen.lock().unwrap().push((request, protocol));
    let _ = stream.write_all(answer.as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
    Some(())
}

/// A proxy that tunnels everything to one server, and keeps all that it was told and all that went through.
struct Proxy {
    address: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
    through: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// `upstream`: where tunnels lead; none: they are refused with 407.
    fn start(upstream: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, through) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
        let (heads, bytes) = (Arc::clone(&told), Arc::clone(&through));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heads, bytes) = (Arc::clone(&heads), Arc::clone(&bytes));
                std::thread::spawn(move || tunnel(stream.unwrap(), upstream, &heads, &bytes));
            }
        });
        Self { address, told, through }
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

fn tunnel(
    mut client: TcpStream,
    upstream: Option<SocketAddr>,
    heads: &Mutex<Vec<String>>,
    bytes: &Mutex<Vec<u8>>,
) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    let Some(upstream) = upstream else {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
        return;
    };
    let mut server = TcpStream::connect(upstream).unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        bytes.lock().unwrap().extend_from_slice(&buffer[..count]);
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
    let _ = back.join();
}

async fn send(config: ClientConfig) -> SendOutcome {
    Client::new(config).unwrap().send(UsageType::Compute, &[b"{}"]).await
}

fn trusting(authority: &str, url: &str) -> ClientConfig {
    ClientConfig { ca_bundle: Some(file(authority)), ..config(url) }
}

/// Sends once, in a process with another environment; prints what came of it, or why there is no client.
#[tokio::test]
#[ignore = "run by the tests below"]
#[allow(clippy::print_stdout)]
async fn child_sends() {
    if std::env::var_os("TEST_LOG").is_some() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).init();
    }
    let url = std::env::var("TEST_URL").unwrap();
    let config = match std::env::var("TEST_CA") {
        Ok(authority) => trusting(&authority, &url),
        Err(_) => config(&url),
    };
    match Client::new(config) {
        Ok(client) => println!("outcome: {:?}", client.send(UsageType::Compute, &[b"{}"]).await),
        Err(error) => println!("no client: {error}"),
    }
}

fn sent_with(variables: &[(&str, &str)]) -> String {
    run("tls::child_sends", variables)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_authority_is_trusted_and_http_1_1_is_spoken() {
    let server = TlsServer::start("server.pem", TAKEN);
    let outcome = send(trusting("ca.pem", &server.url())).await;
    assert!(matches!(outcome, SendOutcome::Answered { http_status: 200, .. }), "{outcome:?}");
    let requests = server.requests();
    let (request, protocol) = &requests[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/api/usage/"));
    // The server would rather speak HTTP/2.
    assert_eq!(protocol.as_deref(), Some(b"http/1.1".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_proves_nothing_gets_no_byte_of_the_request_and_a_clear_word() {
    for (certificate, authority, words) in [
        ("server.pem", "other-ca.pem", ["UnknownIssuer", "name its certificate as ca_bundle"]),
        ("expired.pem", "ca.pem", ["expired", "must be renewed"]),
        ("elsewhere.pem", "ca.pem", ["not valid for name", "another host answers"]),
    ] {
        let server = TlsServer::start(certificate, TAKEN);
        let outcome = send(trusting(authority, &server.url())).await;
        let SendOutcome::NotSent { reason } = &outcome else { panic!("{certificate}: {outcome:?}") };
        for word in words {
            assert!(reason.contains(word), "{certificate}: {reason}");
        }
        server.wait_broken(1);
        assert_eq!(server.requests().len(), 0, "{certificate}");
    }
}

#[test]
fn the_systems_authorities_are_trusted_and_a_site_s_own_beside_them() {
    let server = TlsServer::start("server.pem", TAKEN);
    let (url, ca, other) = (server.url(), file("ca.pem"), file("other-ca.pem"));
    let (ca, other) = (ca.to_str().unwrap(), other.to_str().unwrap());
    for (system, bundle, trusted) in [
        (ca, None, true),
        (ca, Some("other-ca.pem"), true),
        (other, None, false),
        (other, Some("ca.pem"), true),
    ] {
        let mut variables = vec![("TEST_URL", url.as_str()), ("SSL_CERT_FILE", system)];
        variables.extend(bundle.map(|bundle| ("TEST_CA", bundle)));
        let text = sent_with(&variables);
        assert_eq!(text.contains("outcome: Answered"), trusted, "{system} {bundle:?}: {text}");
        assert!(trusted || text.contains("outcome: NotSent") && text.contains("UnknownIssuer"), "{text}");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn what_speaks_no_tls_gets_no_byte_of_the_request() {
    let server = Server::script(vec![Reply::taken()]).await;
    // The server waits for a request's end that never comes, so it is the client that gives up connecting.
    let config = ClientConfig {
        connect_timeout: std::time::Duration::from_millis(300),
        ..trusting("ca.pem", &format!("https://{}", server.address))
    };
    let outcome = send(config).await;
    assert!(matches!(outcome, SendOutcome::NotSent { .. }), "{outcome:?}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_the_key_to_no_other_host() {
    let elsewhere = TlsServer::start("server.pem", TAKEN);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let to = format!("https://localhost:{}/api/usage/", elsewhere.address.port());
        let answer =
            format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let server = TlsServer::start("server.pem", &answer);
        let client = Client::new(trusting("ca.pem", &server.url())).unwrap();
        let outcome = client.send(UsageType::Compute, &[b"{}"]).await;
        let SendOutcome::Proxy { reason, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(&to), "{reason}");
        // Reading calls would be followed by many clients.
        assert!(client.failed().await.unwrap_err().to_string().contains(&to));
        assert_eq!(server.requests().len(), 2);
    }
    assert_eq!((elsewhere.requests().len(), *elsewhere.broken.lock().unwrap()), (0, 0));
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_and_sees_neither_key_nor_records() {
    let server = TlsServer::start("server.pem", TAKEN);
    let proxy = Proxy::start(Some(server.address));
    for (scheme, user, told) in
        [("http://", "", None), ("http://", "ada:pr0xy@", Some("Basic YWRhOnByMHh5")), ("", "", None)]
    {
        let address = format!("{scheme}{user}{}", proxy.address);
        let text = sent_with(&[
            ("TEST_URL", "https://usage.access-ci.invalid/api"),
            ("TEST_CA", "ca.pem"),
            ("HTTPS_PROXY", &address),
        ]);
        assert!(text.contains("outcome: Answered"), "{address}: {text}");
        let head = proxy.told().pop().unwrap();
        assert!(head.starts_with("CONNECT usage.access-ci.invalid:443 HTTP/1.1\r\n"), "{head}");
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        assert_eq!(header("Proxy-Authorization").as_deref(), told);
        assert!(!head.contains(KEY) && !head.contains("TestSite"), "{head}");
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|(request, _)| request.header("XA-API-KEY") == Some(KEY)));
    // Nor did the server see what the proxy was told.
    assert!(requests.iter().all(|(request, _)| request.header("Proxy-Authorization").is_none()));
    let through = proxy.through.lock().unwrap();
    for secret in [KEY, "XA-API-KEY", "UsageType"] {
        assert!(!through.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    assert!(through.len() > 1000);
}

#[test]
fn trace_logs_show_neither_the_key_nor_the_proxys_password() {
    let server = TlsServer::start("server.pem", TAKEN);
    let proxy = Proxy::start(Some(server.address));
    let address = format!("http://ada:pr0xy@{}", proxy.address);
    let text = sent_with(&[
        ("TEST_URL", "https://usage.access-ci.invalid/api"),
        ("TEST_CA", "ca.pem"),
        ("TEST_LOG", "1"),
        ("HTTPS_PROXY", &address),
    ]);
    assert!(text.contains("outcome: Answered") && text.contains("TRACE"), "{text}");
    // The password as it is, and as the header has it.
    for secret in [KEY, "pr0xy", "YWRhOnByMHh5"] {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(secret)).collect();
        assert_eq!(lines, [""; 0], "{secret}");
    }
}

#[test]
fn a_proxy_cannot_pass_for_the_service_and_its_refusal_is_told() {
    // Behind the tunnel is somebody with the certificate of another host.
    let impostor = TlsServer::start("elsewhere.pem", TAKEN);
    let proxy = Proxy::start(Some(impostor.address));
    let address = format!("http://{}", proxy.address);
    let url = ("TEST_URL", "https://usage.access-ci.invalid/api");
    let text = sent_with(&[url, ("TEST_CA", "ca.pem"), ("HTTPS_PROXY", &address)]);
    assert!(text.contains("outcome: NotSent") && text.contains("not valid for name"), "{text}");
    assert_eq!(impostor.requests().len(), 0);

    let closed = Proxy::start(None);
    let address = format!("http://ada:pr0xy@{}", closed.address);
    let text = sent_with(&[url, ("TEST_CA", "ca.pem"), ("HTTPS_PROXY", &address)]);
    assert!(text.contains("outcome: NotSent") && text.contains("proxy"), "{text}");
    assert!(!text.contains("pr0xy"), "{text}");
}

#[test]
fn hosts_that_need_no_proxy_are_asked_directly() {
    let server = TlsServer::start("server.pem", TAKEN);
    let proxy = Proxy::start(Some(server.address));
    let address = format!("http://{}", proxy.address);
    for (exception, through_the_proxy) in [
        ("", true),
        ("example.org", true),
        (".invalid", false),
        ("access-ci.invalid", false),
        ("localhost,usage.access-ci.invalid", false),
        ("*", false),
    ] {
        let before = proxy.told().len();
        let text = sent_with(&[
            ("TEST_URL", "https://usage.access-ci.invalid/api"),
            ("TEST_CA", "ca.pem"),
            ("HTTPS_PROXY", &address),
            ("NO_PROXY", exception),
        ]);
        // That host has no address of its own.
        let outcome = if through_the_proxy { "outcome: Answered" } else { "outcome: NotSent" };
        assert!(text.contains(outcome), "{exception}: {text}");
        assert_eq!(proxy.told().len() > before, through_the_proxy, "{exception}");
    }
    // Nobody needs a proxy to talk to the host itself.
    let before = proxy.told().len();
    let text = sent_with(&[("TEST_URL", &server.url()), ("TEST_CA", "ca.pem"), ("HTTPS_PROXY", &address)]);
    assert!(text.contains("outcome: Answered") && proxy.told().len() == before, "{text}");
}
