//! The sandbox that a control plane has, for one component.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clawker_plugin_host::limits::MAX_COMPONENT;
use clawker_plugin_host::{Host, Kind, Limits, Plugin, Wanted, digest};
use clawker_plugin_package::{self as package, Manifest};

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
    /// Loads these bytes and nothing else, after the checks of every load. Calls are under the limits that the manifest
    /// asks for; code that has none yet, under those of its kind.
    pub fn load(bytes: &[u8]) -> Result<Self, Error> {
        let policy = Limits {
            wall: WALL,
            ..Limits::POLICY
        };
        let host = Host::with_limits(HashSet::from([digest(bytes)]), policy, Limits::STEP)?;
        let manifest = Manifest::find(bytes)?;
        let limits = manifest.as_ref().map(|manifest| manifest.limits).unwrap_or_default();
        let wanted = Wanted {
            memory: limits.memory,
            fuel: limits.fuel,
        };
        let plugin = host.load_with(bytes, wanted)?;
        if let Some(manifest) = manifest {
            let kind = match plugin.kind {
                Kind::Policy => package::Kind::Policy,
                Kind::Step => package::Kind::Step,
            };
            manifest.agrees(&plugin.name, &plugin.version, kind, &plugin.imports)?;
        }
        Ok(Self { host, plugin })
    }
}

/// A component's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_bytes(path, MAX_COMPONENT as u64)
}
