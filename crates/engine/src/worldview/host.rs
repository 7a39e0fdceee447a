//! What is known of the host and of its control plane.

use std::collections::BTreeMap;

use clawker_model::PluginDigest;

/// The control plane's present life, and what works less than it should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Empty before the first life.
    pub cp_life: String,
    pub version: String,
    pub boot_id: String,
    pub started_ms: u64,
    /// It said that it is about to end.
    pub stopping: bool,
    /// The journal is new, and agents that were there before it are being taken over.
    pub rebuilding: bool,
    pub degraded: BTreeMap<String, Degraded>,
    /// Why rows of containers that are gone may be kept for now.
    pub reap_degraded: Option<Degraded>,
    /// By name.
    pub plugins: BTreeMap<String, Plugin>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Degraded {
    pub detail: String,
    /// When it began; a fault that says something else meanwhile is the same outage.
    pub since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    pub digest: PluginDigest,
    pub kind: String,
    /// Why it isn't asked any more.
    pub quarantined: Option<String>,
}
