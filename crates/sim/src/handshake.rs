//! TLS in memory, between any two configurations, at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

/// Flights until TLS 1.3 is done, with a few to spare.
const FLIGHTS: usize = 8;

/// A clock that stands where it was put, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn at(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Seconds since the Unix epoch, as certificates have it.
    pub fn now_s(&self) -> i64 {
        i64::try_from(self.now_ms() / 1000).unwrap_or(i64::MAX)
    }

    pub fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_millis(self.now_ms()))
    }

    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}

/// Runs a handshake with the server `name` to its end. The error is that of whichever side refused.
pub fn handshake(client: ClientConfig, server: ServerConfig, name: &'static str) -> Result<(), Error> {
    let name = ServerName::try_from(name).map_err(|error| Error::General(error.to_string()))?;
    let memory = |error: std::io::Error| Error::General(error.to_string());
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..FLIGHTS {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).map_err(memory)?;
        }
        server.read_tls(&mut wire.as_slice()).map_err(memory)?;
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).map_err(memory)?;
        }
        client.read_tls(&mut wire.as_slice()).map_err(memory)?;
        client.process_new_packets()?;
    }
    if client.is_handshaking() || server.is_handshaking() {
        return Err(Error::HandshakeNotComplete);
    }
    Ok(())
}
