//! The middle of the session half: what PID 1 said last, who waits for which answer, and the session that hears of it.
//!
//! Replies and events go to the session's stream here, in the order in which PID 1 sent them, so `Exited` never
//! overtakes `Started`.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawker_wire::PROTOCOL;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb, Response};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::convert;
use crate::halves::{ExecReport, MAIN, Reply, Request, RingInfo, ToHalf, ToInit};
use crate::ring;

/// Most responses that a session may leave unread.
pub const RESPONSES: usize = 8192;

pub type Responses = mpsc::Sender<Result<Response, Status>>;

pub struct Hub {
    out: mpsc::UnboundedSender<ToInit<'static>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    waiting: HashMap<u64, Waiting>,
    execs: HashMap<u32, Arc<Mirror>>,
    health: Option<(bool, String)>,
    session: Option<Session>,
}

/// Where a session's responses go, and in which generation of the protocol.
#[derive(Clone)]
pub struct Session {
    pub protocol: u32,
    pub to: Responses,
}

enum Waiting {
    /// The answer is the response to this command.
    Forward {
        command: u64,
        session: Session,
    },
    /// The answer makes this the session that hears of everything.
    Hello {
        command: u64,
        session: Session,
    },
    Socket(oneshot::Sender<Result<OwnedFd, String>>),
    /// The answer is for this half itself.
    Own(oneshot::Sender<Reply>),
}

/// One exec as PID 1 reported it, with its rings.
pub struct Mirror {
    /// PID 1's number of it.
    pub exec: u32,
    pub id: String,
    pub rings: [Option<ring::Reader>; 2],
    pub report: watch::Sender<ExecReport>,
    /// How many are attached to its streams.
    pub attached: AtomicUsize,
}

impl Mirror {
    fn ends(&self, protocol: u32) -> Vec<Body> {
        convert::ends(&self.id, &self.report.borrow(), protocol)
    }
}

impl Hub {
    pub fn new(out: mpsc::UnboundedSender<ToInit<'static>>) -> Self {
        Self {
            out,
            state: Mutex::default(),
        }
    }

    pub fn send(&self, message: ToInit<'static>) {
        // Without PID 1 this process ends anyway.
        let _ = self.out.send(message);
    }

    pub fn exec(&self, id: &str) -> Option<Arc<Mirror>> {
        self.state().exec(id).cloned()
    }

    /// Asks PID 1; its answer becomes the response to `command`.
    pub fn forward(&self, command: u64, request: Request, session: Session) {
        self.ask(request, Waiting::Forward { command, session });
    }

    pub fn hello(&self, command: u64, lease: Option<u32>, session: Session) {
        self.ask(Request::Hello { lease }, Waiting::Hello { command, session });
    }

    /// Asks PID 1 for something that this half has to know of.
    pub async fn request(&self, request: Request) -> Result<Reply, String> {
        let (tx, rx) = oneshot::channel();
        self.ask(request, Waiting::Own(tx));
        rx.await.map_err(|_| "PID 1 did not answer".to_owned())
    }

    /// A connection to the agent socket, made by PID 1.
    pub async fn agent_socket(&self) -> Result<OwnedFd, String> {
        let (tx, rx) = oneshot::channel();
        let id = self.wait(Waiting::Socket(tx));
        self.send(ToInit::NeedAgentSocket { id });
        rx.await.unwrap_or_else(|_| Err("PID 1 did not answer".to_owned()))
    }

    /// This session hears of nothing any more.
    pub fn leave(&self, session: &Responses) {
        let mut state = self.state();
        if state
            .session
            .as_ref()
            .is_some_and(|current| current.to.same_channel(session))
        {
            state.session = None;
        }
    }

    /// One message of PID 1's.
    pub fn hear(&self, message: ToHalf, mut fds: Vec<OwnedFd>) {
        let mut state = self.state();
        match message {
            ToHalf::Session => {}
            ToHalf::AgentSocket { id, error } => {
                if let Some(Waiting::Socket(to)) = state.waiting.remove(&id) {
                    let socket = fds
                        .pop()
                        .ok_or_else(|| error.unwrap_or_else(|| "no descriptor came".to_owned()));
                    let _ = to.send(socket);
                }
            }
            ToHalf::Reply { id, reply } => state.answer(id, reply),
            ToHalf::Began { exec, exec_id, rings } => state.begin(exec, exec_id, &rings, fds),
            ToHalf::Report(report) => {
                let Some(mirror) = state.execs.get(&report.exec).cloned() else {
                    return;
                };
                let main_ended = mirror.id == MAIN && report.ended.is_some();
                let protocol = state.session.as_ref().map_or(PROTOCOL, |session| session.protocol);
                let before = mirror.report.send_replace(report);
                let told = convert::ends(&mirror.id, &before, protocol);
                let mut news = convert::ends(&mirror.id, &report, protocol);
                news.retain(|body| !told.contains(body));
                let in_session = state.session.is_some();
                for body in news {
                    state.tell(body);
                }
                if main_ended {
                    self.send(ToInit::MainEndNoted { in_session });
                }
            }
            ToHalf::Gone { exec } => {
                state.execs.remove(&exec);
            }
            ToHalf::Health { healthy, detail } => {
                state.health = Some((healthy, detail.clone()));
                state.tell(Body::Health(pb::Health { healthy, detail }));
            }
        }
    }

    fn ask(&self, request: Request, waiting: Waiting) {
        let id = self.wait(waiting);
        self.send(ToInit::Request { id, request });
    }

    fn wait(&self, waiting: Waiting) -> u64 {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.waiting.insert(id, waiting);
        id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn exec(&self, id: &str) -> Option<&Arc<Mirror>> {
        self.execs.values().find(|mirror| mirror.id == id)
    }

    fn answer(&mut self, id: u64, reply: Reply) {
        match (self.waiting.remove(&id), reply) {
            (Some(Waiting::Forward { command, session }), reply) => {
                // An exec that had ended before it was asked for again: whoever attaches hears of it too.
                let ends = match &reply {
                    Reply::Started { exec_id, .. } => self.exec(exec_id).map(|exec| exec.ends(session.protocol)),
                    _ => None,
                };
                respond(&session.to, command, convert::reply(reply, session.protocol));
                for body in ends.into_iter().flatten() {
                    respond(&session.to, 0, body);
                }
            }
            (Some(Waiting::Hello { command, session }), Reply::State(known)) => {
                let execs = self
                    .execs
                    .values()
                    .map(|exec| convert::exec_state(&exec.id, &exec.report.borrow()));
                let (lives, stopped) = (known.session_lives, known.half_stopped);
                let ack = convert::hello_ack(*known, session.protocol, execs.collect());
                respond(&session.to, command, Body::HelloAck(ack));
                if stopped {
                    respond(
                        &session.to,
                        0,
                        Body::SessionHalfStopped(pb::SessionHalfStopped { lives }),
                    );
                }
                if let Some((healthy, detail)) = self.health.clone() {
                    respond(&session.to, 0, Body::Health(pb::Health { healthy, detail }));
                }
                self.session = Some(session);
            }
            (Some(Waiting::Own(to)), reply) => {
                let _ = to.send(reply);
            }
            _ => {}
        }
    }

    fn begin(&mut self, exec: u32, id: String, rings: &[RingInfo], fds: Vec<OwnedFd>) {
        let mut readers = [None, None];
        for (info, fd) in rings.iter().zip(fds) {
            let capacity = usize::try_from(info.capacity).unwrap_or(0);
            readers[info.stream.index()] = ring::Reader::new(fd.as_fd(), capacity).ok();
        }
        let mirror = Mirror {
            exec,
            id,
            rings: readers,
            report: watch::Sender::new(ExecReport::of(exec)),
            attached: AtomicUsize::new(0),
        };
        self.execs.insert(exec, Arc::new(mirror));
    }

    fn tell(&mut self, body: Body) {
        if let Some(session) = &self.session
            && !respond(&session.to, 0, body)
        {
            // It doesn't read: another connection will.
            self.session = None;
        }
    }
}

/// Without waiting; whether there was room.
pub fn respond(to: &Responses, command: u64, body: Body) -> bool {
    to.try_send(Ok(Response {
        id: command,
        body: Some(body),
    }))
    .is_ok()
}
