//! The session half as a process: started, watched, killed, started again.
//!
//! It gets nothing before it has said what it did to itself ([`Half::harden`]) and PID 1 has looked for a tracer too.
//! A half that is silent for three heartbeats is killed: a root agent may stop it, and gains nothing by that.

use std::collections::{HashSet, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_proc::procfs;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::child;
use super::upgrade::Image;
use crate::halves::frame::{self, Frame, FrameError, MAX_INLINE};
use crate::halves::{ToHalf, VERSION};

/// Three heartbeats, one a second.
pub const SILENCE: Duration = Duration::from_secs(3);
/// From fork to the first message.
const HARDENING: Duration = Duration::from_secs(5);
/// More frames than this unsent, and the half is stuck.
const MAX_QUEUE: usize = 8192;
/// Reports wait while this many frames are unsent; they are states and lose nothing by it.
const REPORT_QUEUE: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum HalfError {
    #[error("starting the session half: {0}")]
    Start(io::Error),
    #[error("the session half: {0}")]
    Frame(#[from] FrameError),
    #[error("the session half left")]
    Left,
    #[error("the session half is {0}")]
    NotHardened(&'static str),
    #[error("the session half takes no messages")]
    Stuck,
}

pub struct Half {
    pub pid: i32,
    socket: OwnedFd,
    hardened: bool,
    started: Instant,
    last_beat: Instant,
    queue: VecDeque<Frame>,
    /// Where messages are encoded.
    scratch: Vec<u8>,
    /// Execs that this half was told of, with their rings.
    pub knows: HashSet<u32>,
}

impl Half {
    /// `image` is another program to be than PID 1's own.
    pub fn start(image: Option<&Image>, now: Instant) -> Result<Self, HalfError> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|e| HalfError::Start(e.into()))?;
        let pid = fork_session(&theirs, image).map_err(HalfError::Start)?;
        Ok(Self {
            pid,
            socket: ours,
            hardened: false,
            started: now,
            last_beat: now,
            queue: VecDeque::new(),
            scratch: vec![0; MAX_INLINE],
            knows: HashSet::new(),
        })
    }

    pub fn is_hardened(&self) -> bool {
        self.hardened
    }

    /// Believes the half's own report only as far as the kernel says the same.
    pub fn harden(&mut self, dumpable: bool, tracer_pid: i32) -> Result<(), HalfError> {
        if dumpable {
            return Err(HalfError::NotHardened("dumpable"));
        }
        if tracer_pid != 0 || !matches!(procfs::tracer_pid(self.pid), Ok(0)) {
            return Err(HalfError::NotHardened("traced"));
        }
        self.hardened = true;
        Ok(())
    }

    pub fn beat(&mut self, now: Instant) {
        self.last_beat = now;
    }

    /// Silent for too long, counted only over time in which PID 1 itself ran.
    pub fn is_overdue(&self, now: Instant) -> bool {
        if self.hardened {
            now.saturating_duration_since(self.last_beat) >= SILENCE
        } else {
            now.saturating_duration_since(self.started) >= HARDENING
        }
    }

    /// PID 1 was stopped itself: the half's silence meanwhile says nothing.
    pub fn forgive(&mut self, now: Instant) {
        self.last_beat = now;
        self.started = now;
    }

    pub fn takes_reports(&self) -> bool {
        self.hardened && self.queue.len() < REPORT_QUEUE
    }

    pub fn poll(&self) -> (BorrowedFd<'_>, PollFlags) {
        let mut flags = PollFlags::IN;
        if !self.queue.is_empty() {
            flags |= PollFlags::OUT;
        }
        (self.socket.as_fd(), flags)
    }

    /// Sends a message that has no descriptors, without an allocation as long as the half keeps up.
    pub fn say(&mut self, message: &ToHalf) -> Result<(), HalfError> {
        let sent = self.queue.is_empty()
            && frame::send_inline(self.socket.as_fd(), message, &mut self.scratch).map_err(FrameError::Io)?;
        if sent { Ok(()) } else { self.send(message, Vec::new()) }
    }

    pub fn send(&mut self, message: &ToHalf, fds: Vec<OwnedFd>) -> Result<(), HalfError> {
        if self.queue.len() >= MAX_QUEUE {
            return Err(HalfError::Stuck);
        }
        self.queue.push_back(Frame::new(message, fds)?);
        self.flush()
    }

    pub fn flush(&mut self) -> Result<(), HalfError> {
        while let Some(frame) = self.queue.front() {
            match frame.send(self.socket.as_fd()) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(FrameError::Io(e).into()),
            }
        }
        Ok(())
    }

    /// The next frame, if one is there, in `buf`.
    pub fn recv<'b>(&mut self, buf: &'b mut [u8]) -> Result<Option<frame::Received<'b>>, HalfError> {
        match frame::recv(self.socket.as_fd(), buf) {
            Ok(Some(received)) => Ok(Some(received)),
            Ok(None) => Err(HalfError::Left),
            Err(FrameError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

fn fork_session(socket: &OwnedFd, image: Option<&Image>) -> io::Result<i32> {
    let program = CString::new("/proc/self/exe")?;
    // The wire's version is PID 1's: a half that doesn't speak it says so by leaving at once.
    let args = [
        CString::new("clawkerd")?,
        CString::new("session")?,
        CString::new(format!("--wire={VERSION}"))?,
    ];
    let null = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null")?);
    let (socket, null) = (socket.as_raw_fd(), null.as_raw_fd());
    let image = image.map(|image| image.as_fd().as_raw_fd());
    child::fork(move || {
        let _ = child::fresh_signals();
        // 3 last but one: the sources are all above it, so none is overwritten before its turn.
        let placed = child::place(null, 0)
            .and_then(|()| child::place(null, 1))
            .and_then(|()| child::place(socket, 3))
            .and_then(|()| child::blocking(3));
        if placed.is_ok() {
            let _ = child::close_from(4);
            match image {
                Some(image) => child::exec_fd(image, &args),
                None => child::exec(&program, &args, &[]),
            };
        }
        127
    })
}
