//! Whether a container's init is what we put there, and what containment may therefore count on.

use clawker_store::AgentRecord;

use super::Context;
use crate::agent::AgentError;
use crate::agent::attest::{Unattested, mounts_intact};
use crate::containment::Target;

/// What the store knows of a container, as far as its init is ours.
pub struct Known {
    /// None of a container that the store doesn't know, or whose init is masked.
    pub record: Option<AgentRecord>,
    /// Why its init isn't what we put there.
    pub masked: Option<Unattested>,
}

impl Known {
    pub fn init_is_ours(&self) -> bool {
        self.record.is_some()
    }
}

impl Context {
    pub async fn known(&self) -> Result<Known, AgentError> {
        let Some(record) = self.core.store.agent_by_container(&self.container).await? else {
            return Ok(Known {
                record: None,
                masked: None,
            });
        };
        // Whatever runs as this container's init, if it isn't what we put there it gets no identity.
        let masked = mounts_intact(&self.init, &self.run).err();
        Ok(Known {
            record: Some(record).filter(|_| masked.is_none()),
            masked,
        })
    }

    /// What containment is applied to.
    pub fn target(&self, init_is_ours: bool) -> Result<Target, AgentError> {
        let netns = self
            .init
            .netns
            .try_clone()
            .map_err(|source| AgentError::Preamble { source })?;
        Ok(Target {
            agent: self.name.clone(),
            container: self.container.clone(),
            start: self.start,
            init: self.init.pidfd.clone(),
            init_pid: self.init.pid,
            init_is_ours,
            netns,
            cgroup: self.core.cgroup_path(&self.container),
        })
    }
}
