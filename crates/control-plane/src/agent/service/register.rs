//! Register: the one call that makes a registry row.
//!
//! Judged by `engine::register::admit` on what the kernel attested, the handshake showed and the registry has. The labels
//! are those that the container had when its start was attested; only a start of which that isn't known asks Docker.
//! The row and the token that it cost are written in one transaction.

use std::time::Duration;

use clawker_engine::register::{Admission, Attested, Claim, Token, admit};
use clawker_identity::thumbprint;
use clawker_model::FullName;
use clawker_model::event::{AgentRegistered, UntrustedReason};
use clawker_store::{Candidate, Registry as _};
use clawker_wire::agent::RegisterRequest;
use clawker_wire::session::RegisterProof;
use subtle::ConstantTimeEq;
use tonic::{Request, Status};

use super::caller::Caller;
use super::layers::Gate;
use super::refused;
use crate::core::now_ms;

/// How long Docker may take to tell a container's labels.
const INSPECT: Duration = Duration::from_secs(2);

/// Ok is Welcome.
pub async fn register(caller: &Caller, request: &Request<RegisterRequest>) -> Result<(), Status> {
    let (attested, labels) = caller.cell.attested().ok_or_else(refused)?;
    if caller.is_revoked() {
        return Err(refused());
    }
    let (token, spent) = token(caller, request);
    let claim = Claim {
        project: &request.get_ref().project,
        agent: &request.get_ref().agent,
        token,
    };
    decide(caller, claim, spent, attested, labels).await
}

/// The same for an agent that can't call: its session's peer has answered with what it would have said. The token that
/// is spent is the join file's, so that one file makes one row.
pub async fn prove(caller: &Caller, proof: &RegisterProof) -> Result<(), Status> {
    let (attested, labels) = caller.cell.attested().ok_or_else(refused)?;
    if caller.is_revoked() {
        return Err(refused());
    }
    let record = caller.core.store.agent_by_container(&attested.container).await;
    let record = record.map_err(|error| caller.unavailable(&error))?;
    let issued = record.and_then(|record| record.issued);
    let issued = issued.filter(|issued| issued.start == attested.start && !issued.revoked);
    let given = thumbprint(proof.join.as_bytes());
    let good = issued
        .and_then(|issued| issued.join)
        .is_some_and(|join| bool::from(join.as_bytes().ct_eq(given.as_bytes())));
    if !good {
        let detail = "the join token isn't the one of this start";
        caller.note_refusal(UntrustedReason::RegisterFailed, detail).await;
        return Err(refused());
    }
    let (token, spent) = match caller.cell.burn(&proof.token) {
        true => (Token::Valid, Some(given)),
        false => (Token::Stale, None),
    };
    let claim = Claim {
        project: &proof.project,
        agent: &proof.agent,
        token,
    };
    decide(caller, claim, spent, attested, labels).await
}

async fn decide(
    caller: &Caller,
    claim: Claim<'_>,
    spent: Option<String>,
    attested: Attested,
    labels: Option<FullName>,
) -> Result<(), Status> {
    let row = match caller.core.store.registry_row(&attested.container).await {
        Ok(row) => row,
        Err(error) => return Err(caller.unavailable(&error)),
    };
    let labels = match labels {
        Some(labels) => Some(labels),
        None => asked(caller).await?,
    };
    let shown = caller.peer.shown.as_ref();
    match admit(&claim, shown, &attested, labels.as_ref(), row.as_ref(), now_ms()) {
        Admission::Known => Ok(()),
        Admission::Again => Err(Status::unavailable("try again")),
        Admission::Refused(reason, detail) => {
            let detail = match caller.peer.detail.as_str() {
                "" => detail,
                more => format!("{detail}: {more}"),
            };
            caller.note_refusal(reason, &detail).await;
            Err(refused())
        }
        Admission::Admit(row) => {
            let store = &caller.core.store;
            let candidate = Candidate {
                token: spent,
                ..row.into()
            };
            match store.add(candidate).await {
                Ok(_) => {}
                Err(clawker_store::Error::TokenSpent) if caller.core.config.engine.is_elsewhere() => {
                    let detail = "the join token was used before";
                    caller.note_refusal(UntrustedReason::RegisterFailed, detail).await;
                    return Err(refused());
                }
                // Somebody was faster with the same token; the session sends another.
                Err(clawker_store::Error::TokenSpent) => return Err(Status::unavailable("try again")),
                Err(error) => return Err(caller.unavailable(&error)),
            }
            let registered = AgentRegistered {
                container: attested.container,
                start: attested.start,
                ok: true,
                reason: None,
            };
            let noted = store.append(Some(&caller.name), registered).await;
            noted.map(drop).map_err(|error| caller.unavailable(&error))
        }
    }
}

/// What the call's token is worth, and its hash if it is good.
fn token(caller: &Caller, request: &Request<RegisterRequest>) -> (Token, Option<String>) {
    let header = request.metadata().get("authorization");
    let bearer = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match bearer {
        Some(token) if caller.cell.burn(token) => (Token::Valid, Some(thumbprint(token.as_bytes()))),
        Some(_) => (Token::Stale, None),
        None => (Token::Missing, None),
    }
}

/// The name in the container's labels, from Docker.
async fn asked(caller: &Caller) -> Result<Option<FullName>, Status> {
    match tokio::time::timeout(INSPECT, caller.core.docker.inspect(&caller.container)).await {
        Ok(Ok(inspect)) => Ok(inspect.and_then(|inspect| caller.core.labels().name_in(&inspect.labels))),
        Ok(Err(error)) => Err(caller.unavailable(&error)),
        Err(_) => Err(caller.unavailable(&"Docker didn't answer in 2 s")),
    }
}
