//! What a plugin's package is beside its code: who signed it.
//!
//! Owns the keys of authors and the signatures over components. Runs nothing, compiles nothing, asks nobody: whether a
//! key is trusted is the host's to know, and what a component may do is in its imports.
//!
//! ```text
//! component ──► SHA-256 ──► "clawker-plugin-signature/1\nsha256:<hex>\n" ──ed25519──► <component>.sig, JSON
//! ```

mod key;
mod signature;

pub use key::{KeyError, KeyId, PublicKey, SecretKey};
pub use signature::{MAX_SIGNATURE, Signature, SignatureError};
