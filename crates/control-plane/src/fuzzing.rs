//! The door of `clawker-fuzz`, and of nobody else.

use clawker_model::AgentSpec;

use crate::admin::container;

/// The definition in a container's label, as a control plane without a journal reads it.
pub fn definition(label: &str) -> Result<AgentSpec, String> {
    container::spec(label)
}

/// The label that create writes for a definition.
pub fn label(spec: &AgentSpec) -> Result<String, String> {
    container::label(spec).map_err(|fault| format!("{fault:?}"))
}
