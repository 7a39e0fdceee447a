//! The host's roots, for operators: how things stand, and beginning a rotation.

use clawker_wire::admin::{Authority, Root};

use crate::core::Core;

/// How the roots stand, and how many agents know it.
pub fn show(core: &Core) -> Authority {
    let in_force = core.signer.in_force();
    let (agents, current) = core.holders.count(&in_force.roots);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Authority {
        phase: in_force.roots.phase.to_string(),
        roots: in_force
            .roots
            .ids()
            .map(|id| {
                let signs = *id == in_force.roots.signer;
                Root {
                    id: id.clone(),
                    signs,
                    not_after: signs.then_some(in_force.roots.signer_not_after),
                }
            })
            .collect(),
        leaf_seconds: core.config.identity.leaf_seconds,
        agents: count(agents),
        agents_current: count(current),
    }
}
