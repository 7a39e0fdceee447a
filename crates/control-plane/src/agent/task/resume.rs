//! A start that went on while no control plane was there.
//!
//! ```text
//! the journal's last start ─▶ does that very process live, as this container's init? ─┬ yes ─▶ contained, read back
//!                                                                                   └ no  ─▶ Docker is asked
//! ```
//! So what is asked of an agent is verified before it connects, and also while the engine doesn't answer.

use std::sync::Arc;

use super::AgentTask;
use crate::agent::attest;

impl AgentTask {
    /// Takes up the start that was attested last, if its init lives; false if who runs is for Docker to say.
    pub(super) async fn resume(&mut self) -> bool {
        if self.core.config.engine.is_elsewhere() {
            // Its number is another host's.
            return false;
        }
        let record = match self.core.store.agent_by_container(&self.subject.container).await {
            Ok(record) => record,
            Err(error) => {
                self.core.board.degraded("journal", error.to_string()).await;
                return false;
            }
        };
        let Some((start, pid)) = record.and_then(|record| Some((record.start?, record.start_pid))) else {
            return false;
        };
        let cgroup = self.core.cgroup_path(&self.subject.container);
        match attest::again(&start, pid, &cgroup) {
            Ok(init) => {
                self.attach(&Arc::new(init)).await;
                self.life.is_some()
            }
            Err(why) => {
                tracing::debug!(agent = %self.name(), start = start.number, %why, "not resumed");
                false
            }
        }
    }
}
