//! A tiny control plane: listens and greets.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use clawker_identity::Credentials;
use clawker_identity::authority::Authority;
use clawker_identity::control::{CaptureSlot, session_client};
use clawker_model::{ContainerId, FullName};
use clawker_proc::{fdpass, memfd};
use clawker_wire::join::Join;
use clawker_wire::preamble::{self, Bundle, ClientPreamble, Descriptor, ServerPreamble, WIRE};
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::{self as pb};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::host::{PATIENCE, eventually};
use crate::session::{Session, within};

pub struct Plane {
    dir: tempfile::TempDir,
    listener: tokio::net::UnixListener,
    pub own: Credentials,
    bundle: OwnedFd,
    procs: OwnedFd,
    freeze: OwnedFd,
    /// The port that the join file names, of a control plane elsewhere.
    joins: Option<u16>,
    /// What the next greeting brings besides: a session half.
    pub half: Mutex<Option<OwnedFd>>,
    /// What PID 1 said first in the last greeting.
    pub heard: Mutex<Option<ClientPreamble>>,
}

impl Plane {
    /// With stand-ins for the cgroup's files.
    pub fn new() -> Self {
        let null = || OwnedFd::from(File::options().write(true).open("/dev/null").expect("null"));
        Self::with_cgroup(null(), null())
    }

    pub fn with_cgroup(procs: OwnedFd, freeze: OwnedFd) -> Self {
        Self::made(procs, freeze, None)
    }

    /// One that has put a join file, with a token, and dials the port in it.
    pub fn elsewhere() -> Self {
        let null = || OwnedFd::from(File::options().write(true).open("/dev/null").expect("null"));
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = free.local_addr().expect("address").port();
        Self::made(null(), null(), Some(port))
    }

    pub fn join_file(&self) -> std::path::PathBuf {
        self.dir().join("join")
    }

    /// Its port, once somebody listens there.
    pub fn dial(&self) -> std::net::TcpStream {
        let port = self.joins.expect("elsewhere");
        eventually("PID 1 listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })
    }

    fn made(procs: OwnedFd, freeze: OwnedFd, joins: Option<u16>) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let listener = tokio::net::UnixListener::bind(dir.path().join("session.sock")).expect("bound");
        let authority = Authority::ephemeral().expect("authority");
        let name = FullName::new(None, clawker_model::AgentName::parse("test").expect("name"));
        let container = ContainerId::parse(&"ab".repeat(32)).expect("id");
        let leaf = authority.agent_leaf(&name, &container).expect("leaf");
        let bundle = Bundle {
            generation: 1,
            project: String::new(),
            agent: "test".to_owned(),
            leaf: leaf.leaf.clone(),
            key: leaf.key.to_vec(),
            roots: leaf.roots.clone(),
            join: joins.map(|_| "the join token".to_owned()),
        };
        if let Some(port) = joins {
            let join = Join::new(1, port, bundle.clone()).encode().expect("small");
            std::fs::write(dir.path().join("join"), join).expect("put");
        }
        Self {
            dir,
            listener,
            own: authority.control_plane_leaf().expect("leaf"),
            bundle: memfd::sealed("bundle", &bundle.encode().expect("small")).expect("memfd"),
            procs,
            freeze,
            joins,
            half: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The next connection, greeted, up to HelloAck.
    pub async fn session(&self) -> Session {
        self.session_with(Some(pb::Lease { seconds: 0 })).await
    }

    /// The next connection, greeted: h2 on it, answered once so that the handshake is certainly over.
    pub async fn connected(&self) -> Result<SessionServiceClient<Channel>, String> {
        self.channel().await.map(SessionServiceClient::new)
    }

    pub async fn channel(&self) -> Result<Channel, String> {
        self.channel_over(within(self.greeted()).await).await
    }

    /// The same on a greeted connection, or what stands for one.
    pub async fn channel_over<S>(&self, socket: S) -> Result<Channel, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = session_client(&self.own, CaptureSlot::default()).expect("config");
        let name = rustls::pki_types::ServerName::try_from("clawkerd").expect("name");
        let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket);
        // TLS 1.3: a client learns of its refusal with its first read.
        let tls = within(connecting).await.map_err(|error| error.to_string())?;
        let once = Arc::new(Mutex::new(Some(TokioIo::new(tls))));
        let connector = tower::service_fn(move |_: Uri| {
            let taken = once.lock().expect("lock").take();
            async move { taken.ok_or_else(|| std::io::Error::other("one connection only")) }
        });
        let endpoint = Endpoint::from_static("http://clawkerd");
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|e| e.to_string())?;
        let mut client = SessionServiceClient::new(channel.clone());
        match client.io(tokio_stream::empty()).await {
            // Refused by the service, so the service was reached.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => Ok(channel),
            Err(status) => Err(status.to_string()),
            Ok(_) => Err("Io without Open was accepted".to_owned()),
        }
    }

    pub async fn session_with(&self, lease: Option<pb::Lease>) -> Session {
        self.session_of(9, lease).await.expect("a session")
    }

    /// One that speaks this generation of the protocol; what the half says to a Hello that it won't have.
    pub async fn session_of(&self, protocol: u32, lease: Option<pb::Lease>) -> Result<Session, tonic::Status> {
        let client = self.connected().await.expect("connected");
        Session::begin(client, protocol, lease).await
    }

    /// Accepts, hears the preamble, answers it with everything.
    pub async fn greeted(&self) -> tokio::net::UnixStream {
        let stream = self.heard().await;
        if self.joins.is_none() {
            self.answer(&stream, usize::MAX);
        }
        stream.set_nonblocking(true).expect("nonblocking");
        tokio::net::UnixStream::from_std(stream).expect("tokio")
    }

    /// Accepts, or dials, and hears the preamble.
    pub async fn heard(&self) -> UnixStream {
        let mut stream = match self.joins {
            Some(_) => UnixStream::from(OwnedFd::from(self.dial())),
            None => {
                let (stream, _) = self.listener.accept().await.expect("accepted");
                stream.into_std().expect("std")
            }
        };
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).expect("prefix");
        let mut body = vec![0; preamble::body_len("preamble", prefix).expect("small")];
        stream.read_exact(&mut body).expect("body");
        *self.heard.lock().expect("lock") = Some(preamble::decode("preamble", &body).expect("preamble"));
        stream
    }

    /// The first so many bytes of what PID 1 is answered, with every descriptor; whether that was all.
    pub fn answer(&self, mut stream: &UnixStream, most: usize) -> bool {
        let half = self.half.lock().expect("lock").take();
        let mut descriptors = vec![Descriptor::Bundle, Descriptor::CgroupProcs, Descriptor::Freeze];
        descriptors.extend(half.iter().map(|_| Descriptor::SessionHalf));
        let answer = ServerPreamble {
            wire: WIRE,
            start: 1,
            generation: 1,
            descriptors,
        };
        let bytes = preamble::encode_framed("preamble", &answer).expect("small");
        let mut fds = vec![self.bundle.as_fd(), self.procs.as_fd(), self.freeze.as_fd()];
        fds.extend(half.iter().map(AsFd::as_fd));
        let part = bytes.get(..most).unwrap_or(&bytes);
        if !part.is_empty() {
            fdpass::send(stream.as_fd(), part, &fds).expect("sent");
        }
        stream.flush().expect("sent");
        part.len() == bytes.len()
    }
}
