//! Small HTTP servers whose answers are written out byte for byte.

use amie_usage::{ApiKey, Client, ClientConfig};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The key that all tests send.
pub const KEY: &str = "k3y-that-nobody-may-see";

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The records of the message.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let message: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        message["Records"].as_array().unwrap().clone()
    }

    pub fn parse(raw: &[u8]) -> Option<(Self, usize)> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ');
        let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
        let request = Self { method, target, headers, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
        let body = raw.get(end..end + length)?.to_vec();
        Some((Self { body, ..request }, end + length))
    }
}

/// What happens on a connection after its request was read.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes, each piece after its wait; then the connection is closed.
    Bytes(Vec<(Duration, Vec<u8>)>),
    /// These bytes, and the connection stays open for the next request.
    Keep(Vec<u8>),
    /// Closed without a byte.
    Close,
    /// Nothing, until the client leaves.
    Hang,
}

impl Reply {
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(vec![(Duration::ZERO, bytes.as_ref().to_vec())])
    }

    pub fn json(status: u16, body: &str) -> Self {
        Self::full(status, "Content-Type: application/json\r\n", body)
    }

    pub fn html(status: u16, body: &str) -> Self {
        Self::full(status, "Content-Type: text/html\r\n", body)
    }

    pub fn full(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} Words\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    /// All records taken.
    pub fn taken() -> Self {
        Self::json(200, r#"{"Message":"taken","ValidationFailedRecords":[]}"#)
    }
}

/// A server on a port of its own; gone when dropped.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers each request with what the handler says.
    pub async fn new(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&seen)));
            }
        });
        Self { address, requests, task }
    }

    /// Gives these answers in turn, and the last one from then on.
    pub async fn script(replies: Vec<Reply>) -> Self {
        let turn = std::sync::atomic::AtomicUsize::new(0);
        Self::new(move |_| {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            replies[turn.min(replies.len() - 1)].clone()
        })
        .await
    }

    /// Closes each connection before reading from it.
    pub async fn closing() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        Self { address, requests: Arc::default(), task }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// A configuration for this server, with timeouts that suit a test.
    pub fn config(&self) -> ClientConfig {
        config(&format!("http://{}/api/v1_test", self.address))
    }

    pub fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }
}

pub fn config(base_url: &str) -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(10),
        ..ClientConfig::new(base_url, "TestSite", ApiKey::new(KEY).unwrap())
    }
}

async fn serve<H: Fn(&Request) -> Reply>(
    mut stream: TcpStream,
    handler: Arc<H>,
    seen: Arc<Mutex<Vec<Request>>>,
) {
    let mut raw = Vec::new();
    loop {
        let (request, length) = loop {
            if let Some(request) = Request::parse(&raw) {
                break request;
            }
            match stream.read_buf(&mut raw).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        raw.drain(..length);
        let reply = handler(&request);
        seen.lock().unwrap().push(request);
        match reply {
            Reply::Bytes(pieces) => {
                for (wait, bytes) in pieces {
                    tokio::time::sleep(wait).await;
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Keep(bytes) => stream.write_all(&bytes).await.unwrap(),
            Reply::Close => return,
            Reply::Hang => {
                let mut rest = [0; 1024];
                while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                return;
            }
        }
    }
}
