//! A control plane that answers what a test tells it to, on a real socket, and a terminal made of buffers.

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
use clawker_wire::admin::admin_service_server::{AdminService, AdminServiceServer};
use clawker_wire::admin::*;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub const NOW: u64 = 1_769_850_000_000;

/// One message of a scripted stream.
pub enum Say<T> {
    Message(T),
    /// Waits until the test says so.
    Until(Arc<Notify>),
    /// Waits for so many words of input.
    Words(Arc<Semaphore>, u32),
    Fail(Status),
}

pub type Script<T> = Vec<Say<T>>;

/// What is answered, and what was asked.
#[derive(Default)]
pub struct Scene {
    pub agents: Vec<AgentView>,
    pub why: WhyResponse,
    pub status: clawker_wire::admin::Status,
    pub events: Vec<Script<EventRow>>,
    pub logs: Vec<LogChunk>,
    /// One for each call.
    pub start: Vec<Script<StartProgress>>,
    pub attach: Vec<Script<AttachOutput>>,
    /// One for each call.
    pub exec: Vec<Script<ExecOutput>>,
    pub wait: Exit,
    pub audit: AuditReport,
    pub head: SignedHead,
    pub export: Vec<String>,
    pub backup: Script<BackupPiece>,
    /// Heads that came along with a question.
    pub heads: Vec<SignedHead>,
    pub refuse: Option<Status>,
    pub refuse_start: Option<Status>,
    /// Keeps CreateAgent from answering.
    pub hold_create: Option<Arc<Notify>>,
    pub asked: Vec<String>,
    pub created: Option<CreateAgentRequest>,
    pub exec_started: Vec<ExecStart>,
    /// What came over an attach or an exec, as words.
    pub input: Vec<String>,
    /// One permit for each word of input.
    pub heard: Words,
}

#[derive(Clone)]
pub struct Words(pub Arc<Semaphore>);

impl Default for Words {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Scene>>);

impl Fake {
    pub fn with<T>(&self, work: impl FnOnce(&mut Scene) -> T) -> T {
        work(&mut self.0.lock().expect("no test panics in here"))
    }

    fn asked(&self, what: impl Into<String>) -> Result<(), Status> {
        self.with(|scene| {
            scene.asked.push(what.into());
            scene.refuse.clone().map_or(Ok(()), Err)
        })
    }

    fn word(&self, word: String) {
        let heard = self.with(|scene| {
            scene.input.push(word);
            scene.heard.clone()
        });
        heard.0.add_permits(1);
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

fn play<T: Send + 'static>(script: Script<T>) -> Response<Stream<T>> {
    let stream = futures::stream::iter(script).filter_map(|say| async move {
        match say {
            Say::Message(message) => Some(Ok(message)),
            Say::Fail(status) => Some(Err(status)),
            Say::Until(told) => {
                told.notified().await;
                None
            }
            Say::Words(heard, count) => {
                heard.acquire_many(count).await.expect("never closed").forget();
                None
            }
        }
    });
    Response::new(stream.boxed())
}

/// Plays the script while what comes in is written down.
fn play_and_listen<I: Send + 'static, T: Send + 'static>(
    fake: Fake,
    mut input: Streaming<I>,
    script: Script<T>,
    word: fn(I) -> String,
) -> Response<Stream<T>> {
    let (stop, mut stopped) = mpsc::channel::<()>(1);
    let listening = async move {
        loop {
            tokio::select! {
                message = input.message() => match message {
                    Ok(Some(message)) => fake.word(word(message)),
                    _ => break,
                },
                _ = stopped.recv() => break,
            }
        }
    };
    let listening = futures::stream::once(listening).filter_map(|()| async { None });
    let playing = play(script)
        .into_inner()
        .chain(futures::stream::once(async move { drop(stop) }).filter_map(|()| async { None }));
    Response::new(futures::stream::select(playing, listening).boxed())
}

#[async_trait::async_trait]
impl AdminService for Fake {
    type StartAgentStream = Stream<StartProgress>;
    type AttachStream = Stream<AttachOutput>;
    type ExecStream = Stream<ExecOutput>;
    type LogsStream = Stream<LogChunk>;
    type WatchEventsStream = Stream<EventRow>;
    type AuditExportStream = Stream<AuditLine>;
    type BackupStream = Stream<BackupPiece>;

    async fn audit_verify(&self, request: Request<AuditVerifyRequest>) -> Answer<AuditReport> {
        self.asked("audit verify")?;
        Ok(Response::new(self.with(|scene| {
            scene.heads = request.into_inner().heads;
            scene.audit.clone()
        })))
    }

    async fn audit_head(&self, _: Request<AuditHeadRequest>) -> Answer<SignedHead> {
        self.asked("audit head")?;
        Ok(Response::new(self.with(|scene| scene.head.clone())))
    }

    async fn audit_export(&self, request: Request<AuditExportRequest>) -> Answer<Self::AuditExportStream> {
        self.asked(format!("audit export {:?}", request.into_inner().cursor))?;
        let lines = self.with(|scene| std::mem::take(&mut scene.export));
        Ok(play(
            lines.into_iter().map(|json| Say::Message(AuditLine { json })).collect(),
        ))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Answer<Self::BackupStream> {
        self.asked("backup")?;
        Ok(play(self.with(|scene| std::mem::take(&mut scene.backup))))
    }

    async fn create_agent(&self, request: Request<CreateAgentRequest>) -> Answer<CreateAgentResponse> {
        self.asked("create")?;
        let hold = self.with(|scene| {
            scene.created = Some(request.into_inner());
            scene.hold_create.clone()
        });
        if let Some(hold) = hold {
            hold.notified().await;
        }
        Ok(Response::new(CreateAgentResponse {
            name: "clawker.web.scout".into(),
            container_id: "c".repeat(64),
            unchanged: false,
        }))
    }

    async fn start_agent(&self, request: Request<StartAgentRequest>) -> Answer<Self::StartAgentStream> {
        let request = request.into_inner();
        self.asked(format!("start {} detach={}", request.agent, request.detach))?;
        if let Some(refusal) = self.with(|scene| scene.refuse_start.take()) {
            return Err(refusal);
        }
        Ok(play(self.with(|scene| scene.start.remove(0))))
    }

    async fn stop_agent(&self, request: Request<StopAgentRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.asked(format!("stop {} {:?}", request.agent, request.timeout))?;
        Ok(Response::new(Done {}))
    }

    async fn restart_agent(&self, request: Request<StopAgentRequest>) -> Answer<Done> {
        self.asked(format!("restart {}", request.into_inner().agent))?;
        Ok(Response::new(Done {}))
    }

    async fn remove_agent(&self, request: Request<RemoveAgentRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.asked(format!("remove {} force={}", request.agent, request.force))?;
        if request.agent == "missing" {
            return Err(Status::not_found("no agent `missing`"));
        }
        Ok(Response::new(Done {}))
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Answer<ListAgentsResponse> {
        self.asked(format!("list all={}", request.into_inner().all))?;
        Ok(Response::new(ListAgentsResponse {
            agents: self.with(|scene| scene.agents.clone()),
        }))
    }

    async fn get_agent(&self, request: Request<AgentRef>) -> Answer<AgentView> {
        let name = request.into_inner().agent;
        let found = self.with(|scene| scene.agents.iter().find(|agent| agent.name.ends_with(&name)).cloned());
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found("not in this play"))
    }

    async fn wait_agent(&self, request: Request<AgentRef>) -> Answer<Exit> {
        self.asked(format!("wait {}", request.into_inner().agent))?;
        Ok(Response::new(self.with(|scene| scene.wait)))
    }

    async fn attach(&self, request: Request<Streaming<AttachInput>>) -> Answer<Self::AttachStream> {
        self.asked("attach")?;
        let script = self.with(|scene| scene.attach.remove(0));
        Ok(play_and_listen(self.clone(), request.into_inner(), script, attach_word))
    }

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Answer<Self::ExecStream> {
        self.asked("exec")?;
        let mut input = request.into_inner();
        if let Some(ExecInput {
            body: Some(exec_input::Body::Start(start)),
        }) = input.message().await?
        {
            self.with(|scene| scene.exec_started.push(start));
        }
        let script = self.with(|scene| match scene.exec.is_empty() {
            true => Script::new(),
            false => scene.exec.remove(0),
        });
        Ok(play_and_listen(self.clone(), input, script, exec_word))
    }

    async fn logs(&self, _: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        self.asked("logs")?;
        Ok(play(
            self.with(|scene| scene.logs.drain(..).map(Say::Message).collect()),
        ))
    }

    async fn contain(&self, request: Request<ContainRequest>) -> Answer<ContainResponse> {
        let r = request.into_inner();
        self.asked(format!("contain {} {} {:?} {:?}", r.agent, r.action, r.allow, r.reason))?;
        Ok(Response::new(ContainResponse {
            in_force: "locked".into(),
            read_back: "drop on eth0".into(),
            micros: 120,
        }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Answer<ContainResponse> {
        self.asked(format!("release {}", request.into_inner().agent))?;
        Ok(Response::new(ContainResponse {
            in_force: "open".into(),
            read_back: String::new(),
            micros: 1_090,
        }))
    }

    async fn why(&self, _: Request<AgentRef>) -> Answer<WhyResponse> {
        self.asked("why")?;
        Ok(Response::new(self.with(|scene| scene.why.clone())))
    }

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        let r = request.into_inner();
        let cursor = match r.cursor.as_str() {
            "" => String::new(),
            cursor => format!(" cursor={cursor}"),
        };
        self.asked(format!(
            "events after={:?} since={:?} {:?}{cursor}",
            r.after_seq, r.since_ms, r.agent
        ))?;
        Ok(play(self.with(|scene| scene.events.remove(0))))
    }

    async fn get_authority(&self, _: Request<GetAuthorityRequest>) -> Answer<Authority> {
        self.asked("ca")?;
        Ok(Response::new(authority()))
    }

    async fn rotate_authority(&self, _: Request<RotateAuthorityRequest>) -> Answer<Authority> {
        self.asked("ca rotate")?;
        Ok(Response::new(authority()))
    }

    async fn request_fleet_certificate(
        &self,
        _: Request<RequestFleetCertificateRequest>,
    ) -> Answer<clawker_wire::admin::FleetRequest> {
        self.asked("ca request")?;
        let (root, pem) = ("aa".repeat(32), "-----BEGIN CERTIFICATE REQUEST-----\nx\n".to_owned());
        Ok(Response::new(clawker_wire::admin::FleetRequest { root, pem }))
    }

    async fn install_fleet_certificate(&self, request: Request<InstallFleetCertificateRequest>) -> Answer<Authority> {
        let certificate = request.into_inner().certificate;
        self.asked(format!("ca install {}", String::from_utf8_lossy(&certificate)))?;
        Ok(Response::new(authority()))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<clawker_wire::admin::Status> {
        self.asked("status")?;
        Ok(Response::new(self.with(|scene| scene.status.clone())))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        self.asked(format!("shutdown {}", request.into_inner().agents))?;
        Ok(Response::new(ShutdownResponse {
            untold: vec!["clawker.demo.deaf".into()],
        }))
    }
}

/// In the middle of a rotation.
fn authority() -> Authority {
    Authority {
        phase: "introduced".into(),
        roots: vec![
            Root {
                id: "aa".repeat(32),
                signs: true,
                not_after: Some(2_000_000_000),
                fleet: Some(FleetCertificate {
                    id: "cc".repeat(32),
                    issuer: "the fleet\u{1b}[31m".into(),
                    not_after: 2_000_000_000,
                }),
            },
            Root {
                id: "bb".repeat(32),
                signs: false,
                not_after: None,
                fleet: None,
            },
        ],
        leaf_seconds: 3600,
        agents: 3,
        agents_current: 1,
    }
}

fn attach_word(input: AttachInput) -> String {
    use attach_input::Body;
    match input.body {
        Some(Body::Agent(agent)) => format!("agent {agent}"),
        Some(Body::Stdin(bytes)) => format!("stdin {}", String::from_utf8_lossy(&bytes)),
        Some(Body::StdinEof(_)) => "eof".into(),
        Some(Body::Resize(size)) => format!("resize {}x{}", size.rows, size.cols),
        Some(Body::Signal(number)) => format!("signal {number}"),
        None => "nothing".into(),
    }
}

fn exec_word(input: ExecInput) -> String {
    use exec_input::Body;
    match input.body {
        Some(Body::Start(_)) => "start again".into(),
        Some(Body::Stdin(bytes)) => format!("stdin {}", String::from_utf8_lossy(&bytes)),
        Some(Body::StdinEof(_)) => "eof".into(),
        Some(Body::Resize(size)) => format!("resize {}x{}", size.rows, size.cols),
        Some(Body::Signal(number)) => format!("signal {number}"),
        Some(Body::Ack(ack)) => format!("has {} {}", ack.stdout, ack.stderr),
        None => "nothing".into(),
    }
}

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
