//! A control plane that answers what a test tells it to.

use std::sync::{Arc, Mutex};

use clawker_wire::admin::admin_service_server::AdminService;
use clawker_wire::admin::*;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tonic::{Request, Response, Status, Streaming};

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
    pub plugins: Vec<PluginEntry>,
    /// What is said of a component; what isn't granted yet is missing.
    pub component: InstallPluginResponse,
    pub explanation: Explanation,
    pub checks: Vec<PluginCheck>,
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

    async fn install_plugin(&self, request: Request<Streaming<InstallPluginRequest>>) -> Answer<InstallPluginResponse> {
        use install_plugin_request::Part;
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.part);
        let Some(Part::About(about)) = first else {
            return Err(Status::invalid_argument("no `about`"));
        };
        let mut bytes = 0;
        while let Some(InstallPluginRequest {
            part: Some(Part::Component(piece)),
        }) = messages.message().await?
        {
            bytes += piece.len();
        }
        let PluginAbout {
            preview,
            upgrade,
            grants,
            trial,
            mode,
            settings,
            development_key,
            ..
        } = about;
        let own = development_key.split_once(' ').map(|(_, name)| name.to_owned());
        self.asked(format!(
            "install {bytes} bytes, preview {preview}, upgrade {upgrade}, grants {grants:?}, trial {trial:?}, mode {mode:?}, \
             settings {settings:?}, own {own:?}"
        ))?;
        let mut component = self.with(|scene| scene.component.clone());
        component.missing = component
            .asked
            .iter()
            .filter(|asked| !grants.contains(asked))
            .cloned()
            .collect();
        component.done = !preview && component.missing.is_empty();
        Ok(Response::new(component))
    }

    async fn list_plugins(&self, _: Request<ListPluginsRequest>) -> Answer<ListPluginsResponse> {
        self.asked("plugin list")?;
        let plugins = self.with(|scene| scene.plugins.clone());
        Ok(Response::new(ListPluginsResponse { plugins }))
    }

    async fn change_plugin(&self, request: Request<ChangePluginRequest>) -> Answer<PluginEntry> {
        let request = request.into_inner();
        self.asked(format!(
            "change {} enabled {:?} mode {:?} version {:?}",
            request.name,
            request.enabled,
            request.mode,
            request.version()
        ))?;
        Ok(Response::new(self.with(|scene| scene.plugins[0].clone())))
    }

    async fn remove_plugin(&self, request: Request<RemovePluginRequest>) -> Answer<Done> {
        self.asked(format!("plugin remove {}", request.into_inner().name))?;
        Ok(Response::new(Done {}))
    }

    async fn explain_decision(&self, request: Request<ExplainDecisionRequest>) -> Answer<Explanation> {
        self.asked(format!("explain {}", request.into_inner().decision))?;
        Ok(Response::new(self.with(|scene| scene.explanation.clone())))
    }

    async fn check_plugins(&self, _: Request<CheckPluginsRequest>) -> Answer<CheckPluginsResponse> {
        self.asked("plugin doctor")?;
        let checks = self.with(|scene| scene.checks.clone());
        Ok(Response::new(CheckPluginsResponse { checks }))
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
