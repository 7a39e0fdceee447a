//! One exec: the processes that were started through the session under one id, with their pipes. PID 1's share of it.
//!
//! ```text
//!  Starting --each stage is executed--> Running --all reaped--> ended --EOF of both, or 2 s--> drained --AckExit--> gone
//!     +------one can't be------> gone
//! ```
//! Output goes from pipe to ring in PID 1, so no death of the session half loses a byte. A full ring stops the
//! reading (block) or loses its oldest bytes (lossy). What a descendant still writes after `drained` is read and
//! thrown away: it must neither block nor die of it.

mod leave;
mod stages;
mod stdin;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_proc::wait::Ended;
use rustix::event::PollFlags;

pub use self::leave::Leave;
pub use self::stages::{Outcome, Stages};
use self::stdin::Stdin;
use super::later;
use crate::halves::{ExecReport, Goodbye, Stream};
use crate::ring;

/// How long output may come after the exit, for a descendant that holds a pipe.
const GRACE: Duration = Duration::from_secs(2);

/// Which descriptor of an exec is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Outcome(u8),
    Output(Stream),
    Stdin,
}

/// What is to be done with an exec now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It has run for as long as it may.
    TimeIsOver,
    /// Nobody is attached to it any more.
    Deserted(Goodbye),
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

/// What doesn't change over an exec's life.
pub struct Terms {
    /// Its number in this start, which its processes carry as their mark.
    pub number: u32,
    pub id: String,
    /// SHA-256 of the spec, to tell an attach from a conflict.
    pub spec: String,
    /// Bytes of each stream's ring.
    pub ring: usize,
    pub lossy: bool,
}

pub struct Exec {
    pub terms: Terms,
    pub stages: Stages,
    pub ended: Option<Ended>,
    pub drained: Option<bool>,
    /// The kernel ended it because memory was over.
    pub oom: bool,
    /// Something changed that the session half wasn't told yet.
    pub dirty: bool,
    pub leave: Leave,
    /// Requests that wait until all stages are executed.
    waiting: Vec<u64>,
    outputs: [Output; 2],
    stdin: Stdin,
    terminal: Option<OwnedFd>,
    deadline: Option<Instant>,
    timed_out: bool,
    grace: Option<Instant>,
}

#[derive(Default)]
struct Output {
    source: Option<OwnedFd>,
    ring: Option<ring::Writer>,
}

impl Exec {
    /// With all that it takes but its processes, so that none is started for nothing.
    pub fn new(terms: Terms, pipes: Pipes) -> io::Result<Self> {
        let output = |source: Option<OwnedFd>| -> io::Result<Output> {
            let ring = source.as_ref().map(|_| ring::Writer::new(terms.ring)).transpose()?;
            Ok(Output { source, ring })
        };
        Ok(Self {
            outputs: [output(pipes.stdout)?, output(pipes.stderr)?],
            stdin: Stdin::new(pipes.stdin, pipes.terminal.is_some()),
            terms,
            stages: Stages::default(),
            ended: None,
            drained: None,
            oom: false,
            dirty: false,
            leave: Leave::default(),
            waiting: Vec::new(),
            terminal: pipes.terminal,
            deadline: None,
            timed_out: false,
            grace: None,
        })
    }

    pub fn kill_after(&mut self, timeout: Duration, now: Instant) {
        self.deadline = (!timeout.is_zero()).then(|| later(now, timeout));
    }

    pub fn is_starting(&self) -> bool {
        self.stages.are_starting()
    }

    /// Answers `request` when all stages are executed; false if they are already.
    pub fn wait(&mut self, request: u64) -> bool {
        if self.is_starting() {
            self.waiting.push(request);
        }
        self.is_starting()
    }

    /// Those who wait for it to be started.
    pub fn take_waiting(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.waiting)
    }

    fn output(&self, stream: Stream) -> &Output {
        let [stdout, stderr] = &self.outputs;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    fn output_mut(&mut self, stream: Stream) -> &mut Output {
        let [stdout, stderr] = &mut self.outputs;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// Bytes that its rings take, or may come to take.
    pub fn ring_bytes(&self) -> usize {
        let bytes = |ring: &ring::Writer| match self.drained {
            Some(_) => ring.touched(),
            None => ring.capacity(),
        };
        self.rings().map(|(_, ring)| bytes(ring)).sum()
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        let sources = self.outputs.iter().filter(|output| output.source.is_some());
        let others = usize::from(self.stdin.is_open()).saturating_add(usize::from(self.terminal.is_some()));
        [
            sources.count(),
            self.rings().count(),
            self.stages.outcomes().count(),
            others,
        ]
        .into_iter()
        .sum()
    }

    pub fn rings(&self) -> impl Iterator<Item = (Stream, &ring::Writer)> {
        Stream::ALL
            .into_iter()
            .filter_map(|stream| Some((stream, self.output(stream).ring.as_ref()?)))
    }

    /// What to poll for.
    pub fn poll(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>, PollFlags)> {
        let outcomes = self
            .stages
            .outcomes()
            .map(|(stage, fd)| (Source::Outcome(stage), fd, PollFlags::IN));
        let outputs = Stream::ALL.into_iter().filter_map(|stream| {
            let output = self.output(stream);
            let source = output.source.as_ref()?;
            (!self.is_blocked(output)).then(|| (Source::Output(stream), source.as_fd(), PollFlags::IN))
        });
        let stdin = self.stdin.poll().map(|sink| (Source::Stdin, sink, PollFlags::OUT));
        outcomes.chain(outputs).chain(stdin)
    }

    fn is_blocked(&self, output: &Output) -> bool {
        self.drained.is_none() && !self.terms.lossy && output.ring.as_ref().is_some_and(|ring| ring.cursor().is_full())
    }

    /// One read of a pipe that is ready.
    pub fn read(&mut self, stream: Stream) {
        let (drained, lossy) = (self.drained, self.terms.lossy);
        let output = self.output_mut(stream);
        let Some(source) = &output.source else { return };
        let n = match (&mut output.ring, drained) {
            (Some(ring), None) => ring.fill(source.as_fd(), lossy),
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
        if let Some(ring) = &mut self.output_mut(stream).ring {
            ring.consumed(offset);
        }
    }

    /// Bytes of standard input; false if they come out of turn.
    pub fn stdin(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let taken = self.stdin.push(offset, bytes);
        self.dirty |= taken == Some(true);
        taken.is_some()
    }

    pub fn stdin_eof(&mut self) {
        self.dirty |= self.stdin.end();
    }

    pub fn write_stdin(&mut self) {
        self.dirty |= self.stdin.write();
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

    /// waitpid gave the end of one of its stages.
    pub fn end(&mut self, pid: i32, ended: Ended, now: Instant) {
        self.dirty = true;
        let Some(whole) = self.stages.end(pid, ended) else {
            return;
        };
        self.ended = Some(whole);
        self.grace = Some(later(now, GRACE));
        self.deadline = None;
        self.leave = Leave::default();
        self.stdin.close();
    }

    /// What it is time for; moves on to `drained` by itself.
    pub fn tick(&mut self, now: Instant) -> Option<Due> {
        if self.ended.is_some() && self.drained.is_none() {
            let open = |output: &Output| output.source.is_some();
            if !self.outputs.iter().any(open) {
                self.drain(false);
            } else if self
                .outputs
                .iter()
                .any(|output| open(output) && self.is_blocked(output))
            {
                // Held back by whoever reads, not by a descendant.
                self.grace = Some(later(now, GRACE));
            } else if self.grace.is_some_and(|grace| now >= grace) {
                self.drain(true);
            }
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.timed_out = true;
            self.deadline = None;
            return Some(Due::TimeIsOver);
        }
        self.leave.tick(now).map(Due::Deserted)
    }

    fn drain(&mut self, held: bool) {
        self.drained = Some(held);
        self.dirty = true;
    }

    /// When [`Self::tick`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let grace = self.grace.filter(|_| self.drained.is_none());
        [grace, self.deadline, self.leave.due()].into_iter().flatten().min()
    }

    /// The pipes that a descendant still holds.
    pub fn into_sources(self) -> impl Iterator<Item = OwnedFd> {
        self.outputs.into_iter().filter_map(|output| output.source)
    }

    pub fn report(&self) -> ExecReport {
        let stream = |stream: Stream| {
            let output = self.output(stream);
            let head = output.ring.as_ref().map_or(0, |ring| ring.cursor().head());
            (head, output.source.is_none() || self.drained.is_some())
        };
        ExecReport {
            exec: self.terms.number,
            pid: self.stages.pid(),
            stages: self.stages.count(),
            stage_ends: self.stages.ends(),
            ended: self.ended.map(Into::into),
            timed_out: self.timed_out,
            oom: self.oom,
            drained: self.drained,
            streams: [stream(Stream::Stdout), stream(Stream::Stderr)],
            stdin_taken: self.stdin.taken(),
            stdin_written: self.stdin.written(),
        }
    }
}

/// Reads and forgets.
pub fn discard(source: BorrowedFd<'_>) -> io::Result<usize> {
    let mut scratch = [0; 4096];
    Ok(rustix::io::read(source, &mut scratch)?)
}
