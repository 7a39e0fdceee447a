//! `[plugins]`: which plugins an operator may install.

use std::path::PathBuf;

use serde::Deserialize;

/// Plugins that operators install.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// The file of keys whose plugins are taken; see docs/plugins/trust.md.
    pub trust: PathBuf,
    /// Whether an operator may have a component of a development key of this machine taken.
    pub development: bool,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            trust: "/etc/clawker/plugin-trust.toml".into(),
            development: true,
        }
    }
}
