//! One connection after the other: the TLS server on it, and the gRPC services inside.
//!
//! The newest connection is the session; the one before is shut down. Strict: whoever isn't our control plane fails
//! in the handshake, and PID 1 dials again.

use std::io::{self, Error};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use clawker_identity::{Credentials, TlsError, agent};
use clawker_proc::memfd;
use clawker_wire::preamble::{Bundle, MAX_BUNDLE, PreambleError, decode};
use clawker_wire::session::session_service_server::SessionServiceServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use zeroize::{Zeroize, Zeroizing};

use super::control::Service;
use super::hub::Hub;
use crate::halves::ToInit;

const HANDSHAKE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("PID 1 handed over {0} descriptors instead of two")]
    Descriptors(usize),
    #[error("reading the bundle: {0}")]
    Bundle(#[from] PreambleError),
    #[error("using the bundle: {0}")]
    Tls(#[from] TlsError),
    #[error("the control plane's handshake: {0}")]
    Handshake(Error),
    #[error("the control plane's handshake took more than {} s", HANDSHAKE.as_secs())]
    Slow,
    #[error("serving: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("the connection: {0}")]
    Io(#[from] Error),
}

/// An agent's name and credentials, out of the bundle. What a renewal brings is for the connections that follow.
pub struct Identity {
    pub project: String,
    pub agent: String,
    credentials: Mutex<Credentials>,
}

impl Identity {
    fn read(bundle: &OwnedFd) -> Result<Self, ServeError> {
        let bytes = Zeroizing::new(memfd::read_sealed(bundle.as_fd(), MAX_BUNDLE)?);
        let mut bundle: Bundle = decode("bundle", &bytes)?;
        let key = Zeroizing::new(std::mem::take(&mut bundle.key));
        bundle.key.zeroize();
        Ok(Self {
            project: bundle.project,
            agent: bundle.agent,
            credentials: Mutex::new(Credentials {
                leaf: bundle.leaf,
                key,
                roots: bundle.roots,
            }),
        })
    }

    pub fn credentials(&self) -> Credentials {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn renewed(&self, credentials: Credentials) {
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }
}

/// The session, and the one before while it ends.
pub struct Sessions {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
    current: Option<OwnedFd>,
    /// Number of the newest session.
    newest: Arc<AtomicU64>,
}

impl Sessions {
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            tasks: JoinSet::new(),
            current: None,
            newest: Arc::default(),
        }
    }

    /// Serves on a new connection; the old one is shut down first.
    pub fn replace(&mut self, fds: Vec<OwnedFd>) {
        if let Some(old) = self.current.take() {
            let _ = rustix::net::shutdown(&old, rustix::net::Shutdown::Both);
        }
        while self.tasks.try_join_next().is_some() {}
        self.current = fds.first().and_then(|socket| socket.try_clone().ok());
        let hub = Arc::clone(&self.hub);
        let socket = self.current.as_ref().and_then(|socket| socket.try_clone().ok());
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let newest = Arc::clone(&self.newest);
        self.tasks.spawn(async move {
            if let Err(error) = serve(&hub, fds).await {
                eprintln!("clawkerd: session: {error}");
            }
            // Whatever task of gRPC's still holds the connection: it is over.
            if let Some(socket) = socket {
                let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
            }
            // A replaced one says nothing: PID 1 has handed over its successor already.
            if newest.load(Ordering::Relaxed) == number {
                hub.send(ToInit::SessionLost);
            }
        });
    }
}

async fn serve(hub: &Arc<Hub>, fds: Vec<OwnedFd>) -> Result<(), ServeError> {
    let [socket, bundle] = <[OwnedFd; 2]>::try_from(fds).map_err(|fds| ServeError::Descriptors(fds.len()))?;
    let identity = Arc::new(Identity::read(&bundle)?);
    drop(bundle);
    let acceptor = TlsAcceptor::from(Arc::new(agent::server_config(&identity.credentials())?));
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    let accepted = tokio::time::timeout(HANDSHAKE, acceptor.accept(UnixStream::from_std(stream)?));
    let tls = accepted
        .await
        .map_err(|_| ServeError::Slow)?
        .map_err(ServeError::Handshake)?;
    let over = Arc::new(Notify::new());
    let connection = Connection {
        tls,
        over: Over(Arc::clone(&over)),
    };
    let service = Service::new(Arc::clone(hub), identity, Arc::clone(&over));
    let service = SessionServiceServer::new(service)
        .max_decoding_message_size(clawker_wire::MAX_MESSAGE)
        .max_encoding_message_size(clawker_wire::MAX_MESSAGE);
    let incoming = tokio_stream::once(Ok::<_, Error>(connection)).chain(tokio_stream::pending());
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming);
    tokio::select! {
        served = server => Ok(served?),
        () = over.notified() => Ok(()),
    }
}

/// Tells when the connection is dropped.
struct Over(Arc<Notify>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The one connection of a server that has no listener.
struct Connection {
    tls: TlsStream<UnixStream>,
    #[expect(dead_code, reason = "is there for its drop")]
    over: Over,
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
