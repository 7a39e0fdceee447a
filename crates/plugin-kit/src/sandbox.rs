//! The sandbox that a control plane has, for one component.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clawker_plugin_host::limits::MAX_COMPONENT;
use clawker_plugin_host::{Host, Limits, Plugin, digest};

use crate::Error;
use crate::error::read_bytes;

/// For one `evaluate`: fuel decides as it does in a control plane, and a machine that is busy compiling fails no case.
const WALL: Duration = Duration::from_secs(5);

/// A host that accepts one component, and that component.
pub struct Sandbox {
    pub host: Host,
    pub plugin: Arc<Plugin>,
}

impl Sandbox {
    /// Loads these bytes and nothing else, after the checks of every load.
    pub fn load(bytes: &[u8]) -> Result<Self, Error> {
        let policy = Limits {
            wall: WALL,
            ..Limits::POLICY
        };
        let host = Host::with_limits(HashSet::from([digest(bytes)]), policy, Limits::STEP)?;
        let plugin = host.load(bytes)?;
        Ok(Self { host, plugin })
    }
}

/// A component's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_bytes(path, MAX_COMPONENT as u64)
}
