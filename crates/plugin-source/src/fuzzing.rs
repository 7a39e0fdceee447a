//! The doors of `clawker-fuzz`, and of nobody else: what strangers say, read as a fetch reads it.

use clawker_model::PluginDigest;

use crate::answers::{self, Challenge};

/// The digests and sizes of a plugin's layers, from a registry's manifest.
pub fn manifest(json: &[u8]) -> Option<Vec<(PluginDigest, u64)>> {
    let artifact = answers::artifact(json).ok()?;
    let layers = [Some(artifact.component), artifact.signature].into_iter().flatten();
    Some(layers.map(|blob| (blob.digest, blob.size)).collect())
}

/// The manifests of a layout's index.
pub fn index(json: &[u8]) -> Option<Vec<PluginDigest>> {
    let entries = answers::index(json).ok()?;
    Some(entries.into_iter().map(|entry| entry.digest).collect())
}

/// The realm of a challenge; empty for one without.
pub fn challenge(header: &str) -> Option<String> {
    match Challenge::parse(header)? {
        Challenge::Basic => Some(String::new()),
        Challenge::Bearer { realm, .. } => Some(realm),
    }
}

/// A token server's answer.
pub fn token(json: &[u8]) -> Option<String> {
    answers::token(json).ok()
}
