//! What an operator's stop and start mean to the restart policy, journaled before either is done.

use clawker_model::Restart;
use clawker_model::event::{RestartsBegun, RestartsEnded};

use super::error::Fault;
use super::resolve::Found;
use super::socket::Peer;
use crate::core::Core;

/// It isn't started again until somebody does.
pub async fn end(core: &Core, found: &Found, peer: Peer, why: &str) -> Result<(), Fault> {
    let Some(container) = restarting(found) else {
        return Ok(());
    };
    let ended = RestartsEnded {
        container,
        by: peer.operator(),
        why: why.to_owned(),
    };
    core.store.append(Some(&found.name), ended).await?;
    Ok(())
}

/// Whether an operator who sends this signal wants it to be over. What a Ctrl-C means is the command's own affair.
pub fn ends_by(signo: u32) -> bool {
    const SIGKILL: u32 = 9;
    const SIGTERM: u32 = 15;
    [SIGKILL, SIGTERM].contains(&signo)
}

/// Nothing of before counts.
pub async fn begin(core: &Core, found: &Found, peer: Peer) -> Result<(), Fault> {
    let Some(container) = restarting(found) else {
        return Ok(());
    };
    let begun = RestartsBegun {
        container,
        by: peer.operator(),
    };
    core.store.append(Some(&found.name), begun).await?;
    Ok(())
}

/// The container of an agent that has a restart policy.
fn restarting(found: &Found) -> Option<clawker_model::ContainerId> {
    let record = found.record.as_ref()?;
    (record.spec.restart != Restart::No)
        .then(|| record.container.clone())
        .flatten()
}
