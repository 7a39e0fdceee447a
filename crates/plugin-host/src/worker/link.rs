//! The control plane's side of one worker process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawker_proc::fdpass;

use super::channel::{self, MAX_MESSAGE};
use super::proto::{Begin, Evaluate, Reply, Request, Step};
use super::{Class, WORKER, WorkersConfig};
use crate::bindings::policy::clawker::plugin::{policy_types, types};
use crate::limits::MAX_TEXT;
use crate::{Kind, Limits, LoadError, Plugin, StepTurn, Unavailable};

/// Calls that one worker carries out at a time: as many as its engine has places, more than one slow policy takes.
const CHANNELS: usize = crate::engine::PLACES as usize;
/// On top of a call's own wall limit, which the worker keeps: it is given up after that.
const GRACE: Duration = Duration::from_secs(5);
/// For starting and for loading, when the machine may be busy.
const START: Duration = Duration::from_secs(60);
/// Bytes of an answer to a policy's question: verdicts and state within their caps, and log lines.
const MAX_DECISION: usize = 1 << 20;

/// A plugin's code as a worker gets it.
pub(super) struct Loaded {
    pub handle: u64,
    pub kind: Kind,
    pub limits: Limits,
    /// A sealed memfd.
    pub code: OwnedFd,
}

/// A process, its control socket and its channels.
pub(super) struct Link {
    child: Mutex<Child>,
    pid: u32,
    dead: AtomicBool,
    control: Mutex<UnixStream>,
    free: Mutex<Vec<UnixStream>>,
    freed: Condvar,
}

impl Link {
    pub fn start(config: &WorkersConfig, class: Class) -> io::Result<Self> {
        let pairs = (0..CHANNELS)
            .map(|_| UnixStream::pair())
            .collect::<io::Result<Vec<_>>>()?;
        let (free, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let (control, its) = UnixStream::pair()?;
        let child = spawn(&config.program, WORKER, its.into())?;
        let link = Self {
            pid: child.id(),
            child: Mutex::new(child),
            dead: AtomicBool::new(false),
            control: Mutex::new(control),
            free: Mutex::new(free),
            freed: Condvar::new(),
        };
        let begin = Begin {
            channels: CHANNELS as u32,
        };
        {
            let control = lock(&link.control);
            control.set_read_timeout(Some(START))?;
            control.set_write_timeout(Some(START))?;
            let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
            fdpass::send(control.as_fd(), &channel::frame(&begin)?, &fds)?;
            drop(theirs);
            match channel::answer(&control, MAX_DECISION)? {
                Reply::Ready { without } if without.is_empty() => {}
                Reply::Ready { without } => {
                    tracing::warn!(
                        ?without,
                        "a plugin worker is held by its system-call filter, but not by all else"
                    );
                }
                Reply::NotReady { why } => return Err(io::Error::other(crate::limits::cut(why, MAX_TEXT))),
                other => return Err(io::Error::other(format!("an answer to nothing: {other:.200?}"))),
            }
        }
        tracing::info!(pid = link.pid, ?class, "plugin worker started");
        Ok(link)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }

    /// What the plugin says of itself, unchecked.
    pub fn load(&self, loaded: &Loaded) -> Result<types::Description, LoadError> {
        let request = Request::Load {
            handle: loaded.handle,
            kind: loaded.kind,
            limits: loaded.limits,
        };
        let reply = self.command(&request, Some(&loaded.code));
        match self.alive(reply).map_err(LoadError::Describe)? {
            Reply::Loaded(said) => Ok(said?),
            other => Err(LoadError::Describe(self.wrong(&other))),
        }
    }

    pub fn unload(&self, handle: u64) {
        let reply = self.command(&Request::Unload { handle }, None);
        if let Ok(other) = self.alive(reply)
            && !matches!(other, Reply::Unloaded)
        {
            self.wrong(&other);
        }
    }

    fn command(&self, request: &Request, fd: Option<&OwnedFd>) -> io::Result<Reply> {
        let control = lock(&self.control);
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        fdpass::send(control.as_fd(), &channel::frame(request)?, &fds)?;
        channel::answer(&control, MAX_DECISION)
    }

    /// The decision, unchecked, and the fuel that it took.
    pub fn evaluate(
        &self,
        handle: u64,
        Plugin { name, limits, .. }: &Plugin,
        question: Evaluate,
    ) -> Result<(policy_types::Decision, u64), Unavailable> {
        let number = fastrand::u64(..);
        let request = Request::Evaluate {
            call: number,
            handle,
            question,
        };
        match self.call(&request, limits.wall, MAX_DECISION)? {
            Reply::Decided { call, decision, lines } if call == number => {
                crate::log::tell(name, lines);
                decision
            }
            other => Err(self.wrong(&other)),
        }
    }

    /// The turn, unchecked.
    pub fn step(
        &self,
        handle: u64,
        Plugin { name, limits, .. }: &Plugin,
        question: Step,
    ) -> Result<StepTurn, Unavailable> {
        let number = fastrand::u64(..);
        let request = Request::Step {
            call: number,
            handle,
            question,
        };
        match self.call(&request, limits.wall, MAX_MESSAGE)? {
            Reply::Turned { call, turn, lines } if call == number => {
                crate::log::tell(name, lines);
                serde_json::from_str(&turn).map_err(|error| Unavailable::Worker(format!("its answer: {error}")))
            }
            other => Err(self.wrong(&other)),
        }
    }

    /// One request, one reply, on a channel of its own.
    fn call(&self, request: &Request, wall: Duration, max: usize) -> Result<Reply, Unavailable> {
        let request = channel::frame(request).map_err(|error| Unavailable::BadOutput(error.to_string()))?;
        let channel = self.enter()?;
        let reply = (|| {
            channel.set_read_timeout(Some(wall + GRACE))?;
            io::Write::write_all(&mut &channel, &request)?;
            channel::answer(&channel, max)
        })();
        let reply = self.alive(reply)?;
        lock(&self.free).push(channel);
        self.freed.notify_one();
        Ok(reply)
    }

    fn enter(&self) -> Result<UnixStream, Unavailable> {
        let mut free = lock(&self.free);
        loop {
            if !self.is_alive() {
                return Err(Unavailable::Worker("it has died".into()));
            }
            if let Some(channel) = free.pop() {
                return Ok(channel);
            }
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn alive<T>(&self, reply: io::Result<T>) -> Result<T, Unavailable> {
        reply.map_err(|error| {
            self.end();
            lost(error)
        })
    }

    /// It answered something else: it isn't ours any more.
    fn wrong(&self, reply: &impl std::fmt::Debug) -> Unavailable {
        self.end();
        Unavailable::Worker(crate::limits::cut(format!("an answer to nothing: {reply:?}"), 200))
    }

    /// Whoever waits for a channel learns it too.
    fn end(&self) {
        if !self.dead.swap(true, Ordering::AcqRel) {
            let mut child = lock(&self.child);
            let _ = child.kill();
            let ended = child.wait();
            tracing::warn!(pid = self.pid, ?ended, "plugin worker ended");
        }
        lock(&self.free).clear();
        self.freed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !*self.dead.get_mut() {
            let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) fn lost(error: io::Error) -> Unavailable {
    Unavailable::Worker(match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "it has died".to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it didn't answer in time and was ended".to_owned(),
        _ => error.to_string(),
    })
}

/// A child of the kind that `argument` names, which talks on its standard input and knows nothing of us.
pub(super) fn spawn(program: &Path, argument: &str, socket: OwnedFd) -> io::Result<Child> {
    Command::new(program)
        .arg(argument)
        .env_clear()
        // With more arenas the C library reads files when it gives memory back, or needs another.
        .env("MALLOC_ARENA_MAX", "1")
        .current_dir("/")
        .stdin(socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is complete in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
