//! Carries the streams of a command that runs elsewhere: stdin, signals and the terminal's size there, output
//! and the exit here. One loop owns all of it, so nothing is spawned and nothing waits for anything else.
//!
//! ```text
//! waiting ──Ready──▶ running ──Exit──▶ draining ──output ended, or silent too long──▶ End::Exit
//!    │ signal           │ 3rd interrupt; any signal while raw
//!    ▼                  ▼
//! End::Early         End::Left            a stream that breaks in any state but draining: End::Cut
//! ```
//!
//! Output bytes go through untouched: what a command draws is between it and the terminal.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes};
use clawker_wire::admin::{ExecOpened, Exit, PlanProgress, Refused};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use crate::error::{CommandError, is_cut};
use crate::progress::Progress;
use crate::resume::Resume;
use crate::term::{RawGuard, Signal, Signals, Size, Term, output_error};

const CHUNK: usize = 32 * 1024;
const SIGINT: u8 = 2;
const SIGPIPE: u32 = 13;
/// So many interrupts end the wait for a command that doesn't end by them.
const INTERRUPTS: u32 = 3;

/// To the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    Stdin(Bytes),
    Eof,
    Resize(Size),
    Signal(u32),
    /// Bytes of stdout and stderr that are written.
    Has([u64; 2]),
}

/// From the command, and from whoever prepares it.
pub enum Heard {
    Doing(String),
    Step(PlanProgress),
    Ready,
    /// From where each stream goes on.
    Opened(ExecOpened),
    /// Input below this offset is with the command.
    Taken(u64),
    Out(Bytes),
    Err(Bytes),
    OutputEnded,
    Exit(Exit),
    Refused(Refused),
    /// No exit will come on this stream any more.
    VerdictEnded,
}

pub struct Wires {
    pub say: mpsc::Sender<Say>,
    pub heard: BoxStream<'static, Result<Heard, Status>>,
}

enum To {
    Stdout,
    Stderr,
}

/// How it ended.
pub enum End {
    Exit(Exit),
    Refused(Refused),
    Cut,
    /// A signal came before the command ran.
    Early(u8),
    /// A signal ended the wait; the command goes on.
    Left(u8),
}

/// What outlives a cut connection.
pub struct Relay {
    forward_stdin: bool,
    /// The command has a terminal, and so have we: its modes are the command's business.
    raw: bool,
    ready: bool,
    stdin_ended: bool,
    /// Nobody reads our stdout any more.
    closed: bool,
    interrupts: u32,
    to_send: VecDeque<Say>,
    guard: Option<RawGuard>,
    /// Of a command that another connection can go on with.
    pub resume: Option<Resume>,
    pub progress: Progress,
}

impl Relay {
    /// `tty` is whether the command has a terminal.
    pub fn new(term: &Term, forward_stdin: bool, tty: bool, progress: Progress) -> Self {
        Self {
            forward_stdin,
            raw: tty && forward_stdin && term.tty.stdin,
            ready: false,
            stdin_ended: false,
            closed: false,
            interrupts: 0,
            to_send: VecDeque::new(),
            guard: None,
            resume: None,
            progress,
        }
    }

    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Runs until an end. Called again with new wires after `End::Cut`.
    pub async fn run(&mut self, term: &mut Term, signals: &mut Signals, wires: Wires) -> Result<End, CommandError> {
        let Wires { say, mut heard } = wires;
        let mut say = Some(say);
        self.begin(term);
        let drain = term.settings.drain_for;
        let mut exit = None;
        let mut output_ended = false;
        let mut out: Option<(Bytes, To)> = None;
        let mut chunk = vec![0; CHUNK];
        let mut silent_at = Instant::now() + drain;
        loop {
            if out.is_none()
                && (output_ended || Instant::now() >= silent_at)
                && let Some(exit) = exit.take()
            {
                return Ok(End::Exit(exit));
            }
            if out.is_none() && self.to_send.is_empty() {
                self.to_send.extend(self.resume.as_mut().and_then(Resume::word));
            }
            let wanted = self.resume.as_ref().is_none_or(Resume::takes_input);
            let reads = self.forward_stdin && !self.stdin_ended && self.to_send.is_empty() && exit.is_none() && wanted;
            let sends = !self.to_send.is_empty() && say.is_some();
            let Term {
                stdin, stdout, stderr, ..
            } = &mut *term;
            let writing = async {
                match &out {
                    Some((bytes, To::Stdout)) => stdout.write(bytes).await,
                    Some((bytes, To::Stderr)) => stderr.write(bytes).await,
                    None => std::future::pending().await,
                }
            };
            let sending = async {
                match &say {
                    Some(say) => say.reserve().await.map(drop),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(signal) = signals.next() => {
                    if let Some(end) = self.signal(term, signal) {
                        return Ok(end);
                    }
                }
                written = writing => match written {
                    Ok(n) if n > 0 => {
                        if let Some((mut bytes, to)) = out.take() {
                            let n = n.min(bytes.len());
                            bytes.advance(n);
                            self.wrote(&to, n);
                            out = (!bytes.is_empty()).then_some((bytes, to));
                        }
                        silent_at = Instant::now() + drain;
                    }
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(output_error(&error)),
                    _ => {
                        if let Some((bytes, to)) = out.take() {
                            // Nobody will have it; it isn't waited for.
                            self.wrote(&to, bytes.len());
                            if matches!(to, To::Stdout) {
                                self.output_closed();
                            }
                        }
                    }
                },
                permit = sending, if sends => match (permit, self.to_send.pop_front()) {
                    (Ok(()), Some(message)) => {
                        if say.as_ref().is_some_and(|say| say.try_send(message).is_err()) {
                            say = None;
                        }
                    }
                    // Nobody reads there any more; the other stream says why.
                    _ => say = None,
                },
                read = stdin.read(&mut chunk), if reads => {
                    let message = match read {
                        Ok(n) if n > 0 => {
                            let bytes = Bytes::copy_from_slice(&chunk[..n]);
                            if let Some(resume) = &mut self.resume {
                                resume.keep(bytes.clone());
                            }
                            Say::Stdin(bytes)
                        }
                        // A stdin that can't be read has ended, for the command.
                        _ => {
                            self.stdin_ended = true;
                            Say::Eof
                        }
                    };
                    self.to_send.push_back(message);
                }
                next = heard.next(), if out.is_none() => match next {
                    Some(Ok(Heard::Out(bytes))) if !bytes.is_empty() => {
                        self.progress.make_way();
                        if self.closed {
                            self.wrote(&To::Stdout, bytes.len());
                        } else {
                            out = Some((bytes, To::Stdout));
                        }
                    }
                    Some(Ok(Heard::Err(bytes))) if !bytes.is_empty() => {
                        self.progress.make_way();
                        out = Some((bytes, To::Stderr));
                    }
                    Some(Ok(Heard::Out(_) | Heard::Err(_))) => {}
                    Some(Ok(Heard::Doing(text))) => self.progress.doing(term, &text).await?,
                    Some(Ok(Heard::Step(step))) => self.progress.step(term, &step).await?,
                    Some(Ok(Heard::Ready)) => {
                        self.now_ready(term)?;
                        self.progress.running(term).await;
                    }
                    Some(Ok(Heard::Opened(from))) => if let Some((what, text)) = self.opened(&from) {
                        self.progress.make_way();
                        term.note(what, &text).await?;
                    },
                    Some(Ok(Heard::Taken(offset))) => {
                        if let Some(resume) = &mut self.resume {
                            resume.taken(offset);
                        }
                    }
                    Some(Ok(Heard::OutputEnded)) => output_ended = true,
                    Some(Ok(Heard::Exit(ended))) => {
                        exit = Some(ended);
                        silent_at = Instant::now() + drain;
                    }
                    Some(Ok(Heard::Refused(refused))) => return Ok(End::Refused(refused)),
                    Some(Ok(Heard::VerdictEnded)) if exit.is_none() => return Ok(End::Cut),
                    Some(Ok(Heard::VerdictEnded)) => {}
                    Some(Err(_)) if exit.is_some() => output_ended = true,
                    Some(Err(status)) if is_cut(&status) => return Ok(End::Cut),
                    Some(Err(status)) => return Err(status.into()),
                    None if exit.is_some() => output_ended = true,
                    None => return Ok(End::Cut),
                },
                () = tokio::time::sleep_until(silent_at), if exit.is_some() && out.is_none() => {}
            }
        }
    }

    /// What a new connection has to be told again.
    fn begin(&mut self, term: &Term) {
        if self.resume.is_some() {
            // Input goes again once it is known from where.
            self.to_send.retain(|say| matches!(say, Say::Signal(_)));
        } else if self.stdin_ended && !self.to_send.contains(&Say::Eof) {
            self.to_send.push_back(Say::Eof);
        }
        if self.raw
            && let Some(size) = term.world.size()
        {
            self.to_send.push_front(Say::Resize(size));
        }
    }

    /// What a person is told of it.
    fn opened(&mut self, from: &ExecOpened) -> Option<(&'static str, String)> {
        let resume = self.resume.as_mut()?;
        let again = resume.was_cut();
        let (input, missing) = resume.open(from);
        self.to_send.extend(input);
        if self.stdin_ended {
            self.to_send.push_back(Say::Eof);
        }
        match (missing, again) {
            (0, false) => None,
            (0, true) => Some(("reconnected", "clawker: attached again; nothing is lost".to_owned())),
            (bytes, _) => {
                let text = format!("clawker: {bytes} bytes of its output went to whoever attended to it before");
                Some(("missing", text))
            }
        }
    }

    fn wrote(&mut self, to: &To, bytes: usize) {
        if let Some(resume) = &mut self.resume {
            resume.wrote(usize::from(matches!(to, To::Stderr)), bytes);
        }
    }

    /// The command runs: the terminal is its own now.
    pub fn now_ready(&mut self, term: &Term) -> Result<(), CommandError> {
        self.progress.make_way();
        self.ready = true;
        if self.raw && self.guard.is_none() {
            let guard = term
                .world
                .raw()
                .map_err(|error| CommandError::io("making the terminal raw", &error))?;
            self.guard = Some(guard);
            if let Some(size) = term.world.size() {
                self.to_send.push_front(Say::Resize(size));
            }
        }
        Ok(())
    }

    /// Whoever read our stdout is gone: the command is told as it would be in a pipe of its own. One that takes no
    /// notice goes on, unheard.
    fn output_closed(&mut self) {
        self.closed = true;
        self.to_send.push_front(Say::Signal(SIGPIPE));
    }

    fn signal(&mut self, term: &Term, signal: Signal) -> Option<End> {
        let number = match signal {
            Signal::Resized => {
                if self.raw
                    && let Some(size) = term.world.size()
                {
                    self.to_send.push_front(Say::Resize(size));
                }
                return None;
            }
            Signal::Number(number) => number,
        };
        if !self.ready {
            return Some(End::Early(number));
        }
        if self.guard.is_some() {
            return Some(End::Left(number));
        }
        if number == SIGINT {
            self.interrupts += 1;
            if self.interrupts >= INTERRUPTS {
                return Some(End::Left(number));
            }
        }
        self.to_send.push_front(Say::Signal(u32::from(number)));
        None
    }
}

/// The exit code of a command, as a shell has it.
pub fn exit_code(exit: &Exit) -> u8 {
    let code = if exit.signal > 0 { 128 + exit.signal } else { exit.code };
    // Of a larger number the kernel keeps the low byte, too.
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}
