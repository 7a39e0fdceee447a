//! The end of a start: Docker's word on how it ended, journaled before anything follows from it.

use clawker_docker::Inspect;
use clawker_model::event::{ContainerDied, InitFailed, InitFailure, MainExited, Seen};
use clawker_model::{ContainerId, FullName};
use clawker_proc::cgroup::AgentCgroup;
use clawker_store::InitProgress;
use clawker_wire::session::Exited;
use tokio::time::{Duration, Instant};

use super::AgentError;
use super::status::ExitStatus;
use crate::core::Core;

/// How long Docker may take from the death of an init to saying so.
const SETTLE: Duration = Duration::from_secs(15);
/// How a start ended of which nobody can say any more how: 128 + SIGKILL.
const KILLED: i32 = 137;
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// An agent whose start has ended.
pub struct Ended<'a> {
    pub core: &'a Core,
    pub name: &'a FullName,
    pub container: &'a ContainerId,
}

impl Ended<'_> {
    /// Journals how the container and, if it was let run, the command ended. `pid` is the init that died, 0 if its death
    /// wasn't watched; `main` is what the session said of the command; `seen` is what Docker said already.
    pub async fn journal(
        &self,
        start: u64,
        pid: i32,
        main: Option<Exited>,
        seen: Option<&Inspect>,
    ) -> Result<Option<ExitStatus>, AgentError> {
        let looked;
        let inspect = match seen {
            Some(inspect) => inspect,
            None => match self.settled(pid).await? {
                Some(inspect) => {
                    looked = inspect;
                    &looked
                }
                None => return Ok(None),
            },
        };
        // A container that was restarted in the meantime has forgotten how its earlier start ended.
        let code = match &main {
            Some(main) if inspect.running => i64::from(if main.signal == 0 { main.code } else { 128 + main.signal }),
            None if inspect.running => i64::from(KILLED),
            _ => inspect.exit_code,
        };
        let store = &self.core.store;
        self.plan_lost(start, code).await?;
        let died = ContainerDied {
            container: self.container.clone(),
            exit_code: code,
            start,
        };
        store.append(Some(self.name), died).await?;

        let record = store.agent_by_container(self.container).await?;
        let ran = record.as_ref().is_some_and(|record| {
            record.ready_start == Some(start) && record.exit.as_ref().is_none_or(|exit| exit.start != start)
        });
        if !ran {
            return Ok(None);
        }
        let signal = main.map(|main| main.signal).filter(|signal| *signal != 0);
        let code = i32::try_from(code).unwrap_or(i32::from(clawker_model::exit::FAILED));
        let exited = MainExited {
            container: self.container.clone(),
            start,
            code,
            signal,
            oom: inspect.oom_killed,
        };
        store.append_synced(Some(self.name), exited).await?;
        Ok(Some(ExitStatus {
            code,
            signal,
            oom: inspect.oom_killed,
        }))
    }

    /// A plan that was under way won't go on in this start: there is no session any more, and none will come.
    async fn plan_lost(&self, start: u64, code: i64) -> Result<(), AgentError> {
        let record = self.core.store.agent_by_container(self.container).await?;
        let Some(record) = record.filter(|record| record.ready_start != Some(start)) else {
            return Ok(());
        };
        let InitProgress::Running { start: begun, step, .. } = record.init else {
            return Ok(());
        };
        if begun != start {
            return Ok(());
        }
        let failed = InitFailed {
            container: self.container.clone(),
            start,
            step: step.unwrap_or_default(),
            reason: InitFailure::SessionLost,
            detail: format!("the container ended with code {code}"),
        };
        self.core.store.append(Some(self.name), failed).await?;
        Ok(())
    }

    /// What Docker says once it has noticed the death of the init `pid`.
    async fn settled(&self, pid: i32) -> Result<Option<Inspect>, AgentError> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.core.docker.inspect(self.container).await? {
                Some(inspect) if inspect.running && inspect.pid == pid && Instant::now() < deadline => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                inspect => return Ok(inspect),
            }
        }
    }

    /// `--rm`: its code is journaled, so the container may go.
    pub async fn remove_if_asked(&self) {
        let removed = async {
            let record = self.core.store.agent_by_container(self.container).await?;
            if !record.is_some_and(|record| record.spec.remove) {
                return Ok::<_, AgentError>(());
            }
            self.core.docker.remove(self.container, true).await?;
            self.core.agents.gone(self.container, Seen::Own).await;
            Ok(())
        };
        if let Err(error) = removed.await {
            self.core
                .board
                .degraded("engine", format!("removing {}: {error}", self.name))
                .await;
        }
    }
}

/// Kills what is in the agent's cgroup and thaws it, also before any session of this control plane: on cgroup v1
/// neither Docker nor SIGKILL ends a container with frozen processes. A failure shows in the container's going on.
pub async fn end_processes(core: &Core, name: &FullName, container: &ContainerId) {
    if let Err(error) = core.containment.end(name).await {
        tracing::debug!(agent = %name, %error, "containment can't end its processes");
    }
    if core.config.engine.is_elsewhere() {
        // There are no cgroups of it here.
        return;
    }
    let path = core.cgroup_path(container);
    let killed = tokio::task::spawn_blocking(move || match AgentCgroup::open(&path)? {
        Some(cgroup) => cgroup.kill_all().map(drop),
        None => Ok(()),
    });
    match killed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(agent = %name, %error, "ending its processes"),
        Err(error) => tracing::error!(agent = %name, %error, "ending its processes"),
    }
}
