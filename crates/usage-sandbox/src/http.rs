//! HTTP/1.1 on a socket: requests in, answers out, no more of it than a sandbox needs.
//!
//! It stands below any HTTP library because most faults do: a reset, a close before the body is read, a head that trickles, a
//! length that lies. Heads and chunk sizes are read by `httparse`.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A longer head is answered with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A head with more fields is answered with 431.
const MAX_FIELDS: usize = 64;
/// How long a connection may be idle, and how long a head may take.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long, and how much, is read and thrown away before a connection is closed on somebody who still sends.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 16 * 1024 * 1024);
/// So much room is made for a body that was only announced.
const ROOM: usize = 1024 * 1024;
/// Into how many pieces a trickling answer is cut, at most.
const PIECES: usize = 20;

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Percent-decoded, without the query.
    pub(crate) path: String,
    /// Names and values, percent-decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    /// Whether the connection stays open after the answer.
    keep_alive: bool,
    framing: Framing,
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Why a request cannot be answered as it should.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The other side is gone, or silent for too long: nothing to answer.
    Gone,
    /// This answer, and the connection is closed.
    Refuse(u16, String),
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl Head {
    /// The value of a field; its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Reads a head; `None` while it is not complete. Answers where the body starts.
    fn parse(bytes: &[u8]) -> Result<Option<(usize, Self)>, Trouble> {
        let bad = |reason: &str| Trouble::Refuse(400, reason.to_owned());
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let body_start = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Trouble::Refuse(431, "too many header fields".to_owned()));
            }
            Err(error) => return Err(bad(&format!("this is not HTTP/1.1: {error}"))),
        };
        let target = request.path.unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: decode(path, false).ok_or_else(|| bad("the path is not UTF-8"))?,
            query: parse_query(query).ok_or_else(|| bad("the query is not UTF-8"))?,
            fields: Vec::new(),
            keep_alive: request.version == Some(1),
            framing: Framing::Length(0),
        };
        for field in request.headers.iter() {
            let value = String::from_utf8_lossy(field.value).trim().to_owned();
            head.fields.push((field.name.to_ascii_lowercase(), value));
        }
        if let Some(connection) = head.field("connection") {
            head.keep_alive &= !connection.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
        }
        head.framing = head.framing().ok_or_else(|| bad("the length of the body is not clear"))?;
        Ok(Some((body_start, head)))
    }

    /// One length, or chunks; anything else could be read in two ways.
    fn framing(&self) -> Option<Framing> {
        let lengths: Vec<&str> = self.all("content-length").collect();
        let codings: Vec<&str> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Some(Framing::Length(0)),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().ok().map(Framing::Length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Some(Framing::Chunked),
            _ => None,
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// `a=b&c=d`.
fn parse_query(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Undoes percent encoding; in a query, `+` is a space. A `%` that starts no code stands for itself.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit =
                    |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                decoded.push((digit(high)? << 4) | digit(low)?);
                rest = after;
            }
            (b'+', _) if query => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// Further fields.
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, fields: Vec::new(), body: body.into() }
    }
}

/// How an answer is spoilt on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoilt {
    /// Half of the body, then the end.
    Truncated,
    /// The whole body under half of its length, then the end.
    WrongLength,
    /// The head takes this long.
    SlowHead(Duration),
    /// The body takes this long.
    SlowBody(Duration),
}

/// A connection, with what was read ahead.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Answers are written whole; waiting for more to send would only add 40 ms.
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new() }
    }

    /// The next request's head; `None` where the other side has no more.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>, Trouble> {
        timeout(HEAD_TIME, self.read_head()).await.map_err(|_| Trouble::Gone)?
    }

    async fn read_head(&mut self) -> Result<Option<Head>, Trouble> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, head)) = Head::parse(&self.buffer)?
            {
                self.skip(length);
                return Ok(Some(head));
            }
            if self.buffer.len() >= MAX_HEAD_BYTES {
                return Err(Trouble::Refuse(431, "the header fields are too long".to_owned()));
            }
            if self.read_more().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(Trouble::Gone) };
            }
        }
    }

    /// The body of a request, at most `limit` bytes.
    pub(crate) async fn body(&mut self, head: &Head, limit: usize) -> Result<Vec<u8>, Trouble> {
        let too_large = || Trouble::Refuse(413, format!("the body is longer than {limit} bytes"));
        let length = match head.framing {
            Framing::Length(length) => Some(usize::try_from(length).map_err(|_| too_large())?),
            Framing::Chunked => None,
        };
        if length.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        if length != Some(0)
            && self.buffer.is_empty()
            && head.field("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"))
        {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let read = async {
            match length {
                Some(length) => self.take(length).await,
                None => self.chunks(limit).await?.ok_or_else(too_large),
            }
        };
        timeout(BODY_TIME, read).await.map_err(|_| Trouble::Gone)?
    }

    /// A body in chunks; `None` where it is longer than `limit`.
    async fn chunks(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Trouble> {
        let bad = || Trouble::Refuse(400, "the chunks of the body cannot be read".to_owned());
        let mut body = Vec::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) if self.buffer.len() < MAX_HEAD_BYTES => {}
                    _ => return Err(bad()),
                }
                if self.read_more().await? == 0 {
                    return Err(Trouble::Gone);
                }
            };
            self.skip(start);
            if size == 0 {
                // Trailing fields, if any, up to an empty line.
                while self.line().await? > 0 {}
                return Ok(Some(body));
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size.saturating_add(body.len()) > limit {
                return Ok(None);
            }
            body.extend(self.take(size).await?);
            if self.line().await? > 0 {
                return Err(bad());
            }
        }
    }

    /// Reads a line and answers its length without the line's end.
    async fn line(&mut self) -> Result<usize, Trouble> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.take(end.saturating_add(1)).await?;
                return Ok(line.trim_ascii_end().len());
            }
            if self.buffer.len() >= MAX_HEAD_BYTES {
                return Err(Trouble::Refuse(400, "a line of the body's framing is too long".to_owned()));
            }
            if self.read_more().await? == 0 {
                return Err(Trouble::Gone);
            }
        }
    }

    /// Exactly so many bytes.
    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Trouble> {
        // Room for all of it at once: a body that is read in growing pieces is copied as often as its buffer grows.
        self.buffer.reserve(length.saturating_sub(self.buffer.len()).min(ROOM));
        while self.buffer.len() < length {
            if self.read_more().await? == 0 {
                return Err(Trouble::Gone);
            }
        }
        if self.buffer.len() == length {
            return Ok(std::mem::take(&mut self.buffer));
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads what there is; 0 at the end.
    async fn read_more(&mut self) -> io::Result<usize> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(16 * 1024);
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Forgets bytes that were read.
    fn skip(&mut self, length: usize) {
        self.buffer.drain(..length.min(self.buffer.len()));
    }

    /// Sends an answer. `false`: the connection has to be closed.
    pub(crate) async fn send(
        &mut self,
        head: &Head,
        answer: &Answer,
        spoilt: Option<Spoilt>,
    ) -> io::Result<bool> {
        let stays = head.keep_alive && !matches!(spoilt, Some(Spoilt::Truncated | Spoilt::WrongLength));
        self.write(answer, stays, spoilt).await?;
        Ok(stays)
    }

    async fn write(&mut self, answer: &Answer, stays: bool, spoilt: Option<Spoilt>) -> io::Result<()> {
        let half = answer.body.len() / 2;
        let announced = if spoilt == Some(Spoilt::WrongLength) { half } else { answer.body.len() };
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {announced}\r\n",
            answer.status,
            reason(answer.status),
            answer.content_type
        );
        for (name, value) in &answer.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(if stays { "\r\n" } else { "Connection: close\r\n\r\n" });
        match spoilt {
            Some(Spoilt::SlowHead(time)) => {
                self.trickle(head.as_bytes(), time).await?;
                self.stream.write_all(&answer.body).await
            }
            Some(Spoilt::SlowBody(time)) => {
                self.stream.write_all(head.as_bytes()).await?;
                self.trickle(&answer.body, time).await
            }
            Some(Spoilt::Truncated) => {
                self.stream.write_all(head.as_bytes()).await?;
                self.stream.write_all(answer.body.get(..half).unwrap_or_default()).await
            }
            None | Some(Spoilt::WrongLength) => {
                let mut whole = head.into_bytes();
                whole.extend_from_slice(&answer.body);
                self.stream.write_all(&whole).await
            }
        }
    }

    /// Sends bytes a few at a time: a client that only limits the time between two reads waits through all of it.
    async fn trickle(&mut self, bytes: &[u8], time: Duration) -> io::Result<()> {
        let size = bytes.len().div_ceil(PIECES).max(1);
        let pieces = u32::try_from(bytes.len().div_ceil(size)).unwrap_or(1).max(1);
        for piece in bytes.chunks(size) {
            sleep(time / pieces).await;
            self.stream.write_all(piece).await?;
        }
        Ok(())
    }

    /// Answers a request that cannot be served, and closes.
    pub(crate) async fn refuse(&mut self, answer: &Answer) {
        if self.write(answer, false, None).await.is_ok() {
            self.close().await;
        }
    }

    /// Closes so that the other side still gets the last answer: closing on unread bytes would reset the connection, and a
    /// reset overtakes what was sent.
    pub(crate) async fn close(&mut self) {
        let _ = self.stream.shutdown().await;
        let (time, mut bytes) = LINGER;
        let _ = timeout(time, async {
            loop {
                self.buffer.clear();
                match self.read_more().await {
                    Ok(0) | Err(_) => break,
                    Ok(length) if length > bytes => break,
                    Ok(length) => bytes = bytes.saturating_sub(length),
                }
            }
        })
        .await;
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

/// The phrase after the status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, Head, Trouble, decode};
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<(usize, Head)>, u16> {
        Head::parse(text.as_bytes()).map_err(|trouble| match trouble {
            Trouble::Refuse(status, _) => status,
            Trouble::Gone => 0,
        })
    }

    #[test]
    fn a_head_is_read_whole() {
        let text = "GET /usage/failed/1%2C2?FromTime=2026-10-02T00%3A00%3A00Z&x=a+b&&flag HTTP/1.1\r\nXA-Site:  S \r\n\r\nrest";
        let (length, head) = parse(text).unwrap().unwrap();
        assert_eq!(&text[length..], "rest");
        assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", "/usage/failed/1,2"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            head.query,
            [pair("FromTime", "2026-10-02T00:00:00Z"), pair("x", "a b"), pair("flag", "")]
        );
        assert_eq!(head.field("xa-site"), Some("S"));
        assert!(head.keep_alive);
        assert!(parse("GET / HTTP/1.1\r\nHost: x\r\n").unwrap().is_none());
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().1.keep_alive);
        assert!(!parse("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").unwrap().unwrap().1.keep_alive);
    }

    #[test]
    fn a_body_has_one_length() {
        let framing = |fields: &str| {
            parse(&format!("POST / HTTP/1.1\r\n{fields}\r\n")).map(|head| head.unwrap().1.framing)
        };
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for fields in [
            "Content-Length: +1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Content-Length: 99999999999999999999999\r\n",
        ] {
            assert_eq!(framing(fields), Err(400), "{fields}");
        }
    }

    #[test]
    fn percent_codes() {
        assert_eq!(decode("a%20b+c", true).as_deref(), Some("a b c"));
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
        assert_eq!(decode("100%", false).as_deref(), Some("100%"));
        assert_eq!(decode("%zz%4", false).as_deref(), Some("%zz%4"));
        assert_eq!(decode("%+1", false).as_deref(), Some("%+1"));
        assert_eq!(decode("%FF", false), None);
        assert_eq!(decode("%C3%A9", false).as_deref(), Some("é"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Head::parse(&bytes);
        }

        #[test]
        fn no_target_is_too_odd(target in "[!-~]{0,60}") {
            let _ = Head::parse(format!("GET /{target} HTTP/1.1\r\n\r\n").as_bytes());
            let _ = decode(&target, true);
        }
    }
}
