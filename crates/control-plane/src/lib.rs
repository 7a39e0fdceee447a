//! clawker-cp: the per-host control plane. Joins the adapters and decides with `engine`.

pub mod admin;
pub mod agent;
pub mod backup;
pub mod bus;
pub mod config;
pub mod containment;
pub mod core;
pub mod engine_watch;
mod execs;
pub mod fault;
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
pub mod plugins;
pub mod rotation;
pub mod run;
pub mod signer;
pub mod world;
