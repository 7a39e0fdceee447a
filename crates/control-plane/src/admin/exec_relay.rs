//! The bytes of one operator's exec, between the operator's stream and the agent's session.
//!
//! Nothing here waits on one side while the other could move: output waits for the operator, input for the exec,
//! and signals pass either. Standard input is kept until clawkerd has taken it, output's offsets are counted, so a
//! new session goes on where the lost one was.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use clawker_wire::admin::{ExecInput, ExecOutput, Exit, exec_input, exec_output};
use clawker_wire::session::{self as proto, IoFrame, Stream, io_frame};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tonic::{Status, Streaming};

use super::error::Fault;
use super::exec_stdin::{Stdin, frame};
use crate::agent::{AgentHandle, ExecHandle, Session, SessionError};
use crate::core::Core;

/// How long a new session may take to come.
const RECONNECT: Duration = Duration::from_secs(60);
/// Between SIGHUP and SIGKILL for an exec whose operator has gone.
const HANGUP: Duration = Duration::from_secs(5);
/// How long output may be silent at the end, if nobody said that it has ended.
const QUIET: Duration = Duration::from_secs(1);

const SIGHUP: u32 = 1;
const SIGKILL: u32 = 9;

pub struct Relay {
    core: Arc<Core>,
    agent: AgentHandle,
    spec: proto::Exec,
    out: mpsc::Sender<Result<ExecOutput, Status>>,
    stdin: Stdin,
    /// Offset up to which the operator has each stream: stdout, stderr.
    seen: [u64; 2],
    eof: [bool; 2],
    /// Since when the operator has been gone.
    gone: Option<Instant>,
    killed: bool,
}

/// How one session's share of the relay ended.
enum Share {
    Over(Exit),
    Lost(String),
}

impl Relay {
    pub fn new(
        core: Arc<Core>,
        agent: AgentHandle,
        spec: proto::Exec,
        out: mpsc::Sender<Result<ExecOutput, Status>>,
    ) -> Self {
        // A terminal has one stream of output.
        let eof = [false, spec.tty.is_some()];
        Self {
            core,
            agent,
            spec,
            out,
            stdin: Stdin::default(),
            seen: [0; 2],
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
    ) -> Result<(Exit, ExecHandle), Fault> {
        loop {
            let why = match self.share(&exec, &mut input).await? {
                Share::Over(exit) => return Ok((exit, exec)),
                Share::Lost(why) => why,
            };
            exec = self.again(&why).await?;
        }
    }

    /// The exec on the next session.
    async fn again(&self, why: &str) -> Result<ExecHandle, Fault> {
        let deadline = Instant::now() + RECONNECT;
        loop {
            if let Some(session) = self.agent.session() {
                match session.exec(self.spec.clone()).await {
                    Ok(exec) => return Ok(exec),
                    Err(SessionError::Lost(_) | SessionError::Silent { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let ended = self.agent.status().init_pid == 0;
            if ended || Instant::now() > deadline {
                return Err(SessionError::Lost(why.to_owned()).into());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                () = self.core.shutdown.cancelled() => return Err(Fault::stopping()),
            }
        }
    }

    async fn share(&mut self, exec: &ExecHandle, input: &mut Streaming<ExecInput>) -> Result<Share, Fault> {
        let open = proto::Open {
            exec_id: exec.id.clone(),
            stdout_from: self.seen[0],
            stderr_from: self.seen[1],
        };
        let (frames, mut incoming, opened) = match exec.io(open).await {
            Ok(io) => io,
            Err(SessionError::Lost(why)) => return Ok(Share::Lost(why)),
            Err(error) => return Err(error.into()),
        };
        self.stdin.taken(opened.stdin_taken);
        let mut to_agent: VecDeque<IoFrame> = self.stdin.again().into();
        // Said again: the last word may have been lost with the session, and a full ring waits for it.
        for (stream, seen) in self.seen.into_iter().enumerate().filter(|(_, seen)| *seen > 0) {
            to_agent.push_front(self.acknowledge(stream, seen));
        }
        let mut to_operator: Option<(Bytes, usize, u64)> = None;
        let mut incoming_open = true;
        let mut exited: Option<Result<proto::Exited, SessionError>> = None;
        let mut drained_at: Option<Instant> = None;
        let (out, shutdown) = (self.out.clone(), self.core.shutdown.clone());
        loop {
            let output_over =
                to_operator.is_none() && (self.eof == [true; 2] || drained_at.is_some() && !incoming_open);
            match &exited {
                Some(Ok(exited)) if output_over => {
                    return Ok(Share::Over(Exit {
                        code: exited.code,
                        signal: exited.signal,
                        oom: false,
                    }));
                }
                Some(Err(error)) => return Ok(Share::Lost(error.to_string())),
                _ => {}
            }
            let quiet = drained_at.filter(|_| to_operator.is_none()).map(|at| at + QUIET);
            let reading = self.gone.is_none() && !self.stdin.eof && !self.stdin.full();
            tokio::select! {
                permit = out.reserve(), if to_operator.is_some() && self.gone.is_none() => {
                    let Ok(permit) = permit else { self.hang_up().await; continue };
                    if let Some((bytes, stream, end)) = to_operator.take() {
                        let body = if stream == 0 { exec_output::Body::Stdout(bytes) } else { exec_output::Body::Stderr(bytes) };
                        permit.send(Ok(ExecOutput { body: Some(body) }));
                        to_agent.push_back(self.acknowledge(stream, end));
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
                        to_operator = self.heard(body, &mut to_agent);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => incoming_open = false,
                    Err(status) => return Ok(Share::Lost(status.message().to_owned())),
                },
                message = input.message(), if reading => match message {
                    Ok(Some(ExecInput { body: Some(body) })) => self.told(body, &mut to_agent).await,
                    Ok(Some(_)) => {}
                    Ok(None) => self.end_input(&mut to_agent),
                    Err(_) => self.hang_up().await,
                },
                result = exec.exited(), if exited.is_none() => exited = Some(result),
                result = exec.drained(), if drained_at.is_none() => match result {
                    Ok(_) => drained_at = Some(Instant::now()),
                    Err(error) => return Ok(Share::Lost(error.to_string())),
                },
                () = at(quiet) => incoming_open = false,
                () = out.closed(), if self.gone.is_none() => self.hang_up().await,
                () = at(self.gone.map(|since| since + HANGUP)), if !self.killed => self.kill().await,
                () = shutdown.cancelled() => return Err(Fault::stopping()),
            }
        }
    }

    /// What the operator is to be given, if anything.
    fn heard(&mut self, body: io_frame::Body, to_agent: &mut VecDeque<IoFrame>) -> Option<(Bytes, usize, u64)> {
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
                let known = usize::try_from(self.seen[stream].saturating_sub(data.offset)).unwrap_or(usize::MAX);
                if known >= data.bytes.len() || self.gone.is_some() {
                    self.seen[stream] = self.seen[stream].max(end);
                    to_agent.push_back(self.acknowledge(stream, end));
                    return None;
                }
                Some((data.bytes.slice(known..), stream, end))
            }
            io_frame::Body::Ack(ack) => {
                if Stream::try_from(ack.stream) == Ok(Stream::Stdin) {
                    self.stdin.taken(ack.offset);
                }
                None
            }
            io_frame::Body::StreamEof(eof) => {
                if let Some(stream) = index(eof.stream) {
                    self.eof[stream] = true;
                }
                None
            }
            // Our execs block instead of losing output, so nothing is ever missing.
            _ => None,
        }
    }

    fn acknowledge(&mut self, stream: usize, end: u64) -> IoFrame {
        self.seen[stream] = self.seen[stream].max(end);
        let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
        frame(io_frame::Body::Ack(proto::Ack {
            stream: stream.into(),
            offset: end,
        }))
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
            // Only the first message starts anything.
            exec_input::Body::Start(_) => {}
        }
    }

    fn end_input(&mut self, to_agent: &mut VecDeque<IoFrame>) {
        if !std::mem::replace(&mut self.stdin.eof, true) {
            to_agent.push_back(frame(io_frame::Body::StdinEof(proto::StdinEof {})));
        }
    }

    async fn hang_up(&mut self) {
        if self.gone.is_none() {
            self.gone = Some(Instant::now());
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

/// Resolves at `when`; never without one.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => pending().await,
    }
}
