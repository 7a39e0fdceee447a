//! Carrying out the restart policy: Docker's own is always `no`, so that one hand starts containers.
//!
//! ```text
//!   end seen, or found at our beginning ─▶ engine::restart ─┬▶ stays
//!                                                           ├▶ RestartsEnded
//!                                                           └▶ RestartPlanned ─ due ─▶ looked at again ─▶ started
//! ```
//! An end is known by the time that Docker gives it, so it is decided on once, whoever saw it and in whichever life of
//! ours; a plan that was journaled before our life is carried out in it.

use clawker_docker::{Error as DockerError, Inspect};
use clawker_engine::restart::{Decision, End, Over, Past, decide};
use clawker_model::event::{RestartPlanned, RestartsEnded};
use clawker_model::{IdentityState, ProcessState, Restart};
use clawker_store::{AgentRecord, Restarts};
use tokio::time::{Duration, Instant};

use super::AgentTask;
use crate::agent::{AgentError, join};
use crate::core::now_ms;

/// Who gives up, in the journal.
const HOST: &str = "host";
/// Until an engine that didn't start it is asked again.
const ENGINE: Duration = Duration::from_secs(5);

/// What the task remembers of restarts.
#[derive(Default)]
pub struct Restarting {
    /// When it is to be started, after which end.
    pub planned: Option<(Instant, String)>,
    /// The end that was decided on last in this life of ours.
    considered: Option<String>,
    /// How it was contained when its latest start ended, if it was.
    pub contained: Option<String>,
    /// How long that start ran, as far as this task saw it.
    pub ran: Option<Duration>,
    /// This is the first look of this life.
    pub first_look: bool,
}

impl AgentTask {
    /// Its container doesn't run: is it to be started again?
    pub(super) async fn consider_restart(&mut self) {
        if let Err(error) = self.consider().await {
            self.core
                .board
                .degraded("restarts", format!("{}: {error}", self.name()))
                .await;
        }
    }

    async fn consider(&mut self) -> Result<(), AgentError> {
        let contained = self.restarting.contained.take();
        let ran = self.restarting.ran.take();
        let Some(record) = self.core.store.agent_by_container(&self.subject.container).await? else {
            return Ok(());
        };
        if record.spec.restart == Restart::No {
            return Ok(());
        }
        let Some(inspect) = self.ended_container().await? else {
            return Ok(());
        };
        if self.restarting.considered.as_ref() == Some(&inspect.finished_at) {
            return Ok(());
        }
        let found = self.restarting.first_look;
        let before = record.restarts.clone().unwrap_or_default();
        if before.over.is_none() && before.end == inspect.finished_at {
            // Decided by an earlier life of ours, which didn't live to do it.
            self.restarting.considered = Some(inspect.finished_at.clone());
            return self.plan(&before);
        }
        let end = End {
            code: inspect.exit_code,
            ran_ms: ran.map(|ran| ran.as_millis().try_into().unwrap_or(u64::MAX)),
            contained: contained.or_else(|| self.contained()),
            found,
        };
        match decide(record.spec.restart, past(&before), &end) {
            Decision::Stay => {}
            Decision::Never { why } => self.give_up(why).await?,
            Decision::Again { restarts, delay_ms } => {
                let planned = RestartPlanned {
                    container: self.subject.container.clone(),
                    end: inspect.finished_at.clone(),
                    code: inspect.exit_code,
                    restarts,
                    delay_ms,
                    due_ms: now_ms().saturating_add(delay_ms),
                };
                let due = Restarts {
                    end: planned.end.clone(),
                    restarts,
                    delay_ms,
                    due_ms: planned.due_ms,
                    over: None,
                };
                self.core.store.append_synced(Some(self.name()), planned).await?;
                self.plan(&due)?;
            }
        }
        self.restarting.considered = Some(inspect.finished_at);
        Ok(())
    }

    fn plan(&mut self, due: &Restarts) -> Result<(), AgentError> {
        // A clock that was put back must not make it wait longer than it was to.
        let wait = due.due_ms.saturating_sub(now_ms()).min(due.delay_ms);
        self.restarting.planned = Some((Instant::now() + Duration::from_millis(wait), due.end.clone()));
        let text = format!("restart {} planned", due.restarts);
        self.status.send_modify(|status| status.plan = text);
        Ok(())
    }

    /// The plan is due: whatever was decided meanwhile counts.
    pub(super) async fn restart_due(&mut self) {
        let Some((_, end)) = self.restarting.planned.take() else {
            return;
        };
        self.status.send_modify(|status| status.plan.clear());
        match self.still_wanted(&end).await {
            Ok(false) => {}
            Ok(true) => {
                let (core, name, container) = (self.core.clone(), self.name().clone(), self.subject.container.clone());
                self.starting
                    .spawn(async move { (end, join::start(&core, &name, &container).await) });
            }
            Err(error) => self.try_later(end, error.to_string()).await,
        }
    }

    pub(super) async fn restarted(&mut self, end: String, started: Result<(), AgentError>) {
        match started {
            Ok(()) => {
                self.core.board.recovered("restarts").await;
                self.look().await;
            }
            // Removed meanwhile: nobody is left to be started.
            Err(AgentError::Docker(DockerError::NoSuchContainer { .. })) => {}
            Err(error) => self.try_later(end, error.to_string()).await,
        }
    }

    async fn try_later(&mut self, end: String, why: String) {
        self.core
            .board
            .degraded("restarts", format!("{}: {why}", self.name()))
            .await;
        self.restarting.planned = Some((Instant::now() + ENGINE, end));
    }

    async fn still_wanted(&mut self, end: &str) -> Result<bool, AgentError> {
        let record = self.core.store.agent_by_container(&self.subject.container).await?;
        let wanted = |record: &AgentRecord| {
            let restarts = record.restarts.as_ref();
            restarts.is_some_and(|restarts| restarts.over.is_none() && restarts.end == end)
        };
        if !record.as_ref().is_some_and(wanted) {
            return Ok(false);
        }
        if let Some(contained) = self.contained() {
            self.give_up(format!("it is contained: {contained}")).await?;
            return Ok(false);
        }
        let inspect = self.ended_container().await?;
        Ok(inspect.is_some_and(|inspect| inspect.finished_at == end))
    }

    /// Docker's word on a container that has run and doesn't any more.
    async fn ended_container(&self) -> Result<Option<Inspect>, AgentError> {
        let inspect = self.core.docker.inspect(&self.subject.container).await?;
        Ok(inspect.filter(|inspect| !inspect.running && inspect.pid == 0 && inspect.status == "exited"))
    }

    /// How its processes or its identity are contained, for a restart that can't be.
    pub(super) fn contained(&self) -> Option<String> {
        let view = self.core.containment.watch(self.name())?;
        let asked = view.borrow().asked.clone();
        let held = asked.processes != ProcessState::Running || asked.identity == IdentityState::Revoked;
        held.then(|| asked.to_string())
    }

    async fn give_up(&self, why: String) -> Result<(), AgentError> {
        let ended = RestartsEnded {
            container: self.subject.container.clone(),
            by: HOST.to_owned(),
            why,
        };
        self.core.store.append_synced(Some(self.name()), ended).await?;
        Ok(())
    }
}

fn past(restarts: &Restarts) -> Past {
    Past {
        restarts: restarts.restarts,
        delay_ms: restarts.delay_ms,
        over: restarts.over.as_ref().map(|by| match by.as_str() {
            HOST => Over::GivenUp,
            _ => Over::Stopped,
        }),
    }
}
