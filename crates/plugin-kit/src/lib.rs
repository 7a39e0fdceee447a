//! What authors of plugins need: projects, builds, test cases in the real sandbox, measurements, replays.
//!
//! Owns `plugin.toml`, case files, goldens and the templates of new projects. Talks to no control plane, installs
//! nothing and trusts nothing: it accepts the one component that it was handed, to run it under the limits that a
//! control plane has. Blocks throughout.
//!
//! ```text
//! project folder ── build::project ──► component ── Sandbox::load ──► cases::run | bench::run | replay::run
//! ```

pub mod bench;
pub mod build;
pub mod cases;
mod error;
pub mod javascript;
pub mod policy;
pub mod project;
pub mod python;
pub mod replay;
pub mod rust;
pub mod sandbox;
pub mod sign;
pub mod template;
mod tool;
pub mod words;

pub use clawker_plugin_build::Error as BuildError;
pub use error::Error;
pub use sandbox::Sandbox;

/// The examples of the SDK's reference are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugins/sdk.md")]
struct SdkReference;
