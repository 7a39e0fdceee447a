//! What goes over the wires: the gRPC services of the session, of agents and of operators.
//!
//! Owns the `.proto` files, the code generated from them (`src/gen`, compared in a test, never edited)
//! and the conversions to `model`. Opens no connection and decides nothing.

pub mod defaults;
pub mod join;
pub mod kept;
pub mod preamble;

/// Highest generation of the session protocol that this build speaks. What came with each stands in docs/clawkerd.md.
pub const PROTOCOL: u32 = 2;
/// The lowest: an agent keeps its session half for as long as it runs, unless that is upgraded.
pub const OLDEST_PROTOCOL: u32 = 1;

/// The build of clawkerd that belongs to this one: what `clawkerd --version` and HelloAck say.
pub const CLAWKERD: &str = concat!("clawkerd ", env!("CARGO_PKG_VERSION"));

/// Most bytes of an exec's stream in one `Data` frame.
pub const MAX_DATA: usize = 64 * 1024;

/// Most bytes of one gRPC message on any of our surfaces: an AgentReady with its environment and secrets
/// is the largest.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// `clawker.session.v1`: control plane to clawkerd.
#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod session {
    include!("gen/clawker.session.v1.rs");
}

/// `clawker.agent.v1`: clawkerd to control plane.
#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod agent {
    include!("gen/clawker.agent.v1.rs");
}

/// `clawker.admin.v1`: operators to control plane.
#[allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod admin {
    include!("gen/clawker.admin.v1.rs");
}
