//! Write clawker plugins in Rust.
//!
//! A plugin is a WebAssembly component in one of the worlds of `wit/`: a [*policy*](mod@policy) watches what happens to
//! agents and says what should be done, a [*step*](mod@step) prepares an agent before its command may run, a
//! [*gate*](mod@gate) says whether a deploy may go ahead. Each is a function with an attribute that says the rest:
//!
//! ```
//! use clawker_plugin_sdk::policy::{Facts, Verdict};
//! use clawker_plugin_sdk::test::MockHost;
//! use clawker_plugin_sdk::{Settings, policy};
//! use serde_json::json;
//!
//! #[derive(Settings)]
//! struct Settings {
//!     /// Kills within an hour that are too many.
//!     #[settings(default = 3, min = 1)]
//!     kills: u64,
//! }
//!
//! /// Alerts when an agent is killed for memory too often.
//! #[policy(events(ContainerOom), windows(ContainerOom = 3600))]
//! fn oom_alert(facts: &Facts, settings: &Settings) -> Option<Verdict> {
//!     let kills = facts.count("ContainerOom");
//!     (kills >= settings.kills).then(|| Verdict::alert(format!("out of memory {kills} times in an hour")))
//! }
//!
//! MockHost::<oom_alert>::new()
//!     .settings(json!({"kills": 2}))
//!     .event("ContainerOom", json!({}))
//!     .expect_nothing()
//!     .event("ContainerOom", json!({}))
//!     .expect(["alert"]);
//! ```
//!
//! The attributes write the traits [`policy::Policy`], [`step::Step`] and [`gate::Gate`], which may be implemented by
//! hand, too, and exported by [`export_policy!`], [`export_step!`] and [`export_gate!`]. `clawker plugin build` makes a
//! component of the crate, a `cdylib` for `wasm32-unknown-unknown`.
//!
//! There is no WASI: no clock, no randomness, no files, no environment. What a plugin knows comes as arguments, and
//! what it may do is the list of its imports: a step that never calls [`step::Container::exec`] doesn't import it.
//! Rules are plain functions, so most tests need no WebAssembly: [`test::MockHost`] stands for the host of a policy,
//! [`step::TestContainer`] for the container of a step.
#![warn(missing_docs)]

pub mod events;
pub mod gate;
pub mod log;
pub mod policy;
pub mod settings;
pub mod step;
pub mod test;

mod macros;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;

pub use macros::{Settings, gate, policy, step};

/// What the macros write needs these, whatever a plugin depends on itself.
#[doc(hidden)]
pub mod __private {
    pub use {serde, serde_json};
}

/// `()` as a plugin's settings takes whatever was configured, and reads none of it.
fn read<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T, String> {
    if std::mem::size_of::<T>() == 0 {
        if let Ok(nothing) = serde_json::from_str("null") {
            return Ok(nothing);
        }
    }
    serde_json::from_str(json).map_err(|error| format!("{what}: {error}"))
}
