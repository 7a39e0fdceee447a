//! One process tree that was started through the session, with its pipes: PID 1's share of it.
//!
//! ```text
//!  Starting --exec succeeded--> Running --waitpid--> ended --EOF of both, or 2 s--> drained --AckExit--> gone
//!     +------exec failed------> gone
//! ```
//! Output goes from pipe to ring in PID 1, so no death of the session half loses a byte. A full ring stops the
//! reading (block) or loses its oldest bytes (lossy). What a descendant still writes after `drained` is read and
//! thrown away: it must neither block nor die of it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_proc::wait::Ended;
use rustix::event::PollFlags;

use super::spawn::{Failure, Spawned};
use crate::halves::{ExecReport, STDIN_WINDOW, Stream};
use crate::ring;

/// How long output may come after the exit, for a descendant that holds a pipe.
const GRACE: Duration = Duration::from_secs(2);

/// Which descriptor of an exec is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Outcome,
    Output(Stream),
    Stdin,
}

/// Our ends of an exec's pipes, or of its terminal.
#[derive(Default)]
pub struct Pipes {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// For resizing.
    pub terminal: Option<OwnedFd>,
}

pub struct Exec {
    pub id: String,
    /// SHA-256 of the spec, to tell an attach from a conflict.
    pub spec: String,
    pub pid: i32,
    pub ended: Option<Ended>,
    pub drained: Option<bool>,
    /// Something changed that the session half wasn't told yet.
    pub dirty: bool,
    phase: Phase,
    lossy: bool,
    outputs: [Output; 2],
    stdin: Stdin,
    terminal: Option<OwnedFd>,
    deadline: Option<Instant>,
    timed_out: bool,
    grace: Option<Instant>,
}

enum Phase {
    /// Requests that wait for exec's outcome.
    Starting {
        outcome: OwnedFd,
        waiting: Vec<u64>,
    },
    Running,
}

#[derive(Default)]
struct Output {
    source: Option<OwnedFd>,
    ring: Option<ring::Writer>,
}

#[derive(Default)]
struct Stdin {
    sink: Option<OwnedFd>,
    buffer: VecDeque<u8>,
    taken: u64,
    eof: bool,
}

impl Exec {
    /// `rings`: capacity of each stream that has a pipe.
    pub fn new(id: String, spec: String, spawned: Spawned, pipes: Pipes, ring: usize, lossy: bool) -> io::Result<Self> {
        let output = |source: Option<OwnedFd>| -> io::Result<Output> {
            let ring = source.as_ref().map(|_| ring::Writer::new(ring)).transpose()?;
            Ok(Output { source, ring })
        };
        Ok(Self {
            id,
            spec,
            pid: spawned.pid,
            ended: None,
            drained: None,
            dirty: false,
            phase: Phase::Starting {
                outcome: spawned.outcome,
                waiting: Vec::new(),
            },
            lossy,
            outputs: [output(pipes.stdout)?, output(pipes.stderr)?],
            stdin: Stdin {
                sink: pipes.stdin,
                ..Stdin::default()
            },
            terminal: pipes.terminal,
            deadline: None,
            timed_out: false,
            grace: None,
        })
    }

    pub fn kill_after(&mut self, timeout: Duration, now: Instant) {
        self.deadline = (!timeout.is_zero()).then(|| now + timeout);
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }

    /// Answers `request` when exec's outcome is known; false if it is known already.
    pub fn wait(&mut self, request: u64) -> bool {
        match &mut self.phase {
            Phase::Starting { waiting, .. } => {
                waiting.push(request);
                true
            }
            Phase::Running => false,
        }
    }

    /// Those who asked are gone with their session half.
    pub fn forget_waiting(&mut self) {
        if let Phase::Starting { waiting, .. } = &mut self.phase {
            waiting.clear();
        }
    }

    pub fn ring_bytes(&self) -> usize {
        self.rings().map(|(_, ring)| ring.capacity()).sum()
    }

    pub fn rings(&self) -> impl Iterator<Item = (Stream, &ring::Writer)> {
        Stream::ALL
            .into_iter()
            .filter_map(|stream| Some((stream, self.outputs[stream.index()].ring.as_ref()?)))
    }

    /// What to poll for.
    pub fn poll(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>, PollFlags)> {
        let outcome = match &self.phase {
            Phase::Starting { outcome, .. } => Some((Source::Outcome, outcome.as_fd(), PollFlags::IN)),
            Phase::Running => None,
        };
        let outputs = Stream::ALL.into_iter().filter_map(|stream| {
            let output = &self.outputs[stream.index()];
            let source = output.source.as_ref()?;
            (!self.is_blocked(output)).then(|| (Source::Output(stream), source.as_fd(), PollFlags::IN))
        });
        let stdin = self
            .stdin
            .sink
            .as_ref()
            .filter(|_| !self.stdin.buffer.is_empty())
            .map(|sink| (Source::Stdin, sink.as_fd(), PollFlags::OUT));
        outcome.into_iter().chain(outputs).chain(stdin)
    }

    fn is_blocked(&self, output: &Output) -> bool {
        self.drained.is_none() && !self.lossy && output.ring.as_ref().is_some_and(|ring| ring.cursor().is_full())
    }

    /// How exec went, once it is known, with those who wait for it.
    pub fn outcome(&mut self) -> Option<(Option<Failure>, Vec<u64>)> {
        let Phase::Starting { outcome, waiting } = &mut self.phase else {
            return None;
        };
        let mut bytes = [0; 16];
        let failure = match rustix::io::read(&*outcome, &mut bytes) {
            Ok(n) => Failure::decode(&bytes[..n]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
            Err(_) => None,
        };
        let waiting = std::mem::take(waiting);
        self.phase = Phase::Running;
        self.dirty = true;
        Some((failure, waiting))
    }

    /// One read of a pipe that is ready.
    pub fn read(&mut self, stream: Stream) {
        let output = &mut self.outputs[stream.index()];
        let Some(source) = &output.source else { return };
        let n = match (&mut output.ring, self.drained) {
            (Some(ring), None) => ring.fill(source.as_fd(), self.lossy),
            _ => discard(source.as_fd()),
        };
        match n {
            Ok(0) => output.source = None,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            // A terminal whose last user is gone answers EIO.
            Err(_) => output.source = None,
        }
        self.dirty = true;
    }

    pub fn consumed(&mut self, stream: Stream, offset: u64) {
        if let Some(ring) = &mut self.outputs[stream.index()].ring {
            ring.consumed(offset);
        }
    }

    /// Bytes of standard input. What was taken before is skipped, so a resumed stream never types twice; what would
    /// leave a hole, or go over the window, is refused.
    pub fn stdin(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let end = offset.saturating_add(bytes.len() as u64);
        if self.stdin.eof || end <= self.stdin.taken {
            return true;
        }
        if offset > self.stdin.taken || self.stdin.buffer.len() as u64 + (end - self.stdin.taken) > STDIN_WINDOW {
            return false;
        }
        let new = &bytes[(self.stdin.taken - offset) as usize..];
        self.stdin.taken = end;
        self.dirty = true;
        if self.stdin.sink.is_some() {
            self.stdin.buffer.extend(new);
            self.write_stdin();
        }
        true
    }

    pub fn stdin_eof(&mut self) {
        if self.terminal.is_some() && !self.stdin.eof {
            // A terminal's end of input is a character (VEOF).
            self.stdin.buffer.push_back(4);
        }
        self.stdin.eof = true;
        self.write_stdin();
    }

    pub fn write_stdin(&mut self) {
        let Some(sink) = &self.stdin.sink else {
            self.stdin.buffer.clear();
            return;
        };
        while !self.stdin.buffer.is_empty() {
            match rustix::io::write(sink, self.stdin.buffer.as_slices().0) {
                Ok(n) => {
                    self.stdin.buffer.drain(..n);
                    self.dirty = true;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.close_stdin(),
            }
        }
        if self.stdin.eof && self.terminal.is_none() {
            self.close_stdin();
        }
    }

    fn close_stdin(&mut self) {
        self.stdin.sink = None;
        self.stdin.buffer.clear();
        self.dirty = true;
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        let Some(terminal) = &self.terminal else { return };
        let size = libc::winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the ioctl reads one winsize, which lives over the call.
        unsafe {
            libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size);
        }
    }

    /// waitpid gave its end.
    pub fn end(&mut self, ended: Ended, now: Instant) {
        self.ended = Some(ended);
        self.grace = Some(now + GRACE);
        self.deadline = None;
        self.close_stdin();
    }

    /// Whether it has run for too long; moves on to `drained` when it is time.
    pub fn tick(&mut self, now: Instant) -> bool {
        if self.ended.is_some() && self.drained.is_none() {
            let open = self.outputs.iter().any(|output| output.source.is_some());
            if !open {
                self.drain(false);
            } else if self
                .outputs
                .iter()
                .any(|output| output.source.is_some() && self.is_blocked(output))
            {
                // Held back by whoever reads, not by a descendant.
                self.grace = Some(now + GRACE);
            } else if self.grace.is_some_and(|grace| now >= grace) {
                self.drain(true);
            }
        }
        let overdue = self.deadline.is_some_and(|deadline| now >= deadline);
        if overdue {
            self.timed_out = true;
            self.deadline = None;
        }
        overdue
    }

    fn drain(&mut self, held: bool) {
        self.drained = Some(held);
        self.dirty = true;
    }

    /// When [`Self::tick`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let grace = self.grace.filter(|_| self.drained.is_none());
        [grace, self.deadline].into_iter().flatten().min()
    }

    /// The pipes that a descendant still holds.
    pub fn into_sources(self) -> impl Iterator<Item = OwnedFd> {
        self.outputs.into_iter().filter_map(|output| output.source)
    }

    pub fn report(&self) -> ExecReport {
        let stream = |output: &Output| {
            let head = output.ring.as_ref().map_or(0, |ring| ring.cursor().head());
            (head, output.source.is_none() || self.drained.is_some())
        };
        ExecReport {
            exec_id: self.id.clone(),
            pid: self.pid,
            ended: self.ended.map(Into::into),
            timed_out: self.timed_out,
            drained: self.drained,
            streams: [stream(&self.outputs[0]), stream(&self.outputs[1])],
            stdin_taken: self.stdin.taken,
            stdin_written: self.stdin.taken.saturating_sub(self.stdin.buffer.len() as u64),
        }
    }
}

/// Reads and forgets.
pub fn discard(source: BorrowedFd<'_>) -> io::Result<usize> {
    let mut scratch = [0; 4096];
    Ok(rustix::io::read(source, &mut scratch)?)
}
