//! Containment of every agent on this host: one task owns it, others send it commands and watch its views.
//!
//! ```text
//! row of the journal ─► each policy that asked for its kind ─► verdict, as it arrives ─┐
//! operator: contain, release ──────────────────────────────────────────────────────────┤
//! agent task: attach, settle, detach ──────────────────────────────────────────────────┴► engine::containment::step
//!     ─► journal (asked, intended) ─► netfilter, cgroup, pidfd ─► read back ─► journal (applied | failed) ─► views
//! ```
//!
//! Calls Docker only where containment is its alone (`reduced`: the engine is elsewhere), evaluates nothing itself, and reports nothing in force that wasn't read back. Each effect and
//! each evaluation is a task of its own, so a slow one delays nobody else's. A journal that doesn't answer delays a
//! containment by a moment and never prevents it. What is in the kernel stays there when this ends.

mod agent;
mod apply;
mod commands;
mod journal;
mod policies;
mod queues;
mod reduced;
mod replace;
mod rows;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod trial;
mod verdicts;
mod watch;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use clawker_docker::Docker;
use clawker_model::event::Cause;
use clawker_model::{Action, Axis, ContainerId, Containment, FullName, ProcessState};
use clawker_netfilter::Netfilter;
use clawker_plugin_host::PolicyHost;
use clawker_proc::pidfd::PidFd;
use clawker_store::Store;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Subscription;
use crate::core::Board;

pub use policies::{FALLBACKS, FailMode, Mode, Policy, SHADOW, fallback};
pub use replace::{Promotion, Promotions, Standing};
pub use trial::Tally;
pub use verdicts::hash;

use commands::Command;
use policies::Rule;

/// Commands that may wait for the task.
const COMMANDS: usize = 1024;

/// What the task works with.
pub struct Deps {
    pub store: Store,
    pub netfilter: Netfilter,
    pub host: Arc<dyn PolicyHost>,
    pub policies: Vec<Policy>,
    pub promotions: Promotions,
    pub board: Arc<Board>,
    pub tasks: TaskTracker,
    pub shutdown: CancellationToken,
}

/// An attested start of an agent's container: what containment is applied to.
pub struct Target {
    pub agent: FullName,
    pub container: ContainerId,
    pub start: u64,
    pub reach: Reach,
}

/// By whose means a container is contained.
pub enum Reach {
    /// This host's kernel.
    Kernel(Kernel),
    /// Its engine, which is elsewhere.
    Engine(Reduced),
}

/// What the kernel knows of a container.
pub struct Kernel {
    /// Opened before the attestation that vouches for it.
    pub init: Arc<PidFd>,
    pub init_pid: i32,
    /// Its init is clawkerd, which starts every process of the user's in `agent`. Of another init nobody knows where its
    /// processes are: then a freeze is of the whole container.
    pub init_is_ours: bool,
    pub netns: OwnedFd,
    /// The container's cgroup path, by equality.
    pub cgroup: String,
}

/// What an engine elsewhere can be asked for.
pub struct Reduced {
    pub docker: Docker,
    /// The network that the container belongs to.
    pub network: Option<String>,
}

/// An agent's containment as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub asked: Containment,
    /// As read back; `None` without a target, or while something hasn't been read.
    pub in_force: Option<Containment>,
    pub causes: Vec<Cause>,
    /// What the kernel said last, for people.
    pub read_back: String,
    /// By the engine's means alone, because it is elsewhere.
    pub reduced: bool,
}

/// Which rule of the host asks for containment, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub part: &'static str,
    /// The row that led to it.
    pub event: u64,
    pub reason: String,
}

/// The answer to an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub view: View,
    /// From the command's arrival to the last read-back.
    pub micros: u64,
}

/// Why containment isn't as asked.
#[derive(Debug, thiserror::Error)]
pub enum ContainError {
    #[error("containment knows no agent `{agent}`")]
    Unknown { agent: FullName },
    #[error("start {start} of `{agent}` isn't attached")]
    NotAttached { agent: FullName, start: u64 },
    #[error("`{agent}` is contained: {asked}")]
    Ended { agent: FullName, asked: Containment },
    #[error("{axis} of `{agent}`: {error}")]
    Failed { agent: FullName, axis: Axis, error: String },
    #[error("ending the processes of `{agent}`: {error}")]
    End { agent: FullName, error: String },
    #[error("the policies are being replaced already: ask again")]
    Replacing,
    #[error("counting what the policies want counted: {0}")]
    Journal(String),
    #[error("containment is ending")]
    Gone,
}

type Views = Arc<Mutex<HashMap<FullName, channel::Sender<View>>>>;
type Answer<T> = oneshot::Sender<Result<T, ContainError>>;

/// Speaks to the task.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    views: Views,
}

/// Starts the task on `deps.tasks`; it ends with `deps.shutdown`.
pub fn spawn(deps: Deps) -> Handle {
    let rules = rules(deps.policies, &deps.host);
    let parts = task::Parts {
        store: deps.store,
        netfilter: deps.netfilter,
        board: deps.board,
        rules,
        promotions: deps.promotions,
        shutdown: deps.shutdown,
    };
    spawn_with(parts, &deps.tasks)
}

fn rules(policies: Vec<Policy>, host: &Arc<dyn PolicyHost>) -> Vec<Rule> {
    let rule = |policy| Rule::new(policy, host.clone());
    policies.into_iter().map(rule).collect()
}

fn spawn_with(parts: task::Parts, tasks: &TaskTracker) -> Handle {
    let (commands, queue) = mpsc::channel(COMMANDS);
    let views = Views::default();
    // Subscribed here, so that no row is missed between this call and the task's first look.
    let bus = Subscription::from_now(&parts.store);
    tasks.spawn(task::Task::new(parts, views.clone()).run(queue, bus));
    Handle { commands, views }
}

impl Handle {
    /// An agent exists, with these causes of before. Again: only what is new is added.
    pub async fn adopt(&self, agent: &FullName, causes: Vec<Cause>) {
        // A task that is ending contains nobody any more; what is in the kernel stays.
        let _ = self
            .ask(|done| Command::Adopt {
                agent: agent.clone(),
                causes,
                done,
            })
            .await;
    }

    /// `Ok` once the network policy is in force and read back. An error means that the agent gets nothing.
    pub async fn attach(&self, target: Target) -> Result<View, ContainError> {
        self.ask(|reply| Command::Attach { target, reply }).await
    }

    /// Frozen if that is asked, else thawed; read back.
    pub async fn settle(&self, agent: &FullName, start: u64) -> Result<View, ContainError> {
        self.ask(|reply| Command::Settle {
            agent: agent.clone(),
            start,
            reply,
        })
        .await
    }

    /// That start has ended. What is asked stays.
    pub async fn detach(&self, agent: &FullName, start: u64) {
        let _ = self
            .ask(|done| Command::Detach {
                agent: agent.clone(),
                start,
                done,
            })
            .await;
    }

    /// The agent is gone, and its causes with it.
    pub async fn forget(&self, agent: &FullName) {
        let _ = self
            .ask(|done| Command::Forget {
                agent: agent.clone(),
                done,
            })
            .await;
    }

    /// Asks for `action`; `by` is `operator:<peer>`. Without a target it is stored and applied at the next attach.
    pub async fn contain(
        &self,
        agent: &FullName,
        action: Action,
        by: &str,
        reason: &str,
    ) -> Result<Outcome, ContainError> {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        self.ask(|reply| Command::Contain {
            agent: agent.clone(),
            action,
            by,
            reason,
            event: 0,
            reply,
        })
        .await
    }

    /// As [`Handle::contain`], by a rule of the host's own that an operator may release.
    pub async fn contain_by_host(&self, agent: &FullName, action: Action, host: Host) -> Result<Outcome, ContainError> {
        let by = format!("host:{}", host.part);
        self.ask(|reply| Command::Contain {
            agent: agent.clone(),
            action,
            by,
            reason: host.reason,
            event: host.event,
            reply,
        })
        .await
    }

    /// Withdraws causes: an operator all but the host's own, anybody else theirs.
    pub async fn release(&self, agent: &FullName, by: &str) -> Result<Outcome, ContainError> {
        self.ask(|reply| Command::Release {
            agent: agent.clone(),
            by: by.to_owned(),
            reply,
        })
        .await
    }

    /// Looks whether what is asked is still in force, e.g. because an interface may have come, and applies it again.
    pub async fn reverify(&self, agent: &FullName) {
        let _ = self
            .ask(|done| Command::Reverify {
                agent: agent.clone(),
                done,
            })
            .await;
    }

    /// Puts these policies into force, and no others; returns once events go to them. See [`replace`].
    pub async fn replace(&self, policies: Vec<Policy>, host: Arc<dyn PolicyHost>) -> Result<(), ContainError> {
        let rules = rules(policies, &host);
        self.ask(|reply| Command::Replace { rules, reply }).await
    }

    /// How the policies in force are doing.
    pub async fn standings(&self) -> Result<Vec<Standing>, ContainError> {
        self.ask(|reply| Command::Standings { reply }).await
    }

    /// SIGKILL to every process of the user's, thawed so that it dies. Before a stop, because an init waits in the
    /// kernel for children that are frozen.
    pub async fn end(&self, agent: &FullName) -> Result<(), ContainError> {
        self.ask(|reply| Command::End {
            agent: agent.clone(),
            reply,
        })
        .await
    }

    /// The agent's view, from now on. `None` for one that was never adopted.
    pub fn watch(&self, agent: &FullName) -> Option<channel::Receiver<View>> {
        self.views
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(agent)
            .map(channel::Sender::subscribe)
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, ContainError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| ContainError::Gone)?;
        answer.await.map_err(|_| ContainError::Gone)?
    }
}

/// Whether nothing may be given to an agent of which this is asked.
fn is_ended(asked: &Containment) -> bool {
    asked.processes >= ProcessState::Stopped
}
