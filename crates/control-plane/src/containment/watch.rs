//! What is looked at without being asked: denied packets each second, and now and then whether all is still in force.

use std::sync::Arc;

use clawker_engine::containment::{self as engine, Force, Input};
use clawker_model::event::EgressDenied;
use clawker_model::{Axis, FullName, ProcessState};
use clawker_netfilter::Netfilter;

use super::agent::Agent;
use super::apply::{Attached, look};
use super::task::{Done, Task};
use super::{Reach, reduced};
use crate::core::now_ms;

/// Ticks between two looks at everything.
pub(super) const VERIFY_EVERY: u64 = 15;

/// One agent to look at.
pub(super) struct Subject {
    pub(super) agent: FullName,
    pub(super) epoch: u64,
    pub(super) attached: Arc<Attached>,
    /// Whether its counter is of interest.
    pub(super) restricted: bool,
    /// What ought to be in force, when that is to be looked at too.
    pub(super) verify: Vec<Force>,
}

pub(super) struct Finding {
    pub(super) agent: FullName,
    pub(super) epoch: u64,
    pub(super) denied: Option<u64>,
    /// Not as it ought to be.
    pub(super) disturbed: Vec<Axis>,
}

/// Blocks.
pub(super) fn look_at(netfilter: &Netfilter, subjects: Vec<Subject>) -> Vec<Finding> {
    let finding = |subject: Subject| {
        let key = subject.attached.netns.as_ref().ok().filter(|_| subject.restricted);
        let denied = key.and_then(|key| netfilter.denied(key).ok());
        let wrong = |force: &&Force| look(netfilter, &subject.attached, force).is_err();
        let disturbed = subject.verify.iter().filter(wrong).map(Force::axis).collect();
        Finding {
            agent: subject.agent,
            epoch: subject.epoch,
            denied,
            disturbed,
        }
    };
    subjects.into_iter().map(finding).collect()
}

impl Task {
    pub(super) async fn tick(&mut self) {
        self.ticks += 1;
        let names: Vec<FullName> = self.agents.keys().cloned().collect();
        for name in names {
            if let Some(agent) = self.agents.get_mut(&name) {
                for output in engine::step(&mut agent.state, Input::Tick, now_ms()) {
                    self.carry_out(&name, output).await;
                }
            }
        }
        if self.journal.missed() {
            self.degrade("rows of containment may be missing".to_owned());
        } else if std::mem::take(&mut self.degraded) {
            let board = self.parts.board.clone();
            self.work.spawn(async move {
                board.recovered("containment").await;
                Done::Nothing
            });
        }
        let subjects = self.subjects();
        if !self.looking && !subjects.is_empty() {
            self.looking = true;
            let netfilter = self.parts.netfilter.clone();
            let engines = |subject: &Subject| matches!(subject.attached.target.reach, Reach::Engine(_));
            let (theirs, ours): (Vec<_>, Vec<_>) = subjects.into_iter().partition(engines);
            self.work.spawn(async move {
                let kernels = tokio::task::spawn_blocking(move || look_at(&netfilter, ours));
                let mut found = reduced::look_at(theirs).await;
                // Broken off, it is looked at again with the next turn.
                found.extend(kernels.await.unwrap_or_default());
                Done::Looked(found)
            });
        }
    }

    fn subjects(&self) -> Vec<Subject> {
        let all = self.ticks.is_multiple_of(VERIFY_EVERY);
        let subject = |agent: &Agent| {
            let (attached, asked) = (agent.attached.clone()?, agent.state.asked());
            let mut verify = Vec::new();
            if all && agent.state.is_in_force(Axis::Network) {
                verify.push(Force::Network(asked.network));
            }
            if all && asked.processes == ProcessState::Frozen && agent.state.is_in_force(Axis::Processes) {
                verify.push(Force::Processes(asked.processes));
            }
            let restricted = agent.is_restricted();
            let interesting = restricted || !verify.is_empty();
            interesting.then(|| Subject {
                agent: agent.name.clone(),
                epoch: agent.epoch,
                attached,
                restricted,
                verify,
            })
        };
        self.agents.values().filter_map(subject).collect()
    }

    pub(super) async fn found(&mut self, finding: Finding) {
        let name = finding.agent;
        let Some(agent) = self.agents.get_mut(&name).filter(|agent| agent.epoch == finding.epoch) else {
            return;
        };
        if let (Some(total), Some(before)) = (finding.denied, agent.denied)
            && total > before
            && agent.is_restricted()
        {
            let event = EgressDenied {
                count: total - before,
                total,
            };
            // Not written is not reported: the next look reports it.
            if self.journal.note(&name, event).await != 0
                && let Some(agent) = self.agents.get_mut(&name)
            {
                agent.denied = Some(total);
            }
        }
        let inputs = finding
            .disturbed
            .into_iter()
            .map(|axis| Input::Disturbed { axis })
            .collect();
        self.take(&name, inputs, None).await;
    }
}
