//! Carries out what follows from the engine's answers.

use clawker_engine::reconcile::{self, Known};
use clawker_model::event::{
    ContainerDied, ContainerPaused, ContainerStarted, ContainerUnpaused, NetnsShared, ReapDegraded,
};
use clawker_model::{Action, ContainerId, Event};

use super::newcomer::Mode;
use super::{Done, Watch, newcomer};
use crate::containment::Host;

impl Watch {
    pub(super) async fn carry_out(&mut self, known: &Known, actions: Vec<reconcile::Action>) {
        for action in actions {
            match action {
                reconcile::Action::Look(container) => self.look(container),
                reconcile::Action::Nudge(name) => self.core.agents.hint(&name),
                reconcile::Action::Adopt(container) => self.adopt(container),
                reconcile::Action::Started { container, after } => {
                    self.note(
                        known,
                        &container,
                        ContainerStarted {
                            container: container.clone(),
                            after,
                        },
                    )
                    .await;
                }
                reconcile::Action::Died { container, exit_code } => {
                    let died = ContainerDied {
                        container: container.clone(),
                        exit_code,
                        start: 0,
                    };
                    self.note(known, &container, died).await;
                }
                reconcile::Action::Paused(container) => {
                    self.note(known, &container.clone(), ContainerPaused { container })
                        .await;
                }
                reconcile::Action::Unpaused(container) => {
                    self.note(known, &container.clone(), ContainerUnpaused { container })
                        .await;
                }
                reconcile::Action::Evict { container, seen } => {
                    self.core.agents.gone(&container, seen).await;
                }
                reconcile::Action::Shared { agent, foreign } => self.shared(known, &agent, foreign).await,
                reconcile::Action::Degrade { why, first } => self.degrade(why, first).await,
                reconcile::Action::Recover => self.core.board.recovered("engine").await,
            }
        }
    }

    async fn note(&self, known: &Known, container: &ContainerId, event: impl Into<Event>) {
        if let Some(held) = known.get(container) {
            self.append(&held.name, event).await;
        }
    }

    async fn degrade(&self, why: String, first: bool) {
        self.core.board.degraded("engine", why.clone()).await;
        if first && let Err(error) = self.core.store.append(None, ReapDegraded { reason: why }).await {
            self.core.board.degraded("journal", error.to_string()).await;
        }
    }

    fn adopt(&mut self, container: ContainerId) {
        let judged = self.rebuild.as_ref().is_some_and(|rebuild| rebuild.waits(&container));
        if judged || !self.adopting.insert(container.clone()) {
            return;
        }
        let mode = match self.rebuild {
            Some(_) => Mode::Rebuilding,
            None => Mode::Stranger(self.not_taken.get(&container).cloned()),
        };
        let core = self.core.clone();
        self.work.spawn(async move {
            let adoption = newcomer::adopt(&core, &container, mode).await;
            Done::Adopted(container, adoption)
        });
    }

    /// Whoever is in an agent's network is not held by the agent's freezer, and is not who was attested.
    async fn shared(&mut self, known: &Known, agent: &ContainerId, foreign: ContainerId) {
        let Some(held) = known.get(agent) else { return };
        let name = held.name.clone();
        let reason = format!("container {} is in the agent's network namespace", foreign.short());
        let shared = NetnsShared {
            container: agent.clone(),
            foreign,
        };
        let event = self.append(&name, shared).await;
        let core = self.core.clone();
        self.work.spawn(async move {
            for action in [Action::Alert, Action::LockNetwork] {
                let host = Host {
                    part: "netns",
                    event,
                    reason: reason.clone(),
                };
                if let Err(error) = core.containment.contain_by_host(&name, action, host).await {
                    core.board.degraded("containment", error.to_string()).await;
                }
            }
            Done::Nothing
        });
    }
}
