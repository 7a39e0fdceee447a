//! An agent's end: what PID 1 holds, and how strict its TLS is.

use clawker_identity::control::{Capture, CaptureSlot, agent_server, session_client};
use clawker_identity::handshake::handshake;
use clawker_identity::{Credentials, agent, thumbprint};
use clawker_model::{ContainerId, FullName};

use super::SimError;
use crate::clock::Clock;

/// One agent's clawkerd.
#[derive(Debug)]
pub(super) struct Agent {
    pub name: FullName,
    pub container: ContainerId,
    pub held: Option<Credentials>,
    /// 0: none.
    pub generation: u64,
}

impl Agent {
    /// Ids of the roots that it knows.
    pub fn knows(&self) -> Vec<String> {
        let held = self.held.iter().flat_map(|held| &held.roots);
        held.map(|root| thumbprint(root)).collect()
    }

    /// The control plane dials it and shows `own`: what is captured, or why one of them refused.
    pub fn session(&self, own: &Credentials, clock: &Clock) -> Result<Capture, SimError> {
        let held = self.held.as_ref().ok_or(SimError::NoIdentity)?;
        let slot = CaptureSlot::default();
        let mut client = session_client(own, slot.clone())?;
        let mut server = agent::server_config(held)?;
        client.time_provider = std::sync::Arc::new(clock.clone());
        server.time_provider = std::sync::Arc::new(clock.clone());
        handshake(client, server, "clawkerd")?;
        Ok(slot.get())
    }

    /// It calls the control plane, which shows `own`.
    pub fn calls(&self, own: &Credentials, clock: &Clock) -> Result<Capture, SimError> {
        let held = self.held.as_ref().ok_or(SimError::NoIdentity)?;
        let slot = CaptureSlot::default();
        let mut client = agent::client_config(held)?;
        let mut server = agent_server(own, slot.clone())?;
        client.time_provider = std::sync::Arc::new(clock.clone());
        server.time_provider = std::sync::Arc::new(clock.clone());
        handshake(client, server, clawker_identity::CONTROL_PLANE)?;
        Ok(slot.get())
    }

    /// RotateIdentity, as PID 1 takes it.
    pub fn rotate(&mut self, leaf: Vec<u8>, roots: Vec<Vec<u8>>, clock: &Clock) -> Result<(), SimError> {
        let held = self.held.as_ref().ok_or(SimError::NoIdentity)?;
        self.held = Some(agent::renewed(held, leaf, roots, clock.unix())?);
        Ok(())
    }
}
