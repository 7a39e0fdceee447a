//! What PID 1 and its session half say to each other over a SOCK_SEQPACKET pair.
//!
//! PID 1 never upgrades, a session half may: every frame carries [`VERSION`], and a half of another version is
//! refused at its first frame. The half asks, PID 1 answers with the same id and reports what happens by itself;
//! reports are states, not steps, so one that is sent twice harms nothing. What is said for every byte that moves
//! names an exec by its number and holds nothing that would have to be allocated.
//!
//! The bytes of version 1 are pinned by a test (`halves/pinned.rs`): a change of anything here is another version,
//! and every session half has to speak the older ones, for as long as an agent of that age may still run.

pub mod frame;
#[cfg(test)]
mod pinned;

use std::borrow::Cow;

use clawker_proc::wait::Ended;
use serde::{Deserialize, Serialize};

/// Version of everything in this module.
pub const VERSION: u8 = 1;

/// The exec that is the agent's own command.
pub const MAIN: &str = "main";

/// Most processes of a pipeline.
pub const MAX_STAGES: usize = 16;
/// Most bytes of standard input in one message.
pub const STDIN_CHUNK: usize = 32 * 1024;
/// Most bytes of standard input that PID 1 keeps for an exec that doesn't read it.
pub const STDIN_WINDOW: u64 = 256 * 1024;

/// PID 1 to the session half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHalf {
    /// Descriptors: the attested connection, and the bundle as a sealed memfd. Serve the session on it.
    Session,
    /// Descriptor: a connection to the agent socket, as asked; none if it can't be had.
    AgentSocket {
        id: u64,
        error: Option<String>,
    },
    Reply {
        id: u64,
        reply: Reply,
    },
    /// An exec that this half doesn't know. Descriptors: its rings.
    Began {
        exec: u32,
        exec_id: String,
        rings: Vec<RingInfo>,
    },
    /// All that is known of an exec, at each change.
    Report(ExecReport),
    /// An exec's record is acknowledged and gone.
    Gone {
        exec: u32,
    },
    Health {
        healthy: bool,
        detail: String,
    },
}

/// A ring whose descriptor comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingInfo {
    pub stream: Stream,
    pub capacity: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    pub fn index(self) -> usize {
        match self {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecReport {
    pub exec: u32,
    /// Of its last stage.
    pub pid: i32,
    /// How many processes it began as.
    pub stages: u8,
    /// The end of each stage, as far as it has come.
    pub stage_ends: [Option<End>; MAX_STAGES],
    /// The last stage's end, once all stages have ended.
    pub ended: Option<End>,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// It was killed because memory was.
    pub oom: bool,
    /// Whether a descendant still held a pipe, once the exec's output is at its end.
    pub drained: Option<bool>,
    /// For each of [`Stream::ALL`]: the offset below which all is written, and whether it is at its end.
    pub streams: [(u64, bool); 2],
    /// Bytes of standard input that PID 1 has taken.
    pub stdin_taken: u64,
    /// Bytes of standard input that were given to the exec, or dropped because it no longer reads.
    pub stdin_written: u64,
}

impl ExecReport {
    /// Of one of which nothing is known yet.
    pub fn of(exec: u32) -> Self {
        Self {
            exec,
            pid: 0,
            stages: 0,
            stage_ends: [None; MAX_STAGES],
            ended: None,
            timed_out: false,
            oom: false,
            drained: None,
            streams: [(0, false); 2],
            stdin_taken: 0,
            stdin_written: 0,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub code: i32,
    /// 0 if it ended by itself.
    pub signal: i32,
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        let signal = match ended {
            Ended::Exited(_) => 0,
            Ended::Signaled(signal) => signal,
        };
        End {
            code: ended.shell_code(),
            signal,
        }
    }
}

/// The session half to PID 1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit<'a> {
    /// The first: what the half has done to itself.
    Hardened {
        dumpable: bool,
        tracer_pid: i32,
    },
    Heartbeat,
    /// The session's connection is at its end.
    SessionLost,
    NeedAgentSocket {
        id: u64,
    },
    Request {
        id: u64,
        request: Request,
    },
    /// Everything of this stream below `offset` may be forgotten.
    Consumed {
        exec: u32,
        stream: Stream,
        offset: u64,
    },
    Stdin {
        exec: u32,
        offset: u64,
        #[serde(borrow)]
        bytes: Cow<'a, [u8]>,
    },
    StdinEof {
        exec: u32,
    },
    Resize {
        exec: u32,
        rows: u16,
        cols: u16,
    },
    /// Whether anybody is attached to its streams.
    Attached {
        exec: u32,
        attached: bool,
    },
    /// The end of `main` was handed to the session, or there is none.
    MainEndNoted {
        in_session: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A session begins: PID 1 re-arms its lease, stops writing the freezer and says how things stand.
    Hello {
        /// Seconds, 0 for ever; `None` if the control plane named no lease.
        lease: Option<u32>,
    },
    Exec(Box<ExecSpec>),
    Signal {
        exec_id: String,
        signo: u32,
    },
    Initialized,
    Ready(Box<ReadySpec>),
    Lease {
        seconds: u32,
    },
    AckExit {
        exec_id: String,
    },
    /// A new leaf for the key in the bundle, already checked by the half, and the roots in force.
    Rotate {
        leaf: Vec<u8>,
        roots: Vec<Vec<u8>>,
    },
    /// The next connection brings another session half: start it if its SHA-256 is this one.
    Upgrade {
        digest: [u8; 32],
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    State(Box<State>),
    Done,
    Failed {
        code: String,
        message: String,
    },
    Started {
        exec_id: String,
        pid: i32,
    },
    ExecFailed {
        exec_id: String,
        kind: String,
        errno: i32,
        stage: u8,
        message: String,
    },
    /// How many processes a signal was given to, and who in the container belongs to no exec that PID 1 knows.
    Signalled {
        processes: u32,
        strays: Vec<Stray>,
    },
}

/// A process that PID 1 inherited from nobody it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    pub pid: i32,
    /// By its own choice.
    pub name: String,
}

/// How a start stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub init_life: String,
    pub initialized: bool,
    pub command_running: bool,
    pub lease_frozen: bool,
    /// The lease ran out and none has come since.
    pub lease_lost: bool,
    pub session_lives: u32,
    /// A session half was lost since the last Hello.
    pub half_stopped: bool,
}

/// An exec as the control plane asks for it. Its environment may hold secrets, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    pub exec_id: String,
    /// Each one's standard output is the next one's standard input.
    pub stages: Vec<Stage>,
    /// Seconds until SIGKILL; 0 is no limit.
    pub timeout: u32,
    /// A full ring loses its oldest bytes instead of blocking the writer.
    pub lossy: bool,
    pub stdin: bool,
    /// Rows and columns.
    pub tty: Option<(u16, u16)>,
    /// What it is sent when nobody has been attached to it for so many seconds.
    pub on_disconnect: Option<(Goodbye, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goodbye {
    Hangup,
    Kill,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub argv: Vec<String>,
    pub user: String,
    pub env: Vec<String>,
    pub cwd: String,
}

/// All that AgentReady brings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadySpec {
    pub main: Stage,
    pub no_new_privs: bool,
    pub tty: bool,
    /// What SIGTERM becomes on its way to the command; empty for SIGTERM.
    pub stop_signal: String,
    pub health: Option<HealthSpec>,
    pub secrets: Vec<Secret>,
}

impl std::fmt::Debug for ReadySpec {
    /// Its environment may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadySpec").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    pub argv: Vec<String>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub start_period_ms: u64,
    pub retries: u32,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub name: String,
    pub as_file: bool,
    pub content: Vec<u8>,
}

impl Drop for Secret {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.content.zeroize();
    }
}
