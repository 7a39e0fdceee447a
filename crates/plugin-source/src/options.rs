//! What a fetch is told, and what it brings.

use std::path::PathBuf;
use std::time::Duration;

use clawker_model::PluginDigest;
use sha2::{Digest as _, Sha256};

use crate::SourceError;

/// How to fetch. The defaults are those of the command line; tests have shorter times.
#[derive(Debug, Clone)]
pub struct Options {
    /// For one connection, names and TLS included.
    pub connect: Duration,
    /// For each read, the wait for an answer's head included.
    pub read: Duration,
    /// For the whole of it.
    pub all: Duration,
    /// Root certificates beside the system's, PEM.
    pub extra_roots: Option<PathBuf>,
    /// A line `user:password` for the registry that the reference names; nobody else may be able to read the file.
    pub registry_auth: Option<PathBuf>,
    /// Docker's `config.json`, whose `auths` are used where `registry_auth` isn't given.
    pub docker_config: Option<PathBuf>,
    /// Where the Nix store is.
    pub nix_store: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(15),
            all: Duration::from_secs(120),
            extra_roots: None,
            registry_auth: None,
            docker_config: None,
            nix_store: "/nix/store".into(),
        }
    }
}

/// A component, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub component: Vec<u8>,
    /// The signature file's bytes, unread: whether they are one is `clawker-plugin-package`'s to say.
    pub signature: Option<Vec<u8>>,
    /// SHA-256 of the component.
    pub digest: PluginDigest,
    /// A reference that means these bytes and no others.
    pub resolved: String,
}

/// What every way of fetching ends with.
pub(crate) fn fetched(
    what: &str,
    component: Vec<u8>,
    signature: Option<Vec<u8>>,
    resolved: impl FnOnce(&PluginDigest) -> String,
) -> Result<Fetched, SourceError> {
    let not = |problem| SourceError::NotAComponent {
        what: what.to_owned(),
        problem,
    };
    // `\0asm`, then the version, then the layer: 0 a core module, 1 a component.
    match component.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => {}
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => {
            return Err(not("it is a core module; `clawker plugin build` makes a component"));
        }
        _ => return Err(not("it doesn't begin as WebAssembly does")),
    }
    let digest = digest_of(&component);
    Ok(Fetched {
        resolved: resolved(&digest),
        component,
        signature,
        digest,
    })
}

pub(crate) fn digest_of(bytes: &[u8]) -> PluginDigest {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    PluginDigest::parse(&hex).expect("hex of a SHA-256")
}

/// Refuses bytes that aren't those that were asked for.
pub(crate) fn expect_digest(what: &str, bytes: &[u8], wanted: &PluginDigest) -> Result<(), SourceError> {
    let found = digest_of(bytes);
    if found == *wanted {
        Ok(())
    } else {
        Err(SourceError::Digest {
            what: what.to_owned(),
            wanted: wanted.clone(),
            found,
        })
    }
}
