//! The plugins of this host: found in libexec, accepted by digest, loaded once.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clawker_model::{Action, Plan, PluginDigest, Step};
use clawker_plugin_host::{Host, Kind, LoadError, Plugin, check_settings};

use crate::config::{Config, PolicyConfig, StepConfig};
use crate::containment::{FailMode, Mode, Policy};

mod accepted {
    include!(concat!(env!("OUT_DIR"), "/digests.rs"));
}

/// Why the plugins that the configuration names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    #[error(
        "finding {what}: none of {} exists; set CLAWKER_LIBEXEC to the folder that holds it",
        places(tried)
    )]
    NoLibexec { what: &'static str, tried: Vec<PathBuf> },
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("loading {}: {source}", path.display())]
    Load { path: PathBuf, source: LoadError },
    #[error("plugin host: {0}")]
    Host(#[from] clawker_plugin_host::Error),
    #[error("`{key}` names `{name}`, which is a {found} plugin")]
    Kind {
        key: &'static str,
        name: String,
        found: String,
    },
    #[error("settings of `{name}`: {problem}")]
    Settings { name: String, problem: String },
}

fn places(tried: &[PathBuf]) -> String {
    tried
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// What is loaded.
pub struct Plugins {
    pub host: Arc<Host>,
    /// By name.
    pub loaded: BTreeMap<String, Arc<Plugin>>,
    /// The plan of an agent that is created from now on.
    pub plan: Plan,
    pub policies: Vec<Policy>,
}

impl Plugins {
    /// Loads what `config` names from `libexec/plugins`.
    pub fn load(config: &Config, libexec: &Path) -> Result<Self, PluginsError> {
        let accepted: HashSet<PluginDigest> = accepted::ACCEPTED
            .iter()
            .filter_map(|digest| PluginDigest::parse(digest).ok())
            .collect();
        let mut plugins = Self {
            host: Arc::new(Host::new(accepted)?),
            loaded: BTreeMap::new(),
            plan: Plan::default(),
            policies: Vec::new(),
        };
        let folder = libexec.join("plugins");
        for step in &config.plan {
            let plugin = plugins.get(&folder, "plan", &step.plugin, Kind::Step)?;
            plugins.plan.steps.push(to_step(step, &plugin)?);
        }
        for policy in &config.policies {
            let plugin = plugins.get(&folder, "policies", &policy.plugin, Kind::Policy)?;
            plugins.policies.push(to_policy(policy, plugin)?);
        }
        Ok(plugins)
    }

    fn get(&mut self, folder: &Path, key: &'static str, name: &str, kind: Kind) -> Result<Arc<Plugin>, PluginsError> {
        let plugin = match self.loaded.get(name) {
            Some(plugin) => plugin.clone(),
            None => {
                let path = folder.join(format!("{name}.wasm"));
                let bytes = std::fs::read(&path).map_err(|source| PluginsError::Read {
                    path: path.clone(),
                    source,
                })?;
                let plugin = self
                    .host
                    .load(&bytes)
                    .map_err(|source| PluginsError::Load { path, source })?;
                self.loaded.insert(name.to_owned(), plugin.clone());
                plugin
            }
        };
        if plugin.kind != kind {
            let found = format!("{:?}", plugin.kind).to_lowercase();
            return Err(PluginsError::Kind {
                key,
                name: name.to_owned(),
                found,
            });
        }
        Ok(plugin)
    }

    /// The step plugin of this digest.
    pub fn step(&self, digest: &PluginDigest) -> Option<Arc<Plugin>> {
        self.loaded
            .values()
            .find(|plugin| plugin.digest == *digest && plugin.kind == Kind::Step)
            .cloned()
    }
}

/// Settings as the plugin gets them, checked against its own schema.
fn settings(table: &toml::Table, plugin: &Plugin) -> Result<String, PluginsError> {
    let wrong = |problem: String| PluginsError::Settings {
        name: plugin.name.clone(),
        problem,
    };
    let json = serde_json::to_string(table).map_err(|error| wrong(error.to_string()))?;
    check_settings(plugin, &json).map_err(|error| wrong(error.to_string()))?;
    Ok(json)
}

fn to_step(config: &StepConfig, plugin: &Plugin) -> Result<Step, PluginsError> {
    Ok(Step {
        name: config.plugin.clone(),
        plugin: plugin.digest.clone(),
        settings: settings(&config.settings, plugin)?,
        when: config.when,
        on_failure: config.on_failure,
        timeout_s: config.timeout,
    })
}

fn to_policy(config: &PolicyConfig, plugin: Arc<Plugin>) -> Result<Policy, PluginsError> {
    // The words were checked with the configuration.
    let fallback = match config.fallback.as_str() {
        "observe" => Action::Observe,
        "alert" => Action::Alert,
        "freeze" => Action::Freeze,
        "stop" => Action::Stop,
        "kill" => Action::Kill,
        _ => Action::LockNetwork,
    };
    let fail_mode = match config.fail_mode.as_str() {
        "open" => FailMode::Open,
        "last" => FailMode::Last,
        _ => FailMode::Closed,
    };
    let mode = if config.mode == "monitor" {
        Mode::Monitor
    } else {
        Mode::Enforce
    };
    Ok(Policy {
        name: config.plugin.clone(),
        settings: settings(&config.settings, &plugin)?,
        plugin,
        fallback,
        fail_mode,
        mode,
    })
}

/// The folder of clawkerd and the plugins: the configuration's, `CLAWKER_LIBEXEC`, or beside the program.
pub fn libexec(config: &Config) -> Result<PathBuf, PluginsError> {
    if let Some(folder) = &config.libexec {
        return Ok(folder.clone());
    }
    if let Some(folder) = std::env::var_os("CLAWKER_LIBEXEC") {
        return Ok(folder.into());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
        .unwrap_or_default();
    // An installation has bin/ beside libexec/; a build has target/<profile>/ beside target/clawker/.
    let tried = vec![beside.join("../libexec/clawker"), beside.join("../clawker/libexec")];
    match tried.iter().find(|path| path.join("agent/clawkerd").exists()) {
        Some(found) => found.canonicalize().map_err(|source| PluginsError::Read {
            path: found.clone(),
            source,
        }),
        None => Err(PluginsError::NoLibexec {
            what: "agent/clawkerd",
            tried,
        }),
    }
}
