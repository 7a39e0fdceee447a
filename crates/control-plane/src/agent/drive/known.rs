//! Whether a container's init is what we put there, and what containment may therefore count on.

use clawker_store::AgentRecord;

use super::Context;
use crate::agent::AgentError;
use crate::agent::attest::{Unattested, mounts_intact};
use crate::containment::{Kernel, Reach, Reduced, Target};

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
        // Whatever runs as this container's init, if it isn't what we put there it gets no identity. On an engine elsewhere
        // nothing is mounted: what was put there before the start is what runs.
        let mounted = self.init.kernel.is_some();
        let masked = mounted.then(|| mounts_intact(&self.init, &self.run).err()).flatten();
        Ok(Known {
            record: Some(record).filter(|_| masked.is_none()),
            masked,
        })
    }

    /// What containment is applied to.
    pub async fn target(&self, init_is_ours: bool) -> Result<Target, AgentError> {
        let reach = match &self.init.kernel {
            Some(kernel) => Reach::Kernel(Kernel {
                init: kernel.pidfd.clone(),
                init_pid: self.init.pid,
                init_is_ours,
                netns: kernel
                    .netns
                    .try_clone()
                    .map_err(|source| AgentError::Preamble { source })?,
                cgroup: self.core.cgroup_path(&self.container),
            }),
            None => {
                let record = self.core.store.agent_by_container(&self.container).await?;
                let network = record.map(|record| record.spec.network).unwrap_or_default();
                Reach::Engine(Reduced {
                    docker: self.core.docker.clone(),
                    network: network.name(&self.core.config.network).map(str::to_owned),
                })
            }
        };
        Ok(Target {
            agent: self.name.clone(),
            container: self.container.clone(),
            start: self.start,
            reach,
        })
    }
}
