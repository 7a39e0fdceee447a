//! AgentService, on an agent's own socket: what clawkerd may ask of the control plane.
//!
//! ```text
//! accept, attested ─▶ TLS that keeps what was shown ─▶ scope ─▶ identity ─▶ handler
//! ```
//! What each RPC needs is data ([`policy`]); who enforces it are layers ([`layers`]). Every refusal is `PermissionDenied`
//! with one text; the reason goes to the journal.

mod caller;
mod layers;
mod policy;
mod register;

use std::sync::Arc;
use std::time::Duration;

use clawker_identity::control::{CaptureSlot, agent_server};
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
use crate::core::Core;
pub use caller::Caller;
use layers::{CheckLayer, Entry, Identified, Scoped};

/// No call of this service has a large message.
const MAX_CALL: usize = 16 * 1024;
/// Calls of one connection at a time.
const MAX_STREAMS: u32 = 16;
/// Streams that a peer may reset before they are dealt with; more end the connection.
const MAX_RESETS: usize = 32;
/// Most bytes of a request's headers: a token is 43.
const MAX_HEADERS: u32 = 8 * 1024;
/// A call that takes longer is given up.
const CALL: Duration = Duration::from_secs(30);
/// A connection without a call for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// The one text of every refusal.
fn refused() -> Status {
    Status::permission_denied("refused")
}

pub use register::prove;

/// Serves one attested connection until it ends.
pub async fn serve(
    core: Arc<Core>,
    name: FullName,
    container: ContainerId,
    cell: Arc<PeerCell>,
    stream: UnixStream,
) -> Result<(), AgentError> {
    let slot = CaptureSlot::default();
    let roots = core.signer.in_force().roots.clone();
    let root_id = roots.shown_to(&cell.knows()).unwrap_or(&roots.signer).to_owned();
    let own = core.signer.control_plane_leaf(&root_id).await?;
    let config = agent_server(&own, slot.clone()).map_err(|error| AgentError::Tls(error.to_string()))?;
    let accepting = async { TlsAcceptor::from(Arc::new(config)).accept(stream).await };
    let tls = core.turns.take(accepting).await?;
    let peer = identity::look(&core, &slot.get(), &name, &container);
    identity::note_leak(&core, &peer, &container).await?;
    let caller = Arc::new(Caller {
        core,
        name,
        container,
        cell,
        peer,
    });
    let service = AgentServiceServer::new(Handler(caller.clone()))
        .max_decoding_message_size(MAX_CALL)
        .max_encoding_message_size(MAX_CALL);
    let only = tokio_stream::once(Ok::<_, std::io::Error>(TlsConn::new(tls)));
    tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_header_list_size(MAX_HEADERS)
        .timeout(CALL)
        .http2_keepalive_interval(Some(IDLE))
        .layer(CheckLayer::new(Scoped(caller.clone())))
        .layer(CheckLayer::new(Identified(caller)))
        .add_service(service)
        .serve_with_incoming(only.chain(tokio_stream::pending()))
        .await
        .map_err(|error| AgentError::Tls(error.to_string()))
}

struct Handler(Arc<Caller>);

#[tonic::async_trait]
impl AgentService for Handler {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Welcome>, Status> {
        register::register(&self.0, &request).await?;
        Ok(Response::new(Welcome {}))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let Some(Entry(row)) = request.extensions().get() else {
            return Err(refused());
        };
        Ok(Response::new(WhoAmIResponse {
            name: row.name.to_string(),
            container_id: row.container.to_string(),
            start: row.start,
            generation: row.generation,
        }))
    }
}
