//! TLS and HTTP/2 over a connection that the agent made: the roles reverse, the control plane is the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clawker_identity::control::{CaptureSlot, session_client};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::AgentError;
use crate::core::Core;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// A peer that answers no ping for this long is gone; a frozen agent's clawkerd isn't frozen and answers.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Connects over `stream`; what the peer showed comes along. Fails only if the peer doesn't speak TLS and HTTP/2.
pub async fn dial(core: &Core, stream: UnixStream) -> Result<(Channel, CaptureSlot), AgentError> {
    let slot = CaptureSlot::default();
    let own = core.authority.control_plane_leaf()?;
    let config = session_client(&own, slot.clone()).map_err(|error| AgentError::Tls(error.to_string()))?;
    let name = ServerName::try_from("clawkerd").map_err(|error| AgentError::Tls(error.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let tls = tokio::time::timeout(HANDSHAKE, connecting)
        .await
        .map_err(|_| AgentError::Tls("no handshake within 10 s".into()))?
        .map_err(|error| AgentError::Tls(error.to_string()))?;

    // There is no second connection to be had from here: a redial waits for the agent to connect again.
    let mut once = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = once.take();
        async move { taken.ok_or_else(|| io::Error::other("the connection was used up")) }
    });
    let channel = Endpoint::from_static("http://clawkerd")
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector(connector)
        .await
        .map_err(|error| AgentError::Tls(format!("{error:?}")))?;
    Ok((channel, slot))
}
