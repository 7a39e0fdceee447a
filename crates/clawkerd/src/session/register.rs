//! What this agent says on the agent socket: registration, with the token that the control plane gave, and a first word
//! with a renewed leaf. Where there is no such socket, because the control plane is elsewhere, it answers with what it
//! would have said, and the control plane admits it itself.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawker_identity::{CONTROL_PLANE, agent};
use clawker_wire::agent::agent_service_client::AgentServiceClient;
use clawker_wire::agent::{RegisterRequest, WhoAmIRequest};
use clawker_wire::session::{RegisterDone, RegisterProof};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use super::hub::Hub;
use super::serve::Identity;

const DEADLINE: Duration = Duration::from_secs(30);

/// How it went, as the control plane hears it on the session too.
pub async fn register(hub: &Hub, identity: &Identity, token: &str) -> RegisterDone {
    if let Some(join) = &identity.join {
        return RegisterDone {
            ok: true,
            proof: Some(RegisterProof {
                project: identity.project.clone(),
                agent: identity.agent.clone(),
                token: token.to_owned(),
                join: join.clone(),
            }),
            ..RegisterDone::default()
        };
    }
    let attempt = tokio::time::timeout(DEADLINE, attempt(hub, identity, token));
    let result = attempt
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer came in time")));
    match result {
        Ok(()) => RegisterDone {
            ok: true,
            ..RegisterDone::default()
        },
        Err(status) => RegisterDone {
            ok: false,
            code: format!("{:?}", status.code()),
            message: status.message().to_owned(),
            proof: None,
        },
    }
}

async fn attempt(hub: &Hub, identity: &Identity, token: &str) -> Result<(), Status> {
    let socket = hub.agent_socket().await.map_err(Status::unavailable)?;
    let channel = connect(socket, identity).await?;
    let mut request = Request::new(RegisterRequest {
        project: identity.project.clone(),
        agent: identity.agent.clone(),
    });
    let bearer = format!("Bearer {token}")
        .parse()
        .map_err(|_| Status::invalid_argument("the token is no token"))?;
    request.metadata_mut().insert("authorization", bearer);
    AgentServiceClient::new(channel).register(request).await.map(drop)
}

/// Shows the leaf in force, so that the control plane sees a renewed one in a finished handshake and forgets the one
/// before it. If it fails, the next connection does the same.
pub async fn confirm(hub: &Hub, identity: &Identity) {
    if identity.join.is_some() {
        // The next connection's handshake shows it.
        return;
    }
    let shown = tokio::time::timeout(DEADLINE, async {
        let socket = hub.agent_socket().await.map_err(Status::unavailable)?;
        let channel = connect(socket, identity).await?;
        AgentServiceClient::new(channel).who_am_i(WhoAmIRequest {}).await
    });
    if let Ok(Err(status)) = shown.await {
        eprintln!("clawkerd: showing the renewed leaf: {}", status.message());
    }
}

async fn connect(socket: OwnedFd, identity: &Identity) -> Result<Channel, Status> {
    let unavailable = |error: &dyn std::fmt::Display| Status::unavailable(format!("the agent socket: {error}"));
    let config = agent::client_config(&identity.credentials()).map_err(|e| unavailable(&e))?;
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true).map_err(|e| unavailable(&e))?;
    let stream = UnixStream::from_std(stream).map_err(|e| unavailable(&e))?;
    let name = ServerName::try_from(CONTROL_PLANE).map_err(|e| unavailable(&e))?;
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| unavailable(&e))?;
    // There is one connection and no redial: asked a second time, the connector has nothing to give.
    let once = Arc::new(Mutex::new(Some(TokioIo::new(tls))));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { taken.ok_or_else(|| std::io::Error::other("the connection is used up")) }
    });
    Endpoint::from_static("http://clawker-cp")
        .connect_with_connector(connector)
        .await
        .map_err(|e| unavailable(&e))
}
