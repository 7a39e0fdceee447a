//! Commands of agents and operators.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use clawker_engine::containment::Input;
use clawker_model::event::{Cause, NetnsShared};
use clawker_model::{Action, Axis, ContainerId, FullName, ProcessState};
use clawker_netfilter::NetnsKey;
use tokio::sync::watch as channel;

use super::agent::{Agent, Reply};
use super::apply::{self, Attached};
use super::policies::Rule;
use super::replace::Standing;
use super::task::{Done, Task};
use super::{Answer, ContainError, Outcome, Reach, Target, View};
use crate::core::now_ms;

/// In whose name both sides of a shared network namespace are locked. An operator may release them.
const SHARED: &str = "netns-shared";

/// What the task is asked for.
pub(super) enum Command {
    Adopt {
        agent: FullName,
        causes: Vec<Cause>,
        done: Answer<()>,
    },
    Attach {
        target: Target,
        reply: Answer<View>,
    },
    Settle {
        agent: FullName,
        start: u64,
        reply: Answer<View>,
    },
    Detach {
        agent: FullName,
        start: u64,
        done: Answer<()>,
    },
    Forget {
        agent: FullName,
        done: Answer<()>,
    },
    Contain {
        agent: FullName,
        action: Action,
        by: String,
        reason: String,
        /// The row that led to it; 0 for an operator.
        event: u64,
        reply: Answer<Outcome>,
    },
    Release {
        agent: FullName,
        by: String,
        reply: Answer<Outcome>,
    },
    Reverify {
        agent: FullName,
        done: Answer<()>,
    },
    Replace {
        rules: Vec<Rule>,
        reply: Answer<()>,
    },
    Standings {
        reply: Answer<Vec<Standing>>,
    },
    End {
        agent: FullName,
        reply: Answer<()>,
    },
}

impl Task {
    pub(super) async fn command(&mut self, command: Command) {
        let began = Instant::now();
        match command {
            Command::Adopt { agent, causes, done } => {
                self.adopt(&agent, causes).await;
                let _ = done.send(Ok(()));
            }
            Command::Attach { target, reply } => {
                let netfilter = self.parts.netfilter.clone();
                self.work.spawn_blocking(move || {
                    let netns = match &target.reach {
                        Reach::Kernel(kernel) => kernel.netns.try_clone().map_err(|error| error.to_string()),
                        Reach::Engine(_) => Err("its network is its engine's".to_owned()),
                    };
                    let netns =
                        netns.and_then(|fd| netfilter.attach(fd, target.start).map_err(|error| error.to_string()));
                    Done::Prepared {
                        target: Box::new(target),
                        netns,
                        reply,
                        began,
                    }
                });
            }
            Command::Settle { agent, start, reply } => {
                if !self.agents.get(&agent).is_some_and(|agent| agent.is_at(start)) {
                    let _ = reply.send(Err(ContainError::NotAttached { agent, start }));
                    return;
                }
                let reply = Reply::Start(reply, start);
                self.take(
                    &agent,
                    vec![Input::Settled],
                    Some((vec![Axis::Processes], began, reply)),
                )
                .await;
            }
            Command::Detach { agent, start, done } => {
                if self.agents.get(&agent).is_some_and(|agent| agent.is_at(start)) {
                    self.leave(&agent, None);
                    self.take(&agent, vec![Input::Detached], None).await;
                }
                let _ = done.send(Ok(()));
            }
            Command::Forget { agent, done } => {
                self.leave(&agent, None);
                self.agents.remove(&agent);
                self.queues.forget(&agent);
                self.windows.forget(&agent);
                self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
                let _ = done.send(Ok(()));
            }
            Command::Contain {
                agent,
                action,
                by,
                reason,
                event,
                reply,
            } => {
                if !self.agents.contains_key(&agent) {
                    let _ = reply.send(Err(ContainError::Unknown { agent }));
                    return;
                }
                self.hurry(&agent, &action);
                let axes = action.axis().into_iter().collect();
                let cause = Cause {
                    by,
                    action,
                    reason,
                    event,
                    at_ms: now_ms(),
                };
                self.take(
                    &agent,
                    vec![Input::Asked { cause }],
                    Some((axes, began, Reply::Operator(reply))),
                )
                .await;
            }
            Command::Replace { rules, reply } => self.replace(rules, reply).await,
            Command::Standings { reply } => drop(reply.send(Ok(self.standings()))),
            Command::Release { agent, by, reply } => {
                if !self.agents.contains_key(&agent) {
                    let _ = reply.send(Err(ContainError::Unknown { agent }));
                    return;
                }
                let axes = vec![Axis::Network, Axis::Processes, Axis::Identity];
                self.take(
                    &agent,
                    vec![Input::Released { by }],
                    Some((axes, began, Reply::Operator(reply))),
                )
                .await;
            }
            Command::Reverify { agent, done } => {
                let axes = vec![Axis::Network, Axis::Processes];
                let inputs = self.disturb(&agent);
                if !self.agents.contains_key(&agent) {
                    let _ = done.send(Ok(()));
                    return;
                }
                self.take(&agent, inputs, Some((axes, began, Reply::Nothing(done))))
                    .await;
            }
            Command::End { agent, reply } => {
                let attached = self.agents.get(&agent).and_then(|agent| agent.attached.clone());
                self.work.spawn(async move {
                    let ended = match attached {
                        Some(attached) => apply::end(attached).await,
                        None => Ok(()),
                    };
                    let _ = reply.send(ended.map_err(|error| ContainError::End { agent, error }));
                    Done::Nothing
                });
            }
        }
    }

    async fn adopt(&mut self, name: &FullName, causes: Vec<Cause>) {
        self.agents.entry(name.clone()).or_insert_with(|| {
            let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
            let view = views
                .entry(name.clone())
                .or_insert_with(|| channel::Sender::new(View::default()));
            Agent::new(name.clone(), view.clone())
        });
        self.take(name, vec![Input::Adopted { causes }], None).await;
        for (rule, row) in self.past.unjudged.remove(name).unwrap_or_default() {
            self.offer(rule, name, row).await;
        }
    }

    pub(super) async fn attach(
        &mut self,
        target: Target,
        netns: Result<NetnsKey, String>,
        reply: Answer<View>,
        began: Instant,
    ) {
        let (name, start) = (target.agent.clone(), target.start);
        let lives = match &target.reach {
            Reach::Kernel(kernel) => matches!(kernel.init.is_alive(), Ok(true)),
            // Its detach comes when its engine says so.
            Reach::Engine(_) => true,
        };
        if !lives {
            // Its detach may have come while its namespace was being opened.
            if let Ok(key) = netns {
                self.parts.netfilter.detach(&key);
            }
            let _ = reply.send(Err(ContainError::NotAttached { agent: name, start }));
            return;
        }
        if !self.agents.contains_key(&name) {
            self.adopt(&name, Vec::new()).await;
        }
        if let Ok(key) = &netns {
            self.lock_sharers(&name, &target.container, key).await;
        }
        let attached = Arc::new(Attached {
            target,
            netns,
            hurry: false.into(),
        });
        let Some(agent) = self.agents.get_mut(&name) else {
            return;
        };
        let inputs = if agent.is_at(start) {
            // The same start on another connection: what is in force may stay, and is looked at again.
            agent.attached = Some(attached);
            self.disturb(&name)
        } else {
            self.leave(&name, Some(attached));
            vec![Input::Attached]
        };
        let axes = match self.agents.get(&name) {
            Some(agent) if super::is_ended(&agent.state.asked()) => vec![Axis::Network, Axis::Processes],
            _ => vec![Axis::Network],
        };
        self.take(&name, inputs, Some((axes, began, Reply::Start(reply, start))))
            .await;
    }

    /// Whoever shares a network namespace shares what is in force there: neither can be contained apart from the other,
    /// and the weaker policy would undo the stronger one. So both are locked, before anything is applied.
    async fn lock_sharers(&mut self, name: &FullName, container: &ContainerId, key: &NetnsKey) {
        let others = self.in_namespace(name, key);
        for (other, theirs) in others {
            for (agent, container, foreign) in [(&other, &theirs, container), (name, container, &theirs)] {
                let shared = NetnsShared {
                    container: container.clone(),
                    foreign: foreign.clone(),
                };
                let event = self.journal.note(agent, shared).await;
                let reason = format!("container {} shares its network namespace", foreign.short());
                let asked = |action| Input::Asked {
                    cause: Cause {
                        by: SHARED.to_owned(),
                        action,
                        reason: reason.clone(),
                        event,
                        at_ms: now_ms(),
                    },
                };
                self.take(agent, vec![asked(Action::Alert), asked(Action::LockNetwork)], None)
                    .await;
            }
        }
    }

    /// The other agents that are attached in this namespace.
    fn in_namespace(&self, name: &FullName, key: &NetnsKey) -> Vec<(FullName, ContainerId)> {
        let others = self.agents.iter().filter(|(other, _)| *other != name);
        others
            .filter_map(|(other, agent)| {
                let attached = agent.attached.as_ref()?;
                let there = attached.netns.as_ref().ok()?.inode == key.inode;
                there.then(|| (other.clone(), attached.target.container.clone()))
            })
            .collect()
    }

    /// Ends what is known of an earlier start.
    fn leave(&mut self, name: &FullName, next: Option<Arc<Attached>>) {
        let left = self.agents.get(name).and_then(|agent| agent.attached.clone());
        if let Some(Ok(key)) = left.map(|attached| attached.netns.clone()) {
            // Another start of the same number in the same namespace goes on with the same sockets.
            let shared = self.in_namespace(name, &key).into_iter();
            let still = |other: &FullName| self.agents.get(other).is_some_and(|agent| agent.is_at(key.start));
            if !shared.map(|(other, _)| other).any(|other| still(&other)) {
                self.parts.netfilter.detach(&key);
            }
        }
        if let Some(agent) = self.agents.get_mut(name) {
            agent.begin(next);
        }
    }

    /// Looks again at all that an attached agent ought to have.
    fn disturb(&self, name: &FullName) -> Vec<Input> {
        let Some(agent) = self.agents.get(name).filter(|agent| agent.state.is_attached()) else {
            return Vec::new();
        };
        let mut inputs = vec![Input::Disturbed { axis: Axis::Network }];
        if agent.state.asked().processes != ProcessState::Running {
            inputs.push(Input::Disturbed { axis: Axis::Processes });
        }
        inputs
    }

    /// A kill waits for no stop.
    pub(super) fn hurry(&self, name: &FullName, action: &Action) {
        if let (Action::Kill, Some(attached)) = (action, self.agents.get(name).and_then(|a| a.attached.as_ref())) {
            attached.hurry.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
