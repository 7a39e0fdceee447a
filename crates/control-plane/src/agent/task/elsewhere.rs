//! The task of an agent on an engine elsewhere: the control plane dials, again and again, as long as the container runs.
//!
//! ```text
//!  start seen ─▶ containment in force ─▶ dial ─┬─ connected ─▶ session ─ lost ─▶ dial again
//!                                              ├─ refused: no join file yet ─▶ put one ─▶ dial again
//!                                              └─ nobody there ─▶ dial again, later
//!  contained so that nobody can answer (paused, disconnected, revoked): not dialled before it is released
//! ```

use std::sync::Arc;

use clawker_docker::Inspect;
use clawker_model::event::SessionConnecting;
use clawker_model::{IdentityState, NetworkState, ProcessState};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::AgentTask;
use crate::agent::drive::{Context, drive};
use crate::agent::elsewhere::{self, Dialled};
use crate::agent::status::{ContainerState, SessionState};
use crate::agent::{AgentError, join};

/// For this long after a start or a loss every try follows soon.
const EAGER: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether a contained one may be dialled again.
const HELD: Duration = Duration::from_millis(250);
/// A PID 1 that was given a join file opens its port within this; else it never saw the file.
const OPENS: Duration = Duration::from_secs(3);

/// What the task remembers of dialling.
#[derive(Default)]
pub(super) struct Dialling {
    due: Option<Instant>,
    work: JoinSet<Done>,
    pause: Option<Duration>,
    /// When eagerness began.
    since: Option<Instant>,
    /// Its port was open in this start: its PID 1 has its join file.
    opened: bool,
    /// When it refused first, or was given a join file last.
    refused: Option<Instant>,
    /// Where it was dialled last.
    pub(super) address: Option<String>,
}

pub(super) enum Done {
    Dialled(Dialled),
    Put(Result<(), AgentError>),
}

impl Dialling {
    /// From now on, for a new start or after a loss.
    fn begin(&mut self) {
        let now = Instant::now();
        (self.since, self.pause) = (Some(now), None);
        self.due = Some(now);
    }

    fn again(&mut self) {
        let now = Instant::now();
        let eager = self.since.is_some_and(|since| now < since + EAGER);
        let pause = match (eager, self.pause) {
            (true, _) | (_, None) => FIRST_PAUSE,
            (false, Some(pause)) => (pause * 2).min(MAX_PAUSE),
        };
        self.pause = Some(pause);
        self.due = Some(now + uniform(pause));
    }

    pub(super) async fn done(&mut self) -> Option<Done> {
        self.work.join_next().await?.ok()
    }
}

/// From half of `max` to all of it, so that many agents aren't dialled in the same instant.
fn uniform(max: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness it is only less spread.
    let _ = getrandom::fill(&mut byte);
    max.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}

impl AgentTask {
    /// When it is to be dialled next; never one whose init the kernel can attest, which connects by itself.
    pub(super) fn dial_at(&self) -> Option<Instant> {
        let elsewhere = self.life.as_ref().is_some_and(|life| life.init.kernel.is_none());
        let free = elsewhere && self.dialling.work.is_empty() && self.driving.is_empty();
        self.dialling.due.filter(|_| free)
    }

    /// What the engine says of it. A life is known by the time that the engine gives it.
    pub(super) async fn look_elsewhere(&mut self, inspect: &Inspect) {
        if !inspect.running || inspect.pid == 0 {
            if self.life.is_some() {
                self.end_life().await;
            } else {
                self.seen_stopped(inspect).await;
            }
            return;
        }
        let init = Arc::new(elsewhere::init(inspect));
        if self.life.as_ref().is_some_and(|life| life.init.boot_id == init.boot_id) {
            return;
        }
        if self.begin(&init).await.is_some() {
            self.dialling = Dialling::default();
            self.attach(&init).await;
            self.dialling.begin();
        }
    }

    /// Whether what holds it keeps it from answering.
    fn is_out_of_reach(&self) -> bool {
        let Some(view) = self.core.containment.watch(self.name()) else {
            return false;
        };
        let asked = view.borrow().asked.clone();
        asked.processes != ProcessState::Running
            || asked.network == NetworkState::Locked
            || asked.identity == IdentityState::Revoked
    }

    pub(super) async fn dial(&mut self) {
        if self.is_out_of_reach() {
            self.dialling.begin();
            self.dialling.due = Some(Instant::now() + HELD);
            return;
        }
        self.dialling.due = None;
        self.attempts = self.attempts.saturating_add(1);
        let (core, container) = (self.core.clone(), self.subject.container.clone());
        self.dialling
            .work
            .spawn(async move { Done::Dialled(elsewhere::dial(&core, &container).await) });
    }

    pub(super) async fn dialled(&mut self, done: Done) {
        match done {
            Done::Dialled(Dialled::Connected { stream, address }) => {
                self.dialling.opened = true;
                self.dialling.address = Some(format!("tcp:{address}"));
                self.connected(stream).await;
            }
            Done::Dialled(Dialled::Refused { address }) => {
                self.dialling.address = Some(format!("tcp:{address}"));
                self.refused().await;
            }
            Done::Dialled(Dialled::Nobody(why)) => {
                tracing::debug!(agent = %self.name(), why, "dialling");
                self.dialling.again();
                self.look().await;
            }
            Done::Put(result) => {
                if let Err(error) = result {
                    let detail = format!("{}: joining: {error}", self.name());
                    self.core.board.degraded("sessions", detail).await;
                }
                self.dialling.again();
            }
        }
    }

    async fn connected(&mut self, stream: UnixStream) {
        let Some((init, start)) = self.life.as_ref().map(|life| (life.init.clone(), life.start)) else {
            return;
        };
        if self.status.borrow().session == SessionState::None {
            self.status
                .send_modify(|status| status.session = SessionState::Connecting);
            let address = self.address();
            self.append(SessionConnecting { address }).await;
        }
        let Some(open) = self.unclosed.open() else {
            self.at_ceiling = true;
            self.dialling.again();
            return;
        };
        let ctx = Context {
            attempts: std::mem::take(&mut self.attempts),
            ..self.context(init, start)
        };
        self.driving.spawn(drive(ctx, stream, open, self.main_exited.clone()));
    }

    /// Nobody listens. A start that we didn't make has no join file; one of which we don't know whether it has, because
    /// an earlier life of ours made it, gets another when it had time to open its port.
    async fn refused(&mut self) {
        self.dialling.again();
        let Some(start) = self.life.as_ref().map(|life| life.start) else {
            return;
        };
        let now = Instant::now();
        let refused = *self.dialling.refused.get_or_insert(now);
        let record = match self.core.store.agent_by_container(&self.subject.container).await {
            Ok(record) => record,
            Err(error) => return self.core.board.degraded("journal", error.to_string()).await,
        };
        let Some(record) = record else { return };
        let given = record
            .issued
            .is_some_and(|issued| issued.start == start && issued.join.is_some());
        if self.dialling.opened || (given && now < refused + OPENS) {
            return;
        }
        self.dialling.refused = Some(now);
        let (core, name, container) = (self.core.clone(), self.name().clone(), self.subject.container.clone());
        self.dialling
            .work
            .spawn(async move { Done::Put(join::put(&core, &name, &container, start, false).await) });
    }

    /// A connection has ended.
    pub(super) fn dial_again(&mut self, established: bool) {
        if self.status.borrow().state != ContainerState::Running {
            return;
        }
        if established {
            self.dialling.begin();
        }
        self.dialling.again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dialling_is_eager_at_first_and_then_backs_off() {
        let mut dialling = Dialling::default();
        dialling.begin();
        let pause = |dialling: &mut Dialling| {
            dialling.again();
            dialling.due.expect("planned") - Instant::now()
        };
        assert!(pause(&mut dialling) <= FIRST_PAUSE);
        tokio::time::advance(EAGER).await;
        for _ in 0..20 {
            let next = pause(&mut dialling);
            assert!(!next.is_zero() && next <= MAX_PAUSE, "{next:?}");
        }
        assert!(pause(&mut dialling) >= MAX_PAUSE / 2);
        dialling.begin();
        assert!(pause(&mut dialling) <= FIRST_PAUSE, "after a loss");
    }
}
