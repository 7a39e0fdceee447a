//! The agents of this host: one task each, found by name.
//!
//! [`Agents`] owns the directory and nothing of an agent's state: that is its task's alone ([`task`]), which
//! publishes a snapshot. A connection of an agent is driven in [`drive`].

mod attest;
mod bundle;
mod ceiling;
mod dial;
mod directory;
mod drive;
mod effect;
mod elsewhere;
mod ended;
mod identity;
mod join;
mod keep;
pub mod lease;
mod listen;
mod plan;
mod prepare;
mod service;
pub mod session;
mod status;
mod task;
mod tls_conn;
mod upgrade;

use std::io;
use std::path::PathBuf;

pub use attest::open as open_init;
pub use dial::Turns;
pub use directory::Agents;
pub use ended::end_processes;
pub use join::start as start_container;
pub use listen::{IN_CONTAINER, RunDir};
pub use prepare::without_secrets;
pub use session::{ExecHandle, Session, SessionError};
pub use status::{AgentHandle, AgentStatus, ContainerState, ExitStatus, Hold, SessionState, Trust};
pub use upgrade::SessionHalf;

/// What went wrong around an agent. None of it ends the control plane.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("making the run folder {}: {source}", path.display())]
    RunDir { path: PathBuf, source: io::Error },
    #[error("listening in {}: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("`{name}` isn't in the store")]
    Unknown { name: String },
    #[error("preamble: {source}")]
    Preamble { source: io::Error },
    #[error("identity bundle: {0}")]
    Bundle(String),
    #[error("start {start} was given {max} bundles already; `clawker restart` begins a new start")]
    TooManyBundles { start: u64, max: u32 },
    #[error("TLS: {0}")]
    Tls(String),
    #[error("reading {}: {source}", path.display())]
    Clawkerd { path: PathBuf, source: io::Error },
    #[error("randomness: {0}")]
    Random(String),
    #[error("reading secret `{name}`: {source}")]
    Secret { name: String, source: io::Error },
    #[error("preparing: {0}")]
    Preparing(String),
    #[error(transparent)]
    Signer(#[from] crate::signer::SignerError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Store(#[from] clawker_store::Error),
    #[error(transparent)]
    Docker(#[from] clawker_docker::Error),
    #[error(transparent)]
    Contain(#[from] crate::containment::ContainError),
}
