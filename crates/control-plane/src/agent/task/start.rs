//! An agent's starts: numbering a new init, noticing its end, and asking Docker how things are.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clawker_docker::Inspect;
use clawker_model::Start;
use clawker_model::event::{SessionFailure, StartBegan};
use clawker_wire::session::Exited;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::{AgentTask, CYCLE, Life};
use crate::agent::AgentError;
use crate::agent::attest::Init;
use crate::agent::ended::Ended;
use crate::agent::status::{AgentStatus, ContainerState, ExitStatus, SessionState, Trust};
use crate::core::now_ms;

impl AgentTask {
    /// The number of the start that `init` is; a new one is journaled. `None` if the journal can't be written.
    pub(super) async fn begin(&mut self, init: &Arc<Init>) -> Option<u64> {
        if let Some(life) = &self.life
            && life.init.pid == init.pid
            && life.init.start_time == init.start_time
            && life.init.boot_id == init.boot_id
        {
            return Some(life.start);
        }
        self.end_life().await;
        let number = match self.number(init).await {
            Ok(number) => number,
            Err(error) => {
                self.core.board.degraded("journal", error.to_string()).await;
                return None;
            }
        };
        let watched = init.kernel.as_ref().map(|kernel| {
            let pidfd = kernel.pidfd.as_fd().try_clone_to_owned()?;
            // SAFETY: an OwnedFd names the same open descriptor for as long as it lives.
            unsafe { AsyncFd::register(pidfd) }.map_err(std::io::Error::from)
        });
        let died = match watched.transpose() {
            Ok(died) => died,
            Err(error) => {
                self.core
                    .board
                    .degraded("sessions", format!("{}: pidfd: {error}", self.name()))
                    .await;
                return None;
            }
        };
        self.life = Some(Life {
            init: init.clone(),
            start: number,
            began: Instant::now(),
            died,
            main: None,
        });
        self.cycle = Instant::now() + CYCLE;
        self.status.send_modify(|status| {
            *status = AgentStatus {
                state: ContainerState::Running,
                init_pid: init.pid,
                start: number,
                session: SessionState::Connecting,
                last_seen_ms: now_ms(),
                ..AgentStatus::new(status.container.clone())
            };
        });
        Some(number)
    }

    async fn number(&self, init: &Init) -> Result<u64, AgentError> {
        let record = self.core.store.agent_by_container(&self.subject.container).await?;
        let last = record.and_then(|record| record.start);
        if let Some(last) = &last
            && last.boot_id == init.boot_id
            && last.init_start_time == init.start_time
        {
            return Ok(last.number);
        }
        let number = last.map_or(1, |last| last.number + 1);
        let start = Start {
            number,
            boot_id: init.boot_id.clone(),
            init_start_time: init.start_time,
        };
        let pid = init.pid.unsigned_abs();
        let began = StartBegan {
            container: self.subject.container.clone(),
            start,
            pid,
        };
        self.core.store.append_synced(Some(self.name()), began).await?;
        Ok(number)
    }

    pub(super) async fn end_life(&mut self) {
        let Some(life) = self.life.take() else { return };
        // Looked at before the connection is ended. One that was judged had a session: who connects now may be the next
        // start already, when the engine told of the end late.
        let connected = {
            let status = self.status.borrow();
            status.session != SessionState::Connecting || status.trust != Trust::Unknown
        };
        self.driving.shutdown().await;
        self.session.send_replace(None);
        self.lost = None;
        if !connected {
            self.close_cycle(SessionFailure::ContainerNotRunning).await;
        }
        // Before it is detached: an escalation that ended it goes with it.
        self.restarting.contained = self.contained();
        self.restarting.ran = Some(life.began.elapsed());
        self.core.containment.detach(self.name(), life.start).await;
        self.ended(life.start, life.init.pid, life.main, None).await;
    }

    async fn ended(&mut self, start: u64, pid: i32, main: Option<Exited>, seen: Option<&Inspect>) {
        let removal_held = self.held.load(Ordering::Acquire) > 0;
        let ended = Ended {
            core: &self.core,
            name: self.name(),
            container: &self.subject.container,
        };
        match ended.journal(start, pid, main, seen).await {
            Ok(exit) => {
                self.status.send_modify(|status| {
                    status.state = ContainerState::Exited;
                    status.init_pid = 0;
                    status.session = SessionState::None;
                    status.command_running = false;
                    status.exit = exit.or(status.exit);
                });
                if !removal_held {
                    ended.remove_if_asked().await;
                }
                // Not before it is journaled: an engine that didn't answer is asked again at the next look.
                self.ended_start = start;
                if !removal_held {
                    self.consider_restart().await;
                }
            }
            Err(error) => {
                self.core
                    .board
                    .degraded("engine", format!("{}: {error}", self.name()))
                    .await
            }
        }
    }

    /// Asks Docker how the container is: at the beginning, and when something hinted at a change.
    pub(super) async fn look(&mut self) {
        let inspect = match self.core.docker.inspect(&self.subject.container).await {
            Ok(Some(inspect)) => inspect,
            // Whether it is gone for good is for the relist to say.
            Ok(None) => return,
            Err(error) => {
                self.core.board.degraded("engine", error.to_string()).await;
                return;
            }
        };
        self.labels = self.core.labels().name_in(&inspect.labels);
        if self.core.config.engine.is_elsewhere() {
            self.look_elsewhere(&inspect).await;
        } else if inspect.running {
            self.status.send_modify(|status| {
                if status.state != ContainerState::Running {
                    status.state = ContainerState::Running;
                    status.init_pid = inspect.pid;
                }
            });
        } else if self.life.is_none() && inspect.pid == 0 {
            // With a pid it isn't stopped: Docker says so of a container whose cgroup was frozen from outside.
            self.seen_stopped(&inspect).await;
        }
    }

    /// It doesn't run, and its end wasn't seen by this task: perhaps no control plane saw it.
    pub(super) async fn seen_stopped(&mut self, inspect: &Inspect) {
        let record = match self.core.store.agent_by_container(&self.subject.container).await {
            Ok(record) => record,
            Err(error) => return self.core.board.degraded("journal", error.to_string()).await,
        };
        let Some(record) = record else { return };
        let last = record.start.as_ref().map_or(0, |start| start.number);
        let state = if inspect.status == "created" {
            ContainerState::Created
        } else {
            ContainerState::Exited
        };
        let exit = record.exit.as_ref().filter(|exit| exit.start == last);
        self.status.send_modify(|status| {
            status.state = state;
            status.start = last;
            status.init_pid = 0;
        });
        if state == ContainerState::Exited && last > self.ended_start && exit.is_none() {
            return self.ended(last, 0, None, Some(inspect)).await;
        }
        if let Some(exit) = exit {
            let exit = ExitStatus {
                code: exit.code,
                signal: exit.signal,
                oom: exit.oom,
            };
            self.status.send_modify(|status| status.exit = Some(exit));
        }
        if state == ContainerState::Exited && self.held.load(Ordering::Acquire) == 0 {
            self.consider_restart().await;
        }
    }
}
