//! The host's roots, for operators: how things stand, beginning a rotation, and the fleet's certificate of one.

use clawker_identity::authority::AuthorityError;
use clawker_wire::admin::{Authority, FleetCertificate, FleetRequest, Root};

use super::error::Fault;
use crate::core::Core;
use crate::signer::SignerError;

/// What the fleet's root is to sign.
pub async fn request(core: &Core) -> Result<FleetRequest, Fault> {
    let root = core.signer.in_force().roots.signer.clone();
    let pem = core
        .signer
        .fleet_request()
        .await
        .map_err(|error| Fault::internal(error.to_string()))?;
    Ok(FleetRequest { root, pem })
}

/// Keeps the fleet's certificate of a root in force.
pub async fn install(core: &Core, certificate: Vec<u8>) -> Result<Authority, Fault> {
    match core.signer.install(certificate).await {
        Ok(()) => Ok(show(core)),
        Err(SignerError::Authority(AuthorityError::Fleet(refused))) => Err(Fault::usage(
            refused.to_string(),
            "give what `clawker ca sign` made of this host's `clawker ca request`",
        )),
        Err(error) => Err(Fault::internal(error.to_string())),
    }
}

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
                let cross = in_force.crosses.iter().find(|(root, _)| root == id);
                Root {
                    id: id.clone(),
                    signs,
                    not_after: signs.then_some(in_force.roots.signer_not_after),
                    fleet: cross.map(|(_, cross)| FleetCertificate {
                        id: clawker_identity::thumbprint(&cross.der),
                        issuer: cross.issuer.clone(),
                        not_after: cross.not_after,
                    }),
                }
            })
            .collect(),
        leaf_seconds: core.config.identity.leaf_seconds,
        agents: count(agents),
        agents_current: count(current),
    }
}
