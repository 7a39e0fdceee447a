//! What the host lets projects' files do.

use serde::{Deserialize, Serialize as _};

/// What a project's file (`clawker.yaml`) may do.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectConfig {
    /// Keys that it may not use.
    pub forbid: Vec<ProjectKey>,
    /// The steps that it may use; without it, all.
    pub plugins: Option<Vec<String>>,
}

/// A key of an agent in a project's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectKey {
    Command,
    User,
    Env,
    Secrets,
    Mounts,
    Publish,
    Network,
    Egress,
    Resources,
    OnOrphan,
    OnAbsent,
    Restart,
    Steps,
}

impl std::fmt::Display for ProjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
