//! `SessionService.Session`: commands in, responses out.
//!
//! ```text
//!  connected --Hello within 10 s--> open --commands--> open --stream or connection ends--> over
//! ```
//! Commands that PID 1 carries out are passed on and their answers forwarded in order; files and registration are
//! done here. The end of the stream is the end of the connection: PID 1 dials anew.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::session_service_server::SessionService;
use clawker_wire::session::{self as pb, IoFrame, Response};
use clawker_wire::{OLDEST_PROTOCOL, PROTOCOL};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::hub::{self, Hub, RESPONSES, Responses, respond};
use super::serve::Identity;
use super::{convert, io, register, rotate};
use crate::confined::{self, FileError, NewFile, When};
use crate::halves::Request as Ask;
use crate::user::Files;

const HELLO: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_millis(100);

pub struct Service {
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    over: Arc<Notify>,
    /// Everything that this connection has started; gone with it.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Service {
    /// `over` is notified when the session is.
    pub fn new(hub: Arc<Hub>, identity: Arc<Identity>, over: Arc<Notify>) -> Self {
        Self {
            hub,
            identity,
            over,
            tasks: Arc::default(),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Service {
    type SessionStream = BoxStream<Response>;
    type IoStream = BoxStream<IoFrame>;

    async fn session(
        &self,
        request: Request<Streaming<pb::Command>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        let (to, responses) = mpsc::channel(RESPONSES);
        let session = Session {
            hub: Arc::clone(&self.hub),
            identity: Arc::clone(&self.identity),
            to,
        };
        let over = Arc::clone(&self.over);
        self.spawn(async move {
            let result = session.run(request.into_inner()).await;
            session.hub.leave(&session.to);
            if let Err(status) = result {
                let _ = session.to.send(Err(status)).await;
                // The reason goes out before the connection does.
                tokio::time::sleep(FAREWELL).await;
            }
            over.notify_one();
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn io(&self, request: Request<Streaming<IoFrame>>) -> Result<tonic::Response<Self::IoStream>, Status> {
        let (frames, tasks) = io::attach(Arc::clone(&self.hub), request.into_inner()).await?;
        for task in tasks {
            self.spawn(task);
        }
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

struct Session {
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    to: Responses,
}

impl Session {
    async fn run(&self, mut commands: Streaming<pb::Command>) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO, commands.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("no Hello came"))??;
        let Some(pb::Command {
            id,
            body: Some(Command::Hello(hello)),
        }) = first
        else {
            return Err(Status::failed_precondition("the first message is Hello"));
        };
        if hello.protocol < OLDEST_PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "generation {} of the protocol is spoken no more; this speaks {OLDEST_PROTOCOL} to {PROTOCOL}",
                hello.protocol
            )));
        }
        let lease = hello.lease.map(|lease| lease.seconds);
        let heard = hub::Session {
            protocol: hello.protocol.min(PROTOCOL),
            to: self.to.clone(),
        };
        self.hub.hello(id, lease, heard.clone());
        // Files and registration may take long; nothing else waits for them.
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                command = commands.message() => match command? {
                    Some(pb::Command { id, body: Some(body) }) => self.obey(id, body, &heard, &mut tasks)?,
                    Some(_) => return Err(Status::invalid_argument("a command without a body")),
                    None => return Ok(()),
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    fn obey(&self, id: u64, command: Command, heard: &hub::Session, tasks: &mut JoinSet<()>) -> Result<(), Status> {
        let ask = match command {
            Command::Hello(_) => return Err(Status::failed_precondition("a second Hello")),
            Command::WriteFile(file) => {
                self.in_background(id, tasks, move || write_file(&file));
                return Ok(());
            }
            Command::ReadFile(file) => {
                self.in_background(id, tasks, move || read_file(&file));
                return Ok(());
            }
            Command::RegisterRequired(required) => {
                let (hub, identity, to) = (Arc::clone(&self.hub), Arc::clone(&self.identity), self.to.clone());
                tasks.spawn(async move {
                    let done = register::register(&hub, &identity, &required.token).await;
                    respond(&to, id, Body::RegisterDone(done));
                });
                return Ok(());
            }
            Command::RotateIdentity(rotate) => {
                let (hub, identity, to) = (Arc::clone(&self.hub), Arc::clone(&self.identity), self.to.clone());
                tasks.spawn(async move {
                    let (body, renewed) = rotate::rotate(&hub, &identity, rotate).await;
                    respond(&to, id, body);
                    if renewed {
                        register::confirm(&hub, &identity).await;
                    }
                });
                return Ok(());
            }
            Command::Exec(exec) => Ask::Exec(Box::new(convert::exec(exec))),
            Command::Signal(signal) => Ask::Signal {
                exec_id: signal.exec_id,
                signo: signal.signo,
            },
            Command::AgentInitialized(_) => Ask::Initialized,
            Command::AgentReady(ready) => match convert::ready(ready) {
                Some(ready) => Ask::Ready(Box::new(ready)),
                None => {
                    respond(
                        &self.to,
                        id,
                        convert::failed("bad_request", "AgentReady without a command"),
                    );
                    return Ok(());
                }
            },
            Command::Lease(lease) => Ask::Lease { seconds: lease.seconds },
            Command::AckExit(ack) => Ask::AckExit { exec_id: ack.exec_id },
            Command::Upgrade(upgrade) => match <[u8; 32]>::try_from(&upgrade.digest[..]) {
                Ok(digest) => Ask::Upgrade { digest },
                Err(_) => {
                    let body = convert::failed("bad_request", "a digest has 32 bytes");
                    respond(&self.to, id, body);
                    return Ok(());
                }
            },
        };
        self.hub.forward(id, ask, heard.clone());
        Ok(())
    }

    /// On a thread that may block: the file may lie on a share that doesn't answer.
    fn in_background(
        &self,
        id: u64,
        tasks: &mut JoinSet<()>,
        work: impl FnOnce() -> Result<Body, FileError> + Send + 'static,
    ) {
        let to = self.to.clone();
        tasks.spawn_blocking(move || {
            let body = work().unwrap_or_else(|error| convert::failed(error.code(), error.to_string()));
            respond(&to, id, body);
        });
    }
}

fn write_file(file: &pb::WriteFile) -> Result<Body, FileError> {
    let root = root(&file.path)?;
    let owner = match Files::read().resolve(&file.owner) {
        Ok(owner) => owner,
        Err(error) => return Ok(convert::failed("bad_user", error.to_string())),
    };
    let path = confined::at_home(&file.path, &owner.home);
    let written = confined::write(
        &root,
        &NewFile {
            path: &path,
            mode: file.mode,
            uid: owner.uid,
            gid: owner.gid,
            when: match file.when() {
                pb::WriteWhen::Always => When::Always,
                pb::WriteWhen::IfAbsent => When::IfAbsent,
                pb::WriteWhen::IfChanged => When::IfChanged,
            },
            content: &file.content,
        },
    )?;
    Ok(Body::FileWritten(pb::FileWritten { written }))
}

fn read_file(file: &pb::ReadFile) -> Result<Body, FileError> {
    let max = if file.max == 0 {
        confined::MAX_FILE
    } else {
        file.max as usize
    };
    let mut path = file.path.clone();
    if path.starts_with("~/") {
        path = match Files::read().resolve(&file.user) {
            Ok(user) => confined::at_home(&path, &user.home),
            Err(error) => return Ok(convert::failed("bad_user", error.to_string())),
        };
    }
    let content = confined::read(&root(&path)?, &path, max)?;
    Ok(Body::FileContent(pb::FileContent {
        content: content.into(),
    }))
}

fn root(path: &str) -> Result<std::os::fd::OwnedFd, FileError> {
    confined::root().map_err(|source| FileError::Io {
        what: "opening the root for",
        path: path.to_owned(),
        source,
    })
}
