//! Watching the engine: events are hints, the list is the truth.
//!
//! ```text
//! event stream ──▶ a hint to the agent's task, an event to the journal
//!     │ gap, error                                       list all with our label
//!     ▼                                                      │
//! reconnect ──▶ relist each second for 10 s, then each 15 s ─┴▶ new: look after it | gone in two complete lists: removed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawker_docker::{ContainerEvent, EventKind, Summary};
use clawker_model::event::{
    AgentUntrusted, ContainerDestroyed, ContainerNetworkConnected, ContainerOom, ExecStarted, ReapDegraded,
    UntrustedReason,
};
use clawker_model::{ContainerId, Event, FullName, RunId};
use clawker_proc::procfs;
use futures::StreamExt;
use tokio::time::{Duration, Instant};

use crate::agent::{AgentError, AgentHandle, IN_CONTAINER, end_processes};
use crate::core::Core;

const QUICK: Duration = Duration::from_secs(1);
const QUICK_FOR: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_secs(15);

/// Runs until shutdown.
pub async fn run(core: Arc<Core>) {
    let mut watch = Watch {
        missing: BTreeSet::new(),
        refused: BTreeSet::new(),
        degraded: false,
        core: core.clone(),
    };
    let label = core.labels().managed();
    loop {
        let mut events = Box::pin(core.docker.events(&label, None));
        let mut quick_until = Instant::now() + QUICK_FOR;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = core.shutdown.cancelled() => return,
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        quick_until = Instant::now() + QUICK_FOR;
                        next = next.min(Instant::now() + QUICK);
                        watch.event(event).await;
                    }
                    Some(Err(error)) => {
                        core.board.degraded("engine", error.to_string()).await;
                        break;
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(next) => {
                    watch.relist(&label).await;
                    next = Instant::now() + if Instant::now() < quick_until { QUICK } else { SLOW };
                }
            }
        }
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = tokio::time::sleep(QUICK) => {}
        }
    }
}

struct Watch {
    core: Arc<Core>,
    /// Agents that the last complete list didn't have.
    missing: BTreeSet<FullName>,
    /// Containers that bear our labels and aren't looked after; each is mentioned once.
    refused: BTreeSet<ContainerId>,
    degraded: bool,
}

impl Watch {
    async fn event(&mut self, event: ContainerEvent) {
        let Some(agent) = self.core.agents.by_container(&event.id) else {
            return;
        };
        let container = event.id;
        match event.kind {
            EventKind::Oom => self.append(&agent.name, ContainerOom { container }).await,
            EventKind::NetworkConnect { network } => {
                self.append(&agent.name, ContainerNetworkConnected { container, network })
                    .await;
                self.core.containment.reverify(&agent.name).await;
            }
            // Ours run on the session: this one is somebody's with the engine's socket.
            EventKind::ExecCreate { command } => {
                let exec = ExecStarted {
                    exec: "docker".into(),
                    argv: vec![command],
                    by: "docker".into(),
                };
                self.append(&agent.name, exec).await;
            }
            EventKind::Destroy => {
                self.append(&agent.name, ContainerDestroyed { container }).await;
                self.core.agents.removed(&agent.name).await;
            }
            _ => {}
        }
        agent.hint();
    }

    async fn append(&self, agent: &FullName, event: impl Into<Event>) {
        if let Err(error) = self.core.store.append(Some(agent), event.into()).await {
            self.core.board.degraded("journal", error.to_string()).await;
        }
    }

    async fn relist(&mut self, label: &str) {
        let listed = match self.core.docker.list(label).await {
            Ok(listed) => listed,
            Err(error) => {
                // A list that failed says nothing about absence.
                self.missing.clear();
                self.core.board.degraded("engine", error.to_string()).await;
                if !std::mem::replace(&mut self.degraded, true) {
                    let reason = error.to_string();
                    if let Err(error) = self.core.store.append(None, ReapDegraded { reason }).await {
                        self.core.board.degraded("journal", error.to_string()).await;
                    }
                }
                return;
            }
        };
        self.degraded = false;
        self.core.board.recovered("engine").await;
        let by_id: BTreeMap<ContainerId, Summary> = listed
            .into_iter()
            .map(|summary| (summary.id.clone(), summary))
            .collect();
        for (id, summary) in &by_id {
            match self.core.agents.by_container(id) {
                Some(agent) => {
                    let runs = agent.status().state == crate::agent::ContainerState::Running;
                    if runs != (summary.state == "running") {
                        agent.hint();
                    }
                    self.let_go(&agent).await;
                }
                None => {
                    if let Err(error) = self.newcomer(summary).await {
                        self.core.board.degraded("agents", format!("{id}: {error}")).await;
                    }
                }
            }
        }
        self.reap(&by_id).await;
    }

    /// An init that was killed while its agent is frozen waits in the kernel for processes that can't die (cgroup v1).
    async fn let_go(&self, agent: &AgentHandle) {
        let init = agent.status().init_pid;
        if init > 0 && procfs::exiting(init).unwrap_or(false) {
            end_processes(&self.core, &agent.name, &agent.status().container).await;
        }
    }

    /// Absent in two complete lists in a row is gone.
    async fn reap(&mut self, by_id: &BTreeMap<ContainerId, Summary>) {
        let absent: BTreeSet<FullName> = self
            .core
            .agents
            .list()
            .into_iter()
            .filter(|agent| !by_id.contains_key(&agent.status().container))
            .map(|agent| agent.name)
            .collect();
        for name in absent.intersection(&self.missing) {
            self.core.agents.removed(name).await;
        }
        self.missing = absent;
    }

    /// A container with our label that nobody looks after yet.
    async fn newcomer(&mut self, summary: &Summary) -> Result<(), AgentError> {
        if self.refused.contains(&summary.id) {
            return Ok(());
        }
        if let Some(record) = self.core.store.agent_by_container(&summary.id).await? {
            return self.core.agents.created(&record.spec.name).await;
        }
        let Some(name) = self.core.labels().name_in(&summary.labels) else {
            self.refused.insert(summary.id.clone());
            return Ok(());
        };
        // Being created right now by ourselves: its row with the container id follows.
        if self
            .core
            .store
            .agent(&name)
            .await?
            .is_some_and(|record| record.container.is_none())
        {
            return Ok(());
        }
        self.refused.insert(summary.id.clone());
        if self.core.agents.get(&name).is_some() {
            // About the host: the agent itself did nothing that its containment could answer.
            let untrusted = AgentUntrusted {
                reason: UntrustedReason::LabelMismatch,
                detail: format!("container {} bears the labels of {name}", summary.id.short()),
            };
            if let Err(error) = self.core.store.append(None, untrusted).await {
                self.core.board.degraded("journal", error.to_string()).await;
            }
            return Ok(());
        }
        match self.run_folder(&summary.id).await? {
            Some(run) => self.core.agents.stranger(&name, &summary.id, &run).await,
            None => Ok(()),
        }
    }

    /// The run folder of ours that a container mounts read-only and no other container has.
    async fn run_folder(&self, container: &ContainerId) -> Result<Option<RunId>, AgentError> {
        let Some(inspect) = self.core.docker.inspect(container).await? else {
            return Ok(None);
        };
        let root = self.core.run_root();
        let mounted = inspect
            .mounts
            .iter()
            .find(|mount| mount.target == IN_CONTAINER && mount.read_only);
        Ok(mounted
            .and_then(|mount| std::path::Path::new(&mount.source).strip_prefix(&root).ok())
            .and_then(|below| below.to_str())
            .and_then(|below| RunId::parse(below).ok())
            .filter(|run| !self.core.agents.run_is_taken(run, container)))
    }
}
