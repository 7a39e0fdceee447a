//! The directory: which agents there are, and how to reach their tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use clawker_model::event::{AgentRemoved, Cause, ContainerDestroyed, RegistryRowEvicted, Seen};
use clawker_model::{Action, AgentSpec, ContainerId, Egress, Event, FullName, RunId};
use clawker_store::AgentRecord;
use tokio_util::sync::CancellationToken;

use super::AgentError;
use super::listen::{self, RunDir};
use super::status::AgentHandle;
use super::task::{self, Subject};
use crate::core::{Core, now_ms};

/// All agents of this host.
pub struct Agents {
    core: Weak<Core>,
    entries: Mutex<BTreeMap<FullName, Entry>>,
    /// Containers that are being forgotten: whoever else notices their end has nothing to do.
    leaving: Mutex<BTreeSet<ContainerId>>,
}

struct Entry {
    container: ContainerId,
    run: RunId,
    handle: AgentHandle,
    stop: CancellationToken,
}

impl Agents {
    pub fn new(core: Weak<Core>) -> Self {
        Self {
            core,
            entries: Mutex::default(),
            leaving: Mutex::default(),
        }
    }

    /// Makes the run folder of an agent that is about to be created.
    pub async fn prepare_run(&self) -> Result<RunDir, AgentError> {
        listen::make(&self.core()?.run_root())
    }

    /// Gives up a run folder whose container was not created.
    pub async fn discard_run(&self, run: &RunId) {
        if let Ok(core) = self.core()
            && let Err(error) = listen::discard(&core.run_root(), run)
        {
            tracing::warn!(%run, %error, "removing a run folder");
        }
    }

    /// Begins to look after an agent that is in the store with its container.
    pub async fn created(&self, name: &FullName) -> Result<(), AgentError> {
        let core = self.core()?;
        let record = core.store.agent(name).await?;
        let unknown = || AgentError::Unknown { name: name.to_string() };
        self.take_up(record.ok_or_else(unknown)?).await
    }

    /// Looks after an agent of the store's from now on.
    pub async fn take_up(&self, record: AgentRecord) -> Result<(), AgentError> {
        let core = self.core()?;
        let name = record.spec.name.clone();
        let container = record
            .container
            .ok_or_else(|| AgentError::Unknown { name: name.to_string() })?;
        let mut causes = record.causes;
        causes.extend(own_rule(&record.spec));
        core.containment.adopt(&name, causes).await;
        let subject = Subject {
            name,
            container,
            run: record.run,
            refused: None,
        };
        self.look_after(&core, subject)
    }

    /// Listens to a container that bears our labels and mounts a run folder, and that the store doesn't know. It can
    /// be contained, and gets nothing else. `refused` says why it wasn't taken over, if that was tried.
    pub async fn stranger(
        &self,
        name: &FullName,
        container: &ContainerId,
        run: &RunId,
        refused: Option<&str>,
    ) -> Result<(), AgentError> {
        let core = self.core()?;
        // It was contained by an earlier life of ours, perhaps.
        core.containment.adopt(name, core.store.causes(name).await?).await;
        self.look_after(
            &core,
            Subject {
                name: name.clone(),
                container: container.clone(),
                run: run.clone(),
                refused: refused.map(Into::into),
            },
        )
    }

    /// Once for each container: who made it and who saw it in a list come here at the same time.
    fn look_after(&self, core: &Arc<Core>, subject: Subject) -> Result<(), AgentError> {
        let mut entries = self.lock();
        if entries
            .get(&subject.name)
            .is_some_and(|there| there.container == subject.container && !there.stop.is_cancelled())
        {
            return Ok(());
        }
        let listeners = match core.config.engine.is_elsewhere() {
            true => None,
            false => {
                let path = core.run_root().join(subject.run.as_str());
                listen::ensure(&path)?;
                Some(listen::listen(&path)?)
            }
        };
        let stop = core.shutdown.child_token();
        let (name, container, run) = (subject.name.clone(), subject.container.clone(), subject.run.clone());
        let handle = task::spawn(core.clone(), subject, listeners, stop.clone());
        let entry = Entry {
            container,
            run,
            handle,
            stop,
        };
        if let Some(before) = entries.insert(name, entry) {
            before.stop.cancel();
        }
        Ok(())
    }

    /// The container is gone: forgets its agent, the registry's row, the run folder and the secrets. False if there is
    /// nothing of it, or if somebody else is at it, as when Docker's event and our own removal meet.
    pub async fn gone(&self, container: &ContainerId, seen: Seen) -> bool {
        if !self.leaving().insert(container.clone()) {
            return false;
        }
        let entry = {
            let mut entries = self.lock();
            let name = entries.iter().find(|(_, entry)| entry.container == *container);
            let name = name.map(|(name, _)| name.clone());
            name.and_then(|name| entries.remove_entry(&name))
        };
        if let Some((_, entry)) = &entry {
            entry.stop.cancel();
        }
        let forgotten = match self.core() {
            Ok(core) => self.forget(&core, container, entry, seen).await,
            Err(_) => entry.is_some(),
        };
        self.leaving().remove(container);
        forgotten
    }

    async fn forget(&self, core: &Core, container: &ContainerId, entry: Option<(FullName, Entry)>, seen: Seen) -> bool {
        // A registry that can't be read keeps nobody: its row goes with the agent's, or by a later reconcile.
        let row = core.store.registry_row(container).await.ok().flatten();
        let record = match &entry {
            Some(_) => None,
            None => core.store.agent_by_container(container).await.ok().flatten(),
        };
        let of_record = record.map(|record| (record.spec.name, record.run));
        let agent = entry.map(|(name, entry)| (name, entry.run)).or(of_record);
        let Some(name) = agent
            .as_ref()
            .map(|(name, _)| name)
            .or(row.as_ref().map(|row| &row.name))
        else {
            return false;
        };
        let destroyed = ContainerDestroyed {
            container: container.clone(),
            seen,
        };
        let mut rows: Vec<Event> = vec![destroyed.into()];
        if row.is_some() {
            let evicted = RegistryRowEvicted {
                container: container.clone(),
                why: format!("the container is gone ({seen})"),
            };
            rows.push(evicted.into());
        }
        if agent.is_some() {
            let container = Some(container.clone());
            rows.push(AgentRemoved { container }.into());
        }
        for row in rows {
            if let Err(error) = core.store.append(Some(name), row).await {
                core.board.degraded("journal", format!("{name} is gone: {error}")).await;
            }
        }
        if let Some((name, run)) = &agent {
            core.containment.forget(name).await;
            self.discard_run(run).await;
        }
        let secrets = core.secrets_dir(container);
        if let Err(error) = std::fs::remove_dir_all(&secrets)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %secrets.display(), %error, "removing secrets");
        }
        true
    }

    /// The agent's container may have changed: look.
    pub fn hint(&self, name: &FullName) {
        if let Some(handle) = self.get(name) {
            handle.hint();
        }
    }

    pub fn get(&self, name: &FullName) -> Option<AgentHandle> {
        self.lock().get(name).map(|entry| entry.handle.clone())
    }

    pub fn by_container(&self, container: &ContainerId) -> Option<AgentHandle> {
        self.lock()
            .values()
            .find(|entry| entry.container == *container)
            .map(|entry| entry.handle.clone())
    }

    /// Whether another container than `container` mounts this run folder.
    pub fn run_is_taken(&self, run: &RunId, container: &ContainerId) -> bool {
        self.lock()
            .values()
            .any(|entry| entry.run == *run && entry.container != *container)
    }

    /// Every agent, sorted by project and name.
    pub fn list(&self) -> Vec<AgentHandle> {
        let mut handles: Vec<_> = self.lock().values().map(|entry| entry.handle.clone()).collect();
        handles.sort_by(|a, b| (a.name.project(), a.name.agent()).cmp(&(b.name.project(), b.name.agent())));
        handles
    }

    fn core(&self) -> Result<Arc<Core>, AgentError> {
        self.core
            .upgrade()
            .ok_or_else(|| AgentError::Preparing("the control plane is ending".into()))
    }

    fn leaving(&self) -> std::sync::MutexGuard<'_, BTreeSet<ContainerId>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<FullName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's own egress rule is a cause of containment like any other, one that nothing releases.
fn own_rule(spec: &AgentSpec) -> Option<Cause> {
    let Egress::Only { allow } = &spec.egress else {
        return None;
    };
    Some(Cause {
        by: "host".into(),
        action: Action::RestrictEgress { allow: allow.clone() },
        reason: "the agent was created with --egress".into(),
        event: 0,
        at_ms: now_ms(),
    })
}
