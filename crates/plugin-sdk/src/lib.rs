//! Write clawker plugins in Rust.
//!
//! A plugin is a WebAssembly component in one of the worlds of `wit/`: a [*policy*](policy) watches what happens to
//! agents and says what should be done, a [*step*](step) prepares an agent before its command may run. Implement
//! [`policy::Policy`] or [`step::Step`], export it with [`export_policy!`] or [`export_step!`], build a `cdylib` for
//! `wasm32-unknown-unknown` and componentise it (`cargo xtask plugins` does both for the plugins of this repository).
//!
//! ```
//! use clawker_plugin_sdk::policy::{Event, Facts, Fault, Policy, Verdict, Window};
//!
//! struct OomAlert;
//!
//! impl Policy for OomAlert {
//!     const NAME: &str = "oom-alert";
//!     const VERSION: &str = "0.1.0";
//!     const EVENTS: &[&str] = &["ContainerOom"];
//!     const WINDOWS: &[Window] = &[Window { kind: "ContainerOom", seconds: 3600 }];
//!     type Settings = ();
//!     type State = ();
//!
//!     fn evaluate(_: &Event, facts: &Facts, _: &(), _: &mut ()) -> Result<Vec<Verdict>, Fault> {
//!         let often = facts.count("ContainerOom") > 2;
//!         Ok(often.then(|| Verdict::alert("out of memory three times in an hour")).into_iter().collect())
//!     }
//! }
//!
//! clawker_plugin_sdk::export_policy!(OomAlert);
//! ```
//!
//! There is no WASI: no clock, no randomness, no files, no environment. What a plugin knows comes as arguments, and
//! what it may do is the list of its imports: a step that never calls [`step::Container::exec`] doesn't import it.
//! Rules are plain functions, so most tests need no WebAssembly: [`policy::Session`] plays events to a policy,
//! [`step::TestContainer`] is a container for a step.
#![warn(missing_docs)]

pub mod log;
pub mod policy;
pub mod step;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;

/// `()` as a plugin's settings takes whatever was configured, and reads none of it.
fn read<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, String> {
    if std::mem::size_of::<T>() == 0 {
        if let Ok(nothing) = serde_json::from_str("null") {
            return Ok(nothing);
        }
    }
    serde_json::from_str(json).map_err(|error| format!("{what}: {error}"))
}
