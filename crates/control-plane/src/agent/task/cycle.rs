//! Being without a session: what is said of it, and how often.

use clawker_model::event::{SessionBroken, SessionFailed, SessionFailure};
use tokio::time::{Duration, Instant};

use super::{AgentTask, CYCLE};
use crate::agent::status::{ContainerState, SessionState};

/// What counts as one attempt while nobody connects.
const SILENT_ATTEMPT: Duration = Duration::from_secs(5);

impl AgentTask {
    pub(super) fn waiting(&self) -> bool {
        let status = self.status.borrow();
        status.state == ContainerState::Running && status.session != SessionState::Connected
    }

    pub(super) async fn say_broken(&mut self) {
        if let Some((_, reason)) = self.lost.take()
            && self.status.borrow().session != SessionState::Connected
        {
            self.append(SessionBroken {
                address: self.address(),
                reason,
            })
            .await;
        }
    }

    pub(super) async fn say_failed(&mut self) {
        if !self.waiting() {
            // A session came while nothing else woke this task.
            return;
        }
        let reason = if std::mem::take(&mut self.at_ceiling) {
            SessionFailure::FdCeiling
        } else {
            SessionFailure::ConnectTotalTimeout
        };
        self.close_cycle(reason).await;
        self.look().await;
    }

    /// Ends a cycle without a session. An attempt is a connection, or without one five seconds of a running container.
    pub(super) async fn close_cycle(&mut self, reason: SessionFailure) {
        let waited = CYCLE.saturating_sub(self.cycle.saturating_duration_since(Instant::now()));
        let silent = (waited.as_secs() / SILENT_ATTEMPT.as_secs())
            .try_into()
            .unwrap_or(u32::MAX);
        let attempts = match std::mem::take(&mut self.attempts) {
            0 => silent,
            connections => connections,
        };
        self.append(SessionFailed {
            address: self.address(),
            reason,
            attempts,
        })
        .await;
        self.cycle = Instant::now() + CYCLE;
    }
}
