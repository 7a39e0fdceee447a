//! PID 1 in clawkerd's place: connects again and again, and serves whoever answers.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clawker_identity::authority::Authority;
use clawker_identity::{Credentials, thumbprint};
use clawker_model::{ContainerId, FullName};
use clawker_wire::agent::RegisterRequest;
use clawker_wire::agent::agent_service_client::AgentServiceClient;
use clawker_wire::session::session_service_server::SessionServiceServer;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tonic::Request;
use tonic::transport::Endpoint;

use crate::preamble::{self, AGENT, SESSION};
use crate::say;
use crate::session::Accepting;

/// Runs until it is told to end.
pub fn init(name: &str, target: &str) -> Result<()> {
    let target: SocketAddr = target.parse().context("the target's address")?;
    let foreign = Arc::new(foreign_leaf(name)?);
    // PID 1 gets no signal that it doesn't handle.
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM, libc::SIGINT])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(0);
        }
    });
    std::thread::spawn(move || {
        loop {
            let reached = TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok();
            say(&json!({"reached": reached}));
            std::thread::sleep(Duration::from_millis(250));
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    loop {
        if let Err(error) = runtime.block_on(once(name, &foreign)) {
            say(&json!({"ended": format!("{error:#}")}));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// A leaf with the right names, signed by an authority that nobody knows.
fn foreign_leaf(name: &str) -> Result<Credentials> {
    let name = FullName::parse(name)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own_id = mounts
        .split("/containers/")
        .nth(1)
        .and_then(|rest| rest.get(..64))
        .and_then(|id| ContainerId::parse(id).ok());
    let container = match own_id {
        Some(id) => id,
        None => ContainerId::parse(&"0".repeat(64))?,
    };
    Ok(Authority::ephemeral()?.agent_leaf(&name, &container)?)
}

/// One connection, to its end.
async fn once(name: &str, foreign: &Arc<Credentials>) -> Result<()> {
    let root_id = thumbprint(foreign.roots.first().context("a leaf has a root")?);
    let answered = tokio::task::spawn_blocking(move || preamble::exchange(Path::new(SESSION), &root_id)).await??;
    let kinds: Vec<String> = answered
        .descriptors
        .iter()
        .map(|(kind, _)| format!("{kind:?}"))
        .collect();
    say(&json!({"preamble": kinds, "start": answered.preamble.start}));

    answered.stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(answered.stream)?;
    let tls = TlsAcceptor::from(Arc::new(lenient(foreign)?))
        .accept(stream)
        .await
        .context("TLS")?;
    let gone = Arc::new(Notify::new());
    let only = tokio_stream::once(Ok::<_, std::io::Error>(Conn {
        tls,
        gone: gone.clone(),
    }));
    let accepting = Accepting::new(name, foreign.clone());
    tonic::transport::Server::builder()
        .add_service(SessionServiceServer::new(accepting))
        .serve_with_incoming_shutdown(only.chain(tokio_stream::pending()), gone.notified())
        .await
        .context("serving the session")
}

/// TLS that asks its peer for nothing.
fn lenient(own: &Credentials) -> Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(own.key.to_vec());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(own.leaf.clone())], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Tries to register on the agent socket, with whatever `token`; what the control plane says to that.
pub async fn register(name: &str, token: &str, own: &Credentials) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| error.to_string();
    let config = clawker_identity::control::session_client(own, Default::default()).map_err(|e| fail(&e))?;
    let stream = UnixStream::connect(AGENT).map_err(|e| fail(&e))?;
    stream.set_nonblocking(true).map_err(|e| fail(&e))?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(|e| fail(&e))?;
    let server = ServerName::try_from("clawker-cp").map_err(|e| fail(&e))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(server, stream)
        .await
        .map_err(|e| fail(&e))?;
    let mut once = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let taken = once.take();
        async move { taken.ok_or_else(|| std::io::Error::other("used up")) }
    });
    let channel = Endpoint::from_static("http://clawker-cp")
        .connect_with_connector(connector)
        .await
        .map_err(|e| fail(&e))?;
    let mut parts = name.split('.').skip(1).collect::<Vec<_>>();
    let agent = parts.pop().unwrap_or_default().to_owned();
    let mut request = Request::new(RegisterRequest {
        project: parts.join("."),
        agent,
    });
    let bearer = format!("Bearer {token}")
        .parse()
        .map_err(|_| "a token is ASCII".to_owned())?;
    request.metadata_mut().insert("authorization", bearer);
    AgentServiceClient::new(channel)
        .register(request)
        .await
        .map(drop)
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

/// The one connection, as tonic's server wants it.
struct Conn {
    tls: tokio_rustls::server::TlsStream<tokio::net::UnixStream>,
    gone: Arc<Notify>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Conn {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Conn {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
