//! A session service that says yes to everything and prints what it was asked.

use std::sync::Arc;

use clawker_identity::Credentials;
use clawker_wire::session::session_service_server::SessionService;
use clawker_wire::session::{
    Command, Done, Drained, Exited, FileContent, FileWritten, HelloAck, IoFrame, RegisterDone, Response as Answer,
    Started, command, response,
};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::say;
use crate::serve::register;

pub struct Accepting {
    name: String,
    own: Arc<Credentials>,
    tasks: Mutex<JoinSet<()>>,
}

impl Accepting {
    pub fn new(name: &str, own: Arc<Credentials>) -> Self {
        Self {
            name: name.to_owned(),
            own,
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
        let (name, own) = (self.name.clone(), self.own.clone());
        let answering = async move {
            while let Ok(Some(command)) = commands.message().await {
                for body in yes(&name, &own, command.body).await {
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

/// Says what came, and answers as the best of agents would.
async fn yes(name: &str, own: &Credentials, body: Option<command::Body>) -> Vec<response::Body> {
    use command::Body;
    let done = || vec![response::Body::Done(Done {})];
    match body {
        Some(Body::Hello(hello)) => {
            say(&json!({"sent": "hello", "cp_life": hello.cp_life}));
            let registered = register(name, "a-token-that-was-never-minted", own).await;
            say(&json!({"registered": registered.is_ok(), "why": registered.err()}));
            vec![response::Body::HelloAck(HelloAck {
                protocol: clawker_wire::PROTOCOL,
                init_life: "forged".into(),
                build: "forged".into(),
                ..Default::default()
            })]
        }
        Some(Body::RegisterRequired(required)) => {
            say(&json!({"sent": "register_required"}));
            let registered = register(name, &required.token, own).await;
            say(&json!({"registered": registered.is_ok(), "why": registered.err()}));
            vec![response::Body::RegisterDone(RegisterDone {
                ok: true,
                ..Default::default()
            })]
        }
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
        Some(Body::AckExit(_)) => done(),
        None => Vec::new(),
    }
}
