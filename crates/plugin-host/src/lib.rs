//! Runs plugins: the only crate that knows wasmtime.
//!
//! Owns the engine, the limits and the check of components. A plugin gets what its world imports and nothing else:
//! no WASI, no clock, no randomness, no threads; fuel decides how long it may run, so the same input gives the same
//! answer everywhere. Nothing here performs an effect, checks a grant or decides what follows from a verdict: that is
//! the control plane's.
//!
//! ```text
//! bytes ── load ──► size, form, imports, exports ──► digest accepted? ──► compile ──► describe() ──► Plugin
//! event ── evaluate ──► fresh store ──► guest ──► caps ──► verdicts, state     (a trap, a loop: Unavailable)
//! history ── step ──► fresh store ──► guest asks effect n: recorded? answer it : end the call ──► StepTurn
//! ```
//!
//! Every call has a store of its own, which is dropped after it: no call sees what another left behind, and a trap
//! spoils nothing. All functions block; async callers use `spawn_blocking`.

pub mod digest;
mod effects;
mod engine;
mod error;
mod gate;
mod inspect;
pub mod limits;
mod load;
mod log;
mod note;
mod plugin;
mod policy;
mod settings;
mod state;
mod step;
mod windows;
pub mod worker;

mod bindings;

pub use clawker_model::event::{Facts, WindowCount};
pub use digest::{DigestsError, digest, parse_digests};
pub use engine::Host;
pub use error::{Error, LoadError, Unavailable};
pub use inspect::{Form, inspect};
pub use limits::{Limits, Wanted};
pub use note::{note, note_result};
pub use plugin::{Kind, Plugin, Window};
pub use policy::{PolicyCall, PolicyHost, PolicyReply, is_offered};
pub use settings::{SettingsError, check_settings, check_settings_against, secrets_named, with_version};
pub use step::{StepCall, StepContext, StepTurn};
pub use windows::Windows;
