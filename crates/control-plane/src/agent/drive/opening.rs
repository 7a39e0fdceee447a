//! Before TLS: which identity is in force.

use clawker_proc::cgroup::AgentCgroup;
use clawker_store::AgentRecord;
use clawker_wire::preamble::ClientPreamble;
use tokio::net::UnixStream;

use super::Context;
use crate::agent::AgentError;
use crate::agent::bundle::{self, Identity};

impl Context {
    /// Exchanges the preamble. A container that the store doesn't know gets no identity.
    pub(super) async fn preamble(
        &self,
        stream: &mut UnixStream,
        record: Option<&AgentRecord>,
    ) -> Result<Identity, AgentError> {
        let core = &self.core;
        let held = bundle::read(stream).await?;
        if self.init.kernel.is_none() {
            return Ok(self.joined(&held, record));
        }
        let cgroup = AgentCgroup::create(&core.cgroup_path(&self.container))
            .map_err(|source| AgentError::Preamble { source })?;
        let roots = core.signer.in_force().roots.clone();
        let (identity, sealed) = match record {
            None => (nothing(&held), None),
            Some(record) => match bundle::kept(&held, record, self.start, &roots) {
                Some(identity) => (identity, None),
                None => {
                    let held = held.held_generation;
                    let issued = bundle::issue(core, &self.name, &self.container, record, self.start, held).await;
                    if let Err(error @ AgentError::TooManyBundles { .. }) = &issued {
                        self.too_many_bundles(error).await?;
                    }
                    let (identity, sealed) = issued?;
                    (identity, Some(sealed))
                }
            },
        };
        let half = self.announced_half().await;
        bundle::send(stream, self.start, identity.generation, sealed, half, &cgroup).await?;
        Ok(identity)
    }

    /// The identity in force is the one in this start's join file; there is no way to give another before the next
    /// start. What PID 1 says here is its word alone, and worth what its key then proves.
    fn joined(&self, held: &ClientPreamble, record: Option<&AgentRecord>) -> Identity {
        let roots = self.core.signer.in_force().roots.clone();
        record
            .and_then(|record| bundle::kept(held, record, self.start, &roots))
            .unwrap_or_else(|| nothing(held))
    }
}

/// No identity: whatever is shown is somebody else's.
fn nothing(held: &ClientPreamble) -> Identity {
    Identity {
        generation: held.held_generation,
        key_hash: None,
        leaf: None,
        recovered: 0,
        knows: held.root_ids.clone(),
    }
}
