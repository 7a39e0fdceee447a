//! TLS in memory, between any two configurations: for tests and simulations, part of no program.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

/// Flights until TLS 1.3 is done, with a few to spare.
const FLIGHTS: usize = 8;

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
