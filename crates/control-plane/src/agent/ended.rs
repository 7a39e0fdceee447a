//! The end of a start: Docker's word on how it ended, journaled before anything follows from it.

use clawker_model::event::{ContainerDied, MainExited};
use clawker_model::{ContainerId, FullName};
use clawker_wire::session::Exited;
use tokio::time::{Duration, Instant};

use super::AgentError;
use super::status::ExitStatus;
use crate::core::Core;

/// How long Docker may take from the death of an init to saying so.
const SETTLE: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// An agent whose start has ended.
pub struct Ended<'a> {
    pub core: &'a Core,
    pub name: &'a FullName,
    pub container: &'a ContainerId,
}

impl Ended<'_> {
    /// Journals how the container and, if it was let run, the command ended. `main` is what the session said of it.
    pub async fn journal(&self, start: u64, main: Option<Exited>) -> Result<Option<ExitStatus>, AgentError> {
        let deadline = Instant::now() + SETTLE;
        let inspect = loop {
            match self.core.docker.inspect(self.container).await? {
                None => return Ok(None),
                // Not running: the restart that comes next has another pid and is another start.
                Some(inspect) if !inspect.running || Instant::now() > deadline => break inspect,
                Some(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        };
        let store = &self.core.store;
        let died = ContainerDied {
            container: self.container.clone(),
            exit_code: inspect.exit_code,
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
        let code = i32::try_from(inspect.exit_code).unwrap_or(i32::from(clawker_model::exit::FAILED));
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

    /// `--rm`: its code is journaled, so the container may go.
    pub async fn remove_if_asked(&self) {
        let removed = async {
            let record = self.core.store.agent_by_container(self.container).await?;
            if !record.is_some_and(|record| record.spec.remove) {
                return Ok::<_, AgentError>(());
            }
            self.core.docker.remove(self.container, true).await?;
            self.core.agents.removed(self.name).await;
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
