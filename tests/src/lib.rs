//! A supervised host in the domain's words, over the real programs and a real Docker engine.
//!
//! ```text
//! Host::start() ─▶ private state folder, label prefix, network, admin socket ─▶ clawker-cp as a child
//!    host.agent("a").image(…).command(…).run() ─▶ the `clawker` program ─▶ an agent in a container
//!    host.expect_event("EgressDenied", |row| …)   host.expect_locked(&a)   host.kill_control_plane()
//! Drop ─▶ the child is killed; containers, networks and folders of this host are removed
//! ```
//! Owns nothing of the product and never looks inside it: what a test sees is what the command line, the journal's
//! events, Docker and the kernel say. Waiting is always polling with a deadline.

pub mod agent;
pub mod bins;
pub mod cleanup;
pub mod docker;
pub mod elsewhere;
pub mod events;
pub mod forge;
pub mod forged;
pub mod host;
pub mod image;
pub mod listener;
pub mod ran;
pub mod rig;
pub mod wait;

pub use agent::{Agent, AgentBuilder};
pub use docker::Docker;
pub use events::Row;
pub use host::Host;
pub use image::Image;
pub use listener::Listener;
pub use ran::Ran;
