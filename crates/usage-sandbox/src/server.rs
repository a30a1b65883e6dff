//! The server: connections are accepted, requests read, faults applied, answers sent.

use crate::api::{self, Route};
use crate::clock;
use crate::fault::{FaultKind, RetryAfter};
use crate::http::{Answer, Connection, Head, Spoilt, Trouble};
use crate::page;
use crate::service::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// So many connections are served at a time; others wait in the kernel.
const MAX_CONNECTIONS: usize = 1024;
/// The longest body of a call that is not the API's.
const MAX_ADMIN_BODY: usize = 64 * 1024;

/// Serves until told to stop, or until whoever could tell is gone. Open connections end with it.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>, mut stop: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(Connection::new(stream), service.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some will be free again.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    // Waits for the tasks to be gone: they hold the state file.
    connections.shutdown().await;
}

/// Whether a connection goes on after a request.
enum Next {
    Request,
    Close,
    Drop,
    Reset,
}

/// Serves one connection.
async fn converse(mut connection: Connection, service: Arc<Service>) {
    loop {
        let next = match connection.head().await {
            Ok(None) => return,
            Ok(Some(head)) => exchange(&mut connection, &service, &head).await,
            Err(trouble) => Err(trouble),
        };
        match next {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return connection.close().await,
            Ok(Next::Drop) | Err(Trouble::Gone) => return,
            Ok(Next::Reset) => return connection.reset(),
            Err(Trouble::Refuse(status, reason)) => {
                return connection.refuse(&api::error(status, &reason)).await;
            }
        }
    }
}

/// Serves one request.
async fn exchange(connection: &mut Connection, service: &Service, head: &Head) -> Result<Next, Trouble> {
    let route = Route::of(head);
    let mut decision = route.call().map(|call| service.decide(call)).unwrap_or_default();
    let records = std::mem::take(&mut decision.records);
    tracing::debug!(method = %head.method, path = %head.path, fault = ?decision.transport, "request");
    match decision.transport {
        Some(FaultKind::RefuseConnection) => {
            note(service, route, "the connection was reset before it was read");
            return Ok(Next::Reset);
        }
        Some(FaultKind::DropBeforeReading) => {
            note(service, route, "the connection was closed before it was read");
            return Ok(Next::Drop);
        }
        _ => {}
    }
    let limit = if route.call().is_some() { service.settings.max_body_bytes } else { MAX_ADMIN_BODY };
    let body = match connection.body(head, limit).await {
        Ok(body) => body,
        Err(Trouble::Refuse(status, reason)) => {
            note(service, route, &format!("{status}: {reason}"));
            return Err(Trouble::Refuse(status, reason));
        }
        Err(Trouble::Gone) => {
            note(service, route, "the connection ended in the middle of the body");
            return Err(Trouble::Gone);
        }
    };
    let answer = match decision.transport {
        Some(FaultKind::Status { code, retry_after }) => {
            note(service, route, &format!("{code}: a fault"));
            come_back(api::error(code, "this answer is a fault on purpose"), retry_after)
        }
        Some(FaultKind::Html { code, retry_after }) => {
            note(service, route, &format!("{code}: a fault"));
            come_back(Answer::new(code, "text/html", page::proxy_error(code)), retry_after)
        }
        _ if decision.too_large_at.is_some_and(|limit| body.len() > limit) => {
            note(service, route, "413: a fault");
            Answer::new(413, "text/html", page::proxy_error(413))
        }
        _ => api::answer(service, route, head, &body, records),
    };
    let spoilt = match decision.transport {
        Some(FaultKind::DropAfterStoring) => return Ok(Next::Drop),
        Some(FaultKind::TruncatedBody) => Some(Spoilt::Truncated),
        Some(FaultKind::WrongContentLength) => Some(Spoilt::WrongLength),
        Some(FaultKind::SlowHeaders(time)) => Some(Spoilt::SlowHead(time)),
        Some(FaultKind::SlowBody(time)) => Some(Spoilt::SlowBody(time)),
        _ => None,
    };
    Ok(if connection.send(head, &answer, spoilt).await? { Next::Request } else { Next::Close })
}

/// Says when to come back.
fn come_back(mut answer: Answer, retry_after: Option<RetryAfter>) -> Answer {
    match retry_after {
        None => {}
        Some(RetryAfter::Seconds(seconds)) => answer.fields.push(("Retry-After", seconds.to_string())),
        Some(RetryAfter::Date(seconds)) => {
            // A date is read by the server's own clock.
            answer.fields.push(("Date", clock::http_date(0)));
            answer.fields.push(("Retry-After", clock::http_date(seconds)));
        }
    }
    answer
}

/// Remembers a message that will not be judged.
fn note(service: &Service, route: Route<'_>, why: &str) {
    if route == Route::Post
        && let Err(error) = service.turn(why)
    {
        tracing::warn!(%error, "the state file cannot be written");
    }
}
