//! The control plane's end of a session: commands out, answers in, execs followed by id.
//!
//! One reader task per connection owns the incoming half. [`Session`] is a cheap handle; once the connection is
//! gone every call on it answers [`SessionError::Lost`], and whoever holds it asks the agent for the next one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawker_wire::MAX_MESSAGE;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::{self as proto, Command, IoFrame, Open, Response, command, io_frame, response};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// How long clawkerd may take to answer a command that it can answer at once.
const ANSWER: Duration = Duration::from_secs(15);

/// What went wrong with a call on a session.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    #[error("the session was lost: {0}")]
    Lost(String),
    #[error("clawkerd did not answer {what} in time")]
    Silent { what: &'static str },
    #[error("clawkerd refused {what}: {message} ({code})")]
    Refused {
        what: &'static str,
        code: String,
        message: String,
    },
    #[error("clawkerd answered {what} with something else")]
    Confused { what: &'static str },
    #[error("starting {exec_id}: {message}")]
    ExecFailed {
        exec_id: String,
        kind: String,
        errno: i32,
        message: String,
    },
}

/// What clawkerd reports by itself.
#[derive(Debug, Clone)]
pub enum Report {
    Health(proto::Health),
    SessionHalfStopped {
        lives: u32,
    },
    /// The agent's own command ended.
    MainExited(proto::Exited),
    /// The connection ended; nothing follows.
    Lost(String),
}

/// A handle to one established session.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    next_id: AtomicU64,
    state: Mutex<State>,
    client: SessionServiceClient<Channel>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<response::Body>>,
    execs: HashMap<String, watch::Sender<ExecState>>,
    lost: Option<String>,
}

/// How far an exec is.
#[derive(Debug, Clone, Default)]
struct ExecState {
    exited: Option<proto::Exited>,
    drained: Option<proto::Drained>,
    lost: Option<String>,
}

/// The exec id of the agent's own command.
pub const MAIN: &str = "main";

impl Session {
    /// Opens the session stream on a connected channel. The second value is the reader, to be run by the caller for
    /// as long as the session is to live.
    pub async fn open(
        channel: Channel,
        reports: mpsc::Sender<Report>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), SessionError> {
        let lost = |status: tonic::Status| SessionError::Lost(status.message().to_owned());
        let mut client = SessionServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let (commands, outgoing) = mpsc::channel(64);
        // A peer may speak HTTP/2 and never answer.
        let opening = tokio::time::timeout(ANSWER, client.session(ReceiverStream::new(outgoing)));
        let incoming = opening
            .await
            .map_err(|_| SessionError::Silent { what: "the session" })?
            .map_err(lost)?
            .into_inner();
        let inner = Arc::new(Inner {
            commands,
            next_id: AtomicU64::new(1),
            state: Mutex::default(),
            client,
        });
        let reader = read(inner.clone(), incoming, reports);
        Ok((Self { inner }, reader))
    }

    /// Sends a command and waits for its answer.
    pub async fn call(&self, what: &'static str, body: command::Body) -> Result<response::Body, SessionError> {
        self.call_within(ANSWER, what, body).await
    }

    /// The same for what may take another time than most.
    pub async fn call_within(
        &self,
        limit: Duration,
        what: &'static str,
        body: command::Body,
    ) -> Result<response::Body, SessionError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.inner.lock();
            if let Some(why) = &state.lost {
                return Err(SessionError::Lost(why.clone()));
            }
            state.waiting.insert(id, answer);
        }
        let sent = self.inner.commands.send(Command { id, body: Some(body) }).await;
        let outcome = match sent {
            Err(_) => Err(self.lost()),
            Ok(()) => match tokio::time::timeout(limit, answered).await {
                Ok(Ok(response::Body::Failed(failed))) => Err(SessionError::Refused {
                    what,
                    code: failed.code,
                    message: failed.message,
                }),
                Ok(Ok(body)) => Ok(body),
                Ok(Err(_)) => Err(self.lost()),
                Err(_) => Err(SessionError::Silent { what }),
            },
        };
        self.inner.lock().waiting.remove(&id);
        outcome
    }

    /// A command that is answered by Done.
    pub async fn tell(&self, what: &'static str, body: command::Body) -> Result<(), SessionError> {
        match self.call(what, body).await? {
            response::Body::Done(_) => Ok(()),
            _ => Err(SessionError::Confused { what }),
        }
    }

    pub async fn hello(&self, hello: proto::Hello) -> Result<proto::HelloAck, SessionError> {
        let response::Body::HelloAck(ack) = self.call("Hello", command::Body::Hello(hello)).await? else {
            return Err(SessionError::Confused { what: "Hello" });
        };
        let mut state = self.inner.lock();
        for exec in &ack.execs {
            let exec_state = state.execs.entry(exec.exec_id.clone()).or_default();
            exec_state.send_modify(|known| {
                known.exited.clone_from(&exec.exited);
                if exec.drained {
                    known.drained = Some(proto::Drained {
                        exec_id: exec.exec_id.clone(),
                        held_by_descendants: false,
                    });
                }
            });
        }
        drop(state);
        Ok(ack)
    }

    /// Starts an exec, or attaches to the one of the same id and spec.
    pub async fn exec(&self, exec: proto::Exec) -> Result<ExecHandle, SessionError> {
        let id = exec.exec_id.clone();
        // Known before it is asked for: its exit may be reported before the answer is read.
        let state = self.inner.lock().execs.entry(id.clone()).or_default().subscribe();
        match self.call("Exec", command::Body::Exec(exec)).await? {
            response::Body::Started(started) => Ok(ExecHandle {
                id,
                pid: started.pid,
                session: self.clone(),
                state,
            }),
            response::Body::ExecFailed(failed) => Err(SessionError::ExecFailed {
                exec_id: id,
                kind: failed.kind,
                errno: failed.errno,
                message: failed.message,
            }),
            _ => Err(SessionError::Confused { what: "Exec" }),
        }
    }

    /// To the exec's whole tree. How many processes it reached is known from generation 2 on.
    pub async fn signal(&self, exec_id: &str, signo: u32) -> Result<Option<proto::Signalled>, SessionError> {
        let signal = proto::Signal {
            exec_id: exec_id.to_owned(),
            signo,
        };
        match self.call("Signal", command::Body::Signal(signal)).await? {
            response::Body::Signalled(signalled) => Ok(Some(signalled)),
            response::Body::Done(_) => Ok(None),
            _ => Err(SessionError::Confused { what: "Signal" }),
        }
    }

    pub async fn lease(&self, seconds: u32) -> Result<(), SessionError> {
        self.tell("Lease", command::Body::Lease(proto::Lease { seconds })).await
    }

    /// Lets PID 1 end now that it has said how the agent's command ended. What it exits with is kept by Docker, so
    /// nothing is lost if nobody hears this; PID 1 doesn't live to answer it.
    pub async fn forget_main(&self) {
        let ack = proto::AckExit {
            exec_id: MAIN.to_owned(),
        };
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let command = Command {
            id,
            body: Some(command::Body::AckExit(ack)),
        };
        // A session that is lost already ends PID 1's wait as well.
        let _ = self.inner.commands.send(command).await;
    }

    /// Whether this session is still the one that its connection carries.
    pub fn is_alive(&self) -> bool {
        self.inner.lock().lost.is_none()
    }

    fn lost(&self) -> SessionError {
        SessionError::Lost(self.inner.lock().lost.clone().unwrap_or_else(|| "closed".to_owned()))
    }
}

/// An exec in an agent's container.
pub struct ExecHandle {
    pub id: String,
    pub pid: u32,
    session: Session,
    state: watch::Receiver<ExecState>,
}

impl ExecHandle {
    /// Attaches to its standard streams. The first answer, `Opened`, has been read when this returns.
    pub async fn io(
        &self,
        open: Open,
    ) -> Result<(mpsc::Sender<IoFrame>, tonic::Streaming<IoFrame>, proto::Opened), SessionError> {
        let lost = |status: tonic::Status| SessionError::Lost(status.message().to_owned());
        let (frames, outgoing) = mpsc::channel(16);
        let first = IoFrame {
            body: Some(io_frame::Body::Open(open)),
        };
        frames.send(first).await.map_err(|_| self.session.lost())?;
        let mut client = self.session.inner.client.clone();
        let mut incoming = client
            .io(ReceiverStream::new(outgoing))
            .await
            .map_err(lost)?
            .into_inner();
        match incoming.message().await.map_err(lost)?.and_then(|frame| frame.body) {
            Some(io_frame::Body::Opened(opened)) => Ok((frames, incoming, opened)),
            _ => Err(SessionError::Confused { what: "Open" }),
        }
    }

    /// Waits for its exit.
    pub async fn exited(&self) -> Result<proto::Exited, SessionError> {
        self.when(|state| state.exited.clone()).await
    }

    /// Waits until its output is at its end.
    pub async fn drained(&self) -> Result<proto::Drained, SessionError> {
        self.when(|state| state.drained.clone()).await
    }

    /// Lets PID 1 forget it; to be called once its result is synced.
    pub async fn ack(&self) -> Result<(), SessionError> {
        let ack = proto::AckExit {
            exec_id: self.id.clone(),
        };
        self.session.tell("AckExit", command::Body::AckExit(ack)).await?;
        self.session.inner.lock().execs.remove(&self.id);
        Ok(())
    }

    async fn when<T>(&self, get: impl Fn(&ExecState) -> Option<T>) -> Result<T, SessionError> {
        let mut state = self.state.clone();
        loop {
            {
                let now = state.borrow_and_update();
                if let Some(value) = get(&now) {
                    return Ok(value);
                }
                if let Some(why) = &now.lost {
                    return Err(SessionError::Lost(why.clone()));
                }
            }
            state.changed().await.map_err(|_| self.session.lost())?;
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, why: &str) {
        let mut state = self.lock();
        state.lost = Some(why.to_owned());
        state.waiting.clear();
        for exec in state.execs.values() {
            exec.send_modify(|exec| exec.lost = Some(why.to_owned()));
        }
    }

    fn note(&self, exec_id: &str, change: impl FnOnce(&mut ExecState)) {
        self.lock()
            .execs
            .entry(exec_id.to_owned())
            .or_default()
            .send_modify(change);
    }
}

/// Reads until the connection ends, and says so last.
async fn read(inner: Arc<Inner>, mut incoming: tonic::Streaming<Response>, reports: mpsc::Sender<Report>) {
    let why = loop {
        let response = match incoming.message().await {
            Ok(Some(response)) => response,
            Ok(None) => break "clawkerd closed it".to_owned(),
            Err(status) => break status.message().to_owned(),
        };
        let Some(body) = response.body else { continue };
        if response.id != 0 {
            if let Some(waiting) = inner.lock().waiting.remove(&response.id) {
                // Nobody waits any more if the caller was cancelled.
                let _ = waiting.send(body);
            }
            continue;
        }
        let report = match body {
            response::Body::Exited(exited) => {
                let main = (exited.exec_id == MAIN).then(|| Report::MainExited(exited.clone()));
                inner.note(&exited.exec_id.clone(), |exec| exec.exited = Some(exited));
                main
            }
            response::Body::Drained(drained) => {
                inner.note(&drained.exec_id.clone(), |exec| exec.drained = Some(drained));
                None
            }
            response::Body::Health(health) => Some(Report::Health(health)),
            response::Body::SessionHalfStopped(stopped) => Some(Report::SessionHalfStopped { lives: stopped.lives }),
            _ => None,
        };
        if let Some(report) = report
            && reports.send(report).await.is_err()
        {
            break "no longer wanted".to_owned();
        }
    };
    inner.lose(&why);
    // The receiver is gone when the whole agent is being let go.
    let _ = reports.send(Report::Lost(why)).await;
}
