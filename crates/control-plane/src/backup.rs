//! Backup and restore of a control plane's state.
//!
//! Owns the archive's form, what is in it and the steps by which it takes the place of a state folder. In it: the
//! journal as of one moment, the host key, the authority, and a manifest with a digest of each. Not in it: `state.db`,
//! which is made anew from the journal; `secrets/` and `run/`, which belong to containers. It holds private keys, so it
//! is its owner's alone (0600) and worth as much as the host.
//!
//! ```text
//! running:  journal copied ─▶ digests ─▶ manifest, files as a tar archive ─▶ AdminService.Backup ─▶ `clawker backup`
//! stopped:  `clawker restore` ─▶ `clawker-cp restore` ─▶ lock ─▶ unpacked, digests ─▶ opened, audited
//!           ─▶ what is there goes to `replaced-<time>` ─▶ moved into place
//! ```

pub mod archive;
mod make;
mod restore;
#[cfg(test)]
mod tests;

pub use make::{Files, MakeError, write};
pub use restore::{RestoreError, Restored, refuse_half_restored, restore};

use clawker_store::SignedHead;
use serde::{Deserialize, Serialize};

/// What the archive calls itself.
const FORMAT: &str = "clawker-backup/1";
const MANIFEST: &str = "clawker-backup.json";
const JOURNAL: &str = "journal.db";
const HOST_KEY: &str = "host.key";
const AUTHORITY: &str = "ca";

/// The archive's first entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    /// Of the clawker that made it.
    version: String,
    made_ms: u64,
    /// The journal's last signed head in it.
    head: SignedHead,
    files: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Relative to the state folder.
    name: String,
    bytes: u64,
    /// SHA-256, in hex.
    sha256: String,
}
