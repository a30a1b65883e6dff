//! The handle of a running sandbox.

use crate::api::BASE;
use crate::fault::Fault;
use crate::journal::StateFileError;
use crate::server;
use crate::service::Service;
use crate::settings::Settings;
use crate::state::{State, Total, totals};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The state file cannot be used.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
}

/// A running sandbox. It stops when it is dropped; [`stop`](Self::stop) waits until it has.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    service: Arc<Service>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Starts to listen and to serve, on the current tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be listened on; a state file that cannot be read, or that another sandbox uses.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time, as everything in tokio does.
    pub async fn start(settings: Settings) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let service = Arc::new(Service::new(settings)?);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server::serve(listener, service.clone(), stopped));
        Ok(Self { address, service, stop, server })
    }

    /// Where the API is: `http://127.0.0.1:PORT/api/v1_test`, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that the service holds now. What is due is loaded first. All of it is copied, about 1.5 KB a record: ask for
    /// [`totals`](Self::totals) where they will do.
    #[must_use]
    pub fn state(&self) -> State {
        self.service.state()
    }

    /// Counts and exact sums by type, resource and project.
    #[must_use]
    pub fn totals(&self) -> Vec<Total> {
        self.service.look(totals)
    }

    /// Arms a fault, behind those that are armed.
    pub fn inject(&self, fault: Fault) {
        self.service.inject(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.service.clear_faults();
    }

    /// Loads everything that is queued, now. If the state file cannot be written, all stays as it is.
    // Async, although it need not wait today: a test awaits it where it would wait for the real service.
    #[allow(clippy::unused_async)]
    pub async fn settle(&self) {
        if let Err(error) = self.service.settle() {
            tracing::warn!(%error, "the state file cannot be written");
        }
    }

    /// Stops: the port is free and the state file is closed when this returns. Open connections end as they would if the
    /// process were killed; what was answered is stored.
    pub async fn stop(self) {
        let Self { stop, server, service, .. } = self;
        drop(stop);
        // An error would mean that the server panicked, or was aborted with its runtime: it is gone in any case.
        let _ = server.await;
        drop(service);
    }
}
