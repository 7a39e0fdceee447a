//! TLS and HTTP/2 over a connection that the agent made: the roles reverse, the control plane is the client.
//!
//! Handshakes take turns, because a thousand at once are five times slower than a few at a time; but a turn is short, so
//! that peers who say nothing hold nobody up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clawker_identity::control::{CaptureSlot, session_client};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::AgentError;
use crate::core::Core;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes that may be under way at a time, each for as long as its turn.
const IN_FLIGHT: usize = 32;
/// A handshake that takes longer goes on without one.
const TURN: Duration = Duration::from_millis(250);
/// A peer that answers no ping for this long is gone; a frozen agent's clawkerd isn't frozen and answers.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Most bytes of a response's headers and trailers.
const MAX_HEADERS: u32 = 16 * 1024;

/// Turns of handshakes.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(IN_FLIGHT))
    }
}

impl Turns {
    /// Runs `handshake`, its first moments within a turn; an error if it takes more than ten seconds.
    pub async fn take<T>(&self, handshake: impl Future<Output = io::Result<T>>) -> Result<T, AgentError> {
        let tls = |error: io::Error| AgentError::Tls(error.to_string());
        tokio::pin!(handshake);
        let turn = self.0.acquire().await;
        if let Ok(done) = tokio::time::timeout(TURN, &mut handshake).await {
            return done.map_err(tls);
        }
        drop(turn);
        tokio::time::timeout(HANDSHAKE.saturating_sub(TURN), handshake)
            .await
            .map_err(|_| AgentError::Tls("no handshake within 10 s".into()))?
            .map_err(tls)
    }
}

/// Connects over `stream`, showing a leaf under the root `root_id`; what the peer showed comes along. Fails only if the
/// peer doesn't speak TLS and HTTP/2.
pub async fn dial<S>(core: &Core, stream: S, root_id: &str) -> Result<(Channel, CaptureSlot), AgentError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let slot = CaptureSlot::default();
    let own = core.signer.control_plane_leaf(root_id).await?;
    let config = session_client(&own, slot.clone()).map_err(|error| AgentError::Tls(error.to_string()))?;
    let name = ServerName::try_from("clawkerd").map_err(|error| AgentError::Tls(error.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let tls = core.turns.take(connecting).await?;

    // There is no second connection to be had from here: a redial waits for the agent to connect again.
    let mut once = Some(TokioIo::new(tls));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = once.take();
        async move { taken.ok_or_else(|| io::Error::other("the connection was used up")) }
    });
    let endpoint = Endpoint::from_static("http://clawkerd")
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADERS);
    let channel = tokio::time::timeout(HANDSHAKE, endpoint.connect_with_connector(connector))
        .await
        .map_err(|_| AgentError::Tls("no HTTP/2 within 10 s".into()))?
        .map_err(|error| AgentError::Tls(format!("{error:?}")))?;
    Ok((channel, slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_peers_hold_nobody_up() {
        let turns = Arc::new(Turns::default());
        let mut silent = tokio::task::JoinSet::new();
        for _ in 0..10 * IN_FLIGHT {
            let turns = turns.clone();
            silent.spawn(async move { turns.take(std::future::pending::<io::Result<()>>()).await.is_err() });
        }
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        turns.take(async { Ok(()) }).await.expect("served");
        assert!(began.elapsed() <= TURN * 11, "{:?}", began.elapsed());
        while let Some(refused) = silent.join_next().await {
            assert!(refused.expect("ended"), "a silent peer was let in");
        }
    }
}
