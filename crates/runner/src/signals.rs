//! SIGTERM and Ctrl-C: a request to finish what is in flight and stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The requests to stop that this process gets, one after the other. To be made inside a tokio runtime; from then on these
/// signals no longer end the process by themselves.
#[derive(Debug)]
pub struct StopRequests(Option<(Signal, Signal)>);

impl StopRequests {
    /// Begins to listen.
    #[must_use]
    pub fn new() -> Self {
        Self(signal(SignalKind::terminate()).ok().zip(signal(SignalKind::interrupt()).ok()))
    }

    /// Waits for the next request. Where signals cannot be caught it waits for ever: they then end the process at once,
    /// which the ledger survives.
    pub async fn next(&mut self) {
        let Some((terminate, interrupt)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

impl Default for StopRequests {
    fn default() -> Self {
        Self::new()
    }
}
