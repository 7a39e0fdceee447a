//! What a plugin's package is beside its code: who signed it, what it may do, and where a host keeps it.
//!
//! Owns the manifest in a component, the keys of authors and their signatures, the operator's file of trusted keys, grants,
//! and the install store with its lockfile. Runs nothing, compiles nothing, fetches nothing: what a component imports, and
//! what it says of itself, comes from whoever loads it.
//!
//! ```text
//! component ─┬─ clawker:manifest ─┐
//!            └─ imports ──────────┴► asked ──granted?──┐
//! <component>.sig ──by a trusted key, within scope?────┴► store: blobs/<digest>.wasm, named by plugins.lock
//! ```

mod grant;
mod key;
mod lock;
mod manifest;
mod section;
mod signature;
mod store;
mod trust;

pub use grant::{Grant, GrantError, Grants, MAX_GRANT, MAX_GRANTS};
pub use key::{KeyError, KeyId, PublicKey, SecretKey};
pub use lock::{Entry, Lock, LockError, MAX_LOCK, MAX_PLUGINS, OnTrial, Pin};
pub use manifest::{Asked, Kind, MAX_ASKS, MAX_MANIFEST, Manifest, ManifestError, SECTION, is_name};
pub use signature::{MAX_SIGNATURE, Signature, SignatureError};
pub use store::{Faults, MAX_COMPONENT, MAX_STORE, Point, Store, StoreError, digest};
pub use trust::{Judged, MAX_TRUST, Question, Refused, Signer, Trust, TrustError};
