//! The bytes of one operator's exec, between the operator's stream and the agent's session.
//!
//! Nothing here waits on one side while the other could move: output waits for the operator, input for the exec,
//! and signals pass either. Standard input is kept until clawkerd has taken it, output's offsets are counted, so a
//! new session goes on where the lost one was. clawkerd keeps output until it is acknowledged: when the client says
//! that it has it, or, for one that doesn't say so, when it was sent.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use clawker_wire::admin::{ExecAck, ExecInput, ExecOpened, ExecOutput, Exit, WhenLeft, exec_input, exec_output};
use clawker_wire::session::{self as proto, IoFrame, Stream, io_frame};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::error::Fault;
use super::exec::attach;
use super::exec_stdin::{Stdin, frame};
use crate::agent::{AgentHandle, ExecHandle, Session, SessionError};
use crate::core::Core;
use crate::execs;

/// Between SIGHUP and SIGKILL for an exec whose operator has gone.
const HANGUP: Duration = Duration::from_secs(5);
/// How long output may be silent at the end, if nobody said that it has ended.
const QUIET: Duration = Duration::from_secs(1);

const SIGHUP: u32 = 1;
const SIGKILL: u32 = 9;

/// What the client asked for.
pub struct Terms {
    /// What it has of each stream already: stdout, stderr.
    pub from: [u64; 2],
    /// It says what it has.
    pub acknowledges: bool,
    pub when_left: WhenLeft,
}

pub struct Relay {
    core: Arc<Core>,
    agent: AgentHandle,
    spec: proto::Exec,
    out: mpsc::Sender<Result<ExecOutput, Status>>,
    terms: Terms,
    /// Somebody else asks for the exec.
    over: CancellationToken,
    stdin: Stdin,
    /// The client has more to say.
    input_open: bool,
    /// It knows from where its input is wanted.
    opened: bool,
    /// Offset up to which each stream was sent to the client: stdout, stderr.
    sent: [u64; 2],
    /// … and up to which it has it.
    has: [u64; 2],
    eof: [bool; 2],
    /// Since when the operator has been gone.
    gone: Option<Instant>,
    killed: bool,
}

/// How the relay ended.
pub enum When {
    /// The exec did, and the client has its output.
    Ended(Exit),
    /// The client has gone, and the exec is to go on.
    Left,
    /// Somebody else goes on with it.
    Taken,
}

/// How one session's share of the relay ended.
enum Share {
    Over(When),
    Lost(String),
}

impl Relay {
    pub fn new(
        core: Arc<Core>,
        agent: AgentHandle,
        spec: proto::Exec,
        out: mpsc::Sender<Result<ExecOutput, Status>>,
        terms: Terms,
        over: CancellationToken,
    ) -> Self {
        // A terminal has one stream of output.
        let eof = [false, spec.tty.is_some()];
        Self {
            core,
            agent,
            spec,
            out,
            over,
            stdin: Stdin::default(),
            input_open: true,
            opened: false,
            sent: terms.from,
            has: terms.from,
            terms,
            eof,
            gone: None,
            killed: false,
        }
    }

    /// Relays until the exec has ended and its output is with the operator, over as many sessions as it takes. The
    /// handle comes back to be acknowledged once the exit is journaled.
    pub async fn run(
        mut self,
        mut exec: ExecHandle,
        mut input: Streaming<ExecInput>,
    ) -> Result<(When, ExecHandle), Fault> {
        loop {
            match self.share(&exec, &mut input).await? {
                Share::Over(when) => return Ok((when, exec)),
                Share::Lost(why) => tracing::debug!(why, exec = exec.id, "another session is waited for"),
            }
            let life = exec.init_life();
            exec = tokio::select! {
                again = attach(&self.agent, &self.spec, &life) => again?,
                () = self.over.cancelled() => return Ok((When::Taken, exec)),
                () = self.core.shutdown.cancelled() => return Err(Fault::stopping()),
            };
        }
    }

    async fn share(&mut self, exec: &ExecHandle, input: &mut Streaming<ExecInput>) -> Result<Share, Fault> {
        let open = proto::Open {
            exec_id: exec.id.clone(),
            stdout_from: self.sent[0],
            stderr_from: self.sent[1],
        };
        let (frames, mut incoming, opened) = match exec.io(open).await {
            Ok(io) => io,
            Err(SessionError::Lost(why)) => return Ok(Share::Lost(why)),
            Err(error) => return Err(error.into()),
        };
        let mut word = None;
        if std::mem::replace(&mut self.opened, true) {
            self.stdin.taken(opened.stdin_taken);
        } else {
            // What the client gives from here on follows what it, or another, gave before.
            self.stdin.begin(opened.stdin_taken);
            for (stream, first) in [opened.stdout_first, opened.stderr_first].into_iter().enumerate() {
                self.sent[stream] = self.sent[stream].max(first);
            }
            self.has = self.sent;
            word = Some(exec_output::Body::Opened(ExecOpened {
                stdin: opened.stdin_taken,
                stdout: self.sent[0],
                stderr: self.sent[1],
            }));
        }
        let mut to_agent: VecDeque<IoFrame> = self.stdin.again().into();
        // Said again: the last word may have been lost with the session, and a full ring waits for it.
        for (stream, has) in self.has.into_iter().enumerate().filter(|(_, has)| *has > 0) {
            to_agent.push_front(acknowledgement(stream, has));
        }
        let mut to_operator: Option<(Bytes, usize, u64)> = None;
        let mut incoming_open = true;
        let mut exited: Option<Result<proto::Exited, SessionError>> = None;
        let mut drained_at: Option<Instant> = None;
        let (out, over, shutdown) = (self.out.clone(), self.over.clone(), self.core.shutdown.clone());
        loop {
            let output_over =
                to_operator.is_none() && (self.eof == [true; 2] || drained_at.is_some() && !incoming_open);
            match &exited {
                Some(Ok(exited)) if output_over && word.is_none() && self.has == self.sent => {
                    return Ok(Share::Over(When::Ended(execs::exit(exited))));
                }
                Some(Err(error)) => return Ok(Share::Lost(error.to_string())),
                _ => {}
            }
            if self.gone.is_some() && self.terms.when_left == WhenLeft::Keep {
                return Ok(Share::Over(When::Left));
            }
            let quiet = drained_at.filter(|_| to_operator.is_none()).map(|at| at + QUIET);
            // What the client has comes behind its input: one that says so is always heard, and keeps to a window.
            let reading = self.gone.is_none() && self.input_open && (self.terms.acknowledges || !self.stdin.full());
            tokio::select! {
                permit = out.reserve(), if (word.is_some() || to_operator.is_some()) && self.gone.is_none() => {
                    let Ok(permit) = permit else { self.leave(&mut to_agent).await; continue };
                    if let Some(body) = word.take() {
                        permit.send(Ok(ExecOutput { body: Some(body) }));
                    } else if let Some((bytes, stream, end)) = to_operator.take() {
                        let body = if stream == 0 { exec_output::Body::Stdout(bytes) } else { exec_output::Body::Stderr(bytes) };
                        permit.send(Ok(ExecOutput { body: Some(body) }));
                        self.sent[stream] = self.sent[stream].max(end);
                        if !self.terms.acknowledges {
                            self.had(stream, end, &mut to_agent);
                        }
                    }
                }
                permit = frames.reserve(), if !to_agent.is_empty() => match (permit, to_agent.pop_front()) {
                    (Ok(permit), Some(frame)) => permit.send(frame),
                    _ => return Ok(Share::Lost("the exec's stream was closed".into())),
                },
                message = incoming.message(), if incoming_open && to_operator.is_none() => match message {
                    Ok(Some(IoFrame { body: Some(body) })) => {
                        if drained_at.is_some() {
                            drained_at = Some(Instant::now());
                        }
                        to_operator = self.heard(body, &mut to_agent, &mut word);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => incoming_open = false,
                    Err(status) => return Ok(Share::Lost(status.message().to_owned())),
                },
                message = input.message(), if reading => match message {
                    Ok(Some(ExecInput { body: Some(body) })) => {
                        self.told(body, &mut to_agent).await;
                        if self.stdin.is_overrun() {
                            let message = "more standard input than its window of 256 KiB was sent";
                            return Err(Fault::usage(message, "this is a fault of the client"));
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        self.input_open = false;
                        self.end_input(&mut to_agent);
                    }
                    Err(_) => self.leave(&mut to_agent).await,
                },
                result = exec.exited(), if exited.is_none() => exited = Some(result),
                result = exec.drained(), if drained_at.is_none() => match result {
                    Ok(_) => drained_at = Some(Instant::now()),
                    Err(error) => return Ok(Share::Lost(error.to_string())),
                },
                () = at(quiet) => incoming_open = false,
                () = out.closed(), if self.gone.is_none() => self.leave(&mut to_agent).await,
                () = at(self.gone.map(|since| since + HANGUP)), if !self.killed => self.kill().await,
                () = over.cancelled() => return Ok(Share::Over(When::Taken)),
                () = shutdown.cancelled() => return Err(Fault::stopping()),
            }
        }
    }

    /// What the operator is to be given, if anything.
    fn heard(
        &mut self,
        body: io_frame::Body,
        to_agent: &mut VecDeque<IoFrame>,
        word: &mut Option<exec_output::Body>,
    ) -> Option<(Bytes, usize, u64)> {
        let index = |stream: i32| match Stream::try_from(stream) {
            Ok(Stream::Stdout) => Some(0),
            Ok(Stream::Stderr) => Some(1),
            _ => None,
        };
        match body {
            io_frame::Body::Data(data) => {
                let stream = index(data.stream)?;
                let end = data.offset.saturating_add(data.bytes.len() as u64);
                // Bytes that were passed on before the session was lost.
                let known = usize::try_from(self.sent[stream].saturating_sub(data.offset)).unwrap_or(usize::MAX);
                if self.gone.is_some() {
                    self.sent[stream] = self.sent[stream].max(end);
                    self.had(stream, end, to_agent);
                    return None;
                }
                if known >= data.bytes.len() {
                    return None;
                }
                Some((data.bytes.slice(known..), stream, end))
            }
            io_frame::Body::Ack(ack) => {
                if Stream::try_from(ack.stream) == Ok(Stream::Stdin) {
                    self.stdin.taken(ack.offset);
                    // A later word takes the place of one that still waits; the client's first one is where to begin.
                    if !matches!(word, Some(exec_output::Body::Opened(_))) {
                        *word = Some(exec_output::Body::StdinTaken(ack.offset));
                    }
                }
                None
            }
            io_frame::Body::StreamEof(eof) => {
                if let Some(stream) = index(eof.stream) {
                    self.eof[stream] = true;
                }
                None
            }
            // Our execs block instead of losing output: what is missing, somebody had, and Opened said so.
            _ => None,
        }
    }

    /// The client has a stream up to there, or nobody will.
    fn had(&mut self, stream: usize, end: u64, to_agent: &mut VecDeque<IoFrame>) {
        // Of more than was sent nobody can have anything.
        let end = end.min(self.sent[stream]);
        if end > self.has[stream] {
            self.has[stream] = end;
            to_agent.push_back(acknowledgement(stream, end));
        }
    }

    async fn told(&mut self, body: exec_input::Body, to_agent: &mut VecDeque<IoFrame>) {
        match body {
            exec_input::Body::Stdin(bytes) => to_agent.extend(self.stdin.push(bytes)),
            exec_input::Body::StdinEof(_) => self.end_input(to_agent),
            exec_input::Body::Resize(size) => {
                let resize = proto::Resize {
                    rows: size.rows.min(4096),
                    cols: size.cols.min(4096),
                };
                to_agent.push_back(frame(io_frame::Body::Resize(resize)));
            }
            exec_input::Body::Signal(signo) => self.signal(signo).await,
            exec_input::Body::Ack(ExecAck { stdout, stderr }) => {
                for (stream, end) in [stdout, stderr].into_iter().enumerate() {
                    self.had(stream, end, to_agent);
                }
            }
            // Only the first message starts anything.
            exec_input::Body::Start(_) => {}
        }
    }

    fn end_input(&mut self, to_agent: &mut VecDeque<IoFrame>) {
        if !std::mem::replace(&mut self.stdin.eof, true) {
            to_agent.push_back(frame(io_frame::Body::StdinEof(proto::StdinEof {})));
        }
    }

    /// The client has gone. What it doesn't have is nobody's, unless the exec is kept for whoever asks for it again.
    async fn leave(&mut self, to_agent: &mut VecDeque<IoFrame>) {
        if self.gone.is_some() {
            return;
        }
        self.gone = Some(Instant::now());
        if self.terms.when_left == WhenLeft::Hangup {
            for (stream, sent) in self.sent.into_iter().enumerate() {
                self.had(stream, sent, to_agent);
            }
            self.signal(SIGHUP).await;
        }
    }

    async fn kill(&mut self) {
        self.killed = true;
        self.signal(SIGKILL).await;
    }

    async fn signal(&self, signo: u32) {
        let Some(session) = self.agent.session() else { return };
        if let Err(error) = Session::signal(&session, &self.spec.exec_id, signo).await {
            tracing::debug!(%error, exec = self.spec.exec_id, signo, "signalling an exec");
        }
    }
}

fn acknowledgement(stream: usize, end: u64) -> IoFrame {
    let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
    frame(io_frame::Body::Ack(proto::Ack {
        stream: stream.into(),
        offset: end,
    }))
}

/// Resolves at `when`; never without one.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => pending().await,
    }
}
