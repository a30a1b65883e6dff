//! Certificates: a site's own authority is trusted when it is configured, and nobody's otherwise.

use crate::server::config;
use amie_usage::{Client, ClientConfig, SendOutcome, UsageType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

/// Takes one connection with TLS and answers one request; gives back what it read.
fn tls_server() -> (SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
    let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while !read.ends_with(b"]}") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return read,
                Ok(count) => read.extend_from_slice(&buffer[..count]),
            }
        }
        let body = r#"{"Message":"taken"}"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.flush();
        read
    });
    (address, server)
}

async fn send(config: ClientConfig) -> SendOutcome {
    Client::new(config).unwrap().send(UsageType::Compute, &[b"{}"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_authority_is_trusted() {
    let (address, server) = tls_server();
    let config =
        ClientConfig { ca_bundle: Some(file("ca.pem")), ..config(&format!("https://{address}/api")) };
    let outcome = send(config).await;
    assert!(matches!(outcome, SendOutcome::Answered { http_status: 200, .. }), "{outcome:?}");
    assert!(server.join().unwrap().starts_with(b"POST /api/usage/ HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_gets_no_byte_of_the_request() {
    let (address, server) = tls_server();
    // The server's own certificate is no authority, and the system's roots do not know it.
    let outcome = match Client::new(config(&format!("https://{address}/api"))) {
        Ok(client) => client.send(UsageType::Compute, &[b"{}"]).await,
        // A host without any certificates cannot have a client at all.
        Err(error) => return assert!(error.to_string().contains("TLS"), "{error}"),
    };
    let SendOutcome::NotSent { reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    assert_eq!(server.join().unwrap(), b"");
}

#[tokio::test]
async fn what_speaks_no_tls_gets_no_byte_of_the_request() {
    let server = crate::server::Server::script(vec![crate::server::Reply::taken()]).await;
    let config =
        ClientConfig { ca_bundle: Some(file("ca.pem")), ..config(&format!("https://{}", server.address)) };
    // The server waits for a request's end that never comes, so it is the client that gives up connecting.
    let config = ClientConfig { connect_timeout: std::time::Duration::from_millis(300), ..config };
    let outcome = send(config).await;
    assert!(matches!(outcome, SendOutcome::NotSent { .. }), "{outcome:?}");
    assert_eq!(server.requests().len(), 0);
}
