//! Who is at the other end of one connection to an agent socket, and what the registry says of them.

use std::sync::Arc;

use clawker_engine::register::Shown;
use clawker_model::event::{AgentRegistered, AgentUntrusted, RegistryRow, UntrustedReason};
use clawker_model::{ContainerId, FullName, IdentityState};
use clawker_store::Registry as _;
use tonic::Status;

use super::layers::Gate;
use super::refused;
use crate::agent::identity::{self, Peer, PeerCell};
use crate::core::{Core, now_ms};

/// One attested connection.
pub struct Caller {
    pub core: Arc<Core>,
    pub name: FullName,
    pub container: ContainerId,
    pub cell: Arc<PeerCell>,
    pub peer: Peer,
}

impl Caller {
    /// What it showed, if that is believed.
    fn believed(&self) -> Option<&Shown> {
        self.peer.shown.as_ref().filter(|shown| shown.judged.is_ok())
    }

    /// Until an operator releases a revoked identity, its key opens nothing.
    pub fn is_revoked(&self) -> bool {
        self.core
            .containment
            .watch(&self.name)
            .is_some_and(|view| view.borrow().asked.identity == IdentityState::Revoked)
    }

    /// The registry doesn't answer: that says nothing about the caller, who may come again.
    pub fn unavailable(&self, error: &dyn std::fmt::Display) -> Status {
        tracing::warn!(agent = %self.name, %error, "registry unavailable");
        Status::unavailable("try again")
    }
}

impl Gate for Caller {
    /// The registry row of the leaf that was shown: the thumbprint's, of this very container, with the canonical CN.
    async fn identify(&self) -> Result<RegistryRow, Status> {
        if self.is_revoked() {
            return Err(refused());
        }
        let shown = self.believed().ok_or_else(refused)?;
        let cn = self.peer.claims.as_ref().map(|claims| claims.cn.as_str());
        let row = match self.core.store.lookup(&shown.thumbprint, cn.unwrap_or_default()).await {
            Ok(entry) => entry.row,
            Err(error) if error.is_refusal() => return Err(refused()),
            Err(error) => return Err(self.unavailable(&error)),
        };
        if row.container != self.container || row.name != self.name {
            return Err(refused());
        }
        self.core.store.seen(&self.container, now_ms());
        identity::confirm(&self.core, &row, shown)
            .await
            .map_err(|error| self.unavailable(&error))?;
        Ok(row)
    }

    /// Journals why a registration is refused; the same reason is said once a start, however often it is tried.
    async fn note_refusal(&self, reason: UntrustedReason, detail: &str) {
        let Some((attested, _)) = self.cell.attested() else {
            return;
        };
        if !self.cell.refused(reason) {
            return;
        }
        let registered = AgentRegistered {
            container: attested.container,
            start: attested.start,
            ok: false,
            reason: Some(reason),
        };
        let untrusted = AgentUntrusted {
            reason: UntrustedReason::RegisterFailed,
            detail: format!("{reason}: {detail}"),
            intruder: false,
        };
        for event in [registered.into(), untrusted.into()] {
            let event: clawker_model::Event = event;
            if let Err(error) = self.core.store.append(Some(&self.name), event).await {
                self.core.board.degraded("journal", error.to_string()).await;
            }
        }
    }
}
