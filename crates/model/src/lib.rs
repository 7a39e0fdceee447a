//! The words of clawker: ids, events, verdicts, actions, plans and specs.
//!
//! Owns the vocabulary that every other crate shares. Does no I/O, holds no policy and depends on
//! `serde` and `thiserror` alone, so that anything may depend on it.

pub mod absence;
pub mod agent;
pub mod containment;
pub mod event;
pub mod exit;
pub mod id;
pub mod identity;
pub mod name;
pub mod plan;

pub use absence::{Absence, OnAbsent, OnOrphan, Orphan, Restart};
pub use agent::{AgentSpec, Egress, HealthSpec, Labels, MainSpec, Mount, Network, Resources, SecretKind, SecretRef};
pub use containment::{Action, Axis, Containment, EgressRule, IdentityState, NetworkState, ProcessState, Verdict};
pub use event::{Event, Row};
pub use id::{
    ContainerId, ExecId, IdError, MAX_EXEC_WORD, OPERATOR_EXEC, PluginDigest, RunId, Start, Thumbprint, is_exec_word,
};
pub use name::{AgentName, FullName, NameError, ProjectName};
pub use plan::{Effect, EffectNote, EffectResult, OnFailure, Piece, Plan, SecretForm, Step, When};
