//! The peer of sessions: tonic over mutual TLS on a unix socket, one bidirectional stream, one message each way, and
//! nothing around it. Leaves of P-256 and TLS 1.3 without resumption, as ours; verified by webpki as it comes.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use anyhow::{Context, Result, ensure};
use clawker_identity::authority::Authority;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::session_service_server::{SessionService, SessionServiceServer};
use clawker_wire::session::{Command, Hello, HelloAck, IoFrame, Response, command, response};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Status, Streaming};

use crate::relay;

/// The hidden argument that makes this program a client of its own.
pub const CLIENT: &str = "--bare-client=";
/// In the leaf that an authority of ours gives to a control plane.
const NAME: &str = "clawker-cp";
const FILES: [&str; 3] = ["root.der", "leaf.der", "key.der"];

/// A server, and what a client needs.
pub struct Bare {
    dir: tempfile::TempDir,
    client: Client,
    _serving: JoinSet<()>,
}

/// Opens sessions.
#[derive(Clone)]
pub struct Client {
    socket: PathBuf,
    config: Arc<ClientConfig>,
}

/// One that is open, for as long as it lives.
pub struct Session {
    _commands: mpsc::Sender<Command>,
    _responses: Streaming<Response>,
}

impl Bare {
    /// To be called in a runtime, which serves.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}-bare-", crate::NAME))
            .tempdir()?;
        let authority = Authority::ephemeral()?;
        let (server, client) = (authority.control_plane_leaf()?, authority.control_plane_leaf()?);
        for (name, bytes) in FILES.into_iter().zip([authority.root(), &client.leaf, &client.key]) {
            std::fs::write(dir.path().join(name), bytes).with_context(|| format!("writing {name}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = roots(authority.root())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
        let key = PrivatePkcs8KeyDer::from(server.key.to_vec());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![CertificateDer::from(server.leaf.clone())], key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        let socket = dir.path().join("bare.sock");
        let listener = UnixListener::bind(&socket)?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        let client = Client::read(dir.path())?;
        Ok(Self {
            dir,
            client,
            _serving: serving,
        })
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A process of its own that holds `count` sessions until its input ends, once they are open.
    pub fn client_process(&self, count: usize) -> Result<Child> {
        let mut child = Program::new(std::env::current_exe()?)
            .arg(format!("{CLIENT}{count}"))
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bare client")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output")?;
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line)?;
        ensure!(line.trim() == "open", "the bare client said `{}`", line.trim());
        Ok(child)
    }
}

impl Client {
    fn read(dir: &Path) -> Result<Self> {
        let [root, leaf, key] = FILES.map(|name| std::fs::read(dir.join(name)));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivatePkcs8KeyDer::from(key?);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots(&root?)?)
            .with_client_auth_cert(vec![CertificateDer::from(leaf?)], key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            socket: dir.join("bare.sock"),
            config: Arc::new(config),
        })
    }

    /// Connect, mutual TLS, HTTP/2.
    pub async fn channel(&self, endpoint: Endpoint) -> Result<Channel> {
        let stream = UnixStream::connect(&self.socket).await?;
        let tls = TlsConnector::from(self.config.clone())
            .connect(ServerName::try_from(NAME)?, stream)
            .await?;
        let mut once = Some(TokioIo::new(tls));
        let connector = tower::service_fn(move |_: Uri| {
            let taken = once.take();
            async move { taken.ok_or_else(|| io::Error::other("used up")) }
        });
        Ok(endpoint.connect_with_connector(connector).await?)
    }

    /// A channel, stream, hello and its answer.
    pub async fn hello(&self) -> Result<Session> {
        let channel = self.channel(Endpoint::from_static("http://bare")).await?;
        let (commands, outgoing) = mpsc::channel(64);
        let hello = command::Body::Hello(Hello {
            protocol: 1,
            ..Default::default()
        });
        commands
            .send(Command {
                id: 1,
                body: Some(hello),
            })
            .await?;
        let mut client = SessionServiceClient::new(channel);
        let mut responses = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
        responses.message().await?.context("an answer to hello")?;
        Ok(Session {
            _commands: commands,
            _responses: responses,
        })
    }

    /// `count` of them, so many in flight.
    pub async fn hellos(&self, count: usize, flight: usize) -> Result<Vec<Session>> {
        let mut open = Vec::with_capacity(count);
        let mut opening = JoinSet::new();
        let mut left = count;
        loop {
            while left > 0 && opening.len() < flight {
                let client = self.clone();
                opening.spawn(async move { client.hello().await });
                left -= 1;
            }
            match opening.join_next().await {
                Some(session) => open.push(session??),
                None => return Ok(open),
            }
        }
    }
}

/// The whole of a process that only holds sessions.
pub fn client_main(count: &str, dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = Client::read(dir)?;
    let sessions = runtime.block_on(client.hellos(count.parse()?, 32))?;
    println!("open");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    drop(sessions);
    Ok(())
}

fn roots(root: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec()))?;
    Ok(roots)
}

async fn serve(listener: UnixListener, acceptor: TlsAcceptor) {
    let (accepted, incoming) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let service = SessionServiceServer::new(Answering);
        // It ends with the listener.
        let _ = Server::builder()
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(incoming))
            .await;
    });
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        tasks.spawn(async move {
            if let Ok(tls) = acceptor.accept(stream).await {
                let _ = accepted.send(Ok::<_, io::Error>(Conn(tls))).await;
            }
        });
    }
}

struct Answering;

#[tonic::async_trait]
impl SessionService for Answering {
    type SessionStream = ReceiverStream<Result<Response, Status>>;
    type IoStream = relay::Frames;

    async fn session(
        &self,
        request: Request<Streaming<Command>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        let mut commands = request.into_inner();
        let (answers, outgoing) = mpsc::channel(64);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Ok(Some(Command { id, .. })) = commands.message().await {
                let body = Some(response::Body::HelloAck(HelloAck::default()));
                if answers.send(Ok(Response { id, body })).await.is_err() {
                    return;
                }
            }
        });
        reading.detach_all();
        Ok(tonic::Response::new(ReceiverStream::new(outgoing)))
    }

    async fn io(&self, request: Request<Streaming<IoFrame>>) -> Result<tonic::Response<Self::IoStream>, Status> {
        relay::answer(request.into_inner()).await.map(tonic::Response::new)
    }
}

/// Adds nothing to the stream but tonic's trait.
struct Conn(TlsStream<UnixStream>);

impl Connected for Conn {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
