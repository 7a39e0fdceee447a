//! Why something is so: words that stand in events.

use serde::{Deserialize, Serialize};

use super::Seen;
use crate::Axis;

/// Why a cycle of session attempts was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionFailure {
    ConnectTotalTimeout,
    ContainerNotRunning,
    FdCeiling,
}

/// Why an agent isn't trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UntrustedReason {
    ChainInvalid,
    CertMalformed,
    CertExpired,
    PossessionUnproven,
    EkuInvalid,
    CnMismatch,
    SanMismatch,
    LabelMismatch,
    PeerMismatch,
    ThumbprintMismatch,
    GenerationReplayed,
    RegisterFailed,
    InitBypassed,
    RegistryUnavailable,
}

impl UntrustedReason {
    /// Every reason, in the order of their definition.
    pub const ALL: [Self; 14] = [
        Self::ChainInvalid,
        Self::CertMalformed,
        Self::CertExpired,
        Self::PossessionUnproven,
        Self::EkuInvalid,
        Self::CnMismatch,
        Self::SanMismatch,
        Self::LabelMismatch,
        Self::PeerMismatch,
        Self::ThumbprintMismatch,
        Self::GenerationReplayed,
        Self::RegisterFailed,
        Self::InitBypassed,
        Self::RegistryUnavailable,
    ];
}

/// Why an init step, and with it the plan, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitFailure {
    ExitNonzero,
    Timeout,
    StartFailed,
    SessionLost,
    PluginFailed,
    PluginDenied,
}

macro_rules! snake_display {
    ($($type:ty),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // serde already knows the wire word; one spelling, one place.
                self.serialize(f)
            }
        }
    )*};
}
snake_display!(SessionFailure, UntrustedReason, InitFailure, Seen, Axis);
