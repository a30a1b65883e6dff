//! SIGTERM and Ctrl-C: a request to finish what is in flight and stop.

use tokio::signal::unix::{SignalKind, signal};

/// Waits until the process is asked to stop. Where signals cannot be caught it waits for ever: they then end the
/// process at once, which the ledger survives.
pub async fn stop_requested() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
