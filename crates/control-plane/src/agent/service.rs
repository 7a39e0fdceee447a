//! AgentService, on an agent's own socket: what clawkerd may ask of the control plane.
//!
//! Layers, outermost first: attestation (the accept), TLS that keeps what was shown, scope, identity, handler.
//! What each RPC needs is decided in [`POLICY`]; a test compares it with the .proto file. Every refusal is
//! `PermissionDenied` with one text; the reason goes to the journal.

use std::sync::Arc;
use std::time::Duration;

use clawker_engine::register::{Admission, Claim, Shown, Token, admit};
use clawker_identity::control::{CaptureSlot, agent_server};
use clawker_model::event::{AgentRegistered, AgentUntrusted, RegistryRow, RegistryRowWritten, UntrustedReason};
use clawker_model::{ContainerId, FullName};
use clawker_wire::agent::agent_service_server::{AgentService, AgentServiceServer};
use clawker_wire::agent::{RegisterRequest, Welcome, WhoAmIRequest, WhoAmIResponse};
use tokio::net::UnixStream;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status};

use super::AgentError;
use super::identity::{self, PeerCell};
use super::tls_conn::TlsConn;
use crate::core::{Core, now_ms};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// No call of this service has a large message.
const MAX_CALL: usize = 16 * 1024;
const REFUSED: &str = "refused";

/// What an RPC asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The single-use token of RegisterRequired; there is no registry row yet.
    Token,
    /// A registry row that matches the leaf.
    Identity,
}

/// Every RPC of AgentService and what it needs.
pub const POLICY: &[(&str, Needs)] = &[("Register", Needs::Token), ("WhoAmI", Needs::Identity)];

/// Serves one attested connection until it ends.
pub async fn serve(
    core: Arc<Core>,
    name: FullName,
    container: ContainerId,
    cell: Arc<PeerCell>,
    stream: UnixStream,
) -> Result<(), AgentError> {
    let slot = CaptureSlot::default();
    let own = core.authority.control_plane_leaf()?;
    let config = agent_server(&own, slot.clone()).map_err(|error| AgentError::Tls(error.to_string()))?;
    let tls = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(Arc::new(config)).accept(stream))
        .await
        .map_err(|_| AgentError::Tls("no handshake within 10 s".into()))?
        .map_err(|error| AgentError::Tls(error.to_string()))?;
    let shown = identity::shown(&core, &slot.get(), &name, &container).1;
    let service = AgentServiceServer::new(Service {
        core,
        name,
        cell,
        shown,
    })
    .max_decoding_message_size(MAX_CALL)
    .max_encoding_message_size(MAX_CALL);
    let only = tokio_stream::once(Ok::<_, std::io::Error>(TlsConn::new(tls)));
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(only.chain(tokio_stream::pending()))
        .await
        .map_err(|error| AgentError::Tls(error.to_string()))
}

struct Service {
    core: Arc<Core>,
    name: FullName,
    cell: Arc<PeerCell>,
    /// What this connection's handshake showed.
    shown: Option<Shown>,
}

fn refused() -> Status {
    Status::permission_denied(REFUSED)
}

impl Service {
    /// What [`POLICY`] asks of a caller of `rpc`; the registry row of one that has to have one.
    async fn admit(&self, rpc: &str) -> Result<Option<RegistryRow>, Status> {
        let (_, needs) = POLICY.iter().find(|(known, _)| *known == rpc).ok_or_else(refused)?;
        if *needs == Needs::Token {
            return Ok(None);
        }
        let shown = self
            .shown
            .as_ref()
            .filter(|shown| shown.judged.is_ok())
            .ok_or_else(refused)?;
        let found = self.core.store.registry_by_thumbprint(&shown.thumbprint).await;
        let row = found
            .map_err(|error| self.unavailable(&error))?
            .ok_or_else(refused)?
            .row;
        if row.name == self.name {
            Ok(Some(row))
        } else {
            Err(refused())
        }
    }

    fn unavailable(&self, error: &dyn std::fmt::Display) -> Status {
        tracing::warn!(agent = %self.name, %error, "registry unavailable");
        Status::unavailable("try again")
    }

    async fn refuse(&self, container: ContainerId, start: u64, reason: UntrustedReason, detail: String) -> Status {
        let registered = AgentRegistered {
            container,
            start,
            ok: false,
            reason: Some(reason),
        };
        let untrusted = AgentUntrusted {
            reason: UntrustedReason::RegisterFailed,
            detail: format!("{reason}: {detail}"),
        };
        for event in [registered.into(), untrusted.into()] {
            let event: clawker_model::Event = event;
            if let Err(error) = self.core.store.append(Some(&self.name), event).await {
                return self.unavailable(&error);
            }
        }
        refused()
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Welcome>, Status> {
        self.admit("Register").await?;
        let (attested, labels) = self.cell.attested().ok_or_else(refused)?;
        let token = match request.metadata().get("authorization").map(|value| value.to_str()) {
            Some(Ok(value)) => match value.strip_prefix("Bearer ") {
                Some(token) if self.cell.burn(token) => Token::Valid,
                Some(_) => Token::Stale,
                None => Token::Missing,
            },
            _ => Token::Missing,
        };
        let row = match self.core.store.registry_row(&attested.container).await {
            Ok(row) => row,
            Err(error) => return Err(self.unavailable(&error)),
        };
        let claim = Claim {
            project: &request.get_ref().project,
            agent: &request.get_ref().agent,
            token,
        };
        match admit(
            &claim,
            self.shown.as_ref(),
            &attested,
            labels.as_ref(),
            row.as_ref(),
            now_ms(),
        ) {
            Admission::Known => Ok(Response::new(Welcome {})),
            Admission::Again => Err(Status::unavailable("try again")),
            Admission::Refused(reason, detail) => {
                Err(self.refuse(attested.container, attested.start, reason, detail).await)
            }
            Admission::Admit(row) => {
                let written = self
                    .core
                    .store
                    .append_synced(Some(&self.name), RegistryRowWritten { row })
                    .await;
                let registered = AgentRegistered {
                    container: attested.container,
                    start: attested.start,
                    ok: true,
                    reason: None,
                };
                written.map_err(|error| self.unavailable(&error))?;
                let noted = self.core.store.append(Some(&self.name), registered).await;
                noted.map_err(|error| self.unavailable(&error))?;
                Ok(Response::new(Welcome {}))
            }
        }
    }

    async fn who_am_i(&self, _request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let row = self.admit("WhoAmI").await?.ok_or_else(refused)?;
        Ok(Response::new(WhoAmIResponse {
            name: row.name.to_string(),
            container_id: row.container.to_string(),
            start: row.start,
            generation: row.generation,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The .proto file is the list of RPCs; one without a decision is a build that fails here.
    #[test]
    fn every_rpc_has_a_decision() {
        let proto = include_str!("../../../wire/proto/clawker/agent/v1/agent.proto");
        let rpcs: Vec<&str> = proto
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
            .collect();
        let decided: Vec<&str> = POLICY.iter().map(|(rpc, _)| *rpc).collect();
        assert_eq!(rpcs, decided);
    }
}
