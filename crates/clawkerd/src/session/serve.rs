//! One connection after the other: the TLS server on it, and the gRPC services inside.
//!
//! The newest connection whose handshake succeeded is the session; the one before is shut down then, and not before:
//! where PID 1 listens, anybody may connect. Strict: whoever isn't our control plane fails in the handshake.

use std::collections::VecDeque;
use std::io::{self, Error};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
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
/// Connections at a time that haven't shown yet whose they are; another ends the oldest of them.
const MAX_HANDSHAKES: usize = 8;

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
    #[error("a newer connection is the session already")]
    Late,
    #[error("serving: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("the connection: {0}")]
    Io(#[from] Error),
}

/// An agent's name and credentials, out of the bundle. What a renewal brings is for the connections that follow.
pub struct Identity {
    pub project: String,
    pub agent: String,
    /// The join token of this start, if the control plane is elsewhere.
    pub join: Option<String>,
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
            join: bundle.join,
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

/// Streams of a connection: the session, and two for each exec that PID 1 keeps, of a reader and of the next one.
const MAX_STREAMS: u32 = 2 * 1024 + 1;
/// Streams that were opened, reset, and not looked at yet.
const MAX_RESETS: usize = 64;
/// Most bytes of a request's headers.
const MAX_HEADERS: u32 = 16 * 1024;

/// The session, and those that may become it.
pub struct Sessions {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
    current: Current,
    shaking: Shaking,
    newest: u64,
}

/// Connections that may become the session, oldest first: one takes itself out when it ends.
type Shaking = Arc<Mutex<VecDeque<(u64, OwnedFd)>>>;

/// Number and socket of the session.
type Current = Arc<Mutex<Option<(u64, OwnedFd)>>>;

impl Sessions {
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            tasks: JoinSet::new(),
            current: Current::default(),
            shaking: Shaking::default(),
            newest: 0,
        }
    }

    /// Serves on a new connection, once it has shown that it is the control plane's.
    pub fn add(&mut self, fds: Vec<OwnedFd>) {
        while self.tasks.try_join_next().is_some() {}
        self.newest += 1;
        let candidate = Candidate {
            number: self.newest,
            current: Arc::clone(&self.current),
        };
        let socket = fds.first().and_then(|socket| socket.try_clone().ok());
        if let Some(socket) = fds.first().and_then(|socket| socket.try_clone().ok()) {
            lock(&self.shaking).push_back((candidate.number, socket));
        }
        self.forget_oldest();
        let (hub, shaking) = (Arc::clone(&self.hub), Arc::clone(&self.shaking));
        self.tasks.spawn(async move {
            if let Err(error) = serve(&hub, fds, &candidate).await {
                eprintln!("clawkerd: session: {error}");
            }
            // Whatever task of gRPC's still holds the connection: it is over.
            if let Some(socket) = socket {
                let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
            }
            lock(&shaking).retain(|(number, _)| *number != candidate.number);
            // Beside another that goes on, this one says nothing.
            if candidate.leave() {
                hub.send(ToInit::SessionLost);
            }
        });
    }

    fn forget_oldest(&mut self) {
        let session = lock(&self.current).as_ref().map(|(number, _)| *number);
        let mut shaking = lock(&self.shaking);
        // What is older can't become the session any more, and has a deadline of its own.
        shaking.retain(|(number, _)| session.is_none_or(|session| *number > session));
        while shaking.len() > MAX_HANDSHAKES {
            if let Some((_, oldest)) = shaking.pop_front() {
                let _ = rustix::net::shutdown(&oldest, rustix::net::Shutdown::Both);
            }
        }
    }
}

// Each change under these locks is complete in itself.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, which may become the session.
struct Candidate {
    number: u64,
    current: Current,
}

impl Candidate {
    /// It is the control plane's: an older one is the session no longer. False if a newer one is it already.
    fn take_over(&self, socket: OwnedFd) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|(number, _)| *number > self.number) {
            return false;
        }
        if let Some((_, old)) = current.replace((self.number, socket)) {
            let _ = rustix::net::shutdown(&old, rustix::net::Shutdown::Both);
        }
        true
    }

    /// It has ended. Whether there is no session now.
    fn leave(&self) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|(number, _)| *number == self.number);
        current.is_none()
    }
}

async fn serve(hub: &Arc<Hub>, fds: Vec<OwnedFd>, candidate: &Candidate) -> Result<(), ServeError> {
    let [socket, bundle] = <[OwnedFd; 2]>::try_from(fds).map_err(|fds| ServeError::Descriptors(fds.len()))?;
    let identity = Arc::new(Identity::read(&bundle)?);
    drop(bundle);
    let copy = socket.try_clone()?;
    let acceptor = TlsAcceptor::from(Arc::new(agent::server_config(&identity.credentials())?));
    // Unix or TCP: what is done with a stream socket's descriptor from here on is the same.
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    let accepted = tokio::time::timeout(HANDSHAKE, acceptor.accept(UnixStream::from_std(stream)?));
    let tls = accepted
        .await
        .map_err(|_| ServeError::Slow)?
        .map_err(ServeError::Handshake)?;
    if !candidate.take_over(copy) {
        return Err(ServeError::Late);
    }
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
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_header_list_size(MAX_HEADERS)
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
