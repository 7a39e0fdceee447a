//! Words of identity: how far one root of the host has replaced another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The phase of a rotation of the host's root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationPhase {
    /// One root, which signs.
    #[default]
    Standby,
    /// A second root is trusted, and doesn't sign yet.
    Introduced,
    /// The second root signs; the first is still trusted.
    Switched,
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // serde already knows the wire word; one spelling, one place.
        self.serialize(f)
    }
}
