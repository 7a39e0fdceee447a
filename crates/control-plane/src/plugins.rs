//! The plugins of this host: found in libexec, accepted by digest, loaded once, into a worker process.
//!
//! Those that the configuration names are loaded at the beginning; a step that only some agent's plan names, when it is
//! first asked for.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clawker_model::{Action, Plan, PluginDigest, Step, When};
pub use clawker_plugin_host::worker::CodeKey;
use clawker_plugin_host::worker::{Class, Workers, WorkersConfig};
use clawker_plugin_host::{Kind, LoadError, Plugin, check_settings, secrets_named};

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
    #[error("there is no plugin `{name:.80}`: `{name:.80}.wasm` isn't in {}", folder.display())]
    Unknown { name: String, folder: PathBuf },
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
    pub host: Arc<Workers>,
    folder: PathBuf,
    /// By name.
    loaded: Mutex<BTreeMap<String, Arc<Plugin>>>,
    /// The plan of an agent that is created from now on.
    pub plan: Plan,
    pub policies: Vec<Policy>,
}

impl Plugins {
    /// Loads what `config` names from `libexec/plugins`; `key` vouches for the compiled code that is kept.
    pub fn load(config: &Config, libexec: &Path, key: CodeKey) -> Result<Self, PluginsError> {
        let accepted: HashSet<PluginDigest> = accepted::ACCEPTED
            .iter()
            .filter_map(|digest| PluginDigest::parse(digest).ok())
            .collect();
        let mut workers = WorkersConfig::of_this_program(accepted);
        workers.kept = Some((config.state_dir.join("plugins/compiled"), key));
        let mut plugins = Self {
            host: Arc::new(Workers::new(workers)?),
            folder: libexec.join("plugins"),
            loaded: Mutex::default(),
            plan: Plan::default(),
            policies: Vec::new(),
        };
        for step in &config.plan {
            let step = plugins.to_step("plan", step)?;
            plugins.plan.steps.push(step);
        }
        for policy in &config.policies {
            let plugin = plugins.get("policies", &policy.plugin, Kind::Policy)?;
            plugins.policies.push(to_policy(policy, plugin)?);
        }
        Ok(plugins)
    }

    /// All that are loaded, by name.
    pub fn loaded(&self) -> BTreeMap<String, Arc<Plugin>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Blocks while it compiles one that isn't loaded yet.
    fn get(&self, key: &'static str, name: &str, kind: Kind) -> Result<Arc<Plugin>, PluginsError> {
        let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded().get(name).cloned();
        let plugin = match known {
            Some(plugin) => plugin,
            None => {
                let unknown = || PluginsError::Unknown {
                    name: name.to_owned(),
                    folder: self.folder.clone(),
                };
                let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let path = self.folder.join(format!("{name}.wasm"));
                if !is_name || !path.is_file() {
                    return Err(unknown());
                }
                let bytes = std::fs::read(&path).map_err(|source| PluginsError::Read {
                    path: path.clone(),
                    source,
                })?;
                let plugin = self
                    .host
                    .load(&bytes, Class::BuiltIn)
                    .map_err(|source| PluginsError::Load { path, source })?;
                loaded().insert(name.to_owned(), plugin.clone());
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

    /// The plugin of a step of an agent's plan: this version's of that name, which an agent that was made by an earlier
    /// version gets too. Blocks while it compiles one that isn't loaded yet.
    pub fn step(&self, step: &Step) -> Result<Arc<Plugin>, PluginsError> {
        self.get("plan", &step.name, Kind::Step)
    }

    /// A step as it is kept with an agent: its settings checked, its digest pinned, the secrets that it may use named.
    /// Blocks while it compiles a plugin that isn't loaded yet.
    pub fn to_step(&self, key: &'static str, config: &StepConfig) -> Result<Step, PluginsError> {
        let plugin = self.get(key, &config.plugin, Kind::Step)?;
        let settings = settings(&config.settings, &plugin)?;
        Ok(Step {
            name: config.plugin.clone(),
            plugin: plugin.digest.clone(),
            secrets: secrets_named(&plugin, &settings),
            settings,
            when: config.when.unwrap_or_else(|| usually(&config.plugin)),
            on_failure: config.on_failure,
            timeout_s: config.timeout,
        })
    }
}

/// Settings as the plugin gets them, checked against its own schema.
fn settings(table: &serde_json::Map<String, serde_json::Value>, plugin: &Plugin) -> Result<String, PluginsError> {
    let wrong = |problem: String| PluginsError::Settings {
        name: plugin.name.clone(),
        problem,
    };
    let json = serde_json::to_string(table).map_err(|error| wrong(error.to_string()))?;
    check_settings(plugin, &json).map_err(|error| wrong(error.to_string()))?;
    Ok(json)
}

/// How often a step runs whose plan doesn't say: those that set up what stays run once.
fn usually(plugin: &str) -> When {
    match plugin {
        "config" | "git" | "git-credentials" | "ssh" | "post-init" => When::Once,
        _ => When::Start,
    }
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
