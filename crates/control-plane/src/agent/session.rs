//! The control plane's end of a session: commands out, answers in, execs followed by id.
//!
//! One reader task per connection owns the incoming half. [`Session`] is a cheap handle; once the connection is
//! gone every call on it answers [`SessionError::Lost`], and whoever holds it asks the agent for the next one.

mod handle;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawker_wire::MAX_MESSAGE;
use clawker_wire::session::session_service_client::SessionServiceClient;
use clawker_wire::session::{self as proto, Command, Response, command, response};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

pub use handle::ExecHandle;

/// How long clawkerd may take to answer a command that it can answer at once.
const ANSWER: Duration = Duration::from_secs(15);

/// Twice as many as clawkerd keeps: whoever tells of more isn't clawkerd.
const MAX_EXECS: usize = 2 * 1024;

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
    /// Which PID 1 answers; empty before Hello.
    init_life: String,
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
        if ack.execs.len() > MAX_EXECS {
            return Err(SessionError::Confused { what: "Hello" });
        }
        let mut state = self.inner.lock();
        state.init_life.clone_from(&ack.init_life);
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
        let known = self.knows(&id);
        let handle = self.handle(&id);
        match self.call("Exec", command::Body::Exec(exec)).await? {
            response::Body::Started(_) => Ok(handle),
            response::Body::ExecFailed(failed) => {
                if !known {
                    self.inner.lock().execs.remove(&id);
                }
                Err(SessionError::ExecFailed {
                    exec_id: id,
                    kind: failed.kind,
                    errno: failed.errno,
                    message: failed.message,
                })
            }
            _ => Err(SessionError::Confused { what: "Exec" }),
        }
    }

    /// The execs that PID 1 knows: those of before this session, and those that were asked for on it.
    pub fn execs(&self) -> Vec<String> {
        self.inner.lock().execs.keys().cloned().collect()
    }

    pub fn knows(&self, exec_id: &str) -> bool {
        self.inner.lock().execs.contains_key(exec_id)
    }

    /// What is told of an exec from here on, without asking for it.
    pub fn handle(&self, exec_id: &str) -> ExecHandle {
        let state = self
            .inner
            .lock()
            .execs
            .entry(exec_id.to_owned())
            .or_default()
            .subscribe();
        ExecHandle {
            id: exec_id.to_owned(),
            session: self.clone(),
            state,
        }
    }

    /// Which PID 1 answers: it knows its own execs, and no other's.
    pub fn init_life(&self) -> String {
        self.inner.lock().init_life.clone()
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

    /// Only of execs that were asked for, or told of at Hello: names that the other end makes up take no room.
    fn note(&self, exec_id: &str, change: impl FnOnce(&mut ExecState)) {
        if let Some(exec) = self.lock().execs.get(exec_id) {
            exec.send_modify(change);
        }
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

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
