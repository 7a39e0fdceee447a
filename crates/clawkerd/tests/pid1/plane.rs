//! A tiny control plane: listens, greets, and speaks the session as its client.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clawker_identity::Credentials;
use clawker_identity::authority::Authority;
use clawker_identity::control::{CaptureSlot, session_client};
use clawker_model::{ContainerId, FullName};
use clawker_proc::{fdpass, memfd};
use clawker_wire::join::Join;
use clawker_wire::preamble::{self, Bundle, ClientPreamble, Descriptor, ServerPreamble, WIRE};
use clawker_wire::session::command::Body as Command;
use clawker_wire::session::io_frame::Body as Frame;
use clawker_wire::session::response::Body;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::{self as pb};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::host::{PATIENCE, eventually};

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
        let socket = within(self.greeted()).await;
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
        let mut client = self.connected().await.expect("connected");
        let (commands, queue) = mpsc::channel(64);
        let hello = pb::Command {
            id: 1,
            body: Some(Command::Hello(pb::Hello {
                protocol,
                cp_life: "test".to_owned(),
                lease,
            })),
        };
        commands.send(hello).await.expect("queued");
        let responses = client
            .session(ReceiverStream::new(queue))
            .await
            .expect("session")
            .into_inner();
        let mut session = Session {
            client,
            commands,
            responses,
            last_id: 1,
            ack: pb::HelloAck::default(),
        };
        let first = within(session.responses.message()).await?.expect("not the end");
        match (first.id, first.body) {
            (1, Some(Body::HelloAck(ack))) => session.ack = ack,
            other => panic!("{other:?} instead of HelloAck"),
        }
        Ok(session)
    }

    /// Accepts, hears the preamble, answers it with everything.
    async fn greeted(&self) -> tokio::net::UnixStream {
        let mut stream = match self.joins {
            Some(_) => std::os::unix::net::UnixStream::from(OwnedFd::from(self.dial())),
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
        if self.joins.is_some() {
            stream.set_nonblocking(true).expect("nonblocking");
            return tokio::net::UnixStream::from_std(stream).expect("tokio");
        }
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
        fdpass::send(stream.as_fd(), &bytes, &fds).expect("sent");
        stream.flush().expect("sent");
        stream.set_nonblocking(true).expect("nonblocking");
        tokio::net::UnixStream::from_std(stream).expect("tokio")
    }
}

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

pub struct Session {
    client: SessionServiceClient<Channel>,
    commands: mpsc::Sender<pb::Command>,
    responses: Streaming<pb::Response>,
    last_id: u64,
    pub ack: pb::HelloAck,
}

impl Session {
    pub async fn next(&mut self) -> (u64, Body) {
        let response = within(self.responses.message())
            .await
            .expect("a response")
            .expect("not the end");
        (response.id, response.body.expect("a body"))
    }

    pub async fn send(&mut self, body: Command) -> u64 {
        self.last_id += 1;
        let command = pb::Command {
            id: self.last_id,
            body: Some(body),
        };
        self.commands.send(command).await.expect("queued");
        self.last_id
    }

    /// The answer to this command; events on the way are dropped.
    pub async fn ask(&mut self, body: Command) -> Body {
        let id = self.send(body).await;
        loop {
            match self.next().await {
                (answered, body) if answered == id => return body,
                (0, _) => {}
                other => panic!("{other:?} answers nothing that was asked"),
            }
        }
    }

    /// The next event that `wanted` knows.
    pub async fn event<T>(&mut self, wanted: impl Fn(Body) -> Option<T>) -> T {
        loop {
            let (id, body) = self.next().await;
            if let (0, Some(found)) = (id, wanted(body)) {
                return found;
            }
        }
    }

    pub async fn exec(&mut self, id: &str, script: &str) -> Body {
        self.ask(Command::Exec(exec(id, script))).await
    }

    pub async fn exited(&mut self, id: &str) -> (i32, i32) {
        self.event(|body| match body {
            Body::Exited(exited) if exited.exec_id == id => Some((exited.code, exited.signal)),
            _ => None,
        })
        .await
    }

    pub async fn drained(&mut self, id: &str) -> bool {
        self.event(|body| match body {
            Body::Drained(drained) if drained.exec_id == id => Some(drained.held_by_descendants),
            _ => None,
        })
        .await
    }

    pub async fn ready(&mut self, main: pb::Main) -> Body {
        self.ask(Command::AgentReady(pb::AgentReady {
            main: Some(main),
            ..pb::AgentReady::default()
        }))
        .await
    }

    pub async fn io(&mut self, id: &str, stdout_from: u64) -> Io {
        within(self.attached(id, stdout_from, 0)).await.expect("attached").0
    }

    /// Attaches from these offsets, unless the session is gone.
    pub fn attached(
        &self,
        id: &str,
        stdout_from: u64,
        stderr_from: u64,
    ) -> impl Future<Output = Result<(Io, pb::Opened), tonic::Status>> + use<> {
        let mut client = self.client.clone();
        let open = pb::Open {
            exec_id: id.to_owned(),
            stdout_from,
            stderr_from,
        };
        async move {
            let (frames, queue) = mpsc::channel(64);
            let first = pb::IoFrame {
                body: Some(Frame::Open(open)),
            };
            frames.send(first).await.expect("queued");
            let mut incoming = client.io(ReceiverStream::new(queue)).await?.into_inner();
            match incoming.message().await?.and_then(|frame| frame.body) {
                Some(Frame::Opened(opened)) => Ok((Io { frames, incoming }, opened)),
                other => panic!("{other:?} instead of Opened"),
            }
        }
    }

    /// The next response, or why there is none any more.
    pub async fn try_next(&mut self) -> Result<pb::Response, tonic::Status> {
        let cut = || tonic::Status::unavailable("cut");
        self.responses.message().await?.ok_or_else(cut)
    }

    /// Asks without waiting for an answer; false when the session is gone.
    pub async fn try_send(&mut self, body: Command) -> bool {
        self.last_id += 1;
        let command = pb::Command {
            id: self.last_id,
            body: Some(body),
        };
        self.commands.send(command).await.is_ok()
    }
}

pub struct Io {
    pub frames: mpsc::Sender<pb::IoFrame>,
    pub incoming: Streaming<pb::IoFrame>,
}

impl Io {
    pub async fn next(&mut self) -> Option<Frame> {
        within(self.incoming.message())
            .await
            .ok()
            .flatten()
            .and_then(|frame| frame.body)
    }

    pub async fn send(&self, body: Frame) {
        self.frames
            .send(pb::IoFrame { body: Some(body) })
            .await
            .expect("queued");
    }

    /// All of both streams to their ends, acknowledged as it comes: standard output, standard error.
    pub async fn all(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut got = [Vec::new(), Vec::new()];
        let mut open = 2;
        while open > 0 {
            match self.next().await.expect("more") {
                Frame::Data(data) => {
                    let stream = usize::from(data.stream() == pb::Stream::Stderr);
                    got[stream].extend_from_slice(&data.bytes);
                    let ack = pb::Ack {
                        stream: data.stream,
                        offset: data.offset + data.bytes.len() as u64,
                    };
                    self.send(Frame::Ack(ack)).await;
                }
                Frame::StreamEof(_) => open -= 1,
                Frame::Ack(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let [stdout, stderr] = got;
        (stdout, stderr)
    }
}

pub fn exec(id: &str, script: &str) -> pb::Exec {
    pb::Exec {
        exec_id: id.to_owned(),
        stages: vec![pb::Stage {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..pb::Stage::default()
        }],
        ..pb::Exec::default()
    }
}

pub fn main(script: &str) -> pb::Main {
    pb::Main {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        no_new_privs: true,
        ..pb::Main::default()
    }
}
