//! One connection to a server: made and driven by a thread of its own, asked from any other, with TLS where it leaves
//! the host.
//!
//! The ledger is synchronous, and its callers may be inside an async runtime, where blocking on another one is not
//! allowed. So the thread runs the runtime, and callers only wait for answers, which takes none.

use super::Fail;
use super::address::{Address, Protection};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as RustlsStream;

/// How long a server may take to answer to a new connection.
const CONNECT: Duration = Duration::from_secs(15);

/// Connects and logs in.
pub(super) fn connect(address: &Address) -> Result<Client, Fail> {
    let mut config = Config::new();
    config
        .host(&address.host)
        .port(address.port)
        .user(&address.user)
        .dbname(&address.database)
        .application_name("amie-runner")
        .connect_timeout(CONNECT)
        // A peer that is gone without a word is noticed within two minutes.
        .keepalives_idle(Duration::from_secs(30))
        .tcp_user_timeout(Duration::from_secs(90));
    if let Some(password) = address.password().map_err(Fail::Login)? {
        config.password(password);
    }
    let tls = match &address.protection {
        Protection::Local => {
            config.ssl_mode(SslMode::Disable);
            None
        }
        Protection::Verified(roots) => {
            config.ssl_mode(SslMode::Require);
            Some(Tls(Arc::new(tls_config(roots.as_deref()).map_err(Fail::Login)?)))
        }
    };
    let (answer, answered) = mpsc::channel();
    let drive = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = answer.send(Err(Fail::Thread(error)));
                return;
            }
        };
        runtime.block_on(async {
            // Both arms end when the client is dropped or the server goes away.
            match tls {
                None => match config.connect(tokio_postgres::NoTls).await {
                    Ok((client, connection)) => {
                        let _ = answer.send(Ok(client));
                        ended(connection.await);
                    }
                    Err(error) => drop(answer.send(Err(Fail::Connect(error)))),
                },
                Some(tls) => match config.connect(tls).await {
                    Ok((client, connection)) => {
                        let _ = answer.send(Ok(client));
                        ended(connection.await);
                    }
                    Err(error) => drop(answer.send(Err(Fail::Connect(error)))),
                },
            }
        });
    };
    thread::Builder::new().name("ledger-postgres".to_owned()).spawn(drive).map_err(Fail::Thread)?;
    answered.recv().unwrap_or_else(|_| Err(Fail::Thread(io::Error::other("the connecting thread ended"))))
}

fn ended(result: Result<(), tokio_postgres::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "the connection to the ledger ended");
    }
}

/// Waits for an answer of a client whose connection another thread drives.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn tls_config(roots: Option<&Path>) -> Result<ClientConfig, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(path) => {
            let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| at(&error))? {
                let certificate = certificate.map_err(|error| at(&error))?;
                store.add(certificate).map_err(|error| at(&error))?;
            }
            if store.is_empty() {
                return Err(format!("{}: there is no certificate in it", path.display()));
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(
                    "this host has no certificates (ca-certificates); name some with sslrootcert".into()
                );
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

/// TLS by rustls.
#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

struct TlsTo {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

struct Protected<S>(Box<RustlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Protected<S>;
    type TlsConnect = TlsTo;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<TlsTo, io::Error> {
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(TlsTo { config: Arc::clone(&self.0), name })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for TlsTo {
    type Stream = Protected<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Protected<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let stream = TlsConnector::from(self.config).connect(self.name, stream).await?;
            Ok(Protected(Box::new(stream)))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Protected<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Protected<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Protected<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
