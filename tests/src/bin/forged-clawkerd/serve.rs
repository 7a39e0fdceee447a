//! PID 1 in clawkerd's place: connects again and again, and serves whoever answers.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clawker_identity::authority::Authority;
use clawker_identity::thumbprint;
use clawker_model::{ContainerId, FullName};
use clawker_wire::preamble::{Bundle, ClientPreamble, Descriptor, WIRE, decode};
use clawker_wire::session::session_service_server::SessionServiceServer;
use serde_json::json;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;

use crate::flood;
use crate::identity::Shown;
use crate::preamble::{self, SESSION};
use crate::say;
use crate::script::Script;
use crate::session::{Accepting, Part};

/// How long it waits for what somebody else has to leave.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that was never given an identity; runs until it is told to end. Shows what is in `shows`, else a leaf with the
/// right names by an authority that nobody knows.
pub fn stranger(name: &str, target: &str, shows: Option<&str>) -> Result<()> {
    let script = Script {
        shows: shows.map(PathBuf::from),
        target: Some(target.to_owned()),
        early: true,
        ..Script::default()
    };
    let own = match shows {
        Some(dir) => Shown::read(Path::new(dir))?,
        None => foreign_leaf(name)?,
    };
    // Claims to hold an identity already, of a root that nobody knows.
    let held = ClientPreamble {
        wire: WIRE,
        held_generation: 7,
        root_ids: vec![own.chain.last().map_or_else(|| "ab".repeat(32), |der| thumbprint(der))],
    };
    forever(Life {
        name: name.to_owned(),
        script,
        held,
        own,
        tokens: Arc::default(),
        flooded: false,
    })
}

/// One that the control plane itself created, whose clawkerd was replaced.
pub fn compromised(script: &str) -> Result<()> {
    let script: Script = serde_json::from_str(script).context("the script")?;
    let name = std::fs::read_to_string("/etc/hostname").context("our name")?;
    let held = ClientPreamble {
        wire: WIRE,
        held_generation: script.holds.unwrap_or(0),
        root_ids: Vec::new(),
    };
    forever(Life {
        name: name.trim().to_owned(),
        script,
        held,
        own: Shown::default(),
        tokens: Arc::default(),
        flooded: false,
    })
}

struct Life {
    name: String,
    script: Script,
    held: ClientPreamble,
    own: Shown,
    tokens: Arc<std::sync::Mutex<Vec<String>>>,
    flooded: bool,
}

fn forever(mut life: Life) -> Result<()> {
    // PID 1 gets no signal that it doesn't handle.
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM, libc::SIGINT])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(0);
        }
    });
    if let Some(target) = &life.script.target {
        let target: SocketAddr = target.parse().context("the target's address")?;
        std::thread::spawn(move || {
            loop {
                let reached = TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok();
                say(&json!({"reached": reached}));
                std::thread::sleep(Duration::from_millis(250));
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    loop {
        if let Err(error) = runtime.block_on(once(&mut life)) {
            say(&json!({"ended": format!("{error:#}")}));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// A leaf with the right names, signed by an authority that nobody knows.
fn foreign_leaf(name: &str) -> Result<Shown> {
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
    let leaf = Authority::ephemeral()?.agent_leaf(&name, &container)?;
    Ok(Shown {
        chain: vec![leaf.leaf.clone()],
        key: leaf.key.to_vec(),
    })
}

/// One connection, to its end.
async fn once(life: &mut Life) -> Result<()> {
    let held = life.held.clone();
    let answered = tokio::task::spawn_blocking(move || preamble::exchange(Path::new(SESSION), &held)).await??;
    let kinds: Vec<String> = answered
        .descriptors
        .iter()
        .map(|(kind, _)| format!("{kind:?}"))
        .collect();
    say(&json!({"preamble": kinds, "start": answered.preamble.start, "generation": answered.preamble.generation}));
    for (kind, fd) in answered.descriptors {
        if kind == Descriptor::Bundle {
            life.take(fd)?;
        }
    }
    if let (Some(flood), false) = (life.script.floods, life.own.chain.is_empty())
        && !std::mem::replace(&mut life.flooded, true)
    {
        let own = life.own.clone();
        tokio::task::spawn_blocking(move || flood::play(flood, &own));
    }
    if let Some(dir) = &life.script.shows {
        wait_for(&dir.join("key.der")).await?;
        life.own = Shown::read(dir)?;
    }

    answered.stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(answered.stream)?;
    let tls = TlsAcceptor::from(Arc::new(life.own.server()?))
        .accept(stream)
        .await
        .context("TLS")?;
    let gone = Arc::new(Notify::new());
    let only = tokio_stream::once(Ok::<_, std::io::Error>(Conn {
        tls,
        gone: gone.clone(),
    }));
    let accepting = Accepting::new(Part {
        name: life.name.clone(),
        own: life.own.clone(),
        script: life.script.clone(),
        tokens: life.tokens.clone(),
        gone: gone.clone(),
    });
    tonic::transport::Server::builder()
        .add_service(SessionServiceServer::new(accepting))
        .serve_with_incoming_shutdown(only.chain(tokio_stream::pending()), gone.notified())
        .await
        .context("serving the session")
}

impl Life {
    /// Reads the identity that it was given, and holds it from now on.
    fn take(&mut self, memfd: OwnedFd) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::from(memfd);
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
        file.read_exact_at(&mut bytes, 0).context("reading the bundle")?;
        let bundle: Bundle = decode("bundle", &bytes)?;
        self.held.held_generation = self.script.holds.unwrap_or(bundle.generation);
        self.held.root_ids = bundle.roots.iter().map(|root| thumbprint(root)).collect();
        self.own = Shown {
            chain: vec![bundle.leaf],
            key: bundle.key,
        };
        match &self.script.leaks {
            Some(dir) => self.own.save(dir),
            None => Ok(()),
        }
    }
}

/// Until the file is there.
pub async fn wait_for(path: &Path) -> Result<()> {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !path.exists() {
        anyhow::ensure!(tokio::time::Instant::now() < end, "{} doesn't come", path.display());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
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
