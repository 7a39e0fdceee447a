//! What PID 1 and its session half say to each other over a SOCK_SEQPACKET pair.
//!
//! PID 1 never upgrades, a session half may: every frame carries [`VERSION`], and a half of another version is
//! refused at its first frame. The half asks, PID 1 answers with the same id and reports what happens by itself;
//! reports are states, not steps, so one that is sent twice harms nothing.

pub mod frame;

use clawker_proc::wait::Ended;
use serde::{Deserialize, Serialize};

/// Version of everything in this module.
pub const VERSION: u8 = 1;

/// The exec that is the agent's own command.
pub const MAIN: &str = "main";

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
    /// All that is known of an exec, at each change. Descriptors: the rings that weren't sent to this half yet.
    Exec {
        report: ExecReport,
        rings: Vec<RingInfo>,
    },
    /// An exec's record is acknowledged and gone.
    Gone {
        exec_id: String,
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecReport {
    pub exec_id: String,
    pub pid: i32,
    pub ended: Option<End>,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// Whether a descendant still held a pipe, once the exec's output is at its end.
    pub drained: Option<bool>,
    /// For each of [`Stream::ALL`]: the offset below which all is written, and whether it is at its end.
    pub streams: [(u64, bool); 2],
    /// Bytes of standard input that PID 1 has taken.
    pub stdin_taken: u64,
    /// Bytes of standard input that were given to the exec, or dropped because it no longer reads.
    pub stdin_written: u64,
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
        match ended {
            Ended::Exited(code) => End { code, signal: 0 },
            Ended::Signaled(signal) => End {
                code: 128 + signal,
                signal,
            },
        }
    }
}

/// The session half to PID 1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit {
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
        exec_id: String,
        stream: Stream,
        offset: u64,
    },
    Stdin {
        exec_id: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    StdinEof {
        exec_id: String,
    },
    Resize {
        exec_id: String,
        rows: u16,
        cols: u16,
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
        message: String,
    },
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
    pub stages: Vec<Stage>,
    /// Seconds until SIGKILL; 0 is no limit.
    pub timeout: u32,
    /// A full ring loses its oldest bytes instead of blocking the writer.
    pub lossy: bool,
    pub stdin: bool,
    /// Rows and columns.
    pub tty: Option<(u16, u16)>,
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
