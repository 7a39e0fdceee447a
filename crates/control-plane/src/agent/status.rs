//! What is shown of an agent.

use clawker_model::event::UntrustedReason;
use clawker_model::{ContainerId, FullName};
use tokio::sync::{Notify, watch};

use super::session::Session;
use super::upgrade::Upgrade;

/// The state of an agent, for people and programs. Published by its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStatus {
    pub container: ContainerId,
    pub state: ContainerState,
    /// 0 while it doesn't run.
    pub init_pid: i32,
    /// Number of the latest start; 0 before the first.
    pub start: u64,
    pub session: SessionState,
    pub trust: Trust,
    /// E.g. `1/2 welcome`, `done`, `failed: welcome`; empty before it began.
    pub plan: String,
    /// `None` without a health check, or before its first answer.
    pub health: Option<bool>,
    pub exit: Option<ExitStatus>,
    pub last_seen_ms: u64,
    /// The agent's own command was spawned in this start.
    pub command_running: bool,
    /// It asked for more identity bundles than a start gets, which was said.
    pub bundles_exhausted: bool,
    pub upgrade: Upgrade,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    pub code: i32,
    pub signal: Option<i32>,
    pub oom: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    None,
    Connecting,
    Connected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Unknown,
    Trusted,
    Untrusted(UntrustedReason),
}

impl AgentStatus {
    pub fn new(container: ContainerId) -> Self {
        Self {
            container,
            state: ContainerState::Created,
            init_pid: 0,
            start: 0,
            session: SessionState::None,
            trust: Trust::Unknown,
            plan: String::new(),
            health: None,
            exit: None,
            last_seen_ms: 0,
            command_running: false,
            bundles_exhausted: false,
            upgrade: Upgrade::default(),
        }
    }
}

/// What others hold of an agent.
#[derive(Clone)]
pub struct AgentHandle {
    pub name: FullName,
    pub(super) status: watch::Receiver<AgentStatus>,
    pub(super) session: watch::Receiver<Option<Session>>,
    pub(super) hints: std::sync::Arc<Notify>,
    pub(super) held: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    pub(super) leaked: std::sync::Arc<Notify>,
}

/// While it lives, an agent that is to be removed at its end isn't.
pub struct Hold(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
    }
}

impl AgentHandle {
    pub fn status(&self) -> AgentStatus {
        self.status.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// The session of a trusted agent, while there is one.
    pub fn session(&self) -> Option<Session> {
        self.session.borrow().clone().filter(Session::is_alive)
    }

    /// The session, once there is one; `None` once the container has ended.
    pub async fn until_session(&self) -> Option<Session> {
        let (mut sessions, mut status) = (self.session.clone(), self.status.clone());
        loop {
            let session = sessions.borrow_and_update().clone();
            if let Some(session) = session.filter(Session::is_alive) {
                return Some(session);
            }
            if status.borrow_and_update().state == ContainerState::Exited {
                return None;
            }
            tokio::select! {
                changed = sessions.changed() => changed.ok()?,
                changed = status.changed() => changed.ok()?,
            }
        }
    }

    /// Keeps `--rm` from taking effect, for a restart.
    pub fn hold_removal(&self) -> Hold {
        self.held.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        Hold(self.held.clone())
    }

    /// Somebody else has shown its leaf: whatever session it has ends.
    pub fn leaked(&self) {
        self.leaked.notify_waiters();
    }

    /// The container may have changed: look.
    pub fn hint(&self) {
        self.hints.notify_one();
    }
}
