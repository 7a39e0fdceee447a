//! From a reference that a person typed to the bytes of a component and its signature.
//!
//! Owns the forms of a reference, and every way to a component's bytes: files, the Nix store, OCI registries and layouts,
//! URLs. For the command line alone; the control plane never fetches. Whatever comes is a stranger's until its signature
//! was judged, which isn't done here: this crate checks sizes, times, digests and that the bytes begin as a component's.
//!
//! ```text
//! text ──parse──► Source ──fetch──► local    file, project folder, Nix store ──┐
//!                                   layout   OCI layout in a folder ───────────┤ caps, digests
//!                                   registry OCI registry ──┐                  ├──► Fetched
//!                                   url      https ─────────┴─ http ───────────┘
//! ```

mod reference;

mod error;
mod options;

mod local;

mod layout;

mod registry;

mod url;

mod answers;
mod credentials;
mod file;
mod http;

pub mod fuzzing;

use std::time::Instant;

pub use error::SourceError;
pub use options::{Fetched, Options};
pub use reference::{LayoutReference, LocalReference, OciReference, Pick, Source, UrlReference};

/// Bytes of a component; what the sandbox compiles at most.
pub const MAX_COMPONENT: u64 = 32 << 20;
/// Bytes of a signature file.
pub const MAX_SIGNATURE: u64 = 4 << 10;
/// Bytes of an OCI manifest, and of a layout's index.
pub const MAX_MANIFEST: u64 = 1 << 20;
/// How often an answer may send us elsewhere.
pub const MAX_REDIRECTS: usize = 3;
/// What an OCI artifact says it is: its `artifactType`, or its config's media type.
pub const PLUGIN_TYPE: &str = "application/vnd.clawker.plugin.v1+json";
/// The layer that is the component.
pub const COMPONENT_TYPE: &str = "application/wasm";
/// The layer that is the component's signature.
pub const SIGNATURE_TYPE: &str = "application/vnd.clawker.plugin.signature.v1+json";

/// Brings a component here, with its signature if there is one. Nothing is written anywhere.
///
/// Ends within [`Options::all`], whatever the other side does.
pub async fn fetch(source: &Source, options: &Options) -> Result<Fetched, SourceError> {
    let begun = Instant::now();
    let fetched = async {
        match source {
            Source::Local(local) => local::fetch(local, options).await,
            Source::Layout(layout) => layout::fetch(layout).await,
            Source::Oci(oci) => registry::fetch(oci, options).await,
            Source::Url(url) => url::fetch(url, options).await,
        }
    };
    match tokio::time::timeout(options.all, fetched).await {
        Ok(fetched) => fetched,
        Err(_) => Err(SourceError::Slow {
            what: source.to_string(),
            after: begun.elapsed(),
        }),
    }
}
