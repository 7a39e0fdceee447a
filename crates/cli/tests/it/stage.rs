//! Where commands run in tests: a fake control plane on a real socket, and a terminal made of buffers.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Parser;
use clawker_cli::term::{RawGuard, Settings, Signal, Signals, Size, Ttys, World};
use clawker_cli::{Cli, Term};
use clawker_wire::admin::admin_service_server::AdminServiceServer;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};

use crate::fake::Fake;

pub const NOW: u64 = 1_769_850_000_000;

/// A fake that listens, until it is dropped.
pub struct Stage {
    pub fake: Fake,
    pub dir: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Stage {
    pub fn new() -> Self {
        let mut stage = Self::empty();
        stage.serve();
        stage
    }

    /// Nobody listens yet.
    pub fn empty() -> Self {
        Self {
            fake: Fake::default(),
            dir: tempfile::tempdir().expect("a folder"),
            tasks: JoinSet::new(),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    pub fn serve(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).expect("listening");
        let server = tonic::transport::Server::builder().add_service(AdminServiceServer::new(self.fake.clone()));
        self.tasks.spawn(async move {
            server
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .expect("serving");
        });
    }

    pub async fn run(&self, line: &[&str], props: Props) -> Outcome {
        let socket = self.socket();
        let socket = socket.to_str().expect("UTF-8");
        let argv = ["clawker", "--socket", socket].into_iter().chain(line.iter().copied());
        props
            .run(Cli::try_parse_from(argv).expect("a good command line"), socket)
            .await
    }
}

/// What the terminal of a test is like.
#[derive(Default)]
pub struct Props {
    pub stdin: Option<Vec<u8>>,
    pub tty: Ttys,
    pub width: Option<u16>,
    pub colour: bool,
    pub vars: HashMap<String, String>,
    pub program_dir: Option<PathBuf>,
    pub cwd: PathBuf,
    /// Numbers of signals, as they are sent.
    pub signals: Option<mpsc::Receiver<Signal>>,
    pub stderr: Buffer,
    /// Whoever read our stdout is gone.
    pub closed: bool,
    /// Counts: raw modes entered, left.
    pub raw: Arc<Mutex<(u32, u32)>>,
}

pub struct Outcome {
    pub code: u8,
    pub stdout: Vec<u8>,
    pub err: String,
}

impl Outcome {
    pub fn out(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("UTF-8")
    }
}

impl Props {
    pub fn terminal(width: u16) -> Self {
        Self {
            width: Some(width),
            ..Self::default()
        }
    }

    pub async fn run(self, cli: Cli, socket: &str) -> Outcome {
        let (stdout, stderr) = (Buffer::default(), self.stderr.clone());
        let settings = Settings {
            json: cli.globals.json,
            quiet: cli.globals.quiet,
            colour: self.colour,
            reconnect_for: Duration::from_secs(1),
            drain_for: Duration::from_millis(500),
        };
        let stdin: Box<dyn AsyncRead + Send + Unpin> = match self.stdin {
            Some(bytes) => Box::new(io::Cursor::new(bytes)),
            None => Box::new(Silent),
        };
        let world = Props { stdin: None, ..self };
        let mut term = Term {
            stdin,
            stdout: if world.closed {
                Box::new(Closed)
            } else {
                Box::new(stdout.clone())
            },
            stderr: Box::new(stderr.clone()),
            tty: world.tty,
            width: world.width,
            settings,
            world: Box::new(Backdrop {
                signals: Mutex::new(world.signals),
                props: (world.vars, world.program_dir, world.cwd),
                raw: world.raw,
            }),
        };
        let run = clawker_cli::main(cli, &mut term);
        let code = tokio::time::timeout(Duration::from_secs(20), run)
            .await
            .expect("ends in time");
        Outcome {
            code,
            stdout: stdout.take(),
            err: String::from_utf8(stderr.take())
                .expect("UTF-8")
                .replace(socket, "SOCKET"),
        }
    }
}

struct Backdrop {
    signals: Mutex<Option<mpsc::Receiver<Signal>>>,
    props: (HashMap<String, String>, Option<PathBuf>, PathBuf),
    raw: Arc<Mutex<(u32, u32)>>,
}

impl World for Backdrop {
    fn now_ms(&self) -> u64 {
        NOW
    }
    fn var(&self, name: &str) -> Option<String> {
        self.props.0.get(name).cloned()
    }
    fn cwd(&self) -> io::Result<PathBuf> {
        Ok(self.props.2.clone())
    }
    fn ids(&self) -> (u32, u32) {
        (1000, 100)
    }
    fn program_dir(&self) -> Option<PathBuf> {
        self.props.1.clone()
    }
    fn word(&self) -> io::Result<String> {
        Ok("word".to_owned())
    }
    fn signals(&self) -> io::Result<Signals> {
        match self.signals.lock().expect("signals").take() {
            Some(signals) => Ok(ReceiverStream::new(signals).chain(futures::stream::pending()).boxed()),
            None => Ok(futures::stream::pending().boxed()),
        }
    }
    fn size(&self) -> Option<Size> {
        Some(Size { rows: 24, cols: 80 })
    }
    fn raw(&self) -> io::Result<RawGuard> {
        self.raw.lock().expect("raw").0 += 1;
        let raw = self.raw.clone();
        Ok(RawGuard::new(move || raw.lock().expect("raw").1 += 1))
    }
}

#[derive(Clone, Default)]
pub struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub fn contains(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().expect("buffer")).contains(text)
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("buffer"))
    }
}

impl AsyncWrite for Buffer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().expect("buffer").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stdin on which nobody types.
struct Silent;

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut tokio::io::ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A pipe that nobody reads any more.
struct Closed;

impl AsyncWrite for Closed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
