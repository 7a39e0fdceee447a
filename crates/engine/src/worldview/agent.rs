//! What is known of one agent. `Default` is: nothing.

use std::collections::BTreeMap;

use clawker_model::event::{InitFailure, SessionFailure, UntrustedReason};
use clawker_model::{Axis, ContainerId, Containment, RunId, Thumbprint};

/// An agent as the journal has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    pub container: Option<ContainerId>,
    pub run: Option<RunId>,
    pub life: Life,
    /// Number of the latest start that was attested; 0 before the first.
    pub start: u64,
    pub session: Session,
    pub trust: Since<Verdict>,
    /// The last one who failed a check beside the agent's own session.
    pub intruder: Option<Distrust>,
    /// The row of the registry, while there is one.
    pub registered: Option<Registration>,
    pub plan: Plan,
    pub command: Since<Command>,
    pub exit: Option<Exit>,
    pub health: Since<Health>,
    /// What the causes in force add up to.
    pub asked: Containment,
    /// What was done about it and read back, axis by axis.
    pub applied: BTreeMap<Axis, Applied>,
    /// When the agent's own clawkerd last did something that was journaled.
    pub last_seen_ms: u64,
}

/// A value and when it came to be that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since<T> {
    pub value: T,
    pub since_ms: u64,
}

impl<T: PartialEq> Since<T> {
    /// A value that is there already stays as old as it is.
    pub(super) fn set(&mut self, value: T, at_ms: u64) {
        if self.value != value {
            *self = Self { value, since_ms: at_ms };
        }
    }
}

/// The lives of the container's init, by number: one runs if more have begun than have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    pub state: ContainerState,
    pub since_ms: u64,
    /// Its own freezer holds it.
    pub paused: bool,
    pub(super) begun: u64,
    pub(super) ended: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContainerState {
    #[default]
    Unknown,
    Creating,
    Created,
    Running,
    Exited {
        code: i64,
    },
    Destroyed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    pub state: SessionState,
    pub since_ms: u64,
    /// E.g. `unix:<run id>`.
    pub address: String,
    /// Connections that it took, or has taken so far.
    pub attempts: u32,
    pub peer_cn: String,
    pub thumbprint: Option<Thumbprint>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SessionState {
    #[default]
    None,
    Connecting {
        /// Why the last cycle of attempts was closed.
        failed: Option<SessionFailure>,
    },
    Connected,
    Broken {
        reason: String,
    },
}

/// Whether the session's peer is who it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Unknown,
    Trusted,
    Untrusted {
        reason: UntrustedReason,
        detail: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    pub reason: UntrustedReason,
    pub detail: String,
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub start: u64,
    pub generation: u64,
    pub at_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub state: PlanState,
    pub since_ms: u64,
    /// The step under way or the last one; counted from 1, 0 before the first.
    pub index: u32,
    pub count: u32,
    pub step: String,
    /// A step that failed, whether or not the plan went on without it.
    pub failed_step: Option<FailedStep>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    pub name: String,
    pub reason: InitFailure,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlanState {
    #[default]
    Unknown,
    Running,
    Done,
    Failed,
}

/// The agent's own command in the latest start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Command {
    #[default]
    NotYet,
    /// AgentReady is on its way.
    Ready,
    Running {
        pid: u32,
    },
    Ended,
}

/// How the command of a start ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub start: u64,
    pub code: i32,
    pub signal: Option<i32>,
    pub oom: bool,
    pub at_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy {
        detail: String,
    },
}

/// What was done last on an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub action: String,
    /// What was read back; an error says why it isn't in force.
    pub outcome: Result<String, String>,
    pub at_ms: u64,
}

impl Agent {
    /// Whether a row is about the container that the agent has, and not an earlier one of that name.
    pub(super) fn is_of(&self, container: &ContainerId) -> bool {
        self.container.as_ref() == Some(container)
    }

    /// Whether a row is about the latest start of this container, or a later one.
    pub(super) fn is_at(&self, container: &ContainerId, start: u64) -> bool {
        self.is_of(container) && start >= self.start
    }

    pub(super) fn seen(&mut self, at_ms: u64) {
        self.last_seen_ms = self.last_seen_ms.max(at_ms);
    }

    /// The nth life of the init has begun.
    pub(super) fn begun(&mut self, n: u64, at_ms: u64) {
        self.life.begun = self.life.begun.max(n);
        if self.life.begun > self.life.ended {
            self.life.set(ContainerState::Running, at_ms);
        }
    }

    /// The nth life has ended; 0 is whichever runs. What comes of it unless a later one runs already.
    pub(super) fn ended(&mut self, n: u64, code: i64, at_ms: u64) {
        self.life.ended = self.life.ended.max(n);
        if n != 0 && self.life.begun > self.life.ended {
            return;
        }
        self.life.set(ContainerState::Exited { code }, at_ms);
        self.life.paused = false;
        self.session.set(SessionState::None, at_ms);
        if matches!(self.command.value, Command::Ready | Command::Running { .. }) {
            self.command.set(Command::Ended, at_ms);
        }
        self.applied.clear();
    }

    /// Nothing of an earlier start holds for a new one.
    pub(super) fn start_over(&mut self, start: u64, at_ms: u64) {
        self.start = start;
        self.trust.set(Verdict::Unknown, at_ms);
        self.intruder = None;
        self.plan = Plan::default();
        self.command.set(Command::NotYet, at_ms);
        self.health.set(Health::Unknown, at_ms);
        self.applied.clear();
        self.session.set(SessionState::None, at_ms);
    }

    /// A new life of the control plane has judged nobody and read nothing back.
    pub(super) fn unsettle(&mut self, at_ms: u64) {
        self.session.set(SessionState::None, at_ms);
        self.trust.set(Verdict::Unknown, at_ms);
        self.health.set(Health::Unknown, at_ms);
        self.applied.clear();
    }

    /// A session whose container is held by its freezer is neither connected nor broken.
    pub fn session_frozen(&self) -> bool {
        self.life.paused
            && matches!(
                self.session.state,
                SessionState::Connected | SessionState::Broken { .. }
            )
    }
}

impl Life {
    pub(super) fn set(&mut self, state: ContainerState, at_ms: u64) {
        if self.state != state {
            (self.state, self.since_ms) = (state, at_ms);
        }
    }
}

impl Plan {
    /// Again after a crash: what is done isn't done again, and how far it was isn't forgotten.
    pub(super) fn begin(&mut self, count: u32, at_ms: u64) {
        self.set(PlanState::Running, at_ms);
        self.count = count;
    }

    pub(super) fn set(&mut self, state: PlanState, at_ms: u64) {
        if self.state != state {
            (self.state, self.since_ms) = (state, at_ms);
        }
    }
}

impl Session {
    pub(super) fn set(&mut self, state: SessionState, at_ms: u64) {
        if self.state != state {
            (self.state, self.since_ms) = (state, at_ms);
        }
    }
}
