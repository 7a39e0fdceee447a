//! A session service that says yes to everything and prints what it was asked.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use clawker_wire::session::session_service_server::SessionService;
use clawker_wire::session::{
    Command, Done, Drained, Exited, FileContent, FileWritten, HelloAck, IoFrame, RegisterDone, Response as Answer,
    Started, command, response,
};
use serde_json::json;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::identity::Shown;
use crate::preamble::AGENT;
use crate::script::{Script, Token};
use crate::serve::wait_for;
use crate::{asks, say};

/// What this PID 1 plays.
#[derive(Clone)]
pub struct Part {
    pub name: String,
    pub own: Shown,
    pub script: Script,
    /// Tokens of its sessions.
    pub tokens: Arc<std::sync::Mutex<Vec<String>>>,
    /// Ends the connection.
    pub gone: Arc<Notify>,
}

pub struct Accepting {
    part: Part,
    tasks: Mutex<JoinSet<()>>,
}

impl Accepting {
    pub fn new(part: Part) -> Self {
        Self {
            part,
            tasks: Mutex::default(),
        }
    }
}

#[tonic::async_trait]
impl SessionService for Accepting {
    type SessionStream = ReceiverStream<Result<Answer, Status>>;
    type IoStream = ReceiverStream<Result<IoFrame, Status>>;

    async fn session(&self, request: Request<Streaming<Command>>) -> Result<Response<Self::SessionStream>, Status> {
        let mut commands = request.into_inner();
        let (answers, stream) = mpsc::channel(16);
        let part = self.part.clone();
        let answering = async move {
            while let Ok(Some(command)) = commands.message().await {
                let Some(bodies) = part.yes(command.body).await else {
                    return part.gone.notify_one();
                };
                for body in bodies {
                    if answers
                        .send(Ok(Answer {
                            id: command.id,
                            body: Some(body),
                        }))
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            }
        };
        self.tasks.lock().await.spawn(answering);
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn io(&self, _: Request<Streaming<IoFrame>>) -> Result<Response<Self::IoStream>, Status> {
        say(&json!({"sent": "io"}));
        Err(Status::unimplemented("forged"))
    }
}

impl Part {
    /// Says what came, and answers as the best of agents would, but for what is in the script. `None` ends the
    /// session.
    async fn yes(&self, body: Option<command::Body>) -> Option<Vec<response::Body>> {
        use command::Body;
        match body {
            Some(Body::Hello(hello)) => {
                say(&json!({"sent": "hello", "cp_life": hello.cp_life}));
                if self.script.leaves {
                    return None;
                }
                if self.script.early {
                    asks::everything(Path::new(AGENT), &self.name, &self.asker()).await;
                }
                Some(vec![response::Body::HelloAck(HelloAck {
                    protocol: clawker_wire::PROTOCOL,
                    init_life: "forged".into(),
                    build: "forged".into(),
                    command_running: self.script.running,
                    ..Default::default()
                })])
            }
            Some(Body::RegisterRequired(required)) => {
                say(&json!({"sent": "register_required"}));
                self.register(required.token).await
            }
            body => Some(yes(body)),
        }
    }

    /// Whom it says it is when it calls.
    fn asker(&self) -> Shown {
        let stolen = self.script.asks_as.as_deref().map(Shown::read);
        match stolen {
            _ if self.script.bare => Shown::default(),
            Some(Ok(stolen)) => stolen,
            _ => self.own.clone(),
        }
    }

    async fn register(&self, given: String) -> Option<Vec<response::Body>> {
        let authorization = match &self.script.token {
            Token::Given => Some(format!("Bearer {given}")),
            Token::Guessed => Some(format!("Bearer {}", "x".repeat(given.len()))),
            Token::Empty => Some("Bearer ".to_owned()),
            Token::Missing => None,
            Token::OtherScheme => Some(format!("Basic {given}")),
            Token::OfTheSessionBefore => {
                let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                tokens.push(given);
                if tokens.len() < 2 {
                    return None;
                }
                tokens.first().map(|first| format!("Bearer {first}"))
            }
            Token::From(file) => match wait_for(file).await.and_then(|()| Ok(std::fs::read_to_string(file)?)) {
                Ok(token) => Some(format!("Bearer {token}")),
                Err(error) => {
                    say(&json!({"error": format!("{error:#}")}));
                    return None;
                }
            },
            Token::LeftIn(file) => {
                let beside = file.with_extension("new");
                let left = std::fs::write(&beside, given).and_then(|()| std::fs::rename(&beside, file));
                say(&json!({"left": left.is_ok()}));
                return Some(Vec::new());
            }
        };
        let names = self.script.claims.clone().unwrap_or_else(|| asks::names(&self.name));
        let mut last = Err("not asked".to_owned());
        for _ in 0..self.script.times.unwrap_or(1) {
            last = match asks::connect(Path::new(AGENT), &self.asker()).await {
                Ok(channel) => asks::register(&channel, names.clone(), authorization.clone()).await,
                Err(error) => Err(format!("{error:#}")),
            };
            asks::report("register", last.clone());
        }
        let why = last.err().unwrap_or_default();
        let done = RegisterDone {
            ok: why.is_empty() || self.script.boasts,
            code: why.split(':').next().unwrap_or_default().to_owned(),
            ..Default::default()
        };
        Some(vec![response::Body::RegisterDone(done)])
    }
}

fn yes(body: Option<command::Body>) -> Vec<response::Body> {
    use command::Body;
    let done = || vec![response::Body::Done(Done {})];
    match body {
        Some(Body::Hello(_) | Body::RegisterRequired(_)) | None => Vec::new(),
        Some(Body::Exec(exec)) => {
            say(&json!({"sent": "exec", "exec_id": exec.exec_id}));
            let exec_id = exec.exec_id;
            vec![
                response::Body::Started(Started {
                    exec_id: exec_id.clone(),
                    pid: 99,
                }),
                response::Body::Exited(Exited {
                    exec_id: exec_id.clone(),
                    code: 0,
                    signal: 0,
                    timed_out: false,
                    oom: false,
                }),
                response::Body::Drained(Drained {
                    exec_id,
                    held_by_descendants: false,
                }),
            ]
        }
        Some(Body::WriteFile(file)) => {
            say(&json!({"sent": "write_file", "path": file.path}));
            vec![response::Body::FileWritten(FileWritten { written: true })]
        }
        Some(Body::ReadFile(file)) => {
            say(&json!({"sent": "read_file", "path": file.path}));
            vec![response::Body::FileContent(FileContent::default())]
        }
        Some(Body::AgentReady(ready)) => {
            say(&json!({"sent": "agent_ready", "secrets": ready.secrets.len()}));
            vec![response::Body::Started(Started {
                exec_id: "main".into(),
                pid: 99,
            })]
        }
        Some(Body::AgentInitialized(_)) => {
            say(&json!({"sent": "agent_initialized"}));
            done()
        }
        Some(Body::Signal(signal)) => {
            say(&json!({"sent": "signal", "signo": signal.signo}));
            done()
        }
        Some(Body::Lease(lease)) => {
            say(&json!({"sent": "lease", "seconds": lease.seconds}));
            done()
        }
        Some(Body::RotateIdentity(_)) => {
            say(&json!({"sent": "rotate_identity"}));
            done()
        }
        Some(Body::Upgrade(_)) => {
            say(&json!({"sent": "upgrade"}));
            done()
        }
        Some(Body::AckExit(_)) => done(),
    }
}
