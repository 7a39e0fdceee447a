//! Between the control plane and its engine: passes everything on, slowly, or not at all.
//!
//! ```text
//! client ─▶ [passing | stalling | hung] ─▶ engine
//! ```
//! Hung is a Docker that has stopped answering: connections are taken, and nothing comes back on any. What was on its
//! way then is lost: at the end every connection that was touched is closed, as when a daemon is restarted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What it does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Passing,
    /// Each piece waits this long.
    Stalling(Duration),
    /// Nothing passes; those who were here meanwhile are closed when it ends.
    Hung,
}

/// Ends with its runtime, or when dropped.
pub struct Proxy {
    mode: Arc<watch::Sender<Mode>>,
    pub socket: PathBuf,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// To be called in a runtime.
    pub fn start(socket: &Path, engine: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
        let mode = Arc::new(watch::Sender::new(Mode::Passing));
        let (modes, engine) = (mode.clone(), engine.to_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { return };
                        connections.spawn(connection(client, engine.clone(), modes.subscribe()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            mode,
            socket: socket.to_owned(),
            _tasks: tasks,
        })
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn connection(client: UnixStream, engine: PathBuf, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Hung {
        // It is closed with the end of the hang.
        let _ = mode.wait_for(|mode| *mode != Mode::Hung).await;
        return;
    }
    let Ok(server) = UnixStream::connect(engine).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let there = copy(client_read, server_write, mode.clone());
    let back = copy(server_read, client_write, mode.clone());
    tokio::select! {
        _ = async { tokio::join!(there, back) } => {}
        () = hung(&mut mode) => {
            let _ = mode.wait_for(|mode| *mode != Mode::Hung).await;
        }
    }
}

async fn hung(mode: &mut watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode == Mode::Hung).await.is_err() {
        std::future::pending().await
    }
}

async fn copy(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        let stall = match *mode.borrow() {
            Mode::Stalling(time) => time,
            Mode::Passing | Mode::Hung => Duration::ZERO,
        };
        if !stall.is_zero() {
            tokio::time::sleep(stall).await;
        }
        to.write_all(&buffer[..n]).await?;
    }
}
